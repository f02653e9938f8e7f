"""What a row tells the chat template: its `tools` and its `chat_template_kwargs`, as JSON text.

As objects they could not stand in one column: arrow gives every row the keys of all other rows,
with None in them, and a template prints those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbkit.pairs.checks import text_problem
from nbkit.pairs.values import is_missing, shorten

SETTINGS = {"tools": list, "chat_template_kwargs": dict}


def to_text(name: str, value: Any, filled: bool) -> str | None:
    """A setting as JSON text; text stays as it is. `filled`: the value may have been in
    arrow's hands, so that a None in it says nothing.

    Raises:
        ValueError: not JSON, or of another kind; the message is a short wording of the problem.
    """
    if is_missing(value) or value == "":
        return None
    if isinstance(value, str):
        text = value
    else:
        try:
            text = json.dumps(without_none(value) if filled else value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            raise ValueError("cannot be written as JSON") from None
    if problem := text_problem(text):
        raise ValueError(problem)
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not valid JSON") from None
    if read is not None and not isinstance(read, SETTINGS[name]):
        kind = "a list" if SETTINGS[name] is list else "an object"
        raise ValueError(f"not {kind}, but {shorten(read, 30)}")
    return None if read is None else text


def without_none(value: Any) -> Any:
    """The value without the None that arrow fills objects up with, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return value
