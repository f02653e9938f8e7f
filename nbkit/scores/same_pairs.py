"""What belongs together: tables over the same pairs, scores of the same pairs.

Two *tables* make one number only over the same pairs and tokens: a pair that one of them lacks is
refused, with what to write. Two *scores* are put together on the pairs that both hold, with one
warning that counts the others.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from nbkit.left_out import LeftOut, some
from nbkit.pair_ids import check_each_once
from nbkit.select.series import as_numbers

SIDES = ("chosen", "rejected")


def check_table(table: pd.DataFrame, what: str) -> None:
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
        as_finite(table[column], f"{what}: {column}")


def aligned(policy_logps: pd.DataFrame, ref_logps: pd.DataFrame) -> pd.DataFrame:
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
    first, second = (as_finite(score, name) for score, name in zip((first, second), names))
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
    left_out.warn(len(common) + len(left_out), where=where)
    return first[common], second[common], left_out


def as_finite(values: pd.Series, what: str | None) -> pd.Series:
    """Floats by pair id, each once (`nbkit.select.series.as_numbers`); ValueError if one is
    infinite, while NaN passes."""
    values = as_numbers(values, what)
    if (infinite := values.index[np.isinf(values)]).size:
        raise ValueError(
            f"{what} of pair {infinite[0]!r} is {values[infinite[0]]}; expected a finite number, "
            "or NaN where there is none."
        )
    return values
