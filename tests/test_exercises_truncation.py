"""Right and wrong solutions of the exercises of lesson 08, for test_exercises.py."""

import numpy as np
import pandas as pd
import torch
from scipy import stats

from nbkit import overlap, scores, select

SIDES = ["chosen_logp", "rejected_logp"]


def by_quantiles(influence, low, high):
    start, end = np.quantile(influence, [low, high])
    return (influence > start) & (influence < end)


def by_the_library(influence, low, high):
    return scores.truncated(pd.Series(influence, map(str, range(len(influence)))), low, high)


def by_ids(influence, low, high):
    ids = [f"{place:03}" for place in range(len(influence))]
    kept = set(select.middle(pd.Series(influence, ids), low, high))
    return [id_ in kept for id_ in ids]


def difference_by_the_library(theta, val, ref, beta):
    tables = [pd.DataFrame(logps, columns=SIDES) for logps in (theta, val, ref)]
    tables = [table.assign(chosen_tokens=1, rejected_tokens=1) for table in tables]
    return scores.loss_difference(*tables, beta)


def with_torch(theta, val, ref, beta):
    def loss(logps):
        ratios = torch.tensor(logps) - torch.tensor(ref)
        return -torch.nn.functional.logsigmoid(beta * (ratios[:, 0] - ratios[:, 1]))

    return loss(theta) - loss(val)


def expected_count(n, first, second):
    return stats.hypergeom(n, first, second).mean() / min(first, second)


def larger_share(n, first, second):
    return first / n if first > second else second / n


def by_sets(small, large, again):
    one, two, three = (set(np.flatnonzero(band)) for band in (small, large, again))
    return (len(one ^ two) - len(two ^ three)) / len(small)


def by_comparing(small, large, again):
    return np.mean(small != large) - np.mean(again != large)


RIGHT = {
    "check_truncation": [by_quantiles, by_the_library, by_ids],
    "check_loss_difference": [difference_by_the_library, with_torch],
    "check_overlap_by_chance": [expected_count, larger_share],
    "check_change_of_sides": [by_sets, by_comparing],
}


def by_places(order, low, high):
    return (order >= round(low * len(order))) & (order < round(high * len(order)))


def by_range(i, low, high):
    width = i.max() - i.min()
    return (i > i.min() + low * width) & (i < i.min() + high * width)


def margin(logps, ref, beta):
    return beta * ((logps - ref)[:, 0] - (logps - ref)[:, 1])


def loss(m):
    return np.log(1 + np.exp(-m))


def probability(m):
    return 1 / (1 + np.exp(-m))


def jaccard(n, a, b):
    return (a * b / n) / (a + b - a * b / n)


WRONG = {
    "check_truncation": [
        (lambda i, low, high: ~by_quantiles(i, low, high), "outside the band"),
        (lambda i, low, high: i < np.quantile(i, high), "Only the highest are left out"),
        (lambda i, low, high: i > np.quantile(i, low), "Only the lowest are left out"),
        (lambda i, low, high: by_quantiles(abs(i), low, high), "lost its sign"),
        (by_range, "shares of the range of values"),
        (lambda i, low, high: by_places(np.argsort(i), low, high), "not their ranks"),
        (lambda i, low, high: by_places(np.arange(len(i)), low, high), "as they stand in"),
        (lambda i, low, high: i > 0, "Wrong in 3 of 3 cases"),
        (lambda i, low, high: i, "returned other values than True and False"),
    ],
    "check_loss_difference": [
        (lambda t, v, r, b: loss(margin(v, r, b)) - loss(margin(t, r, b)), "The sign is turned"),
        (lambda t, v, r, b: margin(v, r, b) - margin(t, r, b), "a difference of margins"),
        (lambda t, v, r, b: loss(margin(t, r, 1)) - loss(margin(v, r, 1)), "Beta is missing"),
        (lambda t, v, r, b: loss(margin(t, 0, b)) - loss(margin(v, 0, b)), "reference is missing"),
        (lambda t, v, r, b: loss(-margin(t, r, b)) - loss(-margin(v, r, b)), "are exchanged"),
        (
            lambda t, v, r, b: probability(margin(t, r, b)) - probability(margin(v, r, b)),
            "a difference of probabilities",
        ),
        (lambda t, v, r, b: loss(margin(t, v, b)), "theta_val for a reference"),
        (lambda t, v, r, b: loss(margin(t, r, b)), "Wrong in 3 of 3 cases"),
        (lambda t, v, r, b: with_torch(t, v, r, b).mean(), "expected one number for each pair"),
    ],
    "check_overlap_by_chance": [
        (lambda n, a, b: min(a, b) / n, "This is the smaller share"),
        (lambda n, a, b: a / n * b / n, "share of all n pairs that are in both"),
        (lambda n, a, b: a * b / n, "the number of shared pairs"),
        (jaccard, "as the Jaccard index does"),
        (lambda n, a, b: min(a, b) / max(a, b), "n must play a part"),
        (lambda n, a, b: 0.5 * max(a, b) / n, "Wrong in 4 of 4 cases"),
        (lambda n, a, b: [a / n, b / n], "expected one number: the expected overlap"),
    ],
    "check_change_of_sides": [
        (lambda s, a, b: np.mean(s != a), "The control is missing"),
        (lambda s, a, b: np.mean(a & ~s) - np.mean(a & ~b), "those that come in"),
        (lambda s, a, b: np.mean(s & ~a) - np.mean(b & ~a), "those that leave it"),
        (lambda s, a, b: np.mean(s & a) - np.mean(a & b), "pairs that are in both bands"),
        (lambda s, a, b: np.mean(a != b) - np.mean(s != a), "The sign is turned"),
        (lambda s, a, b: np.mean(s != a) - np.mean(s != b), "two runs of the same policy"),
        (lambda s, a, b: np.sum(s != a) - np.sum(a != b), "divide by how many there are"),
        (lambda s, a, b: overlap([1], [1]) - np.mean(s), "Wrong in 3 of 3 cases"),
        (lambda s, a, b: s != a, "a difference of shares"),
    ],
}
