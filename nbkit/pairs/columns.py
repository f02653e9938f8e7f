"""The columns of a pair, under nbkit's names or under those that the caller says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbkit.pairs.hints import likely_columns, twin
from nbkit.pairs.layouts import UnknownLayout
from nbkit.pairs.messages import as_messages, said_by
from nbkit.pairs.tables import Table
from nbkit.pairs.values import is_missing, listed

SCORE_NAMES = {"score_chosen": "chosen_score", "score_rejected": "rejected_score"}
SCORES = ("chosen_score", "rejected_score")
PARTS = ("id", "prompt", "system", "chosen", "rejected", *SCORES)
OF_ITSELF = (*PARTS[:2], *PARTS[3:], *SCORE_NAMES)  # taken without being told to
CONVERSATIONS = ("messages", "conversations", "conversation")


def take(table: Table, columns: Mapping, made: Mapping) -> tuple[dict[str, list], list[str]]:
    """The columns of the pairs by part, and the names of those that the prompt is made of.

    `columns` is what the caller says: part -> column, or columns in order for the prompt; any
    column -> None leaves it out. `made`: parts that a recipe has made.
    """
    columns = _checked(columns, table.names, made)
    for name, came in columns.items():
        if came is None:
            table.take(name)
    named = {part: came for part, came in columns.items() if came is not None}
    taken = {name: table.take(name) for name in dict.fromkeys(sum(named.values(), []))}
    core = dict(made)
    for part, came in named.items():
        core[part] = taken[came[0]]
        if len(came) > 1:
            core[part] = _joined(zip(*(taken[name] for name in came), strict=True))
    for part in OF_ITSELF:
        if part not in core and (name := _under(part, table.names)):
            core[part] = table.take(name)
            named[part] = [name]
    if "prompt" not in core and _single_messages(core.get("chosen", [])):
        asked = [name for name in CONVERSATIONS if name in table.names]
        if len(asked) == 1:
            core["prompt"] = table.take(asked[0])
            named["prompt"] = asked
    return core, named.get("prompt", [])


def scores(core: dict[str, list], table: Table, given: Mapping) -> dict[str, list]:
    """The two columns of scores under nbkit's names, or nothing. `given`: the caller's columns."""
    found = {}
    for came, values in core.items():
        name = SCORE_NAMES.get(came, came)
        if name not in SCORES:
            continue
        if name in found:
            raise UnknownLayout(
                f"Two columns for {name}: {name} and {came}. Drop or rename one of them."
            )
        found[name] = [_number(value) for value in values] if table.is_text else values
    if len(found) == 1:
        came = next(name for name in core if SCORE_NAMES.get(name, name) in found)
        names = [*core, *table.names]
        advice = {**(likely_columns(names, given) or given), came: None}
        if came in given:
            del advice[came]
        raise UnknownLayout(
            f"Column {came!r} came without its partner {twin(came)!r}; expected both scores or "
            f"neither. What to do: leave it out, load_pairs(..., columns={advice!r}), or name the "
            f"partner in columns=. Came: {listed(names)}."
        )
    return found


def _number(cell: str) -> float | str | None:
    try:
        return float(cell)
    except ValueError:
        return cell or None


def _joined(rows: Iterable[Any]) -> list:
    """Prompts of several parts, in order: text below text; where a part is a conversation (of
    messages, or of [asked, answer]) in any row, all become turns. Missing parts are passed over."""
    rows = [[part for part in row if not is_missing(part) and part not in ("", [])] for row in rows]
    if any(isinstance(part, list) for row in rows for part in row):
        return [_one_conversation(row) or None for row in rows]
    if all(isinstance(part, str) for row in rows for part in row):
        return ["\n".join(row) or None for row in rows]
    return [row[0] if len(row) == 1 else row or None for row in rows]


def _one_conversation(parts: list) -> list[dict]:
    """The turns of all parts; what a user says in two turns one after the other becomes one."""
    turns: list[dict] = []
    for turn in (turn for part in parts for turn in _turns(part)):
        both = [turns[-1], turn] if turns else []
        if both and all(said["role"] == "user" and isinstance(said["content"], str)
                        for said in both):  # fmt: skip
            turns[-1:] = said_by("user", "\n".join(said["content"] for said in both))
        else:
            turns.append(turn)
    return turns


def _turns(part: Any) -> list[dict]:
    if isinstance(part, list) and all(isinstance(said, list) and len(said) == 2 for said in part):
        return [turn for asked, answer in part
                for turn in said_by("user", asked) + said_by("assistant", answer)]  # fmt: skip
    part = as_messages(part)
    return part if isinstance(part, list) and isinstance(part[0], dict) else said_by("user", part)


def _checked(columns: Mapping, names: list[str], made: Mapping) -> dict:
    """`columns` with lists of names, or a ValueError."""
    if not isinstance(columns, Mapping):
        raise TypeError(
            f"columns={columns!r:.60}; expected a dict such as {{'prompt': 'question'}}."
        )
    checked = {}
    for part, came in columns.items():
        if came is not None and part not in PARTS:
            raise ValueError(
                f"columns={{{part!r}: {came!r:.40}}}: there is no such part of a pair. Expected "
                f"{', '.join(PARTS)}; or None, to leave a column out."
            )
        several = [came] if isinstance(came, str) else list(came or [])
        if len(several) > 1 and part != "prompt":
            raise ValueError(f"columns: {part!r} is made of one column; only a prompt is of more.")
        unknown = [name for name in several or [part] if name not in names]
        if unknown:
            raise ValueError(f"columns: no column {unknown[0]!r}; came: {listed(names)}.")
        checked[part] = several if came is not None else None
    used = sum((came or [] for came in checked.values()), [])
    for part, came in checked.items():
        if came is None and part in used:
            raise ValueError(f"columns: {part!r} is used and left out at once.")
        if came and (part in made or part in names and part not in used):
            raise ValueError(
                f"columns={{{part!r}: {came!r}}}, but there is a {part!r} already. Drop or rename "
                "one of them first."
            )
    return checked


def _under(part: str, names: list[str]) -> str | None:
    """The column of this name, or the only one that differs from it in capitals and spaces."""
    if part in names:
        return part
    alike = [name for name in names if name.strip().lower() == part]
    return alike[0] if len(alike) == 1 else None


def _single_messages(answers: list) -> bool:
    given = [answer for answer in answers if not is_missing(answer)]
    return bool(given) and all(isinstance(answer, Mapping) for answer in given)
