"""Which columns could be what: only for advice and warnings, never to decide."""

from __future__ import annotations

import re
from collections.abc import Iterable
from numbers import Real

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


def likely_columns(names: Iterable[str]) -> dict:
    """What `columns=` of `load_pairs` could say about these columns; {} if nothing is likely."""
    names = list(names)
    found = {}
    asked = [name for name in ASKED if name in names]
    if asked and asked != ["prompt"]:
        found["prompt"] = asked[0] if len(asked) == 1 else asked
    if system := [name for name in SYSTEM if name in names]:
        found["system"] = system[0]
    if "chosen" not in names:
        for chosen, rejected in ANSWERS:
            if chosen in names and rejected in names:
                found |= {"chosen": chosen, "rejected": rejected}
                break
    return found


def unread(names: list[str], has_prompt: bool) -> str | None:
    """A warning about columns that belong to the prompt and stand beside it."""
    if not names:
        return None
    columns = likely_columns([*names, "prompt"] if has_prompt else names)
    if not has_prompt:
        columns.pop("prompt", None)
    remedies = [f"columns={columns!r} folds them in"] if columns else []
    remedies.append(f"columns={dict.fromkeys(names)!r} leaves them out and ends this warning")
    pictures = " (nbkit reads text only)" if set(names) & set(PICTURES) else ""
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


def score_columns(beside, values) -> str | None:
    """A note on columns that look like scores of the two answers; `values(name)` gives a column."""
    twins = [
        (name, twin(name)) for name in beside
        if "chosen" in name and SCORE.search(name) and twin(name) in beside
    ]  # fmt: skip
    for chosen, rejected in twins:
        if all(_is_number(next(iter(values(name)), None)) for name in (chosen, rejected)):
            columns = {"chosen_score": chosen, "rejected_score": rejected}
            return (
                f"Columns {chosen!r} and {rejected!r} look like scores of the two answers, and are "
                f"not used as such. In load_pairs, columns={columns!r} takes them as scores."
            )
    return None


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
