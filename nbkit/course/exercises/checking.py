"""Run a learner's function on fresh cases and say, in one line, how it went.

An exercise is its right solution, a way to draw cases, and its usual mistakes. A mistake is mostly
the wrong solution itself with a hint: if a learner's wrong answers are that solution's, that was
the mistake. Nothing here raises for what a learner wrote, so "Run All" goes on.
"""

import copy
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch

DRAWS = 1_000
PASSED, FAILED, NOT_ATTEMPTED = "passed", "failed", "not attempted"


@dataclass(frozen=True)
class Result:
    """How an exercise went.

    Attributes:
        exercise: its name.
        status: "passed", "failed" or "not attempted".
        hint: what the mistake may be; empty if there is none.
        passed: whether it is.

    Example:
        >>> import nbkit as nb
        >>> result = nb.course.exercises.check_win_rate(lambda rewards, baseline_rewards: 0.5)
        >>> result.status, result.passed
        ('failed', False)
    """

    exercise: str
    status: str
    hint: str = ""

    @property
    def passed(self) -> bool:
        return self.status == PASSED

    def __repr__(self) -> str:
        if self.status == FAILED:
            return f"{self.exercise}: not yet. {self.hint}"
        return f"{self.exercise}: {self.status}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True)
class Mistake:
    """A hint, and `matches(answer, expected, *case)`: whether a wrong answer is this mistake's."""

    hint: str
    matches: Callable[..., bool]


@dataclass(frozen=True)
class Exercise:
    name: str
    arguments: str  # as the learner's function takes them, for messages
    solve: Callable
    draw: Callable[[np.random.Generator], list[tuple]]  # fresh cases: the arguments of each
    read: Callable  # turns an answer into a float, an array or a list, or raises WrongKind
    mistakes: list[Mistake]


class WrongKind(Exception):
    """An answer of another type or number of dimensions than was asked for."""


def answers_like(wrong_solution: Callable, hint: str) -> Mistake:
    """The mistake of having written `wrong_solution`."""
    return Mistake(hint, lambda answer, expected, *case: same(answer, wrong_solution(*case)))


def check(exercise: Exercise, learner: Callable, seed: int | None = None) -> Result:
    """Run `learner` on fresh cases; the same ones again if `seed` is given."""

    def failed(hint: str) -> Result:
        return Result(exercise.name, FAILED, hint)

    if not callable(learner):
        return failed(f"Got {_short(learner)}; pass your function itself, without calling it.")
    cases = exercise.draw(np.random.default_rng(seed))
    if not _takes(learner, cases[0]):
        return failed(f"Your function must take the arguments ({exercise.arguments}).")

    wrong = []
    for case in cases:
        try:
            answer = learner(*copy.deepcopy(case))
        except NotImplementedError:
            return Result(exercise.name, NOT_ATTEMPTED)
        except Exception as error:  # whatever a learner's code does, the notebook goes on
            return failed(_raised(error, learner))
        if answer is Ellipsis:
            return Result(exercise.name, NOT_ATTEMPTED)
        if answer is None:
            return Result(exercise.name, NOT_ATTEMPTED, "your function returns None")
        try:
            answer = exercise.read(answer)
        except WrongKind as kind:
            return failed(str(kind))
        expected = exercise.read(exercise.solve(*case))
        if not same(answer, expected):
            wrong.append((answer, expected, case))

    if not wrong:
        return Result(exercise.name, PASSED)
    for mistake in exercise.mistakes:
        if all(mistake.matches(answer, expected, *case) for answer, expected, case in wrong):
            return failed(mistake.hint)
    answer, expected, _ = wrong[0]
    share = f"Wrong in {len(wrong)} of {len(cases)} cases."
    if np.shape(answer) != np.shape(expected):
        return failed(
            f"{share} In the first, your answer has shape {list(np.shape(answer))}; "
            f"expected {list(np.shape(expected))}."
        )
    return failed(
        f"{share} In the first, your answer is {_short(answer)}; expected {_short(expected)}."
    )


def same(answer: Any, expected: Any) -> bool:
    """Equal in shape and, for numbers, within float32 rounding."""
    answer, expected = (np.asarray(_plain(value)) for value in (answer, expected))
    if answer.shape != expected.shape:
        return False
    if answer.dtype.kind in "OUS" or expected.dtype.kind in "OUS":
        return answer.tolist() == expected.tolist()
    return np.allclose(answer.astype(float), expected.astype(float), rtol=1e-4, atol=1e-5)


def telling(rng: np.random.Generator, draw: Callable, *solutions: Callable) -> tuple:
    """A case from `draw(rng)` by which all solutions, right and wrong, can be told apart."""
    two_of_them = list(combinations(range(len(solutions)), 2))
    never_apart = set(two_of_them)
    for _ in range(DRAWS):
        case = draw(rng)
        answers = [solution(*case) for solution in solutions]
        alike = {(a, b) for a, b in two_of_them if same(answers[a], answers[b])}
        if not alike:
            return case
        never_apart &= alike
    raise RuntimeError(
        f"In {DRAWS} draws no case told all solutions apart: are two the same? Never apart (0 is "
        f"the right one, 1 the first mistake): {sorted(never_apart) or 'none'}."
    )


def told_apart(
    name: str, arguments: str, solve: Callable, case: Callable, read: Callable, wrong: list[tuple]
) -> Exercise:
    """An exercise of three cases, each of which tells the right and all wrong solutions apart.

    `case(rng)` draws one; `wrong` is a list of (wrong solution, hint).
    """
    wrong_solutions = [solution for solution, _ in wrong]

    def draw(rng: np.random.Generator) -> list[tuple]:
        return [telling(rng, case, solve, *wrong_solutions) for _ in range(3)]

    mistakes = [answers_like(solution, hint) for solution, hint in wrong]
    return Exercise(name, arguments, solve, draw, read, mistakes)


# Reading answers ---------------------------------------------------------------------------------


def number(what: str) -> Callable:
    """A reader of one number: a float, a NumPy number or a tensor of shape []."""

    def read(answer: Any) -> float:
        value = _array(answer, what)
        if isinstance(answer, (bool, np.bool_)) or value.dtype.kind == "b":
            raise WrongKind(f"Your function returned {_short(answer)}; expected {what}.")
        if value.shape != ():
            raise WrongKind(f"Your function returned shape {list(value.shape)}; expected {what}.")
        return float(value)

    return read


def vector(what: str) -> Callable:
    """A reader of numbers in one dimension: a tensor, an array, a Series or a list."""

    def read(answer: Any) -> np.ndarray:
        value = _array(answer, what)
        if value.ndim != 1:
            raise WrongKind(f"Your function returned shape {list(value.shape)}; expected {what}.")
        return value.astype(float)

    return read


def mask(what: str) -> Callable:
    """A reader of a mask in one dimension: bool, or numbers that are 0 or 1."""

    def read(answer: Any) -> np.ndarray:
        value = vector(what)(answer)
        if not np.isin(value, (0, 1)).all():
            raise WrongKind(
                f"Your function returned other values than True and False "
                f"({_short(value)}); expected {what}."
            )
        return value.astype(bool)

    return read


def _array(answer: Any, what: str) -> np.ndarray:
    try:
        value = np.asarray(_plain(answer))
    except (TypeError, ValueError, RuntimeError):  # ragged lists and the like
        value = np.asarray(None)
    if value.dtype.kind not in "biuf":
        raise WrongKind(
            f"Your function returned a {type(answer).__name__} ({_short(answer)}); expected {what}."
        )
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().float().numpy()
    if isinstance(value, (list, tuple)) and any(isinstance(part, torch.Tensor) for part in value):
        return [_plain(part) for part in value]
    return value


# Words -------------------------------------------------------------------------------------------


def _takes(learner: Callable, case: tuple) -> bool:
    try:
        inspect.signature(learner).bind(*case)
    except TypeError:
        return False
    except ValueError:  # some built-ins have no signature to look at
        pass
    return True


def _raised(error: Exception, learner: Callable) -> str:
    """The exception and the line of the learner's own code from which it came."""
    message = " ".join(str(error).split())
    said = f"Your function raised {type(error).__name__}: {message:.200}"
    file = getattr(getattr(learner, "__code__", None), "co_filename", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not own:
        return said
    line = f" `{own[-1].line.strip()}`" if own[-1].line else ""
    return f"{said} (line {own[-1].lineno}:{line})"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray):
        value = value.round(4).tolist() if value.dtype.kind == "f" else value.tolist()
    if isinstance(value, (pd.Series, pd.DataFrame)):
        return f"a {type(value).__name__} of shape {list(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:79] + "…"
