"""Each checker accepts right solutions, and rejects each usual mistake with that mistake's hint.

The solutions lie in `test_exercises_<topic>.py`, which are found by their names; they are written
as learners would, on their own, not taken from `nbkit.course.exercises`:

    RIGHT = {"check_x": [solution, ...]}                       two or more, written differently
    WRONG = {"check_x": [(solution, part of its hint), ...]}   every hint is reached by one
    SPECIAL = (beginning of a hint, ...)    optional: all other mistakes are wrong in every case

What is particular to a topic is tested in its own file.
"""

import itertools
import pkgutil
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.course import exercises
from nbkit.course.exercises import Result, checking

SEEDS = range(3)
SOLUTIONS = [import_module(file.stem) for file in Path(__file__).parent.glob("test_exercises_*.py")]
RIGHT = {name: found for module in SOLUTIONS for name, found in module.RIGHT.items()}
WRONG = {name: found for module in SOLUTIONS for name, found in module.WRONG.items()}
IN_EVERY_CASE = {name: module.SPECIAL for module in SOLUTIONS if hasattr(module, "SPECIAL")
                 for name in module.WRONG}  # fmt: skip
PLACES = {  # Exercise.name -> (its module, its name there)
    value.name: (module, attribute)
    for found in pkgutil.iter_modules(exercises.__path__, "nbkit.course.exercises.")
    for module in [import_module(found.name)]
    for attribute, value in vars(module).items()
    if isinstance(value, checking.Exercise)
}
EXERCISES = {name: getattr(*place) for name, place in PLACES.items()}
EVERY = pytest.mark.parametrize("name", sorted(RIGHT))


def check(name, learner, seed=None) -> Result:
    return getattr(exercises, name)(learner, seed=seed)


def remembering(draw):
    """`draw`, which does not draw again what it drew before: that takes longer than checking."""
    drawn = {}

    def draw_once(rng):
        state = str(rng.bit_generator.state)
        if state not in drawn:
            drawn[state] = draw(rng)
        return drawn[state]

    return draw_once


@pytest.fixture(scope="module", autouse=True)
def draws_are_remembered():
    with pytest.MonkeyPatch.context() as patch:
        for name, place in PLACES.items():
            exercise = EXERCISES[name]
            patch.setattr(*place, replace(exercise, draw=remembering(exercise.draw)))
        yield


def unfinished(public: set, defined: set, right: dict, wrong: dict) -> list[str]:
    """What is missing of each exercise, and what to do."""
    steps = {
        "is not exported: import it in nbkit/course/exercises/__init__.py, and add it to __all__": (
            public
        ),
        "has no Exercise of that name: define one in the file that defines the checker": defined,
        "is not in RIGHT of a tests/test_exercises_*.py: give two solutions, written differently": {
            name for name, solutions in right.items() if len(solutions) >= 2
        },
        "is not in WRONG of a tests/test_exercises_*.py: give its usual mistakes": set(wrong),
    }
    every = sorted(set().union(*steps.values(), right))
    return [f"{name} {step}" for name in every for step, done in steps.items() if name not in done]


def test_every_exercise_is_public_and_is_tried():
    public = {name for name in exercises.__all__ if name.startswith("check_")}
    assert not (found := unfinished(public, set(EXERCISES), RIGHT, WRONG)), "\n".join(found)


def test_an_exercise_that_is_not_finished_is_told_what_is_missing():
    full = {"check_x"}
    solutions = {"check_x": [abs, abs]}
    assert unfinished(full, full, solutions, solutions) == []
    for broken, says in (
        ((set(), full, solutions, solutions), "check_x is not exported: import it in"),
        ((full, set(), solutions, solutions), "check_x has no Exercise of that name"),
        ((full, full, {"check_x": [abs]}, solutions), "check_x is not in RIGHT .*: give two"),
        ((full, full, solutions, {}), "check_x is not in WRONG"),
    ):
        (found,) = unfinished(*broken)
        assert re.match(says, found)


@EVERY
def test_right_solutions_pass(name):
    for learner, seed in itertools.product(RIGHT[name], SEEDS):
        result = check(name, learner, seed)
        assert result == Result(name, "passed") and result.passed, learner
    assert repr(result) == f"{name}: passed"


# Usual mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, learner, hint", [(name, *case) for name in sorted(WRONG) for case in WRONG[name]]
)
def test_usual_mistakes_get_their_own_hint(name, learner, hint):
    for seed in SEEDS:
        result = check(name, learner, seed)
        assert not result.passed and result.status == "failed"
        assert hint in result.hint
    assert repr(result).startswith(f"{name}: not yet. ") and "\n" not in repr(result)


@EVERY
def test_every_hint_is_reached_by_some_wrong_solution(name):
    reached = {check(name, learner, seed=0).hint for learner, _ in WRONG[name]}
    unreached = {mistake.hint for mistake in EXERCISES[name].mistakes} - reached
    assert not unreached, f"{name}: no solution in WRONG gets these hints; add one: {unreached}"


@EVERY
def test_a_hint_looked_for_is_in_one_mistake_only(name):
    """Otherwise the tests above could take one hint for another."""
    hints = {mistake.hint for mistake in EXERCISES[name].mistakes}
    for _, wanted in WRONG[name]:
        assert sum(wanted in hint for hint in hints) <= 1, wanted


@pytest.mark.parametrize("name", sorted(IN_EVERY_CASE))
def test_no_case_hides_a_usual_mistake(name):
    exercise, special = EXERCISES[name], IN_EVERY_CASE[name]
    learners = [learner for learner, hint in WRONG[name] if not hint.startswith(special)]
    for seed in range(20):
        for case in exercise.draw(np.random.default_rng(seed)):
            right = exercise.read(exercise.solve(*case))
            for learner in learners:
                try:
                    answer = exercise.read(learner(*case))
                except checking.WrongKind:
                    continue
                assert not checking.same(answer, right), (learner, case)


# Stubs, hard-coded answers, fresh cases ----------------------------------------------------------


def raises(*args):
    raise NotImplementedError


def dots(*args):
    return ...


def nothing(*args):
    pass


@EVERY
@pytest.mark.parametrize("stub", [raises, dots, nothing])
def test_untouched_stubs_are_not_attempted(name, stub):
    result = check(name, stub)
    assert result.status == "not attempted" and not result.passed
    assert repr(result).startswith(f"{name}: not attempted")


ODD = [
    0, 0.5, True, "text", b"", {}, [], [[1], [1, 2]], {"a"}, object(), float("nan"), np.zeros(0),
    torch.zeros(2, 2), [None], [torch.zeros(1), torch.zeros(2)], 1j, torch.zeros(2) > 0,
    {"p00": [1]}, {"p00": 1, 2: 3}, {("p", 0): None}, pd.Series(["a"], ["p00"]), pd.Series([]),
    pd.Series([1, 2], ["p00", "p00"]), pd.DataFrame({"p00": [1]}), pd.NA, np.inf, (1.0, 2.0, 3.0),
]  # fmt: skip


@EVERY
def test_odd_and_hard_coded_answers_fail_with_a_hint_and_without_an_error(name):
    for answer in ODD:
        result = check(name, lambda *case: answer, seed=0)  # noqa: B023 - called here and now
        assert result.status == "failed" and result.hint and "\n" not in result.hint, answer


@EVERY
def test_an_answer_learnt_by_heart_fails_on_fresh_cases(name):
    """A function that gives the right answers of one run, in order, fails in the next."""
    answers = []

    def record(*case):
        answers.append(RIGHT[name][0](*case))
        return answers[-1]

    assert check(name, record, seed=0).passed
    known = itertools.cycle(answers)
    assert check(name, lambda *case: next(known), seed=1).status == "failed"


@EVERY
def test_what_is_no_fitting_function_is_told_so(name):
    assert "without calling it" in check(name, 0.69).hint
    hint = f"Your function must take the arguments ({EXERCISES[name].arguments})."
    assert check(name, lambda: 1).hint == hint


# Exceptions and cases ----------------------------------------------------------------------------


def crashes(scores):
    scores = scores.dropna()
    return scores.loc["no such id"]  # the line to be named


def test_an_exception_is_shown_with_its_line():
    line = crashes.__code__.co_firstlineno + 2
    result = exercises.check_easiest(crashes)
    assert result.status == "failed"
    assert result.hint == (
        "Your function raised KeyError: 'no such id' "
        f'(line {line}: `return scores.loc["no such id"]  # the line to be named`)'
    )


def test_an_exception_from_a_notebook_cell_is_shown_with_its_line():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        shell.run_cell("def mine(margin):\n    weight = 1 / 0\n    return weight\n")
        result = exercises.check_dpo_gradient_weight(shell.user_ns["mine"])
    finally:
        InteractiveShell.clear_instance()
    assert result.hint == (
        "Your function raised ZeroDivisionError: division by zero (line 2: `weight = 1 / 0`)"
    )


def test_a_function_that_changes_its_arguments_does_not_spoil_the_check():
    def changes_them(chosen, rejected, ref_chosen, ref_rejected, beta):
        chosen -= ref_chosen
        rejected -= ref_rejected
        return beta * (chosen - rejected)

    assert exercises.check_implicit_margin(changes_them).passed


def test_a_case_is_drawn_again_until_it_tells_solutions_apart():
    draws = itertools.count()
    case = checking.telling(
        None, lambda rng: (next(draws),), lambda x: x, lambda x: 2 * x, lambda x: 3
    )
    assert case == (1,)  # 0 is its own double; at 1 the answers are 1, 2 and 3


def test_solutions_that_never_differ_are_said_to_be_the_same():
    with pytest.raises(RuntimeError, match=r"are two the same.*\[(\(0, 1\))\]"):
        checking.telling(None, lambda rng: (1,), lambda x: x, lambda x: x)
