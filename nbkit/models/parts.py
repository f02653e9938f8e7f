"""The parts of a saved model: tokenizer, configuration, and weights that are all there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from nbkit.models.explaining import explained, incomplete, short

GENERIC = ("TokenizersBackend", "PreTrainedTokenizerFast")  # all is in tokenizer.json


def load_tokenizer(name: str, source: str, revision: str | None) -> PreTrainedTokenizerBase:
    with explained(name, source):
        settings = get_tokenizer_config(source, revision=revision)
        # AutoTokenizer would put the model type's own splitting in place of the saved one (Qwen2)
        as_saved = settings.get("tokenizer_class") in GENERIC and "auto_map" not in settings
        loader: Any = PreTrainedTokenizerFast if as_saved else AutoTokenizer
        return loader.from_pretrained(source, revision=revision, trust_remote_code=False)


def load_config(name: str, source: str, revision: str | None, **changes: Any) -> PreTrainedConfig:
    with explained(name, source):
        return AutoConfig.from_pretrained(
            source, revision=revision, trust_remote_code=False, **changes
        )


def load_complete(
    auto_class: Any,
    name: str,
    source: str,
    config: PreTrainedConfig,
    *,
    attn_implementation: str | None = None,
    **options: Any,
) -> Any:
    """A model of one of transformers' Auto classes, from safetensors; ValueError for weights that
    lack tensors, which transformers would make up, or that have other shapes than the config."""
    _check_shards(name, source)
    config._attn_implementation = attn_implementation  # config.json may name a kernel from the hub
    with explained(name, source):
        model, info = auto_class.from_pretrained(
            source, config=config, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True, **options,
        )  # fmt: skip
    refuse_incomplete(name, source, info)
    return model


def refuse_incomplete(name: str, source: str, info: dict[str, Any]) -> None:
    if missing := sorted(info["missing_keys"]):
        problem = f"its weights lack {len(missing)} tensors (first: {missing[0]})"
    elif other := sorted(info["mismatched_keys"]):
        key, found, expected = other[0]
        problem = (
            f"{len(other)} of its weights have other shapes than its configuration says (first: "
            f"{key}, {list(found)} instead of {list(expected)})"
        )
    elif info.get("error_msgs"):
        problem = short(info["error_msgs"][0])
    else:
        return
    raise ValueError(f"{incomplete(name, source)}: {problem}")


def _check_shards(name: str, source: str) -> None:
    index = Path(source) / "model.safetensors.index.json"
    if not index.is_file():
        return
    with explained(name, source):
        files = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    if missing := [file for file in files if not (index.parent / file).is_file()]:
        raise ValueError(
            f"The folder {name!r} lacks {len(missing)} of the {len(files)} files of its weights "
            f"(first: {missing[0]}). Copy or download them again."
        )
