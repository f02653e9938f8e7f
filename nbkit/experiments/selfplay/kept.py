"""What a self-play keeps in its folder: tables, policies, and whose folder it is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers.utils import logging

from nbkit.cache.files import keep_table, set_aside, warn_unkept
from nbkit.cache.hashes import versions
from nbkit.models.policy import Policy, load_policy
from nbkit.train.dpo import train_dpo
from nbkit.warning import warn


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time works in a folder; another waits for the end of the round."""
    lock = FileLock(folder / "self_play.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        warn(
            f"Another process plays in {folder}. This one waits until its round is finished, and "
            "takes over what was made."
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def claim(folder: Path, key: str) -> None:
    """Refuse a folder in which another self-play was kept."""
    note, now = folder / "self_play.json", {"key": key, **versions()}
    before = {}
    try:
        before = dict(json.loads(note.read_text("utf-8")))
    except FileNotFoundError:
        pass
    except (ValueError, TypeError) as error:
        set_aside(note, error)
    if before.get("key") == key:
        return
    if "key" in before:
        other = [f"{n} {before[n]}" for n in versions() if before.get(n, now[n]) != now[n]]
        of = f" ({', '.join(other)})" if other else ""
        raise ValueError(
            f"The folder {folder} holds a self-play with another policy, other prompts, other "
            f"functions, settings or versions{of}. Give this one a folder of its own, or delete "
            "that one."
        )
    for path in sorted(folder.glob("round-*[0-9]")):
        set_aside(path, f"{note.name} does not say which self-play it belongs to")
    unfinished = note.with_suffix(".tmp")
    unfinished.write_text(json.dumps(now), "utf-8")
    os.replace(unfinished, note)


def kept_table(file: Path, make: Callable, *args: Any, **kwargs: Any) -> pd.DataFrame:
    """The table in `file`.parquet, or what `make` returns, which is then kept there."""
    return keep_table(file.with_suffix(".parquet"), make, *args, **kwargs).map(_plain)


def _plain(value: Any) -> Any:
    """Messages come out of a parquet file as arrays."""
    return [dict(turn) for turn in value] if isinstance(value, np.ndarray) else value


def kept_policy(
    folder: Path, policy: Policy, base: Dataset, progress: bool, **training: Any
) -> Policy:
    """The policy trained on the base set, from `folder` if it is there."""
    kept = _loaded(folder, policy, progress)
    if kept is None:
        run = train_dpo(policy, base, progress=progress, **training)
        model = run.policy.model.merge_and_unload() if run.policy.has_adapter else run.policy.model
        unfinished = folder.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            with _library_bars(progress):
                model.save_pretrained(unfinished)
            policy.tokenizer.save_pretrained(unfinished)
            os.replace(unfinished, folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            warn_unkept(folder.parent, error)
        kept = _loaded(folder, policy, progress) or Policy(model, policy.tokenizer)
    return Policy(kept.model, policy.tokenizer, f"{policy.name}, {folder.parent.name}")


def _loaded(folder: Path, policy: Policy, progress: bool) -> Policy | None:
    """The policy in `folder`; None if there is none, or a damaged one, which is set aside."""
    if not folder.exists():
        return None
    try:
        with _library_bars(progress):
            return load_policy(folder, device=policy.device, dtype=policy.dtype)
    except (OSError, ValueError) as error:
        set_aside(folder, error)
        return None


@contextlib.contextmanager
def _library_bars(shown: bool) -> Iterator[None]:
    """transformers' own bars, over the files of a model, only where bars are wanted."""
    before = logging.is_progress_bar_enabled()
    if not shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()
