"""Published data sets of two or more answers and a judgement: which answer is chosen, what becomes
of ties, and what is said where the columns can be read in two ways."""

import datasets
import pandas as pd
import pytest

from nbkit.pairs.checks import BadPairs
from nbkit.pairs.layouts import UnknownLayout
from nbkit.pairs.load import load_pairs
from nbkit.pairs.recipes import RECIPES

NILE, WET = "The Nile.", "Wet."


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def talk(answer):
    return [user("A river?"), assistant(answer)]


def shp(label):
    return {"post_id": "a", "history": "A river?", "human_ref_A": WET, "human_ref_B": NILE,
            "score_A": 20 if label else 5, "score_B": 10, "labels": label}  # fmt: skip


def helpsteer2(strength):
    return {"prompt": "A river?", "response_1": WET, "response_2": NILE,
            "preference_strength": strength}  # fmt: skip


def helpsteer3(strength):
    return {"context": [user("A river?")], "response1": WET, "response2": NILE,
            "overall_preference": strength}  # fmt: skip


def pku(better, safer):
    return {"prompt": "A river?", "response_0": WET, "response_1": NILE,
            "better_response_id": better, "safer_response_id": safer}  # fmt: skip


def arena(winner):
    return {"conversation_a": talk(WET), "conversation_b": talk(NILE), "winner": winner}


def nectar(*ranks):
    answers = [{"answer": text, "model": "m", "rank": rank}
               for text, rank in zip([WET, NILE, "A sea."], ranks, strict=True)]  # fmt: skip
    return {"prompt": "A river?", "answers": answers}


def ultrafeedback(fine, overall):
    both = zip([WET, NILE, "A sea."], fine, overall, strict=True)
    completions = [{"response": text, "fine-grained_score": f, "overall_score": o}
                   for text, f, o in both]  # fmt: skip
    return {"instruction": "A river?", "models": ["m"] * 3, "completions": completions}


def distilabel(*ratings):
    return {"instruction": "A river?", "generations": [WET, NILE], "ratings": list(ratings)}


def openai():
    asked = {"messages": [user("A river?")], "tools": [], "parallel_tool_calls": True}
    return {"input": asked, "preferred_output": [assistant(NILE)],
            "non_preferred_output": [assistant(WET)]}  # fmt: skip


# (recipe, row in which the Nile is chosen, row in which it is rejected)
DIRECTIONS = [
    ("shp", shp(0), shp(1)),
    ("helpsteer2", helpsteer2(1), helpsteer2(-1)),
    ("helpsteer2", helpsteer2(3), helpsteer2(-3)),
    ("helpsteer3", helpsteer3(2), helpsteer3(-2)),
    ("pku_better", pku(1, 0), pku(0, 1)),
    ("pku_safer", pku(0, 1), pku(1, 0)),
    ("arena", arena("model_b"), arena("model_a")),
    ("nectar", nectar(3, 1, 2), nectar(1, 3, 2)),
    ("ultrafeedback", ultrafeedback([1, 3, 2], [3, 1, 2]), ultrafeedback([3, 1, 2], [1, 3, 2])),
    ("ultrafeedback_overall", ultrafeedback([3, 1, 2], [1, 3, 2]),
     ultrafeedback([1, 3, 2], [3, 1, 2])),
    ("distilabel", distilabel(2, 5), distilabel(5, 2)),
]  # fmt: skip
TIES = {
    "helpsteer2": [helpsteer2(0)],
    "helpsteer3": [helpsteer3(0)],
    "arena": [arena("tie"), arena("tie (bothbad)"), arena("both_bad")],
    "nectar": [nectar(1, 1, 1)],
    "ultrafeedback": [ultrafeedback([2, 2, 2], [1, 2, 3])],
    "distilabel": [distilabel(4, 4)],
}


def said(answer):
    return answer if isinstance(answer, str) else answer[-1]["content"]


@pytest.mark.parametrize("recipe, chosen, rejected", DIRECTIONS, ids=[d[0] for d in DIRECTIONS])
def test_directions(recipe, chosen, rejected, tmp_path, recwarn):
    datasets.Dataset.from_list([chosen, rejected]).to_parquet(tmp_path / "a.parquet")
    rows = [chosen, rejected]
    sources = [rows, pd.DataFrame(rows), datasets.Dataset.from_list(rows), tmp_path / "a.parquet",
               pd.read_parquet(tmp_path / "a.parquet")]  # fmt: skip
    for source in sources:
        pairs = load_pairs(source, recipe=recipe)
        assert [said(answer) for answer in pairs["chosen"]] == [NILE, WET]
        assert [said(answer) for answer in pairs["rejected"]] == [WET, NILE]
        prompt = pairs["prompt"][0]
        assert prompt == "A river?" or prompt == [user("A river?")]
        if "chosen_score" in pairs.column_names:
            assert pairs["chosen_score"][0] > pairs["rejected_score"][0]
    assert not recwarn.list
    assert (
        load_pairs(load_pairs(rows, recipe=recipe)).to_list()
        == load_pairs(rows, recipe=recipe).to_list()
    )


def test_every_recipe_has_its_directions():
    assert {name for name, *_ in DIRECTIONS} | {"openai"} == set(RECIPES)


def test_csv_labels_are_text_and_read_all_the_same(tmp_path):
    for recipe, chosen, rejected in DIRECTIONS[:3] + DIRECTIONS[4:6]:
        pd.DataFrame([chosen, rejected]).to_csv(tmp_path / "a.csv", index=False)
        assert load_pairs(tmp_path / "a.csv", recipe=recipe)["chosen"][:] == [NILE, WET]


@pytest.mark.parametrize("recipe", TIES)
def test_ties_are_left_out_and_counted(recipe):
    good = next(row for name, row, _ in DIRECTIONS if name == recipe)
    rows = [*TIES[recipe], good]
    with pytest.warns(UserWarning, match=f"{len(rows) - 1} of {len(rows)} rows are ties") as told:
        assert len(load_pairs(rows, recipe=recipe)) == 1
    assert len(told) == 1
    pairs, report = load_pairs(rows, recipe=recipe, on_bad="drop")
    assert len(pairs) == 1 and set(report["problem"]) == {"tie"}
    assert report["row"].tolist() == list(range(len(rows) - 1))
    with pytest.raises(BadPairs, match="tie"):
        load_pairs(TIES[recipe], recipe=recipe)


@pytest.mark.parametrize(
    "recipe, bad, problem",
    [
        ("shp", shp(2), "not one of 0, 1"),
        ("shp", shp(0) | {"labels": None}, "missing"),
        ("helpsteer2", helpsteer2(-100), "not one of -3"),
        ("pku_better", pku("x", 0), "not a number"),
        ("arena", arena("model_c"), "not one of model_a"),
        ("nectar", {"prompt": "q", "answers": [{"answer": "a", "rank": 1}]}, "fewer than two"),
        ("nectar", {"prompt": "q", "answers": None}, "malformed for recipe 'nectar'"),
        ("distilabel", distilabel(None, 5), "fewer than two rated answers"),
        ("distilabel", distilabel(5), "not one score for each answer"),
        ("shp", shp(0) | {"human_ref_B": ""}, "empty"),
    ],
)
def test_wrong_judgements_are_bad_rows(recipe, bad, problem):
    good = next(row for name, row, _ in DIRECTIONS if name == recipe)
    with pytest.raises(BadPairs, match="row 1") as error:
        load_pairs([good, bad], recipe=recipe)
    assert problem in error.value.report["problem"][0]
    assert len(load_pairs([good, bad], recipe=recipe, on_bad="drop")[0]) == 1


@pytest.mark.parametrize("recipe", ["shp", "helpsteer2", "helpsteer3", "arena", "nectar",
                                    "distilabel"])  # fmt: skip
def test_an_unambiguous_layout_is_read_and_said_once(recipe):
    row = next(row for name, row, _ in DIRECTIONS if name == recipe)
    with pytest.warns(UserWarning, match=f"Read with recipe='{recipe}': .*chosen") as told:
        pairs = load_pairs([row])
    assert len(told) == 1 and told[0].filename == __file__
    assert pairs.to_list() == load_pairs([row], recipe=recipe).to_list()


@pytest.mark.parametrize(
    "row, recipes",
    [(pku(0, 1), ["pku_better", "pku_safer"]),
     (ultrafeedback([1, 2, 3], [3, 2, 1]), ["ultrafeedback", "ultrafeedback_overall"])],
)  # fmt: skip
def test_an_ambiguous_layout_is_refused_with_its_choices(row, recipes):
    with pytest.raises(UnknownLayout, match="2 ways.*Ties are left out and counted") as error:
        load_pairs([row])
    for name in recipes:
        assert f"recipe={name!r}" in str(error.value)
        assert len(load_pairs([row], recipe=name)) == 1


def test_a_second_judgement_that_is_not_there_is_no_choice():
    row = pku(0, 1)
    del row["better_response_id"]
    with pytest.warns(UserWarning, match="recipe='pku_safer'"):
        load_pairs([row])


def test_openai_keeps_the_tools_of_the_row():
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with_tools = openai()
    with_tools["input"] |= {"tools": tools, "messages": [user("A lake?")]}
    pairs = load_pairs([openai(), with_tools], recipe="openai")
    assert pairs[0]["chosen"] == [assistant(NILE)] and pairs[0]["tools"] is None
    assert pairs[1]["tools"].startswith('[{"type": "function"')


def test_what_a_strength_says_stays_beside_the_pair():
    assert load_pairs([helpsteer2(2)], recipe="helpsteer2")["preference_strength"][:] == [2]


def test_unpaired_rows_are_called_unpaired():
    with pytest.raises(UnknownLayout, match="unpaired"):
        load_pairs([{"prompt": "q", "completion": "a", "label": True}])


def test_wrong_recipes_are_refused():
    with pytest.raises(ValueError, match="recipe='stanford'; expected one of shp, helpsteer2"):
        load_pairs([shp(0)], recipe="stanford")
    with pytest.raises(ValueError, match="needs the columns prompt, answers.*not among .*answers"):
        load_pairs([helpsteer2(0)], recipe="nectar")


def test_pairs_ready_made_are_not_made_again(recwarn):
    row = {"chosen": NILE, "rejected": WET} | helpsteer2(-1)
    assert load_pairs([row])["chosen"][:] == [NILE]
    renamed = {"good": NILE, "bad": WET} | helpsteer2(-1)
    assert load_pairs([renamed], columns={"chosen": "good", "rejected": "bad"})["chosen"][0] == NILE
    assert not recwarn.list
