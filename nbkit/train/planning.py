"""What can be said of a training before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral

from datasets import Dataset

from nbkit.inputs import as_count, as_number
from nbkit.models import Policy
from nbkit.tokens import split_unscored, tokenize_pairs

OWN_NAMES = {"per_device_train_batch_size", "num_train_epochs", "dataloader_drop_last"}

# Of all weights, and of an adapter. Selective DPO's released recipes (arXiv 2502.09650; 7B to 9B
# models) have 1e-6, which is also TRL's default, and for LoRA (rank 16, alpha = rank, 50 batches of
# 64 pairs) 5e-5. On SmolLM2-135M and the world, with a few hundred pairs, 5e-5 moves less than
# bfloat16 rounds; 2e-4 teaches, and ranks pairs in bfloat16 as in float32.
FULL_RATE, LORA_RATE = 1e-6, 2e-4

NUMBERS = dict(
    beta=dict(above=0), learning_rate=dict(least=0), epochs=dict(above=0),
    warmup_steps=dict(least=0), max_grad_norm=dict(least=0), adam_beta2=dict(least=0, most=1),
    weight_decay=dict(least=0), simpo_gamma={},
)  # fmt: skip
COUNTS = dict(
    batch_size=1, gradient_accumulation_steps=1, seed=0, lora=1, max_length=1, trace_every=1,
    log_every=1, checkpoint_every=1,
)  # fmt: skip
MAY_BE_NONE = {"learning_rate", "lora", "max_length"}


def check_numbers(settings: dict) -> None:
    """Raise TypeError or ValueError for a number among these settings of a training that is none,
    or out of its range."""
    for name, value in settings.items():
        if value is None and name in MAY_BE_NONE:
            continue
        if name in NUMBERS:
            as_number(value, name, **NUMBERS[name])
        elif name in COUNTS:
            as_count(value, name, least=COUNTS[name])
        elif name == "max_steps" and value != -1:
            as_count(value, name)


def default_rate(policy: Policy, lora: int | None) -> float:
    """The learning rate of a training that names none."""
    return LORA_RATE if lora or policy.has_adapter else FULL_RATE


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
    whole = isinstance(seeds, Integral) and not isinstance(seeds, bool)
    listed = list(range(seeds)) if whole else list(seeds)
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"seeds={seeds!r:.60}; expected a number, 1 or more, or distinct seeds.")
    return [as_count(seed, "seeds", least=0) for seed in listed]
