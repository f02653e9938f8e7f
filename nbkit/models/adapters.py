"""Adapters from a folder, around their base."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbkit.models.checks import check_vocabulary, no_prompt_learning
from nbkit.models.explaining import explain_error, explained, incomplete, short
from nbkit.models.parts import load_tokenizer


def load_adapter(
    name: str,
    source: str,
    folder: Path,
    device: torch.device,
    settings: dict[str, Any],
    load_base: Callable[..., tuple[Any, PreTrainedTokenizerBase]],
) -> tuple[Any, PreTrainedTokenizerBase]:
    """The peft model of an adapter, ready to be trained on; its tokenizer, or else its base's.
    `load_base` loads what it stands on, model and tokenizer."""
    from peft import PeftConfig

    with explained(name, source):
        config = PeftConfig.from_pretrained(str(folder))
    if config.is_prompt_learning:
        raise ValueError(no_prompt_learning(name))
    if config.task_type == "SEQ_CLS":
        raise ValueError(f"{name!r} is an adapter of a sequence classifier, not of a policy.")
    base = config.base_model_name_or_path
    if not base:
        raise ValueError(
            f"{incomplete(name, source)}: adapter_config.json names no base model "
            '("base_model_name_or_path")'
        )
    if base.startswith(".") and (folder / base).is_dir():  # as `Policy.save` writes it
        base = str(folder / base)
    try:
        model, tokenizer = load_base(
            base, device="cpu", adapters=False, **{**settings, "revision": config.revision}
        )
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"The adapter {name!r} stands on {base!r}. {error}") from error
    if (folder / "tokenizer_config.json").is_file():
        tokenizer = load_tokenizer(name, str(folder), None)
        check_vocabulary(name, model, tokenizer)
    return _put_adapter(name, source, folder, config, model).to(device), tokenizer


def _put_adapter(name: str, source: str, folder: Path, config: Any, base: PreTrainedModel) -> Any:
    """The adapter of a folder around its base; ValueError if one lacks what the other needs."""
    from peft import PeftModelForCausalLM, get_peft_model_state_dict

    other = f"The adapter {name!r} was made for another model than its base"
    config.inference_mode = False  # else its weights are frozen
    mapping = getattr(base, "_checkpoint_conversion_mapping", None) or None  # as peft does
    missing = []
    try:
        model = PeftModelForCausalLM(base, config)
        for tensor in get_peft_model_state_dict(model, save_embedding_layers=False).values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)  # what the file lacks stays so
        loaded = model.load_adapter(
            str(folder), "default", is_trainable=True, torch_device="cpu", key_mapping=mapping
        )
    except KeyError as error:
        missing = [error.args[0]]
    except Exception as error:
        if re.search("size mismatch|[Tt]arget modules", str(error)):
            detail = str(error)[max(0, str(error).find("size mismatch")) :]
            raise ValueError(f"{other} ({short(detail)}).") from error
        raise explain_error(name, source, error) from error
    if not missing and loaded.unexpected_keys:
        raise ValueError(f"{other}, which has no place for {loaded.unexpected_keys[0]}.")
    if not missing:
        filled = get_peft_model_state_dict(model, save_embedding_layers=False)
        missing = [key for key, tensor in filled.items() if tensor.isnan().all()]
        if not missing and not all(tensor.isfinite().all() for tensor in filled.values()):
            raise ValueError(f"The adapter {name!r} holds NaN or infinity.")
    if missing:
        raise ValueError(
            f"{incomplete(name, source)}: its adapter lacks {len(missing)} tensors (first: "
            f"{min(missing)})"
        )
    return model
