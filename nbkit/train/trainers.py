"""TRL's trainers, on rows that nbkit has tokenised and whose reference log-probs it has computed.

The only module that imports trl: a rename upstream is repaired here.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import SafetensorError
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from nbkit.logprobs.head import why_not_plain
from nbkit.models.policy import unwrapped

# nbkit's name of a loss -> TRL's
LOSSES = {"sigmoid": "sigmoid", "ipo": "ipo", "hinge": "hinge", "slic": "hinge", "simpo": "simpo"}
LOGITS_BYTES = 2**28
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")  # its new name, its old one


# of every trainer: our own bar, nothing written, sent or recomputed that was not asked for, and a
# loss that is no number is not passed over
QUIET = dict(bf16=False, disable_tqdm=True, report_to="none", logging_nan_inf_filter=False)
# attributes of TRL's DPO trainer that are true where its loss reads more than log-probs
READS_MORE = ("use_weighting", "aux_loss_enabled")
# TRL's options that cannot be served from rows with one reference log-prob a response
UNSERVED = {
    "ld_alpha": "needs the reference's log-probs token by token",
    "precompute_ref_log_probs": "is always on: `reference` says whose log-probs",
    "sync_ref_model": "moves the reference, whose log-probs are computed once",
}


def check_options(loss: str, options: set[str]) -> None:
    """Refuse options that TRL does not know, or that would not do what they say. `loss`: one of
    `LOSSES`, or "reward".

    Raises:
        TypeError: an unknown name. ValueError: an option that cannot be served.
    """
    config = {"simpo": CPOConfig, "reward": RewardConfig}.get(loss, DPOConfig)
    known = {field.name for field in dataclasses.fields(config)} | set(CHECKPOINTING)
    if unknown := sorted(options - known):
        raise TypeError(
            f"{', '.join(unknown)}: neither an argument of this training nor a field of "
            f"TRL's {config.__name__}."
        )
    for name in options & set(UNSERVED):
        raise ValueError(f"{name} {UNSERVED[name]}; train_dpo does not take it.")


def shared_options(
    policy, *, learning_rate, epochs, batch_size, schedule, warmup_steps, max_grad_norm, seed,
    log_every,
) -> dict:  # fmt: skip
    """nbkit's names of a training's settings as fields of transformers' TrainingArguments."""
    return dict(
        learning_rate=learning_rate, num_train_epochs=epochs, warmup_steps=warmup_steps,
        per_device_train_batch_size=batch_size, max_grad_norm=max_grad_norm, seed=seed,
        data_seed=seed, logging_steps=log_every, use_cpu=policy.device.type == "cpu",
        lr_scheduler_type="constant_with_warmup" if schedule == "constant" else schedule,
        bf16=policy.dtype == torch.bfloat16,
        dataloader_pin_memory=policy.device.type == "cuda",
    )  # fmt: skip


def make_trainer(loss, model, tokenizer, data, callbacks, *, simpo_gamma, **options):
    """A TRL trainer for `loss`.

    Args:
        loss: a key of `LOSSES`.
        model, tokenizer: what is trained, and its tokenizer.
        data: Dataset with `prompt_ids, chosen_ids, rejected_ids` and, for a loss with a reference,
            `ref_chosen_logps, ref_rejected_logps`.
        callbacks: of transformers' trainer.
        simpo_gamma: SimPO's target margin.
        **options: fields of TRL's DPOConfig, or of its CPOConfig for SimPO.
    """
    options = {"loss_type": LOSSES[loss], **options}
    if loss == "simpo":
        options = dict(
            simpo_gamma=simpo_gamma, cpo_alpha=0.0, remove_unused_columns=False, **options
        )
        return _trainer(ReadySimPOTrainer, CPOConfig, model, tokenizer, data, callbacks, options)
    options["precompute_ref_log_probs"] = True
    return _trainer(ReadyDPOTrainer, DPOConfig, model, tokenizer, data, callbacks, options)


def make_reward_trainer(model, tokenizer, data, callbacks, **options):
    """A TRL trainer of reward models, with the Bradley-Terry loss.

    Args:
        model, tokenizer: a sequence classifier with one label, and its tokenizer.
        data: Dataset with `chosen_ids, rejected_ids`: prompt and response together.
        callbacks: of transformers' trainer.
        **options: fields of TRL's RewardConfig.
    """
    options = {"disable_dropout": True, **options}
    return _trainer(ReadyRewardTrainer, RewardConfig, model, tokenizer, data, callbacks, options)


def _trainer(trainer_class, config_class, model, tokenizer, data, callbacks, options):
    known = {field.name for field in dataclasses.fields(config_class)}
    checkpointing = next(name for name in CHECKPOINTING if name in known)
    asked = any([options.pop(name, False) for name in CHECKPOINTING])
    options = {**QUIET, checkpointing: asked, **options}
    trainer = trainer_class(
        model, args=config_class(**options), train_dataset=data, processing_class=tokenizer,
        callbacks=callbacks,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    if hasattr(model, "peft_config"):  # else peft asks the hub whether the vocabulary has grown
        save = functools.partial(model.save_pretrained, save_embedding_layers=False)
        model.save_pretrained = save
    return trainer


def strip(model):
    """Take off what a trainer hung on a model: its fused head, the casts of mixed precision, and
    its copy of an adapter."""
    for wrapped in {unwrapped(model), model}:
        for name in ("forward", "_original_forward", "save_pretrained"):
            wrapped.__dict__.pop(name, None)
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


class _Ours:
    """What all our trainers do otherwise than TRL's: they stop at a loss that is no number, survive
    a full disk, and send nothing."""

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss of step {self.state.global_step + 1} is {loss.item()}: the training has "
                "run away. Lower the learning rate, or warm it up (warmup_steps)."
            )
        return loss

    def _save_checkpoint(self, *args, **kwargs):
        name = f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors differ
            shutil.rmtree(Path(self.args.output_dir) / name, ignore_errors=True)
            warnings.warn(
                f"{name} could not be written to {self.args.output_dir} ({error}); the training "
                "goes on without it.",
                stacklevel=2,
            )

    def create_model_card(self, *args, **kwargs):
        pass  # of a checkpoint

    def _send_telemetry(self):
        pass


class ReadyDPOTrainer(_Ours, DPOTrainer):
    """TRL's DPO trainer on rows that are tokenised and carry reference log-probs already, without
    what costs a small model more than its own arithmetic."""

    def __init__(self, model, **kwargs):
        super().__init__(model, data_collator=_collate, **kwargs)
        reads_more = any(getattr(self, name, False) for name in READS_MORE)
        causal_lm = unwrapped(model)
        if not reads_more and why_not_plain(causal_lm) is None:
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


class ReadyRewardTrainer(_Ours, RewardTrainer):
    """TRL's trainer of reward models."""


class ReadySimPOTrainer(_Ours, CPOTrainer):
    """TRL's CPO trainer with the SimPO loss, on nbkit's tokens."""

    def tokenize_row(self, row, model=None):
        out = {"prompt_input_ids": row["prompt_ids"]}
        out["prompt_attention_mask"] = [1] * len(row["prompt_ids"])
        for side in ("chosen", "rejected"):
            ids = row["prompt_ids"] + row[f"{side}_ids"]
            out[f"{side}_input_ids"], out[f"{side}_attention_mask"] = ids, [1] * len(ids)
            out[f"{side}_labels"] = [-100] * len(row["prompt_ids"]) + row[f"{side}_ids"]
        return out
