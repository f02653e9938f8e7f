"""The reference of a training, as a log-prob table."""

from __future__ import annotations

import pandas as pd
from datasets import Dataset

from nbkit.inputs import as_policy
from nbkit.logprobs.rows import rows_of_tokens
from nbkit.logprobs.table import logprob_table, response_logprobs
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair


def reference_table(
    policy: Policy,
    reference: Policy | pd.DataFrame | None,
    pairs: Dataset,
    max_length: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The reference's log-prob table of `pairs`, for `reference` as `train_dpo` takes it."""
    if isinstance(reference, pd.DataFrame):
        return reference
    reference = policy if reference is None else as_policy(reference, "reference")
    return response_logprobs(reference, pairs, max_length=max_length, progress=progress)


def reference_rows(
    policy: Policy,
    reference: Policy | pd.DataFrame | None,
    pairs: Dataset,
    token_pairs: list[TokenPair],
    max_length: int | None,
    progress: bool,
) -> pd.DataFrame | None:
    """Rows of the reference's table for `token_pairs`, those of `pairs` that fit the policy; None
    if there are none."""
    if not token_pairs:
        return None
    if reference is None:
        return logprob_table(policy, token_pairs, progress=progress)
    fit = {pair.id for pair in token_pairs}
    pairs = pairs.select([row for row, id_ in enumerate(pairs["id"]) if id_ in fit])
    table = reference_table(policy, reference, pairs, max_length, progress)
    return rows_of_tokens(table, token_pairs)
