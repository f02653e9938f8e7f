"""JSON text into rows: one array of objects, or one object a line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nbkit.pairs.values import listed, shorten

EXPECTED = "Expected one JSON object a line, or one JSON array of objects"


def read(path: Path, text: str) -> list[dict]:
    if not text.strip():
        raise ValueError(f"{path} is empty. {EXPECTED}.")
    if text.lstrip().startswith("["):
        return _array(path, text)
    lines = re.split(r"\r\n|\r|\n", text)
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    rows = []
    for number, line in filled:
        try:
            rows.append(_parsed(line))
        except ValueError as error:
            if (whole := _one_object(text)) is not None:
                return [_as_row(path, whole)]
            raise ValueError(
                f"{path}, line {number}: not valid JSON ({_cause(error)}). {EXPECTED}; the line "
                f"begins {shorten(line)}."
            ) from None
        if not isinstance(rows[-1], dict):
            raise ValueError(
                f"{path}, line {number}: {_kind(rows[-1])}. {EXPECTED}; the line begins "
                f"{shorten(line)}."
            )
    return [_as_row(path, rows[0])] if len(rows) == 1 else rows


def _array(path: Path, text: str) -> list[dict]:
    try:
        rows = _parsed(text)
    except ValueError as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"{path}{line}: not valid JSON ({_cause(error)}). {EXPECTED}.") from None
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}: row {number} (from 0) of its array is {_kind(row)} ({shorten(row)}). "
                f"{EXPECTED}."
            )
    return rows


def _as_row(path: Path, row: dict) -> dict:
    """The only object of a file, unless it is a whole table in another dress."""
    for key, value in row.items():
        rows = value if isinstance(value, list) and value else [None]
        if "chosen" not in row and all(isinstance(v, dict) and "chosen" in v for v in rows):
            raise ValueError(
                f"{path} is one object whose {key!r} holds the rows. Pass them: "
                f"load_pairs(json.load(open(path))[{key!r}])."
            )
    values = list(row.values())
    by_label = all(isinstance(v, dict) and v and all(map(str.isdigit, v)) for v in values)
    by_place = all(isinstance(v, list) and not any(isinstance(i, dict) for i in v) for v in values)
    if values and (by_label or by_place):
        raise ValueError(
            f"{path} holds columns ({listed(row)}), not rows. Pass load_pairs(pd.read_json(path))."
        )
    return row


def _one_object(text: str) -> dict | None:
    try:
        whole = _parsed(text)
    except ValueError:
        return None
    return whole if isinstance(whole, dict) else None


def _parsed(text: str) -> Any:
    """ValueError, with the cause alone, whatever is wrong with the text."""
    try:
        return json.loads(text, object_pairs_hook=_each_key_once)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _cause(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return str(error)


def _each_key_once(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shorten(twice, 30)} occurs twice in one object")
    return found


def _kind(value: object) -> str:
    names = {list: "an array", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
