"""Derivatives along one direction by finite differences: the log-probs a small step away."""

from __future__ import annotations

import contextlib

import torch
from tqdm.auto import tqdm

from nbkit.derivatives.parameters import Direction, choose
from nbkit.engine import score_tokens
from nbkit.models import Policy
from nbkit.tokens import TokenPair


def finite_difference(
    policy: Policy,
    token_pairs: list[TokenPair],
    direction: Direction,
    h: float,
    at_theta: torch.Tensor | None = None,
    **scoring,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs at theta, and their derivatives along a direction v.

    Central: (log p at theta + h v - log p at theta - h v) / 2h, two scoring passes, an error of
    order h^2; the log-probs are the mean of both. Forward, where the log-probs at theta are given:
    one pass, an error of order h.

    Args:
        direction: v, by parameter name.
        h: the step.
        at_theta: [n, 2] log-probs at theta; None: central.
        **scoring: for `logp_sums`.

    Returns:
        Two float64 [n, 2]: nats, summed over tokens; nats per unit of v.
    """
    moved = {name: p for name, p in choose(policy, "all").items() if name in direction}
    with shifted(moved, direction, h):
        ahead = logp_sums(policy, token_pairs, **scoring)
    if at_theta is not None:
        return at_theta, (ahead - at_theta) / h
    with shifted(moved, direction, -h):
        behind = logp_sums(policy, token_pairs, **scoring)
    return (ahead + behind) / 2, (ahead - behind) / (2 * h)


def logp_sums(
    policy: Policy, token_pairs: list[TokenPair], *, path: str = "auto",
    budget: int | None = None, progress: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Summed log-probs of both responses: float64 [n, 2], nats. As `nbkit.response_logprobs`, for
    pairs that are token ids already."""
    sums = torch.zeros(2 * len(token_pairs), dtype=torch.float64)
    with tqdm(
        total=len(token_pairs), unit=" pairs", desc=f"log-probs, {policy.name}", delay=1,
        disable=not progress,
    ) as bar:  # fmt: skip
        for scored in score_tokens(policy, token_pairs, path=path, budget=budget):
            sums.index_add_(0, scored.owners, scored.logps.double())
            bar.update(len(scored.pairs))
    return sums.view(-1, 2)


@contextlib.contextmanager
def shifted(moved: Direction, direction: Direction, h: float):
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
