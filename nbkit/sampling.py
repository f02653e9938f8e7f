"""Responses sampled from a policy."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from nbkit.models import Policy
from nbkit.tokens import tokenize_prompts

# Tokens (prompt + response, padding included) that are generated at once.
BUDGET = {"cpu": 16384, "cuda": 131072, "mps": 32768}


def sample(
    policy: Policy,
    prompts,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 128,
    seed: int = 0,
    budget: int | None = None,
    progress: bool = True,
) -> list[str]:
    """One response to each prompt, by transformers' `generate`.

    Args:
        policy: the policy that answers.
        prompts: strings, message lists, or a Dataset or DataFrame with a `prompt` column.
        temperature: 0 is greedy decoding.
        top_p: nucleus sampling.
        max_new_tokens: longest response; it ends earlier at the end-of-sequence token.
        seed: the same seed, prompts and budget give the same responses; torch's global random
            state is left as it was.
        budget: most tokens generated at once; default by device.

    Returns:
        list of response texts without special tokens, in the order of `prompts`.
    """
    if temperature < 0:
        raise ValueError(f"temperature={temperature}; expected 0 (greedy) or more.")
    tokenizer, prompts = policy.tokenizer, prompt_list(prompts)
    token_ids = tokenize_prompts(tokenizer, prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(token_ids[i]), reverse=True)
    budget = budget or BUDGET.get(policy.device.type, BUDGET["cuda"])
    how = dict(do_sample=True, temperature=float(temperature), top_p=float(top_p), top_k=0)
    if temperature == 0:
        how = dict(do_sample=False)
    responses = [""] * len(prompts)
    with (
        torch.random.fork_rng(),
        torch.inference_mode(),
        policy.ready(),
        tqdm(total=len(prompts), unit=" prompts", desc=f"sampling, {policy.name}", delay=1,
             disable=not progress) as bar,
    ):  # fmt: skip
        torch.manual_seed(seed)
        while order:
            longest = len(token_ids[order[0]]) + max_new_tokens
            batch, order = _split(order, max(1, budget // longest))
            width = max(len(token_ids[i]) for i in batch)
            ids = torch.full((len(batch), width), tokenizer.pad_token_id)
            real = torch.zeros_like(ids)
            for row, i in enumerate(batch):  # left padding: all responses begin together
                ids[row, width - len(token_ids[i]) :] = torch.tensor(token_ids[i])
                real[row, width - len(token_ids[i]) :] = 1
            out = policy.model.generate(
                input_ids=ids.to(policy.device), attention_mask=real.to(policy.device),
                max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id, **how,
            )  # fmt: skip
            texts = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
            for i, text in zip(batch, texts, strict=True):
                responses[i] = text
            bar.update(len(batch))
    return responses


def prompt_list(prompts) -> list:
    """The prompts as a list, from a list or from the `prompt` column of a Dataset or DataFrame."""
    columns = getattr(prompts, "column_names", None)
    columns = columns if columns is not None else getattr(prompts, "columns", None)
    if columns is not None:
        if "prompt" not in columns:
            raise ValueError(f"Expected a `prompt` column, got columns {list(columns)}.")
        prompts = prompts["prompt"]
    prompts = list(prompts)
    if not prompts:
        raise ValueError("There are no prompts to answer: got an empty list.")
    return prompts


def _split(items, n):
    return items[:n], items[n:]
