"""Which numbers the settings of a training may be, and the learning rate of one that names none."""

from __future__ import annotations

from nbkit.inputs import as_count, as_number
from nbkit.models.policy import Policy

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
