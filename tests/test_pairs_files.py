"""Files as people have them: load_pairs reads them right, or names file, line and cause."""

import csv
import gzip
import json

import datasets
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from nbkit.pairs.checks import BadPairs
from nbkit.pairs.load import load_pairs

ROWS = [
    {"prompt": "Name a river.", "chosen": "The Nile, é.", "rejected": "Wet."},
    {"prompt": "Name a lake.", "chosen": "Como, ü.", "rejected": "Blue."},
]
TEXTS = ["prompt", "chosen", "rejected"]


def texts(pairs):
    return [{name: row[name] for name in TEXTS} for row in pairs.to_list()]


def lines(rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def refused(path, *expected, error=ValueError, **arguments):
    """load_pairs refuses the file in few words, among them its name and `expected`."""
    with pytest.raises(error) as raised:
        load_pairs(path, **arguments)
    message = str(raised.value)
    for part in (path.name, *expected):
        assert part in message, message
    assert len(message) < 700
    return message


# CSV ---------------------------------------------------------------------------------------------


def as_csv(separator=",", padding="", header="prompt,chosen,rejected"):
    cells = [['"' + row[name] + '"' for name in TEXTS] for row in ROWS]
    rows = [header.split(","), *cells]
    return "\n".join((separator + padding).join(row) for row in rows) + "\n"


CSVS = {
    "plain": as_csv().encode(),
    "semicolons": as_csv(";").encode(),
    "tabs": as_csv("\t").encode(),
    "spaces after the separators": as_csv(",", " ").encode(),
    "capitals": as_csv(header="Prompt, CHOSEN,Rejected ").encode(),
    "byte order mark": as_csv().encode("utf-8-sig"),
    "UTF-16": as_csv().encode("utf-16"),
    "carriage returns": as_csv().replace("\n", "\r\n").encode(),
    "blank lines": as_csv().replace("\n", "\n\n").encode(),
    "gzip": gzip.compress(as_csv().encode()),
}


@pytest.mark.parametrize("content", CSVS.values(), ids=CSVS)
def test_csv_dialects_are_read(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    assert texts(load_pairs(tmp_path / "a.csv")) == ROWS


@pytest.mark.parametrize(
    "text, line, fields",
    [
        ("prompt,chosen,rejected\nq,The Nile, in Egypt.,Wet.\n", 2, 4),
        ("prompt,chosen,rejected\nq,a,b\nq,The Nile, in Egypt.,Wet.\n", 3, 4),
        ("prompt,chosen,rejected\n\"q\nq\",a,b\nq,a\n", 4, 2),
        ("prompt,chosen,rejected\nq,a,b,\nq,c,d,\n", 2, 4),
        ("prompt,chosen,rejected,note\nq, quick,The Nile, in Egypt.,Wet.,ok\n", 2, 6),
        ("prompt;chosen;rejected\nq;The Nile; in Egypt.;Wet.\n", 2, 4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("on_bad", ["raise", "drop"])
def test_csv_rows_are_never_shifted(tmp_path, text, line, fields, on_bad):
    (tmp_path / "a.csv").write_text(text)
    refused(tmp_path / "a.csv", f"line {line}: {fields} fields", "header names", on_bad=on_bad)


def test_csv_errors_name_file_and_cause(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(as_csv().encode("cp1252"))
    refused(path, "line 2: not UTF-8 text (byte 0xe9)", 'encoding="cp1252"')
    path.write_text("prompt,chosen,chosen,rejected\nq,a,b,c\n")
    refused(path, "column 'chosen' occurs twice")
    for nothing in ("", "\n\n", "\ufeff"):
        path.write_text(nothing, encoding="utf-8")
        refused(path, "is empty")
    path.write_text('prompt,chosen,rejected\nq,a,"b\nq,a,b\n')
    refused(path, "line 2: not valid CSV", "double quotes")
    path.write_text("prompt,chosen,rejected\n")
    with pytest.raises(ValueError, match="no rows"):
        load_pairs(path)


def test_the_remedy_for_another_encoding_works(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(as_csv().encode("cp1252"))
    refused(path, 'load_pairs(pd.read_csv(path, keep_default_na=False, encoding="cp1252"))')
    pairs = load_pairs(pd.read_csv(path, keep_default_na=False, encoding="cp1252"))
    assert texts(pairs) == ROWS


def test_csv_cells_may_be_long_and_hold_line_breaks(tmp_path):
    rows = [{"prompt": "a\r\nb", "chosen": "x" * 300_000, "rejected": 'say "no",\nplease'}]
    limit = csv.field_size_limit()
    with open(tmp_path / "a.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, TEXTS)
        writer.writeheader()
        writer.writerows(rows)
    assert texts(load_pairs(tmp_path / "a.csv")) == rows
    assert csv.field_size_limit() == limit


def test_csv_columns_beside_the_pairs_have_their_kinds(tmp_path):
    (tmp_path / "a.csv").write_text(
        ",prompt,chosen,rejected,count,share,good,code,big,empty\n"
        "0,q,a,b,1,1.5,True,007,99999999999999999999,\n1,q,c,d,,2,,x,5,\n"
    )
    beside = load_pairs(tmp_path / "a.csv").remove_columns(["id", *TEXTS]).to_list()
    big = "99999999999999999999"
    assert beside == [
        {"Unnamed: 0": 0, "count": 1, "share": 1.5, "good": True, "code": "007", "big": big,
         "empty": None},
        {"Unnamed: 0": 1, "count": None, "share": 2.0, "good": None, "code": "x", "big": "5",
         "empty": None},
    ]  # fmt: skip


def test_csv_scores_with_commas_are_bad_rows_that_say_so(tmp_path):
    (tmp_path / "a.csv").write_text(
        'prompt,chosen,rejected,chosen_score,rejected_score\nq,a,b,"4,5",2\nq,c,d,3,2\n'
    )
    pairs, report = load_pairs(tmp_path / "a.csv", on_bad="drop")
    assert pairs["chosen_score"][:] == [3.0]
    assert report["problem"].tolist() == ["not a number: a comma is not read"]


# JSON --------------------------------------------------------------------------------------------

JSONS = {
    "array": json.dumps(ROWS).encode(),
    "lines": lines(ROWS).encode(),
    "CRLF and blank lines": lines(ROWS).replace("\n", "\r\n\r\n").encode(),
    "CR": lines(ROWS).replace("\n", "\r").encode(),
    "UTF-16": lines(ROWS).encode("utf-16"),
    "gzip": gzip.compress(lines(ROWS).encode()),
}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz", "a.json.GZ"])
@pytest.mark.parametrize("content", JSONS.values(), ids=JSONS)
def test_json_is_read_whatever_its_name_and_packing(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    assert texts(load_pairs(tmp_path / name)) == ROWS


def test_one_object_over_several_lines_is_one_pair(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(ROWS[0], indent=1))
    assert texts(load_pairs(tmp_path / "a.json")) == ROWS[:1]


GOOD = json.dumps(ROWS[0])
BROKEN = {
    "cut line": (GOOD + '\n{"prompt": "q", "ch', "line 2: not valid JSON (Unterminated string"),
    "cut array": ('[{"prompt": "q",\n "chosen": "a', "line 2: not valid JSON"),
    "trailing comma": (f"[{GOOD},]", "line 1: not valid JSON"),
    "commas after lines": (GOOD + ",\n" + GOOD, "line 1: not valid JSON (Extra data"),
    "lines of arrays": (f"[{GOOD}]\n[{GOOD}]", "line 2: not valid JSON (Extra data"),
    "an array among lines": (GOOD + "\n[1]", "line 2: an array"),
    "null among lines": (GOOD + "\nnull", "line 2: null"),
    "a number in the array": (f"[{GOOD}, 7]", "row 1 (from 0) of its array is a number"),
    "a key twice": (GOOD[:-1] + ', "chosen": "x"}', "line 1", "key 'chosen' occurs twice"),
    "a key twice in an array": (f"[{GOOD[:-1]}, \"chosen\": \"x\"}}]", "'chosen' occurs twice"),
    "deep array": ("[" * 100_000, "nested too deep"),
    "deep line": (GOOD + "\n" + '{"x": ' + "[" * 100_000, "line 2", "nested too deep"),
    "endless number": ('{"x": ' + "9" * 5000 + "}", "line 1: not valid JSON"),
    "zero bytes": ("{\0}", "zero bytes"),
    "empty": ("\n \n", "is empty"),
    "wrapped": ('{"data": [' + GOOD + "]}", "'data' holds the rows", "json.load"),
    "columns": ('{"prompt": ["q"], "chosen": ["a"], "rejected": ["b"]}', "pd.read_json(path)"),
    "pandas": ('{"prompt": {"0": "q"}, "chosen": {"0": "a"}}', "pd.read_json(path)"),
}  # fmt: skip


@pytest.mark.parametrize("text, expected", [(t, e) for t, *e in BROKEN.values()], ids=BROKEN)
def test_broken_json_is_named_by_file_line_and_cause(tmp_path, text, expected):
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    refused(path, *expected)


def test_the_remedy_for_columns_works(tmp_path):
    path = tmp_path / "a.json"
    pd.DataFrame(ROWS).to_json(path)
    refused(path, "load_pairs(pd.read_json(path))")
    assert texts(load_pairs(pd.read_json(path))) == ROWS


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD.encode() + b'\n{"prompt": "\xff"}')
    refused(path, "line 2: not UTF-8 text (byte 0xff)")
    path.write_bytes(lines(ROWS).encode("utf-16-le"))
    refused(path, "zero bytes", "Save it as UTF-8")
    path.write_bytes(b"\xff\xfe{\0}")
    refused(path, "not UTF-16 text")
    path.write_bytes(gzip.compress(lines(ROWS * 50).encode())[:40])
    refused(path, "damaged or cut gzip file")
    pd.DataFrame(ROWS).to_parquet(path)
    refused(path, "is a Parquet file")
    path.write_bytes(b"PK\x03\x04.....")
    refused(path, "zip archive")


# Parquet -----------------------------------------------------------------------------------------


def test_parquet_faults_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"hello")
    refused(path, "cannot be read as Parquet")
    column = pyarrow.array(["a"])
    table = pyarrow.table([column] * 4, names=["prompt", "chosen", "chosen", "rejected"])
    pyarrow.parquet.write_table(table, path)
    refused(path, "column 'chosen' occurs twice")
    pd.DataFrame(ROWS).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    refused(path, "cannot be read as Parquet")
    gz = tmp_path / "b.parquet.gz"
    gz.write_bytes(b"x")
    refused(gz, "unpack it")


# Folders -----------------------------------------------------------------------------------------


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        content = lines(rows).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".jsonl.gz"])
def test_a_folder_is_all_its_files_in_the_order_of_their_names(tmp_path, suffix):
    write(tmp_path / f"b{suffix}", ROWS[1:])
    write(tmp_path / f"a{suffix}", ROWS[:1])
    (tmp_path / "README.md").write_text("about")
    write(tmp_path / ".cache" / "old.jsonl", ROWS)
    assert texts(load_pairs(tmp_path)) == ROWS


def test_a_csv_in_a_folder_is_the_same_csv(tmp_path):
    rows = [{"prompt": f"q{i}", "chosen": "NA", "rejected": "null", "n": i} for i in range(3)]
    rows[1]["chosen"], rows[2]["rejected"] = "42", "nan"
    write(tmp_path / "a.csv", rows)
    alone, in_folder = load_pairs(tmp_path / "a.csv"), load_pairs(tmp_path)
    assert alone.to_list() == in_folder.to_list()
    assert texts(alone) == [{name: row[name] for name in TEXTS} for row in rows]


def test_splits_of_a_folder(tmp_path):
    write(tmp_path / "data" / "train-00000-of-00001.jsonl", ROWS[:1])
    write(tmp_path / "data" / "val.jsonl", ROWS[1:])
    assert texts(load_pairs(tmp_path)) == ROWS[:1]
    assert texts(load_pairs(tmp_path, split="validation")) == ROWS[1:]
    refused(tmp_path, "Unknown split 'test'", "train, validation", split="test")
    write(tmp_path / "more.jsonl", ROWS)
    refused(tmp_path, "more.jsonl", "val.jsonl", "Give one file")


def test_words_of_splits_are_whole_words(tmp_path):
    write(tmp_path / "latest.jsonl", ROWS[:1])
    write(tmp_path / "validated.jsonl", ROWS[1:])
    assert texts(load_pairs(tmp_path)) == ROWS


def test_folders_that_are_refused(tmp_path):
    kinds = tmp_path / "kinds"
    write(kinds / "a.jsonl", ROWS)
    write(kinds / "b.csv", ROWS)
    refused(kinds, "several kinds", "a.jsonl, b.csv")
    for suffix in (".jsonl", ".csv", ".parquet"):
        folder = tmp_path / f"columns{suffix}"
        write(folder / f"a{suffix}", ROWS)
        write(folder / f"b{suffix}", [row | {"note": "x"} for row in ROWS])
        refused(folder, f"a{suffix}", f"b{suffix}", "different columns", "note")
    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", "holds no data files", error=FileNotFoundError)
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    refused(tmp_path / "saved", "load_from_disk", error=FileNotFoundError)
    with pytest.raises(ValueError, match="choose within a hub id"):
        load_pairs(kinds, revision="main")


def test_names_of_file_kinds_are_no_data_sets():
    for name in ("json", "csv", "parquet"):
        with pytest.raises(ValueError, match=f"'{name}' names a kind of file"):
            load_pairs(name)


# Values ------------------------------------------------------------------------------------------


def test_scores_beyond_every_float_are_infinite():
    rows = [ROWS[0] | {"chosen_score": 10**400, "rejected_score": 1}, ROWS[1]]
    rows[1] = rows[1] | {"chosen_score": 2, "rejected_score": -(10**400)}
    with pytest.raises(BadPairs) as error:
        load_pairs(rows)
    assert error.value.report["problem"].tolist() == ["infinite", "infinite"]
    assert len(str(error.value)) < 1000


def test_a_lone_surrogate_in_an_id_is_a_bad_row():
    rows = [row | {"id": f"p{i}"} for i, row in enumerate(ROWS)]
    rows[0]["id"] = "p\ud800"
    pairs, report = load_pairs(rows, on_bad="drop")
    assert pairs["id"][:] == ["p1"]
    assert report[["row", "id", "column"]].values.tolist() == [[0, "p\\ud800", "id"]]


@pytest.mark.parametrize(
    "value, cause",
    [
        (2**70, "holds a whole number beyond 64 bits (row 1: 1180591620717411303424)"),
        ("a\ud800", "not valid Unicode"),
        ({"b": [1, "x"]}, "mixes kinds of values"),
    ],
)
def test_a_column_that_arrow_cannot_hold_is_named_with_its_cause(value, cause):
    rows = [row | {"fine": 1, "note": None} for row in ROWS]
    rows[1]["note"] = value
    with pytest.raises(ValueError) as error:
        load_pairs(rows)
    assert "Column 'note'" in str(error.value) and cause in str(error.value)
    assert load_pairs(rows, columns={"note": None})["fine"][:] == [1, 1]


def test_messages_stay_short_whatever_the_data():
    long = "x" * 100_000
    bad = [ROWS[0] | {"id": long, "chosen": ""}] * 50
    chat = {"prompt": [{"role": long, "content": long}], "chosen": [{"role": long, "content": "a"}],
            "rejected": [{"role": "assistant", "content": "b"}]}  # fmt: skip
    for rows in (bad, [chat], [{long: 1}], [{f"{long}{i}": 1 for i in range(500)}]):
        with pytest.raises(ValueError) as error:
            load_pairs(rows)
        assert len(str(error.value)) < 2500
    with pytest.raises(TypeError) as error:
        load_pairs([long])
    assert len(str(error.value)) < 500
