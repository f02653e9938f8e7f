"""Exercises of lesson 03: the leak of a split, and the validation loss."""

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
    told_apart,
    vector,
)


def check_leak(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the share of pairs, 0 to 1, whose group is in the other half, too.

    Two Series indexed by pair id: the half that a pair is in, "A" or "B" (as `nbkit.folds`
    names them), and its group, such as the fact it asks about. A pair is scored by a model trained
    on the other half: if that model has seen its group, the score leaks.

    Args:
        learner: yours, `learner(folds, groups)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_leak(lambda folds, groups: ...)
        check_leak: not attempted
    """
    return check(LEAK, learner, seed)


def check_validation_loss(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the validation loss of each pair, [pairs], in nats.

    Two arrays [models, pairs]: each pair's implicit margin under each reference model, and
    whether that model was trained on that pair. The answer is the mean of the DPO loss,
    -log sigmoid(margin), over the models that have not seen the pair; finite even at a margin of
    -1000.

    Args:
        learner: yours, `learner(margins, seen)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_validation_loss(lambda margins, seen: ...)
        check_validation_loss: not attempted
    """
    return check(VALIDATION_LOSS, learner, seed)


# Leak --------------------------------------------------------------------------------------------


def leak(folds, groups):
    return float(_crosses(folds, groups).mean())


def _crosses(folds, groups):
    """Whether each pair's group is in both halves."""
    return folds.groupby(groups).transform("nunique") == 2


def _share_of_groups(folds, groups):
    return float((folds.groupby(groups).nunique() == 2).mean())


def _repeated_in_own_half(folds, groups):
    return float(pd.DataFrame({"half": folds, "group": groups}).duplicated(keep=False).mean())


def _of_half(half):
    """Leaks of one half only, as a share of all pairs."""
    return lambda folds, groups: float((_crosses(folds, groups) & (folds == half)).mean())


def _random_halves(rng):
    facts = [f"{what} of {who}" for what in ("pet", "home", "job") for who in ("mia", "leo", "ana")]
    facts = rng.permutation(facts)[: rng.integers(7, 10)]
    groups = rng.permutation(np.repeat(facts, rng.integers(1, 5, len(facts))))
    ids = [f"p{number:02d}" for number in rng.permutation(len(groups))]
    folds = np.array(["A", "B"])[rng.permutation(len(groups)) % 2]
    return pd.Series(folds, ids, name="half"), pd.Series(groups, ids, name="group")


ONE_HALF = (
    "Only the pairs of one half were counted: a pair of either half leaks if its group is in the "
    "other."
)
WRONG_LEAKS = [
    (
        _share_of_groups,
        "This is the share of groups: return the share of pairs, as a large group leaks into the "
        "scores of more pairs.",
    ),
    (
        lambda folds, groups: float(groups.duplicated(keep=False).mean()),
        "Every pair with a repeated group was counted: it leaks only if the group is in the other "
        "half, too.",
    ),
    (
        _repeated_in_own_half,
        "Pairs whose group is repeated in their own half were counted: the model that scores a "
        "pair was trained on the other half.",
    ),
    (
        lambda folds, groups: float(groups.duplicated().mean()),
        "duplicated() leaves out the first pair of each group, and does not look at the halves.",
    ),
    (_of_half("A"), ONE_HALF),
    (_of_half("B"), ONE_HALF),
    (
        lambda folds, groups: 1 - leak(folds, groups),
        "This is the share of pairs without a leak: count those whose group is in both halves.",
    ),
    (
        lambda folds, groups: leak(folds, groups) * len(folds),
        "This is the number of pairs: divide by how many there are.",
    ),
    (
        lambda folds, groups: 100 * leak(folds, groups),
        "This is in per cent: return a share from 0 to 1.",
    ),
]
LEAK = told_apart(
    name="check_leak",
    arguments="folds, groups",
    solve=leak,
    case=_random_halves,
    read=number("one number from 0 to 1: the share of pairs"),
    wrong=WRONG_LEAKS,
)


# Validation loss ---------------------------------------------------------------------------------


def dpo_loss(margins):
    return np.logaddexp(0, -margins)


def validation_loss(margins, seen):
    return _mean(dpo_loss(margins), ~seen)


def _mean(values, over):
    """Mean of each column over the rows where `over` is True."""
    return np.where(over, values, 0).sum(0) / over.sum(0)


def _in_the_order_of_models(margins, seen):
    return dpo_loss(margins)[~seen].reshape(-1, margins.shape[1]).mean(0)


def _draw_reference_models(rng):
    cases = [_reference_models(rng, *size) for size in ((2, 6), (3, 8), (3, 10))]
    margins, seen = cases[2]
    pair = int(rng.integers(10))  # one model's margin is so low that exp overflows
    margins[seen[:, pair].argmin(), pair] -= 1000
    return [cases[i] for i in rng.permutation(3)]


def _reference_models(rng, seeds, pairs):
    """Two models for each seed, each trained on one half; what they have seen they do better."""
    halves = [rng.permutation(pairs) % 2 for _ in range(seeds)]
    seen = np.array([half == trained_on for half in halves for trained_on in (0, 1)])
    margins = rng.normal(0.2, 0.5, pairs) + rng.normal(0, 1, seen.shape) + 1.5 * seen
    return margins, seen


def _overflows(answer, expected, margins, seen):
    if answer.shape != expected.shape:
        return False
    ordinary = margins.min(0) > -700
    return same(answer[ordinary], expected[ordinary]) and not np.isfinite(answer).all()


VALIDATION_LOSS = Exercise(
    name="check_validation_loss",
    arguments="margins, seen",
    solve=validation_loss,
    draw=_draw_reference_models,
    read=vector("one loss for each pair: shape [pairs]"),
    mistakes=[
        Mistake(
            "The loss is not finite at a margin of -1000, where sigmoid is 0 and exp overflows: "
            "use np.logaddexp(0, -margins).",
            _overflows,
        ),
        Mistake(
            "NaN: average only over the models that have not seen the pair (np.nanmean leaves NaN "
            "out, np.mean does not).",
            lambda answer, expected, *case: bool(np.isnan(answer).any()),
        ),
        Mistake(
            "This has a value for each model: average over the models (axis 0).",
            lambda answer, expected, margins, seen: len(answer) == len(margins),
        ),
        answers_like(
            lambda margins, seen: dpo_loss(margins).mean(0),
            "The mean is over all models: a model that was trained on the pair says how well it "
            "remembers it. Use only those with seen False.",
        ),
        answers_like(
            lambda margins, seen: _mean(dpo_loss(margins), seen),
            "The mean is over the models that were trained on the pair: use the others (~seen).",
        ),
        answers_like(
            lambda margins, seen: dpo_loss(_mean(margins, ~seen)),
            "The margins are averaged before the loss: average the losses instead.",
        ),
        answers_like(
            lambda margins, seen: -np.log(_mean(np.exp(-dpo_loss(margins)), ~seen)),
            "The probabilities sigmoid(margin) are averaged before the log: average the losses.",
        ),
        answers_like(
            lambda margins, seen: _mean(dpo_loss(-margins), ~seen),
            "The sign of the margin is turned: the loss falls as the margin grows.",
        ),
        answers_like(
            lambda margins, seen: -validation_loss(margins, seen),
            "The sign of the loss is turned: it is minus log sigmoid(margin), so positive.",
        ),
        answers_like(
            lambda margins, seen: _mean(margins, ~seen),
            "This is the mean margin: the loss of a pair is -log sigmoid(margin).",
        ),
        answers_like(
            lambda margins, seen: (dpo_loss(margins) * ~seen).sum(0),
            "This is the sum over the models: return the mean.",
        ),
        answers_like(
            lambda margins, seen: (dpo_loss(margins) * ~seen).mean(0),
            "The sum is divided by the number of all models: divide by the number that have not "
            "seen the pair.",
        ),
        answers_like(
            _in_the_order_of_models,
            "The pairs are mixed up: values[~seen] is in the order of the models, and each has "
            "other pairs. Keep the shape [models, pairs] until you average.",
        ),
    ],
)
