"""Messages in one form, whatever names their keys and roles came under."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "observation": "tool",
}
TEXT_PARTS = (None, "text", "input_text", "output_text")


def as_messages(value: Any) -> Any:
    """`value` as a list of messages with `role` and `content`, if it can be read as that: a list
    of messages or one message, with the keys `role, content` or `from, value` (ShareGPT), roles
    under other names, content as a list of text parts. Anything else comes back as it is."""
    turns = [value] if isinstance(value, Mapping) else value
    if not isinstance(turns, list) or not turns or not all(map(_is_message, turns)):
        return value
    return [_message(turn) for turn in turns]


def said_by(role: str, text: str) -> list[dict]:
    """A text as a list of one message."""
    return [{"role": role, "content": text}]


def _is_message(turn: object) -> bool:
    return isinstance(turn, Mapping) and ("role" in turn or "from" in turn)


def _message(turn: Mapping) -> dict:
    turn = dict(turn)
    if turn.get("role") is None and "from" in turn:
        turn["role"] = turn.pop("from")
        turn["content"] = turn.pop("value", None)
    role = turn.get("role")
    if isinstance(role, str):
        turn["role"] = ROLES.get(role.lower(), role)
    turn["content"] = _joined(turn.get("content"))
    return turn


def _joined(content: Any) -> Any:
    """Text parts put together, as chat templates do, if all parts are text."""
    if not isinstance(content, list) or not content:
        return content
    texts = [text for part in content if (text := _text_of(part)) is not None]
    return "".join(texts) if len(texts) == len(content) else content


def _text_of(part: object) -> str | None:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") in TEXT_PARTS:
        return part["text"] if isinstance(part.get("text"), str) else None
    return None
