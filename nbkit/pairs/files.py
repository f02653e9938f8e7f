"""A file, or a folder of files, as one table. What cannot be read is named by file and line."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet

from nbkit.pairs import csv_files, json_files, tables
from nbkit.pairs.values import listed

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
OTHERS = {  # what a file begins with -> what it is
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"PAR1": "a Parquet file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
}
NOT_PAIRS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test",
          "validation": "validation", "valid": "validation", "val": "validation",
          "dev": "validation", "eval": "test", "evaluation": "test"}  # fmt: skip


def kind_of(path: Path) -> str:
    """The suffix that says what is in a file; `.gz` after it is passed over."""
    stem = path.name[:-3] if path.suffix.lower() == ".gz" else path.name
    return Path(stem).suffix.lower()


def from_file(path: Path) -> tables.Table:
    if not path.exists():
        raise FileNotFoundError(f"No file {path} (looked in {path.absolute().parent}).")
    return _one_table([path])


def from_folder(folder: Path, split: str) -> tables.Table:
    """All data files of a folder that belong to `split`, in the order of their names. A file
    belongs to the split that its name, or a folder above it, says; where no name says one, all
    files are one data set."""
    files = _data_files(folder)
    of_split = {path: _split_of(path.relative_to(folder)) for path in files}
    known = {found for found in of_split.values() if found}
    plain = [path for path, found in of_split.items() if not found]
    if known and plain:
        raise ValueError(
            f"In {folder}, some files say their split "
            f"({listed(_names(folder, set(files) - set(plain)))}) and others do not "
            f"({listed(_names(folder, plain))}), so which belong together cannot be known. Give "
            "one file, or name them alike."
        )
    if split not in (known or {"train"}):
        has = sorted(known or {"train"}, key=list(SPLITS).index)
        raise ValueError(
            f"Unknown split {split!r} of {folder}; its files ({listed(_names(folder, files))}) "
            f"make {listed(has)}. Say split={has[0]!r}."
        )
    return _one_table([path for path in files if of_split[path] == split] if known else files)


def _data_files(folder: Path) -> list[Path]:
    found = sorted(
        path for path in folder.rglob("*")
        if path.is_file() and kind_of(path) in SUFFIXES and path.name not in NOT_PAIRS
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    )  # fmt: skip
    if not found:
        saved = any((folder / name).exists() for name in NOT_PAIRS)
        remedy = "Give the folder of the data files, or one file."
        if saved:
            remedy = f"It was made by save_to_disk: load_pairs(load_from_disk({str(folder)!r}))."
        raise FileNotFoundError(
            f"The folder {folder} holds no data files ({', '.join(SUFFIXES)}). {remedy}"
        )
    kinds = {".jsonl" if kind_of(path) == ".json" else kind_of(path) for path in found}
    if len(kinds) > 1:
        raise ValueError(
            f"The folder {folder} holds files of several kinds ({listed(_names(folder, found))}), "
            "which may be the same pairs twice, or parts of one data set. Give one file, or leave "
            "files of one kind in the folder."
        )
    return found


def _split_of(path: Path) -> str | None:
    for part in reversed(path.parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLITS:
                return SPLITS[word]
    return None


def _names(folder: Path, paths: Iterable[Path]) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in paths)


def _one_table(paths: list[Path]) -> tables.Table:
    """Files of one kind and with the same columns, one below the other."""
    kind = kind_of(paths[0])
    if kind not in SUFFIXES:
        raise ValueError(
            f"{paths[0]} ends in {paths[0].suffix!r}; expected one of {', '.join(SUFFIXES)}, with "
            "or without .gz. Read it with pandas and pass the DataFrame."
        )
    if kind == ".parquet":
        sets = [_parquet(path) for path in paths]
        _require_same_columns(paths, [part.column_names for part in sets])
        try:
            return tables.from_dataset(datasets.concatenate_datasets(sets))
        except (ValueError, pyarrow.ArrowException) as error:
            raise ValueError(
                f"{listed(paths)} hold values of different kinds in one column ({error!s:.200})."
            ) from None
    if kind == ".csv":
        parts = [csv_files.read(path, text_of(path)) for path in paths]
        _require_same_columns(paths, parts)
        cells = {name: [cell for part in parts for cell in part[name]] for name in parts[0]}
        return tables.from_cells(cells, len(next(iter(cells.values()))))
    parts = [json_files.read(path, text_of(path)) for path in paths]
    if len(paths) > 1:
        _require_same_columns(paths, [{name for row in part for name in row} for part in parts])
    return tables.from_rows([row for part in parts for row in part])


def _require_same_columns(paths: list[Path], columns: list) -> None:
    first = set(columns[0])
    for path, names in zip(paths, columns, strict=True):
        if different := first ^ set(names):
            raise ValueError(
                f"{paths[0]} and {path} have different columns; only one of them has "
                f"{listed(sorted(different))}. Give one file, or bring them to the same columns."
            )


def _parquet(path: Path) -> datasets.Dataset:
    try:
        if kind_of(path) != path.suffix.lower():
            raise ValueError("it is compressed as a whole; unpack it first")
        names = pyarrow.parquet.read_schema(path).names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"column {twice[0]!r} occurs twice; rename or drop one of them")
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error!s:.200}.") from None
    index = [name for name in table.column_names if name.startswith("__index_level_")]
    return datasets.Dataset(table.drop_columns(index))  # pandas' row labels


# Bytes to text -----------------------------------------------------------------------------------


def text_of(path: Path) -> str:
    """The text of a file: unpacked if it is gzip (whatever its name), UTF-8, or UTF-16 with a byte
    order mark."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"{path} is a damaged or cut gzip file ({error}). Fetch it again."
            ) from None
    for beginning, kind in OTHERS.items():
        if content.startswith(beginning):
            raise ValueError(
                f"{path} is named {kind_of(path)}, but is {kind}. Unpack it or give it its right "
                "name, or read it with pandas and pass the DataFrame."
            )
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _decoded(path, content, "utf-16")
    if b"\0" in content[:100]:
        raise ValueError(
            f"{path} is not UTF-8 text (it holds zero bytes; UTF-16 without a byte order mark?). "
            "Save it as UTF-8."
        )
    return _decoded(path, content, "utf-8-sig")


def _decoded(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(re.split(rb"\r\n|\r|\n", content[: error.start]))
        read = {
            ".csv": "read_csv(path, keep_default_na=False",
            ".json": "read_json(path",
            ".jsonl": "read_json(path, lines=True",
        }[kind_of(path)]
        raise ValueError(
            f"{path}, line {line}: not {encoding.upper().removesuffix('-SIG')} text (byte "
            f"0x{content[error.start]:02x}). Save it as UTF-8. If it comes from Excel or Windows: "
            f'load_pairs(pd.{read}, encoding="cp1252")).'
        ) from None
