"""`train_dpo`: preference training on TRL, fed with nbkit's tokens and reference log-probs."""

from __future__ import annotations

import copy
import gc
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset

from nbkit.logprobs import response_logprobs
from nbkit.models import Policy, add_lora
from nbkit.tokens import split_unscored, tokenize_pairs
from nbkit.train.callbacks import LogLastStep, Progress, Tracer
from nbkit.train.checkpoints import fingerprint, last_checkpoint
from nbkit.train.trainers import LOSSES, make_trainer, shared_options, strip

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
        settings: the arguments of the run.
    """

    policy: Policy
    history: pd.DataFrame
    trace: pd.DataFrame | None
    trained_on: list[str]
    left_out: dict[str, str]
    settings: dict = field(repr=False)


def train_dpo(
    policy: Policy,
    pairs,
    keep=None,
    *,
    reference: Policy | pd.DataFrame | None = None,
    loss: str = "sigmoid",
    beta: float = 0.1,
    learning_rate: float = 1e-6,
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

    Args:
        policy: where training starts. It is not changed: a copy is trained (see `copy_model`).
        pairs: Dataset with `id, prompt, chosen, rejected`.
        keep: ids to train on, in order (a selection); default all pairs.
        reference: the reference policy, or its log-prob table over the kept (and traced) pairs;
            default the policy itself, before training; for a LoRA policy, its base model.
        loss: "sigmoid" (DPO), "ipo", "hinge" (= "slic"), or "simpo" (no reference).
        beta: the loss's temperature.
        learning_rate, epochs, batch_size, schedule, warmup_steps, max_grad_norm, adam_beta2,
            weight_decay: as in transformers' TrainingArguments (AdamW; `batch_size` pairs a
            step; `schedule` one of its `lr_scheduler_type`s, and "constant" warms up too).
        order: "shuffled" (by `seed`, anew each epoch) or "given": exactly the order of `keep`,
            every epoch: a curriculum.
        seed: of the shuffling and of fresh adapters.
        simpo_gamma: SimPO's target margin gamma (arXiv 2405.14734, eq. 6).
        lora: rank of a fresh LoRA adapter to train instead of all weights.
        copy_model: False trains the given model in place, which saves the memory of a copy.
        max_length: longest prompt + response in tokens, default the model's own. Longer pairs are
            left out and named in `run.left_out`; nothing is truncated.
        max_steps: stop after so many optimizer steps.
        trace: Dataset of pairs to follow; they are scored before training, every `trace_every`
            steps and at the end.
        log_every: steps between rows of the history.
        checkpoints: folder for the run's state, saved every `checkpoint_every` steps and at the
            end. The same call (same weights, pairs and settings) after an interruption goes on
            from the last state, to the same result; other calls do not touch it.
        checkpoint_every: steps between saved states.
        progress: show a progress bar.
        **trl_options: further fields of TRL's DPOConfig (CPOConfig for SimPO), such as
            `activation_checkpointing=True` or `gradient_accumulation_steps=8` on a GPU. A
            bfloat16 policy trains under bfloat16 autocast.

    Returns:
        Run.

    Raises:
        ValueError: an unknown loss or order; ids in `keep` that are not in `pairs`, or twice; a
            reference table that lacks pairs; nothing left to train on.
    """
    inputs = ("policy", "pairs", "keep", "reference", "trace")
    settings = {name: value for name, value in locals().items() if name not in inputs}
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r}; expected one of {', '.join(LOSSES)}.")
    if order not in ("shuffled", "given"):
        raise ValueError(f"order={order!r}; expected 'shuffled' or 'given'.")
    pairs = kept_rows(pairs, keep)
    max_length = max_length or policy.max_length
    data, left_out = _token_data(policy, pairs, max_length)

    trace_reference, known = None, (max_length, progress)
    if loss != "simpo":
        data = _with_reference(data, reference_table(policy, reference, pairs, *known))
        if trace is not None:
            followed = _token_data(policy, trace, max_length)[0]["id"][:]
            table = reference_table(policy, reference, trace, *known)
            trace_reference = table_rows(table, followed)

    learner = _learner(policy, copy_model, lora, seed)
    state, last = None, None
    if checkpoints is not None:
        followed_ids = None if trace is None else trace["id"][:]
        state = Path(checkpoints) / fingerprint(learner, data, settings, trl_options, followed_ids)
        last = last_checkpoint(state)
    tracer = Tracer(learner, trace, trace_reference, beta, trace_every, max_length, state)
    callbacks = [LogLastStep()]
    callbacks += [Progress()] if progress else []
    callbacks += [tracer] if trace is not None else []
    scratch = tempfile.TemporaryDirectory(prefix="nbkit-")
    options = dict(
        output_dir=str(state or scratch.name), beta=beta,
        save_strategy="steps" if state else "no", save_steps=checkpoint_every, save_total_limit=2,
        max_steps=max_steps, max_length=max_length, adam_beta2=adam_beta2,
        weight_decay=weight_decay,
        train_sampling_strategy="sequential" if order == "given" else "random",
        **shared_options(
            policy, learning_rate=learning_rate, epochs=epochs, batch_size=batch_size,
            schedule=schedule, warmup_steps=warmup_steps, max_grad_norm=max_grad_norm, seed=seed,
            log_every=log_every,
        ),
    )  # fmt: skip
    options.update(trl_options)
    trainer = make_trainer(
        loss, learner.model, policy.tokenizer, data, callbacks, simpo_gamma=simpo_gamma, **options
    )
    gc.freeze()  # the trainer begins with a full garbage collection: longer than a short run
    try:
        trainer.train(resume_from_checkpoint=last)
    finally:
        gc.unfreeze()
        scratch.cleanup()
        strip(learner.model)
        learner.model.eval()
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


def kept_rows(pairs, keep):
    """The rows of `pairs` with the ids in `keep`, in that order."""
    if keep is None:
        return pairs
    keep, where = list(keep), {id_: row for row, id_ in enumerate(pairs["id"])}
    unknown = [id_ for id_ in keep if id_ not in where]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the {len(keep)} ids to keep are not in the pairs (first: "
            f"{unknown[0]!r}). `keep` is a list of pair ids, such as `nb.select` returns."
        )
    if len(set(keep)) < len(keep):
        twice = next(id_ for id_ in keep if keep.count(id_) > 1)
        raise ValueError(f"`keep` names {twice!r} more than once; each pair is trained on once.")
    return pairs.select([where[id_] for id_ in keep])


def fitting_pairs(policy, pairs, max_length):
    """Tokens of the pairs to train on, and id -> reason of those that do not fit."""
    fit, left_out = split_unscored(tokenize_pairs(policy.tokenizer, pairs), max_length)
    if not fit:
        raise ValueError(f"No pair is left to train on, of {len(pairs)} given. {left_out}")
    return fit, left_out


def _token_data(policy, pairs, max_length):
    """Data set of token ids as TRL's trainers want it, and the pairs that do not fit."""
    fit, left_out = fitting_pairs(policy, pairs, max_length)
    columns = {
        "id": [p.id for p in fit],
        "prompt_ids": [p.prompt for p in fit],
        "chosen_ids": [p.chosen for p in fit],
        "rejected_ids": [p.rejected for p in fit],
    }
    return Dataset.from_dict(columns), left_out


def reference_table(policy: Policy, reference, pairs, max_length=None, progress=True):
    """The reference's log-prob table of `pairs`, for `reference` as `train_dpo` takes it."""
    if isinstance(reference, pd.DataFrame):
        return reference
    if reference is None:
        reference = policy.without_adapter() if policy.has_adapter else policy
    return response_logprobs(reference, pairs, max_length=max_length, progress=progress)


def table_rows(table, ids):
    """The rows of a reference table for `ids`, all of which it must have."""
    absent = [id_ for id_ in ids if id_ not in table.index]
    if absent:
        raise ValueError(
            f"The reference table lacks {len(absent)} of the {len(ids)} pairs (first: "
            f"{absent[0]!r}). Score them with `response_logprobs(reference_policy, pairs)`."
        )
    return table.loc[ids]


def _with_reference(data, table):
    table = table_rows(table, data["id"][:])
    for side in ("chosen", "rejected"):
        data = data.add_column(f"ref_{side}_logps", table[f"{side}_logp"].to_list())
    return data


def _learner(policy, copy_model, lora, seed):
    """The policy that is trained. Fresh adapters start at random: `seed` decides."""
    if not policy.adapter_enabled:
        raise ValueError(
            f"Policy {policy.name!r} has its adapter switched off, which is for a reference. Train "
            "the policy with its adapter on, or the base model without one."
        )
    if copy_model:
        policy = Policy(copy.deepcopy(policy.model), policy.tokenizer, policy.name)
    if not lora:
        return policy
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return add_lora(policy, rank=lora)
