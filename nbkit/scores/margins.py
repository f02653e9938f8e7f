"""Margins and losses of pairs, from tables of log-probs (`nbkit.response_logprobs`)."""

from __future__ import annotations

import numpy as np
import pandas as pd


def log_ratios(policy_logps: pd.DataFrame, ref_logps: pd.DataFrame) -> pd.DataFrame:
    """d = log pi(y|x) - log pi_ref(y|x) for both responses.

    Args:
        policy_logps, ref_logps: log-prob tables over the same pairs.

    Returns:
        DataFrame `chosen, rejected` (nats, summed over response tokens), in the policy's order.

    Raises:
        ValueError: the tables do not hold the same pairs, or counted different tokens.
    """
    ref_logps = _aligned(policy_logps, ref_logps)
    return pd.DataFrame(
        {side: policy_logps[f"{side}_logp"] - ref_logps[f"{side}_logp"]
         for side in ("chosen", "rejected")}
    )  # fmt: skip


def implicit_margin(
    policy_logps: pd.DataFrame, ref_logps: pd.DataFrame, beta: float = 0.1
) -> pd.Series:
    """DPO's implicit reward margin m = beta (d_chosen - d_rejected) (arXiv 2305.18290, section 4).

    Units of beta x nats, summed over tokens; higher: the policy prefers the chosen response more
    strongly than the reference does. Zero for every pair when policy = reference. Beta is in it:
    do not multiply again.
    """
    d = log_ratios(policy_logps, ref_logps)
    return (positive(beta) * (d.chosen - d.rejected)).rename("implicit_margin")


def dpo_loss(policy_logps: pd.DataFrame, ref_logps: pd.DataFrame, beta: float = 0.1) -> pd.Series:
    """DPO loss of each pair, -log sigmoid(m) (arXiv 2305.18290, eq. 7). Nats; lower: the pair is
    better learned; ln 2 for every pair when policy = reference."""
    margin = implicit_margin(policy_logps, ref_logps, beta)
    return np.logaddexp(0.0, -margin).rename("dpo_loss")  # finite at any margin


def length_normalized_margin(policy_logps: pd.DataFrame, beta: float = 1.0) -> pd.Series:
    """SimPO's implicit reward margin: beta times (mean log-prob per chosen token - mean log-prob
    per rejected token) (arXiv 2405.14734, eq. 4, without its target gamma). Needs no reference.
    beta x nats per token; higher: the policy finds the chosen response likelier, token for token.
    """
    per_token = {
        side: policy_logps[f"{side}_logp"] / policy_logps[f"{side}_tokens"]
        for side in ("chosen", "rejected")
    }
    margin = positive(beta) * (per_token["chosen"] - per_token["rejected"])
    return margin.rename("length_normalized_margin")


def explicit_margin(pairs) -> pd.Series:
    """r(chosen) - r(rejected) from the `chosen_score, rejected_score` columns of the pairs, or of
    a table of scores (`nbkit.reward_scores`), in the units of whoever scored them. Higher: the
    judge is surer of the label; below zero: it contradicts the label.

    Raises:
        KeyError: the pairs carry no scores.
    """
    columns = getattr(pairs, "column_names", None) or list(pairs.columns)
    missing = [c for c in ("chosen_score", "rejected_score") if c not in columns]
    if missing:
        raise KeyError(
            f"These pairs have no {' and '.join(missing)} (columns: {', '.join(columns)}). An "
            "explicit margin needs a score of both responses, from people or a reward model."
        )
    margin = np.asarray(pairs["chosen_score"], float) - np.asarray(pairs["rejected_score"], float)
    ids = pairs["id"][:] if "id" in columns else pairs.index
    return pd.Series(margin, index=pd.Index(ids, name="id"), name="explicit_margin")


def common_pairs(first: pd.Series, second: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Two scores of the same pairs, the second in the order of the first.

    Raises:
        ValueError: they do not hold the same pairs, once each.
    """
    for score in (first, second):
        check_each_once(score.index, score.name)
    differ = first.index.symmetric_difference(second.index)
    if len(differ):
        raise ValueError(
            f"{first.name} ({len(first)} pairs) and {second.name} ({len(second)} pairs) must hold "
            f"the same pairs; {len(differ)} are in one only (first: {differ[0]!r}). Take "
            "`score.loc[ids]` of both."
        )
    return first, second.loc[first.index]


def check_each_once(ids: pd.Index, what: str) -> None:
    """Raise ValueError if an id occurs twice."""
    if ids.has_duplicates:
        id_ = ids[ids.duplicated()][0]
        raise ValueError(
            f"{what} holds pair {id_!r} more than once; expected each once. Of two tables in one, "
            "`table[~table.index.duplicated()]` keeps the first row of each pair."
        )


def _aligned(policy_logps: pd.DataFrame, ref_logps: pd.DataFrame) -> pd.DataFrame:
    """`ref_logps` in the order of `policy_logps`; both must hold the same pairs and tokens."""
    for name, table in (("policy's", policy_logps), ("reference", ref_logps)):
        check_each_once(table.index, f"The {name} table")
    absent = policy_logps.index.difference(ref_logps.index)
    extra = ref_logps.index.difference(policy_logps.index)
    if len(absent) or len(extra):
        raise ValueError(
            f"The two tables must hold the same pairs: {len(absent)} of the policy's "
            f"{len(policy_logps)} pairs are not in the reference table, and {len(extra)} of the "
            f"reference's {len(ref_logps)} are not in the policy's (e.g. "
            f"{[*absent[:2], *extra[:2]]}). Score both on the same pairs, or take `table.loc[ids]`."
        )
    ref_logps = ref_logps.loc[policy_logps.index]
    for side in ("chosen_tokens", "rejected_tokens"):
        differs = policy_logps.index[policy_logps[side].to_numpy() != ref_logps[side].to_numpy()]
        if len(differs):
            raise ValueError(
                f"{side} differs between the tables for {len(differs)} pairs (first: "
                f"{differs[0]!r}): policy and reference must use the same tokenizer and template."
            )
    return ref_logps


def positive(beta: float) -> float:
    """Beta, or ValueError if it is no number above 0."""
    if not beta > 0:
        raise ValueError(f"beta={beta!r}; expected a number above 0.")
    return beta
