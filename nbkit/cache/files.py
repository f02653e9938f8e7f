"""Tables kept on disk, whole or not at all, so that an interrupted run resumes where it stopped.

Every file is written whole or not at all, with a checksum. A file that is damaged is set aside and
made again; and what cannot be written is returned all the same.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nbkit.warning import warn

CHECKSUM = b"nbkit checksum"


def keep_table(
    file: Path | None, make: Callable[..., pd.DataFrame], *args: Any, **kwargs: Any
) -> pd.DataFrame:
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
    warn(
        f"Results cannot be kept in {folder} ({_cause(error)}). They are returned all the same, "
        "but a further call will have to make them again."
    )


def write_whole(table: pd.DataFrame, path: Path) -> None:
    """Write a parquet file, with its folder, such that nobody ever sees a part of it."""
    columns = pa.Table.from_pandas(table)
    told = {**columns.schema.metadata, CHECKSUM: _checksum(columns)}
    content = pa.BufferOutputStream()
    pq.write_table(columns.replace_schema_metadata(told), content)
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
        cause: str | Exception = "its checksum is not that of its contents"
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
    warn(f"{path} is damaged: {_cause(cause)}. It is {where}, and what it held is made again.")


def try_folder(folder: str | PurePath, what: str = "cache") -> Path:
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


def as_folder(folder: str | PurePath, what: str = "cache") -> Path:
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
