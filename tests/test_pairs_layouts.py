"""Messages under other names, answers with or without the prompt, tools: what a person would read
off the rows, or a refusal. And the cases beside the repository, where they are at hand."""

import json
import warnings
from pathlib import Path

import datasets
import pandas as pd
import pytest

from nbkit.pairs.checks import BadPairs
from nbkit.pairs.load import load_pairs

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def says(who, text):
    return {"from": who, "value": text}


def part(text):
    return [{"type": "text", "text": text}]


ASKED, DOG, CAT = [user("hello")], [assistant("dog")], [assistant("cat")]
TALK = {
    "explicit": {"prompt": ASKED, "chosen": DOG, "rejected": CAT},
    "one message each": {"prompt": "hello", "chosen": DOG[0], "rejected": CAT[0]},
    "answers without the prompt": {"prompt": "hello", "chosen": DOG, "rejected": CAT},
    "answers as text": {"prompt": ASKED, "chosen": "dog", "rejected": "cat"},
    "answers with all before": {"prompt": ASKED, "chosen": ASKED + DOG, "rejected": ASKED + CAT},
    "transcripts": {"prompt": "hello", "chosen": "\n\nHuman: hello\n\nAssistant: dog",
                    "rejected": "\n\nHuman: hello\n\nAssistant: cat"},
    "transcripts twice": {"prompt": "\n\nHuman: hello\n\nAssistant:",
                          "chosen": "\n\nHuman: hello\n\nAssistant: dog",
                          "rejected": "\n\nHuman: hello\n\nAssistant: cat"},
    "human, gpt": {"prompt": [{"role": "human", "content": "hello"}],
                   "chosen": [{"role": "gpt", "content": "dog"}],
                   "rejected": [{"role": "gpt", "content": "cat"}]},
    "model": {"prompt": ASKED, "chosen": [{"role": "model", "content": "dog"}],
              "rejected": [{"role": "model", "content": "cat"}]},
    "ShareGPT": {"prompt": [says("human", "hello")], "chosen": [says("gpt", "dog")],
                 "rejected": [says("gpt", "cat")]},
    "ShareGPT, one dict": {"conversations": [says("human", "hello")], "chosen": says("gpt", "dog"),
                           "rejected": says("gpt", "cat")},
    "messages, one dict": {"messages": ASKED, "chosen": DOG[0], "rejected": CAT[0]},
    "ShareGPT, implicit": {"chosen": [says("human", "hello"), says("gpt", "dog")],
                           "rejected": [says("human", "hello"), says("gpt", "cat")]},
    "text parts": {"prompt": [user(part("hello"))], "chosen": [assistant(part("dog"))],
                   "rejected": [assistant(part("ca") + part("t"))]},
}  # fmt: skip


@pytest.mark.parametrize("row", TALK.values(), ids=TALK)
def test_one_conversation_in_all_its_dresses(row, tmp_path, recwarn):
    expected = load_pairs([TALK["explicit"]]).to_list()
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    pd.DataFrame([row]).to_parquet(tmp_path / "a.parquet")
    for source in ([row], pd.DataFrame([row]), datasets.Dataset.from_list([row]),
                   tmp_path / "a.jsonl", tmp_path / "a.parquet",
                   pd.read_parquet(tmp_path / "a.parquet")):  # fmt: skip
        pairs = load_pairs(source)
        pairs = pairs.select_columns(["id", "prompt", "chosen", "rejected"])
        assert pairs.to_list() == expected
    assert not recwarn.list


def test_answers_that_repeat_a_text_prompt():
    rows = [{"prompt": f"hello {i}", "chosen": f"hello {i} dog", "rejected": f"hello {i} cat"}
            for i in range(3)]  # fmt: skip
    with pytest.warns(UserWarning, match="begin with their prompt"):
        pairs = load_pairs(rows)
    assert pairs["chosen"][:] == [" dog"] * 3 and pairs["prompt"][1] == "hello 1"
    rows = [{"prompt": "a", "chosen": "a river", "rejected": "a lake"}]
    rows += [{"prompt": "a", "chosen": f"the {i}", "rejected": "a lake"} for i in range(3)]
    assert load_pairs(rows)["chosen"][0] == "a river"


@pytest.mark.parametrize("key", ["tool_calls", "function_call", "reasoning_content", "reasoning",
                                 "thinking"])  # fmt: skip
def test_what_a_message_says_beside_its_content_is_refused(key):
    more = {key: ["two and two"]}
    good = TALK["explicit"]
    for bad in (
        {"prompt": ASKED, "chosen": [DOG[0] | more], "rejected": CAT},
        {"prompt": ASKED, "chosen": [DOG[0] | more], "rejected": DOG},
        {"prompt": [*ASKED, DOG[0] | more, *ASKED], "chosen": DOG, "rejected": CAT},
    ):
        with pytest.raises(BadPairs, match=f"{key} .*not supported"):
            load_pairs([good, bad])
        assert len(load_pairs([good, bad], on_bad="drop")[0]) == 1
    nothing = {"prompt": ASKED, "chosen": [DOG[0] | {key: None}], "rejected": CAT}
    assert load_pairs([nothing]).to_list() == load_pairs([good]).to_list()


def test_pictures_in_a_message_are_refused():
    bad = TALK["explicit"] | {"prompt": [user([{"type": "image"}, *part("What is it?")])]}
    with pytest.raises(BadPairs, match="content is not text"):
        load_pairs([bad])


# Settings of the chat template -------------------------------------------------------------------


def function(name, **properties):
    parameters = {"type": "object", "properties": properties}
    return [{"type": "function", "function": {"name": name, "parameters": parameters}}]


SETTINGS = {
    "tools": [function("weather", city={"type": "string"}), function("add", a={"type": "number"}),
              None],
    "chat_template_kwargs": [{"enable_thinking": False}, {"custom": "x"}, None],
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_as_objects_are_those_as_text(name, tmp_path):
    """No row is told the keys of another one."""
    base = [TALK["explicit"] | {"id": f"p{i}"} for i in range(3)]
    objects = [row | {name: value} for row, value in zip(base, SETTINGS[name], strict=True)]
    text = [row | {name: value and json.dumps(value)}
            for row, value in zip(base, SETTINGS[name], strict=True)]  # fmt: skip
    expected = load_pairs(text).to_list()
    assert [row[name] and json.loads(row[name]) for row in expected] == SETTINGS[name]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, objects)))
    datasets.Dataset.from_list(objects).to_parquet(tmp_path / "a.parquet")
    for source in (objects, pd.DataFrame(objects), datasets.Dataset.from_list(objects),
                   tmp_path / "a.jsonl", tmp_path / "a.parquet",
                   pd.read_parquet(tmp_path / "a.parquet")):  # fmt: skip
        assert load_pairs(source).to_list() == expected
    assert load_pairs(load_pairs(objects)).to_list() == expected
    plain = [{"prompt": "q", "chosen": "a", "rejected": "b", "id": row["id"], name: row[name]}
             for row in objects]  # fmt: skip
    assert load_pairs(plain, chat=True)[name][:] == [row[name] for row in expected]


@pytest.mark.parametrize(
    "settings, problem",
    [({"tools": "[{"}, "not valid JSON"), ({"tools": {"a": 1}}, "not a list"),
     ({"chat_template_kwargs": "[1]"}, "not an object"), ({"tools": [len]}, "written as JSON"),
     ({"tools": ["\ud800"]}, "not valid Unicode")],
)  # fmt: skip
def test_settings_that_are_wrong_are_bad_rows(settings, problem):
    with pytest.raises(BadPairs, match=problem):
        load_pairs([TALK["explicit"] | settings])


# The cases beside the repository -----------------------------------------------------------------

LOADS = {  # folder or file -> pairs that load without more being said
    "01_shp": 2, "02_helpsteer2_preference": 2, "03_helpsteer3_preference": 1, "05_nectar": 1,
    "06c_orca_renamed_with_system": 1, "07_chatbot_arena": 1, "09_distilabel": 1,
    "10_llamafactory_sharegpt": 1, "10b_sharegpt_lists": 1, "11b_alpaca_as_prompt_plus_input": 2,
    "13_axolotl/prompt_pairs": 1, "13_axolotl/tmpl_default": 1, "13_axolotl/ultra": 1,
    "16_trl_vision/textparts": 1, "18_score_columns/chosen": 1, "18_score_columns/rating": 1,
    "18_score_columns/score": 1, "19_excel_csv/bom": 2, "19_excel_csv/caps": 1,
    "19_excel_csv/cell_nl": 1, "19_excel_csv/semicolon": 2, "19_excel_csv/space": 1,
    "19_excel_csv/unnamed": 1, "19_excel_csv/utf16": 2, "20_jsonl_oddities/bigid": 1,
    "20_jsonl_oddities/cr": 2, "20_jsonl_oddities/ls": 1, "20_jsonl_oddities/single": 1,
    "20_jsonl_oddities/u16": 1, "23_question_column_chance_prefix/context": 1,
    "23_question_column_chance_prefix/history": 1, "23_question_column_chance_prefix/images": 1,
    "39_tools_column_none_filled": 2, "40_more_layouts/answers": 1,
    "40_more_layouts/chatml_written_out": 1, "40_more_layouts/conversational": 1,
    "40_more_layouts/openai": 1, "40_more_layouts/prompt": 1, "40_more_layouts/role": 1,
    "40_more_layouts/ties": 1, "40_more_layouts/transcript": 1, "54_double_bos": 1,
}  # fmt: skip


def test_every_case_file_loads_or_is_refused_in_words():
    if not CASES.exists():
        pytest.skip("the cases (../shared/cases beside the repository) are not on this machine")
    for path in sorted(path for path in CASES.glob("*/*") if path.is_file()):
        name = path.relative_to(CASES).as_posix()
        expected = next((n for start, n in LOADS.items() if name.startswith(start)), None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                loaded = len(load_pairs(path))
            except ValueError as error:
                loaded = None
                assert type(error) is not UnicodeDecodeError and len(str(error)) < 1500
        assert loaded == expected, name
