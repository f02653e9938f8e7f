"""The pairs of a training: those that are kept and fit the model, as token ids."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from datasets import Dataset

from nbkit.inputs import as_ids
from nbkit.left_out import LeftOut
from nbkit.logprobs.rows import LOGPS
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair, check_vocabulary, split_unscored, tokenize_pairs


def kept_rows(pairs: Dataset, keep: Iterable[str] | None) -> Dataset:
    """The rows of `pairs` with the ids in `keep`, in that order; all for None."""
    if keep is None:
        return pairs
    where = {id_: row for row, id_ in enumerate(pairs["id"])}
    return pairs.select([where[id_] for id_ in as_ids(keep, where)])


def fitting_pairs(
    policy: Policy, pairs: Dataset, max_length: int | None
) -> tuple[list[TokenPair], LeftOut]:
    """Tokens of the pairs to train on, and an account of those that do not fit.

    Raises:
        ValueError: none is left; a token that is not in the model's vocabulary.
    """
    fit, left_out = split_unscored(tokenize_pairs(policy.tokenizer, pairs), max_length)
    if not fit:
        raise ValueError(
            f"No pair is left to train on, of {len(pairs)} given: {left_out.reasons()}."
        )
    _check_vocabulary(policy, fit)
    return fit, left_out


def followed_pairs(policy: Policy, trace: Dataset, max_length: int | None) -> list[TokenPair]:
    """Tokens of the pairs to trace, after a warning of those that do not fit.

    Raises:
        ValueError: none is left; a token that is not in the model's vocabulary.
    """
    followed, passed = split_unscored(tokenize_pairs(policy.tokenizer, trace), max_length)
    passed.warn(len(trace), "pairs to trace")
    if not followed:
        raise ValueError(f"No pair is left to trace, of {len(trace)}: {passed.reasons()}.")
    _check_vocabulary(policy, followed)
    return followed


def pairs_that_fit(
    policy: Policy, pairs: Dataset, max_length: int | None = None, what: str = "pairs"
) -> Dataset:
    """The pairs that `train_dpo` does not leave out, after a warning of those it does.

    Raises:
        ValueError: none is left.
    """
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    fit, left_out = split_unscored(token_pairs, max_length or policy.max_length)
    if not fit:
        raise ValueError(f"None of the {len(pairs)} {what} can be trained on: {left_out.reasons()}")
    left_out.warn(len(pairs), what)
    return pairs.select([row for row, pair in enumerate(token_pairs) if pair.id not in left_out])


def token_data(token_pairs: list[TokenPair], reference: pd.DataFrame | None) -> Dataset:
    """Data set of token ids, with the reference's log-probs if there are any, as TRL's trainers
    want it."""
    columns = {
        "id": [p.id for p in token_pairs],
        "prompt_ids": [p.prompt for p in token_pairs],
        "chosen_ids": [p.chosen for p in token_pairs],
        "rejected_ids": [p.rejected for p in token_pairs],
    }
    if reference is not None:
        columns |= {f"ref_{name}s": reference[name].to_list() for name in LOGPS}
    return Dataset.from_dict(columns)


def _check_vocabulary(policy: Policy, token_pairs: list[TokenPair]) -> None:
    check_vocabulary(token_pairs, policy.vocabulary)
