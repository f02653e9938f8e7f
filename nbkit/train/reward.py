"""`train_reward_model`: a judge learned from preference pairs, on TRL."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

from nbkit.inputs import as_pairs, as_policy
from nbkit.judges import SIDES, RewardModel, check_pad_token
from nbkit.left_out import LeftOut
from nbkit.models.policy import Policy
from nbkit.pairs.sources import Pairs
from nbkit.train.callbacks import LogLastStep, Progress
from nbkit.train.fitting import fitting_pairs, kept_rows
from nbkit.train.randomness import kept_random_states
from nbkit.train.settings import check_numbers, check_schedule
from nbkit.train.trainers import check_options, make_reward_trainer, shared_options
from nbkit.train.weights import check_trainable, in_training

HISTORY = ["step", "epoch", "loss", "accuracy", "margin"]


@dataclass(frozen=True)
class RewardRun:
    """What the training of a reward model leaves.

    Attributes:
        reward_model: the trained reward model.
        history: one row a logged step: `step, epoch, loss, accuracy, margin` (of the batches since
            the last row; margin in reward units).
        trained_on: ids of the pairs.
        left_out: id -> reason, for pairs that do not fit into the model's length.
    """

    reward_model: RewardModel
    history: pd.DataFrame
    trained_on: list[str]
    left_out: LeftOut


def train_reward_model(
    policy: Policy,
    pairs: Pairs,
    keep: Iterable[str] | None = None,
    *,
    learning_rate: float = 1e-4,
    epochs: float = 1,
    batch_size: int = 16,
    schedule: str = "linear",
    warmup_steps: int | float = 0,
    max_grad_norm: float = 1.0,
    seed: int = 0,
    max_length: int | None = None,
    log_every: int = 10,
    name: str | None = None,
    progress: bool = True,
    trl_options: Mapping[str, Any] | None = None,
) -> RewardRun:
    """Train a reward model on preference pairs: the loss of a pair is -log sigmoid(r(chosen) -
    r(rejected)), Bradley and Terry's. Precision and random states are as for `nbkit.train_dpo`.

    Args:
        policy: its body is where the reward model starts (a copy); the head is fresh.
        pairs: Dataset with `id, prompt, chosen, rejected`.
        keep: ids to train on; default all pairs.
        learning_rate, epochs, batch_size, schedule, warmup_steps, max_grad_norm: as for
            `nbkit.train_dpo`.
        seed: of the head and of the order.
        max_length: longest prompt + response in tokens; longer pairs are left out, with a warning.
        log_every: steps between rows of the history.
        name: of the reward model; default after the policy.
        progress: show a progress bar.
        trl_options: further fields of TRL's RewardConfig, such as
            `{"center_rewards_coefficient": 0.01}`.

    Returns:
        RewardRun.

    Raises:
        TypeError, ValueError: a policy with an adapter, or that cannot be trained; a number out of
            its range; ids in `keep` that are not in `pairs`; nothing left to train on.
        FloatingPointError: the loss became NaN or infinite.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(8)
        >>> run = nb.train_reward_model(policy, pairs, batch_size=8, progress=False)
        >>> list(run.history), len(run.trained_on)
        (['step', 'epoch', 'loss', 'accuracy', 'margin'], 8)
    """
    settings = dict(
        learning_rate=learning_rate, epochs=epochs, batch_size=batch_size, schedule=schedule,
        warmup_steps=warmup_steps, max_grad_norm=max_grad_norm, seed=seed, max_length=max_length,
        log_every=log_every,
    )  # fmt: skip
    policy, pairs = as_policy(policy), as_pairs(pairs)
    trl_options = {} if trl_options is None else trl_options
    check_schedule(schedule)
    check_options("reward", trl_options, own=set(settings))
    check_numbers({**settings, **trl_options})
    check_trainable(policy, None)
    check_pad_token(policy.tokenizer, policy.name)
    pairs = kept_rows(pairs, keep)
    fit, left_out = fitting_pairs(policy, pairs, max_length or policy.max_length)
    left_out.warn(len(pairs), where="run.left_out")
    sequences = {f"{side}_ids": [p.prompt + getattr(p, side) for p in fit] for side in SIDES}
    callbacks = [LogLastStep(), *([Progress()] if progress else [])]
    with kept_random_states(), tempfile.TemporaryDirectory(prefix="nbkit-") as scratch:
        model = _classifier(policy, seed)
        with in_training(model):
            options = dict(shared_options(policy, settings), output_dir=scratch, max_length=None)
            trainer = make_reward_trainer(
                model, policy.tokenizer, Dataset.from_dict(sequences), callbacks,
                save_strategy="no", **{**options, **trl_options},
            )  # fmt: skip
            trainer.train()
    history = pd.DataFrame(trainer.state.log_history)
    history = history[history["loss"].notna()][HISTORY].reset_index(drop=True)
    reward_model = RewardModel(model, policy.tokenizer, name or f"reward model of {policy.name}")
    return RewardRun(reward_model, history, [p.id for p in fit], left_out)


def _classifier(policy: Policy, seed: int) -> Any:
    """A sequence classifier with one label on a copy of the policy's body."""
    if policy.has_adapter:
        raise ValueError(
            f"Policy {policy.name!r} has an adapter; a reward model starts from plain weights. "
            "Pass the policy that the adapter was added to."
        )
    config = copy.deepcopy(policy.causal_lm.config)
    config.num_labels, config.pad_token_id = 1, policy.tokenizer.pad_token_id
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config, dtype=policy.dtype)
    model.base_model.load_state_dict(policy.causal_lm.base_model.state_dict())
    return model.to(policy.device)
