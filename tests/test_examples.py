"""Every public function, class and method: described in Google's style, with an example that runs.

Public is what `nbkit/__init__.pyi` lists, and what each namespace in it lists as `__all__`. Run one
with `pytest tests/test_examples.py -k load_pairs`.
"""

import doctest
import inspect
import re
from types import ModuleType
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest
import torch

import nbkit as nb
from nbkit.models import devices

SECTIONS = {"Args", "Returns", "Yields", "Raises", "Example", "Examples"}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WRITE_ONE = (
    "Write `Example:` and under it, indented, two to six lines that a reader can paste: "
    "`>>> import nbkit as nb`, a call on a few pairs of the world, and what it shows (rounded)."
)


def public_names(namespace: ModuleType = nb, called: str = "nb") -> dict:
    """`nb.select.easiest` -> the function, ..., and the public methods of classes."""
    found = {}
    for name in namespace.__all__:
        thing, its_name = getattr(namespace, name), f"{called}.{name}"
        if inspect.ismodule(thing):
            found |= public_names(thing, its_name)
        elif inspect.isfunction(thing):
            found[its_name] = thing
        elif inspect.isclass(thing):
            found[its_name] = thing
            for method, function in vars(thing).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    found[f"{its_name}.{method}"] = function
    return found


def sections_of(doc: str) -> dict[str, list[str]]:
    """The lines under each heading, such as `Args:`, at the left of a docstring."""
    found, lines = {}, []
    for line in doc.splitlines():
        if heading := re.fullmatch(r"([A-Z]\w+):", line):
            lines = found.setdefault(heading[1], [])
        elif line and not line.startswith(" "):
            lines = []
        else:
            lines.append(line)
    return found


def described(lines: list[str]) -> set[str]:
    """The names before a colon: `name: what it is`, `low, high: ends`, `**lora: more`."""
    entries = (re.match(r" {4}((\*{0,2}\w+(, )?)+): \S", line) for line in lines)
    return {name for entry in entries if entry for name in entry[1].split(", ")}


def arguments_of(thing) -> set[str]:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(thing).parameters.values()
    return {stars.get(p.kind, "") + p.name for p in parameters if p.name != "self"}


def docstring_problems(thing) -> list[str]:
    """What to do about the docstring of a function or class."""
    doc = inspect.cleandoc(thing.__doc__ or "")
    if not doc or doc.startswith(f"{thing.__name__}("):  # the latter is made by dataclasses
        return [f"It has no docstring. Say in a sentence what it gives, then `Args:`. {WRITE_ONE}"]
    sections = sections_of(doc)
    allowed = SECTIONS | {"Attributes"} if inspect.isclass(thing) else SECTIONS
    problems = [
        f"`{name}:` is no section of ours; expected one of {', '.join(sorted(allowed))}."
        for name in sections.keys() - allowed
    ]
    if re.search(r"^ *---+$", doc, re.MULTILINE):
        problems.append("A heading is underlined (NumPy's style); write `Args:` as Google does.")
    arguments, given = arguments_of(thing), described(sections.get("Args", []))
    fields = described(sections.get("Attributes", []))
    problems += [
        f"`{name}` is not described: write `{name}: what it is, its unit or shape` under `Args:`"
        " (or, of a class, under `Attributes:`)."
        for name in sorted(arguments - given - fields)
    ]
    problems += [
        f"`{name}` is described, and there is no such argument or attribute: take it out."
        for name in sorted((given - arguments) | (fields - arguments - set(dir(thing))))
    ]
    if not any(
        ">>> " in line for name in ("Example", "Examples") for line in sections.get(name, [])
    ):
        problems.append(f"It has no example. {WRITE_ONE}")
    return problems


def example_problem(thing, name: str) -> str:
    """What Python's doctest says of the example: nothing, if all of it comes out as shown."""
    doc, file = inspect.cleandoc(thing.__doc__ or ""), inspect.getsourcefile(thing)
    line = inspect.getsourcelines(thing)[1]
    said = []
    test = doctest.DocTestParser().get_doctest(doc, {}, name, file, line)
    doctest.DocTestRunner(verbose=False, optionflags=OPTIONS).run(test, out=said.append)
    return "".join(said)


PUBLIC = public_names()


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring(name):
    if problems := docstring_problems(PUBLIC[name]):
        where = inspect.getsourcefile(PUBLIC[name])
        pytest.fail("\n- ".join([f"{name}, in {where}", *problems]), pytrace=False)


@pytest.mark.parametrize("name", PUBLIC)
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "default_device", lambda: torch.device("cpu"))  # its digits
    problem = example_problem(PUBLIC[name], name)
    plt.close("all")  # what a notebook does after it has shown them
    if problem:
        pytest.fail(f"{problem}\nCorrect the example, or what it found broken.", pytrace=False)


# --- the checks find what they forbid -----------------------------------------------------------


def share_kept(pairs, *keep, least=0):
    return max(least, len(keep) / len(pairs))


class Kept(NamedTuple):
    pairs: list
    keep: list

    share = property(share_kept)


FINE = """The share of pairs that is kept, 0 to 1.

    Args:
        pairs: a list.
        *keep: ids.
        least: what it gives
            at least.

    Example:
        >>> from statistics import mean
        >>> mean([0.123, 0.123])
        0.12...
    """
FINE_CLASS = """What is kept.

    Attributes:
        pairs, keep: lists.
        share: of the pairs, 0 to 1.

    Example:
        >>> 1 + 1
        2
    """


def test_the_public_names_are_seen():
    """Were `public_names` blind, the tests above could not fail."""
    assert {"nb.load_pairs", "nb.Policy", "nb.Policy.save", "nb.select.easiest"} <= PUBLIC.keys()
    assert {"nb.plots.margins", "nb.course.exercises.check_easiest"} <= PUBLIC.keys()


@pytest.mark.parametrize("thing, doc", [(share_kept, FINE), (Kept, FINE_CLASS)])
def test_what_is_fine_is_passed(monkeypatch, thing, doc):
    monkeypatch.setattr(thing, "__doc__", doc)
    assert not docstring_problems(thing) and not example_problem(thing, "it")


@pytest.mark.parametrize(
    "right, wrong, problem",
    [
        (FINE, "", "has no docstring"),
        ("    Example:", "    In Python:", "has no example"),
        (">>> ", "", "has no example"),
        ("        least: what", "        what", "`least` is not described"),
        ("*keep:", "keep:", r"`\*keep` is not described"),
        ("*keep:", "keep:", "`keep` is described, and there is no such argument"),
        ("Args:", "Attributes:", "`Attributes:` is no section of ours"),
        ("Args:", "Parameters:", "`Parameters:` is no section of ours"),
        ("Args:", "Args\n    ----", "underlined"),
    ],
)
def test_a_docstring_that_lacks_something_is_found(monkeypatch, right, wrong, problem):
    monkeypatch.setattr(share_kept, "__doc__", FINE.replace(right, wrong))
    found = docstring_problems(share_kept)
    assert any(re.search(problem, one) for one in found), found


@pytest.mark.parametrize(
    "right, wrong, problem",
    [
        (FINE_CLASS, "", "has no docstring"),
        (FINE_CLASS, "Kept(pairs: list, keep: list)", "has no docstring"),
        ("pairs, keep:", "pairs:", "`keep` is not described"),
        ("share:", "size:", "`size` is described, and there is no such"),
    ],
)
def test_a_docstring_of_a_class_too(monkeypatch, right, wrong, problem):
    monkeypatch.setattr(Kept, "__doc__", FINE_CLASS.replace(right, wrong))
    found = docstring_problems(Kept)
    assert any(problem in one for one in found), found


@pytest.mark.parametrize(
    "right, wrong, problem",
    [
        ("0.12...", "0.13", "Expected:\n    0.13\nGot:\n    0.12"),
        ("        >>> from statistics import mean\n", "", "NameError: name 'mean' is not defined"),
    ],
)
def test_an_example_that_does_not_hold_is_found(monkeypatch, right, wrong, problem):
    monkeypatch.setattr(share_kept, "__doc__", FINE.replace(right, wrong))
    assert problem in example_problem(share_kept, "share_kept")
