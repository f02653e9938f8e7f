"""Derivatives along one direction by finite differences: the log-probs a small step away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from nbkit.derivatives.parameters import Direction, choose
from nbkit.logprobs.rows import LOGPS
from nbkit.logprobs.table import logprob_table
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair


def finite_difference(
    policy: Policy,
    token_pairs: list[TokenPair],
    direction: Direction,
    h: float,
    at_theta: torch.Tensor | None = None,
    *,
    path: str = "auto",
    budget: int | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs at theta, and their derivatives along a direction v.

    Central: (log p at theta + h v - log p at theta - h v) / 2h, two scoring passes, an error of
    order h^2; the log-probs are the mean of both. Forward, where the log-probs at theta are given:
    one pass, an error of order h.

    Args:
        direction: v, by parameter name.
        h: the step.
        at_theta: [n, 2] log-probs at theta; None: central.
        path, budget, cache, progress: see `nbkit.response_logprobs`.

    Returns:
        Two float64 [n, 2]: nats, summed over tokens; nats per unit of v.
    """
    scoring: dict[str, Any] = dict(path=path, budget=budget, cache=cache, progress=progress)
    moved = {name: p for name, p in choose(policy, "all").items() if name in direction}
    with policy.ready(), shifted(moved, direction, h):
        ahead = logp_sums(policy, token_pairs, **scoring)
    if at_theta is not None:
        return at_theta, (ahead - at_theta) / h
    with policy.ready(), shifted(moved, direction, -h):
        behind = logp_sums(policy, token_pairs, **scoring)
    return (ahead + behind) / 2, (ahead - behind) / (2 * h)


def logp_sums(
    policy: Policy,
    token_pairs: list[TokenPair],
    *,
    path: str = "auto",
    budget: int | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> torch.Tensor:
    """Summed log-probs of both responses: float64 [n, 2], nats. Arguments as of
    `nbkit.response_logprobs`."""
    table = logprob_table(
        policy, token_pairs, path=path, budget=budget, cache=cache, progress=progress
    )
    return torch.from_numpy(table[LOGPS].to_numpy().copy())


@contextlib.contextmanager
def shifted(moved: Direction, direction: Direction, h: float) -> Iterator[None]:
    """Inside the block the parameters are theta + h v; afterwards theta, to the last bit."""
    before = {name: p.detach().clone() for name, p in moved.items()}
    try:
        with torch.no_grad():
            for name, p in moved.items():
                p.add_(direction[name].to(p.dtype), alpha=h)
        yield
    finally:
        with torch.no_grad():
            for name, p in moved.items():
                p.copy_(before[name])
