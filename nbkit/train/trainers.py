"""TRL's trainers, on rows that nbkit has tokenised and whose reference log-probs it has computed.

The only module that imports trl: a rename upstream is repaired here.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from nbkit.logprobs.head import why_not_plain
from nbkit.models.policy import Policy, unwrapped
from nbkit.warning import warn

# nbkit's name of a loss -> TRL's
LOSSES = {"sigmoid": "sigmoid", "ipo": "ipo", "hinge": "hinge", "slic": "hinge", "simpo": "simpo"}
LOGITS_BYTES = 2**28
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")  # its new name, its old one

# of every trainer: our own bar, nothing written, sent or recomputed that was not asked for, and a
# loss that is no number is not passed over
QUIET = dict(bf16=False, disable_tqdm=True, report_to="none", logging_nan_inf_filter=False)
# how torch.save, which raises RuntimeError, says that a file could not be written
NOT_WRITTEN = re.compile("inline_container|PytorchStreamWriter|cannot be opened|Parent directory")
# attributes of TRL's DPO trainer that are true where its loss reads more than log-probs
READS_MORE = ("use_weighting", "aux_loss_enabled")
# TRL's options that cannot be served from rows with one reference log-prob a response, or that
# would make another number of updates than is counted
UNSERVED = {
    "ld_alpha": "needs the reference's log-probs token by token",
    "precompute_ref_log_probs": "is always on: `reference` says whose log-probs",
    "sync_ref_model": "moves the reference, whose log-probs are computed once",
    "dataloader_drop_last": "drops the pairs of an epoch's last batch",
}
# TRL's name of what has another name here
RENAMED = {
    "per_device_train_batch_size": "batch_size", "num_train_epochs": "epochs",
    "lr_scheduler_type": "schedule", "logging_steps": "log_every",
    "save_steps": "checkpoint_every", "train_sampling_strategy": "order",
}  # fmt: skip


def check_options(loss: str, options: Mapping[str, Any], own: set[str]) -> None:
    """Refuse options that TRL does not know, or that would not do what they say.

    Args:
        loss: one of `LOSSES`, or "reward".
        options: `trl_options` of a training.
        own: names of the training's own arguments.

    Raises:
        TypeError: no mapping, or an unknown name. ValueError: an option that cannot be served.
    """
    trainer = "train_reward_model" if loss == "reward" else "train_dpo"
    config = {"simpo": CPOConfig, "reward": RewardConfig}.get(loss, DPOConfig)
    known = {field.name for field in dataclasses.fields(config)} | set(CHECKPOINTING)
    if not isinstance(options, Mapping):
        raise TypeError(
            f"trl_options={options!r:.60}; expected a dict, name -> value, of fields of TRL's "
            f"{config.__name__}."
        )
    for name in options:
        if (ours := RENAMED.get(name, name)) in own:
            raise ValueError(f"trl_options: {name}: use {trainer}'s own argument {ours}.")
        if name in UNSERVED:
            raise ValueError(f"trl_options: {name} {UNSERVED[name]}; {trainer} does not take it.")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise TypeError(f"trl_options: {name} is no field of TRL's {config.__name__}.{hint}")


def dpo_options(policy: Policy, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `nbkit.train_dpo` as fields of TRL's DPOConfig. For the policy as it is
    before its weights are held in float32, whose precision says how it is trained."""
    return dict(
        shared_options(policy, settings), beta=settings["beta"], max_steps=settings["max_steps"],
        max_length=settings["max_length"], adam_beta2=settings["adam_beta2"],
        weight_decay=settings["weight_decay"],
        train_sampling_strategy="sequential" if settings["order"] == "given" else "random",
    )  # fmt: skip


def shared_options(policy: Policy, settings: Mapping[str, Any]) -> dict[str, Any]:
    """nbkit's settings that all trainings have, as fields of transformers' TrainingArguments."""
    constant = settings["schedule"] == "constant"
    return dict(
        learning_rate=settings["learning_rate"], num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch_size"],
        lr_scheduler_type="constant_with_warmup" if constant else settings["schedule"],
        warmup_steps=settings["warmup_steps"], max_grad_norm=settings["max_grad_norm"],
        seed=settings["seed"], data_seed=settings["seed"], logging_steps=settings["log_every"],
        use_cpu=policy.device.type == "cpu", bf16=policy.dtype == torch.bfloat16,
        dataloader_pin_memory=policy.device.type == "cuda",
    )  # fmt: skip


def make_trainer(
    loss: str, model: Any, tokenizer: PreTrainedTokenizerBase, data: Dataset,
    callbacks: list[TrainerCallback], *, simpo_gamma: float, **options: Any,
) -> Trainer:  # fmt: skip
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


def make_reward_trainer(
    model: Any, tokenizer: PreTrainedTokenizerBase, data: Dataset,
    callbacks: list[TrainerCallback], **options: Any,
) -> Trainer:  # fmt: skip
    """A TRL trainer of reward models, with the Bradley-Terry loss.

    Args:
        model, tokenizer: a sequence classifier with one label, and its tokenizer.
        data: Dataset with `chosen_ids, rejected_ids`: prompt and response together.
        callbacks: of transformers' trainer.
        **options: fields of TRL's RewardConfig.
    """
    options = {"disable_dropout": True, **options}
    return _trainer(ReadyRewardTrainer, RewardConfig, model, tokenizer, data, callbacks, options)


def _trainer(
    trainer_class: Any, config_class: Any, model: Any, tokenizer: PreTrainedTokenizerBase,
    data: Dataset, callbacks: list[TrainerCallback], options: dict[str, Any],
) -> Trainer:  # fmt: skip
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


def strip(model: Any) -> None:
    """Take off what a trainer hung on a model: its fused head, the casts of mixed precision, and
    its copy of an adapter."""
    for wrapped in {unwrapped(model), model}:
        for name in ("forward", "_original_forward", "save_pretrained"):
            wrapped.__dict__.pop(name, None)
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


class _Ours(Trainer):
    """What all our trainers do otherwise than TRL's: they stop at a loss that is no number, survive
    a full disk, and send nothing."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss of step {self.state.global_step + 1} is {loss.item()}: the training has "
                "run away. Lower the learning rate, or warm it up (warmup_steps)."
            )
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        name = f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, RuntimeError, SafetensorError) as error:
            if type(error) is RuntimeError and not NOT_WRITTEN.search(str(error)):
                raise  # such as a GPU's
            shutil.rmtree(Path(str(self.args.output_dir)) / name, ignore_errors=True)
            warn(
                f"{name} could not be written to {self.args.output_dir} ({error}); the training "
                "goes on without it."
            )

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        pass  # of a checkpoint

    def _send_telemetry(self) -> None:
        pass


class ReadyDPOTrainer(_Ours, DPOTrainer):
    """TRL's DPO trainer on rows that are tokenised and carry reference log-probs already, without
    what costs a small model more than its own arithmetic."""

    def __init__(self, model: Any, **kwargs: Any) -> None:
        super().__init__(model, data_collator=_collate, **kwargs)
        reads_more = any(getattr(self, name, False) for name in READS_MORE)
        causal_lm = unwrapped(model)
        if not reads_more and why_not_plain(causal_lm) is None:
            causal_lm.forward = _forward_on_responses(causal_lm, causal_lm.forward)

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any) -> Any:
        return dataset

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # walks over all parameters at every step, for a figure nobody reads here


def _collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
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


def _forward_on_responses(causal_lm: Any, fused_forward: Callable) -> Callable:
    """The forward pass that TRL's loss calls. Off the GPU, TRL's own fused head walks over the
    prompt's and the padding's positions too, in tiles; while the response's logits fit in
    `LOGITS_BYTES` it is cheaper to make just those. Entropy and the other statistics that TRL
    would log are not computed."""

    @functools.wraps(fused_forward)
    def forward(*args: Any, fused_lm_head: bool = False, labels: Any = None, **inputs: Any) -> Any:
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

    def tokenize_row(self, row: dict[str, Any], model: Any = None) -> dict[str, list[int]]:
        out = {"prompt_input_ids": row["prompt_ids"]}
        out["prompt_attention_mask"] = [1] * len(row["prompt_ids"])
        for side in ("chosen", "rejected"):
            ids = row["prompt_ids"] + row[f"{side}_ids"]
            out[f"{side}_input_ids"], out[f"{side}_attention_mask"] = ids, [1] * len(ids)
            out[f"{side}_labels"] = [-100] * len(row["prompt_ids"]) + row[f"{side}_ids"]
        return out
