"""Published data sets of two or more answers and a judgement, made into pairs.

One small function a layout: a row's values in, prompt, chosen and rejected out (and scores where
the rows hold them), or None for a tie. Directions are those of the data cards. Lists of answers
give one pair: the best against the worst, the first of each where several are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from nbkit.pairs.layouts import UnknownLayout
from nbkit.pairs.tables import Table
from nbkit.pairs.values import is_missing, listed

TIE = "tie"
TRUTH: dict[Any, int] = {"True": 1, "False": 0}

Row = Mapping[str, Any]
Pair = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    name: str
    needs: tuple[str, ...]  # columns; the last one holds the judgement
    says: str  # which answer is chosen
    pair: Callable[[Row], Pair | None]


def choose(table: Table, name: str | None, columns: Mapping[str, Any]) -> Recipe | None:
    """The recipe named, or the only one whose columns are there, or None: the rows are pairs.

    Raises:
        ValueError: no such recipe; its columns are not there.
        UnknownLayout: the columns allow two readings; the rows are no pairs.
    """
    if name is not None:
        if name not in RECIPES:
            raise ValueError(f"recipe={name!r:.60}; expected one of {', '.join(RECIPES)}.")
        if missing := [need for need in RECIPES[name].needs if need not in table.names]:
            raise ValueError(
                f"recipe={name!r} needs the columns {listed(RECIPES[name].needs)}; not among those "
                f"that came: {listed(missing)}. Came: {listed(table.names)}."
            )
        return RECIPES[name]
    here = {column.strip().lower() for column in table.names} | set(columns)
    if {"chosen", "rejected"} <= here:
        return None
    fitting = [recipe for recipe in RECIPES.values() if set(recipe.needs) <= set(table.names)]
    if len(fitting) > 1:
        choices = "\n".join(f"  recipe={recipe.name!r}: {recipe.says}" for recipe in fitting)
        raise UnknownLayout(
            f"These columns can be read as pairs in {len(fitting)} ways; choose one, e.g. "
            f"load_pairs(..., recipe={fitting[0].name!r}). Ties are left out and counted.\n"
            f"{choices}\n  came: {listed(table.names)}"
        )
    if not fitting and {"prompt", "completion", "label"} <= here:
        raise UnknownLayout(
            "These rows are unpaired (KTO): each holds one completion and whether it is good. A "
            "preference pair needs a good and a bad answer to the same prompt; came: "
            f"{listed(table.names)}."
        )
    return fitting[0] if fitting else None


def apply(recipe: Recipe, table: Table) -> tuple[dict[str, list], list[tuple], list[tuple]]:
    """Columns of the pairs, None where a row gives none; (row, column, problem, received) of rows
    that cannot be read; and the same of ties."""
    took = {name: table.values(name) for name in recipe.needs}
    took |= {name: table.values(name) for name in ALSO if name in table.names}
    table.names = [name for name in table.names if name not in took or name in STAY]
    judgement = recipe.needs[-1]
    pairs: list[Pair | None] = []
    problems: list[tuple] = []
    ties: list[tuple] = []
    for row in range(table.rows):
        values = {name: column[row] for name, column in took.items()}
        problem = None
        try:
            pairs.append(recipe.pair(values))
        except ValueError as error:
            problem = str(error)
        except (KeyError, TypeError, AttributeError, IndexError):
            problem = f"malformed for recipe {recipe.name!r}"
        if problem:
            pairs.append(None)
            problems.append((row, judgement, problem, values[judgement]))
        elif pairs[-1] is None:
            ties.append((row, judgement, TIE, values[judgement]))
    names = dict.fromkeys(name for pair in pairs if pair for name in pair)
    return {name: [(pair or {}).get(name) for pair in pairs] for name in names}, problems, ties


# Judgements --------------------------------------------------------------------------------------


def number(value: Any) -> float:
    """A number, also as text (CSV knows no other); True and False are 1 and 0."""
    if is_missing(value) or value == "":
        raise ValueError("missing")
    if not isinstance(value, (Real, str)):
        raise ValueError("not a number")
    try:
        return float(TRUTH.get(value, value))
    except (ValueError, OverflowError):
        raise ValueError("not a number") from None


def one_of(value: Any, *expected: int) -> int:
    if (found := number(value)) not in expected:
        raise ValueError(f"not one of {', '.join(map(str, expected))}")
    return int(found)


def in_order(
    prompt: Any, first: Any, second: Any, first_is_better: bool | None,
    scores: tuple[float, float] | None = None,
) -> Pair | None:  # fmt: skip
    if first_is_better is None:
        return None
    answers = (first, second) if first_is_better else (second, first)
    pair = {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}
    if scores is not None:
        best, worst = scores if first_is_better else scores[::-1]
        pair |= {"chosen_score": best, "rejected_score": worst}
    return pair


def by_strength(strength: Any, prompt: Any, first: Any, second: Any) -> Pair | None:
    """-3 to 3: below 0 the first answer is better, above 0 the second, 0 is a tie."""
    found = one_of(strength, -3, -2, -1, 0, 1, 2, 3)
    return in_order(prompt, first, second, found < 0 if found else None)


def best_and_worst(prompt: Any, answers: list, scores: list) -> Pair | None:
    """The pair of highest and lowest score; answers without a score have no vote."""
    if len(answers) != len(scores):
        raise ValueError("not one score for each answer")
    rated = [(number(score), answer) for score, answer in zip(scores, answers, strict=True)
             if not is_missing(score)]  # fmt: skip
    if len(rated) < 2:
        raise ValueError("fewer than two rated answers")
    best, worst = max(rated, key=_score), min(rated, key=_score)
    tied = best[0] == worst[0]
    return in_order(prompt, best[1], worst[1], None if tied else True, (best[0], worst[0]))


def _score(rated: tuple) -> float:
    return rated[0]


# Layouts -----------------------------------------------------------------------------------------


def shp(row: Row) -> Pair | None:
    a_is_better = one_of(row["labels"], 0, 1) == 1
    scores = None
    if "score_A" in row and "score_B" in row:
        scores = number(row["score_A"]), number(row["score_B"])
    return in_order(row["history"], row["human_ref_A"], row["human_ref_B"], a_is_better, scores)


def helpsteer2(row: Row) -> Pair | None:
    return by_strength(row["preference_strength"], row["prompt"], row["response_1"],
                       row["response_2"])  # fmt: skip


def helpsteer3(row: Row) -> Pair | None:
    return by_strength(row["overall_preference"], row["context"], row["response1"],
                       row["response2"])  # fmt: skip


def pku(row: Row, label: str) -> Pair | None:
    first_is_better = one_of(row[label], 0, 1) == 0
    return in_order(row["prompt"], row["response_0"], row["response_1"], first_is_better)


def arena(row: Row) -> Pair | None:
    if row["winner"] not in ARENA:
        raise ValueError(f"not one of {', '.join(ARENA)}")
    pair = in_order(None, row["conversation_a"], row["conversation_b"], ARENA[row["winner"]])
    return pair and {"chosen": pair["chosen"], "rejected": pair["rejected"]}  # they hold the prompt


ARENA = {"model_a": True, "model_b": False, "tie": None, "tie (bothbad)": None, "both_bad": None}


def nectar(row: Row) -> Pair | None:
    answers = row["answers"]
    scores = [-number(answer["rank"]) for answer in answers]
    return best_and_worst(row["prompt"], [answer["answer"] for answer in answers], scores)


def ultrafeedback(row: Row, score: str) -> Pair | None:
    answers = row["completions"]
    scores = [answer[score] for answer in answers]
    return best_and_worst(row["instruction"], [answer["response"] for answer in answers], scores)


def distilabel(row: Row) -> Pair | None:
    return best_and_worst(row["instruction"], row["generations"], row["ratings"])


def openai(row: Row) -> Pair | None:
    asked = row["input"]
    pair = in_order(asked["messages"], row["preferred_output"], row["non_preferred_output"], True)
    return pair and pair | {"tools": asked.get("tools") or None}


ALSO = ("score_A", "score_B")  # taken too, where they are there
STAY = ("preference_strength", "overall_preference")  # they say more than the pair does
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("shp", ("history", "human_ref_A", "human_ref_B", "labels"),
               "labels 1: human_ref_A is chosen; 0: human_ref_B", shp),
        Recipe("helpsteer2", ("prompt", "response_1", "response_2", "preference_strength"),
               "preference_strength below 0: response_1 is chosen; above 0: response_2; 0: a tie",
               helpsteer2),
        Recipe("helpsteer3", ("context", "response1", "response2", "overall_preference"),
               "overall_preference below 0: response1 is chosen; above 0: response2; 0: a tie",
               helpsteer3),
        Recipe("pku_better", ("prompt", "response_0", "response_1", "better_response_id"),
               "better_response_id (the more helpful one) is chosen",
               lambda row: pku(row, "better_response_id")),
        Recipe("pku_safer", ("prompt", "response_0", "response_1", "safer_response_id"),
               "safer_response_id (the less harmful one) is chosen",
               lambda row: pku(row, "safer_response_id")),
        Recipe("arena", ("conversation_a", "conversation_b", "winner"),
               "the winner's conversation is chosen; tie, tie (bothbad), both_bad: a tie", arena),
        Recipe("nectar", ("prompt", "answers"),
               "the answer of the lowest rank is chosen, that of the highest is rejected", nectar),
        Recipe("ultrafeedback", ("instruction", "completions"),
               "the highest fine-grained_score (mean of four ratings) against the lowest",
               lambda row: ultrafeedback(row, "fine-grained_score")),
        Recipe("ultrafeedback_overall", ("instruction", "completions"),
               "the highest overall_score against the lowest; early versions of the data hold "
               "10 where the judge said 1",
               lambda row: ultrafeedback(row, "overall_score")),
        Recipe("distilabel", ("instruction", "generations", "ratings"),
               "the generation of the highest rating is chosen, that of the lowest is rejected",
               distilabel),
        Recipe("openai", ("input", "preferred_output", "non_preferred_output"),
               "preferred_output is chosen", openai),
    )
}  # fmt: skip
