"""A source as columns: each can be taken as plain values; the others stay together beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow

from nbkit.pairs.values import listed, shorten

NUMBER = r"-?(?:0|[1-9]\d*)"


@dataclass
class Table:
    """`names` are the columns that nobody has taken yet.

    `values(name)` gives one column as plain Python values, so that one wrong value in one row can
    be reported by its row number; `dataset(names)` gives several as a `datasets.Dataset`.
    `is_text`: every value is text, since the source knows nothing else (CSV). `filled`: objects
    may have been in arrow's hands, which gives each the keys of all.
    """

    names: list[str]
    rows: int
    values: Callable[[str], list]
    dataset: Callable[[list[str]], datasets.Dataset]
    is_text: bool = False
    filled: bool = False

    def take(self, name: str) -> list:
        self.names.remove(name)
        return self.values(name)

    def beside(self) -> datasets.Dataset | None:
        """The columns that were not taken, as they came."""
        if not self.names:
            return None
        try:
            return self.dataset(self.names)
        except ERRORS:
            raise ValueError(self._what_arrow_refuses()) from None

    def _what_arrow_refuses(self) -> str:
        for name in self.names:
            try:
                self.dataset([name])
            except ERRORS as error:
                return (
                    f"Column {name!r}, beside the pairs, {_cause(error, self.values(name))}, which "
                    f"a datasets.Dataset cannot hold. Leave it out with columns={{{name!r}: None}},"
                    " or make it all text."
                )
        return f"The columns beside the pairs ({listed(self.names)}) cannot stand in one Dataset."


ERRORS = (pyarrow.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError,
          RecursionError)  # fmt: skip


def _cause(error: Exception, values: list) -> str:
    if isinstance(error, OverflowError):
        for row, value in enumerate(values):
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                return f"holds a whole number beyond 64 bits (row {row}: {shorten(value, 30)})"
    if isinstance(error, UnicodeEncodeError):
        return f"holds text that is not valid Unicode (a lone surrogate: {error.object!r:.40})"
    if isinstance(error, RecursionError):
        return "is nested too deep"
    return f"mixes kinds of values ({str(error).splitlines()[0][:100]})"


def from_rows(rows: Sequence[Mapping[str, Any]], where: str = "Row") -> Table:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(
                f"{where} {number} is a {type(row).__name__} ({shorten(row)}); expected a dict "
                "with a value for each column."
            )
    names = list(dict.fromkeys(name for row in rows for name in row))
    if other := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"Columns have names that are text; came: {other[0]!r:.40}.")
    columns = {name: [row.get(name) for row in rows] for name in names}
    return from_columns(columns, len(rows))


def from_columns(columns: dict[str, list], rows: int) -> Table:
    def dataset(names: list[str]) -> datasets.Dataset:
        return datasets.Dataset.from_dict({name: columns[name] for name in names})

    return Table(list(columns), rows, columns.__getitem__, dataset)


def from_cells(cells: dict[str, list[str]], rows: int) -> Table:
    """Columns of text. The pair stays text: an answer that reads "NA", "null" or "7" is never
    taken for a number or a null. Columns beside it become numbers where every cell is one."""

    def dataset(names: list[str]) -> datasets.Dataset:
        return datasets.Dataset.from_dict({name: _typed(cells[name]) for name in names})

    return Table(list(cells), rows, cells.__getitem__, dataset, is_text=True)


def _typed(cells: list[str]) -> list:
    """Whole numbers, numbers or truth values where all cells are such; no cell is None."""
    column = pd.Series(cells, dtype=str)
    given = column[column != ""]
    whole = given.str.fullmatch(NUMBER)
    read: Callable[[str], Any]
    if (whole & (given.str.len() > 18)).any():  # beyond 64 bits: the digits of an id, say
        read = str
    elif whole.all():
        read = int
    elif given.str.fullmatch(NUMBER + r"(?:\.\d*)?(?:[eE][-+]?\d+)?").all():
        read = float
    elif given.isin(["True", "False"]).all():
        read = "True".__eq__
    else:
        read = str
    return [None if cell == "" else read(cell) for cell in cells]


def from_frame(frame: pd.DataFrame) -> Table:
    if frame.index.name == "id" and "id" not in frame.columns:  # nbkit's own tables
        frame = frame.reset_index()
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if not frame.columns.is_unique:
        raise ValueError(f"The DataFrame has a column twice: {listed(frame.columns)}.")

    def values(name: str) -> list:
        return [as_plain(value) for value in frame[name].tolist()]

    def dataset(names: list[str]) -> datasets.Dataset:
        return datasets.Dataset.from_pandas(frame[names].reset_index(drop=True))

    return Table(list(frame.columns), len(frame), values, dataset, filled=True)


def as_plain(value: Any) -> Any:
    """pandas reads the lists of a parquet file as arrays, at every depth."""
    if isinstance(value, np.ndarray):
        return [as_plain(item) for item in value.tolist()]
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    return value


def from_dataset(dataset: datasets.Dataset) -> Table:
    dataset = dataset.with_format(None)
    return Table(
        list(dataset.column_names), len(dataset), lambda name: dataset[name][:],
        dataset.select_columns, filled=True,
    )  # fmt: skip
