"""How far from exact a log-prob is that was made in a given precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

# Rms error of one token's log-prob, nats: what rounding does in a forward pass, against one of the
# same weights in float64. Errors of tokens are nearly independent. Measured in bfloat16: .003 for
# world/medium, .01 to .03 for random models, .09 for SmolLM2-135M (in float16 a tenth of it, in
# float32 1e-6 to 1e-5).
NOISE = {
    torch.float64: 1e-14,
    torch.float32: 4e-6,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}


def scoring_noise(dtype: torch.dtype | str, tokens: Any) -> Any:
    """Rough rms error, in nats, of a log-prob summed over `tokens` response tokens (a number, or an
    array of them) that a model in `dtype` (torch's, or its name) computed; right within a factor
    of 5. Differences below it, between two log-probs, say nothing.
    """
    known = getattr(torch, dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    noise = NOISE[known] * np.sqrt(tokens)
    return float(noise) if np.ndim(noise) == 0 else noise
