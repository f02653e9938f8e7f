"""GGUF files: an ordinary model with the weights of one."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from importlib.util import find_spec as _spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from nbkit.models.explaining import explained
from nbkit.models.parts import refuse_incomplete


def load_gguf(
    name: str, file: Path, dtype: str | torch.dtype, attn_implementation: str | None
) -> tuple[Any, PreTrainedTokenizerBase]:
    """An ordinary model with the weights of a GGUF file, and its tokenizer.

    Not by `from_pretrained(gguf_file=...)`: that marks the model as quantized, which neither trains
    nor saves, and may fetch kernels from the hub.
    """
    if _spec("gguf") is None:
        raise ImportError(
            f"{name!r} is read from a GGUF file, which needs the package gguf: pip install gguf"
        )
    import gguf
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    dtype = torch.float32 if dtype == "auto" else dtype
    where: dict[str, Any] = dict(gguf_file=file.name, trust_remote_code=False)
    with explained(name, str(file)), _read_once():
        config = AutoConfig.from_pretrained(file.parent, **where)
        config._attn_implementation = attn_implementation
        config._name_or_path = ""  # the file's own title is no name on the hub
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config)
        tensors = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=empty)
        model, info = type(empty).from_pretrained(
            None, config=config, state_dict=tensors["tensors"], dtype=dtype,
            output_loading_info=True,
        )  # fmt: skip
        ids = {
            key.split(".")[-1].removesuffix("_token_id"): int(field.parts[-1][0])
            for key, field in gguf.GGUFReader(str(file)).fields.items()
            if key.startswith("tokenizer.ggml.") and key.endswith("_token_id")
        }
    refuse_incomplete(name, str(file), info)
    for kind in ("bos", "eos"):  # some versions of transformers mix them up
        if kind in ids:
            setattr(tokenizer, f"{kind}_token", tokenizer.convert_ids_to_tokens(ids[kind]))
    stops = {ids[kind] for kind in ("eos", "eot", "eom") if kind in ids}
    if len(stops) > 1:
        model.generation_config.eos_token_id = sorted(stops)
    return model, tokenizer


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Inside the block a GGUF file is parsed once, which takes seconds: transformers parses it for
    the configuration, the tokenizer and the weights."""
    gguf: Any = importlib.import_module("gguf")
    reader = gguf.GGUFReader
    gguf.GGUFReader = functools.lru_cache(maxsize=1)(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader
