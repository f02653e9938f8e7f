"""Exercises of lesson 06: alignment potential, the weight at which two pairs tie, and the weight
that needs no sweep."""

from collections.abc import Callable

import numpy as np
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


def check_alignment_potential(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: alignment potential of each pair, an array.

    Two arrays [pairs] of margins with their signs: `z(explicit) - weight * z(|implicit|)`, where z
    subtracts the mean and divides by the standard deviation (n, not n - 1) over the pairs
    (arXiv 2503.01864).

    Args:
        learner: yours, `learner(explicit, implicit, weight)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_alignment_potential(lambda explicit, implicit, weight: ...)
        check_alignment_potential: not attempted
    """
    return check(ALIGNMENT_POTENTIAL, learner, seed)


def check_tie_weight(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the weight at which two pairs have the same potential, a float.

    Each pair is a point `(z(|implicit|), z(explicit))`. The first is larger in both.

    Args:
        learner: yours, `learner(first, second)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_tie_weight(lambda first, second: ...)
        check_tie_weight: not attempted
    """
    return check(TIE_WEIGHT, learner, seed)


def check_residual_weight(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the weight that needs no training run, a float.

    Two arrays [pairs] of margins with their signs. The weight is the slope of the least-squares
    line from `z(|implicit|)` to `z(explicit)`, and 0 if that is negative: with it, alignment
    potential is uncorrelated with the size of the implicit margin.

    Args:
        learner: yours, `learner(explicit, implicit)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_residual_weight(lambda explicit, implicit: ...)
        check_residual_weight: not attempted
    """
    return check(RESIDUAL_WEIGHT, learner, seed)


# Alignment potential -----------------------------------------------------------------------------


def alignment_potential(explicit, implicit, weight):
    return _z(explicit) - weight * _z(np.abs(implicit))


def _z(values, ddof=0):
    return (values - values.mean()) / values.std(ddof=ddof)


def _margins(rng):
    count = int(rng.integers(6, 12))
    explicit, implicit = rng.normal(0.5, 2, count), 0.3 * rng.standard_t(4, count)
    return explicit, implicit, float(rng.choice([0.5, 1.5, 2.5]))


WRONG_POTENTIALS = [
    (
        lambda e, i, w: _z(e) - w * _z(i),
        "The implicit margin keeps its sign: a policy that prefers the rejected response is "
        "decided, too. Take its size, np.abs.",
    ),
    (
        lambda e, i, w: _z(e) - w * np.abs(_z(i)),
        "The size is taken after standardising: np.abs first, then subtract the mean.",
    ),
    (
        lambda e, i, w: _z(np.abs(e)) - w * _z(np.abs(i)),
        "This is the rule with bars around the explicit margin, too: the script has none there, so "
        "that pairs whose label the judge contradicts come last.",
    ),
    (
        lambda e, i, w: _z(np.abs(e)) - w * _z(i),
        "The bars are around the wrong margin: the implicit one enters with its size, the explicit "
        "one with its sign.",
    ),
    (
        lambda e, i, w: e - w * np.abs(i),
        "This is a gap in mixed units: standardise both first.",
    ),
    (
        lambda e, i, w: np.abs(e) - w * np.abs(i),
        "This is the plain gap, with bars and in mixed units: standardise both, and keep the "
        "explicit margin's sign.",
    ),
    (
        lambda e, i, w: e / e.std() - w * np.abs(i) / np.abs(i).std(),
        "The mean is not subtracted.",
    ),
    (
        lambda e, i, w: _z(e) + w * _z(np.abs(i)),
        "Plus instead of minus: a decided policy makes the gap smaller.",
    ),
    (
        lambda e, i, w: _z(e) - _z(np.abs(i)),
        "The weight has no effect: it is missing, or inside the z-score, where every factor "
        "cancels. It multiplies the standardised implicit margin.",
    ),
    (
        lambda e, i, w: w * _z(e) - _z(np.abs(i)),
        "The weight stands at the explicit margin: it is the price of the implicit one.",
    ),
    (
        lambda e, i, w: _z(e, 1) - w * _z(np.abs(i), 1),
        "The same ranking, but divided by n - 1 (the default of pandas): use std(ddof=0).",
    ),
    (
        lambda e, i, w: _z(i) - w * _z(np.abs(e)),
        "Explicit and implicit are exchanged: the judge's margin is the target.",
    ),
]
ALIGNMENT_POTENTIAL = told_apart(
    name="check_alignment_potential",
    arguments="explicit, implicit, weight",
    solve=alignment_potential,
    case=_margins,
    read=vector("one number for each pair"),
    wrong=WRONG_POTENTIALS,
)


# The weight of a tie -----------------------------------------------------------------------------


def tie_weight(first, second):
    return (first[1] - second[1]) / (first[0] - second[0])


def _points(rng):
    x, y = (float(value) for value in rng.uniform(-1, 1, 2))
    further, higher = (float(value) for value in rng.uniform(0.3, 2, 2))
    return (x + further, y + higher), (x, y)


WRONG_TIES = [
    (
        lambda first, second: 1 / tie_weight(first, second),
        "Upside down: the weight is what one step of x (the policy) costs in y (the judge).",
    ),
    (
        lambda first, second: -tie_weight(first, second),
        "The sign is turned: M_AP = y - w x is the same for both, so w x rises as y does.",
    ),
    (
        lambda first, second: -1 / tie_weight(first, second),
        "This is the slope of the direction that stands upright on the line of equal potential.",
    ),
    (
        lambda first, second: (first[1] - second[1]) - (first[0] - second[0]),
        "This is the difference of their potentials with w = 1: which w makes it zero?",
    ),
    (
        lambda first, second: (first[1] + second[1]) / (first[0] + second[0]),
        "Sums instead of differences: subtract the two potentials, and set that to zero.",
    ),
    (
        lambda first, second: first[1] / first[0],
        "With this weight the potential of the first is zero: it must equal that of the second.",
    ),
]
TIE_WEIGHT = told_apart(
    name="check_tie_weight",
    arguments="first, second",
    solve=tie_weight,
    case=_points,
    read=number("one number: the weight"),
    wrong=WRONG_TIES,
)


# Automatic weight --------------------------------------------------------------------------------


def residual_weight(explicit, implicit):
    return max(0.0, _size_correlation(explicit, implicit))


def _correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


def _size_correlation(explicit, implicit):
    """Of the explicit margin with the size of the implicit one."""
    return _correlation(explicit, np.abs(implicit))


def _draw_related(rng):
    """Two cases in which they rise together, and one in which they do not."""
    wrong_solutions = [wrong for wrong, _ in WRONG_WEIGHTS]
    rising = [telling(rng, _related, residual_weight, *wrong_solutions) for _ in range(2)]
    return [*rising, telling(rng, _opposed, residual_weight, _size_correlation)]


def _related(rng, slope=0.6):
    count = int(rng.integers(15, 30))
    size = rng.gamma(2, 1, count)
    explicit = slope * (size - 2) + rng.normal(0, 0.6, count)
    return explicit, 0.3 * rng.choice([-1, 1], count, p=[0.3, 0.7]) * size


def _opposed(rng):
    return _related(rng, slope=-0.6)


def _slope(of, on):
    return float(np.cov(of, on)[0, 1] / np.var(on, ddof=1))


WRONG_WEIGHTS = [
    (
        lambda e, i: max(0.0, _correlation(e, i)),
        "The implicit margin keeps its sign: correlate its size, which is what the score has.",
    ),
    (
        lambda e, i: max(0.0, _correlation(np.abs(e), np.abs(i))),
        "The explicit margin lost its sign: the script's score has no bars around it.",
    ),
    (
        lambda e, i: max(0.0, _slope(e, np.abs(i))),
        "This is the slope in the margins' own units: the weight multiplies z-scores.",
    ),
    (
        lambda e, i: max(0.0, _slope(np.abs(i), e)),
        "This is the slope the other way round, in the margins' own units: the weight multiplies "
        "z-scores.",
    ),
    (
        lambda e, i: max(0.0, float(stats.spearmanr(e, np.abs(i)).statistic)),
        "This is the correlation of ranks: the least-squares slope is Pearson's.",
    ),
    (
        lambda e, i: max(0.0, _size_correlation(e, i) ** 2),
        "This is the share of variance explained: the slope is not squared.",
    ),
]
RESIDUAL_WEIGHT = Exercise(
    name="check_residual_weight",
    arguments="explicit, implicit",
    solve=residual_weight,
    draw=_draw_related,
    read=number("one number: the weight"),
    mistakes=[
        *(answers_like(wrong, hint) for wrong, hint in WRONG_WEIGHTS),
        Mistake(
            "Right where the correlation is positive: a weight is never below 0.",
            lambda answer, expected, *case: expected == 0 and answer < 0,
        ),
        Mistake(
            "Right where the correlation is positive: where it is negative the weight is 0, not "
            "the correlation's size.",
            lambda answer, expected, *case: expected == 0 and answer > 0,
        ),
    ],
)
