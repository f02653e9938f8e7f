"""Right and wrong solutions of the exercises of lesson 06, for test_exercises.py."""

import numpy as np
import pandas as pd
import torch
from scipy import stats

from nbkit import scores


def by_the_library(explicit, implicit, weight):
    return scores.alignment_potential(pd.Series(explicit), pd.Series(implicit), weight)


def with_scipy(explicit, implicit, weight):
    reached = stats.zscore([abs(x) for x in implicit])
    return torch.tensor(stats.zscore(explicit) - weight * reached)


def with_line(first, second):
    slope, _ = np.polyfit([first[0], second[0]], [first[1], second[1]], 1)
    return slope


def weight_by_the_library(explicit, implicit):
    return scores.residual_weight(pd.Series(explicit), pd.Series(implicit))


def with_regression(explicit, implicit):
    slope = stats.linregress(stats.zscore(abs(implicit)), stats.zscore(explicit)).slope
    return slope if slope > 0 else 0.0


def rise_over_run(first, second):
    (x, y), (far, high) = second, first
    return (high - y) / (far - x)


RIGHT = {
    "check_alignment_potential": [by_the_library, with_scipy],
    "check_tie_weight": [with_line, rise_over_run],
    "check_residual_weight": [weight_by_the_library, with_regression],
}


def z(values, ddof=0):
    return (values - np.mean(values)) / np.std(values, ddof=ddof)


def raw_slope(of, on):
    return max(0, stats.linregress(on, of).slope)


WRONG = {
    "check_alignment_potential": [
        (lambda e, i, w: z(e) - w * z(i), "The implicit margin keeps its sign"),
        (lambda e, i, w: z(e) - w * abs(z(i)), "The size is taken after standardising"),
        (lambda e, i, w: z(abs(e)) - w * z(abs(i)), "This is the rule with bars"),
        (lambda e, i, w: z(abs(e)) - w * z(i), "The bars are around the wrong margin"),
        (lambda e, i, w: e - w * abs(i), "This is a gap in mixed units"),
        (lambda e, i, w: abs(e) - w * abs(i), "This is the plain gap, with bars"),
        (lambda e, i, w: e / e.std() - w * abs(i) / abs(i).std(), "The mean is not subtracted"),
        (lambda e, i, w: z(e) + w * z(abs(i)), "Plus instead of minus"),
        (lambda e, i, w: z(e) - z(abs(i)), "The weight has no effect"),
        (lambda e, i, w: w * z(e) - z(abs(i)), "The weight stands at the explicit margin"),
        (lambda e, i, w: z(e) - z(w * abs(i)), "The weight has no effect"),
        (lambda e, i, w: z(e, 1) - w * z(abs(i), 1), "divided by n - 1"),
        (lambda e, i, w: z(i) - w * z(abs(e)), "Explicit and implicit are exchanged"),
        (lambda e, i, w: z(e), "Wrong in 3 of 3 cases"),
        (lambda e, i, w: (z(e) - w * z(abs(i))).mean(), "expected one number for each pair"),
    ],
    "check_tie_weight": [
        (lambda a, b: (a[0] - b[0]) / (a[1] - b[1]), "Upside down"),
        (lambda a, b: (b[1] - a[1]) / (a[0] - b[0]), "The sign is turned"),
        (lambda a, b: (b[0] - a[0]) / (a[1] - b[1]), "stands upright on the line"),
        (lambda a, b: (a[1] - a[0]) - (b[1] - b[0]), "the difference of their potentials"),
        (lambda a, b: (a[1] + b[1]) / (a[0] + b[0]), "Sums instead of differences"),
        (lambda a, b: a[1] / a[0], "the potential of the first is zero"),
        (lambda a, b: 1.0, "Wrong in 3 of 3 cases"),
        (lambda a, b: np.subtract(a, b), "expected one number: the weight"),
    ],
    "check_residual_weight": [
        (lambda e, i: max(0, np.corrcoef(e, i)[0, 1]), "The implicit margin keeps its sign"),
        (lambda e, i: max(0, np.corrcoef(abs(e), abs(i))[0, 1]), "margin lost its sign"),
        (lambda e, i: raw_slope(e, abs(i)), "This is the slope in the margins' own units"),
        (lambda e, i: raw_slope(abs(i), e), "This is the slope the other way round"),
        (lambda e, i: max(0, stats.spearmanr(e, abs(i))[0]), "the correlation of ranks"),
        (lambda e, i: with_regression(e, i) ** 2, "not squared"),
        (lambda e, i: np.corrcoef(e, abs(i))[0, 1], "a weight is never below 0"),
        (lambda e, i: abs(np.corrcoef(e, abs(i))[0, 1]), "not the correlation's size"),
        (lambda e, i: 1.0, "Wrong in 3 of 3 cases"),
        (lambda e, i: np.corrcoef(e, abs(i)), "expected one number: the weight"),
    ],
}
