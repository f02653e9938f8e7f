"""The doors: what every public function takes, in the forms that people have it in.

Each function returns its argument in the one form that the rest of nbkit works with, or refuses in
one sentence what cannot be meant, before anything expensive begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyarrow
from datasets import Dataset, DatasetDict

from nbkit.left_out import some
from nbkit.models.policy import Policy
from nbkit.pair_ids import check_texts, more_than_once
from nbkit.pairs.load import load_pairs
from nbkit.pairs.sources import TEXT_COLUMNS, Pairs
from nbkit.pairs.tables import as_plain

# A prompt is a text or a conversation; prompts are a list of them, a table with a `prompt` column,
# or one prompt.
Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]
Prompts: TypeAlias = Dataset | pd.DataFrame | Iterable[Prompt] | Prompt


def as_policy(policy: object, what: str = "policy") -> Policy:
    """A Policy, from one or from `(model, tokenizer)`.

    Raises:
        TypeError: anything else, with what to do.
    """
    if isinstance(policy, Policy):
        return policy
    if isinstance(policy, tuple) and len(policy) == 2 and hasattr(policy[0], "parameters"):
        return Policy(*policy)
    remedy = "nb.load_policy(name), or nb.Policy(model, tokenizer)"
    if isinstance(policy, (str, Path)):
        remedy = f"nb.load_policy({str(policy)!r})"
    elif hasattr(policy, "parameters"):
        remedy = "nb.Policy(model, tokenizer)"
    raise TypeError(f"{what}: expected a policy, got {_kind(policy)}. Make one with {remedy}.")


def as_pairs(pairs: Pairs, what: str = "pairs") -> Dataset:
    """Pairs as a Dataset with `id` (text, each once), `prompt, chosen, rejected`.

    A Dataset that has them is passed on as it is. All else that `nbkit.load_pairs` reads (a Dataset
    of another layout or without ids, a DataFrame, a list of dicts, a path) goes through it.

    Raises:
        TypeError: nothing that pairs could come from.
        ValueError: no rows; an id twice; what `nbkit.load_pairs` refuses.
    """
    if isinstance(pairs, tuple) and len(pairs) == 2 and isinstance(pairs[1], pd.DataFrame):
        raise TypeError(
            f"{what}: got (pairs, report), which `nb.load_pairs(..., on_bad='drop')` returns. "
            "Take the first of the two."
        )
    if (
        pairs is None
        or isinstance(pairs, (bool, Real))
        or isinstance(pairs, Mapping)
        and not (isinstance(pairs, DatasetDict))
    ):
        raise TypeError(
            f"{what}: expected preference pairs, got {_kind(pairs)}. Give what `nb.load_pairs` "
            "returns, a Dataset, a DataFrame, a list of dicts, or the path of a file."
        )
    if hasattr(pairs, "__len__") and not len(pairs):
        raise _no_rows(what)
    ready = isinstance(pairs, Dataset) and _ready_made(pairs)
    loaded: Dataset = pairs if ready else load_pairs(pairs)
    if twice := more_than_once(loaded["id"]):
        raise ValueError(
            f"{what}: {len(twice)} ids occur more than once ({some(twice)}), so the rows of a "
            "table could not be told apart. `nb.load_pairs` finds such pairs; give each its own id."
        )
    return loaded


def as_ids(ids: Iterable[str], known: Iterable[str] | None, what: str = "keep") -> list[str]:
    """Ids of pairs as a list of text, each once and each among `known` (None: any).

    Raises:
        TypeError: a number, a text, or nothing that could be a list of ids.
        ValueError: no ids; an id that is not text, comes twice, or is not known.
    """
    no_list = isinstance(ids, (str, bytes, Real, Mapping, pd.DataFrame))
    if no_list or not isinstance(ids, Iterable):
        share = " A share or a number of pairs goes to `nb.select`, which returns such a list."
        raise TypeError(
            f"{what}={ids!r:.60}: expected a list of pair ids, such as `nb.select` returns."
            + (share if isinstance(ids, Real) else "")
        )
    ids = list(ids)
    if not ids:
        stands = "" if known is None else " None stands for all."
        raise ValueError(f"{what} is empty: there is no pair to work on.{stands}")
    check_texts(ids, what, "Take them from")
    known = set(ids if known is None else known)
    if unknown := [id_ for id_ in ids if id_ not in known]:
        raise ValueError(
            f"{len(unknown)} of the {len(ids)} ids to {what} are not in the pairs (first: "
            f"{unknown[0]!r}). `{what}` is a list of pair ids, such as `nb.select` returns."
        )
    if twice := more_than_once(ids):
        raise ValueError(f"`{what}` names {some(twice)} more than once; each pair is taken once.")
    return ids


def as_prompts(prompts: Prompts) -> list[Any]:
    """Prompts as a list of texts or of conversations (message lists), from such a list, from the
    `prompt` column of a Dataset or DataFrame, or from one prompt.

    Raises:
        TypeError: what is no prompt.
        ValueError: no prompts; no `prompt` column; texts and conversations mixed.
    """
    asked: Any = prompts
    columns = getattr(asked, "column_names", None)
    columns = columns if columns is not None else getattr(asked, "columns", None)
    if columns is not None:
        if "prompt" not in columns:
            raise ValueError(f"Expected a `prompt` column, got columns {list(columns)}.")
        asked = asked["prompt"]
    asked = as_plain(asked)
    if isinstance(asked, str) or _is_conversation(asked):
        return [asked]
    if isinstance(asked, Mapping) or not isinstance(asked, Iterable):
        raise TypeError(f"Expected prompts (texts, or lists of messages), got {_kind(asked)}.")
    asked = [as_plain(prompt) for prompt in asked]
    if not asked:
        raise ValueError("There are no prompts to answer: got an empty list.")
    text = isinstance(asked[0], str)
    for number, prompt in enumerate(asked):
        if not (isinstance(prompt, str) if text else _is_conversation(prompt)):
            expected = "a text" if text else "a list of messages ({'role', 'content'})"
            raise TypeError(
                f"Prompt {number} is {_kind(prompt)}; expected {expected}"
                f"{', as the first one is' if number else ''}."
            )
    return asked


def as_number(
    value: float, name: str, *, above: float | None = None, least: float | None = None,
    most: float | None = None,
) -> float:  # fmt: skip
    """A finite number in a range (`above` is excluded, `least` and `most` are not).

    Raises:
        TypeError: no number. ValueError: out of range, infinite or NaN.
    """
    expected = "a number" + _range(above, least, most)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r:.60}; expected {expected}, got {_kind(value)}.")
    bad = not math.isfinite(value) or (above is not None and value <= above)
    if bad or (least is not None and value < least) or (most is not None and value > most):
        raise ValueError(f"{name}={value!r}; expected {expected}.")
    return float(value)


def as_count(value: int, name: str, *, least: int = 1) -> int:
    """A whole number of at least `least`; errors as of `as_number`."""
    expected = f"a whole number, {least} or more"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r:.60}; expected {expected}, got {_kind(value)}.")
    if value < least:
        raise ValueError(f"{name}={value!r}; expected {expected}.")
    return int(value)


def as_limit(value: int | None, name: str) -> int | None:
    """A whole number above 0, or None where the default is meant."""
    return None if value is None else as_count(value, name)


def _ready_made(pairs: Dataset) -> bool:
    """Whether a Dataset has text ids and the three columns, all text or all messages, no nulls."""
    schema = pairs.features.arrow_schema
    if {"id", *TEXT_COLUMNS} - set(schema.names) or not _is_text(schema.field("id").type):
        return False
    kinds = {_kind_of_column(schema.field(name).type) for name in TEXT_COLUMNS}
    if len(kinds) != 1 or None in kinds:
        return False
    for name in ("id", *TEXT_COLUMNS):
        if pairs.data.column(name).null_count and any(v is None for v in pairs[name]):
            return False
    return True


def _kind_of_column(kind: pyarrow.DataType) -> str | None:
    if _is_text(kind):
        return "text"
    is_list = pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)
    if is_list and pyarrow.types.is_struct(kind.value_type):
        names = {kind.value_type.field(i).name for i in range(kind.value_type.num_fields)}
        return "messages" if names == {"role", "content"} else None
    return None


def _is_text(kind: pyarrow.DataType) -> bool:
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _is_conversation(prompt: object) -> bool:
    return (
        isinstance(prompt, (list, tuple)) and len(prompt) > 0
        and all(isinstance(turn, Mapping) and "role" in turn for turn in prompt)
    )  # fmt: skip


def _range(above: float | None, least: float | None, most: float | None) -> str:
    if above is not None:
        low = f" above {above:g}"
    else:
        low = f", {least:g} or more" if least is not None and most is None else ""
    if most is None:
        return low
    return f" from {least:g} to {most:g}" if least is not None else f"{low} up to {most:g}"


def _no_rows(what: str) -> ValueError:
    return ValueError(f"There are no {what} to work on: got a data set of 0 rows.")


def _kind(thing: object) -> str:
    if thing is None:
        return "None"
    if isinstance(thing, str):
        return f"the text {thing!r:.60}"
    kind = type(thing)
    module = kind.__module__.split(".")[0]
    name = kind.__name__ if module == "builtins" else f"{module}.{kind.__name__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
