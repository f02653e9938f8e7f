"""Read any source into columns, changing as little as possible.

The columns that carry a pair come back as plain Python lists, so that one wrong value in one row
can be reported by its row number. All other columns stay together in a `datasets.Dataset`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

TEXT_COLUMNS = ("prompt", "chosen", "rejected")
SCORE_NAMES = {"score_chosen": "chosen_score", "score_rejected": "rejected_score"}
CORE_COLUMNS = ("id", *TEXT_COLUMNS, "chosen_score", "rejected_score", *SCORE_NAMES)
FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass
class Table:
    """What was read: `core` maps a column name to its values, `extras` keeps the others."""

    core: dict[str, list]
    extras: datasets.Dataset | None
    rows: int

    @property
    def column_names(self) -> list[str]:
        return list(self.core) + (self.extras.column_names if self.extras else [])


def read(source, split: str, revision: str | None, name: str | None) -> Table:
    """Read `source`, whatever it is; `split`, `revision` and `name` choose within a hub id."""
    if isinstance(source, (str, Path)) and _names_a_hub_dataset(source):
        return from_dataset(_load_from_hub(str(source), split, revision, name))

    if isinstance(source, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        source = _one_split(source, split)
    elif split != "train":
        raise ValueError(
            f"split={split!r} came with a source that has no splits ({_describe(source)}). "
            "Leave split out and select the rows yourself; it is for hub ids and DatasetDict."
        )
    if revision is not None or name is not None:
        raise ValueError(
            f"revision={revision!r}, name={name!r} came with {_describe(source)}. "
            "Both choose within a hub id; leave them out here."
        )

    if isinstance(source, (str, Path)):
        return from_file(Path(source))
    if isinstance(source, pd.DataFrame):
        return from_frame(source)
    if isinstance(source, datasets.Dataset):
        return from_dataset(source)
    if isinstance(source, (list, tuple)):
        return from_rows(source)
    hint = ""
    if isinstance(source, datasets.IterableDataset):
        hint = " A stream has no fixed rows: take some first, e.g. list(stream.take(1000))."
    raise TypeError(
        f"load_pairs got {_describe(source)}; expected a path ({', '.join(FILE_SUFFIXES)}), a hub "
        f"id, a pandas DataFrame, a list of dicts or a datasets.Dataset.{hint}"
    )


# Files -------------------------------------------------------------------------------------------


def from_file(path: Path) -> Table:
    if not path.exists():
        raise FileNotFoundError(f"No file {path} (looked in {path.absolute().parent}).")
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".json"):
        return from_rows(_read_json(path))
    if suffix == ".csv":
        return from_frame(_read_csv(path))
    if suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        index = [name for name in table.column_names if name.startswith("__index_level_")]
        return from_dataset(datasets.Dataset(table.drop_columns(index)))  # pandas' row labels
    raise ValueError(
        f"{path} ends in {path.suffix!r}; expected one of {', '.join(FILE_SUFFIXES)}. "
        "Read it with pandas and pass the DataFrame."
    )


def _read_json(path: Path) -> list:
    """A JSON array of objects, or one object a line (whatever the suffix says)."""
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        return json.loads(text)
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: not valid JSON ({error}). Expected one JSON object a "
                f"line, or one JSON array of objects; the line begins {line[:60]!r}."
            ) from error
    return rows


def _read_csv(path: Path) -> pd.DataFrame:
    """Text stays text: an answer that reads "NA", "null" or "7" is not turned into a number."""
    names = pd.read_csv(path, nrows=0).columns
    core = [name for name in names if name in CORE_COLUMNS]
    frame = pd.read_csv(
        path,
        dtype={name: str for name in core},
        keep_default_na=False,
        na_values={name: [""] for name in names if name not in core},
    )
    for name in core:
        if name not in ("id", *TEXT_COLUMNS):  # by cell, so that one bad score is one bad row
            frame[name] = pd.Series([_number(cell) for cell in frame[name]], dtype=object)
    return frame


def _number(cell: str) -> float | str | None:
    try:
        return float(cell)
    except ValueError:
        return cell or None


# Objects -----------------------------------------------------------------------------------------


def from_rows(rows) -> Table:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(
                f"Row {number} is a {type(row).__name__} ({row!r:.60}); expected a dict "
                "with a value for each column."
            )
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    extras = {name: values for name, values in columns.items() if name not in CORE_COLUMNS}
    core = {name: values for name, values in columns.items() if name in CORE_COLUMNS}
    return Table(core, _extras(extras, datasets.Dataset.from_dict), len(rows))


def from_frame(frame: pd.DataFrame) -> Table:
    if frame.index.name == "id" and "id" not in frame.columns:  # nbkit's own tables
        frame = frame.reset_index()
    if not frame.columns.is_unique:
        raise ValueError(f"The DataFrame has a column twice: {list(frame.columns)}.")
    core = {name: _values(frame[name]) for name in frame.columns if name in CORE_COLUMNS}
    extras = frame.drop(columns=list(core)).reset_index(drop=True)
    return Table(core, _extras(extras, datasets.Dataset.from_pandas), len(frame))


def _values(column: pd.Series) -> list:
    """Plain values; pandas reads the lists of a parquet file as arrays."""
    values = column.tolist()
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in values]


def from_dataset(dataset: datasets.Dataset) -> Table:
    dataset = dataset.with_format(None)
    core = {name: dataset[name][:] for name in dataset.column_names if name in CORE_COLUMNS}
    extras = dataset.remove_columns(list(core))
    return Table(core, extras if extras.column_names else None, len(dataset))


def _extras(columns, build) -> datasets.Dataset | None:
    """The other columns as a Dataset; arrow wants one kind of value in each."""
    names = list(columns)
    if not names:
        return None
    try:
        return build(columns)
    except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(
            f"A column beside the pairs ({', '.join(map(str, names))}) mixes kinds of values, "
            f"which a datasets.Dataset cannot hold: {error}. Drop it, or make it all text."
        ) from error


# Hub ---------------------------------------------------------------------------------------------


def _names_a_hub_dataset(source) -> bool:
    """Whether a string or path is left to `datasets`: a folder of data files, or a hub id."""
    path = Path(source)
    return path.is_dir() or not (path.exists() or path.suffix.lower() in FILE_SUFFIXES)


def _load_from_hub(source: str, split: str, revision: str | None, name: str | None):
    try:
        return datasets.load_dataset(source, name, split=split, revision=revision)
    except (FileNotFoundError, ConnectionError, datasets.exceptions.DatasetsError) as error:
        here = Path(source).absolute()
        raise FileNotFoundError(
            f"No pairs found under {source!r}. Looked for a file or folder {here} and, as there is "
            f"none, for a data set of that id on the hub: {error}. "
            "Offline? Give a file on this machine "
            f"({', '.join(FILE_SUFFIXES)}), or load the hub id once while online: it stays in the "
            "datasets cache and is found there later (HF_HUB_OFFLINE=1 then saves the waiting). "
            "Online? Check the id, and that you are logged in if it is gated."
        ) from error


def _one_split(source, split: str):
    if split not in source:
        raise ValueError(
            f"The {type(source).__name__} has no split {split!r}; it has {list(source)}. "
            "Name one with split=..., or pass source[name]."
        )
    return source[split]


def _describe(source) -> str:
    if isinstance(source, (str, Path)):
        return f"the file {str(source)!r}"
    kind = type(source)
    module = "" if kind.__module__ == "builtins" else kind.__module__.split(".")[0] + "."
    return f"a {module}{kind.__name__}"
