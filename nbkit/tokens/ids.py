"""Pairs of texts become token ids, exactly as TRL's trainers make them.

Prompt and response are tokenised *together* and split where the tokenised prompt and the tokenised
prompt + response diverge. Plain-text responses get the end-of-sequence token; conversational rows
go through the tokenizer's chat template (templates.py). A test compares every id with TRL's own;
doubts.py says what may surprise about them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from nbkit.left_out import LeftOut
from nbkit.tokens.doubts import CUT, Doubts
from nbkit.tokens.templates import render, row_settings


@dataclass(frozen=True)
class TokenPair:
    """Token ids of one pair. Both responses follow the same prompt: `prompt + chosen` is what the
    model reads, `chosen` is what is scored."""

    id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def longest(self) -> int:
        """Tokens in the longer of the two sequences `prompt + response`."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def first_scored(self) -> int:
        """Position in both responses of the first token that is scored: after an empty prompt the
        second one, since nothing predicts the first."""
        return 0 if self.prompt else 1

    @property
    def tokens(self) -> int:
        """Tokens of the packed pair: the prompt once, then both responses."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def tokens_hash(self) -> int:
        """48 bits that tell these token ids from others (the pair's id is not part of it); exact
        as a float64, too."""
        return int.from_bytes(self.digest[:6], "big")

    @property
    def digest(self) -> bytes:
        """SHA-256 of the token ids."""
        digest = hashlib.sha256()
        for ids in (self.prompt, self.chosen, self.rejected):
            digest.update(np.array([len(ids), *ids], dtype="<i8").tobytes())
        return digest.digest()


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Dataset, *, batch_size: int = 1000
) -> list[TokenPair]:
    """Tokenise `pairs` as TRL's DPO trainer does.

    Args:
        tokenizer: a transformers tokenizer. Plain-text pairs need its `eos_token`, conversational
            pairs its chat template.
        pairs: Dataset with `id, prompt, chosen, rejected` (see `nbkit.load_pairs`). Columns `tools`
            and `chat_template_kwargs` of conversations go to the chat template, as in TRL.
        batch_size: rows given to the tokenizer at a time.

    Returns:
        list of `TokenPair`, in the order of `pairs`: `id`, and the token ids `prompt, chosen,
        rejected`.

    Raises:
        ValueError: the tokenizer cannot serve these rows (no eos token, no chat template), or its
            chat template refuses one.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(1)
        >>> pair = nb.tokenize_pairs(policy.tokenizer, pairs)[0]
        >>> policy.tokenizer.convert_ids_to_tokens(pair.prompt + pair.chosen)
        ['<bos>', 'coin', 'of', 'ray', '?', 'ibis', '<eos>']
    """
    if not len(pairs):
        return []
    plain = isinstance(pairs[0]["prompt"], str)
    doubts, to_ids = Doubts(tokenizer, "pairs", plain), _text_ids if plain else _chat_ids
    out = []
    for start in range(0, len(pairs), batch_size):
        rows = pairs[start : start + batch_size]
        prompts, chosen, rejected = to_ids(tokenizer, rows, doubts)
        for id_, p, c, r in zip(rows["id"], prompts, chosen, rejected, strict=True):
            boundary = min(common_prefix(p, c), common_prefix(p, r))
            if boundary < len(p) - doubts.ends_texts:  # without the EOS that a tokenizer adds
                doubts.add(CUT, id_)
            out.append(TokenPair(str(id_), p[:boundary], c[boundary:], r[boundary:]))
    doubts.warn(len(pairs))
    return out


def tokenize_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Iterable[Any]) -> list[list[int]]:
    """Token ids of each prompt as a model reads it before it answers (with the generation prompt
    of the chat template where prompts are message lists)."""
    prompts = list(prompts)
    if not prompts:
        return []
    plain = isinstance(prompts[0], str)
    doubts = Doubts(tokenizer, "prompts", plain)
    if plain:
        ids = tokenizer(prompts)["input_ids"]
        for number, prompt in enumerate(prompts):
            doubts.plain(number, prompt, [], ids[number])
    else:
        names = [f"Prompt {number}" for number in range(len(prompts))]
        texts = render(tokenizer, prompts, names, generation=True)
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        for number, prompt in enumerate(prompts):
            doubts.chat(number, prompt, texts[number], ids[number])
    doubts.warn(len(prompts))
    return ids


def common_prefix(a: list[int], b: list[int]) -> int:
    """Number of leading tokens that `a` and `b` share."""
    if b[: len(a)] == a:
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def check_vocabulary(token_pairs: list[TokenPair] | list[list[int]], rows: int) -> None:
    """Raise ValueError if a token id of pairs, or of sequences of ids, has no row in an embedding
    matrix of `rows` rows."""
    sequences = (
        p.prompt + p.chosen + p.rejected if isinstance(p, TokenPair) else p for p in token_pairs
    )
    top = max((max(ids, default=0) for ids in sequences), default=0)
    if top >= rows:
        raise ValueError(
            f"The tokenizer made token id {top}, but the model's embedding has {rows} rows: "
            "tokenizer and model do not belong together, or the model needs "
            "`model.resize_token_embeddings(len(tokenizer))`."
        )


def why_unscored(pair: TokenPair, max_length: int | None) -> str | None:
    """Why this pair cannot be scored, or None: prompt + longer response exceeds `max_length`
    tokens (nbkit never truncates), a response has no token of its own that a token precedes, or
    both responses are the same tokens."""
    if max_length is not None and pair.longest > max_length:
        return f"{pair.longest} tokens, more than {max_length}"
    if not pair.chosen or not pair.rejected:
        return "a response has no token of its own"
    if not pair.prompt and min(len(pair.chosen), len(pair.rejected)) == 1:
        return "a response of one token after an empty prompt: nothing predicts it"
    if pair.chosen == pair.rejected:
        return "chosen and rejected are the same tokens"
    return None


def split_unscored(
    token_pairs: list[TokenPair], max_length: int | None
) -> tuple[list[TokenPair], LeftOut]:
    """The pairs that can be scored, and for each of the others (by id) why not."""
    reasons = {p.id: why_unscored(p, max_length) for p in token_pairs}
    left_out = LeftOut((id_, reason) for id_, reason in reasons.items() if reason)
    return [p for p in token_pairs if p.id not in left_out], left_out


def _text_ids(
    tokenizer: PreTrainedTokenizerBase, rows: dict[str, list], doubts: Doubts
) -> list[list[list[int]]]:
    eos = tokenizer.eos_token
    if eos is None:
        raise ValueError(
            f"The tokenizer ({type(tokenizer).__name__}) has no eos_token, and plain-text "
            "responses are scored with it at their end. Set `policy.tokenizer.eos_token` to the "
            "token that ends an answer."
        )
    prompts = list(rows["prompt"])
    ids = [tokenizer(prompts)["input_ids"]]
    for responses in (rows["chosen"], rows["rejected"]):
        ended = (r if r.endswith(eos) else r + eos for r in responses)
        ids.append(tokenizer([p + r for p, r in zip(prompts, ended, strict=True)])["input_ids"])
    for id_, prompt, *responses, read in zip(
        rows["id"], prompts, rows["chosen"], rows["rejected"], ids[1]
    ):
        doubts.plain(id_, prompt, responses, read)
    return ids


def _chat_ids(
    tokenizer: PreTrainedTokenizerBase, rows: dict[str, list], doubts: Doubts
) -> list[list[list[int]]]:
    names = [f"Pair {id_!r}" for id_ in rows["id"]]
    settings = row_settings(rows, names)

    def to_ids(texts: list[str]) -> Any:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    ids = [to_ids(render(tokenizer, rows["prompt"], names, settings, generation=True))]
    for responses in (rows["chosen"], rows["rejected"]):
        whole = [p + r for p, r in zip(rows["prompt"], responses, strict=True)]
        texts = render(tokenizer, whole, names, settings)
        ids.append(to_ids(texts))
        for id_, conversation, text, read in zip(rows["id"], whole, texts, ids[-1]):
            doubts.chat(id_, conversation, text, read)
    return ids
