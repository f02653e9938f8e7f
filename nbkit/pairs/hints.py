"""Which columns could be what: only for advice and warnings, never to decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

from nbkit.pairs.values import is_missing, listed

# Columns that belong to what a model is asked, in the order in which it reads them.
ASKED = ("messages", "conversations", "conversation", "context", "history", "instruction", "prompt",
         "question", "query", "post", "problem", "input")  # fmt: skip
SYSTEM = ("system", "system_prompt")
BESIDE = (*ASKED[3:], *SYSTEM)  # a conversation beside a prompt is a copy of the pair
PICTURES = ("images", "image", "videos", "video", "audio", "audios")
ANSWERS = [
    ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"),
    ("chosen_answer", "rejected_answer"), ("preferred", "rejected"), ("accepted", "rejected"),
    ("preferred", "dispreferred"), ("response_j", "response_k"), ("good", "bad"),
    ("better", "worse"), ("win", "lose"), ("positive", "negative"),
]  # fmt: skip
SCORE = re.compile(r"score|rating|reward|grade", re.IGNORECASE)


def found_among(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Those of the `known` names that are there, as they are written there."""
    written = {name.strip().lower(): name for name in names}
    return [written[name] for name in known if name in written]


def likely_columns(names: Iterable[str], given: Mapping) -> dict:
    """What `columns=` of `load_pairs` could say about these columns beside what the caller has
    given; {} if there is nothing to add."""
    names = list(names)
    found: dict[str, str | list[str]] = {}
    asked = found_among(names, ASKED)
    if asked and "prompt" not in names:
        found["prompt"] = asked[0] if len(asked) == 1 else asked
    if system := found_among(names, SYSTEM):
        found["system"] = system[0]
    if "chosen" not in names:
        answers = (found_among(names, pair) for pair in ANSWERS)
        found |= next(
            ({"chosen": pair[0], "rejected": pair[1]} for pair in answers if len(pair) == 2), {}
        )
    return {**given, **found} if found else {}


def unread(names: list[str], asked: list[str], given: Mapping) -> str | None:
    """A warning about columns that belong to the prompt and stand beside it. `asked`: the columns
    that the prompt was made of, none if nothing can be put to them."""
    if not names:
        return None
    columns: dict[str, str | list[str]] = {}
    at = ASKED.index("prompt")
    before, after = found_among(names, ASKED[:at]), found_among(names, ASKED[at + 1 :])
    if asked and before + after:
        columns["prompt"] = [*before, *asked, *after]
    if system := found_among(names, SYSTEM):
        columns["system"] = system[0]
    remedies = []
    if columns:
        remedies.append(f"columns={dict(given, **columns)!r} folds them in")
    left_out = {**given, **dict.fromkeys(names)}
    remedies.append(f"columns={left_out!r} leaves them out and ends this warning")
    pictures = " (nbkit reads text only)" if found_among(names, PICTURES) else ""
    return (
        f"Columns beside the prompt that no model will read{pictures}: {listed(names)}. In "
        f"load_pairs, {'; '.join(remedies)}."
    )


def says_more(values: list, prompts: list[str]) -> bool:
    """Whether a column says something, in any row, that the prompt does not."""
    for value, prompt in zip(values, prompts, strict=True):
        if isinstance(value, str):
            if value.strip() and value.strip() not in prompt:
                return True
        elif not is_missing(value) and not isinstance(value, Real) and len(value):
            return True
    return False


def twin(name: str) -> str:
    """The name of the column that says of one answer what `name` says of the other."""
    if "chosen" in name:
        return name.replace("chosen", "rejected", 1)
    return name.replace("rejected", "chosen", 1)


def score_columns(
    beside: list[str], values: Callable[[str], list], given: Mapping[str, Any]
) -> str | None:
    """A note on columns that look like scores of the two answers; `values(name)` gives a column."""
    twins = [
        (name, twin(name)) for name in beside
        if "chosen" in name and SCORE.search(name) and twin(name) in beside
    ]  # fmt: skip
    for chosen, rejected in twins:
        if all(_is_number(next(iter(values(name)), None)) for name in (chosen, rejected)):
            columns = {**given, "chosen_score": chosen, "rejected_score": rejected}
            return (
                f"Columns {chosen!r} and {rejected!r} look like scores of the two answers, and are "
                f"not used as such. In load_pairs, columns={columns!r} takes them as scores."
            )
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
