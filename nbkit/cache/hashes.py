"""The hash of all that decides a result: inputs, settings in effect, versions of what computes it.

Log-probs of a pair are kept under a hash of its token ids, which stand for tokenizer, template,
text and settings at once: whatever changes the tokens changes the key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Set
from enum import Enum
from functools import partial
from importlib import metadata
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair, tokenize_pairs

# What else a result depends on; trl and transformers change defaults and losses.
LIBRARIES = ("trl", "transformers", "peft", "torch")


# Settings that say where a model came from or how it is used, not what it computes (the dtype is
# hashed with the weights).
NO_PART = {
    "transformers_version", "_name_or_path", "_attn_implementation_internal", "architectures",
    "dtype", "use_cache", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
}  # fmt: skip


def hash_pair(pair: TokenPair) -> str:
    """Hash of the pair's token ids (its id is not part of it)."""
    return pair.digest.hex()[:32]


def hash_weights(policy: Policy) -> str:
    """Hash of all that decides a forward pass: the configuration, the adapters with their settings
    and whether they are on, the dtype and every weight."""
    digest = hashlib.sha256()
    with policy.ready():  # another thread may be moving the weights, or switching the adapter
        adapters = policy.model.peft_config if policy.has_adapter else {}
        active = list(policy.model.active_adapters) if policy.has_adapter else []
        configs = [policy.causal_lm.config, *(adapters[name] for name in sorted(adapters))]
        settings = [_settings(config.to_dict()) for config in configs]
        digest.update(repr((settings, sorted(adapters), active, policy.adapter_enabled)).encode())
        for name, module in policy.model.named_modules():  # peft can rescale a loaded adapter
            if adapters and isinstance(scaling := getattr(module, "scaling", None), dict):
                digest.update(repr((name, sorted(scaling.items()))).encode())
        _add_weights(digest, policy.model)
    return digest.hexdigest()[:32]


def hash_pairs(policy: Policy, pairs: Dataset) -> dict[str, str]:
    """`hash_pair` of each pair by its id."""
    return {pair.id: hash_pair(pair) for pair in tokenize_pairs(policy.tokenizer, pairs)}


def hash_content(policy: Policy, *parts: Any) -> str:
    """Hash of all that decides a result: the versions of what computes it; policies and models by
    their weights, pairs by their ids and their tokens under `policy`, tables and arrays by all
    their values, functions by their names, plain values as they are.

    Raises:
        TypeError: a part whose content cannot be told from another's.
    """
    told = _told(policy, (versions(), *parts))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def versions() -> dict[str, str]:
    """Of all that decides what a training or a generation does."""
    own = sys.modules["nbkit"].__version__
    return {"nbkit": own, **{name: metadata.version(name) for name in LIBRARIES}}


def with_defaults(function: Callable, given: Mapping) -> dict:
    """The settings in effect when `function` is called with those given: the defaults of its
    signature, too."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }
    return {**defaults, **given}


def _told(policy: Policy, part: Any) -> str:
    """A text that is the same in every process, and another for other content."""

    def told(thing: Any) -> str:
        return _told(policy, thing)

    if isinstance(part, np.generic):
        part = part.item()  # NumPy's 3 is 3
    if part is None or type(part) in (bool, int, float, complex, str, bytes):
        return repr(part)
    if isinstance(part, (list, tuple, range)):
        return f"[{', '.join(map(told, part))}]"
    if isinstance(part, Mapping):
        return f"{{{', '.join(sorted(f'{told(k)}: {told(v)}' for k, v in part.items()))}}}"
    if isinstance(part, Set):
        return f"{{{', '.join(sorted(map(told, part)))}}}"
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    if isinstance(part, Policy):
        return hash_weights(part)
    if isinstance(part, Dataset):
        return told(list(hash_pairs(policy, part).items()))  # their order counts, too
    if isinstance(part, (pd.DataFrame, pd.Series, pd.Index)):
        frame = part if isinstance(part, pd.DataFrame) else part.to_frame()
        rows = pd.util.hash_pandas_object(frame).to_numpy()  # TypeError: cells that are lists
        return f"{kind}({told(list(frame.columns))}, {told(rows)})"
    if isinstance(part, np.ndarray):
        if part.dtype.hasobject:
            return f"{kind}({part.shape}, {told(part.ravel().tolist())})"
        digest = hashlib.sha256(np.ascontiguousarray(part).data)
        return f"{kind}({part.shape}, {part.dtype.str}, {digest.hexdigest()})"
    if isinstance(part, torch.Tensor):
        digest = hashlib.sha256(_raw(part))
        return f"{kind}({tuple(part.shape)}, {part.dtype}, {digest.hexdigest()})"
    if isinstance(part, (torch.dtype, torch.device)):
        return str(part)
    if isinstance(part, PurePath):
        return f"path {str(part)!r}"
    if isinstance(part, Enum):
        return f"{kind}.{part.name}"
    if isinstance(part, partial):
        return f"{kind}({told(part.func)}, {told(part.args)}, {told(part.keywords)})"
    if isinstance(part, MethodType):
        return f"{kind}({told(part.__func__)}, {told(part.__self__)})"
    if isinstance(part, (FunctionType, BuiltinFunctionType, type)) and "<" not in part.__qualname__:
        return f"{part.__module__}.{part.__qualname__}"
    if isinstance(part, torch.nn.Module):
        config = getattr(part, "config", None)
        settings = _settings(config.to_dict()) if config is not None else []
        _add_weights(digest := hashlib.sha256(), part)
        return f"{kind}({told(settings)}, {digest.hexdigest()})"
    if isinstance(part, PreTrainedTokenizerBase):
        return f"{kind}({told([part.get_vocab(), part.special_tokens_map, part.chat_template])})"
    if dataclasses.is_dataclass(part):
        fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        return f"{kind}({told(fields)})"
    raise TypeError(
        f"What depends on {part!r:.80} ({kind}) cannot be kept by its content, which is not to be "
        "told from another's. Give a plain value, an array, a table or a function of a module; or "
        "no cache."
    )


def _add_weights(digest: hashlib._Hash, model: torch.nn.Module) -> None:
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_raw(tensor))


def _raw(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor."""
    with torch.no_grad():
        raw = tensor.detach().contiguous().flatten().view(torch.uint8).cpu()
    return raw.numpy().data


def _settings(config: dict) -> list[tuple[str, str]]:
    """The settings of a configuration as text that is the same in every process."""
    listed = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    return sorted((k, str(v)) for k, v in listed.items() if k not in NO_PART)
