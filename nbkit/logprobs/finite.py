"""Log-probs that are no numbers: refused, with the likely cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair


def check_finite(
    policy: Policy,
    token_pairs: list[TokenPair],
    scored: Any,
    positions: Sequence[int] | np.ndarray | None = None,
) -> None:
    """Raise ValueError, naming the first pair, if a forward pass gave NaN or infinity;
    `positions` maps its pair numbers to `token_pairs`."""
    bad = ~scored.logps.isfinite()
    if bad.any():
        first = int(scored.owners[bad].min()) // 2
        pair = token_pairs[first if positions is None else positions[first]]
        raise not_finite(policy, f"pair {pair.id!r}")


def not_finite(policy: Policy, where: str) -> ValueError:
    """The error of a policy that gives NaN or infinity for `where`, with the likely cause."""
    parameters = policy.causal_lm.named_parameters()
    broken = next((name for name, p in parameters if not p.isfinite().all()), None)
    if broken:
        cause = f"Its weights hold NaN or infinity ({broken}): load them again, or train anew."
    elif policy.dtype == torch.float16:
        cause = "Numbers above 65,504 overflow in float16: load it in bfloat16 or float32."
    else:
        cause = f"Its weights are finite, so the numbers overflow on the way, in {policy.dtype}."
    return ValueError(f"Policy {policy.name!r} gives NaN or infinity for {where}. {cause}")
