"""CSV text into columns of text cells. A line whose fields do not fit the header is refused: which
of its texts belongs to which column is then a guess."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from nbkit.pairs.values import listed, shorten

SEPARATORS = ",;\t|"
LONGEST = 2**31 - 1  # characters in a cell; the csv module stops at 131,072 of its own accord


def read(path: Path, text: str) -> dict[str, list[str]]:
    """The cells by column, as text."""
    if not text.strip():
        raise ValueError(f"{path} is empty; expected a line of column names, then rows.")
    header = text.lstrip("\r\n").splitlines()[0]
    separator = max(SEPARATORS, key=header.count)
    lines = _lines(path, text, separator, padded=separator + " " in header)
    _, header = next(lines)
    header = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(header)]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}: column {twice[0]!r} occurs twice. Rename or drop one of them.")
    rows = []
    for line, row in lines:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {line}: {len(row)} fields, but the header names {len(header)} "
                f"({listed(header)}). The line begins {shorten(separator.join(row))}. Text that "
                f"holds a {separator!r} or a line break stands in double quotes, as pandas' to_csv "
                "writes it."
            )
        rows.append(row)
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _lines(path: Path, text: str, separator: str, padded: bool) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, fields) of each row, the header first; blank lines left out.
    `padded`: a space after a separator is no part of the text."""
    limit = csv.field_size_limit(LONGEST)
    try:
        rows = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=padded, strict=True
        )
        line = 1
        for row in rows:
            if row:
                yield line, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {line}: not valid CSV ({error}). A text in double quotes ends with one, "
            'and a quote within it is doubled ("").'
        ) from None
    finally:
        csv.field_size_limit(limit)
