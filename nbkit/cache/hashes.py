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
    if isinstance(part, np.generic):
        part = part.item()  # NumPy's 3 is 3
    if part is None or type(part) in PLAIN:
        return repr(part)
    tell = next((tell for kinds, tell in TOLD if isinstance(part, kinds)), None)
    if tell is None and dataclasses.is_dataclass(part):
        tell = _told_dataclass
    if tell is None:
        raise _unknown(part)
    return tell(policy, part)


def _unknown(part: Any) -> TypeError:
    return TypeError(
        f"What depends on {part!r:.80} ({_kind(part)}) cannot be kept by its content, which is not "
        "to be told from another's. Give a plain value, an array, a table or a function of a "
        "module; or no cache."
    )


def _kind(part: Any) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"


def _told_list(policy: Policy, part: Any) -> str:
    return f"[{', '.join(_told(policy, item) for item in part)}]"


def _told_mapping(policy: Policy, part: Any) -> str:
    items = (f"{_told(policy, key)}: {_told(policy, value)}" for key, value in part.items())
    return f"{{{', '.join(sorted(items))}}}"


def _told_set(policy: Policy, part: Any) -> str:
    return f"{{{', '.join(sorted(_told(policy, item) for item in part))}}}"


def _told_pairs(policy: Policy, part: Any) -> str:
    return _told(policy, list(hash_pairs(policy, part).items()))  # their order counts, too


def _told_table(policy: Policy, part: Any) -> str:
    frame = part if isinstance(part, pd.DataFrame) else part.to_frame()
    rows = pd.util.hash_pandas_object(frame).to_numpy()  # TypeError: cells that are lists
    return f"{_kind(part)}({_told(policy, list(frame.columns))}, {_told(policy, rows)})"


def _told_array(policy: Policy, part: Any) -> str:
    if part.dtype.hasobject:
        return f"{_kind(part)}({part.shape}, {_told(policy, part.ravel().tolist())})"
    digest = hashlib.sha256(np.ascontiguousarray(part).data)
    return f"{_kind(part)}({part.shape}, {part.dtype.str}, {digest.hexdigest()})"


def _told_tensor(policy: Policy, part: Any) -> str:
    digest = hashlib.sha256(_raw(part))
    return f"{_kind(part)}({tuple(part.shape)}, {part.dtype}, {digest.hexdigest()})"


def _told_call(policy: Policy, part: Any) -> str:
    """Of a function with some of its arguments, or with its object."""
    bound = isinstance(part, MethodType)
    parts = (part.__func__, part.__self__) if bound else (part.func, part.args, part.keywords)
    return f"{_kind(part)}({', '.join(_told(policy, piece) for piece in parts)})"


def _told_name(policy: Policy, part: Any) -> str:
    if "<" in part.__qualname__:  # a lambda, or a function inside of another
        raise _unknown(part)
    return f"{part.__module__}.{part.__qualname__}"


def _told_model(policy: Policy, part: Any) -> str:
    config = getattr(part, "config", None)
    settings = _settings(config.to_dict()) if config is not None else []
    _add_weights(digest := hashlib.sha256(), part)
    return f"{_kind(part)}({_told(policy, settings)}, {digest.hexdigest()})"


def _told_tokenizer(policy: Policy, part: Any) -> str:
    content = [part.get_vocab(), part.special_tokens_map, part.chat_template]
    return f"{_kind(part)}({_told(policy, content)})"


def _told_dataclass(policy: Policy, part: Any) -> str:
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return f"{_kind(part)}({_told(policy, fields)})"


PLAIN = (bool, int, float, complex, str, bytes)  # no subclasses: they may hold more
# What a part may be, and how its content is told; the first that fits.
TOLD: list[tuple[Any, Callable[[Policy, Any], str]]] = [
    ((list, tuple, range), _told_list),
    (Mapping, _told_mapping),
    (Set, _told_set),
    (Policy, lambda policy, part: hash_weights(part)),
    (Dataset, _told_pairs),
    ((pd.DataFrame, pd.Series, pd.Index), _told_table),
    (np.ndarray, _told_array),
    (torch.Tensor, _told_tensor),
    ((torch.dtype, torch.device), lambda policy, part: str(part)),
    (PurePath, lambda policy, part: f"path {str(part)!r}"),
    (Enum, lambda policy, part: f"{_kind(part)}.{part.name}"),
    ((partial, MethodType), _told_call),
    ((FunctionType, BuiltinFunctionType, type), _told_name),
    (torch.nn.Module, _told_model),
    (PreTrainedTokenizerBase, _told_tokenizer),
]


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
