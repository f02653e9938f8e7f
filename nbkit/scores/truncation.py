"""Truncated influence, and the two scores that stand in for influence: LossDiff and IRM
(arXiv 2510.13212)."""

from __future__ import annotations

import pandas as pd

from nbkit.scores.margins import dpo_loss, implicit_margin
from nbkit.select.ranked import middle
from nbkit.select.series import as_scores


def truncated(influence: pd.Series, low: float, high: float) -> pd.Series:
    """Truncated influence function, TIF(d) = 1 if IF(d) lies between two percentiles, else 0
    (arXiv 2510.13212). Too little: noise, by the paper; too much: pairs that a few steps overfit.

    Args:
        influence: or any other score.
        low, high: shares, as in `nbkit.select.middle`, which lists the pairs that have 1.

    Returns:
        Series "truncated_influence" of 0.0 and 1.0; NaN where the influence is.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> influence = pd.Series([-3.0, 0.0, 1.0, 9.0], index=list("abcd"), name="influence")
        >>> nb.scores.truncated(influence, 0.25, 0.75).to_dict()
        {'a': 0.0, 'b': 1.0, 'c': 1.0, 'd': 0.0}
    """
    influence = as_scores(influence)
    band = middle(influence, low, high)
    kept = pd.Series(influence.index.isin(band).astype(float), influence.index)
    return kept.mask(influence.isna()).rename("truncated_influence")


def loss_difference(
    theta_logps: pd.DataFrame, val_logps: pd.DataFrame, ref_logps: pd.DataFrame, beta: float = 0.1
) -> pd.Series:
    """LossDiff(d) = loss(theta; d) - loss(theta_val; d) (arXiv 2510.13212): by how much training on
    the validation set lowers the loss of d. Nats; a finite difference of the loss with one large
    step, towards theta_val, and so influence's stand-in: positive where the validation set and d
    pull the same way.

    Args:
        theta_logps, val_logps, ref_logps: log-prob tables of the pairs under the policy, under the
            policy after an epoch on the validation set, and under the reference.
        beta: as of `dpo_loss`.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(4)
        >>> table = nb.response_logprobs(policy, pairs, progress=False)
        >>> better = table.assign(chosen_logp=table["chosen_logp"] + 2.0)
        >>> nb.scores.loss_difference(table, better, table).round(3).tolist()
        [0.095, 0.095, 0.095, 0.095]
    """
    before, after = dpo_loss(theta_logps, ref_logps, beta), dpo_loss(val_logps, ref_logps, beta)
    return (before - after.loc[before.index]).rename("loss_difference")


def irm(theta_logps: pd.DataFrame, ref_logps: pd.DataFrame, beta: float = 0.1) -> pd.Series:
    """Implicit reward margin of the pair under the policy, as a stand-in for its influence that
    needs no validation set (arXiv 2510.13212). beta x nats; the same as `implicit_margin`.

    Args:
        theta_logps, ref_logps: log-prob tables of the same pairs, under policy and reference.
        beta: as of `implicit_margin`.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(4)
        >>> table = nb.response_logprobs(policy, pairs, progress=False)
        >>> better = table.assign(chosen_logp=table["chosen_logp"] + 2.0)
        >>> nb.scores.irm(better, table).round(6).tolist()
        [0.2, 0.2, 0.2, 0.2]
    """
    return implicit_margin(theta_logps, ref_logps, beta).rename("irm")
