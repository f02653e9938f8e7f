"""Margins and losses of pairs, from tables of log-probs (`nbkit.response_logprobs`).

A NaN in a table stays NaN in the score: such a pair is never selected.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from nbkit.inputs import as_number, as_pairs
from nbkit.pairs.sources import Pairs
from nbkit.scores.same_pairs import SIDES, aligned, as_finite, check_table
from nbkit.select.series import as_numbers


def log_ratios(policy_logps: pd.DataFrame, ref_logps: pd.DataFrame) -> pd.DataFrame:
    """d = log pi(y|x) - log pi_ref(y|x) for both responses.

    Args:
        policy_logps, ref_logps: log-prob tables over the same pairs.

    Returns:
        DataFrame `chosen, rejected` (nats, summed over response tokens), in the policy's order.

    Raises:
        TypeError: no log-prob tables.
        ValueError: the tables do not hold the same pairs, or scored different tokens.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(4)
        >>> table = nb.response_logprobs(policy, pairs, progress=False)
        >>> better = table.assign(chosen_logp=table["chosen_logp"] + 2.0)
        >>> nb.scores.log_ratios(better, table).round(6).iloc[0].to_dict()
        {'chosen': 2.0, 'rejected': 0.0}
    """
    ref_logps = aligned(policy_logps, ref_logps)
    ours, theirs = (
        {side: as_numbers(table[f"{side}_logp"]) for side in SIDES}
        for table in (policy_logps, ref_logps)
    )
    return pd.DataFrame({side: ours[side] - theirs[side] for side in SIDES})


def implicit_margin(
    policy_logps: pd.DataFrame, ref_logps: pd.DataFrame, beta: float = 0.1
) -> pd.Series:
    """DPO's implicit reward margin m = beta (d_chosen - d_rejected) (arXiv 2305.18290, section 4).

    Units of beta x nats, summed over tokens; higher: the policy prefers the chosen response more
    strongly than the reference does. Zero for every pair when policy = reference. Beta is in it:
    do not multiply again.

    Args:
        policy_logps, ref_logps: log-prob tables of the same pairs, under policy and reference.
        beta: how strongly DPO holds the policy to its reference.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(4)
        >>> table = nb.response_logprobs(policy, pairs, progress=False)
        >>> better = table.assign(chosen_logp=table["chosen_logp"] + 2.0)
        >>> nb.scores.implicit_margin(better, table, beta=0.1).round(6).tolist()
        [0.2, 0.2, 0.2, 0.2]
        >>> nb.scores.implicit_margin(table, table).tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    d = log_ratios(policy_logps, ref_logps)
    return _times(beta, d.chosen - d.rejected).rename("implicit_margin")


def dpo_loss(policy_logps: pd.DataFrame, ref_logps: pd.DataFrame, beta: float = 0.1) -> pd.Series:
    """DPO loss of each pair, -log sigmoid(m) (arXiv 2305.18290, eq. 7). Nats; lower: the pair is
    better learned; ln 2 for every pair when policy = reference.

    Args:
        policy_logps, ref_logps: log-prob tables of the same pairs, under policy and reference.
        beta: how strongly DPO holds the policy to its reference.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(4)
        >>> table = nb.response_logprobs(policy, pairs, progress=False)
        >>> better = table.assign(chosen_logp=table["chosen_logp"] + 2.0)
        >>> nb.scores.dpo_loss(table, table).round(3).tolist()
        [0.693, 0.693, 0.693, 0.693]
        >>> nb.scores.dpo_loss(better, table).round(3).tolist()
        [0.598, 0.598, 0.598, 0.598]
    """
    margin = implicit_margin(policy_logps, ref_logps, beta)
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        losses: Any = np.logaddexp(0.0, -margin)  # finite at any margin; a Series, of a Series
    return losses.rename("dpo_loss")


def length_normalized_margin(policy_logps: pd.DataFrame, beta: float = 1.0) -> pd.Series:
    """SimPO's implicit reward margin: beta times (mean log-prob per chosen token - mean log-prob
    per rejected token) (arXiv 2405.14734, eq. 4, without its target gamma). Needs no reference.
    beta x nats per token; higher: the policy finds the chosen response likelier, token for token.

    Args:
        policy_logps: log-prob table of the pairs under the policy.
        beta: factor, as in SimPO's loss.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> table = pd.DataFrame(
        ...     dict(chosen_logp=-6.0, rejected_logp=-4.0, chosen_tokens=12, rejected_tokens=4),
        ...     index=["a"],
        ... )
        >>> nb.scores.length_normalized_margin(table).to_dict()
        {'a': 0.5}
    """
    per_token = {side: mean_logp(policy_logps, side) for side in SIDES}
    margin = _times(beta, per_token["chosen"] - per_token["rejected"])
    return margin.rename("length_normalized_margin")


def explicit_margin(pairs: Pairs | pd.DataFrame) -> pd.Series:
    """r(chosen) - r(rejected) from the `chosen_score, rejected_score` columns of the pairs, or of
    a table of scores (`nbkit.reward_scores`), in the units of whoever scored them. Higher: the
    judge is surer of the label; below zero: it contradicts the label.

    Args:
        pairs: Dataset, DataFrame, list of dicts or path with both scores, or a table of scores.

    Raises:
        KeyError: the pairs carry no scores.
        TypeError, ValueError: a score that is no number, or infinite (NaN gives NaN).

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> scored = pd.DataFrame(
        ...     dict(id=["a", "b"], chosen_score=[5.0, 2.0], rejected_score=[3.0, 4.0])
        ... )
        >>> nb.scores.explicit_margin(scored).to_dict()
        {'a': 2.0, 'b': -2.0}
    """
    if not isinstance(pairs, (Dataset, pd.DataFrame)):
        pairs = as_pairs(pairs)
    columns = getattr(pairs, "column_names", None) or list(pairs.columns)
    missing = [c for c in ("chosen_score", "rejected_score") if c not in columns]
    if missing:
        raise KeyError(
            f"These pairs have no {' and '.join(missing)} (columns: {', '.join(map(str, columns))})"
            ". An explicit margin needs a score of both responses, from people or a reward model."
        )
    ids = pd.Index(pairs["id"][:] if "id" in columns else pairs.index, name="id")
    chosen, rejected = (
        as_finite(pd.Series(list(pairs[column]), ids), column)
        for column in ("chosen_score", "rejected_score")
    )
    return (chosen - rejected).rename("explicit_margin")


def mean_logp(logps: pd.DataFrame, side: str) -> pd.Series:
    """Log-prob per token of one side's responses, nats.

    Raises:
        ValueError: a response of no tokens.
    """
    check_table(logps, "The log-prob table")
    tokens = as_numbers(logps[f"{side}_tokens"])
    if (none := logps.index[tokens < 1]).size:
        raise ValueError(
            f"{side}_tokens of pair {none[0]!r} is {tokens[none[0]]:g}: a response without tokens "
            "has no log-prob per token. Leave such pairs out."
        )
    return as_numbers(logps[f"{side}_logp"]) / tokens


def _times(beta: float, nats: pd.Series) -> pd.Series:
    beta = as_number(beta, "beta", above=0)
    with np.errstate(over="ignore"):
        margin = beta * nats
    if np.isinf(margin).any():
        raise ValueError(f"beta={beta:g} makes margins infinite; expected one such as 0.1.")
    return margin
