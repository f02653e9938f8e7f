"""Exercises of lesson 02: the DPO loss, its gradient weight, likelihood displacement."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import logsigmoid

from nbkit.course.exercises.checking import (
    FAILED,
    Exercise,
    Mistake,
    Result,
    answers_like,
    check,
    number,
    vector,
)
from nbkit.course.exercises.logprobs import draw_logps, implicit_margin


def check_dpo_loss(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the mean DPO loss of the pairs.

    Four tensors [pairs] of summed log-probs (nats); the mean of -log sigmoid(margin) over the
    pairs, a tensor of shape [] through which a gradient flows, finite even at a margin of -1000.

    Args:
        learner: yours, `learner(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp,
            beta)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_dpo_loss(
        ...     lambda chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta: ...
        ... )
        check_dpo_loss: not attempted
    """
    result = check(DPO_LOSS, learner, seed)
    if result.passed and not _gradient_flows(learner):
        return Result(
            result.exercise,
            FAILED,
            "The number is right, but no gradient flows through it: return the tensor itself, "
            "without .item(), float(), .detach() or NumPy.",
        )
    return result


def check_dpo_gradient_weight(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: how strongly DPO pushes on each pair, [pairs], from 0 to 1.

    `margin` is a tensor [pairs] (nats). The gradient of a pair's loss with respect to its margin
    is minus this weight: near 1 for a pair that is badly wrong, near 0 for one that is right.

    Args:
        learner: yours, `learner(margin)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_dpo_gradient_weight(lambda margin: ...)
        check_dpo_gradient_weight: not attempted
    """
    return check(GRADIENT_WEIGHT, learner, seed)


def check_displacement(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the share of pairs, 0 to 1, that show likelihood displacement.

    `trace` is a DataFrame `step, id, chosen_logp, rejected_logp, margin`, its rows in any order. A
    pair shows displacement if, from the first step to the last, its chosen log-prob fell while
    its margin grew.

    Args:
        learner: yours, `learner(trace)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_displacement(lambda trace: ...)
        check_displacement: not attempted
    """
    return check(DISPLACEMENT, learner, seed)


# DPO loss ----------------------------------------------------------------------------------------


def dpo_loss(*case):
    return -logsigmoid(implicit_margin(*case)).mean()


def _draw_losses(rng):
    *reference, beta = draw_logps(rng, pairs=3)
    at_the_start = (reference[2], reference[3], reference[2], reference[3], beta)
    zeros = torch.zeros(4)
    hopeless = (zeros - 1000 / beta, zeros, zeros, zeros, beta)  # margin -1000: exp overflows
    return [draw_logps(rng, pairs=4), draw_logps(rng, pairs=5), at_the_start, hopeless]


def _no_reference(chosen, rejected, ref_chosen, ref_rejected, beta):
    return -logsigmoid(beta * (chosen - rejected)).mean()


def _gradient_flows(learner: Callable) -> bool:
    *logps, beta = draw_logps(np.random.default_rng())
    try:
        loss = learner(*(logp.requires_grad_() for logp in logps), beta)
    except RuntimeError:  # .numpy() on a tensor that requires a gradient
        return False
    return isinstance(loss, torch.Tensor) and loss.requires_grad


DPO_LOSS = Exercise(
    name="check_dpo_loss",
    arguments="chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta",
    solve=dpo_loss,
    draw=_draw_losses,
    read=number("one number: the mean over the pairs"),
    mistakes=[
        Mistake(
            "The loss overflows at a margin of -1000, where sigmoid is 0 and its log infinite: "
            "use torch.nn.functional.logsigmoid, which is exact there.",
            lambda answer, expected, *case: not np.isfinite(answer),
        ),
        answers_like(
            lambda *case: -logsigmoid(-implicit_margin(*case)).mean(),
            "The sign of the margin is turned: chosen minus rejected, policy minus reference.",
        ),
        answers_like(
            lambda *case: -dpo_loss(*case),
            "The sign of the loss is turned: it is minus log sigmoid(margin), so positive.",
        ),
        answers_like(
            _no_reference,
            "The reference is missing: subtract its log-probs from the policy's. Without it the "
            "loss is not ln 2 at the start.",
        ),
        answers_like(
            lambda *case: dpo_loss(*case) * len(case[0]),
            "This is the sum over the pairs: return the mean.",
        ),
        answers_like(
            lambda *case: case[4] * dpo_loss(*case[:4], 1),
            "beta stands outside the sigmoid: it multiplies the margin, log sigmoid(beta * ...).",
        ),
        answers_like(
            lambda *case: dpo_loss(*case[:4], 1),
            "beta is missing: it multiplies the difference of the log-ratios.",
        ),
        answers_like(
            lambda *case: -logsigmoid(implicit_margin(*case).mean()),
            "The margins are averaged before the sigmoid: average the losses instead.",
        ),
        answers_like(
            lambda *case: -implicit_margin(*case).mean(),
            "The log sigmoid is missing: the loss of a pair is -log sigmoid(margin).",
        ),
        answers_like(
            lambda *case: -implicit_margin(*case).sigmoid().mean(),
            "The log is missing: the loss of a pair is -log sigmoid(margin).",
        ),
    ],
)


# Gradient weight ---------------------------------------------------------------------------------


def gradient_weight(margin):
    return torch.sigmoid(-margin)


def _draw_margins(rng):
    # The last are so far out that exp() overflows in float32.
    draws = [rng.normal(0, 2, 5), rng.normal(1, 3, 3), rng.permutation([-200.0, -0.5, 200.0])]
    return [(torch.tensor(draw, dtype=torch.float32),) for draw in draws]


GRADIENT_WEIGHT = Exercise(
    name="check_dpo_gradient_weight",
    arguments="margin",
    solve=gradient_weight,
    draw=_draw_margins,
    read=vector("one weight for each pair: shape [pairs]"),
    mistakes=[
        Mistake(
            "The weight is not finite at a margin of 200, where exp overflows: use torch.sigmoid.",
            lambda answer, expected, margin: not np.isfinite(answer).all(),
        ),
        answers_like(
            torch.sigmoid,
            "This is sigmoid(margin): DPO pushes hardest on pairs that are wrong, so the weight "
            "falls as the margin grows: sigmoid(-margin).",
        ),
        answers_like(
            lambda margin: -torch.sigmoid(-margin),
            "This is the gradient itself: the weight is its size, without the minus.",
        ),
        answers_like(
            lambda margin: torch.sigmoid(margin) * torch.sigmoid(-margin),
            "This is the slope of sigmoid: the loss is -log sigmoid, and the log's derivative "
            "divides it by sigmoid(margin).",
        ),
        answers_like(
            lambda margin: -logsigmoid(margin),
            "This is the loss: the weight is minus its derivative with respect to the margin.",
        ),
    ],
)


# Likelihood displacement -------------------------------------------------------------------------


def displacement(trace):
    chosen, margin = _first_to_last(trace, "chosen_logp"), _first_to_last(trace, "margin")
    return float(((chosen < 0) & (margin > 0)).mean())


def _first_to_last(trace, column):
    """Change of each pair from the first step to the last."""
    by_step = trace.pivot(index="step", columns="id", values=column).sort_index()
    return by_step.iloc[-1] - by_step.iloc[0]


def _share(rule):
    """The share of pairs for which `rule(chosen, rejected, margin)` holds, all as changes."""
    columns = ("chosen_logp", "rejected_logp", "margin")
    return lambda trace: float(rule(*(_first_to_last(trace, name) for name in columns)).mean())


def _draw_traces(rng):
    # How many pairs have (chosen fell, margin grew) = both, first only, second only, neither: all
    # different. The margins start at 0, as when the policy is its own reference; or far off it, so
    # that their sign at the end says nothing.
    cases = []
    for counts, start_margin in (((5, 2, 1, 3), 0), ((2, 3, 7, 1), -1), ((1, 4, 2, 6), 1)):
        counts = [count + int(rng.integers(3)) * 10 for count in counts]
        trace = _trace(rng, counts, start_margin)
        cases.append((trace.sample(frac=1, random_state=rng.integers(2**31)),))
    cases[1] = (cases[1][0].sort_values("step", ascending=False),)  # the last step comes first
    return [(trace.reset_index(drop=True),) for (trace,) in cases]


def _trace(rng, counts, start_margin):
    """Four steps; what happens between the first and the last says nothing about the end."""
    beta, steps = 0.1, [0, *sorted(rng.choice(np.arange(1, 100), 3, replace=False).tolist())]
    signs = np.repeat([(-1, 1), (-1, -1), (1, 1), (1, -1)], counts, axis=0)
    rows = []
    for pair, (chosen_sign, margin_sign) in enumerate(signs):
        chosen_start, rejected_start = rng.uniform(-50, -20, 2)
        size = rng.uniform(1, 6)
        # Beside a chosen log-prob that rises, every second rejected one falls.
        gap = size * rng.uniform(0.2, 0.8) if pair % 2 else size + rng.uniform(0.5, 3)
        chosen_end, rejected_end = chosen_sign * size, chosen_sign * size - margin_sign * gap
        for step, done in zip(steps, (0, *rng.normal(0, 1.5, 2), 1), strict=True):
            chosen, rejected = done * chosen_end, done * rejected_end
            margin = start_margin + beta * (chosen - rejected)
            rows.append(
                (step, f"p{pair}", chosen_start + chosen, rejected_start + rejected, margin)
            )
    columns = ["step", "id", "chosen_logp", "rejected_logp", "margin"]
    return pd.DataFrame(rows, columns=columns)


def _by_row_order(trace):
    changes = trace.groupby("id")[["chosen_logp", "margin"]].agg(lambda c: c.iloc[-1] - c.iloc[0])
    return float(((changes["chosen_logp"] < 0) & (changes["margin"] > 0)).mean())


def _end_above_zero(trace):
    last = trace[trace["step"] == trace["step"].max()].set_index("id")["margin"]
    fell = _first_to_last(trace, "chosen_logp") < 0
    return float((fell & (last.reindex(fell.index) > 0)).mean())


DISPLACEMENT = Exercise(
    name="check_displacement",
    arguments="trace",
    solve=displacement,
    draw=_draw_traces,
    read=number("one number from 0 to 1: the share of pairs"),
    mistakes=[
        answers_like(
            _share(lambda chosen, rejected, margin: chosen < 0),
            "Pairs whose chosen log-prob fell were counted: their margin must have grown, too.",
        ),
        answers_like(
            _share(lambda chosen, rejected, margin: margin > 0),
            "Pairs whose margin grew were counted: their chosen log-prob must have fallen, too.",
        ),
        answers_like(
            _share(lambda chosen, rejected, margin: (chosen < 0) | (margin > 0)),
            "Either was enough: both must hold (& instead of |).",
        ),
        answers_like(
            _share(lambda chosen, rejected, margin: (rejected < 0) & (margin > 0)),
            "The rejected log-prob was used: displacement is about the chosen one falling.",
        ),
        answers_like(
            _share(lambda chosen, rejected, margin: (chosen > 0) & (margin > 0)),
            "Pairs whose chosen log-prob rose were counted: displacement is when it fell.",
        ),
        answers_like(
            lambda trace: displacement(trace) * trace["id"].nunique(),
            "This is the number of pairs: divide by how many there are.",
        ),
        answers_like(
            lambda trace: 100 * displacement(trace),
            "This is in per cent: return a share from 0 to 1.",
        ),
        answers_like(
            lambda trace: displacement(trace) / trace["step"].nunique(),
            "The rows were counted instead of the pairs: each pair has a row for every step.",
        ),
        answers_like(
            _by_row_order,
            "The first and last row of each pair were compared: the rows come in any order, so "
            "take the first and last step.",
        ),
        answers_like(
            _end_above_zero,
            "The margin at the end was compared with 0: it must have grown since the first step.",
        ),
    ],
)
