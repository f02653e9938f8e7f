"""Runs that are kept on disk: those that are there are read, and the others made and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.cache.files import keep_table, read_whole, try_folder
from nbkit.experiments.jobs import run_jobs


def read_kept(files: Mapping[Any, Path]) -> dict[Any, pd.DataFrame]:
    """The tables that are there, under the keys of their files.

    Raises:
        OSError: one is not, and could not be kept in its folder.
    """
    kept = {}
    for key, file in files.items():
        if (table := read_whole(file)) is not None:
            kept[key] = table
    for folder in {file.parent for key, file in files.items() if key not in kept}:
        try_folder(folder)
    return kept


def run_kept(
    function: Callable[..., pd.DataFrame], jobs: Mapping[Any, tuple], files: Mapping[Any, Path],
    *, workers: int, progress: bool, desc: str,
) -> Iterator[tuple[Any, pd.DataFrame]]:  # fmt: skip
    """`function(*job)` of each job with its key, as they finish (see `run_jobs`); each is kept in
    its file, if it has one."""
    keys = list(jobs)
    kept = [(files.get(key), function, *job) for key, job in jobs.items()]
    for number, table in run_jobs(keep_table, kept, workers, progress=progress, desc=desc):
        yield keys[number], table
