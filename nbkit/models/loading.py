"""Models and tokenizers from folders, from the hub and from GGUF files, complete or refused.

`nbkit.load_policy` and `nbkit.load_reward_model` stand on this. Nothing here unpickles, and nothing
runs code that comes with a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec as _spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    PreTrainedTokenizerBase,
)

from nbkit.models.adapters import load_adapter
from nbkit.models.checks import check_finite, check_vocabulary, no_language_model
from nbkit.models.checksums import checksums
from nbkit.models.devices import where_and_how
from nbkit.models.finding import cached, find, find_adapter, is_gguf
from nbkit.models.gguf_files import load_gguf
from nbkit.models.parts import load_complete, load_config, load_tokenizer

FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}


@dataclass(frozen=True)
class Origin:
    """Where a model's weights were loaded from, kept on the model as `nbkit_origin`.

    Attributes:
        name: what `load_policy` takes to find them again, on any machine where that can be.
        revision: the commit, of a hub id.
        sums: `checksums` of the weights as they were loaded; of quantized models none.
    """

    name: str
    revision: str | None
    sums: dict[str, int]


def load_causal_lm(
    name: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    attn_implementation: str | None = None,
    adapters: bool = True,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Model and tokenizer; arguments and errors as of `nbkit.load_policy`. `adapters=False`
    refuses an adapter."""
    name = as_name(name, "load_policy", "nb.Policy(model, tokenizer)")
    device, dtype = where_and_how(device, dtype)
    _check_attention(attn_implementation)
    source, origin, revision = find(name, revision)
    settings: dict[str, Any] = dict(
        revision=revision, dtype=dtype, attn_implementation=attn_implementation
    )
    if is_gguf(source):
        model, tokenizer = load_gguf(name, Path(source), dtype, attn_implementation)
    elif (adapter := find_adapter(name, source, revision)) is not None:
        if not adapters:
            raise ValueError(f"{name!r} is itself an adapter; merge it into its base first.")
        return load_adapter(name, source, adapter, device, settings, load_causal_lm)
    else:
        config = load_config(name, source, revision)
        if problem := no_language_model(config, (config.architectures or [""])[0]):
            raise ValueError(f"{name!r} is {problem}")
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ValueError(
                f"{name!r} is of the kind {config.model_type!r}, which transformers does not load "
                "as a causal language model (it reads images or sound, or writes no text). nbkit "
                "scores models of text alone: take the text-only model of that family."
            )
        tokenizer = load_tokenizer(name, source, revision)
        model = load_complete(AutoModelForCausalLM, name, source, config, **settings)
    model = model.to(device)
    quantized = getattr(model, "hf_quantizer", None) is not None  # no weights of plain numbers
    if not quantized:
        check_finite(name, model)
    check_vocabulary(name, model, tokenizer)
    if origin is not None:
        if not Path(source).exists():  # from the hub: the commit, since a branch may move on
            file = cached(source, "config.json", revision)
            revision = file.parent.name if file else revision
        model.nbkit_origin = Origin(origin, revision, {} if quantized else checksums(model))
    return model, tokenizer


def as_name(name: str | Path, function: str, remedy: str) -> str:
    """The name as text; TypeError for what is no name, such as a model."""
    if isinstance(name, (str, Path)) and str(name):
        return str(name)
    given = f"a {type(name).__name__}" if name != "" else "an empty text"
    raise TypeError(
        f"nb.{function} takes the name of a model or the path of a folder, got {given}. "
        f"For a model that is already in memory, write {remedy}."
    )


def _check_attention(attn_implementation: str | None) -> None:
    if attn_implementation is None:
        return
    if "/" in attn_implementation:
        raise ValueError(
            f"attn_implementation={attn_implementation!r} is code from the hub, which nbkit does "
            "not run. Leave it out, or use 'sdpa' or 'eager'."
        )
    package = FLASH.get(attn_implementation)
    if package and _spec(package) is None:
        raise ValueError(
            f"attn_implementation={attn_implementation!r} needs the package {package}, which is "
            "not installed. Leave it out: nbkit packs with torch's own attention."
        )
