"""The forward passes: one log-prob for every response token of every pair.

Two paths give the same numbers. The packed path (packing.py) computes no padding and each
prompt once; it needs a model whose attention can be exchanged and whose head is a plain matrix.
Every other model takes the padded path: sequences of similar length, right-padded, through the
model's own forward.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from nbkit.logprobs.attending import attention, packed_states
from nbkit.logprobs.head import HALF, target_logps, why_not_plain
from nbkit.logprobs.packing import pack_row, plan_rows
from nbkit.logprobs.precision import scoring_noise
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair

# Tokens per forward pass: enough to keep the matrix units busy, small enough for the caches.
BUDGET = {"cpu": 1024, "cuda": 32768, "mps": 8192}
BUDGET_BACKWARD = {"cpu": 1024, "cuda": 8192, "mps": 4096}
ACTIVATIONS = 8e9  # bytes that may wait for a backward pass


@dataclass(frozen=True)
class Scored:
    """What one forward pass yields.

    Attributes:
        pairs: positions, in the list of pairs, of the pairs in this pass (a pair is never split).
        owners: long [S] on the CPU, 2 * position + (0 chosen, 1 rejected) of each scored token.
        logps: float32 [S] on the CPU, nats, in the order of the response tokens.
    """

    pairs: list[int]
    owners: torch.Tensor
    logps: torch.Tensor


# Pairs, owners [S], states [S, d] and targets [S] of one pass.
States = tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]


def score_tokens(
    policy: Policy, token_pairs: list[TokenPair], *, path: str = "auto", budget: int | None = None
) -> Iterator[Scored]:
    """Log-probs of all response tokens, forward pass by forward pass.

    Args:
        policy: the policy that scores.
        token_pairs: from `tokenize_pairs`.
        path: "packed", "padded", or "auto": packed where `why_not_packed` has no objection.
        budget: most tokens in a forward pass; default by device.

    Raises:
        ValueError: path="packed" for a model that cannot take it, with the reason.
    """
    yield from _ready(policy, forward_passes(policy, token_pairs, path=path, budget=budget))


def forward_passes(
    policy: Policy, token_pairs: list[TokenPair], *, path: str = "auto", budget: int | None = None
) -> Iterator[Scored]:
    """The passes of `score_tokens`, as they are: to be run inside `policy.ready()`, where with
    gradients enabled the log-probs can be differentiated."""
    passes = _choose(policy, token_pairs, path, _packed, _padded)
    return passes(policy, token_pairs, budget or default_budget(policy))


def _choose(
    policy: Policy,
    token_pairs: list[TokenPair],
    path: str,
    packed: Callable[..., Iterator],
    padded: Callable[..., Iterator],
) -> Callable[..., Iterator]:
    """`packed`, or `padded` where that is asked for or the packed path cannot serve."""
    if path not in ("auto", "packed", "padded"):
        raise ValueError(f"path={path!r}; expected 'auto', 'packed' or 'padded'.")
    longest = max((p.longest for p in token_pairs), default=0)
    reason = why_not_packed(policy, longest) if path != "padded" and token_pairs else None
    if path == "packed" and reason:
        raise ValueError(f"The packed path cannot serve {policy.name!r}: {reason}.")
    return padded if path == "padded" or reason else packed


def default_budget(policy: Policy, backward: bool = False) -> int:
    """Tokens for one forward pass on the policy's device, with or without a backward pass. Before
    a backward pass inputs and outputs of all layers wait: fewer tokens for a large model."""
    budgets = BUDGET_BACKWARD if backward else BUDGET
    budget = budgets.get(policy.device.type, budgets["cuda"])
    if backward:
        matrices = [p for p in policy.causal_lm.parameters() if p.dim() == 2]
        each = sum(sum(p.shape) * p.element_size() for p in matrices)
        budget = min(budget, max(1024, int(ACTIVATIONS / each)))
    return budget


def why_not_packed(policy: Policy, longest: int) -> str | None:
    """None when the packed path serves this policy on sequences of up to `longest` tokens; else
    the reason why not. The last word has a measurement: a tiny pair through both paths."""
    model = policy.causal_lm
    config = model.config.get_text_config()
    with policy.ready():
        if reason := why_not_plain(model):
            return reason
    if not getattr(model, "_supports_attention_backend", False):
        return "its attention cannot be exchanged"
    if getattr(config, "attn_logit_softcapping", None):
        return "its attention caps the scores (attn_logit_softcapping)"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds - {"full_attention", "sliding_attention"}:
        return f"it has layers of kind {', '.join(sorted(kinds - {'full_attention'}))}"
    window = getattr(config, "sliding_window", None)
    sliding = "sliding_attention" in kinds or not getattr(config, "layer_types", None)
    if window and sliding and longest > window:
        return f"its sliding window ({window}) is shorter than the longest sequence ({longest})"
    return _measured_difference(policy)


def response_states(
    policy: Policy, token_pairs: list[TokenPair], *, path: str = "auto", budget: int | None = None
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """The last hidden states that predict the response tokens, forward pass by forward pass:
    (pairs, owners [S], states [S, d] on the policy's device); pairs and owners as in `Scored`."""
    passes = _choose(policy, token_pairs, path, _packed_states, _padded_states)
    steps = passes(policy, token_pairs, budget or default_budget(policy))
    for indices, owners, states, _ in _ready(policy, steps):
        yield indices, owners, states


def _ready(policy: Policy, steps: Iterator) -> Iterator:
    """The passes, each with the policy ready and no gradients. Left before each `yield`: between
    two passes the caller may use the model, or switch the adapter that this policy shares with
    another."""
    while True:
        with policy.ready(), torch.inference_mode():
            found = next(steps, None)
        if found is None:
            return
        yield found


def _packed(policy: Policy, token_pairs: list[TokenPair], budget: int) -> Iterator[Scored]:
    weight = policy.causal_lm.get_output_embeddings().weight
    for indices, owners, states, targets in _packed_states(policy, token_pairs, budget):
        yield Scored(indices, owners, target_logps(states, weight, targets).cpu())


def _packed_states(policy: Policy, token_pairs: list[TokenPair], budget: int) -> Iterator[States]:
    for indices in plan_rows(token_pairs, budget):
        row = pack_row(token_pairs, indices, device=policy.device)
        yield indices, row.owners.cpu(), packed_states(policy.causal_lm, row), row.targets


def _padded(
    policy: Policy, token_pairs: list[TokenPair], budget: int, plain: bool | None = None
) -> Iterator[Scored]:
    """`plain`: whether the logits are hidden @ weight.T; found out if not given."""
    model = policy.causal_lm
    if plain is None:
        plain = why_not_plain(model) is None
    if plain:
        weight = model.get_output_embeddings().weight
        for indices, owners, states, targets in _padded_states(policy, token_pairs, budget):
            yield Scored(indices, owners, target_logps(states, weight, targets).cpu())
        return
    # the model's own head makes [tokens, vocabulary] logits: keep that matrix small
    budget = min(budget, 2**26 // model.config.get_text_config().vocab_size)
    for indices, owners, inputs, scored, targets in _padded_inputs(policy, token_pairs, budget):
        logits = model(**inputs).logits[:, :-1][scored].float()
        logps = logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)
        yield Scored(indices, owners, logps.cpu())


def _padded_states(policy: Policy, token_pairs: list[TokenPair], budget: int) -> Iterator[States]:
    for indices, owners, inputs, scored, targets in _padded_inputs(policy, token_pairs, budget):
        yield indices, owners, _last_states(policy.causal_lm, inputs)[:, :-1][scored], targets


def _last_states(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """[B, T, d]: what the head reads."""
    if model.base_model is model:  # Llama 4's text model
        return model(**inputs, output_hidden_states=True).hidden_states[-1]
    return model.base_model(**inputs).last_hidden_state


def _padded_inputs(policy: Policy, token_pairs: list[TokenPair], budget: int) -> Iterator[tuple]:
    for indices in _plan_padded(token_pairs, budget):
        ids, real, scored = _pad(token_pairs, indices, policy.pad_id)
        owners = torch.tensor([2 * i + side for i in indices for side in (0, 1)])
        owners = owners.repeat_interleave(scored.sum(1))
        ids, real, scored = (x.to(policy.device) for x in (ids, real, scored))
        inputs = dict(input_ids=ids, attention_mask=real, use_cache=False)
        yield indices, owners, inputs, scored, ids[:, 1:][scored]


def _plan_padded(token_pairs: list[TokenPair], budget: int) -> list[list[int]]:
    """Groups of pairs of similar length, at most `budget` padded tokens each."""
    groups: list[list[int]] = []
    for i in sorted(range(len(token_pairs)), key=lambda i: token_pairs[i].longest):
        width = token_pairs[i].longest
        if groups and 2 * width * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _pad(
    token_pairs: list[TokenPair], indices: list[int], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids and attention mask [2 B, T], and which label positions are scored
    [2 B, T - 1] (label position t holds token t + 1)."""
    width = max(token_pairs[i].longest for i in indices)
    ids = torch.full((2 * len(indices), width), pad_id)
    real = torch.zeros_like(ids)
    scored = torch.zeros(2 * len(indices), width - 1, dtype=torch.bool)
    for n, i in enumerate(indices):
        pair = token_pairs[i]
        for row, response in ((2 * n, pair.chosen), (2 * n + 1, pair.rejected)):
            sequence = pair.prompt + response
            ids[row, : len(sequence)] = torch.tensor(sequence)
            real[row, : len(sequence)] = 1
            scored[row, max(len(pair.prompt) - 1, 0) : len(sequence) - 1] = True
    return ids, real, scored


def _measured_difference(policy: Policy) -> str | None:
    """Score one tiny pair of random tokens, packed and padded."""
    draw = random.Random(0)
    prompt, chosen, rejected = (
        [draw.randrange(policy.vocabulary) for _ in range(n)] for n in (5, 4, 6)
    )
    probe = [TokenPair("probe", prompt, chosen, rejected)]
    with policy.ready(), torch.inference_mode():
        try:
            packed = next(_packed(policy, probe, 64)).logps
        except (RuntimeError, TypeError) as error:
            return f"its packed pass fails ({error})"
        padded = next(_padded(policy, probe, 64, plain=True)).logps
        difference = (packed - padded).abs().max().item()
        if difference <= max(1e-3, 10 * scoring_noise(policy.dtype, 1)):
            return None
        if policy.dtype in HALF and difference <= 3 * _rounding(policy, probe, padded):
            return None
    return f"on a probe its two paths differ by {difference:.2g} nats a token"


def _rounding(policy: Policy, probe: list[TokenPair], padded: torch.Tensor) -> float:
    """By how many nats a token another kernel of the model's own attention changes the log-probs:
    .3, of SmolLM2 in bfloat16."""
    try:
        with attention(policy.causal_lm, "eager"):
            eager = next(_padded(policy, probe, 64, plain=True)).logps
    except (RuntimeError, TypeError):
        return 0.0
    return (eager - padded).abs().max().item()
