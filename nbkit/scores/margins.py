"""Margins and losses of pairs, from tables of log-probs (`nbkit.response_logprobs`).

Two *tables* make one number only over the same pairs and tokens: a pair that one of them lacks is
refused, with what to write. Two *scores* are put together on the pairs that both hold, with one
warning that counts the others. A NaN in a table or a score stays NaN: such a pair is never
selected.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from datasets import Dataset

from nbkit.inputs import as_number, as_pairs
from nbkit.left_out import LeftOut, some
from nbkit.select.series import as_numbers, check_each_once

SIDES = ("chosen", "rejected")


def log_ratios(policy_logps: pd.DataFrame, ref_logps: pd.DataFrame) -> pd.DataFrame:
    """d = log pi(y|x) - log pi_ref(y|x) for both responses.

    Args:
        policy_logps, ref_logps: log-prob tables over the same pairs.

    Returns:
        DataFrame `chosen, rejected` (nats, summed over response tokens), in the policy's order.

    Raises:
        TypeError: no log-prob tables.
        ValueError: the tables do not hold the same pairs, or scored different tokens.
    """
    ref_logps = _aligned(policy_logps, ref_logps)
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
    """
    d = log_ratios(policy_logps, ref_logps)
    return _times(beta, d.chosen - d.rejected).rename("implicit_margin")


def dpo_loss(policy_logps: pd.DataFrame, ref_logps: pd.DataFrame, beta: float = 0.1) -> pd.Series:
    """DPO loss of each pair, -log sigmoid(m) (arXiv 2305.18290, eq. 7). Nats; lower: the pair is
    better learned; ln 2 for every pair when policy = reference."""
    margin = implicit_margin(policy_logps, ref_logps, beta)
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        return np.logaddexp(0.0, -margin).rename("dpo_loss")  # finite at any margin


def length_normalized_margin(policy_logps: pd.DataFrame, beta: float = 1.0) -> pd.Series:
    """SimPO's implicit reward margin: beta times (mean log-prob per chosen token - mean log-prob
    per rejected token) (arXiv 2405.14734, eq. 4, without its target gamma). Needs no reference.
    beta x nats per token; higher: the policy finds the chosen response likelier, token for token.
    """
    per_token = {side: mean_logp(policy_logps, side) for side in SIDES}
    margin = _times(beta, per_token["chosen"] - per_token["rejected"])
    return margin.rename("length_normalized_margin")


def explicit_margin(pairs) -> pd.Series:
    """r(chosen) - r(rejected) from the `chosen_score, rejected_score` columns of the pairs, or of
    a table of scores (`nbkit.reward_scores`), in the units of whoever scored them. Higher: the
    judge is surer of the label; below zero: it contradicts the label.

    Raises:
        KeyError: the pairs carry no scores.
        TypeError, ValueError: a score that is no number, or infinite (NaN gives NaN).
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
        _finite(as_numbers(pd.Series(list(pairs[column]), ids), column), column)
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


def common_pairs(
    first: pd.Series, second: pd.Series, where: str | None = 'attrs["left_out"]'
) -> tuple[pd.Series, pd.Series, LeftOut]:
    """Two margins on the pairs that both hold, in the order of the first, as floats; and the
    others, which are warned of (`where` says the caller's caller will find them).

    Raises:
        TypeError: what is no score.
        ValueError: ids twice; an infinite margin; no pair in both.
    """
    names = [
        str(score.name or word) if isinstance(score, pd.Series) else None
        for score, word in ((first, "The first margin"), (second, "The second margin"))
    ]
    first, second = (
        _finite(as_numbers(score, name), name) for score, name in zip((first, second), names)
    )
    if first.index.equals(second.index):
        return first, second, LeftOut()
    alone = [
        (name, score.index.difference(other.index, sort=False))
        for name, score, other in ((names[0], first, second), (names[1], second, first))
    ]
    left_out = LeftOut({id_: f"only in {name}" for name, ids in alone for id_ in ids})
    common = first.index[second.index.get_indexer(first.index) >= 0]
    if common.empty:
        raise ValueError(
            f"{names[0]} ({len(first)} pairs) and {names[1]} ({len(second)} pairs) have no pair in "
            "common. Are both indexed by pair id, and made of the same pairs?"
        )
    left_out.warn(len(common) + len(left_out), where=where, stacklevel=3)
    return first[common], second[common], left_out


def check_table(table, what: str) -> None:
    """Raise TypeError or ValueError unless this is a log-prob table: a DataFrame by pair id, each
    once, with the columns of `nbkit.response_logprobs`, numbers and none of them infinite."""
    columns = [f"{side}_{kind}" for kind in ("logp", "tokens") for side in SIDES]
    if not isinstance(table, pd.DataFrame) or set(columns) - set(table):
        came = f"columns {some(table)}" if isinstance(table, pd.DataFrame) else type(table).__name__
        raise TypeError(
            f"{what}: expected a log-prob table (nb.response_logprobs) with columns "
            f"{', '.join(columns)}; got {came}."
        )
    check_each_once(table.index, what)
    for column in columns:
        _finite(as_numbers(table[column], f"{what}: {column}"), f"{what}: {column}")


def _aligned(policy_logps: pd.DataFrame, ref_logps: pd.DataFrame) -> pd.DataFrame:
    """`ref_logps` in the order of `policy_logps`; both must hold the same pairs and tokens."""
    check_table(policy_logps, "The policy's table")
    check_table(ref_logps, "The reference table")
    absent = policy_logps.index.difference(ref_logps.index, sort=False)
    extra = ref_logps.index.difference(policy_logps.index, sort=False)
    if len(absent) or len(extra):
        raise ValueError(
            f"The two tables must hold the same pairs: {len(absent)} of the policy's "
            f"{len(policy_logps)} pairs are not in the reference table, and {len(extra)} of the "
            f"reference's {len(ref_logps)} are not in the policy's (first: "
            f"{[*absent, *extra][0]!r}). Score both on the same pairs, or take `table.loc[ids]` of "
            "both, with `ids = policy_table.index.intersection(reference_table.index)`."
        )
    ref_logps = ref_logps.loc[policy_logps.index]
    for side in ("chosen_tokens", "rejected_tokens"):
        differs = policy_logps.index[policy_logps[side].to_numpy() != ref_logps[side].to_numpy()]
        if len(differs):
            raise ValueError(
                f"{side} differs between the tables for {len(differs)} pairs (first: "
                f"{differs[0]!r}): policy and reference must use the same tokenizer and template."
            )
    if "tokens_hash" in policy_logps and "tokens_hash" in ref_logps:
        ours, theirs = policy_logps["tokens_hash"], ref_logps["tokens_hash"]
        differs = policy_logps.index[ours.notna() & theirs.notna() & (ours != theirs)]
        if len(differs):
            raise ValueError(
                f"The two tables scored other tokens under the ids of {len(differs)} pairs (first: "
                f"{differs[0]!r}): other texts, or another template (it may hold the date). Score "
                "the pairs again."
            )
    return ref_logps


def _finite(values: pd.Series, what: str) -> pd.Series:
    """The values, or ValueError if one is infinite; NaN passes."""
    if (infinite := values.index[np.isinf(values)]).size:
        raise ValueError(
            f"{what} of pair {infinite[0]!r} is {values[infinite[0]]}; expected a finite number, "
            "or NaN where there is none."
        )
    return values


def _times(beta: float, nats: pd.Series) -> pd.Series:
    beta = as_number(beta, "beta", above=0)
    with np.errstate(over="ignore"):
        margin = beta * nats
    if np.isinf(margin).any():
        raise ValueError(f"beta={beta:g} makes margins infinite; expected one such as 0.1.")
    return margin
