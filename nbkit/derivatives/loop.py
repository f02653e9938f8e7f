"""Derivatives along one direction pair by pair: a gradient for every response, and its dot product
with the direction. Slow; what the other ways are checked against."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from nbkit.derivatives.parameters import Direction, choose, differentiable
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair


def pair_by_pair(
    policy: Policy,
    token_pairs: list[TokenPair],
    direction: Direction,
    *,
    progress: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs (float64 [n, 2], nats), and their derivatives along a direction ([n, 2], nats per
    unit of it).

    Every response by itself, through the model's own forward pass and head, and backward: nothing
    of nbkit's packing, head or numerics is in it.
    """
    chosen = {name: p for name, p in choose(policy, "all").items() if name in direction}
    logps, slopes = torch.zeros(2, len(token_pairs), 2, dtype=torch.float64)
    steps = tqdm(
        token_pairs, unit=" pairs", desc=f"pair by pair, {policy.name}", delay=1,
        disable=not progress,
    )  # fmt: skip
    with differentiable(policy, chosen):
        for n, pair in enumerate(steps):
            for side, response in enumerate((pair.chosen, pair.rejected)):
                logp = response_logp(policy, pair.prompt, response)
                parts = torch.autograd.grad(logp, list(chosen.values()), allow_unused=True)
                logps[n, side] = logp.item()
                slopes[n, side] = sum(
                    (part.float() * direction[name].float()).sum().item()
                    for name, part in zip(chosen, parts, strict=True)
                    if part is not None
                )
                del parts  # or they would still be there when the next ones are made
    return logps, slopes


def response_logp(policy: Policy, prompt: list[int], response: list[int]) -> torch.Tensor:
    """log p(response | prompt), summed over tokens, from the whole log-softmax."""
    ids = torch.tensor([prompt + response], device=policy.device)
    logits = policy.causal_lm(input_ids=ids, use_cache=False).logits[0, :-1].float()
    logps = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return logps[max(len(prompt) - 1, 0) :].sum()


def of_all_lengths(token_pairs: list[TokenPair], count: int) -> list[int]:
    """Positions of `count` pairs of different lengths: the middle of each of as many shares."""
    by_length = sorted(range(len(token_pairs)), key=lambda i: token_pairs[i].tokens)
    count = min(count, len(by_length))
    return [by_length[int((n + 0.5) * len(by_length) / count)] for n in range(count)]
