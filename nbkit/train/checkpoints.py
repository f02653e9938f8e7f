"""Where a training run's state lies, and whether there is one to go on from."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset
from safetensors import SafetensorError, safe_open

from nbkit.cache.hashes import hash_weights, versions
from nbkit.logprobs.rows import LOGPS
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair
from nbkit.warning import warn

# What changes how a run is watched, or where it is kept, but not what it computes; and TRL's
# options, which are told one by one.
NO_PART = {"progress", "checkpoints", "checkpoint_every", "copy_model", "trl_options"}
WEIGHTS = ("model.safetensors", "adapter_model.safetensors")


def fingerprint(
    learner: Policy,
    data: Dataset,
    settings: Mapping[str, Any],
    followed: list[TokenPair],
    followed_reference: pd.DataFrame | None,
) -> str:
    """Name of a run's folder: a hash of the starting weights, the tokenised rows in order with
    their reference log-probs, the settings in effect, the followed pairs with theirs, and the
    versions of the libraries."""
    every = {**settings, **settings["trl_options"]}
    told = {k: v for k, v in every.items() if k not in NO_PART}
    digest = hashlib.sha256(hash_weights(learner).encode())
    digest.update(repr((sorted(told.items()), versions())).encode())
    digest.update(repr([(pair.id, pair.digest) for pair in followed]).encode())
    if followed_reference is not None:
        digest.update(repr(followed_reference[LOGPS].to_numpy().tolist()).encode())
    for row in data:
        digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()[:32]


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` that is whole, or None; warns of damaged ones after it."""
    found = sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)
    damaged = []
    for checkpoint in found:
        if (reason := _damage(checkpoint)) is None:
            break
        damaged.append(f"{checkpoint.name} ({reason})")
    else:
        checkpoint = None
    if damaged:
        instead = f"goes on from {checkpoint.name}" if checkpoint else "starts from the beginning"
        warn(
            f"Of the checkpoints in {folder}, {', '.join(damaged)} cannot be used: the run "
            f"{instead}."
        )
    return checkpoint


def step_of(checkpoint: Path) -> int:
    """The number of steps after which a checkpoint was written."""
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def _damage(checkpoint: Path) -> str | None:
    """What a checkpoint lacks, if anything; the trainer writes its own state last."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
        if state["global_step"] != step_of(checkpoint):
            return "trainer_state.json is of another step"
    except (OSError, ValueError, KeyError, TypeError):
        return "trainer_state.json is missing or damaged"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        if not zipfile.is_zipfile(checkpoint / name):
            return f"{name} is missing or damaged"
    names = [name for name in WEIGHTS if (checkpoint / name).is_file()]
    try:
        if (index := checkpoint / "model.safetensors.index.json").is_file():
            names += sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        for name in names:
            with safe_open(checkpoint / name, "pt"):
                pass
    except (OSError, ValueError, KeyError, SafetensorError):
        return "its weights are damaged"
    return None if names else "its weights are missing"
