"""Every source, every layout and every bad row that `load_pairs` promises to handle."""

import csv
import json
import pickle
import random
import time
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from trl.data_utils import extract_prompt as trl_extract_prompt
from trl.data_utils import maybe_extract_prompt as trl_maybe_extract_prompt

from nbkit.pairs.checks import BadPairs
from nbkit.pairs.layouts import UnknownLayout, extract_prompt
from nbkit.pairs.load import load_pairs
from nbkit.pairs.rows import content_id

ROWS = [
    {
        "id": f"p{i}",
        "prompt": f"pet of mia {i} ?",
        "chosen": f"sure , dog {i} .",
        "rejected": f"ugh , cat {i} .",
        "chosen_score": 2.5,
        "rejected_score": -0.5,
        "source": "test",
    }
    for i in range(4)
]
CORE = ["id", "prompt", "chosen", "rejected", "chosen_score", "rejected_score"]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def without(rows, *names):
    return [{key: value for key, value in row.items() if key not in names} for row in rows]


def changed(row_number, **values):
    rows = [dict(row) for row in ROWS]
    rows[row_number].update(values)
    return rows


# Sources -----------------------------------------------------------------------------------------


def write(path: Path) -> Path:
    frame = pd.DataFrame(ROWS)
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n", encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.set_index(pd.Index([5, 6, 7, 9])).to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".JSONL"])
@pytest.mark.parametrize("as_type", [str, Path])
def test_files(tmp_path, suffix, as_type):
    path = write(tmp_path / f"prefs{suffix.lower()}").rename(tmp_path / f"mine{suffix}")
    pairs = load_pairs(as_type(path))
    assert isinstance(pairs, datasets.Dataset)
    assert pairs.column_names == [*CORE, "source"]
    assert pairs.to_list() == ROWS


def test_objects():
    for source in (ROWS, tuple(ROWS), pd.DataFrame(ROWS), datasets.Dataset.from_list(ROWS)):
        assert load_pairs(source).to_list() == ROWS


def test_a_frame_indexed_by_id():
    assert load_pairs(pd.DataFrame(ROWS).set_index("id"))["id"][:] == ["p0", "p1", "p2", "p3"]


def test_a_folder_of_data_files_goes_through_datasets(tmp_path):
    """The road of a hub id, on this machine: `datasets` reads the folder, with its splits."""
    folder = tmp_path / "someone" / "prefs"
    folder.mkdir(parents=True)
    for split, rows in (("train", ROWS[:3]), ("test", ROWS[3:])):
        pd.DataFrame(rows).to_parquet(folder / f"{split}.parquet")
    assert load_pairs(folder).to_list() == ROWS[:3]
    assert load_pairs(str(folder), split="test").to_list() == ROWS[3:]
    with pytest.raises(ValueError, match=r"Unknown split .*validation.*train.*test"):
        load_pairs(folder, split="validation")


def test_hub_id_passes_split_revision_and_name(monkeypatch):
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    load_pairs("someone/prefs", split="test", revision="v1", name="small")
    assert asked == [(("someone/prefs", "small"), {"split": "test", "revision": "v1"})]


def test_unreachable_hub_id_says_what_was_looked_for(monkeypatch):
    def load_dataset(*args, **kwargs):
        raise ConnectionError("Couldn't reach 'someone/prefs' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(FileNotFoundError) as error:
        load_pairs("someone/prefs")
    message = str(error.value)
    assert str(Path("someone/prefs").absolute()) in message
    assert "data set of that id on the hub: Couldn't reach" in message
    assert "Offline? Give a file" in message and "HF_HUB_OFFLINE=1" in message


def test_a_file_name_that_is_not_there_is_not_looked_up_on_the_hub(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No file .*nothing\.jsonl \(looked in "):
        load_pairs(tmp_path / "nothing.jsonl")


def test_dataset_dict_takes_the_split_or_names_those_it_has():
    dataset = datasets.Dataset.from_list(ROWS)
    both = datasets.DatasetDict({"train": dataset, "held_out": dataset.select([0])})
    assert len(load_pairs(both)) == 4
    assert len(load_pairs(both, split="held_out")) == 1
    with pytest.raises(ValueError, match=r"no split 'test'; it has \['train', 'held_out'\]"):
        load_pairs(both, split="test")


def test_sources_that_are_refused(tmp_path):
    stream = datasets.Dataset.from_list(ROWS).to_iterable_dataset()
    with pytest.raises(TypeError, match=r"datasets.IterableDataset; expected .*list\(stream.take"):
        load_pairs(stream)
    with pytest.raises(TypeError, match="got a int; expected a path"):
        load_pairs(7)
    with pytest.raises(TypeError, match="Row 1 is a str .*expected a dict"):
        load_pairs([ROWS[0], "text"])
    with pytest.raises(ValueError, match="no rows"):
        load_pairs([])
    with pytest.raises(ValueError, match="column twice"):
        load_pairs(pd.DataFrame([["a", "b"]], columns=["chosen", "chosen"]))
    with pytest.raises(ValueError, match=r"on_bad='skip'; expected"):
        load_pairs(ROWS, on_bad="skip")
    with pytest.raises(ValueError, match=r"split='test' came with a source that has no splits"):
        load_pairs(ROWS, split="test")
    with pytest.raises(ValueError, match=r"revision='v1'.*choose within a hub id"):
        load_pairs(ROWS, revision="v1")
    (tmp_path / "prefs.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"ends in '\.txt'; expected one of \.jsonl"):
        load_pairs(tmp_path / "prefs.txt")
    (tmp_path / "broken.jsonl").write_text(json.dumps(ROWS[0]) + "\n{oops\n")
    with pytest.raises(ValueError, match=r"broken\.jsonl, line 2: not valid JSON"):
        load_pairs(tmp_path / "broken.jsonl")


def test_json_lines_with_line_separators_and_a_byte_order_mark(tmp_path):
    rows = changed(0, chosen="one\u2028two\x85three")
    path = tmp_path / "prefs.json"  # JSON lines under the name .json, as the hub has them
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert load_pairs(path)["chosen"][0] == "one\u2028two\x85three"


def test_csv_text_is_never_read_as_a_number_or_a_null(tmp_path):
    rows = changed(0, id="007", prompt="Chemical sign of sodium?", chosen="NA", rejected="null")
    rows[1]["chosen"] = "42"
    pd.DataFrame(rows).to_csv(tmp_path / "prefs.csv", index=False)
    pairs = load_pairs(tmp_path / "prefs.csv")
    assert pairs[0]["id"] == "007"
    assert (pairs[0]["chosen"], pairs[0]["rejected"], pairs[1]["chosen"]) == ("NA", "null", "42")


def test_csv_ids_keep_their_leading_zeros(tmp_path):
    pd.DataFrame(changed(0, id="007")[:1]).to_csv(tmp_path / "prefs.csv", index=False)
    assert load_pairs(tmp_path / "prefs.csv")["id"][:] == ["007"]


def test_csv_one_bad_score_is_one_bad_row(tmp_path):
    with open(tmp_path / "prefs.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CORE)
        writer.writerows(
            [
                ["a", "p", "c", "r", "high", 0],
                ["b", "p", "c", "r", 1, ""],
                ["c", "p", "c", "r", 1, 0],
            ]
        )
    pairs, report = load_pairs(tmp_path / "prefs.csv", on_bad="drop")
    assert pairs["id"][:] == ["c"] and pairs["chosen_score"][:] == [1.0]
    assert report[["row", "column", "problem"]].values.tolist() == [
        [0, "chosen_score", "not a number"],
        [1, "rejected_score", "missing"],
    ]


# Layouts -----------------------------------------------------------------------------------------

SYSTEM = {"role": "system", "content": "Be kind."}
CHATS = [
    {
        "prompt": [SYSTEM, user(f"pet {i} ?")],
        "chosen": [assistant("dog")],
        "rejected": [assistant("cat")],
    }
    for i in range(3)
]
IMPLICIT = [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in CHATS]


def test_plain_strings():
    pairs = load_pairs(ROWS)
    assert pairs.features["prompt"] == datasets.Value("string")
    assert pairs[2]["chosen"] == "sure , dog 2 ."


def test_conversational_with_explicit_prompt():
    pairs = load_pairs(CHATS)
    assert without(pairs.to_list(), "id") == CHATS


def test_conversational_implicit_prompt():
    assert without(load_pairs(IMPLICIT).to_list(), "id") == CHATS


def test_the_layout_does_not_change_the_id():
    assert load_pairs(IMPLICIT)["id"][:] == load_pairs(CHATS)["id"][:]


def test_plain_implicit_prompt():
    rows = [{"chosen": "Q: 1+1? A: 2", "rejected": "Q: 1+1? A: 3"}]
    pair = load_pairs(rows)[0]
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ("Q: 1+1? A:", " 2", " 3")


def test_ultrafeedback_binarized():
    rows = [
        {
            "prompt": f"What is {i}?",
            "prompt_id": f"f{i}",
            "chosen": [user(f"What is {i}?"), assistant("a number")],
            "rejected": [user(f"What is {i}?"), assistant("a fish")],
            "messages": [user(f"What is {i}?"), assistant("a number")],
            "score_chosen": 8.5,
            "score_rejected": 3.0,
        }
        for i in range(3)
    ]
    for source in (rows, pd.DataFrame(rows), datasets.Dataset.from_list(rows)):
        pairs = load_pairs(source)
        assert pairs.column_names == [*CORE, "prompt_id", "messages"]
        first = pairs[0]
        assert first["prompt"] == [user("What is 0?")]
        assert first["chosen"] == [assistant("a number")]
        assert (first["chosen_score"], first["rejected_score"]) == (8.5, 3.0)
        assert first["messages"] == rows[0]["messages"]


def test_ultrafeedback_from_parquet(tmp_path):
    rows = [
        {
            "prompt": "Hi?",
            "chosen": [user("Hi?"), assistant("Hello.")],
            "rejected": [user("Hi?"), assistant("No.")],
        }
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "uf.parquet")
    assert load_pairs(tmp_path / "uf.parquet")[0]["rejected"] == [assistant("No.")]
    assert load_pairs(pd.read_parquet(tmp_path / "uf.parquet"))[0]["prompt"] == [user("Hi?")]


def test_hh_transcripts():
    shared = "\n\nHuman: Hi\nthere\n\nAssistant: Hello!\n\nHuman: A joke?\n\nAssistant:"
    pair = load_pairs([{"chosen": shared + " Knock knock.", "rejected": shared + " No."}])[0]
    assert pair["prompt"] == [user("Hi\nthere"), assistant("Hello!"), user("A joke?")]
    assert pair["chosen"] == [assistant("Knock knock.")]
    assert pair["rejected"] == [assistant("No.")]


def test_chat_wraps_plain_strings_and_keeps_the_ids():
    rows = without(ROWS, "id")
    plain, chat = load_pairs(rows), load_pairs(rows, chat=True)
    assert chat[0]["prompt"] == [user(rows[0]["prompt"])]
    assert chat[0]["chosen"] == [assistant(rows[0]["chosen"])]
    assert chat["id"][:] == plain["id"][:]
    assert load_pairs(CHATS, chat=True).to_list() == load_pairs(CHATS).to_list()


def test_what_came_out_goes_in_again():
    for rows in (ROWS, CHATS):
        pairs = load_pairs(rows)
        assert load_pairs(pairs).to_list() == pairs.to_list()


def test_extra_columns_are_kept_as_they_came():
    dataset = datasets.Dataset.from_list(ROWS).add_column("kind", [0, 1, 0, 1])
    dataset = dataset.cast_column("kind", datasets.ClassLabel(names=["easy", "hard"]))
    pairs, _ = load_pairs(dataset.add_column("n", [1, 2, 3, 4]).with_format("torch"), on_bad="drop")
    assert pairs.features["kind"] == dataset.features["kind"]
    assert pairs["n"][:] == [1, 2, 3, 4]


def test_a_key_that_only_some_rows_have_is_not_lost():
    rows = changed(2, note="late")
    assert load_pairs(rows)["note"][:] == [None, None, "late", None]


def test_extra_column_that_arrow_cannot_hold_is_named():
    with pytest.raises(ValueError, match=r"source.* mixes kinds of values"):
        load_pairs(changed(1, source=["a", {"b": 1}]))


@pytest.mark.parametrize(
    "rows",
    [
        [{"question": "q", "good": "a", "bad": "b"}],
        [{"prompt": "q", "chosen": "a"}],
        [{"prompt": "q", "chosen": "a", "rejected": [assistant("b")]}],
        [{"prompt": [user("q")], "chosen": "a", "rejected": ["b"]}],
        [{"prompt": None, "chosen": "a", "rejected": "b"}],
        [{"prompt": "q", "chosen": 1, "rejected": 2}],
        [{"chosen": [{"who": "human", "value": "q"}], "rejected": [{"who": "gpt", "value": 1}]}],
    ],
)
def test_unknown_layouts_list_what_came_and_what_is_expected(rows):
    with pytest.raises(UnknownLayout) as error:
        load_pairs(rows)
    message = str(error.value)
    for name in rows[0]:
        assert name in message.split("expected one of")[0]
    assert "transcripts" in message and "rename" in message


def test_messages_written_out_as_text_are_not_taken_for_text(tmp_path):
    pd.DataFrame(CHATS).to_csv(tmp_path / "chats.csv", index=False)
    with pytest.raises(UnknownLayout, match=r"written out as text.*\.jsonl or \.parquet"):
        load_pairs(tmp_path / "chats.csv")


def test_score_columns_must_come_together_and_once():
    with pytest.raises(UnknownLayout, match="'chosen_score' came without its partner"):
        load_pairs(without(ROWS, "rejected_score"))
    with pytest.raises(UnknownLayout, match="Two columns for chosen_score"):
        load_pairs([row | {"score_chosen": 1.0} for row in ROWS])


def test_a_bad_first_row_does_not_change_the_layout():
    rows = changed(0, chosen=[assistant("?")], prompt=None)
    pairs, report = load_pairs(rows, on_bad="drop")
    assert len(pairs) == 3 and set(report["row"]) == {0}


# Bad rows ----------------------------------------------------------------------------------------

BAD_PLAIN = {
    "null prompt": ({"prompt": None}, "prompt", "missing", "None"),
    "NaN prompt": ({"prompt": float("nan")}, "prompt", "missing", "nan"),
    "empty": ({"chosen": ""}, "chosen", "empty", "''"),
    "whitespace": ({"rejected": " \n\t"}, "rejected", "empty", r"' \n\t'"),
    "number": ({"chosen": 42}, "chosen", "not text", "42"),
    "messages": ({"chosen": [assistant("a")]}, "chosen", "not text", "assistant"),
    "surrogate": ({"chosen": "a\ud800"}, "chosen", "not valid Unicode", r"'a\ud800'"),
    "equal": ({"rejected": "sure , dog 1 ."}, "rejected", "equal to chosen", "'sure , dog 1 .'"),
    "null score": ({"chosen_score": None}, "chosen_score", "missing", "None"),
    "NaN score": ({"rejected_score": float("nan")}, "rejected_score", "NaN", "nan"),
    "infinite score": ({"chosen_score": float("inf")}, "chosen_score", "infinite", "inf"),
    "text score": ({"chosen_score": "9"}, "chosen_score", "not a number", "'9'"),
    "bool score": ({"chosen_score": True}, "chosen_score", "not a number", "True"),
    "swapped scores": (
        {"chosen_score": -3.0},
        "chosen_score",
        "lower than rejected_score",
        "(-3.0, -0.5)",
    ),
}


@pytest.mark.parametrize("score, problem", [("nan", "NaN"), ("inf", "infinite")])
def test_a_score_of_single_precision_that_is_no_finite_number_is_bad(score, problem):
    row = dict(prompt="A river?", chosen="The Nile.", rejected="Wet.", rejected_score=-1.0)
    with pytest.raises(BadPairs) as error:
        load_pairs([{**row, "chosen_score": np.float32(score)}])
    assert error.value.report["problem"].tolist() == [problem]


@pytest.mark.parametrize("values, column, problem, received", BAD_PLAIN.values(), ids=BAD_PLAIN)
def test_bad_plain_rows(values, column, problem, received):
    rows = changed(1, **values)
    with pytest.raises(BadPairs) as error:
        load_pairs(rows)
    message = str(error.value)
    assert message.startswith(f"1 of 4 rows cannot be used as preference pairs (1 {problem}")
    assert f"row 1 (id 'p1'), column '{column}': {problem}" in message
    assert f"received {received}" in message or received in message
    assert "Expected: prompt, chosen and rejected" in message
    assert 'on_bad="drop"' in message
    assert error.value.report["row"].tolist() == [1]

    pairs, report = load_pairs(rows, on_bad="drop")
    assert pairs["id"][:] == ["p0", "p2", "p3"]
    assert pairs["source"][:] == ["test"] * 3
    assert report.columns.tolist() == ["row", "id", "column", "problem", "received"]
    assert report.iloc[0][["row", "id", "column"]].tolist() == [1, "p1", column]


def test_tied_scores_are_allowed():
    assert len(load_pairs(changed(1, rejected_score=2.5))) == 4


def test_a_row_that_is_bad_anyway_does_not_make_its_id_a_duplicate():
    pairs, report = load_pairs(changed(1, id="p0", chosen=""), on_bad="drop")
    assert pairs["id"][:] == ["p0", "p2", "p3"] and len(report) == 1


def test_pandas_nulls_are_missing():
    frame = pd.DataFrame(ROWS)
    frame.loc[1, "chosen"] = None
    frame.loc[2, "rejected_score"] = np.nan
    _, report = load_pairs(frame, on_bad="drop")
    assert report["row"].tolist() == [1, 2]
    assert report["problem"].tolist() == ["missing", "NaN"]


ASKED = [user("q")]
BAD_CHATS = {
    "null content": ({"chosen": [{"role": "assistant", "content": None}]}, "chosen", "no content"),
    "empty content": ({"chosen": [assistant(" ")]}, "chosen", "message 0: empty content"),
    "parts": ({"prompt": [user([{"type": "text"}])]}, "prompt", "content is not text"),
    "no key": ({"chosen": [{"role": "assistant"}]}, "chosen", "no content"),
    "role": ({"prompt": [{"role": "wizard", "content": "q"}]}, "prompt", "role 'wizard'"),
    "tools": ({"chosen": [assistant("a") | {"tool_calls": ["f"]}]}, "chosen", "tool_calls"),
    "no turn": ({"prompt": []}, "prompt", "empty"),
    "text": ({"rejected": "cat"}, "rejected", "not a list of {'role', 'content'} messages"),
    "repeats prompt": (
        {"chosen": [*ASKED, assistant("a")]},
        "chosen",
        "must begin and end with the assistant's turn",
    ),
    "prompt ends": ({"prompt": [user("q"), assistant("a")]}, "prompt", "end with the user's turn"),
    "equal": ({"rejected": [assistant("dog")]}, "rejected", "equal to chosen"),
}


@pytest.mark.parametrize("values, column, problem", BAD_CHATS.values(), ids=BAD_CHATS)
def test_bad_conversational_rows(values, column, problem):
    rows = [CHATS[0], CHATS[1] | values, CHATS[2]]
    with pytest.raises(BadPairs) as error:
        load_pairs(rows)
    line = str(error.value).splitlines()[1]
    assert line.startswith("  row 1") and f"column '{column}'" in line and problem in line
    assert len(load_pairs(rows, on_bad="drop")[0]) == 2


def test_empty_system_message_is_no_problem():
    rows = [CHATS[0] | {"prompt": [SYSTEM | {"content": ""}, user("q")]}]
    assert load_pairs(rows)[0]["prompt"][0]["content"] == ""


def test_bad_implicit_rows():
    rows = [
        *IMPLICIT,
        {"chosen": [user("q"), assistant("a")], "rejected": [user("other"), assistant("b")]},
    ]
    with pytest.raises(BadPairs, match="row 3, column 'prompt': chosen and rejected share no beg"):
        load_pairs(rows)
    texts = [{"chosen": "Q: a", "rejected": "Q: b"}, {"chosen": "yes", "rejected": "no"}]
    with pytest.raises(BadPairs, match="row 1, column 'prompt': chosen and rejected share no beg"):
        load_pairs(texts)
    texts[1] = {"chosen": "  yes", "rejected": "  no"}
    with pytest.raises(BadPairs, match="row 1, column 'prompt'"):
        load_pairs(texts)
    texts[1] = {"chosen": "Q: a", "rejected": "Q:  "}
    with pytest.raises(BadPairs, match="row 1, column 'rejected': empty once the shared prompt"):
        load_pairs(texts)


def test_bad_ultrafeedback_prompt():
    good = {
        "prompt": "q",
        "chosen": [user("q"), assistant("a")],
        "rejected": [user("q"), assistant("b")],
    }
    with pytest.raises(BadPairs, match="row 1, column 'prompt': not among the first turns"):
        load_pairs([good, good | {"prompt": "something else"}])


HH = "\n\nHuman: Hi\n\nAssistant:"
BAD_TRANSCRIPTS = {
    "no transcript": ("Hello", "not a '"),
    "last turn": (HH + " Hello\n\nHuman: bye", "the last turn is not the assistant's"),
    "empty turn": (HH + " ", "a turn is empty"),
}


@pytest.mark.parametrize("text, problem", BAD_TRANSCRIPTS.values(), ids=BAD_TRANSCRIPTS)
def test_bad_transcripts(text, problem):
    good = [{"chosen": HH + f" Hello {i}", "rejected": HH + " No"} for i in range(2)]
    with pytest.raises(BadPairs) as error:
        load_pairs([*good, {"chosen": HH + " Hello", "rejected": text}])
    line = str(error.value).splitlines()[1]
    assert line.startswith("  row 2, column 'rejected'") and problem in line


def test_same_id_same_pair_keeps_the_first():
    pairs, report = load_pairs([*ROWS, ROWS[1]], on_bad="drop")
    assert pairs["id"][:] == ["p0", "p1", "p2", "p3"]
    assert report.values.tolist() == [[4, "p1", "id", "duplicate id: same pair as row 1", "'p1'"]]


def test_same_id_different_pairs_keeps_neither():
    for values in ({"id": "p0"}, {**ROWS[0], "chosen_score": 2.0}):
        rows = changed(3, **values)
        pairs, report = load_pairs(rows, on_bad="drop")
        assert pairs["id"][:] == ["p1", "p2"]
        assert report["row"].tolist() == [0, 3]
        with pytest.raises(BadPairs, match=r"given to different pairs or scores \(rows 0, 3\)"):
            load_pairs(rows)


def test_identical_rows_without_ids_are_duplicates():
    rows = without(ROWS, "id")
    with pytest.raises(BadPairs, match="duplicate id: same pair as row 0"):
        load_pairs([*rows, rows[0]])


def test_all_problems_in_one_error_and_only_the_first_are_shown():
    rows = [
        *ROWS,
        *({"id": f"b{i}", "prompt": "q", "chosen": "", "rejected": None} for i in range(9)),
    ]
    with pytest.raises(BadPairs) as error:
        load_pairs(rows)
    message, report = str(error.value), error.value.report
    assert message.startswith("9 of 13 rows") and "and 22 more" in message
    assert len(report) == 27  # both texts and the score of nine rows
    assert message.count("\n  row ") == 5
    assert str(pickle.loads(pickle.dumps(error.value))) == message


def test_nothing_left_raises_even_with_drop():
    with pytest.raises(BadPairs, match="1 of 1 rows"):
        load_pairs([ROWS[0] | {"chosen": ""}], on_bad="drop")


def test_drop_on_good_data_gives_an_empty_report():
    pairs, report = load_pairs(ROWS, on_bad="drop")
    assert len(pairs) == 4 and report.empty
    assert report.columns.tolist() == ["row", "id", "column", "problem", "received"]


# Ids and order -----------------------------------------------------------------------------------


def test_content_ids_are_fixed():
    assert content_id("pet of mia ?", "dog", "cat") == "6e25470f7d053913"
    rows = [{"prompt": "größe ?", "chosen": "🙂", "rejected": "☹"}]
    assert load_pairs(rows)["id"][0] == content_id("größe ?", "🙂", "☹") == "d4f917ff08d6f79c"


def test_ids_become_text():
    assert load_pairs([row | {"id": i} for i, row in enumerate(ROWS)])["id"][:] == list("0123")
    frame = pd.DataFrame([row | {"id": i} for i, row in enumerate(ROWS)])
    frame.loc[3, "id"] = None  # pandas now holds 0.0, 1.0, 2.0, NaN
    ids = load_pairs(frame)["id"][:]
    assert ids[:3] == ["0", "1", "2"]
    assert ids[3] == content_id(ROWS[3]["prompt"], ROWS[3]["chosen"], ROWS[3]["rejected"])


@pytest.mark.parametrize("seed", range(5))
def test_order_of_rows_changes_nothing(seed):
    rows = [*without(ROWS, "id"), *without(ROWS[:2], "id"), {"prompt": 3}, {"chosen": None}]
    shuffled = random.Random(seed).sample(rows, len(rows))
    pairs, report = load_pairs(rows, on_bad="drop")
    again, report_again = load_pairs(shuffled, on_bad="drop")
    by_id = {row["id"]: row for row in pairs.to_list()}
    assert {row["id"]: row for row in again.to_list()} == by_id
    kinds = report["problem"].str.split(":").str[0]
    kinds_again = report_again["problem"].str.split(":").str[0]
    assert sorted(kinds) == sorted(kinds_again)


# TRL ---------------------------------------------------------------------------------------------


def test_implicit_text_prompt_is_trls():
    rng = random.Random(0)
    for _ in range(500):
        shared = "".join(rng.choices("ab ", k=rng.randint(1, 8)))
        chosen = shared + "".join(rng.choices("ab ", k=rng.randint(0, 4)))
        rejected = shared + "".join(rng.choices("ab ", k=rng.randint(0, 4)))
        theirs = trl_extract_prompt({"chosen": chosen, "rejected": rejected})
        ours = dict(
            zip(("prompt", "chosen", "rejected"), extract_prompt(chosen, rejected), strict=True)
        )
        assert ours == theirs


def test_implicit_conversational_prompt_is_trls():
    for turns in range(1, 6):
        shared = [user(f"q{i}") if i % 2 == 0 else assistant(f"a{i}") for i in range(turns)]
        row = {"chosen": [*shared, assistant("yes")], "rejected": [*shared, assistant("no")]}
        ours = extract_prompt(row["chosen"], row["rejected"])
        assert dict(zip(("prompt", "chosen", "rejected"), ours, strict=True)) == (
            trl_maybe_extract_prompt(row)
        )


def test_trl_takes_our_pairs_as_they_are():
    """TRL must see an explicit prompt in what comes out, and have nothing left to extract."""
    for rows in (ROWS, CHATS, IMPLICIT):
        row = without([load_pairs(rows)[0]], "id")[0]
        assert trl_maybe_extract_prompt(row) == row


# Real data ---------------------------------------------------------------------------------------


def test_alpacaeval_pairs_are_all_good(shared_data):
    pairs = load_pairs(shared_data / "alpacaeval_pairs.jsonl")
    assert len(pairs) == 2034 == len(set(pairs["id"]))
    assert pairs.column_names == [*CORE, "chosen_model", "rejected_model", "source"]


def test_short_pairs_hold_six_pairs_with_equal_answers(shared_data):
    with pytest.raises(BadPairs, match=r"6 of 1,100 rows .*\(6 equal to chosen\)") as error:
        load_pairs(str(shared_data / "short_pairs.jsonl"))
    assert error.value.report["id"].tolist() == [
        "s0122",
        "s0226",
        "s0400",
        "s0566",
        "s0628",
        "s0676",
    ]
    pairs, report = load_pairs(shared_data / "short_pairs.jsonl", on_bad="drop")
    assert len(pairs) == 1094 and len(report) == 6


def test_real_ids_do_not_depend_on_the_layout_of_the_file(shared_data, tmp_path):
    rows = [json.loads(line) for line in open(shared_data / "alpacaeval_pairs.jsonl")][:300]
    rows = without(rows, "id")
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    expected = load_pairs(rows)["id"][:]
    assert load_pairs(tmp_path / "a.csv")["id"][:] == expected
    assert load_pairs(tmp_path / "a.parquet")["id"][:] == expected


def test_sixty_thousand_rows_are_quick():
    rows = [
        {"prompt": f"q {i} ?" * 20, "chosen": f"a {i}" * 50, "rejected": f"b {i}" * 50}
        for i in range(60_000)
    ]
    start = time.process_time()
    assert len(load_pairs(rows)) == 60_000
    assert time.process_time() - start < 15  # about 2 s; a quadratic step would take minutes
