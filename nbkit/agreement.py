"""How far two scores, or two selections, agree."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import stats

from nbkit.inputs import as_ids
from nbkit.intervals import check_confidence
from nbkit.select.series import as_numbers


def rank_correlation(a: pd.Series, b: pd.Series, confidence: float | None = 0.95) -> pd.Series:
    """Spearman's rank correlation of two scores over the pairs that both hold, with a bootstrap
    interval over pairs: Series `value, low, high, n`. 1: the same order; -1: reversed. Ties share
    a rank, and infinite scores rank last. A score that is the same for every pair has no ranks:
    NaN, with a warning. `confidence=None` leaves the interval out (NaN), which is instant.

    Raises:
        TypeError: what is no Series of numbers.
        ValueError: an id twice; fewer than 3 pairs in both.
    """
    if confidence is not None:
        check_confidence(confidence)
    a, b = as_numbers(a), as_numbers(b)
    both = pd.concat([a, b], axis=1, join="inner").dropna().to_numpy()
    if len(both) < 3:
        raise ValueError(
            f"The scores share {len(both)} pairs without NaN (of {len(a)} and {len(b)}); a rank "
            "correlation needs 3 or more. Are both indexed by pair id?"
        )

    for name, values in zip((a.name, b.name), both.T):
        if (values == values[0]).all():
            warnings.warn(
                f"{name or 'A score'} is the same for all {len(both)} pairs: there is no rank "
                "correlation (NaN).",
                stacklevel=2,
            )
            return pd.Series(dict(value=np.nan, low=np.nan, high=np.nan, n=len(both)))

    def spearman(x, y):
        return stats.spearmanr(x, y).statistic

    low = high = np.nan
    if confidence is not None:
        done = stats.bootstrap(
            tuple(both.T), spearman, paired=True, vectorized=False, n_resamples=999,
            confidence_level=confidence, method="percentile", rng=np.random.default_rng(0),
        )  # fmt: skip
        low, high = done.confidence_interval
    return pd.Series(dict(value=spearman(*both.T), low=low, high=high, n=len(both)))


def jaccard(a, b) -> float:
    """Jaccard index of two selections: shared ids over all ids. 1: the same set."""
    a, b = _two_sets(a, b)
    return len(a & b) / len(a | b)


def overlap(a, b) -> float:
    """Overlap coefficient of two selections: shared ids over the smaller selection's size."""
    a, b = _two_sets(a, b)
    return len(a & b) / min(len(a), len(b))


def _two_sets(a, b):
    return set(as_ids(a, None, "the first selection")), set(as_ids(b, None, "the second selection"))
