"""The gradient of a function of the log-probs of all pairs, summed over the pairs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tqdm.auto import tqdm

from nbkit.derivatives.parameters import Direction, choose, differentiable
from nbkit.logprobs.engine import default_budget, forward_passes
from nbkit.logprobs.finite import check_finite
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair


def gradient(
    policy: Policy,
    token_pairs: list[TokenPair],
    slopes: Callable[[list[int], torch.Tensor], torch.Tensor],
    *,
    parameters: str | Callable[[str], bool] | None = None,
    path: str = "auto",
    budget: int | None = None,
    progress: bool = False,
) -> Direction:
    """sum_i sum_side slope[i, side] grad log-prob[i, side]: with the slopes of a loss in the
    log-probs, the gradient of the loss summed over the pairs. One forward and backward pass.

    Args:
        policy: where.
        token_pairs: pairs that can be scored, from `tokenize_pairs`.
        slopes: `slopes(positions, logps)` -> [n, 2]: the derivatives of what is differentiated with
            respect to the chosen and rejected log-probs [n, 2] (float64 nats, summed over tokens)
            of the pairs at `positions`.
        parameters: see `nbkit.derivatives.parameters.choose`.
        path, budget: see `nbkit.response_logprobs`.
        progress: show a progress bar for work of more than a second.

    Returns:
        The gradient by parameter name, in the parameters' precision (summed in float32); zero where
        a parameter plays no part.
    """
    chosen = choose(policy, parameters)
    budget = budget or default_budget(policy, backward=True)
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in chosen.items()}
    with (
        differentiable(policy, chosen),
        tqdm(total=len(token_pairs), unit=" pairs", desc=f"gradient, {policy.name}", delay=1,
             disable=not progress) as bar,
    ):  # fmt: skip
        for scored in forward_passes(policy, token_pairs, path=path, budget=budget):
            check_finite(policy, token_pairs, scored)
            place = {pair: n for n, pair in enumerate(scored.pairs)}
            owners = torch.tensor([2 * place[o // 2] + o % 2 for o in scored.owners.tolist()])
            logps = torch.zeros(2 * len(place), dtype=torch.float64)
            logps = logps.index_add(0, owners, scored.logps.double()).view(-1, 2)
            wanted = (slopes(scored.pairs, logps.detach()) * logps).sum()
            parts = torch.autograd.grad(wanted, list(chosen.values()), allow_unused=True)
            for whole, part in zip(total.values(), parts, strict=True):
                if part is not None:
                    whole += part
            del parts, part  # or they would still be there when the next ones are made
            bar.update(len(scored.pairs))
    return {name: total.pop(name).to(p.dtype) for name, p in chosen.items()}  # one by one
