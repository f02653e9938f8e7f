"""Exercises of lesson 10: pairs from sampled answers, evolved prompts worth asking, and the round
in which the judge was hacked."""

from collections.abc import Callable

import numpy as np

from nbkit.course.exercises.checking import (
    Exercise,
    Result,
    WrongKind,
    answers_like,
    check,
    mask,
    number,
    telling,
    told_apart,
    vector,
)


def check_best_against_worst(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: explicit margins of the pairs that the answers give, in order, an array.

    `rewards` is an array [prompts, k] of the judge's rewards. Each prompt's best answer against
    its worst is a pair; a prompt whose answers all have the same reward gives none.

    Args:
        learner: yours, `learner(rewards)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_best_against_worst(lambda rewards: ...)
        check_best_against_worst: not attempted
    """
    return check(BEST_AGAINST_WORST, learner, seed)


def check_worth_asking(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: which evolved prompts to ask, bools.

    Three lists of texts; `children[i]` was evolved from `parents[i]`. A child is asked if it is
    not among `known`, no earlier child has the same text, and neither of the two texts has more
    than `longest_ratio` times the characters of the other.

    Args:
        learner: yours, `learner(parents, children, known, longest_ratio)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_worth_asking(
        ...     lambda parents, children, known, longest_ratio: ...
        ... )
        check_worth_asking: not attempted
    """
    return check(WORTH_ASKING, learner, seed)


def check_hacked_round(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the first round in which the judge was hacked, a whole number.

    Two lists, one number a round, from round 0 on: mean reward by the judge that it learns from,
    and by the truth. Hacked: since the round before, the first rose and the second fell. 0 if
    there is no such round.

    Args:
        learner: yours, `learner(judged, true)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_hacked_round(lambda judged, true: ...)
        check_hacked_round: not attempted
    """
    return check(HACKED_ROUND, learner, seed)


# Pairs from sampled answers ----------------------------------------------------------------------


def best_against_worst(rewards):
    margins = rewards.max(axis=1) - rewards.min(axis=1)
    return margins[margins > 0]


def _rewards(rng):
    rewards = rng.choice([0, 0.25, 0.5, 2, 2.25, 2.7], (int(rng.integers(6, 9)), 4))
    rewards[rng.integers(len(rewards))] = 2.0  # all answers to this prompt are alike
    return (rewards,)


def _nonzero(margins):
    return margins[margins != 0]


WRONG_PAIRS = [
    (
        lambda r: r.max(axis=1) - r.min(axis=1),
        "A prompt whose answers all have the same reward gives no pair: leave its 0 out.",
    ),
    (
        lambda r: _nonzero(r.max(axis=0) - r.min(axis=0)),
        "Maximum and minimum are taken over the prompts: axis 1 holds the answers to one prompt.",
    ),
    (
        lambda r: _nonzero(r.max(axis=1) - r.mean(axis=1)),
        "This is the best against the average: the rejected response is the worst.",
    ),
    (
        lambda r: _nonzero(np.sort(r, axis=1)[:, -1] - np.sort(r, axis=1)[:, -2]),
        "This is the best against the second best: the rejected response is the worst.",
    ),
    (
        lambda r: _nonzero(r[:, 0] - r[:, -1]),
        "This is the first answer against the last: sort by reward, or take max and min.",
    ),
    (
        lambda r: -best_against_worst(r),
        "The sign is turned: chosen minus rejected, so best minus worst.",
    ),
    (
        lambda r: best_against_worst(r).mean(),
        "This is the mean of the margins: return all of them.",
    ),
]


def _read_margins(answer):
    """One number is read, too, so that the mean of the margins gets its own hint."""
    try:
        return number("one margin for each pair")(answer)
    except WrongKind:
        return vector("one margin for each pair")(answer)


BEST_AGAINST_WORST = told_apart(
    name="check_best_against_worst",
    arguments="rewards",
    solve=best_against_worst,
    case=_rewards,
    read=_read_margins,
    wrong=WRONG_PAIRS,
)


# Evolved prompts worth asking --------------------------------------------------------------------


def worth_asking(parents, children, known, longest_ratio):
    return _asked(parents, children, known, longest_ratio, _ratio)


def _ratio(parent, child):
    shorter, longer = sorted([len(parent), len(child)])
    return longer / shorter


def _asked(parents, children, known, longest, ratio, repeats=True):
    """One bool a child; without `repeats`, two equal children are both asked."""
    asked, seen = [], set(known)
    for parent, child in zip(parents, children):
        asked.append(child not in seen and ratio(parent, child) <= longest)
        if repeats:
            seen.add(child)
    return np.array(asked)


def _prompts(rng):
    """Some children too long, too short, exactly at the ratio, repeated, or asked before."""
    longest = int(rng.choice([2, 4]))
    words = "pet toy cake flag coin of mia leo ana sam zoe max".split()

    def text(count):
        return " ".join(str(word) for word in rng.choice(words, count))

    parents = [text(int(rng.integers(2, 9))) for _ in range(10)]
    children = [text(int(rng.integers(1, 9))) for _ in parents]
    known = [*parents, children[0]]
    children[4] = children[3]  # repeated
    parents[5], children[5] = "toy ", "toy " * longest  # longer by exactly the ratio
    children[6] = f"{parents[6]}?" + "!" * len(parents[6])  # hardly more than twice as long
    order = rng.permutation(len(parents))
    parents, children = ([texts[i] for i in order] for texts in (parents, children))
    return parents, children, known, longest


WRONG_ASKED = [
    (
        lambda p, c, k, r: ~worth_asking(p, c, k, r),
        "Turned round: True is for the children to ask.",
    ),
    (
        lambda p, c, k, r: _asked(p, c, k, r, lambda a, b: len(b) / len(a)),
        "Children that are much shorter than their parents are asked, too: the ratio is that of "
        "the longer to the shorter, whichever it is.",
    ),
    (
        lambda p, c, k, r: _asked(p, c, k, r, lambda a, b: len(a) / len(b)),
        "Children that are much longer than their parents are asked, too: the ratio is that of "
        "the longer to the shorter, whichever it is.",
    ),
    (
        lambda p, c, k, r: _asked(p, c, k, r, lambda a, b: _ratio(a.split(), b.split())),
        "The lengths are counted in words: len(text) counts characters.",
    ),
    (
        lambda p, c, k, r: _asked(p, c, k, r, _ratio, repeats=False),
        "A child that an earlier child repeats is asked twice: a child counts as known from then "
        "on.",
    ),
    (
        lambda p, c, k, r: _asked(p, c, [], r, _ratio),
        "Prompts that are among the known ones are asked again.",
    ),
    (
        lambda p, c, k, r: _asked(p, c, k, np.nextafter(r, 0), _ratio),
        "A child that is longer by exactly the ratio is left out: only more than that is too much.",
    ),
    (
        lambda p, c, k, r: np.array([_ratio(a, b) <= r for a, b in zip(p, c)]),
        "Only the lengths are looked at: prompts that were asked before are asked again.",
    ),
    (
        lambda p, c, k, r: _asked(p, c, k, np.inf, _ratio),
        "The lengths are not looked at.",
    ),
]
WORTH_ASKING = told_apart(
    name="check_worth_asking",
    arguments="parents, children, known, longest_ratio",
    solve=worth_asking,
    case=_prompts,
    read=mask("one bool for each child"),
    wrong=WRONG_ASKED,
)


# The round in which it went wrong ----------------------------------------------------------------


def hacked_round(judged, true):
    return _first(_hacked(judged, true))


def _hacked(judged, true):
    """One bool for each round from round 1 on."""
    return (np.diff(judged) > 0) & (np.diff(true) < 0)


def _first(rounds: np.ndarray) -> int:
    return int(np.argmax(rounds)) + 1 if np.any(rounds) else 0


def _last(rounds: np.ndarray) -> int:
    return int(np.flatnonzero(rounds)[-1]) + 1 if np.any(rounds) else 0


def _draw_rounds(rng):
    """Two self-plays that are hacked, and one that is not."""
    wrong_solutions = [wrong for wrong, _ in WRONG_ROUNDS]
    hacked = [telling(rng, _rounds, hacked_round, *wrong_solutions) for _ in range(2)]
    return [*hacked, _never(rng)]


def _rounds(rng):
    judged = np.cumsum(rng.choice([-0.1, 0.2, 0.3], 9))
    true = np.cumsum(rng.choice([-0.2, 0.1, 0.15], 9))
    return judged.round(2).tolist(), (1 + true).round(2).tolist()


def _never(rng):
    steps = rng.choice([-0.2, 0.1, 0.15], 9)
    return np.cumsum(steps).round(2).tolist(), (1 + np.cumsum(2 * steps)).round(2).tolist()


WRONG_ROUNDS = [
    (
        lambda judged, true: hacked_round(judged, true) - 1,
        "Off by one: the difference of rounds 0 and 1 belongs to round 1.",
    ),
    (
        lambda judged, true: _first(np.diff(true) < 0),
        "This is where the truth first fell: the judge must have risen in the same round.",
    ),
    (
        lambda judged, true: _first(np.diff(judged) > 0),
        "This is where the judge first rose: the truth must have fallen in the same round.",
    ),
    (
        lambda judged, true: hacked_round(true, judged),
        "The two are exchanged: the judge rises, the truth falls.",
    ),
    (
        lambda judged, true: _first(
            (np.subtract(judged, judged[0]) > 0)[1:] & (np.subtract(true, true[0]) < 0)[1:]
        ),
        "Compared with round 0: compare each round with the one before it.",
    ),
    (
        lambda judged, true: _last(_hacked(judged, true)),
        "This is the last such round: the first one is asked for.",
    ),
]
HACKED_ROUND = Exercise(
    name="check_hacked_round",
    arguments="judged, true",
    solve=hacked_round,
    draw=_draw_rounds,
    read=number("one whole number: a round"),
    mistakes=[answers_like(wrong, hint) for wrong, hint in WRONG_ROUNDS],
)
