"""Exercises of lesson 03: the learned step, and the Jaccard index by chance."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from nbkit.course.exercises.checking import (
    Exercise,
    Mistake,
    Result,
    answers_like,
    check,
    number,
    same,
    vector,
)


def check_learned_step(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the learned step of each pair, [pairs].

    `margins` is a DataFrame [steps, pairs] of implicit margins: its index the training steps,
    ascending, its columns the pair ids. The learned step is the first step after which the margin
    is above the threshold at every later one (arXiv 2502.09650): the last step at which it is not
    above, the first step if it always is, infinite if it is not above at the end. The answer is a
    Series or a dict by pair id, or an array or a list in the order of the columns.

    Args:
        learner: yours, `learner(margins, threshold)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_learned_step(lambda margins, threshold: ...)
        check_learned_step: not attempted
    """
    return check(LEARNED_STEP, learner, seed)


def check_jaccard_by_chance(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the Jaccard index, 0 to 1, to expect of two random selections.

    Each keeps `share` (0 to 1) of the same large pool, independently of the other. The index is
    the number of pairs in both selections divided by the number in either.

    Args:
        learner: yours, `learner(share)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_jaccard_by_chance(lambda share: ...)
        check_jaccard_by_chance: not attempted
    """
    return check(JACCARD_BY_CHANCE, learner, seed)


# Learned step ------------------------------------------------------------------------------------


def learned_step(margins, threshold):
    return _last_not_above(margins > threshold).where(margins.iloc[-1] > threshold, np.inf)


def _last_not_above(above):
    """Label of the last row that is False, for each column; the first label if all are True."""
    steps = above.index.to_numpy()
    return above.apply(lambda column: steps[~column][-1] if not column.all() else steps[0])


def _first_above(margins, threshold):
    return (margins > threshold).idxmax()


def _before_first_above(margins, threshold):
    first = margins.index.get_indexer(_first_above(margins, threshold))
    return margins.index.to_numpy()[np.maximum(first - 1, 0)]


def _step_after(margins, threshold):
    steps = margins.index.to_numpy()
    last = margins.index.get_indexer(_last_not_above(margins > threshold))
    return steps[np.minimum(last + 1, len(steps) - 1)]


def _position(margins, threshold):
    return _last_not_above((margins > threshold).reset_index(drop=True))


def _last_above(margins, threshold):
    return _last_not_above(margins <= threshold)


def _draw_margins(rng):
    return [_margins(rng, first_step) for first_step in (0, 1, 1)]


def _margins(rng, first_step):
    """Two pairs of each kind; always more steps than pairs, so that their numbers differ."""
    length = int(rng.integers(13, 17))
    steps = np.cumsum([first_step, *rng.integers(2, 30, length - 1)])
    threshold = float(rng.uniform(0.3, 0.6))
    last = rng.integers(2, length - 3, (10, 1))  # position of the last step not above
    above = np.arange(length) > last
    forgotten, touching, lost, never = (slice(start, start + 2) for start in (2, 4, 6, 8))
    above[forgotten, 1] = True  # above for a step, long before it is learned
    above[lost] = ~above[lost]
    above[never] = False
    distance = rng.uniform(0.1, 1.5, above.shape)
    margins = threshold * (1 + np.where(above, distance, -distance))
    margins[touching] = np.where(np.arange(length) == last[touching], threshold, margins[touching])
    if first_step == 0:
        margins[:, 0] = 0  # the policy is the reference
    else:  # only then can a pair be above at every step
        margins = np.vstack([margins, threshold * rng.uniform(1.1, 2, (2, length))])
    # Ids ascend, so that sorting an answer by id puts it in the order of the columns.
    ids = [f"p{number:02d}" for number in range(len(margins))]
    index = pd.Index(steps, name="step")
    return pd.DataFrame(rng.permutation(margins).T, index, ids), threshold


def _read_steps(answer):
    if isinstance(answer, dict):
        answer = pd.Series(answer, dtype=object)
    if isinstance(answer, pd.Series):
        answer = answer.infer_objects()
        if all(isinstance(label, str) for label in answer.index):
            answer = answer.sort_index()
    return _read_vector(answer)


_read_vector = vector("one step for each pair, float('inf') if it is never learned: shape [pairs]")


def _instead(wrong_solution, hint):
    """The mistake, whatever was answered for pairs that are never, or always, above."""

    def matches(answer, expected, margins, threshold):
        if answer.shape != expected.shape:
            return False
        usual = _usual(expected, margins, threshold)
        wrong = np.asarray(wrong_solution(margins, threshold), dtype=float)
        return same(answer[usual], wrong[usual])

    return Mistake(hint, matches)


def _right_if_usual(rule, hint):
    """Right for the other pairs; `rule(never, margins)` holds for answers for the never learned."""

    def matches(answer, expected, margins, threshold):
        if answer.shape != expected.shape:
            return False
        usual = _usual(expected, margins, threshold)
        never = answer[np.isinf(expected)]
        return same(answer[usual], expected[usual]) and bool(np.all(rule(never, margins)))

    return Mistake(hint, matches)


def _usual(expected, margins, threshold):
    return np.isfinite(expected) & ~(margins > threshold).all().to_numpy()


FIRST_ABOVE = (
    "This goes by the first time that the margin rises above the threshold, but a pair can be "
    "forgotten again: look for the last step at which it is not above."
)
LEARNED_STEP = Exercise(
    name="check_learned_step",
    arguments="margins, threshold",
    solve=learned_step,
    draw=_draw_margins,
    read=_read_steps,
    mistakes=[
        Mistake(
            "This has a value for each step: expected one for each pair, so go along the steps "
            "(axis 0).",
            lambda answer, expected, margins, threshold: answer.shape == margins.index.shape,
        ),
        _instead(_first_above, FIRST_ABOVE),
        _instead(_before_first_above, FIRST_ABOVE),
        _instead(
            _step_after,
            "One step late: this is the first step from which on the margin is above. The learned "
            "step is the observed one before it, the last at which it is not above.",
        ),
        _instead(
            _position,
            "This is the position of the step: return the step itself, from the index of margins.",
        ),
        _instead(
            lambda margins, threshold: _last_not_above(margins >= threshold),
            "A margin that equals the threshold is not above it: > instead of >=.",
        ),
        _instead(
            lambda margins, threshold: _last_not_above(margins > 0),
            "The margins were compared with 0: compare them with the threshold.",
        ),
        _instead(
            _last_above,
            "This is the last step at which the margin is above the threshold: look for the last "
            "one at which it is not.",
        ),
        _right_if_usual(
            lambda never, margins: np.isnan(never),
            "NaN for pairs that are never learned: their learned step is infinite "
            "(float('inf')), so that they rank last.",
        ),
        _right_if_usual(
            lambda never, margins: never == margins.index[-1],
            "A pair whose margin is not above the threshold at the last step is never learned: "
            "its learned step is infinite, not the last step.",
        ),
        _right_if_usual(
            lambda never, margins: np.isfinite(never),
            "A pair that is never learned, or is lost again at the end, got a finite step: its "
            "learned step is infinite (float('inf')).",
        ),
        _right_if_usual(
            lambda never, margins: never == np.inf,
            "A pair whose margin is above the threshold at every step is learned at the first "
            "step of the index.",
        ),
    ],
)


# Jaccard index by chance -------------------------------------------------------------------------


def jaccard_by_chance(share):
    return share / (2 - share)


def _draw_shares(rng):
    return [(float(rng.uniform(*ends)),) for ends in ((0.15, 0.3), (0.4, 0.48), (0.7, 0.85))]


JACCARD_BY_CHANCE = Exercise(
    name="check_jaccard_by_chance",
    arguments="share",
    solve=jaccard_by_chance,
    draw=_draw_shares,
    read=number("one number from 0 to 1"),
    mistakes=[
        answers_like(
            lambda share: share**2,
            "This is the share of the pool that is in both: divide it by the share in either.",
        ),
        answers_like(
            lambda share: share,
            "This is the share of one selection that is in the other: divide by the pairs in "
            "either selection, not by those of one.",
        ),
        answers_like(
            lambda share: share * (2 - share),
            "This is the share of the pool that is in either selection: it is the denominator.",
        ),
        answers_like(
            lambda share: share / 2,
            "The pairs in both are counted twice in the denominator: in either are 2 * share "
            "minus share squared.",
        ),
        answers_like(
            lambda share: 1 - jaccard_by_chance(share),
            "This is the Jaccard distance: return the index, 1 for equal selections.",
        ),
        answers_like(
            lambda share: 100 * jaccard_by_chance(share),
            "This is in per cent: return a number from 0 to 1.",
        ),
        answers_like(
            lambda share: 1 / 3,
            "This holds for halves only: use share.",
        ),
        Mistake(
            "Close, as by drawing selections: give the exact value, from the expected shares of "
            "the pool that are in both and in either.",
            lambda answer, expected, share: abs(answer - expected) < 0.02,
        ),
    ],
)
