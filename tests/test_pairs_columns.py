"""Prompts, systems, scores and ids in other columns: folded in when told, refused or warned of by
name when not. Remedies in messages are carried out as they are written."""

import ast
import re

import datasets
import pandas as pd
import pytest

from nbkit.pairs.checks import BadPairs
from nbkit.pairs.layouts import UnknownLayout
from nbkit.pairs.load import load_pairs

ANSWERS = {"chosen": "The Nile.", "rejected": "The sea."}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def remedy(message) -> dict:
    """The first `columns={...}` that a message advises."""
    text = re.search(r"columns=(\{.*?\})", str(message)).group(1)
    return ast.literal_eval(text)


# Answers without a prompt ------------------------------------------------------------------------

ELSEWHERE = {
    "question": ({"question": "Name a river."}, "Name a river."),
    "input": ({"input": "Name a river."}, "Name a river."),
    "query": ({"query": "Name a river."}, "Name a river."),
    "alpaca": ({"instruction": "To French:", "input": "river"}, "To French:\nriver"),
    "context": ({"question": "Where?", "context": "It rains."}, "It rains.\nWhere?"),
    "system": (
        {"system": "Be terse.", "question": "A river?"},
        [system("Be terse."), user("A river?")],
    ),
    "history": (
        {"history": [["hi", "hello"]], "question": "A river?"},
        [user("hi"), assistant("hello"), user("A river?")],
    ),
}


@pytest.mark.parametrize("beside, prompt", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("on_bad", ["raise", "drop"])
def test_a_question_in_another_column_is_named_and_never_guessed(beside, prompt, on_bad):
    """'The' is no prompt, however many answers begin with it."""
    rows = [beside | ANSWERS, beside | {"chosen": "Sure, gladly.", "rejected": "Sorry, no."}]
    with pytest.raises(UnknownLayout, match="answers without a prompt") as error:
        load_pairs(rows, on_bad=on_bad)
    assert all(name in str(error.value) for name in beside)
    pairs = load_pairs(rows, columns=remedy(error.value))
    assert pairs[0]["prompt"] == prompt
    assert set(pairs.column_names) == {"id", "prompt", "chosen", "rejected"}
    answer = pairs[0]["chosen"]
    assert answer == "The Nile." or answer == [assistant("The Nile.")]


def test_answers_without_any_prompt():
    rows = [ANSWERS, {"chosen": "Como.", "rejected": "Water."},
            {"chosen": "Yes, it is.", "rejected": "No."}]  # fmt: skip
    for on_bad in ("raise", "drop"):
        with pytest.raises(UnknownLayout, match="no column 'prompt'.*columns={'prompt': "):
            load_pairs(rows, on_bad=on_bad)
    shared = [{"chosen": f"Q: {i}? A: yes", "rejected": f"Q: {i}? A: no"} for i in range(3)]
    with pytest.warns(UserWarning, match=r"taken as the prompt \(first: 'Q: 0\? A:'\)"):
        pairs, report = load_pairs([*shared, ANSWERS], on_bad="drop")
    assert pairs["prompt"][:] == ["Q: 0? A:", "Q: 1? A:", "Q: 2? A:"]
    assert report["problem"].tolist() == ["chosen and rejected share no beginning that ends a "
                                          "prompt"]  # fmt: skip


def test_answers_under_other_names():
    row = {"instruction": "A river?", "chosen_response": "The Nile.", "rejected_response": "Wet."}
    with pytest.raises(UnknownLayout) as error:
        load_pairs([row])
    pair = load_pairs([row], columns=remedy(error.value))[0]
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ("A river?", "The Nile.", "Wet.")


# Columns beside a prompt -------------------------------------------------------------------------

BESIDE = {
    "system": ({"system": "In French."}, [system("In French."), user("A river?")]),
    "input": ({"input": "near Bern"}, "A river?\nnear Bern"),
    "context": ({"context": "It rains."}, "It rains.\nA river?"),
    "history": (
        {"history": [["hi", "hello"]]}, [user("hi"), assistant("hello"), user("A river?")]
    ),
}  # fmt: skip


@pytest.mark.parametrize("beside, prompt", BESIDE.values(), ids=BESIDE)
def test_columns_of_the_prompt_are_warned_of_and_folded_in_when_told(beside, prompt):
    rows = [{"prompt": "A river?", **ANSWERS, **beside}]
    (name,) = beside
    with pytest.warns(UserWarning, match=f"no model will read: {name}") as caught:
        pairs = load_pairs(rows)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert pairs[0]["prompt"] == "A river?" and pairs[0][name] == beside[name]
    assert load_pairs(rows, columns=remedy(caught[0].message))[0]["prompt"] == prompt
    assert name not in load_pairs(rows, columns={name: None}).column_names


def test_advice_keeps_what_the_caller_has_said():
    rows = [{"Frage": "A river?", "Context": "It rains.", "good": "The Nile.", "bad": "The sea.",
             "good_score": 1.0, "chosen_rating": 2, "rejected_rating": 1}]  # fmt: skip
    columns = {"chosen": "good", "rejected": "bad", "good_score": None}
    with pytest.raises(UnknownLayout, match="seems to stand in Context") as error:
        load_pairs(rows, columns=columns)
    assert remedy(error.value) == columns | {"prompt": "Context"}
    with pytest.warns(UserWarning) as caught:
        load_pairs(rows, columns=columns | {"prompt": "Frage"})
    unread, scores = (remedy(warning.message) for warning in caught)
    assert load_pairs(rows, columns=scores | unread).to_list()[0] | {"id": 0} == {
        "id": 0, "prompt": "It rains.\nA river?", "chosen": "The Nile.", "rejected": "The sea.",
        "chosen_score": 2.0, "rejected_score": 1.0}  # fmt: skip
    scored = [{"q": "A river?", "good": "The Nile.", "bad": "The sea.", "s": 1.0}]
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    with pytest.raises(UnknownLayout, match="without its partner 'rejected_score'") as error:
        load_pairs(scored, columns=columns | {"chosen_score": "s"})
    assert remedy(error.value) == columns


def test_a_prompt_that_the_answers_repeat_is_not_advised_to_be_changed():
    talk = {"prompt": "A river?", "chosen": [user("A river?"), assistant("x")],
            "rejected": [user("A river?"), assistant("y")]}  # fmt: skip
    with pytest.warns(UserWarning, match="no model will read: context") as caught:
        load_pairs([talk | {"context": "It rains."}])
    assert remedy(caught[0].message) == {"context": None}


def test_images_are_warned_of():
    rows = [{"prompt": "What is it?", **ANSWERS, "images": ["a.png"]}]
    with pytest.warns(UserWarning, match="nbkit reads text only.*images"):
        load_pairs(rows)


def test_no_warning_where_nothing_is_lost(recwarn):
    said = {"system": "", "input": None, "context": "river", "history": [], "question": "A river?"}
    load_pairs([{"prompt": "A river?", **ANSWERS, **said}])
    chat = {"chosen": [user("A river?"), assistant("x")], "instruction": "A river?",
            "rejected": [user("A river?"), assistant("y")]}  # fmt: skip
    load_pairs([chat])
    assert not recwarn.list


def test_a_system_message_before_every_kind_of_prompt():
    talk = [user("A river?")]
    forms = [
        {"prompt": "A river?", **ANSWERS},
        {"prompt": talk, "chosen": "The Nile.", "rejected": "The sea."},
        {"prompt": "A river?", "chosen": [*talk, assistant("The Nile.")],
         "rejected": [*talk, assistant("The sea.")]},
        {"chosen": [*talk, assistant("The Nile.")], "rejected": [*talk, assistant("The sea.")]},
    ]  # fmt: skip
    for row in forms:
        pair = load_pairs([row | {"s": "Be kind."}], columns={"system": "s"})[0]
        assert pair["prompt"] == [system("Be kind."), *talk]
        assert pair["rejected"] == [assistant("The sea.")]
        assert load_pairs([row | {"s": ""}], columns={"system": "s"})[0]["prompt"] == talk
    own = {"prompt": [system("Be kind."), *talk], **ANSWERS}
    assert load_pairs([own | {"s": "Be kind."}], columns={"system": "s"})[0]["prompt"] == [
        system("Be kind."), *talk]  # fmt: skip
    with pytest.raises(BadPairs, match="begins with another system message"):
        load_pairs([own | {"s": "Be rude."}], columns={"system": "s"})


def test_the_parts_of_a_prompt_keep_their_order_and_missing_ones_are_passed_over():
    rows = [{"a": "one", "b": "two", **ANSWERS}, {"a": "one", "b": None, **ANSWERS}]
    pairs = load_pairs(rows, columns={"prompt": ["b", "a"]})
    assert pairs["prompt"][:] == ["two\none", "one"]
    with pytest.raises(BadPairs, match="row 2, column 'prompt': missing"):
        load_pairs([*rows, {"a": None, "b": "", **ANSWERS}], columns={"prompt": ["b", "a"]})
    talk = [user("hi"), assistant("hello")]
    rows = [{"context": "It rains.", "talk": talk, "prompt": "A river?", **ANSWERS}]
    pair = load_pairs(rows, columns={"prompt": ["context", "talk", "prompt"]})[0]
    assert pair["prompt"] == [user("It rains.\nhi"), assistant("hello"), user("A river?")]
    rows += [{"context": "It snows.", "talk": None, "prompt": "A lake?", **ANSWERS}]
    pairs = load_pairs(rows, columns={"prompt": ["context", "talk", "prompt"]})
    assert pairs["prompt"][1] == [user("It snows.\nA lake?")]

    with pytest.raises(BadPairs, match="row 2, column 'prompt': .*content is not text"):
        load_pairs(
            [*rows, {"context": "It snows.", "talk": [1], "prompt": "A sea?", **ANSWERS}],
            columns={"prompt": ["context", "talk", "prompt"]},
        )


# Scores and ids ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [("chosen_rating", "rejected_rating"), ("rating_chosen", "rating_rejected"),
     ("chosen_avg_rating", "rejected_avg_rating"), ("chosen_reward", "rejected_reward")],
)  # fmt: skip
def test_ratings_under_other_names_are_named_and_taken_when_told(names):
    rows = [{"prompt": "A river?", **ANSWERS, names[0]: 5, names[1]: 2}]
    with pytest.warns(UserWarning, match=f"'{names[0]}' and '{names[1]}' look like scores") as told:
        load_pairs(rows)
    pair = load_pairs(rows, columns=remedy(told[0].message))[0]
    assert (pair["chosen_score"], pair["rejected_score"]) == (5.0, 2.0)


def test_a_score_without_its_partner():
    rows = [{"prompt": "A river?", **ANSWERS, "chosen_score": 9.0}]
    with pytest.raises(UnknownLayout, match="without its partner 'rejected_score'") as error:
        load_pairs(rows)
    assert "chosen_score" not in load_pairs(rows, columns=remedy(error.value)).column_names
    rows = [{"input": "A river?", **ANSWERS, "score_rejected": 9.0}]
    with pytest.raises(UnknownLayout, match="without its partner 'score_chosen'") as error:
        load_pairs(rows)
    assert load_pairs(rows, columns=remedy(error.value))["prompt"][:] == ["A river?"]


@pytest.mark.parametrize("on_bad", ["raise", "drop"])
def test_ids_of_prompts_are_not_ids_of_pairs(on_bad):
    rows = [{"id": "q1", "prompt": "A river?", "chosen": "Nile", "rejected": f"r{i}"}
            for i in range(3)] + [{"id": "q2", "prompt": "A lake?", **ANSWERS}]  # fmt: skip
    with pytest.raises(BadPairs, match="names prompts, not pairs: 'q1'") as error:
        load_pairs(rows, on_bad=on_bad)
    assert len(error.value.report) == 3
    pairs = load_pairs(rows, columns=remedy(error.value))
    assert len(set(pairs["id"])) == 4


# The argument ------------------------------------------------------------------------------------


def test_columns_of_every_source(tmp_path):
    rows = [{"q": "A river?", "good": "NA", "bad": "7", "gs": 2.5, "bs": 1.0, "key": 7}]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad", "id": "key",
               "chosen_score": "gs", "rejected_score": "bs"}  # fmt: skip
    sources = [rows, pd.DataFrame(rows), datasets.Dataset.from_list(rows), tmp_path / "a.csv",
               tmp_path / "a.parquet"]  # fmt: skip
    for source in sources:
        assert load_pairs(source, columns=columns).to_list() == [
            {"id": "7", "prompt": "A river?", "chosen": "NA", "rejected": "7", "chosen_score": 2.5,
             "rejected_score": 1.0}
        ]  # fmt: skip


def test_wrong_columns_are_refused():
    rows = [{"prompt": "q", "question": "p", **ANSWERS}]
    for columns, expected in [
        ({"prompt": "missing"}, "no column 'missing'; came: prompt, question"),
        ({"missing": None}, "no column 'missing'"),
        ({"answer": "chosen"}, "no such part of a pair"),
        ({"chosen": ["chosen", "rejected"]}, "made of one column"),
        ({"prompt": "question"}, "there is a 'prompt' already"),
        ({"prompt": ["prompt", "question"], "question": None}, "used and left out at once"),
    ]:
        with pytest.raises(ValueError, match=re.escape(expected)):
            load_pairs(rows, columns=columns)
    with pytest.raises(TypeError, match="expected a dict such as"):
        load_pairs(rows, columns="question")
    with pytest.raises(TypeError, match="names that are text; came: 7"):
        load_pairs([{7: "x", **ANSWERS}])
    frame = pd.DataFrame(rows).rename(columns={"question": 7})
    assert load_pairs(frame, columns={"7": None}).column_names[0] == "id"
    rows = [{"prompt": "q", **ANSWERS}]
    swapped = load_pairs(rows, columns={"chosen": "rejected", "rejected": "chosen"})[0]
    assert swapped["chosen"] == ANSWERS["rejected"]
