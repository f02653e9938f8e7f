"""Means with intervals: over many cases, over a handful of training runs, of differences."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from nbkit.left_out import some

RESAMPLES = 2_000  # of a bootstrap


class Interval(NamedTuple):
    """A mean and its interval. `f"{interval:.2f}"` is "0.75 [0.70, 0.80]"."""

    value: float
    low: float
    high: float

    def verdict(self, chance: float = 0.0) -> str:
        """Whether the interval is clear of `chance`: "above", "below" or "not clear of" it."""
        if self.low > chance:
            return "above"
        return "below" if self.high < chance else "not clear of"

    def __format__(self, form: str) -> str:
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


def mean_interval(values, confidence: float = 0.95) -> Interval:
    """Mean of the values and its percentile-bootstrap interval; one value has no interval:
    (value, nan, nan). NaN among the values makes all three NaN, with a warning.

    Raises:
        TypeError: what is no list of numbers. ValueError: an empty one; confidence not in (0, 1).
    """
    values = _numbers(values, "values")
    check_confidence(confidence)
    if len(values) == 1 or np.isnan(values).any():
        return Interval(float(values.mean()), float("nan"), float("nan"))
    draw, n = np.random.default_rng(0), len(values)
    means = [values[draw.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def seed_interval(values, confidence: float = 0.95) -> Interval:
    """Mean over repeated runs (training seeds) and its Student-t interval. Unlike a bootstrap it
    is honest for a handful of runs; one run has no interval: (value, nan, nan). NaN and errors as
    in `mean_interval`."""
    return _over_runs(_numbers(values, "runs"), confidence)


def _over_runs(values: np.ndarray, confidence: float) -> Interval:
    check_confidence(confidence)
    if len(values) == 1:
        return Interval(float(values[0]), float("nan"), float("nan"))
    reach = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    mean = float(values.mean())
    return Interval(mean, float(mean - reach), float(mean + reach))


def correlation_interval(correlations, confidence: float = 0.95) -> Interval:
    """Mean of correlations, one from each data set or run, and its interval: `seed_interval` of
    Fisher's z, so that neither leaves -1 to 1. Perfect correlations count as .999999. NaN and
    errors as in `mean_interval`; ValueError for what lies outside -1 to 1."""
    correlations = _numbers(correlations, "correlations")
    if (outside := correlations[np.abs(correlations) > 1 + 1e-9]).size:
        raise ValueError(f"A correlation lies between -1 and 1, got {outside[0]:g}.")
    correlations = correlations.clip(-0.999999, 0.999999)
    return Interval(*(float(x) for x in np.tanh(_over_runs(np.arctanh(correlations), confidence))))


@dataclass(frozen=True)
class Gain:
    """A mean difference of paired runs with its Student-t interval. `str()` of it says by itself
    whether the interval is clear of zero."""

    value: float
    low: float
    high: float
    runs: int

    @property
    def verdict(self) -> str:
        if self.runs < 2:
            return "one run, no interval"
        return f"{Interval(self.value, self.low, self.high).verdict()} zero"

    def __str__(self):
        interval = f" [{self.low:+.3f}, {self.high:+.3f}]" if self.runs > 1 else ""
        return f"{self.value:+.3f}{interval}, {self.verdict}"

    __repr__ = __str__


def paired_gain(values: pd.Series, baseline: pd.Series, confidence: float = 0.95) -> Gain:
    """How much higher `values` are than `baseline`, run by run (both indexed by seed, in any
    order): what the runs share, such as their data and the order of training, cancels.

    Raises:
        TypeError: no Series of numbers.
        ValueError: the two do not hold the same seeds once each, or lack a value.
    """
    for runs in (values, baseline):
        if not isinstance(runs, pd.Series):
            raise TypeError(f"Expected a Series indexed by seed, got {type(runs).__name__}.")
        _numbers(runs.dropna(), "runs", least=0)
    if values.index.has_duplicates or set(values.index) != set(baseline.index):
        raise ValueError(
            f"Runs are paired by seed: got seeds {list(values.index)} and {list(baseline.index)}; "
            "expected the same ones, each once."
        )
    differences = values - baseline.loc[values.index]
    if differences.isna().any():
        seeds = list(differences.index[differences.isna()])
        raise ValueError(f"There is no value (NaN) for seeds {seeds}, so no difference either.")
    return Gain(*seed_interval(differences, confidence), len(values))


@dataclass(frozen=True)
class Peak:
    """Where a fitted parabola is highest, with a bootstrap interval over runs. `at_edge` is the
    share of resamples whose best place is an end of the measured range: near 1, the peak was not
    bracketed."""

    value: float
    low: float
    high: float
    at_edge: float

    def __str__(self):
        edge = f", at an end of the range in {self.at_edge:.0%}" if self.at_edge > 0 else ""
        return f"{self.value:.0%} [{self.low:.0%}, {self.high:.0%}]{edge}"

    __repr__ = __str__


def parabola_peak(curves: pd.DataFrame, confidence: float = 0.95) -> Peak:
    """Place of the maximum of a curve measured several times, as Selective DPO finds the best
    share to keep (arXiv 2502.09650, section 4: a parabola through ten runs).

    Args:
        curves: [runs, places]: one row a run (seed), one column a place on the x axis (a number,
            such as the share kept), values the height (such as the win rate).

    Returns:
        Peak: of the least-squares parabola within the measured range (an end of the range when
        it rises throughout, or opens upward); the interval is a percentile bootstrap over runs,
        which is narrow for a handful of them.

    Raises:
        TypeError: no DataFrame of numbers.
        ValueError: fewer than three places, or a value is missing.
    """
    if not isinstance(curves, pd.DataFrame):
        raise TypeError(f"Expected a DataFrame [runs, places], got {type(curves).__name__}.")
    check_confidence(confidence)
    for values in (curves.columns, *(curves[place].dropna() for place in curves)):
        _numbers(values, "places and heights", least=0)
    places = curves.columns.to_numpy(float)
    if len(places) < 3 or curves.isna().any(axis=None):
        raise ValueError(
            f"A parabola needs three places or more, without gaps: got {len(places)} columns and "
            f"{int(curves.isna().sum().sum())} missing values."
        )
    heights, draw = curves.to_numpy(float), np.random.default_rng(0)
    rows = draw.integers(len(heights), size=(RESAMPLES, len(heights)))
    peaks = _highest(places, heights[rows].mean(axis=1))
    low, high = np.quantile(peaks, [(1 - confidence) / 2, (1 + confidence) / 2])
    value = _highest(places, heights.mean(axis=0)[None])[0]
    at_edge = np.isin(peaks, (places.min(), places.max())).mean()
    if len(heights) < 2:  # one run has no interval
        low = high = at_edge = np.nan
    return Peak(float(value), float(low), float(high), float(at_edge))


def _highest(places, curves) -> np.ndarray:
    """Place of the parabola's maximum within the range of `places`, for each row of `curves`."""
    a, b, _ = np.polyfit(places, curves.T, 2)
    low, high = places.min(), places.max()
    better_end = np.where(a * (high + low) + b > 0, high, low)  # a(h² - l²) + b(h - l) > 0
    opens_down = a < 0
    vertex = -b / (2 * np.where(opens_down, a, -1.0))
    return np.where(opens_down, np.clip(vertex, low, high), better_end)


def check_confidence(confidence) -> None:
    """Raise ValueError unless this is a number between 0 and 1."""
    if isinstance(confidence, bool) or not isinstance(confidence, Real) or not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r}; expected a number between 0 and 1.")


def _numbers(values, what: str, least: int = 1) -> np.ndarray:
    """A list of numbers as floats, at least so many; NaN is warned of."""
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"Expected a list of {what} (numbers), got {type(values).__name__}.")
    values = np.asarray(values).tolist() if hasattr(values, "__array__") else list(values)
    if other := [value for value in values if not isinstance(value, (Real, np.bool_))]:
        raise TypeError(f"Expected a list of {what} (numbers), got {some(other)} among them.")
    if len(values) < least:
        raise ValueError(f"The mean of no {what} is not defined: got an empty list.")
    values = np.asarray(values, float)
    if missing := int(np.isnan(values).sum()):
        warnings.warn(
            f"{missing} of {len(values)} {what} are NaN, and with them their mean.", stacklevel=3
        )
    return values
