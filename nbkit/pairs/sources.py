"""Read any source into columns, changing as little as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pandas as pd

from nbkit.pairs import files, tables
from nbkit.pairs.files import SUFFIXES

# Whatever preference pairs come in: rows, a file or folder, or a hub id.
Pairs: TypeAlias = (
    datasets.Dataset
    | datasets.DatasetDict
    | pd.DataFrame
    | Sequence[Mapping[str, Any]]
    | str
    | Path
)

TEXT_COLUMNS = ("prompt", "chosen", "rejected")
BUILDERS = ("json", "csv", "parquet", "text", "arrow", "pandas", "xml", "webdataset",
            "imagefolder", "audiofolder", "videofolder")  # fmt: skip


def read(source: Pairs, split: str, revision: str | None, name: str | None) -> tables.Table:
    """Read `source`, whatever it is; `split`, `revision` and `name` choose within a hub id."""
    path = Path(source) if isinstance(source, (str, Path)) else None
    if path and _is_hub_id(path, name):
        return tables.from_dataset(_load_from_hub(str(source), split, revision, name))
    if path and path.is_dir() and revision is None:
        return files.from_folder(path, split)
    if isinstance(source, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        source, split = _one_split(source, split), "train"
    _refuse_choices(source, split, revision, name)
    if path:
        return files.from_file(path)
    for kind, table_of in TABLES:
        if isinstance(source, kind):
            return table_of(source)
    hint = ""
    if isinstance(source, datasets.IterableDataset):
        hint = " A stream has no fixed rows: take some first, e.g. list(stream.take(1000))."
    raise TypeError(
        f"load_pairs got {_describe(source)}; expected a path ({', '.join(SUFFIXES)}), a hub "
        f"id, a pandas DataFrame, a list of dicts or a datasets.Dataset.{hint}"
    )


TABLES: list[tuple[Any, Callable[[Any], tables.Table]]] = [
    (pd.DataFrame, tables.from_frame),
    (datasets.Dataset, tables.from_dataset),
    ((list, tuple), tables.from_rows),
]


def _is_hub_id(path: Path, name: str | None) -> bool:
    """Whether this is no file or folder here; or a folder in which a configuration is chosen."""
    if path.is_dir():
        return bool(name)
    return not path.exists() and files.kind_of(path) not in SUFFIXES


def _refuse_choices(source: object, split: str, revision: str | None, name: str | None) -> None:
    """Raise ValueError for choices in a source that has nothing to choose from."""
    if split != "train":
        raise ValueError(
            f"split={split!r} came with a source that has no splits ({_describe(source)}). "
            "Leave split out and select the rows yourself; it is for hub ids, folders and "
            "DatasetDict."
        )
    if revision is not None or name is not None:
        raise ValueError(
            f"revision={revision!r}, name={name!r} came with {_describe(source)}. "
            "Both choose within a hub id; leave them out here."
        )


def _load_from_hub(
    source: str, split: str, revision: str | None, name: str | None
) -> datasets.Dataset:
    if source in BUILDERS:
        raise ValueError(
            f"{source!r} names a kind of file for `datasets`, not a data set. Give the path of a "
            f"file or folder, e.g. load_pairs('pairs.{source}')."
        )
    try:
        return datasets.load_dataset(source, name, split=split, revision=revision)
    except (FileNotFoundError, ConnectionError, datasets.exceptions.DatasetsError) as error:
        here = Path(source).absolute()
        raise FileNotFoundError(
            f"No pairs found under {source!r}. Looked for a file or folder {here} and, as there is "
            f"none, for a data set of that id on the hub: {error!s:.300}. "
            "Offline? Give a file on this machine "
            f"({', '.join(SUFFIXES)}), or load the hub id once while online: it stays in the "
            "datasets cache and is found there later (HF_HUB_OFFLINE=1 then saves the waiting). "
            "Online? Check the id, and that you are logged in if it is gated."
        ) from error


def _one_split(source: Mapping[str, Any], split: str) -> Any:
    if split not in source:
        raise ValueError(
            f"The {type(source).__name__} has no split {split!r}; it has {list(source)}. "
            "Name one with split=..., or pass source[name]."
        )
    return source[split]


def _describe(source: object) -> str:
    if isinstance(source, (str, Path)):
        return f"the {'folder' if Path(source).is_dir() else 'file'} {str(source)!r}"
    kind = type(source)
    module = "" if kind.__module__ == "builtins" else kind.__module__.split(".")[0] + "."
    return f"a {module}{kind.__name__}"
