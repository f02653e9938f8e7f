"""Small questions about one value, asked everywhere in this package."""

import math

import pandas as pd


def is_missing(value) -> bool:
    """None, pandas' NA, or the NaN that pandas and arrow make of a None."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def shorten(value, width: int = 60) -> str:
    shown = repr(value[: 2 * width] if isinstance(value, str) else value)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def listed(names, shown: int = 12) -> str:
    """Names of columns or files, the first few of them."""
    names = [str(name) for name in names]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(name if len(name) <= 40 else name[:39] + "…" for name in names[:shown]) + more
