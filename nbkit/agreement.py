"""How far two scores, or two selections, agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats


def rank_correlation(a: pd.Series, b: pd.Series, confidence: float | None = 0.95) -> pd.Series:
    """Spearman's rank correlation of two scores over the pairs that both hold, with a bootstrap
    interval over pairs: Series `value, low, high, n`. 1: the same order; -1: reversed. Ties share
    a rank, and infinite scores rank last. `confidence=None` leaves the interval out (NaN), which
    is instant."""
    both = pd.concat([a, b], axis=1, join="inner").dropna().to_numpy()
    if len(both) < 3:
        raise ValueError(
            f"The scores share {len(both)} pairs without NaN (of {len(a)} and {len(b)}); a rank "
            "correlation needs 3 or more. Are both indexed by pair id?"
        )

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
    a, b = set(a), set(b)
    if not a or not b:
        raise ValueError(f"Cannot compare an empty selection: got {len(a)} and {len(b)} ids.")
    return a, b
