"""Scores as they come: a Series of numbers by pair id."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from nbkit.pair_ids import check_each_once, check_texts


def as_scores(scores: pd.Series, what: str | None = None) -> pd.Series:
    """Scores as floats by pair id: a Series whose ids are text, each once. NaN stays, and infinite
    scores do; numbers of any real kind (bool, nullable, Python's) are converted.

    Args:
        what: it is called in messages; None: the name of the Series.

    Raises:
        TypeError: no Series, or a score that is no real number (text, complex, a time).
        ValueError: ids that are not text, or twice.
    """
    scores = as_numbers(scores, what)
    check_texts(scores.index, what or str(scores.name or "The score"))
    return scores


def as_numbers(values: pd.Series, what: str | None = None) -> pd.Series:
    """A Series of any index, each entry once, as floats; errors as of `as_scores`."""
    if not isinstance(values, pd.Series):
        column = " Take one of its columns." if isinstance(values, pd.DataFrame) else ""
        raise TypeError(
            f"Expected {what or 'scores'} as a pandas Series indexed by pair id, got "
            f"{type(values).__name__}.{column}"
        )
    what = what or str(values.name or "The score")
    check_each_once(values.index, what)
    if pd.api.types.is_any_real_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        floats = values.to_numpy(float, na_value=np.nan)
    else:
        floats = [_float(value) for value in values]
        if None in floats:
            first = floats.index(None)
            raise TypeError(
                f"{what} of pair {values.index[first]!r} is {values.iloc[first]!r:.60}; expected "
                "numbers. Where numbers are written as text, `scores.astype(float)` makes numbers "
                "of them."
            )
    return pd.Series(floats, values.index, float, values.name)


def _float(value: Any) -> float | None:
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            return None
    return np.nan if pd.api.types.is_scalar(value) and pd.isna(value) else None
