"""`train_dpo`: preference training on TRL, fed with nbkit's tokens and reference log-probs."""

from __future__ import annotations

import contextlib
import copy
import gc
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from transformers import SchedulerType

from nbkit.cache.files import try_folder
from nbkit.cache.hashes import with_defaults
from nbkit.inputs import as_ids, as_pairs, as_policy
from nbkit.left_out import LeftOut
from nbkit.logprobs.rows import rows_of_tokens
from nbkit.logprobs.table import logprob_table, response_logprobs
from nbkit.models.checks import check_finite
from nbkit.models.lora import add_lora
from nbkit.models.policy import Policy
from nbkit.tokens.ids import check_vocabulary, split_unscored, tokenize_pairs
from nbkit.train.callbacks import LogLastStep, Progress, Tracer
from nbkit.train.checkpoints import fingerprint, last_checkpoint, step_of
from nbkit.train.learned import warn_if_nothing, watched
from nbkit.train.numbers import check_numbers, default_rate
from nbkit.train.planning import updates
from nbkit.train.randomness import kept_random_states
from nbkit.train.trainers import LOSSES, check_options, make_trainer, shared_options, strip
from nbkit.train.weights import MasterWeights, check_trainable

INPUTS = {"policy", "pairs", "keep", "reference", "trace"}  # of train_dpo; all else is a setting

HISTORY = {
    "step": "step", "epoch": "epoch", "loss": "loss", "rewards/margins": "margin",
    "rewards/accuracies": "accuracy", "logps/chosen": "chosen_logp",
    "logps/rejected": "rejected_logp", "grad_norm": "grad_norm", "learning_rate": "learning_rate",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What a training run leaves.

    Attributes:
        policy: the trained policy.
        history: one row a logged step: `step, epoch, loss, margin, accuracy, chosen_logp,
            rejected_logp, grad_norm, learning_rate`, means over the steps since the last row
            (margin: implicit reward margin, beta included; log-probs in nats, summed; for SimPO
            both are length-normalised, as TRL logs them).
        trace: tidy frame `step, id, chosen_logp, rejected_logp, margin` of the followed pairs
            (nats, summed; margin with beta; step 0 is before training); None when none were.
        trained_on: ids in the order of the first epoch's data set.
        left_out: id -> reason, for pairs that could not be tokenised into the model's length.
        settings: the arguments of the run, with the learning rate that was in effect.
    """

    policy: Policy
    history: pd.DataFrame
    trace: pd.DataFrame | None
    trained_on: list[str]
    left_out: LeftOut
    settings: dict = field(repr=False)


def train_dpo(
    policy: Policy,
    pairs,
    keep=None,
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
    trace=None,
    trace_every: int = 10,
    log_every: int = 10,
    checkpoints: str | Path | None = None,
    checkpoint_every: int = 100,
    progress: bool = True,
    **trl_options,
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
            its `lr_scheduler_type`s, and "constant" warms up too).
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
        log_every: steps between rows of the history.
        checkpoints: folder for the run's state, saved every `checkpoint_every` steps and at the
            end. The same call (same weights, pairs and settings) after an interruption goes on
            from the last whole state, to the same result; other calls do not touch it. Folders
            are tried before the work; a state that cannot be written later is a warning.
        checkpoint_every: steps between saved states.
        progress: show a progress bar.
        **trl_options: further fields of TRL's DPOConfig (CPOConfig for SimPO), such as
            `activation_checkpointing=True` or `gradient_accumulation_steps=8` on a GPU.

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
    """
    settings = {k: v for k, v in locals().items() if k not in INPUTS}
    policy, pairs, trace = _checked(policy, pairs, trace, settings)
    learning_rate = settings["learning_rate"]
    pairs = kept_rows(pairs, keep)
    max_length = max_length or policy.max_length
    tokens, left_out = fitting_pairs(policy, pairs, max_length)
    left_out.warn(len(pairs), where="run.left_out")
    followed = []
    if trace is not None:
        followed, passed = split_unscored(tokenize_pairs(policy.tokenizer, trace), max_length)
        passed.warn(len(trace), "pairs to trace")
        if not followed:
            raise ValueError(f"No pair is left to trace, of {len(trace)}: {passed.reasons()}.")
    check_vocabulary(tokens + followed, policy.causal_lm.get_input_embeddings().weight.shape[0])
    if checkpoints is not None:
        checkpoints = try_folder(checkpoints, "checkpoints")

    data, followed_reference = _token_data(tokens), None
    if loss != "simpo":
        known = (max_length, progress)
        rows = _reference_rows(policy, reference, pairs, tokens, *known)
        for side in ("chosen", "rejected"):
            data = data.add_column(f"ref_{side}_logps", rows[f"{side}_logp"].to_list())
        followed_reference = _reference_rows(policy, reference, trace, followed, *known)

    with kept_random_states(), contextlib.ExitStack() as stack:
        learner = _learner(policy, copy_model, lora, seed)
        state, last = None, None
        if checkpoints is not None:
            told = (data, settings, followed, followed_reference)
            state = checkpoints / fingerprint(learner, *told)
            last = last_checkpoint(state)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="nbkit-"))
        seen = watched(tokens)
        before = logprob_table(learner, seen, progress=False)
        weights = MasterWeights(learner.model)
        stack.callback(weights.put_back)
        stack.callback(_as_it_was, learner.model)
        tracer = Tracer(learner, weights, followed, followed_reference, beta, trace_every, state)
        if last and trace is not None and not tracer.resume(step_of(last)):
            last = None
        callbacks = [LogLastStep()]
        callbacks += [Progress()] if progress else []
        callbacks += [tracer] if trace is not None else []
        options = dict(
            output_dir=str(state or scratch), beta=beta,
            save_strategy="steps" if state else "no", save_steps=checkpoint_every,
            save_total_limit=2, max_steps=max_steps, max_length=max_length,
            adam_beta2=adam_beta2, weight_decay=weight_decay,
            train_sampling_strategy="sequential" if order == "given" else "random",
            **shared_options(
                policy, learning_rate=learning_rate, epochs=epochs, batch_size=batch_size,
                schedule=schedule, warmup_steps=warmup_steps, max_grad_norm=max_grad_norm,
                seed=seed, log_every=log_every,
            ),
        )  # fmt: skip
        trainer = make_trainer(
            loss, learner.model, policy.tokenizer, data, callbacks, simpo_gamma=simpo_gamma,
            **{**options, **trl_options},
        )  # fmt: skip
        gc.freeze()  # the trainer begins with a full garbage collection: longer than a short run
        stack.callback(gc.unfreeze)
        trainer.train(resume_from_checkpoint=last and str(last))
    try:
        check_finite(learner.name, learner.model)
    except ValueError as error:
        raise FloatingPointError(
            f"The training has run away. {error} Lower the learning rate ({learning_rate:g}), or "
            "warm it up (warmup_steps)."
        ) from error
    after = logprob_table(learner, seen, progress=False)
    warn_if_nothing(learner, seen, before, after, settings, trainer.state.global_step)
    history = pd.DataFrame(trainer.state.log_history)
    history = history[history["loss"].notna()].rename(columns=HISTORY)
    return Run(
        policy=learner,
        history=history[[c for c in HISTORY.values() if c in history]].reset_index(drop=True),
        trace=tracer.frame() if trace is not None else None,
        trained_on=data["id"][:],
        left_out=left_out,
        settings=settings,
    )


def settings_in_effect(policy: Policy, **training) -> dict:
    """All settings that `train_dpo(policy, pairs, **training)` would train with, defaults and its
    learning rate among them.

    Raises:
        TypeError, ValueError: settings that it refuses.
    """
    defaults = with_defaults(train_dpo, {})
    settings = {k: v for k, v in {**defaults, **training}.items() if k not in INPUTS}
    if settings["loss"] not in LOSSES:
        raise ValueError(f"loss={settings['loss']!r}; expected one of {', '.join(LOSSES)}.")
    if settings["order"] not in ("shuffled", "given"):
        raise ValueError(f"order={settings['order']!r}; expected 'shuffled' or 'given'.")
    schedules = [kind.value for kind in SchedulerType]
    if settings["schedule"] not in schedules:
        raise ValueError(
            f"schedule={settings['schedule']!r}; expected one of {', '.join(schedules)}."
        )
    check_numbers(settings)
    updates(1, **settings)
    check_options(settings["loss"], set(settings) - set(defaults))
    if settings["lora"] and policy.has_adapter:
        raise ValueError(
            f"Policy {policy.name!r} has an adapter already, and lora={settings['lora']} asks for "
            "another. Leave `lora` out to train that one; or merge it first: "
            "nb.Policy(policy.model.merge_and_unload(), policy.tokenizer)."
        )
    if settings["learning_rate"] is None:
        settings["learning_rate"] = default_rate(policy, settings["lora"])
    return settings


def kept_rows(pairs, keep):
    """The rows of `pairs` with the ids in `keep`, in that order."""
    if keep is None:
        return pairs
    where = {id_: row for row, id_ in enumerate(pairs["id"])}
    return pairs.select([where[id_] for id_ in as_ids(keep, where)])


def fitting_pairs(policy, pairs, max_length):
    """Tokens of the pairs to train on, and a `LeftOut` of those that do not fit."""
    fit, left_out = split_unscored(tokenize_pairs(policy.tokenizer, pairs), max_length)
    if not fit:
        raise ValueError(
            f"No pair is left to train on, of {len(pairs)} given: {left_out.reasons()}."
        )
    return fit, left_out


def _checked(policy, pairs, trace, settings):
    """Policy and pairs from what was given; `settings` as they are in effect."""
    policy = as_policy(policy)
    training = {name: settings.pop(name) for name in list(settings)}
    settings |= settings_in_effect(policy, **training.pop("trl_options"), **training)
    check_trainable(policy, settings["lora"])
    return policy, as_pairs(pairs), None if trace is None else as_pairs(trace, "trace")


def _token_data(token_pairs) -> Dataset:
    """Data set of token ids as TRL's trainers want it."""
    columns = {
        "id": [p.id for p in token_pairs],
        "prompt_ids": [p.prompt for p in token_pairs],
        "chosen_ids": [p.chosen for p in token_pairs],
        "rejected_ids": [p.rejected for p in token_pairs],
    }
    return Dataset.from_dict(columns)


def reference_table(policy: Policy, reference, pairs, max_length=None, progress=True):
    """The reference's log-prob table of `pairs`, for `reference` as `train_dpo` takes it."""
    if isinstance(reference, pd.DataFrame):
        return reference
    reference = policy if reference is None else as_policy(reference, "reference")
    return response_logprobs(reference, pairs, max_length=max_length, progress=progress)


def _reference_rows(policy, reference, pairs, token_pairs, max_length, progress):
    """Rows of the reference's table for `token_pairs`, those of `pairs` that fit the policy."""
    if not token_pairs:
        return None
    if reference is None:
        return logprob_table(policy, token_pairs, progress=progress)
    fit = {pair.id for pair in token_pairs}
    pairs = pairs.select([row for row, id_ in enumerate(pairs["id"]) if id_ in fit])
    table = reference_table(policy, reference, pairs, max_length, progress)
    return rows_of_tokens(table, token_pairs)


def _as_it_was(model):
    strip(model)
    model.eval()


def _learner(policy, copy_model, lora, seed):
    """The policy that is trained. Fresh adapters start at random: `seed` decides."""
    if copy_model:
        policy = Policy(copy.deepcopy(policy.model), policy.tokenizer, policy.name)
    if not lora:
        return policy
    torch.manual_seed(seed)
    return add_lora(policy, rank=lora)
