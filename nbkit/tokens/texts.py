"""Tokens and messages as a reader sees them."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase


def token_pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """The text of each token id, for display: what a reader sees, one string a token."""
    return [str(tokenizer.decode([i])) for i in ids]


def plain_text(said: str | list[dict]) -> str:
    """What a prompt or a response says: itself, or the contents of its messages, line by line."""
    return said if isinstance(said, str) else "\n".join(turn["content"] for turn in said)


def answer_to(prompt: Any, text: str) -> str | list[dict]:
    """A response in the form of its prompt: text, or one message of the assistant."""
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
