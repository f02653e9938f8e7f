"""Rows of a log-prob table (`nbkit.response_logprobs`) for pairs that are about to be used."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from nbkit.left_out import some
from nbkit.pair_ids import check_each_once
from nbkit.tokens.ids import TokenPair

LOGPS = ["chosen_logp", "rejected_logp"]


def rows_of(table: pd.DataFrame, ids: Iterable[str], what: str = "reference") -> pd.DataFrame:
    """The rows of a log-prob table for `ids`, in their order. The table may hold more.

    Args:
        what: the caller's name of the table, for messages.

    Raises:
        TypeError: no log-prob table.
        ValueError: it lacks pairs, or holds one twice; log-probs that are not finite.
    """
    if not isinstance(table, pd.DataFrame) or not set(LOGPS) <= set(table.columns):
        raise TypeError(
            f"{what} is of type {type(table).__name__}; expected a log-prob table "
            f"(nb.response_logprobs){' or a policy' if what == 'reference' else ''}."
        )
    ids = list(ids)
    if absent := pd.Index(ids).difference(table.index, sort=False).tolist():
        raise ValueError(
            f"The table {what!r} lacks {len(absent)} of {len(ids)} pairs (first: {absent[0]!r}). "
            "Score them too (nb.response_logprobs), or give the policy itself."
        )
    rows = table[table.index.isin(ids)]
    check_each_once(rows.index, f"The table {what!r}")
    rows = rows.loc[ids]
    if (bad := ~np.isfinite(rows[LOGPS].to_numpy(float)).all(axis=1)).any():
        raise ValueError(
            f"The table {what!r} has log-probs that are not finite: pair {some(rows.index[bad])}."
        )
    return rows


def rows_of_tokens(
    table: pd.DataFrame, token_pairs: list[TokenPair], what: str = "reference"
) -> pd.DataFrame:
    """`rows_of` the pairs, after a look whether just these tokens were scored.

    Raises:
        ValueError: as `rows_of`; other texts under the ids, another tokenizer or template.
    """
    rows = rows_of(table, [pair.id for pair in token_pairs], what)
    expected = {
        "tokens_hash": [pair.tokens_hash for pair in token_pairs],
        "chosen_tokens": [len(pair.chosen) - pair.first_scored for pair in token_pairs],
        "rejected_tokens": [len(pair.rejected) - pair.first_scored for pair in token_pairs],
    }
    for column, values in expected.items():
        if column not in rows:
            continue
        known = rows[column].notna()  # tables put together may lack the hash of some rows
        if other := rows.index[known & (rows[column] != values)].tolist():
            raise ValueError(
                f"The table {what!r} holds other texts under the ids of {len(other)} pairs (first: "
                f"{other[0]!r}), or other tokens: {column} differ. It was made with other texts, "
                "another tokenizer or another chat template; score the pairs again."
            )
    return rows
