"""Ids of pairs: text, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from nbkit.left_out import some


def more_than_once(ids: Iterable) -> list:
    """The ids that occur more than once, in order of appearance."""
    return [id_ for id_, count in Counter(ids).items() if count > 1]


def check_each_once(ids: pd.Index, what: str) -> None:
    """Raise ValueError if an id of a table or a score occurs more than once."""
    if ids.has_duplicates:
        raise ValueError(
            f"{what} holds pair {more_than_once(ids)[0]!r} more than once; expected each once. "
            "Of two tables in one, `table[~table.index.duplicated()]` keeps the first row of each "
            "pair."
        )


def check_texts(ids: Any, what: str, take: str = "Index it by") -> None:
    """Raise ValueError unless all ids are text."""
    if isinstance(getattr(ids, "dtype", None), pd.StringDtype) and not ids.hasnans:
        return  # without a look at each
    if other := [id_ for id_ in ids if not isinstance(id_, str)]:
        raise ValueError(
            f"{what}: ids are text, got {some(other)}. {take} `pairs['id']`, after `nb.load_pairs`."
        )
