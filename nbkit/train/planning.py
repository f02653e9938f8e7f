"""What can be said of a training before it starts."""

from __future__ import annotations

import math

from datasets import Dataset

from nbkit.inputs import as_count
from nbkit.models.policy import Policy
from nbkit.tokens.ids import split_unscored, tokenize_pairs
from nbkit.train.numbers import check_numbers

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
        TypeError, ValueError: a number out of its range; TRL's own name for something that
            `train_dpo` has a name for.
    """
    check_numbers(
        dict(batch_size=batch_size, epochs=epochs, max_steps=max_steps,
             gradient_accumulation_steps=gradient_accumulation_steps)
    )  # fmt: skip
    as_count(pairs, "pairs", least=0)
    if doubled := OWN_NAMES & set(_):
        raise ValueError(
            f"{', '.join(sorted(doubled))}: use train_dpo's batch_size, epochs, max_steps and "
            "gradient_accumulation_steps, so that the number of updates is known."
        )
    if max_steps > 0:
        return max_steps
    batches = math.ceil(pairs / batch_size)
    return math.ceil(epochs * math.ceil(batches / gradient_accumulation_steps))


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
