"""Right and wrong solutions of the exercises of lesson 10, for test_exercises.py."""

import numpy as np
import pandas as pd


def with_loop(rewards):
    return [max(row) - min(row) for row in rewards if max(row) != min(row)]


def with_pandas(rewards):
    spread = pd.DataFrame(rewards).agg(lambda row: row.max() - row.min(), axis=1)
    return spread[spread != 0]


def with_sets(parents, children, known, longest_ratio):
    seen, keep = set(known), []
    for parent, child in zip(parents, children):
        fits = len(child) <= longest_ratio * len(parent)
        fits = fits and len(parent) <= longest_ratio * len(child)
        keep.append(fits and child not in seen)
        seen |= {child}
    return keep


def with_lists(parents, children, known, longest_ratio):
    sizes = [sorted(map(len, both)) for both in zip(parents, children)]
    new = [text not in known + children[:number] for number, text in enumerate(children)]
    return np.array([high / low <= longest_ratio for low, high in sizes]) & new


def step_by_step(judged, true):
    for number in range(1, len(true)):
        if judged[number] > judged[number - 1] and true[number] < true[number - 1]:
            return number
    return 0


def with_diff(judged, true):
    rounds = pd.DataFrame(dict(judged=judged, true=true)).diff()
    found = rounds.index[(rounds.judged > 0) & (rounds.true < 0)]
    return min(found, default=0)


RIGHT = {
    "check_best_against_worst": [with_loop, with_pandas],
    "check_worth_asking": [with_sets, with_lists],
    "check_hacked_round": [step_by_step, with_diff],
}


def lengths(texts):
    return np.array([len(text) for text in texts])


def words(texts):
    return np.array([len(text.split()) for text in texts])


def keep(parents, children, known, low, high, count=lengths, again=False):
    """Children by bounds of child length / parent length."""
    ratio = count(children) / count(parents)
    new = [c not in known and (again or c not in children[:i]) for i, c in enumerate(children)]
    return (low <= ratio) & (ratio <= high) & np.array(new)


def rounds_where(found, last=False):
    places = [number for number, flag in enumerate(found, start=1) if flag]
    return places[-1 if last else 0] if places else 0


def both(judged, true):
    return (np.diff(judged) > 0) & (np.diff(true) < 0)


def since_the_start(judged, true):
    judged, true = np.array(judged[1:]) - judged[0], np.array(true[1:]) - true[0]
    return rounds_where((judged > 0) & (true < 0))


SPECIAL = ("The two are exchanged", "Compared with round 0", "the last such round")
WRONG = {
    "check_best_against_worst": [
        (lambda r: np.ptp(r, axis=1), "gives no pair: leave its 0 out"),
        (lambda r: [x for x in np.ptp(r, axis=0) if x], "taken over the prompts"),
        (lambda r: [max(x) - sum(x) / len(x) for x in r if np.ptp(x)], "against the average"),
        (lambda r: [x[-1] - x[-2] for x in map(sorted, r) if x[-1] > x[-2]], "second best"),
        (lambda r: [x[0] - x[-1] for x in r if x[0] != x[-1]], "the first answer against the last"),
        (lambda r: [-x for x in with_loop(r)], "The sign is turned"),
        (lambda r: np.mean(with_loop(r)), "the mean of the margins"),
        (lambda r: [x + 1 for x in with_loop(r)], "Wrong in 3 of 3 cases"),
        (lambda r: [[x] for x in with_loop(r)], "expected one margin for each pair"),
    ],
    "check_worth_asking": [
        (lambda *case: [not x for x in with_sets(*case)], "Turned round"),
        (lambda p, c, k, r: keep(p, c, k, 0, r), "much shorter than their parents"),
        (lambda p, c, k, r: keep(p, c, k, 1 / r, 1e9), "much longer than their parents"),
        (lambda p, c, k, r: keep(p, c, k, 1 / r, r, words), "counted in words"),
        (lambda p, c, k, r: keep(p, c, k, 1 / r, r, again=True), "is asked twice"),
        (lambda p, c, k, r: keep(p, c, [], 1 / r, r), "among the known ones are asked again"),
        (lambda p, c, k, r: keep(p, c, k, 1 / (r - 1e-9), r - 1e-9), "longer by exactly the ratio"),
        (lambda p, c, k, r: keep(p, c, [], 1 / r, r, again=True), "Only the lengths"),
        (lambda p, c, k, r: keep(p, c, k, 0, 1e9), "The lengths are not looked at"),
        (lambda p, c, k, r: [True] * len(c), "Wrong in 3 of 3 cases"),
        (lambda p, c, k, r: lengths(c), "expected one bool for each child"),
    ],
    "check_hacked_round": [
        (lambda judged, true: step_by_step(judged, true) - 1, "Off by one"),
        (lambda judged, true: rounds_where(np.diff(true) < 0), "where the truth first fell"),
        (lambda judged, true: rounds_where(np.diff(judged) > 0), "where the judge first rose"),
        (lambda judged, true: step_by_step(true, judged), "The two are exchanged"),
        (since_the_start, "Compared with round 0"),
        (lambda judged, true: rounds_where(both(judged, true), last=True), "the last such round"),
        (lambda judged, true: -5, "Wrong in 3 of 3 cases"),
        (lambda judged, true: both(judged, true), "expected one whole number: a round"),
    ],
}
