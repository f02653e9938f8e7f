"""Pairs of texts become token ids, exactly as TRL's trainers make them.

Prompt and response are tokenised *together* and split where the tokenised prompt and the tokenised
prompt + response diverge. Plain-text responses get the end-of-sequence token; conversational rows
go through the tokenizer's chat template. A test compares every id with TRL's own.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from nbkit.inputs import LeftOut


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
        digest = hashlib.sha256()
        for ids in (self.prompt, self.chosen, self.rejected):
            digest.update(np.array([len(ids), *ids], dtype="<i8").tobytes())
        return int.from_bytes(digest.digest()[:6], "big")


def tokenize_pairs(tokenizer: PreTrainedTokenizerBase, pairs, *, batch_size=1000):
    """Tokenise `pairs` as TRL's DPO trainer does.

    Args:
        tokenizer: a transformers tokenizer. Plain-text pairs need its `eos_token`, conversational
            pairs its chat template.
        pairs: Dataset with `id, prompt, chosen, rejected` (see `nbkit.load_pairs`). Columns `tools`
            and `chat_template_kwargs` of conversations go to the chat template, as in TRL.
        batch_size: rows given to the tokenizer at a time.

    Returns:
        list of `TokenPair`, in the order of `pairs`.

    Raises:
        ValueError: the tokenizer cannot serve these rows (no eos token, no chat template).
    """
    if not len(pairs):
        return []
    conversational = not isinstance(pairs[0]["prompt"], str)
    to_ids = _chat_ids(tokenizer) if conversational else _text_ids(tokenizer)
    out, cut = [], []
    for start in range(0, len(pairs), batch_size):
        rows = pairs[start : start + batch_size]
        prompts, chosen, rejected = to_ids(rows)
        for id_, p, c, r in zip(rows["id"], prompts, chosen, rejected, strict=True):
            boundary = min(common_prefix(p, c), common_prefix(p, r))
            if boundary < len(p):
                cut.append(id_)
            out.append(TokenPair(str(id_), p[:boundary], c[boundary:], r[boundary:]))
    if cut:
        warnings.warn(
            f"{len(cut)} of {len(pairs)} pairs (first: {cut[0]!r}): the tokenised prompt is not a "
            "prefix of the tokenised prompt + response, so the response starts where they diverge "
            "and the model reads a shorter prompt than at generation. End prompts on a token "
            "boundary (a newline), or use a chat template that renders both the same way.",
            stacklevel=2,
        )
    return out


def tokenize_prompts(tokenizer: PreTrainedTokenizerBase, prompts) -> list[list[int]]:
    """Token ids of each prompt as a model reads it before it answers (with the generation prompt
    of the chat template where prompts are message lists)."""
    prompts = list(prompts)
    if not prompts:
        return []
    if isinstance(prompts[0], str):
        return tokenizer(prompts)["input_ids"]
    _require_chat_template(tokenizer)
    return _apply_template(tokenizer, prompts, add_generation_prompt=True)


def token_pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """The text of each token id, for display: what a reader sees, one string a token."""
    return [tokenizer.decode([i]) for i in ids]


def plain_text(said) -> str:
    """What a prompt or a response says: itself, or the contents of its messages, line by line."""
    return said if isinstance(said, str) else "\n".join(turn["content"] for turn in said)


def answer_to(prompt, text: str):
    """A response in the form of its prompt: text, or one message of the assistant."""
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]


def common_prefix(a: list[int], b: list[int]) -> int:
    """Number of leading tokens that `a` and `b` share."""
    if b[: len(a)] == a:
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def check_vocabulary(token_pairs: list[TokenPair], rows: int) -> None:
    """Raise ValueError if a token id has no row in an embedding matrix of `rows` rows."""
    top = max((max(p.prompt + p.chosen + p.rejected, default=0) for p in token_pairs), default=0)
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


def _text_ids(tokenizer):
    eos = tokenizer.eos_token
    if eos is None:
        raise ValueError(
            f"The tokenizer ({type(tokenizer).__name__}) has no eos_token, and plain-text "
            "responses are scored with it at their end. Set `policy.tokenizer.eos_token` to the "
            "token that ends an answer."
        )

    def to_ids(rows):
        prompts = list(rows["prompt"])

        def full(responses):
            ended = (r if r.endswith(eos) else r + eos for r in responses)
            return tokenizer([p + r for p, r in zip(prompts, ended, strict=True)])["input_ids"]

        return tokenizer(prompts)["input_ids"], full(rows["chosen"]), full(rows["rejected"])

    return to_ids


def _chat_ids(tokenizer):
    _require_chat_template(tokenizer)

    def to_ids(rows):
        settings = _template_settings(rows)

        def full(responses):
            whole = [p + r for p, r in zip(rows["prompt"], responses, strict=True)]
            return _apply_template(tokenizer, whole, settings)

        asked = _apply_template(tokenizer, rows["prompt"], settings, add_generation_prompt=True)
        return asked, full(rows["chosen"]), full(rows["rejected"])

    return to_ids


def _template_settings(rows) -> list[dict] | None:
    """For each row what it tells the chat template, as TRL reads it; None if no row says a word."""
    if "tools" not in rows and "chat_template_kwargs" not in rows:
        return None
    nothing = [None] * len(rows["prompt"])
    settings = []
    for tools, more in zip(rows.get("tools", nothing), rows.get("chat_template_kwargs", nothing)):
        tools = json.loads(tools) if isinstance(tools, str) else tools
        settings.append({"tools": tools, **(more or {})})
    return settings


def _apply_template(tokenizer, conversations, settings=None, **kwargs) -> list[list[int]]:
    def ids(what, **more):
        return tokenizer.apply_chat_template(
            what, tokenize=True, return_dict=True, **kwargs, **more
        )["input_ids"]

    if settings is None:
        return ids(list(conversations))
    return [ids(c, **more) for c, more in zip(conversations, settings, strict=True)]


def _require_chat_template(tokenizer):
    if not tokenizer.chat_template:
        raise ValueError(
            f"These pairs are conversations (lists of messages), but the tokenizer "
            f"({type(tokenizer).__name__}) has no chat template. Use an instruction-tuned model, "
            "set `policy.tokenizer.chat_template`, or load the pairs as plain text."
        )
