"""Right and wrong solutions of the exercises of lesson 05, for test_exercises.py."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy import special

from nbkit import scores
from nbkit.course.exercises import margins

# Right solutions, written differently ------------------------------------------------------------


def loss_with_a_loop(chosen, rejected):
    losses = [np.log1p(np.exp(-abs(c - r))) + max(0, r - c) for c, r in zip(chosen, rejected)]
    return sum(losses) / len(losses)


def loss_in_torch(chosen, rejected):
    return -F.logsigmoid(torch.tensor(chosen) - torch.tensor(rejected)).mean()


def per_token_with_pandas(chosen, rejected, chosen_tokens, rejected_tokens):
    table = pd.DataFrame(
        {
            "chosen_logp": chosen,
            "rejected_logp": rejected,
            "chosen_tokens": chosen_tokens,
            "rejected_tokens": rejected_tokens,
        }
    )
    return scores.length_normalized_margin(table)


def per_token_with_a_loop(*arrays):
    return [c / n - r / m for c, r, n, m in zip(*arrays)]


def contradictions_with_a_loop(explicit, implicit):
    apart = 0
    for pair, margin in explicit.items():
        apart += (margin > 0 and implicit[pair] < 0) or (margin < 0 and implicit[pair] > 0)
    return apart / len(explicit)


def contradictions_with_signs(explicit, implicit):
    return (np.sign(explicit) == -np.sign(implicit.loc[explicit.index]))[explicit != 0].sum() / len(
        explicit
    )


RIGHT = {
    "check_bradley_terry": [
        loss_with_a_loop,
        loss_in_torch,
        lambda c, r: -special.log_expit(c - r).mean(),
    ],
    "check_margin_per_token": [
        per_token_with_pandas,
        per_token_with_a_loop,
        lambda c, r, n, m: (c * m - r * n) / (n * m),
    ],
    "check_contradictions": [contradictions_with_a_loop, contradictions_with_signs],
}


# Usual mistakes ----------------------------------------------------------------------------------


def naive_loss(chosen, rejected):
    with np.errstate(all="ignore"):
        return -np.log(1 / (1 + np.exp(rejected - chosen))).mean()


def losses(chosen, rejected):
    return -special.log_expit(chosen - rejected)


def z(margin):
    return (margin - margin.mean()) / margin.std()


def pandas_contradictions(explicit, implicit):
    return explicit.mul(implicit).lt(0).mean()


SPECIAL = ("not finite at",)
WRONG = {
    "check_bradley_terry": [
        (naive_loss, "not finite at a margin of -1000"),
        (lambda c, r: losses(r, c).mean(), "The margin is turned"),
        (lambda c, r: special.log_expit(c - r).mean(), "The sign of the loss"),
        (lambda c, r: losses(c, r).sum(), "This is the sum over the pairs"),
        (lambda c, r: losses(c.mean(), r.mean()), "averaged before the loss"),
        (lambda c, r: -np.log(special.expit(c - r).mean()), "averaged before the log"),
        (lambda c, r: special.expit(c - r).mean(), "mean probability of the labels"),
        (lambda c, r: np.mean(losses(c, r) / np.log(2)), "in bits"),
        (lambda c, r: np.clip(1 - (c - r), 0, None).mean(), "hinge loss"),
        (lambda c, r: (c - r).mean(), "Wrong in 3 of 3 cases"),
        (losses, "expected one number"),
    ],
    "check_margin_per_token": [
        (lambda c, r, n, m: c - r, "difference of the sums: divide each"),
        (lambda c, r, n, m: (c - r) / n, "divided by one length"),
        (lambda c, r, n, m: (c - r) / m, "divided by one length"),
        (lambda c, r, n, m: (c - r) / (n + m), "divided by one length"),
        (lambda c, r, n, m: (c - r) / ((n + m) / 2), "divided by one length"),
        (lambda c, r, n, m: (c - r) / np.max([n, m], axis=0), "divided by one length"),
        (lambda c, r, n, m: c / m - r / n, "The lengths are exchanged"),
        (lambda c, r, n, m: r / m - c / n, "The sign is turned"),
        (lambda c, r, n, m: abs(c / n - r / m), "size of the margin"),
        (lambda c, r, n, m: c * n - r * m, "multiplied by the lengths"),
        (lambda c, r, n, m: np.exp(c / n) - np.exp(r / m), "probabilities per token"),
        (lambda c, r, n, m: c / n, "Wrong in 3 of 3 cases"),
        (lambda c, r, n, m: (c / n - r / m).mean(), "one margin for each pair"),
    ],
    "check_contradictions": [
        (lambda e, i: np.mean(e.values * i.values < 0), "Compared by position"),
        (lambda e, i: pandas_contradictions(z(e), z(i)), "z-scores move the zero"),
        (lambda e, i: pandas_contradictions(e - e.mean(), i), "compared with its mean"),
        (lambda e, i: e.mul(i).gt(0).mean(), "on which they agree"),
        (lambda e, i: e.mul(i).le(0).mean(), "Pairs with a margin of 0 are counted"),
        (lambda e, i: ((e > 0) ^ (i > 0)[e.index]).mean(), "preferring the rejected"),
        (lambda e, i: 1 - (np.sign(e) == np.sign(i[e.index])).mean(), "a sign of its own"),
        (lambda e, i: ((e > 0) & (i[e.index] < 0)).mean(), "the implicit margin is the neg"),
        (lambda e, i: ((e < 0) & (i[e.index] > 0)).mean(), "the explicit margin is the neg"),
        (lambda e, i: e.mul(i).lt(0).sum(), "the number of pairs"),
        (lambda e, i: 100 * pandas_contradictions(e, i), "in per cent"),
        (lambda e, i: -0.5, "Wrong in 3 of 3 cases"),
        (lambda e, i: e.mul(i) < 0, "expected one number from 0 to 1"),
    ],
}


def test_the_right_solutions_on_numbers_by_hand():
    # margins ln 3 and -ln 3: probabilities 3/4 and 1/4
    third = np.log(3)
    loss = margins.bradley_terry(np.array([third, 0]), np.array([0, third]))
    assert loss == pytest.approx((np.log(4 / 3) + np.log(4)) / 2)
    per_token = margins.margin_per_token(*map(np.array, ([-6.0], [-8.0], [3], [2])))
    assert per_token == pytest.approx([2.0])
    explicit = pd.Series({"a": 1.0, "b": -1.0, "c": 0.0, "d": 2.0})
    implicit = pd.Series({"d": -3.0, "c": 1.0, "b": -0.1, "a": 0.0})
    assert margins.contradictions(explicit, implicit) == 0.25  # d alone


def test_the_right_solution_is_nbkits_margin():
    for case in margins.MARGIN_PER_TOKEN.draw(np.random.default_rng(0)):
        assert np.allclose(margins.margin_per_token(*case), per_token_with_pandas(*case))
