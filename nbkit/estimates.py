"""Values with intervals: over many cases, over a handful of training runs, of differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nbkit.left_out import some
from nbkit.warning import warn

RESAMPLES, BATCH = 2_000, 50  # of a bootstrap: how many, and how many of them in memory at once


@dataclass(frozen=True, repr=False)
class Estimate:
    """A value with its interval. It unpacks as `value, low, high`.

    `f"{estimate:.2f}"` is "0.75 [0.70, 0.80]"; `str` of it may say more, such as what a gain is
    clear of.

    Attributes:
        value: what was estimated.
        low, high: ends of the interval; NaN where there is none.
        n: from how many of its `unit` it was estimated.
        unit: such as "runs", "prompts" or "pairs".
        confidence: of the interval, such as 0.95; None where none was asked for.
        template: how `str` writes it, such as "win rate {:.3f} over 192 prompts".
        at_edge: of a peak, the share of resamples whose best place is an end of the measured
            range: near 1, the peak was not bracketed.
        table: of a win rate, one row a prompt; else empty.

    Example:
        >>> import nbkit as nb
        >>> gain = nb.seed_interval([0.06, 0.02, 0.04])
        >>> print(f"{gain:+.3f}, {gain.verdict()}")
        +0.040 [-0.010, +0.090], not clear of zero
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = "values"
    confidence: float | None = 0.95
    template: str = "{:.3f}"
    at_edge: float | None = None
    table: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)

    def verdict(self, against: float = 0.0, called: str | None = None) -> str:
        """Where the interval lies: "above zero", "below zero" or "not clear of zero". Where there
        is no interval it says so: "one run, no interval".

        Args:
            against: the number to compare with, such as 0.5 for a win rate.
            called: its name in the text, such as "a half"; default: the number.

        Example:
            >>> import nbkit as nb
            >>> nb.seed_interval([0.58, 0.61, 0.60]).verdict(0.5)
            'above 0.5'
        """
        if np.isnan(self.low):
            one = f"one {self.unit.removesuffix('s')}, " if self.n == 1 else ""
            return f"{one}no interval"
        called = called or ("zero" if against == 0 else f"{against:g}")
        if self.low > against:
            return f"above {called}"
        return f"below {called}" if self.high < against else f"not clear of {called}"

    def __iter__(self) -> Iterator[float]:
        return iter((self.value, self.low, self.high))

    def __format__(self, form: str) -> str:
        if not form:
            return str(self)
        value, low, high = (format(number, form) for number in self)
        return f"{value}, {self.verdict()}" if np.isnan(self.low) else f"{value} [{low}, {high}]"

    def __str__(self) -> str:
        return self.template.format(self)

    __repr__ = __str__


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> Estimate:
    """Mean of the values and its percentile-bootstrap interval. One value has no interval (its
    ends are NaN); NaN among the values makes all three NaN, with a warning.

    Args:
        values: many cases, such as one number a pair or prompt.
        confidence: of the interval.

    Returns:
        Estimate, in the unit of the values.

    Raises:
        TypeError, ValueError: no numbers, or not one of them; confidence not in (0, 1).

    Example:
        >>> import nbkit as nb
        >>> nb.mean_interval(nb.world.pairs(300)["flipped"])  # the share of wrong labels
        0.150 [0.110, 0.190]
    """
    values = _numbers(values, "values")
    check_confidence(confidence)
    low = high = np.nan
    if len(values) > 1 and not np.isnan(values).any():
        low, high = _bootstrap(values, np.mean, confidence).confidence_interval
    value, low, high = float(values.mean()), float(low), float(high)
    return Estimate(value, low, high, len(values), "values", confidence)


def seed_interval(values: Iterable[float], confidence: float = 0.95) -> Estimate:
    """Mean over repeated runs (training seeds) and its Student-t interval. Unlike a bootstrap it
    is honest for a handful of runs; one run has no interval. Errors as of `mean_interval`.

    Args:
        values: a number a run, such as its win rate.
        confidence: of the interval.

    Returns:
        Estimate, in the unit of the values.

    Example:
        >>> import nbkit as nb
        >>> nb.seed_interval([0.58, 0.61, 0.60])
        0.597 [0.559, 0.635]
    """
    return _over_runs(_numbers(values, "runs"), confidence)


def _over_runs(values: np.ndarray, confidence: float) -> Estimate:
    check_confidence(confidence)
    mean, n = float(values.mean()), len(values)
    low = high = float("nan")
    if n > 1:
        reach = stats.sem(values) * np.array(stats.t.interval(confidence, n - 1))
        low, high = (mean + reach).tolist()
    return Estimate(mean, low, high, n, "runs", confidence)


def correlation_interval(correlations: Iterable[float], confidence: float = 0.95) -> Estimate:
    """Mean of correlations, one from each data set or run, and its interval: `seed_interval` of
    Fisher's z, so that neither leaves -1 to 1. Perfect correlations count as .999999. Errors as of
    `mean_interval`, and for what lies outside -1 to 1.

    Args:
        correlations: each from -1 to 1.
        confidence: of the interval.

    Example:
        >>> import nbkit as nb
        >>> nb.correlation_interval([0.90, 0.95, 0.97])
        0.947 [0.772, 0.988]
    """
    correlations = _numbers(correlations, "correlations")
    if (outside := correlations[np.abs(correlations) > 1 + 1e-9]).size:
        raise ValueError(f"A correlation lies between -1 and 1, got {outside[0]:g}.")
    found = _over_runs(np.arctanh(correlations.clip(-0.999999, 0.999999)), confidence)
    value, low, high = np.tanh([*found]).tolist()
    return replace(found, value=value, low=low, high=high, unit="correlations")


def paired_gain(values: pd.Series, baseline: pd.Series, confidence: float = 0.95) -> Estimate:
    """How much higher `values` are than `baseline`, run by run (both indexed by seed, in any
    order): what the runs share, such as their data and the order of training, cancels. `str` of it
    says whether the interval is clear of zero.

    Args:
        values: Series by seed.
        baseline: Series by seed.
        confidence: of the Student-t interval.

    Returns:
        Estimate of values - baseline.

    Raises:
        TypeError, ValueError: no Series of numbers; not the same seeds, once each; no value.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> easiest = pd.Series({0: 0.58, 1: 0.61, 2: 0.60})
        >>> nb.paired_gain(easiest, baseline=pd.Series({0: 0.53, 1: 0.55, 2: 0.56}))
        +0.050 [+0.025, +0.075], above zero
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
    gain = seed_interval(differences, confidence)
    template = "{:+.3f}" if gain.n == 1 else f"{{:+.3f}}, {gain.verdict()}"
    return replace(gain, template=template)


def parabola_peak(curves: pd.DataFrame, confidence: float = 0.95) -> Estimate:
    """Place of the maximum of a curve measured several times, as Selective DPO finds the best
    share to keep (arXiv 2502.09650, section 4: a parabola through ten runs).

    Args:
        curves: [runs, places]: one row a run (seed), one column a place on the x axis (a number,
            such as the share kept), values the height (such as the win rate).
        confidence: of the interval.

    Returns:
        Estimate: place of the least-squares parabola's peak within the measured range (an end of
        it when it rises throughout, or opens upward); `at_edge` says how often it is an end. Its
        interval, a percentile bootstrap over runs, is narrow for a handful of them.

    Raises:
        TypeError, ValueError: no DataFrame of numbers; fewer than three places; no value.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> curves = {0.2: [0.52, 0.53], 0.5: [0.61, 0.60], 0.8: [0.58, 0.60], 1.0: [0.55, 0.54]}
        >>> nb.parabola_peak(pd.DataFrame(curves))
        62% [62%, 63%]
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
    heights = curves.to_numpy(float)
    value, n = float(_highest(places, heights.mean(axis=0)[None])[0]), len(heights)
    low = high = at_edge = float("nan")

    def peaks(rows: np.ndarray, axis: int) -> np.ndarray:  # [resamples, runs]
        return _highest(places, heights[rows].mean(axis=1))

    if n > 1:
        done = _bootstrap(np.arange(n), peaks, confidence)
        low, high = map(float, done.confidence_interval)
        ends = places.min(), places.max()
        at_edge = float(np.isin(done.bootstrap_distribution, ends).mean())
    template = f"{{:.0%}}, at an end of the range in {at_edge:.0%}" if at_edge > 0 else "{:.0%}"
    return Estimate(value, low, high, n, "runs", confidence, template, at_edge)


def _bootstrap(sample: np.ndarray, statistic: Callable, confidence: float) -> Any:
    return stats.bootstrap(
        (sample,), statistic, n_resamples=RESAMPLES, batch=BATCH, confidence_level=confidence,
        method="percentile", rng=np.random.default_rng(0),
    )  # fmt: skip


def _highest(places: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Place of the parabola's maximum within the range of `places`, for each row of `curves`."""
    a, b, _ = np.polyfit(places, curves.T, 2)
    low, high = places.min(), places.max()
    better_end = np.where(a * (high + low) + b > 0, high, low)  # a(h² - l²) + b(h - l) > 0
    opens_down = a < 0
    vertex = -b / (2 * np.where(opens_down, a, -1.0))
    return np.where(opens_down, np.clip(vertex, low, high), better_end)


def check_confidence(confidence: Any) -> None:
    """Raise ValueError unless this is a number between 0 and 1."""
    number = isinstance(confidence, Real) and not isinstance(confidence, bool)
    if not number or not 0 < float(confidence) < 1:
        raise ValueError(f"confidence={confidence!r}; expected a number between 0 and 1.")


def _numbers(values: Any, what: str, least: int = 1) -> np.ndarray:
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
        warn(f"{missing} of {len(values)} {what} are NaN, and with them their mean.")
    return values
