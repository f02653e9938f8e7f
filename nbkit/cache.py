"""Results kept on disk by content, so that an interrupted run resumes where it stopped.

Log-probs: a folder holds one subfolder per model (named after a hash of its weights), in it parts:
small parquet files. A row is keyed by a hash of its token ids, which stand for tokenizer, chat
template, text and settings at once: whatever changes the tokens changes the key, and pairs that
were scored before are never scored twice, in whatever data set they come.

Whatever takes long to make, a model's losses or a policy's answers, is a table of its own, under
the hash of all that decides it: inputs, the settings in effect, the versions of what computes it.

Every file is written whole or not at all, with a checksum. A file that is damaged is set aside and
made again; and what cannot be written is returned all the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import os
import sys
import uuid
import warnings
from collections.abc import Callable, Mapping, Set
from enum import Enum
from functools import partial
from importlib import metadata
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from nbkit.models import Policy
from nbkit.tokens import TokenPair, tokenize_pairs

# Raised whenever the numbers that nbkit's engine makes from the same weights and tokens change.
SCORING = 2
# What else a result depends on; trl and transformers change defaults and losses.
LIBRARIES = ("trl", "transformers", "peft", "torch")
NUMBERS = ["chosen_logp", "rejected_logp", "chosen_tokens", "rejected_tokens"]
CHECKSUM = b"nbkit checksum"
# Settings that say where a model came from or how it is used, not what it computes (the dtype is
# hashed with the weights).
NO_PART = {
    "transformers_version", "_name_or_path", "_attn_implementation_internal", "architectures",
    "dtype", "use_cache", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
}  # fmt: skip


# --- tables on disk -----------------------------------------------------------------------------


class LogprobCache:
    """Rows of a log-prob table by pair hash, in the subfolder of one policy."""

    def __init__(self, folder: str | Path, policy: Policy):
        self.folder = as_folder(folder) / f"{hash_weights(policy)}-{SCORING}"
        self.unwritten = []

    def load(self) -> pd.DataFrame:
        """Every row written so far, indexed by `hash_pair`."""
        parts = []
        for file in sorted(self.folder.glob("*.parquet")):
            part = read_whole(file)
            if part is None:
                continue
            if set(NUMBERS) <= set(part) and np.isfinite(part[NUMBERS]).all(axis=None):
                parts.append(part)
            else:
                set_aside(file, "it lacks columns or numbers")
        if not parts:
            return pd.DataFrame()
        rows = pd.concat(parts)
        return rows[~rows.index.duplicated()]

    def write(self, rows: pd.DataFrame) -> None:
        """Add a part. Several processes may write into one folder. Rows that cannot be written
        (there is a warning) go with the next part."""
        self.unwritten.append(rows[np.isfinite(rows).all(axis=1)])
        part, file = pd.concat(self.unwritten), self.folder / f"{uuid.uuid4().hex}.parquet"
        if not len(part) or keep(part, file, self.folder.parent):
            self.unwritten = []


def keep_table(file: Path | None, make: Callable[..., pd.DataFrame], *args, **kwargs):
    """The table in `file`, or what `make(*args, **kwargs)` returns, which is kept there first.
    Without a file nothing is kept."""
    table = None if file is None else read_whole(file)
    if table is None:
        table = make(*args, **kwargs)
        if file is not None:
            keep(table, file)
    return table


def keep(table: pd.DataFrame, file: Path, folder: Path | None = None) -> bool:
    """Write a table; where that fails, say so (of `folder`, default the file's own) and go on:
    whoever made it returns it."""
    try:
        write_whole(table, file)
    except (OSError, pa.ArrowException) as error:
        warn_unkept(folder or file.parent, error)
        return False
    return True


def warn_unkept(folder: Path, error: Exception) -> None:
    """The warning that a result is returned but could not be kept."""
    warnings.warn(
        f"Results cannot be kept in {folder} ({_cause(error)}). They are returned all the same, "
        "but a further call will have to make them again.",
        stacklevel=3,
    )


def write_whole(table: pd.DataFrame, path: Path) -> None:
    """Write a parquet file, with its folder, such that nobody ever sees a part of it."""
    table = pa.Table.from_pandas(table)
    told = {**table.schema.metadata, CHECKSUM: _checksum(table)}
    content = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(told), content)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.tmp")  # two writers must not share one
    try:
        unfinished.write_bytes(content.getvalue())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_whole(file: Path) -> pd.DataFrame | None:
    """The table that `write_whole` wrote, or None if there is no such file. One that is damaged,
    or that somebody else has written, is set aside and counts as none."""
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        table = pq.read_table(pa.BufferReader(content))
        if (table.schema.metadata or {}).get(CHECKSUM) == _checksum(table):
            return table.to_pandas()
        cause = "its checksum is not that of its contents"
    except (pa.ArrowException, OSError, ValueError) as error:
        cause = error
    set_aside(file, cause)
    return None


def set_aside(path: Path, cause: str | Exception) -> None:
    """Rename a damaged file or folder, and say so."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.damaged")
    try:
        os.replace(path, aside)
        where = f"set aside as {aside.name}"
    except OSError as error:
        where = f"left where it is ({_cause(error)})"
    warnings.warn(
        f"{path} is damaged: {_cause(cause)}. It is {where}, and what it held is made again.",
        stacklevel=3,
    )


def try_folder(folder: str | Path, what: str = "cache") -> Path:
    """The folder, made if there is none, once a file has been written there on trial: so that a
    place where nothing can be kept is refused before the work, not after it.

    Raises:
        OSError: it cannot be written. TypeError: no path.
    """
    folder = as_folder(folder, what)
    trial = folder / f"{uuid.uuid4().hex}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            trial.write_bytes(bytes(4096))
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        cause = "a file is in the way" if folder.is_file() else _cause(error)
        raise type(error)(
            f"{what}: nothing can be kept in {str(folder)!r} ({cause}), so nothing was begun. Give "
            "a folder that you may write to, on a disk with room."
        ) from error
    return folder


def as_folder(folder, what: str = "cache") -> Path:
    """A folder's path; TypeError for what is none."""
    if not isinstance(folder, (str, PurePath)):
        raise TypeError(f"{what}={folder!r:.60}; expected the path of a folder.")
    return Path(folder)


def _checksum(table: pa.Table) -> bytes:
    told = (table.schema.metadata or {}).get(b"pandas")  # how the columns make a data frame
    digest = hashlib.sha256(repr((table.column_names, told)).encode())
    for column in table.columns:
        numbers = pa.types.is_primitive(column.type)
        digest.update(column.to_numpy().tobytes() if numbers else repr(column.to_pylist()).encode())
    return digest.hexdigest().encode()


def _cause(error: str | Exception) -> str:
    """An error in a few words, without the path that its message may hold."""
    said = getattr(error, "strerror", None) or str(error)
    return said.partition("\n")[0][:200].rstrip(".")


# --- hashes -------------------------------------------------------------------------------------


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


def hash_content(policy: Policy, *parts) -> str:
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


def _told(policy: Policy, part) -> str:
    """A text that is the same in every process, and another for other content."""

    def told(thing):
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
        digest = hashlib.sha256(np.ascontiguousarray(part))
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
        settings = _settings(part.config.to_dict()) if hasattr(part, "config") else []
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


def _add_weights(digest, model: torch.nn.Module) -> None:
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_raw(tensor))


def _raw(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor."""
    with torch.no_grad():
        raw = tensor.detach().contiguous().flatten().view(torch.uint8).cpu()
    return memoryview(raw.numpy())


def _settings(config: dict) -> list[tuple[str, str]]:
    """The settings of a configuration as text that is the same in every process."""
    listed = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    return sorted((k, str(v)) for k, v in listed.items() if k not in NO_PART)
