"""The doors: what each of them lets in, in which form it comes out, and what is refused how."""

import copy
import json
import pickle
import time
import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import tiny
from datasets import Dataset, DatasetDict, concatenate_datasets

import nbkit as nb
from nbkit import inputs
from nbkit.inputs import as_count, as_ids, as_number, as_pairs, as_policy, as_prompts
from nbkit.left_out import LeftOut

ROWS = [
    {"id": f"p{n}", "prompt": f"what is {n} ?", "chosen": f"it is {n}", "rejected": "no"}
    for n in range(4)
]
PAIRS = Dataset.from_list(ROWS)
ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def policy():
    return tiny.policy()


# Policies ----------------------------------------------------------------------------------------


def test_a_policy_is_one_or_a_model_with_its_tokenizer(policy):
    assert as_policy(policy) is policy
    made = as_policy((policy.model, policy.tokenizer))
    assert isinstance(made, nb.Policy) and made.model is policy.model


def test_what_is_no_policy_is_refused_with_the_call_that_makes_one(policy):
    for wrong, remedy in (
        (policy.model, r"nb.Policy\(model, tokenizer\)"),
        ("world/small", r"nb.load_policy\('world/small'\)"),
        (None, "got None"),
        ((policy.tokenizer, policy.model), "got a tuple"),
        (policy.tokenizer, "nb.load_policy"),
        (0.5, "got a float"),
    ):
        with pytest.raises(TypeError, match=f"^reference: expected a policy, .*{remedy}") as error:
            as_policy(wrong, "reference")
        assert len(str(error.value)) < 300


# Pairs -------------------------------------------------------------------------------------------


def test_a_dataset_that_is_ready_is_passed_on_as_it_is():
    assert as_pairs(PAIRS) is PAIRS
    chat = PAIRS.map(
        lambda row: {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            **{
                side: [{"role": "assistant", "content": row[side]}]
                for side in ("chosen", "rejected")
            },
        }
    )
    assert as_pairs(chat) is chat
    more = PAIRS.add_column("rung", [1, 2, 3, 4])
    assert as_pairs(more) is more


@pytest.mark.parametrize("form", ["frame", "rows", "path", "splits", "no ids"])
def test_pairs_in_other_forms_go_through_load_pairs(form, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS), "utf-8")
    came = {
        "frame": pd.DataFrame(ROWS),
        "rows": ROWS,
        "path": path,
        "splits": DatasetDict({"train": PAIRS}),
        "no ids": PAIRS.remove_columns("id"),
    }[form]
    pairs = as_pairs(came)
    assert isinstance(pairs, Dataset) and pairs["chosen"][:] == PAIRS["chosen"][:]
    assert all(isinstance(id_, str) for id_ in pairs["id"]) and len(set(pairs["id"])) == 4
    if form != "no ids":
        assert pairs["id"][:] == PAIRS["id"][:]


@pytest.mark.parametrize("wrong", [None, 0.5, 3, True, {"prompt": ["?"]}])
def test_what_pairs_cannot_come_from_is_refused(wrong):
    with pytest.raises(TypeError, match="^validation: expected preference pairs, got .*load_pairs"):
        as_pairs(wrong, "validation")


def test_pairs_with_their_report_are_one_too_many():
    both = nb.load_pairs(PAIRS, on_bad="drop")
    with pytest.raises(TypeError, match="got .pairs, report., .*Take the first of the two"):
        as_pairs(both)
    assert len(as_pairs(both[0])) == 4


@pytest.mark.parametrize("empty", [PAIRS.select([]), pd.DataFrame(ROWS[:0]), []], ids=type)
def test_no_pairs_are_refused(empty):
    with pytest.raises(ValueError, match="There are no pairs to work on: got a data set of 0 rows"):
        as_pairs(empty)


def test_an_id_twice_is_refused():
    twice = concatenate_datasets([PAIRS, PAIRS.select([1, 2])])
    with pytest.raises(ValueError, match="2 ids occur more than once .'p1', 'p2'."):
        as_pairs(twice)


def test_a_dataset_with_a_hole_is_not_passed_on():
    hole = Dataset.from_list([*ROWS, ROWS[0] | {"id": "hole", "prompt": None}])
    with pytest.raises(ValueError, match="hole"):
        as_pairs(hole)


# Ids ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, tuple, np.array, pd.Index, pd.Series, iter])
def test_ids_in_any_list_keep_their_order(form):
    assert as_ids(form(["p2", "p0"]), PAIRS["id"]) == ["p2", "p0"]
    assert as_ids(form(["z", "a"]), None) == ["z", "a"]  # any


@pytest.mark.parametrize(
    "wrong", ["p0", b"p0", 0.5, 3, True, None, {"p0": 1}, pd.DataFrame({"p0": [1]})], ids=type
)
def test_what_is_no_list_of_ids_is_refused(wrong):
    with pytest.raises(TypeError, match="(?s)^keep=.*expected a list of pair ids, such as `nb.se"):
        as_ids(wrong, PAIRS["id"])


def test_a_share_is_sent_to_select():
    with pytest.raises(TypeError, match="A share or a number of pairs goes to `nb.select`"):
        as_ids(0.5, PAIRS["id"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "keep is empty: .*None stands for all"),
        ([0, 1], "keep: ids are text, got 0, 1. Take them from `pairs"),
        (["p0", None], "ids are text, got None"),
        (["p0", ["p1"]], "ids are text, got "),
        (["p0", "z1", "z2"], "2 of the 3 ids to keep are not in the pairs .first: 'z1'"),
        (["p0", "p1", "p0"], "`keep` names 'p0' more than once"),
    ],
)
def test_ids_that_cannot_be_meant_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        as_ids(wrong, PAIRS["id"])
    if "not in the pairs" not in message:
        with pytest.raises(ValueError, match=message.replace(": .*None stands for all", ": there")):
            as_ids(wrong, None)


def test_messages_stay_short_whatever_came():
    calls = [
        lambda: as_ids([f"unknown-{n}" for n in range(5000)], PAIRS["id"]),
        lambda: as_ids(list(range(5000)), PAIRS["id"]),
        lambda: as_ids(["p0"] * 5000, PAIRS["id"]),
        lambda: as_ids("x" * 5000, PAIRS["id"]),
        lambda: as_number("x" * 5000, "beta"),
        lambda: as_prompts(["?", ["x" * 5000]]),
        lambda: as_policy("x" * 300),
        lambda: as_pairs(concatenate_datasets([PAIRS] * 50)),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as error:
            call()
        assert len(str(error.value)) < 500


# Prompts -----------------------------------------------------------------------------------------


def test_prompts_are_a_list_a_column_or_one():
    texts = ["one ?", "two ?"]
    columns = pd.DataFrame({"prompt": texts}), Dataset.from_dict({"prompt": texts})
    for came in (texts, tuple(texts), iter(texts), np.array(texts), pd.Series(texts), *columns):
        assert as_prompts(came) == texts
    assert as_prompts("hello") == ["hello"]  # never its letters
    assert as_prompts(ASKED) == [ASKED] and as_prompts([ASKED, ASKED]) == [ASKED, ASKED]


def test_prompts_may_be_the_arrays_that_pandas_makes_of_messages():
    frame = Dataset.from_dict({"prompt": [ASKED, ASKED]}).to_pandas()
    for came in (frame, frame["prompt"], list(frame["prompt"])):
        assert as_prompts(came) == [ASKED, ASKED]
    assert as_prompts(frame["prompt"][0]) == [ASKED]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ([], ValueError, "no prompts to answer"),
        (None, TypeError, "Expected prompts .*got None"),
        (0.5, TypeError, "Expected prompts .*got a float"),
        ({"prompt": "?"}, TypeError, "Expected prompts .*got a dict"),
        (["one ?", None], TypeError, "Prompt 1 is None; expected a text, as the first one is"),
        (["one ?", ASKED], TypeError, "Prompt 1 is a list; expected a text, as the first one is"),
        ([ASKED, "one ?"], TypeError, "Prompt 1 is the text 'one .'; expected a list of messages"),
        ([None], TypeError, "Prompt 0 is None"),
        ([[]], TypeError, "Prompt 0 is a list; expected a list of messages"),
        (pd.DataFrame({"question": ["?"]}), ValueError, r"`prompt` column, got .*\['question'\]"),
    ],
    ids=str,
)
def test_what_is_no_prompt_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        as_prompts(wrong)


# Numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2), Fraction(2)])
def test_a_number_comes_out_as_a_float(value):
    number = as_number(value, "beta", above=0)
    assert number == 2.0 and type(number) is float


@pytest.mark.parametrize("value", [True, np.True_, "0.1", None, [0.1], 1j, pd.NA])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="^beta=.*; expected a number above 0, got "):
        as_number(value, "beta", above=0)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), np.float32("nan")])
def test_a_number_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="^beta=.*; expected a number above 0.$"):
        as_number(value, "beta", above=0)


def test_the_range_is_told_and_its_ends_belong_to_it():
    assert as_number(0, "x", least=0) == 0 and as_number(1, "x", least=0, most=1) == 1
    for bounds, told in (
        (dict(least=1), "a number, 1 or more"),
        (dict(least=1, most=2), "a number from 1 to 2"),
        (dict(above=0.5, most=2), "a number above 0.5 up to 2"),
        (dict(), "a number"),
    ):
        with pytest.raises(ValueError, match=f"x=.*; expected {told}[.]$"):
            as_number(float("nan") if not bounds else -1, "x", **bounds)


@pytest.mark.parametrize("value", [3, np.int64(3)])
def test_a_count_comes_out_as_an_int(value):
    assert as_count(value, "epochs") == 3 and type(as_count(value, "epochs")) is int


@pytest.mark.parametrize("value", [True, 3.0, "3", None, float("nan"), np.float32(3)])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(TypeError, match="^epochs=.*; expected a whole number, 1 or more, got "):
        as_count(value, "epochs")


def test_a_count_has_a_least():
    assert as_count(0, "seed", least=0) == 0
    for value, least in ((0, 1), (-1, 0)):
        with pytest.raises(ValueError, match=f"n={value}; expected a whole number, {least} or mor"):
            as_count(value, "n", least=least)


# Pairs that are left out -------------------------------------------------------------------------

MANY = LeftOut({f"pair-{n}": f"{900 + n} tokens, more than 256" for n in range(20_000)})


@pytest.fixture
def table():
    made = pd.DataFrame({"chosen_logp": np.arange(5.0)}, index=[f"p{n}" for n in range(5)])
    made.attrs["left_out"] = MANY
    return made


STEPS = {
    "head": lambda t: t.head(),
    "loc": lambda t: t.loc[["p1", "p0"]],
    "iloc": lambda t: t.iloc[:2],
    "copy": lambda t: t.copy(),
    "column": lambda t: t["chosen_logp"],
    "assign": lambda t: t.assign(more=1),
    "rename": lambda t: t["chosen_logp"].rename("again"),
    "arithmetic": lambda t: t["chosen_logp"] - t["chosen_logp"],
    "sort": lambda t: t.sort_values("chosen_logp"),
    "dropna": lambda t: t.dropna(),
}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_of_pandas_copies_what_was_left_out(table, step):
    assert STEPS[step](table).attrs["left_out"] is MANY


def test_steps_of_pandas_take_no_time_for_it(table):
    start = time.process_time()
    for _ in range(100):
        table.head()
    assert time.process_time() - start < 1.0  # 14 s, as a plain dict


def test_copies_are_free_and_workers_get_their_own():
    assert copy.copy(MANY) is MANY and copy.deepcopy({"attrs": MANY})["attrs"] is MANY
    there = pickle.loads(pickle.dumps(MANY))
    assert type(there) is LeftOut and there == MANY
    assert MANY == dict(MANY) and list(MANY)[:2] == ["pair-0", "pair-1"]


def test_a_table_with_pairs_left_out_survives_a_file(table, tmp_path):
    table.to_parquet(tmp_path / "table.parquet")
    read = pd.read_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(read, table)
    assert read.attrs["left_out"] == MANY
    assert LeftOut(read.attrs["left_out"]) == MANY


def test_what_it_shows_is_short():
    few = LeftOut({"a": "300 tokens, more than 256"})
    assert repr(few) == "LeftOut({'a': '300 tokens, more than 256'})"
    mixed = LeftOut({f"q{n}": f"reason {'abcdefg'[n % 7]}" for n in range(1000)})
    for left_out in (MANY, mixed, LeftOut({f"p{n}": "empty" for n in range(1000)})):
        assert len(repr(left_out)) < 400 and str(len(left_out)) in repr(left_out)
    assert MANY.reasons() == "20000 such as 'pair-0': 900 tokens, more than 256"
    assert mixed.reasons().startswith("143 such as 'q0': reason a; 143 such as 'q1': reason b; ")
    assert mixed.reasons().endswith("; and 4 other reasons")


def test_the_warning_is_one_short_and_names_the_callers_line():
    def scored():
        MANY.warn(30_000, "pairs", 'attrs["left_out"]')

    with pytest.warns(UserWarning) as said:
        scored()
    assert len(said) == 1 and said[0].filename == __file__
    text = str(said[0].message)
    assert text == (
        "20000 of 30000 pairs are left out: 20000 such as 'pair-0': 900 tokens, more than 256. "
        'All are in `attrs["left_out"]`.'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LeftOut().warn(30_000)


def test_the_first_few_of_many():
    assert inputs.some(["a", "b"]) == "'a', 'b'" and inputs.some([]) == ""
    assert inputs.some(range(10)) == "0, 1, 2 and 7 more"
    assert len(inputs.some(["x" * 1000] * 5)) < 250
