"""Exercises of lesson 04: equal updates, the paired gain, the best share of pairs to keep."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from nbkit.course.exercises.checking import (
    Exercise,
    Mistake,
    Result,
    answers_like,
    check,
    number,
    telling,
    told_apart,
    vector,
)


def check_equal_updates(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: passes over the kept pairs, a float.

    How many times each kept pair is seen, on average, when training on the kept pairs makes as
    many optimizer updates as `epochs` epochs on all pairs do. An epoch's last batch may be
    smaller than the others: it is an update like them.

    Args:
        learner: yours, `learner(pairs_full, pairs_kept, batch_size, epochs)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_equal_updates(
        ...     lambda pairs_full, pairs_kept, batch_size, epochs: ...
        ... )
        check_equal_updates: not attempted
    """
    return check(EQUAL_UPDATES, learner, seed)


def check_paired_gain(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the mean gain of a over b with its 95% interval: (value, low, high).

    Two Series of win rates indexed by training seed, the same seeds in any order. The gain of a
    seed is its a - b; the interval is Student's t of the mean of these differences.

    Args:
        learner: yours, `learner(a, b)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_paired_gain(lambda a, b: ...)
        check_paired_gain: not attempted
    """
    return check(PAIRED_GAIN, learner, seed)


def check_parabola_peak(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the share at the maximum of a parabola fitted to the runs.

    Two arrays [runs]: the share of the pairs that a run has kept, and its win rate. The parabola
    is the least-squares one (arXiv 2502.09650 finds the best share to keep in this way); its
    maximum lies between the smallest share and the largest.

    Args:
        learner: yours, `learner(shares, win_rates)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_parabola_peak(lambda shares, win_rates: ...)
        check_parabola_peak: not attempted
    """
    return check(PARABOLA_PEAK, learner, seed)


# Equal updates -----------------------------------------------------------------------------------


def equal_updates(pairs_full, pairs_kept, batch_size, epochs):
    return _updates(pairs_full, batch_size, epochs) / math.ceil(pairs_kept / batch_size)


def _updates(pairs_full, batch_size, epochs):
    return epochs * math.ceil(pairs_full / batch_size)


def _draw_trainings(rng):
    wrong_solutions = [wrong for wrong, _ in WRONG_UPDATES] + [_whole_passes]
    return [telling(rng, _training, equal_updates, *wrong_solutions) for _ in range(3)]


def _whole_passes(*case):
    return round(equal_updates(*case))


def _training(rng):
    """Neither number of pairs is a multiple of the batch size."""
    batch_size, epochs = int(rng.choice([4, 8, 16])), int(rng.integers(2, 5))
    batches = int(rng.integers(8, 25))
    batches_kept = int(batches * rng.uniform(0.3, 0.8))
    rest, rest_kept = (int(rest) for rest in rng.integers(1, batch_size, 2))
    pairs_full, pairs_kept = (batches * batch_size + rest, batches_kept * batch_size + rest_kept)
    return pairs_full, pairs_kept, batch_size, epochs


WRONG_UPDATES = [
    (
        lambda full, kept, size, epochs: epochs * full / kept,
        "This is the ratio of the pairs: updates are batches, and an epoch's last batch is one "
        "even if it is smaller (math.ceil).",
    ),
    (
        lambda full, kept, size, epochs: epochs * (full // size) / (kept // size),
        "The last, smaller batch of an epoch is left out: it is an update, too. Round up "
        "(math.ceil) instead of down.",
    ),
    (
        lambda full, kept, size, epochs: _updates(full, size, epochs) / (kept / size),
        "The batches of all pairs are rounded up, those of the kept pairs are not: both have a "
        "smaller last batch.",
    ),
    (
        lambda full, kept, size, epochs: epochs * full / size / math.ceil(kept / size),
        "The batches of the kept pairs are rounded up, those of all pairs are not: both have a "
        "smaller last batch.",
    ),
    (
        lambda full, kept, size, epochs: math.ceil(epochs * full / size) / math.ceil(kept / size),
        "Rounded up once for all epochs: each epoch ends with its own last batch, so round up the "
        "batches of one epoch, then multiply.",
    ),
    (
        lambda *case: 1 / equal_updates(*case),
        "Upside down: fewer pairs need more passes for as many updates.",
    ),
    (
        lambda full, kept, size, epochs: epochs * math.ceil(kept / size) / math.ceil(full / size),
        "Upside down: fewer pairs need more passes for as many updates.",
    ),
    (
        lambda full, kept, size, epochs: _updates(full, size, epochs),
        "This is the number of updates: divide by the updates of one pass over the kept pairs.",
    ),
    (
        lambda full, kept, size, epochs: equal_updates(full, kept, size, 1),
        "The epochs are missing: the training on all pairs makes that many passes.",
    ),
    (
        lambda full, kept, size, epochs: _updates(full, size, epochs) / kept,
        "The updates are divided by the kept pairs: divide by their batches, as one update sees a "
        "whole batch.",
    ),
]
EQUAL_UPDATES = Exercise(
    name="check_equal_updates",
    arguments="pairs_full, pairs_kept, batch_size, epochs",
    solve=equal_updates,
    draw=_draw_trainings,
    read=number("one number: the passes over the kept pairs"),
    mistakes=[
        *(answers_like(wrong, hint) for wrong, hint in WRONG_UPDATES),
        Mistake(
            "Rounded to whole passes: the last pass may be cut short, so return the float.",
            lambda answer, expected, *case: answer in (math.floor(expected), math.ceil(expected)),
        ),
    ],
)


# Paired gain -------------------------------------------------------------------------------------


def paired_gain(a, b):
    return _around(a - b)


def _around(gains, critical=None, ddof=1, root=True):
    """Mean of the gains with its interval; the other arguments are for mistakes."""
    count = len(gains)
    critical = stats.t.ppf(0.975, count - 1) if critical is None else critical
    half = critical * np.std(gains, ddof=ddof) / (math.sqrt(count) if root else 1)
    return float(np.mean(gains)), float(np.mean(gains) - half), float(np.mean(gains) + half)


def _unpaired(equal_var):
    def solution(a, b):
        test = stats.ttest_ind(a, b, equal_var=equal_var)
        return a.mean() - b.mean(), *test.confidence_interval(0.95)

    return solution


def _win_rates(rng):
    """What a seed does to both is larger than what sets them apart."""
    count = int(rng.integers(5, 9))
    seeds = pd.Index(rng.choice(100, count, replace=False), name="seed")
    both = rng.uniform(0.4, 0.7) + rng.normal(0, 0.06, count)
    gain = rng.choice([-1, 1]) * rng.uniform(0.02, 0.06) + rng.normal(0, 0.015, count)
    order = rng.permutation(count)
    return pd.Series(both + gain, seeds), pd.Series(both[order], seeds[order])


UNPAIRED = (
    "This interval treats a and b as unrelated runs: what a seed does to both cancels in the "
    "differences a - b, so take the spread of these."
)
WRONG_GAINS = [
    (
        lambda a, b: _around(a.to_numpy() - b.to_numpy()),
        "Subtracted by position: the seeds come in another order in b. Subtract the Series "
        "themselves, which pandas aligns by seed.",
    ),
    (_unpaired(equal_var=False), UNPAIRED),
    (_unpaired(equal_var=True), UNPAIRED),
    (
        lambda a, b: _around(a - b, stats.norm.ppf(0.975)),
        "1.96 is the normal distribution's: with few seeds take Student's t with n - 1 degrees of "
        "freedom, scipy.stats.t.ppf(0.975, n - 1).",
    ),
    (
        lambda a, b: _around(a - b, stats.t.ppf(0.975, len(a))),
        "The degrees of freedom are n - 1, not n: the mean has used one.",
    ),
    (
        lambda a, b: _around(a - b, stats.t.ppf(0.95, len(a) - 1)),
        "This is a 90% interval: 95% leaves 2.5% on each side, scipy.stats.t.ppf(0.975, n - 1).",
    ),
    (
        lambda a, b: _around(a - b, ddof=0),
        "This is the standard deviation of a population (NumPy's default): divide by n - 1, "
        "with ddof=1.",
    ),
    (
        lambda a, b: _around(a - b, root=False),
        "The root of n is missing: the mean's standard error is the standard deviation / sqrt(n).",
    ),
    (
        lambda a, b: _around(a - b, critical=1),
        "This is one standard error on each side: multiply it by Student's t, "
        "scipy.stats.t.ppf(0.975, n - 1).",
    ),
    (
        lambda a, b: _around(a - b, critical=1, root=False),
        "This is one standard deviation on each side: the interval of the mean is Student's t "
        "times the standard deviation / sqrt(n).",
    ),
    (
        lambda a, b: paired_gain(b, a),
        "The sign is turned: the gain is a - b.",
    ),
    (
        lambda a, b: tuple(sorted(paired_gain(a, b))),
        "The right numbers in another order: return (value, low, high).",
    ),
]
PAIRED_GAIN = told_apart(
    name="check_paired_gain",
    arguments="a, b",
    solve=paired_gain,
    case=_win_rates,
    read=vector("three numbers: (value, low, high)"),
    wrong=WRONG_GAINS,
)


# Peak of the parabola ----------------------------------------------------------------------------


def parabola_peak(shares, win_rates):
    square, linear, _ = np.polyfit(shares, win_rates, 2)
    return float(-linear / (2 * square))


def _from_fit(rule):
    """`rule(a, b, c)` of the fitted a * share**2 + b * share + c."""
    return lambda shares, win_rates: float(rule(*np.polyfit(shares, win_rates, 2)))


def _best_fitted(shares, win_rates):
    fitted = np.polyval(np.polyfit(shares, win_rates, 2), shares)
    return float(shares[fitted.argmax()])


def _draw_curves(rng):
    """Two with a run for each share, and one with several, in any order."""
    wrong_solutions = [wrong for wrong, _ in WRONG_PEAKS]
    draws = [lambda rng, runs=runs: _curve(rng, runs) for runs in (1, 3, 1)]
    return [telling(rng, draw, parabola_peak, *wrong_solutions) for draw in draws]


def _curve(rng, runs):
    """Runs whose parabola has its maximum between the shares, and not close to any of them."""
    while True:
        shares = rng.permutation(np.repeat(np.linspace(0.1, 1, int(rng.integers(7, 11))), runs))
        shares = np.sort(shares) if runs == 1 else shares
        win_rates = rng.uniform(0.55, 0.7) + rng.normal(0, 0.012, len(shares))
        win_rates -= rng.uniform(0.3, 0.6) * (shares - rng.uniform(0.4, 0.8)) ** 2
        square, linear, _ = np.polyfit(shares, win_rates, 2)
        peak = -linear / (2 * square)
        if square < 0 and 0.2 < peak < 0.9 and np.abs(shares - peak).min() > 0.01:
            return shares, win_rates


WRONG_PEAKS = [
    (
        lambda shares, win_rates: shares[win_rates.argmax()],
        "This is the share of the best run, which is best by luck, too: fit a parabola to all "
        "runs, and take its maximum.",
    ),
    (
        _best_fitted,
        "This is the observed share with the best fitted win rate: the maximum of the "
        "parabola lies between them, at -b / (2a).",
    ),
    (
        _from_fit(lambda a, b, c: b / (2 * a)),
        "The sign is turned: the derivative 2 a share + b is zero at -b / (2a).",
    ),
    (
        _from_fit(lambda a, b, c: -b / a),
        "The 2 is missing: the derivative 2 a share + b is zero at -b / (2a).",
    ),
    (
        _from_fit(lambda a, b, c: -b / 2 * a),
        "-b / 2 * a multiplies by a: put the denominator in brackets, -b / (2 * a).",
    ),
    (
        _from_fit(lambda a, b, c: c - b * b / (4 * a)),
        "This is the win rate at the maximum: return the share at which it is reached.",
    ),
    (
        lambda shares, win_rates: win_rates.max(),
        "This is the best observed win rate: return the share at the parabola's maximum.",
    ),
    (
        lambda shares, win_rates: win_rates.argmax(),
        "This is the position of the best run: return the share at the parabola's maximum.",
    ),
    (
        _from_fit(lambda a, b, c: -b / (2 * c)),
        "The coefficients are in another order: np.polyfit gives the highest power first, "
        "Polynomial and polynomial.polyfit give it last.",
    ),
    (
        lambda *case: 100 * parabola_peak(*case),
        "This is in per cent: return a share from 0 to 1.",
    ),
]
PARABOLA_PEAK = Exercise(
    name="check_parabola_peak",
    arguments="shares, win_rates",
    solve=parabola_peak,
    draw=_draw_curves,
    read=number("one number: the share at the maximum"),
    mistakes=[
        *(answers_like(wrong, hint) for wrong, hint in WRONG_PEAKS),
        Mistake(
            "Close, as by looking on a grid: the exact maximum is at -b / (2a).",
            lambda answer, expected, *case: abs(answer - expected) < 0.01,
        ),
    ],
)
