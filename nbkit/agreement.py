"""How far two scores, or two selections, agree."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan

import numpy as np
import pandas as pd
from scipy import stats

from nbkit.estimates import Estimate, check_confidence
from nbkit.inputs import as_ids
from nbkit.select.series import as_numbers
from nbkit.warning import warn


def rank_correlation(a: pd.Series, b: pd.Series, confidence: float | None = 0.95) -> Estimate:
    """Spearman's rank correlation of two scores over the pairs that both hold, with a bootstrap
    interval over pairs. Ties share a rank, and infinite scores rank last. A score that is the same
    for every pair has no ranks: NaN, with a warning.

    Args:
        a: Series by pair id.
        b: Series by pair id.
        confidence: of the interval; None leaves it out (NaN), which is instant.

    Returns:
        Estimate, over pairs. 1: the same order; -1: reversed.

    Raises:
        TypeError: what is no Series of numbers.
        ValueError: an id twice; fewer than 3 pairs in both.

    Example:
        >>> import nbkit as nb
        >>> pairs = nb.world.pairs(200).to_pandas().set_index("id")
        >>> truth = pairs["chosen_reward"] - pairs["rejected_reward"]
        >>> judged = pairs["chosen_score"] - pairs["rejected_score"]
        >>> f"{nb.rank_correlation(truth, judged):.2f}"
        '0.79 [0.74, 0.83]'
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
            warn(
                f"{name or 'A score'} is the same for all {len(both)} pairs: there is no rank "
                "correlation (NaN)."
            )
            return Estimate(nan, nan, nan, len(both), "pairs", confidence)

    def spearman(x: np.ndarray, y: np.ndarray) -> float:
        return stats.spearmanr(x, y).statistic

    low = high = nan
    if confidence is not None:
        done = stats.bootstrap(
            tuple(both.T), spearman, paired=True, vectorized=False, n_resamples=999,
            confidence_level=confidence, method="percentile", rng=np.random.default_rng(0),
        )  # fmt: skip
        low, high = map(float, done.confidence_interval)
    return Estimate(float(spearman(*both.T)), low, high, len(both), "pairs", confidence)


def jaccard(a: Iterable[str], b: Iterable[str]) -> float:
    """Jaccard index of two selections: shared ids over all ids.

    Args:
        a: ids.
        b: ids.

    Returns:
        float, 0 (nothing shared) to 1 (the same set).

    Example:
        >>> import nbkit as nb
        >>> nb.jaccard(["a", "b", "c"], ["b", "c", "d"])
        0.5
    """
    a, b = _two_sets(a, b)
    return len(a & b) / len(a | b)


def overlap(a: Iterable[str], b: Iterable[str]) -> float:
    """Overlap coefficient of two selections: shared ids over the smaller selection's size.

    Args:
        a: ids.
        b: ids.

    Returns:
        float, 0 (nothing shared) to 1 (the smaller lies in the larger).

    Example:
        >>> import nbkit as nb
        >>> nb.overlap(["a", "b"], ["b", "c", "d", "e"])
        0.5
    """
    a, b = _two_sets(a, b)
    return len(a & b) / min(len(a), len(b))


def _two_sets(a: Iterable[str], b: Iterable[str]) -> tuple[set[str], set[str]]:
    return set(as_ids(a, None, "the first selection")), set(as_ids(b, None, "the second selection"))
