"""Responses sampled from a policy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig, LogitsProcessor

from nbkit.inputs import Prompts, as_limit, as_number, as_policy, as_prompts
from nbkit.logprobs.finite import not_finite
from nbkit.models.policy import Policy
from nbkit.tokens.ids import check_vocabulary, tokenize_prompts

# Tokens (prompt + response, padding included) that are generated at once.
BUDGET = {"cpu": 16384, "cuda": 131072, "mps": 32768}
# What everything that samples does unless it is asked for something else.
TEMPERATURE, TOP_P = 0.7, 1.0
LONGEST = 128  # tokens of a response


def sample(
    policy: Policy,
    prompts: Prompts,
    *,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    max_new_tokens: int | None = None,
    seed: int = 0,
    budget: int | None = None,
    progress: bool = True,
) -> list[str]:
    """One response to each prompt, by transformers' `generate`.

    Of the model's own generation settings only its stop tokens count (`stop_tokens`): what is not
    asked for here, such as a repetition penalty, is off. Everything in nbkit that samples has
    these defaults.

    Args:
        policy: the policy that answers.
        prompts: strings, message lists, a Dataset or DataFrame with a `prompt` column, or one
            prompt. Strings are read as they are, message lists through the chat template; columns
            beside them, such as `tools`, are not read.
        temperature: 0 is greedy decoding; 1 is the policy as it is.
        top_p: nucleus sampling, above 0 and up to 1 (off).
        max_new_tokens: longest response; it ends earlier at a stop token. Default 128, or half of
            the model's length if that is less.
        seed: the same seed, prompts and budget give the same responses; torch's global random
            state is left as it was.
        budget: most tokens generated at once; default by device.
        progress: show a progress bar for work of more than a second.

    Returns:
        list of response texts without special tokens, in the order of `prompts`.

    Raises:
        ValueError: before anything is generated: no prompts, or one that with `max_new_tokens` is
            longer than the model, has no tokens, or does not fit its vocabulary or template; later:
            a model that computes no numbers (NaN).

    Example:
        >>> import nbkit as nb
        >>> policy, prompts = nb.load_policy("world/small"), nb.world.prompts(4)
        >>> len(nb.sample(policy, prompts, max_new_tokens=4, progress=False))
        4
    """
    policy, prompts = as_policy(policy), as_prompts(prompts)
    how: dict[str, Any] = dict(do_sample=True, top_k=0)
    how["top_p"] = as_number(top_p, "top_p", above=0, most=1)
    how["temperature"] = as_number(temperature, "temperature", least=0)
    if temperature == 0:
        how = dict(do_sample=False)
    room = (policy.max_length or 2 * LONGEST) // 2
    max_new_tokens = as_limit(max_new_tokens, "max_new_tokens") or min(LONGEST, room)
    budget = as_limit(budget, "budget") or BUDGET.get(policy.device.type, BUDGET["cuda"])
    token_ids = tokenize_prompts(policy.tokenizer, prompts)
    _check(policy, token_ids, max_new_tokens)
    stop = stop_tokens(policy)
    how |= dict(max_new_tokens=max_new_tokens, eos_token_id=stop or None)
    how["pad_token_id"] = policy.pad_id
    responses = [""] * len(prompts)
    with (
        policy.ready(),  # first: threads that wait here must not share what comes next
        torch.random.fork_rng(),
        torch.inference_mode(),
        _settings(policy, how),
        tqdm(total=len(prompts), unit=" prompts", desc=f"sampling, {policy.name}", delay=1,
             disable=not progress) as bar,
    ):  # fmt: skip
        torch.manual_seed(seed)
        for batch in _batches(token_ids, max_new_tokens, budget):
            said = _generate(policy, [token_ids[i] for i in batch], batch)
            said = [_until(row, stop) for row in said]
            texts = policy.tokenizer.batch_decode(said, skip_special_tokens=True)
            for i, text in zip(batch, texts, strict=True):
                responses[i] = text
            bar.update(len(batch))
    return responses


def stop_tokens(policy: Policy) -> list[int]:
    """Ids of the tokens that end an answer: the tokenizer's eos token and those that the model's
    generation config names (chat models have one for the end of a turn)."""
    own = policy.causal_lm.generation_config.eos_token_id
    own = [own] if isinstance(own, int) else own or []
    eos = policy.tokenizer.eos_token_id
    return sorted({*own, *([eos] if eos is not None else [])})


def _check(policy: Policy, token_ids: list[list[int]], max_new_tokens: int) -> None:
    """Refuse prompts that the policy cannot read or answer."""
    check_vocabulary(token_ids, policy.vocabulary)
    most = policy.max_length
    for number, ids in enumerate(token_ids):
        if not ids:
            raise ValueError(f"Prompt {number} has no tokens, and a model needs one to go on from.")
        if most is not None and len(ids) + max_new_tokens > most:
            raise ValueError(
                f"Prompt {number} has {len(ids)} tokens; with max_new_tokens={max_new_tokens} that "
                f"is more than the {most} the model was made for. Ask for fewer new tokens, or "
                "leave out prompts that long."
            )


@contextlib.contextmanager
def _settings(policy: Policy, settings: dict[str, Any]) -> Iterator[None]:
    """Inside the block these are the model's whole generation config: `generate` takes from it
    whatever its arguments leave open."""
    model = policy.causal_lm
    own = model.generation_config
    model.generation_config = GenerationConfig(**settings)
    try:
        yield
    finally:
        model.generation_config = own


class _Finite(LogitsProcessor):
    """Refuses logits that are no numbers, of which torch would sample none or anything."""

    def __init__(self, policy: Policy, batch: list[int]) -> None:
        self.policy, self.batch = policy, batch

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        bad = ~scores.amax(-1).isfinite()
        if bad.any():
            raise not_finite(self.policy, f"prompt {self.batch[int(bad.nonzero()[0])]}")
        return scores


def _batches(token_ids: list[list[int]], max_new_tokens: int, budget: int) -> Iterator[list[int]]:
    """Numbers of the prompts that are answered at once, the longest first."""
    order = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]), reverse=True)
    while order:
        size = max(1, budget // (len(token_ids[order[0]]) + max_new_tokens))
        yield order[:size]
        order = order[size:]


def _generate(policy: Policy, prompts: list[list[int]], numbers: list[int]) -> list[list[int]]:
    """Token ids generated to each prompt of a batch, with all that follows its end."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), policy.pad_id)
    real = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # left padding: all responses begin together
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        real[row, width - len(prompt) :] = 1
    out = policy.causal_lm.generate(
        input_ids=ids.to(policy.device), attention_mask=real.to(policy.device),
        logits_processor=[_Finite(policy, numbers)],
    )  # fmt: skip
    return out[:, width:].tolist()


def _until(ids: list[int], stop: list[int]) -> list[int]:
    return ids[: next((i for i, id_ in enumerate(ids) if id_ in stop), None)]
