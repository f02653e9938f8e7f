"""Exercises of lesson 00: selecting pairs by a score, and the win rate."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from nbkit.course.exercises.checking import (
    Exercise,
    Mistake,
    Result,
    WrongKind,
    answers_like,
    check,
    number,
)


def check_easiest(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the ids of the easiest half of the pairs, the easiest first.

    `scores` is a Series of difficulties indexed by pair id (lower = easier). A pair whose score
    is NaN was not scored: it is not selected, and does not count in the half.

    Args:
        learner: yours, `learner(scores)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_easiest(lambda scores: ...)
        check_easiest: not attempted
    """
    return check(EASIEST, learner, seed)


def check_win_rate(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: how often the policy beats the baseline, 0 to 1.

    Two lists of rewards, one for each prompt; a tie counts half a win.

    Args:
        learner: yours, `learner(rewards, baseline_rewards)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_win_rate(lambda rewards, baseline_rewards: ...)
        check_win_rate: not attempted
    """
    return check(WIN_RATE, learner, seed)


# Easiest half ------------------------------------------------------------------------------------


def easiest(scores):
    ordered = scores.dropna().sort_values()
    return list(ordered.index[: len(ordered) // 2])


def _draw_scores(rng):
    return [(_scores(rng, scored, missing),) for scored, missing in ((8, 0), (10, 4), (20, 6))]


def _scores(rng, scored, missing):
    values = np.concatenate([rng.permutation(scored) + rng.uniform(0.1, 0.9), [np.nan] * missing])
    ids = [f"p{i:02d}" for i in rng.permutation(len(values))]
    scores = pd.Series(values, index=ids, name="validation_loss")
    return scores.sample(frac=1, random_state=rng.integers(2**31))


def _read_ids(answer):
    if isinstance(answer, (set, frozenset)):
        raise WrongKind(
            "Your function returned a set, which has no order; expected a list of ids, "
            "the easiest first."
        )
    if isinstance(answer, pd.Series) and answer.dtype.kind in "fb":
        what = "a mask" if answer.dtype.kind == "b" else "scores"
        raise WrongKind(
            f"Your function returned {what}; expected the ids, which are the index of "
            "the scores that you keep (.index)."
        )
    if not isinstance(answer, (list, tuple, pd.Index, pd.Series, np.ndarray)):
        raise WrongKind(
            f"Your function returned a {type(answer).__name__}; expected a list of "
            "ids, the easiest first."
        )
    if not all(isinstance(pair_id, str) for pair_id in answer):
        other = next(pair_id for pair_id in answer if not isinstance(pair_id, str))
        raise WrongKind(
            f"Your function returned {other!r:.40} among the ids; expected only ids, "
            "which are the index of the scores."
        )
    return list(answer)


def _has_unscored(answer, expected, scores):
    return bool(set(answer) & set(scores.index[scores.isna()]))


def _counts_unscored(answer, expected, scores):
    return scores.isna().any() and len(answer) in (len(scores) // 2, (len(scores) + 1) // 2)


def _is_hardest(answer, expected, scores):
    return set(answer) == set(scores.dropna().nlargest(len(expected)).index)


EASIEST = Exercise(
    name="check_easiest",
    arguments="scores",
    solve=easiest,
    draw=_draw_scores,
    read=_read_ids,
    mistakes=[
        Mistake("These are the hardest half: a lower score means an easier pair.", _is_hardest),
        Mistake(
            "The right pairs in another order: a selection is ordered, the easiest first.",
            lambda answer, expected, scores: sorted(answer) == sorted(expected),
        ),
        Mistake(
            "A pair whose score is NaN was kept. It was never scored: drop it first.",
            _has_unscored,
        ),
        Mistake(
            "Too many pairs: take half of the pairs that have a score (NaN are not counted).",
            _counts_unscored,
        ),
        Mistake(
            "Wrong number of pairs: keep half of them (n // 2).",
            lambda answer, expected, scores: len(answer) != len(expected),
        ),
    ],
)


# Win rate ----------------------------------------------------------------------------------------


def win_rate(rewards, baseline_rewards):
    wins, ties, losses = _count(rewards, baseline_rewards)
    return (wins + 0.5 * ties) / (wins + ties + losses)


def _count(rewards, baseline_rewards):
    pairs = list(zip(rewards, baseline_rewards, strict=True))
    wins = sum(mine > other for mine, other in pairs)
    ties = sum(mine == other for mine, other in pairs)
    return wins, ties, len(pairs) - wins - ties


def _from_counts(rule):
    return lambda rewards, baseline_rewards: rule(*_count(rewards, baseline_rewards))


def _draw_rewards(rng):
    cases = []
    # Even numbers are added, so that wins and losses still differ in the first and last case, and
    # no mistake gives the right number by chance.
    for wins, ties, losses in ((7, 4, 2), (3, 5, 9), (6, 0, 3)):
        wins, losses = (count + 2 * int(rng.integers(8)) for count in (wins, losses))
        won, lost = rng.uniform(0.2, 2, wins), rng.uniform(-2, -0.2, losses)
        gaps = rng.permutation(np.concatenate([won, np.zeros(ties), lost]))
        baseline = rng.integers(-2, 3, len(gaps)).astype(float)
        cases.append(((baseline + gaps).tolist(), baseline.tolist()))
    return cases


WIN_RATE = Exercise(
    name="check_win_rate",
    arguments="rewards, baseline_rewards",
    solve=win_rate,
    draw=_draw_rewards,
    read=number("one number from 0 to 1 (compare the two lists prompt by prompt)"),
    mistakes=[
        answers_like(
            _from_counts(lambda wins, ties, losses: wins / (wins + ties + losses)),
            "Ties were counted as losses: a tie is half a win.",
        ),
        answers_like(
            _from_counts(lambda wins, ties, losses: (wins + ties) / (wins + ties + losses)),
            "Ties were counted as wins: a tie is half a win.",
        ),
        answers_like(
            _from_counts(lambda wins, ties, losses: wins / (wins + losses)),
            "Ties were left out: a tie is half a win, and counts as a comparison.",
        ),
        answers_like(
            lambda *case: 100 * win_rate(*case),
            "This is in per cent: return a share from 0 to 1.",
        ),
        answers_like(
            lambda *case: 1 - win_rate(*case),
            "This is the loss rate: count where the policy's reward is higher than the baseline's.",
        ),
        answers_like(
            _from_counts(lambda wins, ties, losses: wins + 0.5 * ties),
            "This is the number of wins: divide by the number of prompts.",
        ),
        answers_like(
            _from_counts(lambda wins, ties, losses: (wins - losses) / (wins + ties + losses)),
            "This is wins minus losses: the win rate is 0.5, not 0, when both are equally good.",
        ),
    ],
)
