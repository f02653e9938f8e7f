"""The settings of a training: their names, what they may be, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from transformers import SchedulerType

from nbkit.inputs import as_count, as_number
from nbkit.models.policy import Policy
from nbkit.train.trainers import LOSSES, check_options

ORDERS = ("shuffled", "given")

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
MAY_BE_NONE = {"lora", "max_length"}


class Training(TypedDict, total=False):
    """The settings that experiments hand on to `nbkit.train_dpo`, where each is described. What
    is not here (`seed`, `reference`, `progress`, ...) every experiment has or sets itself."""

    loss: str
    beta: float
    learning_rate: float | None
    epochs: float
    batch_size: int
    order: str
    schedule: str
    warmup_steps: int | float
    max_grad_norm: float
    adam_beta2: float
    weight_decay: float
    simpo_gamma: float
    lora: int | None
    max_length: int | None
    max_steps: int
    log_every: int
    checkpoints: str | Path | None
    checkpoint_every: int
    trl_options: Mapping[str, Any] | None


def check_settings(policy: Policy, settings: Mapping[str, Any]) -> None:
    """Refuse what `nbkit.train_dpo` cannot train with; `settings` are all of its own, with a rate.

    Raises:
        TypeError, ValueError: with the setting's name, what came and what was expected.
    """
    if settings["loss"] not in LOSSES:
        raise ValueError(f"loss={settings['loss']!r}; expected one of {', '.join(LOSSES)}.")
    if settings["order"] not in ORDERS:
        raise ValueError(f"order={settings['order']!r}; expected 'shuffled' or 'given'.")
    check_schedule(settings["schedule"])
    check_numbers(settings)
    check_options(settings["loss"], settings["trl_options"], own=set(settings))
    check_numbers(settings["trl_options"])
    if settings["lora"] and policy.has_adapter:
        raise ValueError(
            f"Policy {policy.name!r} has an adapter already, and lora={settings['lora']} asks for "
            "another. Leave `lora` out to train that one; or merge it first: "
            "nb.Policy(policy.model.merge_and_unload(), policy.tokenizer)."
        )


def check_schedule(schedule: str) -> None:
    """Raise ValueError unless transformers knows this schedule of learning rates."""
    known = [kind.value for kind in SchedulerType]
    if schedule not in known:
        raise ValueError(f"schedule={schedule!r}; expected one of {', '.join(known)}.")


def check_numbers(settings: Mapping[str, Any]) -> None:
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


def updates(pairs: int, settings: Mapping[str, Any]) -> int:
    """Number of optimizer steps that a training with these settings (as `settings_in_effect` gives
    them) makes on so many pairs."""
    as_count(pairs, "pairs", least=0)
    if settings["max_steps"] > 0:
        return settings["max_steps"]
    batches = math.ceil(pairs / settings["batch_size"])
    accumulated = settings["trl_options"].get("gradient_accumulation_steps", 1)
    return math.ceil(settings["epochs"] * math.ceil(batches / accumulated))
