"""Every row as one pair with its id, or as a problem: (row, column, wording, what came)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from nbkit.pairs import checks, layouts, settings
from nbkit.pairs.messages import said_by
from nbkit.pairs.sources import TEXT_COLUMNS
from nbkit.pairs.tables import Table
from nbkit.pairs.values import is_missing


def content_id(prompt: Any, chosen: Any, rejected: Any) -> str:
    """The id of a pair without one: 16 hex digits of SHA-256 over its canonical JSON."""
    canonical = json.dumps(
        [prompt, chosen, rejected], ensure_ascii=True, sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]


def make_pairs(
    core: dict,
    layout: layouts.Layout,
    table: Table,
    scores: dict,
    chat: bool,
    passed_over: set[int],
) -> tuple[dict[str, list], list]:
    """The columns of all pairs, None where a row is bad; and the problems.

    Args:
        core: the columns that pairs are made of.
        layout: of the rows.
        table: with the columns beside them.
        scores: the two columns of scores, or nothing.
        chat: plain text will be wrapped into messages.
        passed_over: rows of which something else is known to be wrong.
    """
    pairs, problems = convert(core, layout, passed_over)
    if layout.gives_messages or "system" in core or chat:
        told, found = template_settings(core, table)
        pairs |= told
        problems += found
    pairs |= scores
    pairs["id"] = pair_ids(core, pairs)
    problems += id_problems(pairs)
    if scores:
        problems += score_problems(pairs, passed_over)
    bad = passed_over | {row for row, *_ in problems}
    return pairs, problems + duplicates(pairs, passed_over=bad)


def convert(core: dict, layout: layouts.Layout, passed_over: set[int]) -> tuple[dict, list]:
    """The columns prompt, chosen, rejected, None where a row is bad; and the problems."""
    nothing = [None] * len(core["chosen"])
    raw = [core.get(name, nothing) for name in TEXT_COLUMNS]
    systems = core.get("system", nothing)
    pairs = {name: list(nothing) for name in TEXT_COLUMNS}
    problems: list[tuple] = []
    for row, values in enumerate(zip(*raw, strict=True)):
        if row in passed_over:
            continue
        values = dict(zip(TEXT_COLUMNS, values, strict=True))
        found = [
            (row, column, problem, values[column])
            for column, expected in layout.kinds.items()
            if (problem := checks.value_problem(values[column], expected))
        ]
        if not found:
            pair = layouts.to_pair(layout, **values)
            problem = checks.pair_problem(layout, values["prompt"], *pair)
            if not problem and "system" in core:
                pair, problem = _with_system(systems[row], *pair)
            if problem:
                found = [(row, *problem)]
            else:
                for column, value in zip(TEXT_COLUMNS, pair, strict=True):
                    pairs[column][row] = value
        problems += found
    return pairs, problems


def _with_system(
    system: Any, prompt: Any, chosen: Any, rejected: Any
) -> tuple[tuple, checks.Problem | None]:
    """The pair as messages that begin with the system's, and the problem with it, or None."""
    if isinstance(prompt, str):
        prompt, chosen, rejected = as_chat(prompt, chosen, rejected)
    if is_missing(system) or system == "":
        return (prompt, chosen, rejected), None
    if problem := checks.value_problem(system, "text"):
        return (), ("system", problem, system)
    if prompt[0]["role"] == "system":
        if prompt[0]["content"] != system:
            return (), ("system", "the prompt begins with another system message", system)
        return (prompt, chosen, rejected), None
    return (said_by("system", system) + prompt, chosen, rejected), None


def as_chat(prompt: str, chosen: str, rejected: str) -> tuple[list[dict], list[dict], list[dict]]:
    return said_by("user", prompt), said_by("assistant", chosen), said_by("assistant", rejected)


def template_settings(core: dict, table: Table) -> tuple[dict[str, list], list]:
    """The columns that speak to the chat template, as text; and the problems."""
    columns: dict[str, list] = {}
    problems: list[tuple] = []
    for name in settings.SETTINGS:
        if name not in core and name not in table.names:
            continue
        columns[name] = []
        for row, value in enumerate(core.get(name) or table.take(name)):
            try:
                columns[name].append(settings.to_text(name, value, table.filled))
            except ValueError as error:
                columns[name].append(None)
                problems.append((row, name, str(error), value))
    return columns, problems


def pair_ids(core: dict[str, list], pairs: dict[str, list]) -> list[str | None]:
    """The ids as text, made from the content where missing; None for a bad row without one."""
    given = core.get("id", [None] * len(core["chosen"]))
    contents = zip(*(pairs[name] for name in TEXT_COLUMNS), strict=True)
    ids: list[str | None] = []
    for value, content in zip(given, contents, strict=True):
        if not is_missing(value) and str(value).strip():
            ids.append(_id_text(value))
        else:
            ids.append(content_id(*content) if content[0] is not None else None)
    return ids


def _id_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # pandas makes 7 a 7.0 in a column where another id is missing
    return str(value)


def id_problems(pairs: dict[str, list]) -> list[tuple]:
    problems = ((row, checks.text_problem(id_), id_) for row, id_ in enumerate(pairs["id"]) if id_)
    return [(row, "id", problem, id_) for row, problem, id_ in problems if problem]


def score_problems(pairs: dict[str, list], passed_over: set[int]) -> list[tuple]:
    scores = zip(pairs["chosen_score"], pairs["rejected_score"], strict=True)
    return [
        (row, *problem)
        for row, (chosen, rejected) in enumerate(scores)
        if row not in passed_over and (problem := checks.score_problem(chosen, rejected))
    ]


def duplicates(pairs: dict[str, list], passed_over: set[int]) -> list[tuple]:
    """Problems with ids that occur twice.

    Raises:
        BadPairs: the ids are those of the prompts.
    """
    ids = pairs["id"]
    rows = [row for row in range(len(ids)) if row not in passed_over]
    contents = list(zip(*(pairs[name] for name in pairs if name != "id"), strict=True))
    found = checks.duplicate_problems(rows, ids, contents)
    found = [(row, "id", problem, ids[row]) for row, problem in found]
    texts = list(zip(*(pairs[name] for name in TEXT_COLUMNS), strict=True))
    if found and (id_ := checks.id_of_prompts(rows, ids, texts)) is not None:
        raise checks.BadPairs(
            f"Column 'id' names prompts, not pairs: {checks.shorten(id_)} and others like it are "
            f"given to several pairs of one prompt. What to do: leave it out, load_pairs(..., "
            "columns={'id': None}), and each pair gets an id of its own.",
            checks.make_report([(row, ids[row], *problem) for row, *problem in found]),
        )
    return found
