"""What can be said of a training before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterable

from datasets import Dataset

from nbkit.inputs import LeftOut
from nbkit.models import Policy
from nbkit.tokens import split_unscored, tokenize_pairs

OWN_NAMES = {"per_device_train_batch_size", "num_train_epochs", "dataloader_drop_last"}


def updates(
    pairs: int,
    *,
    batch_size: int = 16,
    epochs: float = 1,
    max_steps: int = -1,
    gradient_accumulation_steps: int = 1,
    **_,
) -> int:
    """Number of optimizer steps that `train_dpo` makes on so many pairs with these settings (of
    which those that do not matter here are passed over).

    Raises:
        ValueError: TRL's own name for something that `train_dpo` has a name for.
    """
    if doubled := OWN_NAMES & set(_):
        raise ValueError(
            f"{', '.join(sorted(doubled))}: use train_dpo's batch_size, epochs, max_steps and "
            "gradient_accumulation_steps, so that the number of updates is known."
        )
    if max_steps > 0:
        return max_steps
    batches = math.ceil(pairs / batch_size)
    return math.ceil(epochs * math.ceil(batches / gradient_accumulation_steps))


def rows_that_fit(policy: Policy, pairs, max_length: int | None = None) -> list[int]:
    """Rows of the pairs that `train_dpo` does not leave out, in order.

    Raises:
        ValueError: ids that are no text.
    """
    if len(pairs) and not isinstance(pairs[0]["id"], str):
        raise ValueError(
            f"The ids of the pairs must be text, got {pairs[0]['id']!r}. `nb.load_pairs` makes "
            "them so."
        )
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    _, left_out = split_unscored(token_pairs, max_length or policy.max_length)
    return [row for row, id_ in enumerate(pairs["id"]) if id_ not in left_out]


def pairs_that_fit(
    policy: Policy, pairs: Dataset, max_length: int | None = None, what: str = "pairs"
) -> Dataset:
    """The pairs that `train_dpo` does not leave out, after a warning of those it does.

    Raises:
        ValueError: none is left.
    """
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    fit, left_out = split_unscored(token_pairs, max_length or policy.max_length)
    left_out = LeftOut(left_out)
    if not fit:
        raise ValueError(f"None of the {len(pairs)} {what} can be trained on: {left_out.reasons()}")
    left_out.warn(len(pairs), what, stacklevel=3)
    return pairs.select([row for row, pair in enumerate(token_pairs) if pair.id not in left_out])


def refuse(training: dict, names: set[str], whose: str) -> None:
    """Raise ValueError for arguments of `train_dpo` that a caller of it sets itself."""
    if own := names & set(training):
        raise ValueError(f"{', '.join(sorted(own))}: set by the {whose} itself.")


def seed_list(seeds: int | Iterable[int]) -> list[int]:
    """Seeds from their number (0, 1, ...) or from a list of them.

    Raises:
        ValueError: there are none, or one comes twice.
    """
    listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"seeds={seeds!r}; expected a number, 1 or more, or distinct seeds.")
    return listed
