"""Right and wrong solutions of the exercises of lesson 07, for test_exercises.py."""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Right solutions, written differently ------------------------------------------------------------


def slope_by_autograd(chosen_slope, rejected_slope, margin, beta):
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    line = torch.tensor(margin) + t * beta * torch.tensor(chosen_slope - rejected_slope)
    losses = -F.logsigmoid(line)
    return [torch.autograd.grad(loss, t, retain_graph=True)[0].item() for loss in losses]


def slope_with_a_loop(chosen_slope, rejected_slope, margin, beta):
    return pd.Series(
        [beta * (r - c) / (1 + np.exp(m)) for c, r, m in zip(chosen_slope, rejected_slope, margin)]
    )


def difference_in_two_steps(losses, theta, direction, h):
    ahead = losses([t + h * d for t, d in zip(theta, direction)])
    behind = losses([t - h * d for t, d in zip(theta, direction)])
    return [(a - b) / 2 / h for a, b in zip(ahead, behind)]


def difference_as_a_mean(losses, theta, direction, h):
    forward = (losses(theta + h * direction) - losses(theta)) / h
    backward = (losses(theta) - losses(theta - h * direction)) / h
    return torch.tensor((forward + backward) / 2)


def flipped_by_its_weights(influence, margin):
    return -influence / sigmoid(-margin) * sigmoid(margin)


def score_with_ranks(influence, subsets, falls):
    predicted = [sum(influence[i] for i in subset) for subset in subsets]
    return np.corrcoef(stats.rankdata(predicted), stats.rankdata(falls))[0, 1]


def score_with_pandas(influence, subsets, falls):
    members = np.array([np.isin(np.arange(len(influence)), subset) for subset in subsets])
    return pd.Series(members @ influence).corr(pd.Series(falls), method="spearman")


RIGHT = {
    "check_loss_slope": [slope_by_autograd, slope_with_a_loop],
    "check_central_difference": [difference_in_two_steps, difference_as_a_mean],
    "check_flipped_influence": [
        flipped_by_its_weights, lambda i, m: [-a * np.exp(b) for a, b in zip(i, m)]],
    "check_datamodeling_score": [score_with_ranks, score_with_pandas],
}  # fmt: skip


# Usual mistakes ----------------------------------------------------------------------------------


def sums(influence, subsets):
    return [influence[subset].sum() for subset in subsets]


def rank(a, b):
    return stats.spearmanr(a, b)[0]


def along(losses, theta, v, h):
    return (losses(theta + h * v) - losses(theta - h * v)) / (2 * h)


def unit(v):
    return v / (v @ v) ** 0.5


WRONG = {
    "check_loss_slope": [
        (lambda c, r, m, b: sigmoid(-m) * b * (c - r), "The sign is turned"),
        (lambda c, r, m, b: -sigmoid(m) * b * (c - r), "The weight is sigmoid(-m)"),
        (lambda c, r, m, b: -sigmoid(-m) * (c - r), "Beta is missing"),
        (lambda c, r, m, b: -sigmoid(-b * m) * b * (c - r), "Beta is in the margin already"),
        (lambda c, r, m, b: -sigmoid(-m) * b * (c + r), "The margin is a difference"),
        (lambda c, r, m, b: b * c - b * r, "This is the margin's slope"),
        (lambda c, r, m, b: [np.mean(slope_with_a_loop(c, r, m, b))], "the mean over the pairs"),
        (lambda c, r, m, b: c, "Wrong in 3 of 3 cases"),
        (lambda c, r, m, b: np.mean(c), "expected one number for each pair"),
    ],
    "check_central_difference": [
        (lambda f, t, v, h: (f(t + h * v) - f(t)) / h, "This is a forward difference"),
        (lambda f, t, v, h: (f(t) - f(t - h * v)) / h, "This is a backward difference"),
        (lambda f, t, v, h: 2 * along(f, t, v, h), "Twice too large"),
        (lambda f, t, v, h: along(f, t, -v, h), "The sign is turned"),
        (lambda f, t, v, h: f(t + h * v) - f(t - h * v), "This is the change"),
        (lambda f, t, v, h: along(f, t, unit(v), h), "along a direction of length 1"),
        (lambda f, t, v, h: along(f, t, v, h) / np.sqrt(v @ v), "Do not divide by"),
        (lambda f, t, v, h: (f(t + h) - f(t - h)) / (2 * h), "The direction plays no part"),
        (lambda f, t, v, h: f(t), "Wrong in 3 of 3 cases"),
        (lambda f, t, v, h: along(f, t, v, h).sum(), "expected one number for each pair"),
    ],
    "check_flipped_influence": [
        (lambda i, m: -i, "The sign turns, but the weight"),
        (lambda i, m: -i / np.exp(m), "Upside down"),
        (lambda i, m: i * np.exp(m), "turns its sign with the label"),
        (lambda i, m: -i * sigmoid(m), "still is in the influence"),
        (lambda i, m: -i * (1 + np.exp(m)), "The old weight is divided out"),
        (lambda i, m: 1 / i, "Wrong in 3 of 3 cases"),
        (lambda i, m: float(i[0]), "expected one number for each pair"),
    ],
    "check_datamodeling_score": [
        (lambda i, s, f: -rank(sums(i, s), f), "The sign is turned"),
        (lambda i, s, f: rank([i[k].mean() for k in s], f), "These are mean influences"),
        (lambda i, s, f: np.corrcoef(sums(i, s), f)[0, 1], "This is Pearson's correlation"),
        (lambda i, s, f: stats.kendalltau(sums(i, s), f)[0], "This is Kendall's"),
        (lambda i, s, f: rank(list(map(len, s)), f), "the sizes of the subsets"),
        (lambda i, s, f: 0.5, "Wrong in 3 of 3 cases"),
        (lambda i, s, f: f, "expected one number: the rank correlation"),
    ],
}  # fmt: skip
