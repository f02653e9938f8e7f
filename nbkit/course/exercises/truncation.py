"""Exercises of lesson 08: the band of a truncated score, LossDiff, the overlap of two selections
by chance, and the share of pairs that change sides."""

from collections.abc import Callable

import numpy as np

from nbkit.course.exercises.checking import (
    Exercise,
    Result,
    answers_like,
    check,
    mask,
    number,
    telling,
    told_apart,
    vector,
)


def check_truncation(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: whether each pair lies in the band, a mask.

    An array [pairs] without ties, and two shares of the pairs: the lowest `low` is left out, and
    so is what lies above the lowest `high` (arXiv 2510.13212). Both are whole numbers of pairs.

    Args:
        learner: yours, `learner(influence, low, high)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_truncation(lambda influence, low, high: ...)
        check_truncation: not attempted
    """
    return check(TRUNCATION, learner, seed)


def check_loss_difference(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: LossDiff of each pair, an array of nats.

    Three arrays [pairs, 2] of log-probs, chosen and rejected (nats, summed over tokens), under the
    policy, under the policy after an epoch on the validation set, and under the reference:
    DPO loss under the first minus DPO loss under the second (arXiv 2510.13212).

    Args:
        learner: yours, `learner(theta, val, ref, beta)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_loss_difference(lambda theta, val, ref, beta: ...)
        check_loss_difference: not attempted
    """
    return check(LOSS_DIFFERENCE, learner, seed)


def check_overlap_by_chance(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the overlap coefficient to expect by chance, a float.

    Two selections of `first` and of `second` pairs are drawn from the same n, at random and
    without regard to each other. Their overlap coefficient: shared pairs over the smaller size.

    Args:
        learner: yours, `learner(n, first, second)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_overlap_by_chance(lambda n, first, second: ...)
        check_overlap_by_chance: not attempted
    """
    return check(OVERLAP_BY_CHANCE, learner, seed)


def check_change_of_sides(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: share of pairs that change sides, beyond the seed's.

    Three boolean arrays [pairs]: whether a pair is in the band of a small policy, of a large one,
    and of the large one after another run. The share that is in the band of one of small and
    large but not of both, minus the same share for large and large again.

    Args:
        learner: yours, `learner(small, large, large_again)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_change_of_sides(lambda small, large, large_again: ...)
        check_change_of_sides: not attempted
    """
    return check(CHANGE_OF_SIDES, learner, seed)


# Truncation --------------------------------------------------------------------------------------


def truncation(influence, low, high):
    rank = _ranks(influence)  # 0: the lowest
    return (rank >= round(low * len(rank))) & (rank < round(high * len(rank)))


def _ranks(values):
    return np.argsort(np.argsort(values))


def _influences(rng):
    """Long tails; shares that are whole numbers of 20 or 40 pairs, unlike at both ends."""
    influence = rng.standard_t(2, int(rng.choice([20, 40]))) + rng.uniform(-0.5, 0.5)
    return influence, float(rng.choice([0.1, 0.15, 0.25])), float(rng.choice([0.6, 0.7, 0.8]))


def _between(values, low, high):
    """By places instead of ranks."""
    return (values >= round(low * len(values))) & (values < round(high * len(values)))


def _by_value(influence, low, high):
    share = (influence - influence.min()) / (influence.max() - influence.min())
    return (share > low) & (share < high)


WRONG_TRUNCATIONS = [
    (
        lambda i, low, high: ~truncation(i, low, high),
        "These are the pairs outside the band: TIF keeps the middle.",
    ),
    (
        lambda i, low, high: truncation(i, 0, high),
        "Only the highest are left out: the lowest go, too.",
    ),
    (
        lambda i, low, high: truncation(i, low, 1),
        "Only the lowest are left out: the highest go, too.",
    ),
    (
        lambda i, low, high: truncation(np.abs(i), low, high),
        "The influence lost its sign: pairs that hurt and pairs that help are at opposite ends.",
    ),
    (
        _by_value,
        "low and high are read as shares of the range of values: they are shares of the pairs.",
    ),
    (
        lambda i, low, high: _between(np.argsort(i), low, high),
        "np.argsort gives the places of the sorted pairs, not their ranks: take argsort of "
        "argsort, or compare with np.quantile.",
    ),
    (
        lambda i, low, high: _between(np.arange(len(i)), low, high),
        "This cuts the pairs as they stand in the array: sort by influence first.",
    ),
]
TRUNCATION = told_apart(
    name="check_truncation",
    arguments="influence, low, high",
    solve=truncation,
    case=_influences,
    read=mask("True or False (1 or 0) for each pair"),
    wrong=WRONG_TRUNCATIONS,
)


# LossDiff ----------------------------------------------------------------------------------------


def loss_difference(theta, val, ref, beta):
    return _loss(_margin(theta, ref, beta)) - _loss(_margin(val, ref, beta))


def _margin(logps, ref, beta):
    ratios = logps - ref
    return beta * (ratios[:, 0] - ratios[:, 1])


def _loss(margin):
    return np.logaddexp(0, -margin)  # -log sigmoid


def _tables(rng):
    ref = -rng.gamma(4, 2, (int(rng.integers(4, 8)), 2))
    theta = ref + rng.normal(0, 1, ref.shape)
    return theta, theta + rng.normal(0, 0.4, ref.shape), ref, float(rng.choice([0.5, 1.5, 2.0]))


def _between_losses(theta, val, ref, beta, *, first=_margin, loss=_loss):
    return loss(first(theta, ref, beta)) - loss(first(val, ref, beta))


WRONG_DIFFERENCES = [
    (
        lambda *case: -loss_difference(*case),
        "The sign is turned: positive where the epoch on the validation set lowered the loss. "
        "(The loss is minus the log of the sigmoid.)",
    ),
    (
        lambda *case: _between_losses(*case, loss=lambda margin: -margin),
        "This is a difference of margins: take the loss of each margin first, then subtract.",
    ),
    (
        lambda theta, val, ref, beta: _between_losses(theta, val, ref, 1.0),
        "Beta is missing: it multiplies the difference of the log-ratios.",
    ),
    (
        lambda theta, val, ref, beta: _between_losses(theta, val, 0 * ref, beta),
        "The reference is missing: a log-ratio is the log-prob minus the reference's.",
    ),
    (
        lambda *case: _between_losses(*case, first=lambda *some: -_margin(*some)),
        "Chosen and rejected are exchanged: the margin is the chosen log-ratio minus the rejected.",
    ),
    (
        lambda *case: _between_losses(*case, loss=lambda margin: np.exp(-_loss(margin))),
        "This is a difference of probabilities: the log is missing.",
    ),
    (
        lambda theta, val, ref, beta: _loss(_margin(theta, val, beta)),
        "This is the loss with theta_val for a reference: take two losses, each against the "
        "reference, and subtract.",
    ),
]
LOSS_DIFFERENCE = told_apart(
    name="check_loss_difference",
    arguments="theta, val, ref, beta",
    solve=loss_difference,
    case=_tables,
    read=vector("one number for each pair"),
    wrong=WRONG_DIFFERENCES,
)


# Overlap by chance -------------------------------------------------------------------------------


def overlap_by_chance(n, first, second):
    return max(first, second) / n


def _draw_sizes(rng):
    """The larger selection is now the first, now the second."""
    wrong_solutions = [wrong for wrong, _ in WRONG_OVERLAPS]
    sizes = [telling(rng, _sizes, overlap_by_chance, *wrong_solutions) for _ in range(2)]
    return [*sizes, *((n, second, first) for n, first, second in sizes)]


def _sizes(rng):
    n = int(rng.integers(50, 200))
    larger = int(rng.integers(n // 2, n - 5))
    return n, int(rng.integers(10, larger - 5)), larger


def _jaccard(n, first, second):
    shared = first * second / n
    return shared / (first + second - shared)


WRONG_OVERLAPS = [
    (
        lambda n, first, second: min(first, second) / n,
        "This is the smaller share. A pair of the smaller selection is in the larger one with "
        "which probability?",
    ),
    (
        lambda n, first, second: first * second / n**2,
        "This is the share of all n pairs that are in both: divide their number by the smaller "
        "size instead of by n.",
    ),
    (
        lambda n, first, second: first * second / n,
        "This is the number of shared pairs: divide it by the size of the smaller selection.",
    ),
    (
        _jaccard,
        "This divides by the pairs in either selection, as the Jaccard index does: the overlap "
        "coefficient divides by the smaller size.",
    ),
    (
        lambda n, first, second: min(first, second) / max(first, second),
        "This is the ratio of the sizes: n must play a part.",
    ),
]
OVERLAP_BY_CHANCE = Exercise(
    name="check_overlap_by_chance",
    arguments="n, first, second",
    solve=overlap_by_chance,
    draw=_draw_sizes,
    read=number("one number: the expected overlap coefficient"),
    mistakes=[answers_like(wrong, hint) for wrong, hint in WRONG_OVERLAPS],
)


# Change of sides ---------------------------------------------------------------------------------


def change_of_sides(small, large, large_again):
    return float((small ^ large).mean() - (large ^ large_again).mean())


def _bands(rng):
    large = rng.random(int(rng.integers(30, 50))) < 0.6
    again = large ^ (rng.random(large.size) < 0.1)
    return large ^ (rng.random(large.size) < 0.4), large, again


WRONG_CHANGES = [
    (
        lambda small, large, again: (small ^ large).mean(),
        "The control is missing: subtract the share that changes between two runs of one policy.",
    ),
    (
        lambda small, large, again: (large & ~small).mean() - (large & ~again).mean(),
        "Only pairs that leave the large policy's band are counted: those that come in changed "
        "sides, too.",
    ),
    (
        lambda small, large, again: (small & ~large).mean() - (again & ~large).mean(),
        "Only pairs that are new in the band are counted: those that leave it changed sides, too.",
    ),
    (
        lambda small, large, again: (small & large).mean() - (large & again).mean(),
        "These are pairs that are in both bands: the question is which are in one of them only.",
    ),
    (
        lambda small, large, again: -change_of_sides(small, large, again),
        "The sign is turned: small against large, minus large against large again.",
    ),
    (
        lambda small, large, again: (small ^ large).mean() - (small ^ again).mean(),
        "The control is two runs of the same policy: large against large again.",
    ),
    (
        lambda small, large, again: (small ^ large).sum() - (large ^ again).sum(),
        "This is a number of pairs: divide by how many there are.",
    ),
]
CHANGE_OF_SIDES = told_apart(
    name="check_change_of_sides",
    arguments="small, large, large_again",
    solve=change_of_sides,
    case=_bands,
    read=number("one number: a difference of shares"),
    wrong=WRONG_CHANGES,
)
