"""Intervals that cover as often as they say; gains paired by seed; the place of a peak."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import nbkit as nb


def test_intervals_cover_as_often_as_they_say():
    draw = np.random.default_rng(0)
    covered = [
        low <= 0.3 <= high
        for _, low, high in (
            nb.mean_interval(draw.random(60) < 0.3, confidence=0.9) for _ in range(300)
        )
    ]
    assert 0.83 <= np.mean(covered) <= 0.95
    won = draw.random(5000) < 0.3
    reach = 1.645 * won.std() / np.sqrt(5000)  # of a 90% interval of the normal distribution
    value, low, high = nb.mean_interval(won, confidence=0.9)
    assert (value - low, high - value) == pytest.approx((reach, reach), rel=0.1)
    with pytest.raises(ValueError, match="mean of no values"):
        nb.mean_interval([])


def test_seed_intervals_cover_with_few_runs():
    draw = np.random.default_rng(0)
    runs = [nb.seed_interval(draw.normal(1.0, 2.0, size=4)) for _ in range(400)]
    assert 0.92 <= np.mean([low <= 1.0 <= high for _, low, high in runs]) <= 0.98
    value, low, high = nb.seed_interval([0.6])
    assert value == 0.6 and np.isnan([low, high]).all()
    with pytest.raises(ValueError, match="mean of no runs"):
        nb.seed_interval([])


def test_correlation_intervals_cover_and_stay_within_one():
    draw = np.random.default_rng(0)
    covered = []
    for _ in range(300):  # five data sets of 40 points each, correlated by .9
        x = draw.normal(size=(5, 40))
        y = 0.9 * x + np.sqrt(1 - 0.9**2) * draw.normal(size=x.shape)
        found = nb.correlation_interval([np.corrcoef(*pair)[0, 1] for pair in zip(x, y)])
        assert -1 < found.low < found.value < found.high < 1
        covered.append(found.low <= 0.9 <= found.high)
    assert 0.9 <= np.mean(covered) <= 0.99
    assert nb.correlation_interval([1.0, 1.0, -0.2]).high <= 1
    one = nb.correlation_interval([0.5])
    assert one.value == pytest.approx(0.5) and np.isnan(one.low)


def test_paired_gain_is_the_paired_t_interval_whatever_the_order():
    draw = np.random.default_rng(0)
    seeds = [3, 1, 7, 4, 5]
    before = pd.Series(draw.normal(0, 5, 5), index=seeds)  # what the runs share is large
    after = (before + draw.normal(0.3, 0.1, 5)).sample(frac=1, random_state=1)
    gain = nb.paired_gain(after, before)
    test = stats.ttest_rel(after.loc[seeds], before)
    low, high = test.confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((low, high))
    assert gain.value == pytest.approx((after.loc[seeds] - before).mean()) and gain.n == 5
    assert gain.verdict() == "above zero"
    assert nb.paired_gain(before, after).verdict() == "below zero"
    assert str(gain) == f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], above zero"


def test_gain_says_when_it_is_not_clear():
    zero = pd.Series([0.0, 0.0], index=[0, 1])
    gain = nb.paired_gain(pd.Series([0.1, -0.2], index=[1, 0]), zero)
    assert gain.verdict() == "not clear of zero"
    one = nb.paired_gain(pd.Series([0.1]), pd.Series([0.0]))
    assert str(one) == "+0.100, one run, no interval"


@pytest.mark.parametrize("index", [[0, 2], [0], [0, 1, 2]])
def test_gain_refuses_runs_that_are_not_paired(index):
    other = pd.Series(0.5, index=index)
    with pytest.raises(ValueError, match="expected the same ones, each once"):
        nb.paired_gain(pd.Series([0.5, 0.6], index=[0, 1]), other)
    with pytest.raises(ValueError, match="expected the same ones, each once"):
        nb.paired_gain(pd.Series([0.5, 0.6], index=[0, 0]), pd.Series([0.5, 0.6], index=[0, 0]))


PLACES = [0.3, 0.5, 0.7, 0.85, 1.0]


def curves(vertex, noise=0.0, runs=20, sign=-1.0, seed=0):
    draw = np.random.default_rng(seed)
    heights = 0.6 + sign * (np.array(PLACES) - vertex) ** 2
    return pd.DataFrame(heights + draw.normal(0, noise, (runs, 5)), columns=PLACES)


def test_parabola_peak_finds_the_vertex():
    exact = nb.parabola_peak(curves(0.62))
    assert (exact.value, exact.low, exact.high, exact.at_edge) == pytest.approx((0.62,) * 3 + (0,))
    noisy = [nb.parabola_peak(curves(0.62, noise=0.05, seed=seed)) for seed in range(100)]
    assert 0.85 <= np.mean([peak.low <= 0.62 <= peak.high for peak in noisy]) <= 0.99
    again = nb.parabola_peak(curves(0.62, noise=0.05)[PLACES[::-1]])
    assert (again.value, again.low) == pytest.approx((noisy[0].value, noisy[0].low))


@pytest.mark.parametrize(
    ("curve", "end"),
    [
        (curves(1.4), 1.0),  # rises throughout
        (curves(0.1), 0.3),  # falls throughout
        (curves(0.5, sign=1.0), 1.0),  # opens upward, the right end is higher
        (curves(0.8, sign=1.0), 0.3),  # opens upward, the left end is higher
    ],
)
def test_a_peak_at_an_end_is_said_to_be_there(curve, end):
    peak = nb.parabola_peak(curve)
    assert peak.value == end and peak.at_edge == 1
    assert str(peak) == f"{end:.0%} [{end:.0%}, {end:.0%}], at an end of the range in 100%"


def test_one_run_has_a_peak_and_no_interval():
    peak = nb.parabola_peak(curves(0.62, runs=1))
    assert peak.value == pytest.approx(0.62) and np.isnan([peak.low, peak.high, peak.at_edge]).all()


def test_a_gain_without_a_value_is_refused():
    with pytest.raises(ValueError, match=r"no value .NaN. for seeds \[1\]"):
        nb.paired_gain(pd.Series([0.5, np.nan]), pd.Series([0.5, 0.6]))


def test_parabola_needs_three_places_without_gaps():
    with pytest.raises(ValueError, match="got 2 columns and 0 missing"):
        nb.parabola_peak(curves(0.6)[[0.3, 0.5]])
    with pytest.raises(ValueError, match="got 5 columns and 1 missing"):
        nb.parabola_peak(curves(0.6).mask(lambda c: c == c.iloc[0, 0]).iloc[:1])


def test_intervals_speak_for_themselves():
    interval = nb.seed_interval([0.5, 0.6, 0.7])
    value, low, high = interval
    assert f"{interval:.2f}" == f"{value:.2f} [{low:.2f}, {high:.2f}]" == "0.60 [0.35, 0.85]"
    assert f"{nb.mean_interval([0.25] * 9):+.0%}" == "+25% [+25%, +25%]"
    verdicts = [interval.verdict(x) for x in (0.3, 0.5, 0.9)]
    assert verdicts == ["above 0.3", "not clear of 0.5", "below 0.9"]
    assert interval.verdict() == "above zero"
    assert interval.verdict(1 / 3, "a third") == "above a third"


def test_where_there_is_no_interval_it_is_said():
    one = nb.seed_interval([0.5])
    assert one.verdict() == one.verdict(0.9) == "one run, no interval"
    assert f"{one:.1f}" == "0.5, one run, no interval" and str(one) == "0.500, one run, no interval"
    assert str(nb.correlation_interval([0.5])) == "0.500, one correlation, no interval"
    assert nb.mean_interval([0.5]).verdict() == "one value, no interval"
    with pytest.warns(UserWarning, match="1 of 2 values are NaN"):
        assert str(nb.mean_interval([0.5, np.nan])) == "nan, no interval"
    assert nb.rank_correlation(SCORES, SCORES, confidence=None).verdict() == "no interval"


RUNS = pd.Series([0.5, 0.6, 0.7])
SCORES = pd.Series(np.arange(30.0), [f"p{n}" for n in range(30)])
ESTIMATES = {
    "mean_interval": (nb.mean_interval(RUNS), 3, "values"),
    "seed_interval": (nb.seed_interval(RUNS), 3, "runs"),
    "correlation_interval": (nb.correlation_interval(RUNS), 3, "correlations"),
    "paired_gain": (nb.paired_gain(RUNS, RUNS / 2), 3, "runs"),
    "parabola_peak": (nb.parabola_peak(pd.DataFrame(np.eye(3)[[0, 1]])), 2, "runs"),
    "rank_correlation": (nb.rank_correlation(SCORES, SCORES), 30, "pairs"),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_all_that_has_an_interval_is_one_type(name):
    estimate, n, unit = ESTIMATES[name]
    assert type(estimate) is nb.Estimate
    assert (estimate.n, estimate.unit, estimate.confidence) == (n, unit, 0.95)
    assert [*estimate] == [estimate.value, estimate.low, estimate.high]
    assert all(type(number) is float for number in estimate)
    assert estimate == dataclasses.replace(estimate) and {estimate}
    assert f"{estimate}" == repr(estimate) == str(estimate)
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate.value = 0.0


def test_equal_runs_have_an_interval_of_no_width():
    """scipy's own t-test says NaN here."""
    assert [*nb.seed_interval([0.25] * 4)] == [0.25] * 3
    assert str(nb.paired_gain(RUNS, RUNS)) == "+0.000 [+0.000, +0.000], not clear of zero"


def plain_bootstrap(values, confidence):
    """As before scipy did it: the same draws."""
    draw, n = np.random.default_rng(0), len(values)
    means = [values[draw.integers(n, size=n)].mean() for _ in range(2000)]
    return np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])


@pytest.mark.parametrize("n", [2, 3, 41, 192])
@pytest.mark.parametrize("confidence", [0.95, 1 - 0.05 / 12])
def test_scipys_intervals_are_those_of_the_formulas(n, confidence):
    draw = np.random.default_rng(n)
    for values in (draw.normal(size=n), draw.integers(0, 3, n) / 2, 1e4 + draw.random(n)):
        found = nb.mean_interval(values, confidence)
        assert [found.low, found.high] == pytest.approx(plain_bootstrap(values, confidence), 1e-13)
        found = nb.seed_interval(values, confidence)
        reach = stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(values)
        assert [found.low, found.high] == pytest.approx(values.mean() + [-reach, reach], 1e-13)


INTERVALS = {
    "mean_interval": nb.mean_interval,
    "seed_interval": nb.seed_interval,
    "correlation_interval": nb.correlation_interval,
}


@pytest.mark.parametrize("name", INTERVALS)
def test_what_is_no_list_of_numbers_is_refused(name):
    interval = INTERVALS[name]
    for wrong in ("0.5", 0.5, None, {"a": 0.5}):
        with pytest.raises(TypeError, match="Expected a list of .* .numbers., got (str|float|N|d)"):
            interval(wrong)
    for wrong in ([0.1, "0.2"], [0.1, None], [[0.1], [0.2]], [0.1, 1j]):
        with pytest.raises(TypeError, match="Expected a list of .* among them"):
            interval(wrong)
    for confidence in (95, 0, 1, "0.9", True, float("nan")):
        with pytest.raises(ValueError, match="confidence=.*; expected a number between 0 and 1"):
            interval([0.1, 0.2], confidence)


@pytest.mark.parametrize("name", INTERVALS)
def test_nan_makes_no_number_and_says_so(name):
    with pytest.warns(UserWarning, match="1 of 3 .* are NaN, and with them their mean") as said:
        result = INTERVALS[name]([0.1, np.nan, 0.2])
    assert len(said) == 1 and np.isnan(list(result)).all()


@pytest.mark.parametrize("name", INTERVALS)
def test_one_value_has_no_interval(name):
    value, low, high = INTERVALS[name](pd.Series([0.5]))
    assert value == pytest.approx(0.5) and np.isnan([low, high]).all()


def test_a_correlation_lies_between_minus_one_and_one():
    with pytest.raises(ValueError, match="lies between -1 and 1, got 1.5"):
        nb.correlation_interval([0.5, 1.5])


def test_gains_and_peaks_take_numbers_only():
    runs = pd.Series([0.1, 0.2], index=[0, 1])
    with pytest.raises(TypeError, match="Expected a Series indexed by seed, got list"):
        nb.paired_gain(runs, [0.1, 0.2])
    with pytest.raises(TypeError, match="got '0.1', '0.2' among them"):
        nb.paired_gain(runs, runs.astype(str))
    with pytest.raises(TypeError, match="Expected a DataFrame .runs, places., got ndarray"):
        nb.parabola_peak(curves(0.62).to_numpy())
    with pytest.raises(TypeError, match="got 'a', 'b', 'c' and 2 more among them"):
        nb.parabola_peak(curves(0.62).set_axis(list("abcde"), axis=1))
    with pytest.raises(TypeError, match="among them"):
        nb.parabola_peak(curves(0.62).astype(str))
