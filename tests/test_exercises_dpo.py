"""Right and wrong solutions of the exercises of lessons 00, 01 and 02, for test_exercises.py."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbkit.course.exercises import dpo

# Right solutions, each at least twice, written differently ----------------------------------------


def easiest_with_pandas(scores):
    return scores.dropna().nsmallest(scores.notna().sum() // 2).index


def easiest_with_python(scores):
    scored = {pair_id: score for pair_id, score in scores.items() if not math.isnan(score)}
    return sorted(scored, key=scored.get)[: len(scored) // 2]


def win_rate_with_a_loop(rewards, baseline_rewards):
    points = 0
    for mine, other in zip(rewards, baseline_rewards, strict=True):
        points += 1 if mine > other else 0.5 if mine == other else 0
    return points / len(rewards)


def win_rate_with_numpy(rewards, baseline_rewards):
    return (np.sign(np.subtract(rewards, baseline_rewards)).mean() + 1) / 2


def mask_with_torch(ids, prompt_length, pad_id):
    keep = torch.ones(len(ids), dtype=torch.bool)
    keep[:prompt_length] = False
    keep[ids == pad_id] = False
    return keep[1:]


def mask_with_a_list(ids, prompt_length, pad_id):
    return [t + 1 >= prompt_length and ids[t + 1] != pad_id for t in range(len(ids) - 1)]


def logprob_with_cross_entropy(logits, ids, prompt_length):
    return -F.cross_entropy(logits[prompt_length - 1 : -1], ids[prompt_length:], reduction="sum")


def logprob_with_a_loop(logits, ids, prompt_length):
    total = 0.0
    for t in range(prompt_length, len(ids)):
        row = logits[t - 1].double()
        total += (row[ids[t]] - row.logsumexp(0)).item()
    return total


def margin_by_log_ratios(chosen, rejected, ref_chosen, ref_rejected, beta):
    return beta * (chosen - ref_chosen) - beta * (rejected - ref_rejected)


def margin_as_list(chosen, rejected, ref_chosen, ref_rejected, beta):
    gaps = (chosen - rejected) - (ref_chosen - ref_rejected)
    return [beta * gap.item() for gap in gaps]


def loss_with_logsigmoid(chosen, rejected, ref_chosen, ref_rejected, beta):
    return F.logsigmoid(beta * ((chosen - rejected) - (ref_chosen - ref_rejected))).mean().neg()


def loss_with_softplus(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = margin_by_log_ratios(chosen, rejected, ref_chosen, ref_rejected, beta)
    return F.softplus(-margin).mean()


def weight_with_sigmoid(margin):
    return torch.sigmoid(-margin)


def weight_with_autograd(margin):
    margin = margin.clone().requires_grad_()
    (-F.logsigmoid(margin)).sum().backward()
    return -margin.grad


def displacement_with_merge(trace):
    first = trace[trace.step == trace.step.min()]
    last = trace[trace.step == trace.step.max()]
    both = first.merge(last, on="id", suffixes=("_first", "_last"))
    fell = both.chosen_logp_last < both.chosen_logp_first
    return (fell & (both.margin_last > both.margin_first)).mean()


def displacement_with_a_loop(trace):
    found = 0
    for _, rows in trace.groupby("id"):
        rows = rows.sort_values("step")
        fell = rows.chosen_logp.iloc[-1] < rows.chosen_logp.iloc[0]
        found += bool(fell and rows.margin.iloc[-1] > rows.margin.iloc[0])
    return found / trace.id.nunique()


RIGHT = {
    "check_easiest": [easiest_with_pandas, easiest_with_python],
    "check_win_rate": [win_rate_with_a_loop, win_rate_with_numpy],
    "check_response_mask": [
        mask_with_torch,
        mask_with_a_list,
        lambda *case: mask_with_torch(*case).int(),
    ],
    "check_sequence_logprob": [logprob_with_cross_entropy, logprob_with_a_loop],
    "check_implicit_margin": [margin_by_log_ratios, margin_as_list],
    "check_dpo_loss": [loss_with_logsigmoid, loss_with_softplus],
    "check_dpo_gradient_weight": [weight_with_sigmoid, weight_with_autograd],
    "check_displacement": [displacement_with_merge, displacement_with_a_loop],
}


# Usual mistakes -----------------------------------------------------------------------------------


def scored_index(scores, ascending=True):
    return scores.dropna().sort_values(ascending=ascending).index


def half(scores):
    return scores.notna().sum() // 2


def compare(wins=1.0, ties=0.5, losses=0.0, count=len):
    def win_rate(rewards, baseline_rewards):
        signs = np.sign(np.subtract(rewards, baseline_rewards))
        total = wins * (signs > 0).sum() + ties * (signs == 0).sum() + losses * (signs < 0).sum()
        return total / count(signs)

    return win_rate


def positions(ids):
    return torch.arange(len(ids) - 1)


def per_token(logits, ids):
    return F.log_softmax(logits[:-1], -1)[torch.arange(len(ids) - 1), ids[1:]]


def gap(chosen, rejected, ref_chosen, ref_rejected, beta):
    return (chosen - ref_chosen) - (rejected - ref_rejected)


def naive_loss(*case):
    return -torch.log(torch.sigmoid(case[4] * gap(*case))).mean()


def naive_loss_by_exp(*case):
    return torch.log(1 + torch.exp(-case[4] * gap(*case))).mean()


def changes(trace):
    ordered = trace.sort_values("step").groupby("id")[["chosen_logp", "rejected_logp", "margin"]]
    return ordered.last() - ordered.first()


def by_row(trace):
    rows = trace.groupby("id")[["chosen_logp", "margin"]]
    change = rows.last() - rows.first()
    return ((change.chosen_logp < 0) & (change.margin > 0)).mean()


def first_two_steps(trace):
    steps = sorted(trace.step.unique())[:2]
    return displacement_with_merge(trace[trace.step.isin(steps)])


def margin_above_zero(trace):
    last = trace.sort_values("step").groupby("id").last()
    return ((changes(trace).chosen_logp < 0) & (last.margin > 0)).mean()


def over_rows(trace):
    found = changes(trace)
    found = found[(found.chosen_logp < 0) & (found.margin > 0)]
    return len(found) / len(trace)


WRONG = {
    "check_easiest": [
        (lambda s: scored_index(s, False)[: half(s)], "These are the hardest half"),
        (lambda s: scored_index(s)[half(s) :], "These are the hardest half"),
        (lambda s: [i for i in s.index if i in scored_index(s)[: half(s)]], "in another order"),
        (lambda s: scored_index(s)[: half(s)][::-1], "in another order"),
        (lambda s: s.sort_values(na_position="first").index[: half(s)], "score is NaN was kept"),
        (lambda s: s.fillna(0).sort_values().index[: half(s)], "score is NaN was kept"),
        (lambda s: s.sort_values().index[: len(s) // 2], "half of the pairs that have a score"),
        (lambda s: scored_index(s), "Wrong number of pairs"),
        (lambda s: scored_index(s)[: half(s) - 1], "Wrong number of pairs"),
        (lambda s: set(scored_index(s)[: half(s)]), "returned a set, which has no order"),
        (lambda s: s.dropna().nsmallest(half(s)), "returned scores; expected the ids"),
        (lambda s: s < s.median(), "returned a mask; expected the ids"),
        (lambda s: s.dropna().nsmallest(half(s)).tolist(), "among the ids; expected only ids"),
        (lambda s: "p00", "returned a str; expected a list of ids"),
        (lambda s: list(s.dropna().index[: half(s)]), "Wrong in 3 of 3 cases"),
    ],
    "check_win_rate": [
        (compare(ties=0), "Ties were counted as losses"),
        (compare(ties=1), "Ties were counted as wins"),
        (compare(ties=0, count=lambda signs: (signs != 0).sum()), "Ties were left out"),
        (compare(100, 50), "in per cent"),
        (compare(0, 0.5, 1), "This is the loss rate"),
        (compare(count=lambda signs: 1), "number of wins"),
        (compare(1, 0, -1), "wins minus losses"),
        (lambda mine, other: mine > other, "compare the two lists prompt by prompt"),
        (lambda mine, other: [1.0] * len(mine), "returned shape"),
    ],
    "check_response_mask": [
        (lambda ids, n, pad: (torch.arange(len(ids)) >= n) & (ids != pad), "entry for each token"),
        (lambda ids, n, pad: (positions(ids) >= n) & (ids[1:] != pad), "first token is missing"),
        (lambda *case: ~mask_with_torch(*case), "Inverted"),
        (lambda ids, n, pad: positions(ids) + 1 < n, "Inverted"),
        (lambda ids, n, pad: positions(ids) + 1 >= n, "Padding is counted"),
        (lambda ids, n, pad: (positions(ids) + 2 >= n) & (ids[1:] != pad), "last token is counted"),
        (lambda ids, n, pad: ids[1:], "other values than True and False"),
        (lambda ids, n, pad: ids[None] != pad, "returned shape"),
        (lambda ids, n, pad: [True] * 3, "expected ["),
    ],
    "check_sequence_logprob": [
        (lambda z, ids, n: F.log_softmax(z, -1)[range(len(ids)), ids][n:].sum(), "No shift"),
        (lambda z, ids, n: per_token(z, ids)[n - 1 :].mean(), "mean over tokens"),
        (lambda z, ids, n: per_token(z, ids).sum(), "The prompt is counted"),
        (lambda z, ids, n: z[range(n - 1, len(ids) - 1), ids[n:]].sum(), "raw logits"),
        (lambda z, ids, n: torch.log2(per_token(z, ids).exp())[n - 1 :].sum(), "in bits"),
        (lambda z, ids, n: F.cross_entropy(z[n - 1 : -1], ids[n:], reduction="sum"), "The sign"),
        (lambda z, ids, n: F.cross_entropy(z[n - 1 : -1], ids[n:]), "negative mean"),
        (lambda z, ids, n: per_token(z, ids).exp()[n - 1 :].prod(), "This is the probability"),
        (lambda z, ids, n: per_token(z, ids).exp()[n - 1 :].sum(), "sums probabilities"),
        (lambda z, ids, n: per_token(z, ids)[n:].sum(), "first token is missing"),
        (lambda z, ids, n: per_token(z, ids)[n - 2 :].sum(), "last token is counted"),
        (lambda z, ids, n: per_token(z, ids)[n - 1 :], "expected one number: the sum"),
    ],
    "check_implicit_margin": [
        (lambda *case: -margin_by_log_ratios(*case), "The sign is turned"),
        (gap, "beta is missing"),
        (lambda *case: case[4] ** 2 * gap(*case), "multiplied in twice"),
        (lambda c, r, rc, rr, beta: beta * (c - r), "The reference is missing"),
        (lambda c, r, rc, rr, beta: beta * (rc - rr), "the reference's own margin"),
        (lambda c, r, rc, rr, beta: beta * (c - rc + r - rr), "log-ratios are added"),
        (lambda *case: gap(*case) / case[4], "Divided by beta"),
        (lambda *case: margin_by_log_ratios(*case).mean(), "neither averaged nor summed"),
    ],
    "check_dpo_loss": [
        (naive_loss, "overflows at a margin of -1000"),
        (naive_loss_by_exp, "overflows at a margin of -1000"),
        (lambda *case: -F.logsigmoid(-case[4] * gap(*case)).mean(), "sign of the margin"),
        (lambda *case: F.logsigmoid(case[4] * gap(*case)).mean(), "sign of the loss"),
        (lambda c, r, rc, rr, beta: -F.logsigmoid(beta * (c - r)).mean(), "reference is missing"),
        (lambda *case: -F.logsigmoid(case[4] * gap(*case)).sum(), "the sum over the pairs"),
        (lambda *case: -case[4] * F.logsigmoid(gap(*case)).mean(), "outside the sigmoid"),
        (lambda *case: -F.logsigmoid(gap(*case)).mean(), "beta is missing"),
        (lambda *case: -F.logsigmoid((case[4] * gap(*case)).mean()), "averaged before the sigmoid"),
        (lambda *case: -(case[4] * gap(*case)).mean(), "log sigmoid is missing"),
        (lambda *case: -torch.sigmoid(case[4] * gap(*case)).mean(), "The log is missing"),
        (lambda *case: -F.logsigmoid(case[4] * gap(*case)), "expected one number: the mean"),
        (lambda *case: loss_with_logsigmoid(*case).item(), "no gradient flows"),
        (lambda *case: loss_with_logsigmoid(*case).numpy(), "no gradient flows"),
    ],
    "check_dpo_gradient_weight": [
        (torch.sigmoid, "This is sigmoid(margin)"),
        (lambda m: 1 / (1 + torch.exp(-m)), "This is sigmoid(margin)"),
        (lambda m: -torch.sigmoid(-m), "the gradient itself"),
        (lambda m: torch.sigmoid(m) * (1 - torch.sigmoid(m)), "slope of sigmoid"),
        (lambda m: F.softplus(-m), "This is the loss"),
        (lambda m: torch.exp(-m) / (1 + torch.exp(-m)), "not finite at a margin"),
        (lambda m: torch.sigmoid(-m).mean(), "one weight for each pair"),
    ],
    "check_displacement": [
        (lambda t: (changes(t).chosen_logp < 0).mean(), "their margin must have grown, too"),
        (lambda t: (changes(t).margin > 0).mean(), "their chosen log-prob must have fallen"),
        (lambda t: ((changes(t).chosen_logp < 0) | (changes(t).margin > 0)).mean(), "Either was"),
        (lambda t: ((changes(t).rejected_logp < 0) & (changes(t).margin > 0)).mean(), "rejected"),
        (lambda t: ((changes(t).chosen_logp > 0) & (changes(t).margin > 0)).mean(), "prob rose"),
        (lambda t: displacement_with_merge(t) * t.id.nunique(), "number of pairs"),
        (lambda t: displacement_with_merge(t) * 100, "in per cent"),
        (over_rows, "rows were counted instead"),
        (by_row, "come in any order"),
        (first_two_steps, "Wrong in"),  # no usual mistake
        (margin_above_zero, "at the end was compared with 0"),
        (lambda t: changes(t).chosen_logp.mean() < 0 < changes(t).margin.mean(), "share of pairs"),
        (lambda t: (changes(t).chosen_logp < 0) & (changes(t).margin > 0), "share of pairs"),
    ],
}


# What is particular -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_one_trace_surely_has_its_last_step_first(seed):
    steps = [trace.step for (trace,) in dpo.DISPLACEMENT.draw(np.random.default_rng(seed))]
    assert any(step.iloc[0] == step.max() and step.iloc[-1] == step.min() for step in steps)


def test_the_right_solutions_are_nbkits_conventions():
    """A margin of 0 gives a loss of ln 2 and a weight of one half."""
    zeros = torch.zeros(3)
    assert dpo.dpo_loss(zeros, zeros, zeros, zeros, 0.1).item() == pytest.approx(math.log(2))
    assert dpo.gradient_weight(zeros).tolist() == [0.5] * 3
