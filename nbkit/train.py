"""Preference training on TRL's trainers, fed with nbkit's tokens and reference log-probs.

The only module that imports trl: a rename upstream is repaired here.
"""

from __future__ import annotations

import copy
import functools
import gc
import tempfile
from dataclasses import dataclass, field
from types import SimpleNamespace

import pandas as pd
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from nbkit.head import why_not_plain
from nbkit.logprobs import response_logprobs
from nbkit.models import Policy, add_lora
from nbkit.scores import implicit_margin, length_normalized_margin
from nbkit.tokens import tokenize_pairs, why_unscored

LOSSES = {"sigmoid": "sigmoid", "ipo": "ipo", "hinge": "hinge", "slic": "hinge", "simpo": "simpo"}
LOGITS_BYTES = 2**28
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
        progress: show a progress bar.
        **trl_options: further fields of TRL's DPOConfig (CPOConfig for SimPO).

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
    pairs = _kept(pairs, keep)
    max_length = max_length or policy.max_length
    data, left_out = _token_data(policy, pairs, max_length)

    needs_reference = loss != "simpo"
    if needs_reference:
        followed = [] if trace is None else [trace]
        tables = [_reference_table(policy, reference, p, max_length) for p in (pairs, *followed)]
        data = _with_reference(data, tables[0])
        trace_reference = tables[-1] if followed else None
    else:
        trace_reference = None

    learner = _learner(policy, copy_model, lora)
    options = dict(
        output_dir=tempfile.mkdtemp(prefix="nbkit-"), beta=beta, learning_rate=learning_rate,
        num_train_epochs=epochs, max_steps=max_steps, per_device_train_batch_size=batch_size,
        lr_scheduler_type="constant_with_warmup" if schedule == "constant" else schedule,
        warmup_steps=warmup_steps, max_grad_norm=max_grad_norm,
        adam_beta2=adam_beta2, weight_decay=weight_decay, seed=seed, data_seed=seed,
        train_sampling_strategy="sequential" if order == "given" else "random",
        max_length=max_length, loss_type=LOSSES[loss], logging_steps=log_every,
        use_cpu=policy.device.type == "cpu", bf16=False, activation_checkpointing=False,
        dataloader_pin_memory=policy.device.type == "cuda", disable_tqdm=True,
        save_strategy="no", report_to="none",
    )  # fmt: skip
    callbacks = [_LogLastStep(), *([_Progress()] if progress else [])]
    tracer = _Tracer(learner, trace, trace_reference, beta, trace_every, max_length)
    if trace is not None:
        callbacks.append(tracer)
    if loss == "simpo":
        simpo = dict(options, simpo_gamma=simpo_gamma, cpo_alpha=0.0)
        trainer_class, config = _SimPOTrainer, CPOConfig(**{**simpo, **trl_options})
    else:
        dpo = dict(options, precompute_ref_log_probs=True)
        trainer_class, config = _DPOTrainer, DPOConfig(**{**dpo, **trl_options})
    trainer = trainer_class(
        learner.model, args=config, train_dataset=data, processing_class=policy.tokenizer,
        callbacks=callbacks,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    gc.freeze()  # the trainer begins with a full garbage collection: longer than a short run
    try:
        trainer.train()
    finally:
        gc.unfreeze()
        _unpatch(learner)
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


class _DPOTrainer(DPOTrainer):
    """TRL's DPO trainer on rows that are tokenised and carry reference log-probs already, without
    what costs a small model more than its own arithmetic."""

    def __init__(self, model, **kwargs):
        super().__init__(model, data_collator=_collate, **kwargs)
        causal_lm = model.get_base_model() if hasattr(model, "peft_config") else model
        if why_not_plain(causal_lm) is None:
            causal_lm.forward = _forward_on_responses(causal_lm, causal_lm.forward)

    def _prepare_dataset(self, dataset, *args):
        return dataset

    def _precompute_ref_logps(self, dataset, *args):
        return dataset

    def floating_point_ops(self, inputs):
        return 0  # walks over all parameters at every step, for a figure nobody reads here


def _collate(rows):
    """TRL's preference batch, chosen rows first: `input_ids, attention_mask, completion_mask`
    [2 B, T], right-padded, and the reference log-probs [B]."""
    prompts = torch.tensor([len(row["prompt_ids"]) for row in rows] * 2)[:, None]
    sequences = [
        torch.tensor(row["prompt_ids"] + row[side])
        for side in ("chosen_ids", "rejected_ids")
        for row in rows
    ]
    lengths = torch.tensor([len(s) for s in sequences])[:, None]
    ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    position = torch.arange(ids.shape[1])
    real = position < lengths
    batch = {
        "input_ids": ids,
        "attention_mask": real.long(),
        "completion_mask": (real & (position >= prompts)).long(),
    }
    for column in ("ref_chosen_logps", "ref_rejected_logps"):
        batch[column] = torch.tensor([row[column] for row in rows])
    return batch


def _forward_on_responses(causal_lm, fused_forward):
    """The forward pass that TRL's loss calls. Off the GPU, TRL's own fused head walks over the
    prompt's and the padding's positions too, in tiles; while the response's logits fit in
    `LOGITS_BYTES` it is cheaper to make just those. Entropy and the other statistics that TRL
    would log are not computed."""

    @functools.wraps(fused_forward)
    def forward(*args, fused_lm_head=False, labels=None, **inputs):
        vocabulary = causal_lm.config.get_text_config().vocab_size
        if not fused_lm_head or labels.is_cuda or labels.numel() * vocabulary * 4 > LOGITS_BYTES:
            return fused_forward(*args, fused_lm_head=fused_lm_head, labels=labels, **inputs)
        hidden = causal_lm.base_model(*args, **inputs).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        scored = targets != -100
        logits = causal_lm.get_output_embeddings()(hidden[scored]).float()
        logps = logits.log_softmax(-1).gather(1, targets[scored][:, None])[:, 0]
        nothing = logps.new_zeros(scored.shape)
        return SimpleNamespace(
            log_probs=nothing.masked_scatter(scored, logps),
            entropy=nothing, mean_logits=nothing, is_top1=nothing.bool(),
        )  # fmt: skip

    return forward


class _SimPOTrainer(CPOTrainer):
    """TRL's CPO trainer with the SimPO loss, on nbkit's tokens."""

    def tokenize_row(self, row, model=None):
        out = {"prompt_input_ids": row["prompt_ids"]}
        out["prompt_attention_mask"] = [1] * len(row["prompt_ids"])
        for side in ("chosen", "rejected"):
            ids = row["prompt_ids"] + row[f"{side}_ids"]
            out[f"{side}_input_ids"], out[f"{side}_attention_mask"] = ids, [1] * len(ids)
            out[f"{side}_labels"] = [-100] * len(row["prompt_ids"]) + row[f"{side}_ids"]
        return out


class _LogLastStep(TrainerCallback):
    """The history ends with the last step, however few there are."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps:
            control.should_log = True


class _Progress(TrainerCallback):
    """One bar over the optimizer steps, with the last logged loss and margin."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(total=state.max_steps, unit=" steps", desc="training", delay=1)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


class _Tracer(TrainerCallback):
    """Scores the followed pairs before training, every so many steps and at the end."""

    def __init__(self, learner, pairs, reference, beta, every, max_length):
        self.learner, self.pairs, self.reference = learner, pairs, reference
        self.beta, self.every, self.max_length = beta, every, max_length
        self.tables = {}

    def record(self, step):
        if step in self.tables:
            return
        table = response_logprobs(
            self.learner, self.pairs, max_length=self.max_length, progress=False
        )
        if self.reference is None:
            margin = length_normalized_margin(table, self.beta)
        else:
            margin = implicit_margin(table, self.reference, self.beta)
        self.tables[step] = table[["chosen_logp", "rejected_logp"]].assign(margin=margin)

    def on_train_begin(self, args, state, control, **kwargs):
        self.record(0)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.every == 0:
            self.record(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        self.record(state.global_step)

    def frame(self):
        return pd.concat(self.tables, names=["step", "id"]).reset_index()


def _kept(pairs, keep):
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


def _token_data(policy, pairs, max_length):
    """Data set of token ids as TRL's trainers want it, and the pairs that do not fit."""
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    reasons = {p.id: why_unscored(p, max_length) for p in token_pairs}
    left_out = {id_: reason for id_, reason in reasons.items() if reason}
    fit = [p for p in token_pairs if p.id not in left_out]
    if not fit:
        raise ValueError(f"No pair is left to train on, of {len(pairs)} given. {left_out}")
    columns = {
        "id": [p.id for p in fit],
        "prompt_ids": [p.prompt for p in fit],
        "chosen_ids": [p.chosen for p in fit],
        "rejected_ids": [p.rejected for p in fit],
    }
    return Dataset.from_dict(columns), left_out


def _reference_table(policy, reference, pairs, max_length):
    """The reference's log-probs of `pairs`."""
    if isinstance(reference, pd.DataFrame):
        return reference
    if reference is None:
        reference = policy.without_adapter() if policy.has_adapter else policy
    return response_logprobs(reference, pairs, max_length=max_length)


def _with_reference(data, table):
    ids = data["id"][:]
    absent = [id_ for id_ in ids if id_ not in table.index]
    if absent:
        raise ValueError(
            f"The reference table lacks {len(absent)} of the {len(ids)} pairs (first: "
            f"{absent[0]!r}). Score them with `response_logprobs(reference_policy, pairs)`."
        )
    for side in ("chosen", "rejected"):
        data = data.add_column(f"ref_{side}_logps", table.loc[ids, f"{side}_logp"].to_list())
    return data


def _learner(policy, copy_model, lora):
    if copy_model:
        policy = Policy(copy.deepcopy(policy.model), policy.tokenizer, policy.name)
    return add_lora(policy, rank=lora) if lora else policy


def _unpatch(learner):
    """Take off what TRL hung on the model: its fused head and its copy of an adapter."""
    learner.causal_lm.__dict__.pop("forward", None)
    if learner.has_adapter and "ref" in learner.model.peft_config:
        learner.model.delete_adapter("ref")
    learner.model.eval()
