"""Log-probs kept on disk by content, so that an interrupted run resumes where it stopped.

A folder holds one subfolder per model (named after a hash of its weights), in it parts: small
parquet files, each written whole or not at all. A row is keyed by a hash of its token ids, which
stand for tokenizer, chat template, text and settings at once: whatever changes the tokens changes
the key, and pairs that were scored before are never scored twice, in whatever data set they come.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset

from nbkit.models import Policy
from nbkit.tokens import TokenPair, tokenize_pairs

# Settings that say where a model came from or how it is used, not what it computes (the dtype is
# hashed with the weights).
NO_PART = {
    "transformers_version", "_name_or_path", "_attn_implementation_internal", "architectures",
    "dtype", "use_cache", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
}  # fmt: skip


class LogprobCache:
    """Rows of a log-prob table by pair hash, in the subfolder of one policy."""

    def __init__(self, folder: str | Path, policy: Policy):
        self.folder = Path(folder) / hash_weights(policy)
        self.folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> pd.DataFrame:
        """Every row written so far, indexed by `hash_pair`."""
        parts = []
        for part in sorted(self.folder.glob("*.parquet")):
            try:
                parts.append(pd.read_parquet(part))
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"The cached part {part} is damaged. Delete it, and its pairs are scored "
                    f"again. ({error})"
                ) from error
        if not parts:
            return pd.DataFrame()
        rows = pd.concat(parts)
        return rows[~rows.index.duplicated()]

    def write(self, rows: pd.DataFrame) -> None:
        """Add a part. Several processes may write into one folder."""
        if len(rows):
            write_whole(rows, self.folder / f"{uuid.uuid4().hex}.parquet")


def keep_table(file: Path | None, make: Callable[..., pd.DataFrame], *args, **kwargs):
    """The table in `file`, or what `make(*args, **kwargs)` returns, which is kept there first.
    Without a file nothing is kept."""
    if file is not None and file.exists():
        return pd.read_parquet(file)
    table = make(*args, **kwargs)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(table, file)
    return table


def write_whole(table: pd.DataFrame, path: Path) -> None:
    """Write a parquet file such that nobody ever sees a part of it."""
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.tmp")  # two writers must not share one
    try:
        table.to_parquet(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def hash_pair(pair: TokenPair) -> str:
    """Hash of the pair's token ids (its id is not part of it)."""
    digest = hashlib.sha256()
    for ids in (pair.prompt, pair.chosen, pair.rejected):
        digest.update(np.array([len(ids), *ids], dtype="<i8").tobytes())
    return digest.hexdigest()[:32]


def hash_weights(policy: Policy) -> str:
    """Hash of all that decides a forward pass: the configuration, the adapters with their settings
    and whether they are on, the dtype and every weight."""
    digest = hashlib.sha256()
    adapters = policy.model.peft_config if policy.has_adapter else {}
    active = list(policy.model.active_adapters) if policy.has_adapter else []
    configs = [policy.causal_lm.config, *(adapters[name] for name in sorted(adapters))]
    settings = [_settings(config.to_dict()) for config in configs]
    digest.update(repr((settings, sorted(adapters), active, policy.adapter_enabled)).encode())
    for name, module in policy.model.named_modules():  # peft can rescale a loaded adapter
        if adapters and isinstance(scaling := getattr(module, "scaling", None), dict):
            digest.update(repr((name, sorted(scaling.items()))).encode())
    with torch.no_grad():
        for name, tensor in sorted(policy.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            raw = tensor.detach().contiguous().flatten().view(torch.uint8).cpu()
            digest.update(memoryview(raw.numpy()))
    return digest.hexdigest()[:32]


def hash_pairs(policy: Policy, pairs: Dataset) -> dict[str, str]:
    """`hash_pair` of each pair by its id."""
    return {pair.id: hash_pair(pair) for pair in tokenize_pairs(policy.tokenizer, pairs)}


def hash_content(policy: Policy, *parts) -> str:
    """Hash of all that decides a result: policies by their weights, pairs by their ids and their
    tokens under `policy`, log-prob tables by their values, anything else by its text."""
    told = "; ".join(_told(policy, part) for part in parts)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _told(policy: Policy, part) -> str:
    if isinstance(part, Policy):
        return hash_weights(part)
    if isinstance(part, Dataset):
        return repr(hash_pairs(policy, part))
    if isinstance(part, pd.DataFrame):
        return repr(pd.util.hash_pandas_object(part).tolist())
    if isinstance(part, dict):
        return repr([(key, _told(policy, part[key])) for key in sorted(part)])
    if isinstance(part, (list, tuple)):
        return repr([_told(policy, item) for item in part])
    return repr(part.item() if isinstance(part, np.generic) else part)  # NumPy's 3 is 3


def _settings(config: dict) -> list[tuple[str, str]]:
    """The settings of a configuration as text that is the same in every process."""
    listed = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    return sorted((k, str(v)) for k, v in listed.items() if k not in NO_PART)
