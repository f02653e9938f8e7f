"""Exercises of lesson 07: the slope of a loss, derivatives of many losses along one direction,
the influence of a pair whose label is flipped, and the linear datamodeling score."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from nbkit.course.exercises.checking import Result, check, number, told_apart, vector


def check_loss_slope(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the derivative of each pair's DPO loss along a direction, an array.

    Arrays [pairs]: the derivatives of the chosen and rejected log-probs along the direction (nats
    per unit of it), and the implicit margins (beta x nats: beta is in them).

    Args:
        learner: yours, `learner(chosen_slope, rejected_slope, margin, beta)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_loss_slope(
        ...     lambda chosen_slope, rejected_slope, margin, beta: ...
        ... )
        check_loss_slope: not attempted
    """
    return check(LOSS_SLOPE, learner, seed)


def check_central_difference(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the derivative of each pair's loss along a direction by a central difference, an
    array [pairs].

    `losses(theta)` scores all pairs at once: parameters [n] -> losses [pairs]. The two points are
    theta + h direction and theta - h direction; the direction's length is not 1.

    Args:
        learner: yours, `learner(losses, theta, direction, h)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_central_difference(lambda losses, theta, direction, h: ...)
        check_central_difference: not attempted
    """
    return check(CENTRAL_DIFFERENCE, learner, seed)


def check_flipped_influence(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: what the influence of each pair would be with chosen and rejected exchanged, at the
    same parameters, an array.

    Arrays [pairs]: the influence and the implicit margin (beta x nats) as labelled.

    Args:
        learner: yours, `learner(influence, margin)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_flipped_influence(lambda influence, margin: ...)
        check_flipped_influence: not attempted
    """
    return check(FLIPPED_INFLUENCE, learner, seed)


def check_datamodeling_score(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the linear datamodeling score, a float (arXiv 2303.14186, section 2.3).

    `influence` is an array [pairs]; `subsets` a list of lists of positions in it, of different
    sizes; `falls` an array [subsets]: by how much the validation loss fell in training on each.
    The score is Spearman's rank correlation of the summed influences with the falls.

    Args:
        learner: yours, `learner(influence, subsets, falls)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_datamodeling_score(lambda influence, subsets, falls: ...)
        check_datamodeling_score: not attempted
    """
    return check(DATAMODELING_SCORE, learner, seed)


# The slope of a loss -----------------------------------------------------------------------------


def loss_slope(chosen_slope, rejected_slope, margin, beta):
    return -special.expit(-margin) * beta * (chosen_slope - rejected_slope)


def _slopes(rng):
    count = int(rng.integers(4, 9))
    chosen, rejected = rng.normal(0, 20, (2, count))
    return chosen, rejected, rng.normal(0.5, 1.5, count), float(rng.choice([0.1, 0.5, 2.0]))


WRONG_SLOPES = [
    (
        lambda c, r, m, beta: special.expit(-m) * beta * (c - r),
        "The sign is turned: where the margin grows along the direction, the loss falls.",
    ),
    (
        lambda c, r, m, beta: -special.expit(m) * beta * (c - r),
        "The weight is sigmoid(-m), not sigmoid(m): a pair on the wrong side pulls most.",
    ),
    (
        lambda c, r, m, beta: -special.expit(-m) * (c - r),
        "Beta is missing: the margin is beta times the log-probs, so its derivative is, too.",
    ),
    (
        lambda c, r, m, beta: -special.expit(-beta * m) * beta * (c - r),
        "Beta is in the margin already: it stands outside of the sigmoid only.",
    ),
    (
        lambda c, r, m, beta: -special.expit(-m) * beta * (c + r),
        "The margin is a difference: subtract the rejected log-prob's slope.",
    ),
    (
        lambda c, r, m, beta: beta * (c - r),
        "This is the margin's slope. The loss is -log sigmoid(margin): by the chain rule its "
        "derivative by the margin, -sigmoid(-margin), comes in front.",
    ),
    (
        lambda c, r, m, beta: loss_slope(c, r, m, beta).mean(keepdims=True),
        "This is the mean over the pairs: return one slope for each.",
    ),
]
LOSS_SLOPE = told_apart(
    name="check_loss_slope",
    arguments="chosen_slope, rejected_slope, margin, beta",
    solve=loss_slope,
    case=_slopes,
    read=vector("one number for each pair"),
    wrong=WRONG_SLOPES,
)


# Along one direction -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Losses:
    """DPO losses of pairs whose margins bend a little with the parameters."""

    slopes: np.ndarray  # [pairs, parameters]

    def __call__(self, theta):
        margin = self.slopes @ np.asarray(theta, float)
        return -special.log_expit(margin + 0.3 * margin**2)


def central_difference(losses, theta, direction, h):
    return (losses(theta + h * direction) - losses(theta - h * direction)) / (2 * h)


def _direction(rng):
    pairs, parameters = (int(count) for count in rng.integers(4, 8, 2))
    theta, direction = rng.normal(0, 0.5, (2, parameters))
    return Losses(rng.normal(0, 1, (pairs, parameters))), theta, direction, 0.1


def _length(direction):
    return np.linalg.norm(direction)


WRONG_DIFFERENCES = [
    (
        lambda losses, theta, v, h: (losses(theta + h * v) - losses(theta)) / h,
        "This is a forward difference, with an error of order h: step to both sides.",
    ),
    (
        lambda losses, theta, v, h: (losses(theta) - losses(theta - h * v)) / h,
        "This is a backward difference, with an error of order h: step to both sides.",
    ),
    (
        lambda losses, theta, v, h: (losses(theta + h * v) - losses(theta - h * v)) / h,
        "Twice too large: the two points are 2h apart.",
    ),
    (
        lambda losses, theta, v, h: (losses(theta - h * v) - losses(theta + h * v)) / (2 * h),
        "The sign is turned: ahead minus behind.",
    ),
    (
        lambda losses, theta, v, h: losses(theta + h * v) - losses(theta - h * v),
        "This is the change: divide by the distance of the two points, 2h.",
    ),
    (
        lambda losses, theta, v, h: central_difference(losses, theta, v / _length(v), h),
        "This is the derivative along a direction of length 1. Here its length belongs to it: "
        "the influence of a pair is its loss's derivative along the validation gradient itself.",
    ),
    (
        lambda losses, theta, v, h: central_difference(losses, theta, v, h) / _length(v),
        "Do not divide by the direction's length: the step is h times the direction.",
    ),
    (
        lambda losses, theta, v, h: central_difference(losses, theta, np.ones_like(v), h),
        "The direction plays no part: move each parameter by h times its entry.",
    ),
]
CENTRAL_DIFFERENCE = told_apart(
    name="check_central_difference",
    arguments="losses, theta, direction, h",
    solve=central_difference,
    case=_direction,
    read=vector("one number for each pair"),
    wrong=WRONG_DIFFERENCES,
)


# The other label ---------------------------------------------------------------------------------


def flipped_influence(influence, margin):
    return -influence * np.exp(margin)


def _influences(rng):
    count = int(rng.integers(4, 9))
    return rng.normal(0, 10, count), rng.normal(0.5, 1.5, count)


WRONG_FLIPS = [
    (
        lambda influence, margin: -influence,
        "The sign turns, but the weight in the gradient changes, too: sigmoid(-m) becomes "
        "sigmoid(m).",
    ),
    (
        lambda influence, margin: -influence * np.exp(-margin),
        "Upside down: divide by the old weight, sigmoid(-m), and multiply by the new one.",
    ),
    (
        lambda influence, margin: influence * np.exp(margin),
        "The size is right, but the margin's derivative turns its sign with the label.",
    ),
    (
        lambda influence, margin: -influence * special.expit(margin),
        "The new weight, sigmoid(m), is there, but the old one, sigmoid(-m), still is in the "
        "influence: divide by it.",
    ),
    (
        lambda influence, margin: -influence / special.expit(-margin),
        "The old weight is divided out, but the new one, sigmoid(m), is missing.",
    ),
]
FLIPPED_INFLUENCE = told_apart(
    name="check_flipped_influence",
    arguments="influence, margin",
    solve=flipped_influence,
    case=_influences,
    read=vector("one number for each pair"),
    wrong=WRONG_FLIPS,
)


# Linear datamodeling score -----------------------------------------------------------------------


def datamodeling_score(influence, subsets, falls):
    return _ranks(_sums(influence, subsets), falls)


def _sums(influence, subsets):
    return np.array([influence[list(subset)].sum() for subset in subsets])


def _means(influence, subsets):
    return np.array([influence[list(subset)].mean() for subset in subsets])


def _ranks(a, b):
    return float(stats.spearmanr(a, b).statistic)


def _subsets(rng):
    influence = rng.normal(1, 3, 60)
    subsets = [
        sorted(int(i) for i in rng.choice(60, size, replace=False))
        for size in rng.integers(10, 50, 12)
    ]
    noise = rng.normal(0, 10, len(subsets))
    return influence, subsets, 0.01 * (_sums(influence, subsets) + noise)


WRONG_DATAMODELS = [
    (
        lambda influence, subsets, falls: -datamodeling_score(influence, subsets, falls),
        "The sign is turned: a positive influence predicts that the validation loss falls.",
    ),
    (
        lambda influence, subsets, falls: _ranks(_means(influence, subsets), falls),
        "These are mean influences: what a subset does is the sum of what its pairs do, and the "
        "subsets differ in size.",
    ),
    (
        lambda influence, subsets, falls: float(
            np.corrcoef(_sums(influence, subsets), falls)[0, 1]
        ),
        "This is Pearson's correlation: the score compares ranks, so that no learning rate is "
        "needed to bring the two to one scale.",
    ),
    (
        lambda influence, subsets, falls: float(
            stats.kendalltau(_sums(influence, subsets), falls).statistic
        ),
        "This is Kendall's rank correlation: the score is Spearman's.",
    ),
    (
        lambda influence, subsets, falls: _ranks([len(subset) for subset in subsets], falls),
        "This is the correlation with the sizes of the subsets: sum the influences of their pairs.",
    ),
]
DATAMODELING_SCORE = told_apart(
    name="check_datamodeling_score",
    arguments="influence, subsets, falls",
    solve=datamodeling_score,
    case=_subsets,
    read=number("one number: the rank correlation"),
    wrong=WRONG_DATAMODELS,
)
