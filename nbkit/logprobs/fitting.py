"""Pairs as token ids, as far as a policy can score them."""

from __future__ import annotations

from nbkit.inputs import as_limit, as_pairs
from nbkit.left_out import LeftOut
from nbkit.models.policy import Policy
from nbkit.pairs.sources import Pairs
from nbkit.tokens.ids import TokenPair, check_vocabulary, split_unscored, tokenize_pairs


def tokenize(
    policy: Policy,
    pairs: Pairs,
    max_length: int | None,
    what: str = "pairs",
    kept_as: str = "left_out",
) -> tuple[list[TokenPair], LeftOut]:
    """Token pairs that can be scored, and a `LeftOut` of the others.

    Raises and warns as `nbkit.response_logprobs` does, of `what`; `kept_as` is the place in the
    `attrs` of the caller's result where the others will be found.
    """
    max_length = as_limit(max_length, "max_length") or policy.max_length
    pairs = as_pairs(pairs, what)
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    check_vocabulary(token_pairs, policy.vocabulary)
    fit, left_out = split_unscored(token_pairs, max_length)
    left_out.warn(len(token_pairs), what, f".attrs[{kept_as!r}]")
    return fit, left_out
