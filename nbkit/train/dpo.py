"""`train_dpo`: preference training on TRL, fed with nbkit's tokens and reference log-probs."""

from __future__ import annotations

import contextlib
import copy
import gc
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerState

from nbkit.cache.files import try_folder
from nbkit.cache.hashes import with_defaults
from nbkit.inputs import as_pairs, as_policy
from nbkit.logprobs.table import logprob_table
from nbkit.models.lora import add_lora
from nbkit.models.policy import Policy
from nbkit.pairs.sources import Pairs
from nbkit.train.callbacks import LogLastStep, Progress, Tracer
from nbkit.train.checkpoints import fingerprint, last_checkpoint, step_of
from nbkit.train.fitting import fitting_pairs, followed_pairs, kept_rows, token_data
from nbkit.train.learned import warn_if_nothing, watched
from nbkit.train.randomness import kept_random_states
from nbkit.train.reference import reference_rows
from nbkit.train.run import Run, history_of
from nbkit.train.settings import check_settings, default_rate
from nbkit.train.trainers import dpo_options, make_trainer
from nbkit.train.weights import check_ran, check_trainable, in_training

INPUTS = {"policy", "pairs", "keep", "reference", "trace"}  # of train_dpo; all else is a setting


def train_dpo(
    policy: Policy,
    pairs: Pairs,
    keep: Iterable[str] | None = None,
    *,
    reference: Policy | pd.DataFrame | None = None,
    loss: str = "sigmoid",
    beta: float = 0.1,
    learning_rate: float | None = None,
    epochs: float = 1,
    batch_size: int = 16,
    order: str = "shuffled",
    seed: int = 0,
    schedule: str = "linear",
    warmup_steps: int | float = 0,
    max_grad_norm: float = 1.0,
    adam_beta2: float = 0.999,
    weight_decay: float = 0.0,
    simpo_gamma: float = 0.5,
    lora: int | None = None,
    copy_model: bool = True,
    max_length: int | None = None,
    max_steps: int = -1,
    trace: Pairs | None = None,
    trace_every: int = 10,
    log_every: int = 10,
    checkpoints: str | Path | None = None,
    checkpoint_every: int = 100,
    progress: bool = True,
    trl_options: Mapping[str, Any] | None = None,
) -> Run:
    """Train a policy on preference pairs with TRL.

    A bfloat16 policy trains under bfloat16 autocast, and the weights that are trained (all of them,
    or the adapter) are held in float32 until the end, when they are rounded to the policy's own
    precision again: for a training of all weights that is 16 bytes of memory a parameter (weight,
    gradient, Adam's two), beside the policy that it starts from. float16 is refused.

    The global random states of torch, NumPy and Python are left as they were.

    Args:
        policy: where training starts. It is not changed: a copy is trained (see `copy_model`). If
            it has an adapter, that is what is trained.
        pairs: Dataset with `id, prompt, chosen, rejected`.
        keep: ids to train on, in order (a selection); default all pairs.
        reference: the reference policy, or its log-prob table over the kept (and traced) pairs;
            default the policy as it is before training, with the adapter that it has (to train
            on against the base model, give `policy.without_adapter()`).
        loss: "sigmoid" (DPO), "ipo", "hinge" (= "slic"), or "simpo" (no reference).
        beta: the loss's temperature.
        learning_rate: default by what is trained: 1e-6 for all weights, which is the rate of
            Selective DPO's released recipe for 8B models, and TRL's default; 2e-4 for LoRA. The
            released cross-fitting trains LoRA at 5e-5 (7B to 9B, 50 batches of 64 pairs: take that
            for large models and data sets), which moves a small model on a few hundred pairs by
            less than bfloat16 rounds. 2e-4 teaches there (SmolLM2-135M, `world/medium`); at 1e-3
            the former ran away. `run.settings` has the rate that was in effect.
        epochs, batch_size, schedule, warmup_steps, max_grad_norm, adam_beta2, weight_decay: as in
            transformers' TrainingArguments (AdamW; `batch_size` pairs a step; `schedule` one of
            its values of `lr_scheduler_type`, and "constant" warms up too).
        order: "shuffled" (by `seed`, anew each epoch) or "given": exactly the order of `keep`,
            every epoch: a curriculum.
        seed: of the shuffling and of fresh adapters.
        simpo_gamma: SimPO's target margin gamma (arXiv 2405.14734, eq. 6).
        lora: rank of a fresh LoRA adapter to train instead of all weights.
        copy_model: False trains the given model in place, which saves the memory of a copy.
        max_length: longest prompt + response in tokens, default the model's own. Longer pairs are
            left out and named in `run.left_out`, with a warning; nothing is truncated.
        max_steps: stop after so many optimizer steps.
        trace: Dataset of pairs to follow; they are scored before training, every `trace_every`
            steps and at the end.
        trace_every: steps between rows of the trace.
        log_every: steps between rows of the history.
        checkpoints: folder for the run's state, saved every `checkpoint_every` steps and at the
            end. The same call (same weights, pairs and settings) after an interruption goes on
            from the last whole state, to the same result; other calls do not touch it. Folders
            are tried before the work; a state that cannot be written later is a warning.
        checkpoint_every: steps between saved states.
        progress: show a progress bar.
        trl_options: further fields of TRL's DPOConfig (CPOConfig for SimPO), such as
            `{"activation_checkpointing": True, "gradient_accumulation_steps": 8}` on a GPU.

    Returns:
        Run. A warning says, with the numbers, when the training moved nothing that scoring in the
        policy's precision could show.

    Raises:
        TypeError, ValueError: a number out of its range, an unknown loss, order, schedule or
            option; ids in `keep` that are not in `pairs`, or twice; a reference table that lacks
            pairs, was made of other tokens, or is not finite; a policy that cannot be trained;
            nothing left to train on. All before the work.
        OSError: `checkpoints` cannot be written to.
        FloatingPointError: the loss, or a weight, became NaN or infinite.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(8)
        >>> run = nb.train_dpo(policy, pairs, learning_rate=1e-3, batch_size=4, progress=False)
        >>> run.history.step.tolist(), len(run.trained_on)
        ([2], 8)
    """
    settings = {k: v for k, v in locals().items() if k not in INPUTS}
    policy = as_policy(policy)
    settings = settings_in_effect(policy, settings)
    check_trainable(policy, lora)
    pairs = kept_rows(as_pairs(pairs), keep)
    trace = None if trace is None else as_pairs(trace, "trace")
    length = max_length or policy.max_length
    tokens, left_out = fitting_pairs(policy, pairs, length)
    left_out.warn(len(pairs), where="run.left_out")
    followed = [] if trace is None else followed_pairs(policy, trace, length)
    if checkpoints is not None:
        checkpoints = try_folder(checkpoints, "checkpoints")

    known = known_followed = None
    if loss != "simpo":
        known = reference_rows(policy, reference, pairs, tokens, length, progress)
        known_followed = reference_rows(policy, reference, trace, followed, length, progress)
    data = token_data(tokens, known)

    with kept_random_states():
        learner = _learner(policy, copy_model, lora, seed)
        seen = watched(tokens)
        before = logprob_table(learner, seen, progress=False)
        told = data, settings, followed, known_followed
        state = checkpoints and checkpoints / fingerprint(learner, *told)
        options = dpo_options(policy, {**settings, "max_length": length})
        with in_training(learner.model) as weights:
            tracer = Tracer(learner, weights, followed, known_followed, beta, trace_every, state)
            done = _updated(learner, data, settings, options, tracer, state)
    check_ran(learner, learning_rate=settings["learning_rate"])
    after = logprob_table(learner, seen, progress=False)
    warn_if_nothing(learner, seen, before, after, settings, done.global_step)
    return Run(
        policy=learner,
        history=history_of(done.log_history),
        trace=tracer.frame() if followed else None,
        trained_on=data["id"][:],
        left_out=left_out,
        settings=settings,
    )


def settings_in_effect(policy: Policy, training: Mapping[str, Any]) -> dict[str, Any]:
    """All settings that `train_dpo(policy, pairs, **training)` would train with, defaults and its
    learning rate among them.

    Raises:
        TypeError, ValueError: settings that it refuses.
    """
    settings = {k: v for k, v in with_defaults(train_dpo, training).items() if k not in INPUTS}
    if settings["trl_options"] is None:
        settings["trl_options"] = {}
    if settings["learning_rate"] is None:
        settings["learning_rate"] = default_rate(policy, settings["lora"])
    check_settings(policy, settings)
    return settings


def _learner(policy: Policy, copy_model: bool, lora: int | None, seed: int) -> Policy:
    """The policy that is trained. Fresh adapters start at random: `seed` decides."""
    if copy_model:
        policy = Policy(copy.deepcopy(policy.model), policy.tokenizer, policy.name)
    if not lora:
        return policy
    torch.manual_seed(seed)
    return add_lora(policy, rank=lora)


def _updated(
    learner: Policy,
    data: Dataset,
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
    tracer: Tracer,
    state: Path | None,
) -> TrainerState:
    """Train the learner, from the last checkpoint in `state` if there is one; how it went."""
    callbacks: list[TrainerCallback] = [LogLastStep()]
    callbacks += [Progress()] if settings["progress"] else []
    callbacks += [tracer] if tracer.token_pairs else []
    last = last_checkpoint(state) if state else None
    if last and tracer.token_pairs and not tracer.resume(step_of(last)):
        last = None
    with tempfile.TemporaryDirectory(prefix="nbkit-") as scratch, contextlib.ExitStack() as stack:
        saving = dict(
            output_dir=str(state or scratch), save_strategy="steps" if state else "no",
            save_steps=settings["checkpoint_every"], save_total_limit=2,
        )  # fmt: skip
        trainer = make_trainer(
            settings["loss"], learner.model, learner.tokenizer, data, callbacks,
            simpo_gamma=settings["simpo_gamma"], **{**saving, **options, **settings["trl_options"]},
        )  # fmt: skip
        gc.freeze()  # the trainer begins with a full garbage collection: longer than a short run
        stack.callback(gc.unfreeze)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    return trainer.state
