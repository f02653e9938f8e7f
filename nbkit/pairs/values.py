"""Small questions about one value, asked everywhere in this package."""

import math
from collections.abc import Iterable

import pandas as pd


def is_missing(value: object) -> bool:
    """None, pandas' NA, or the NaN that pandas and arrow make of a None."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def shorten(value: object, width: int = 60) -> str:
    shown = repr(value[: 2 * width] if isinstance(value, str) else value)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def listed(names: Iterable[object], shown: int = 12) -> str:
    """Names of columns or files, the first few of them."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return ", ".join(text if len(text) <= 40 else text[:39] + "…" for text in texts[:shown]) + more
