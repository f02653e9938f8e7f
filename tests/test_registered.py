"""What is public is listed, and tested: a forgotten step fails here, and says what to do.

Two more steps are held elsewhere: a docstring with an example that runs by test_examples.py, a page
of the reference by the docs build. CONTRIBUTING.md goes through all of them.
"""

import ast
import inspect
import re
from pathlib import Path

import pytest

import nbkit as nb

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nbkit"
LESSONS = PACKAGE / "course" / "lessons"
# Folders whose functions are for users, and the file in each that lists them.
LISTED = ("scores", "plots", "course/exercises")


# --- the rules ----------------------------------------------------------------------------------


def forgotten(package: Path, folder: str) -> list[str]:
    """Functions of a folder with a public name that its `__init__.pyi` does not list, and that
    nothing uses."""
    files = syntax(package)
    used = {file: names_used(*tree.body) for file, tree in files.items()}
    found = []
    for path in (package / folder).glob("*.py"):
        elsewhere = names_in_all(package / folder / "__init__.pyi").union(
            *(names for file, names in used.items() if file != path)
        )
        for function in (node for node in files[path].body if isinstance(node, ast.FunctionDef)):
            rest = [node for node in files[path].body if node is not function]
            name = function.name
            if not name.startswith("_") and name not in elsewhere | names_used(*rest):
                found.append(
                    f"{folder}/{path.name}: nothing uses {name}, and it is not public. Import it "
                    f"in nbkit/{folder}/__init__.pyi and add it to __all__ there; or begin its "
                    "name with an underscore."
                )
    return found


def untested(public: dict[str, str], tests: set[str]) -> list[str]:
    """Public functions (how they are called -> their name) that no test names."""
    return [
        f"{called} is in no test: write one in tests/, and break the function once to see it fail."
        for called, name in public.items()
        if name not in tests
    ]


def listing_problems(folder: Path) -> list[str]:
    """Files of a folder against those that its docstring tells of, under `Files::`."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    if "Files::" not in text:
        return []
    block = text.partition("Files::\n\n")[2].partition("\n\n")[0]
    told = set(re.findall(r"\b\w+\.py\b|^ {4}\w+/", block, re.MULTILINE))
    told = {name.strip() for name in told}
    there = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    there |= {f"{path.name}/" for path in folder.iterdir() if any(path.glob("*.py"))}
    what_to_do = "mend the list `Files::` there"
    found = [f"{folder.name}/__init__.py tells of no {name}: {what_to_do}" for name in there - told]
    found += [f"{folder.name}/ has no {name}: {what_to_do}" for name in told - there]
    return sorted(found)


def syntax(folder: Path) -> dict[Path, ast.Module]:
    """The syntax of every Python file under a folder, but for lessons."""
    files = [path for path in folder.rglob("*.py") if path.parent != LESSONS]
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(files)}


def names_in_all(file: Path) -> set[str]:
    """`__all__` of a file."""
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise ValueError(f"{file} has no __all__")


def names_used(*nodes: ast.AST) -> set[str]:
    """All names that code reads or imports."""
    found = set()
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
    return found


def names_in_tests(*nodes: ast.AST) -> set[str]:
    """All names, and all texts: the tests name checkers by text."""
    inner = (node for outer in nodes for node in ast.walk(outer))
    texts = {node.value for node in inner if isinstance(node, ast.Constant)}
    return names_used(*nodes) | {text for text in texts if isinstance(text, str)}


def public_functions(namespace=nb, called: str = "nb") -> dict[str, str]:
    """`nb.select.top` -> `top`, ...: the functions of nbkit and of its namespaces."""
    found = {}
    for name in namespace.__all__:
        thing = getattr(namespace, name)
        if inspect.ismodule(thing) and hasattr(thing, "__all__"):
            found |= public_functions(thing, f"{called}.{name}")
        elif inspect.isfunction(thing):
            found[f"{called}.{name}"] = name
    return found


# --- the rules, on the package ------------------------------------------------------------------


@pytest.mark.parametrize("folder", LISTED)
def test_what_is_for_users_is_listed(folder):
    assert not (found := forgotten(PACKAGE, folder)), "\n".join(found)


def test_every_public_function_is_in_a_test():
    tests = names_in_tests(*syntax(ROOT / "tests").values())
    assert not (found := untested(public_functions(), tests)), "\n".join(found)


def test_folders_tell_of_their_files():
    folders = [file.parent for file in PACKAGE.rglob("__init__.py")]
    found = [problem for folder in folders for problem in listing_problems(folder)]
    assert not found, "\n".join(found)


def test_every_checker_is_called_in_a_lesson():
    called = names_used(*(ast.parse(path.read_text("utf-8")) for path in LESSONS.glob("*.py")))
    checkers = {name for name in nb.course.exercises.__all__ if name.startswith("check_")}
    assert not (unused := sorted(checkers - called)), (
        f"{', '.join(unused)}: called in no lesson. Put the exercise and its check into a source "
        "in nbkit/course/lessons/, and run nbkit course build NN."
    )


# --- the rules find what they forbid ------------------------------------------------------------


@pytest.fixture
def package(tmp_path):
    """A package with one listed score, a helper of two files, and a helper of one."""
    files = {
        "scores/__init__.pyi": 'from .margins import margin\n\n__all__ = ["margin"]\n',
        "scores/__init__.py": '"""Scores.\n\nFiles::\n\n    margins.py   margins\n"""\n',
        "scores/margins.py": "def margin(table): return once(table)\n"
        "def once(table): return table\ndef checked(table): return table\n",
        "other.py": "from scores.margins import checked\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_score_that_is_in_no_list_is_found(package):
    assert forgotten(package, "scores") == []
    text = "def toy(table):\n    toy = table\n    return toy\ndef _hidden(): pass\n"
    (package / "scores" / "toy.py").write_text(text)
    (found,) = forgotten(package, "scores")
    assert found.startswith("scores/toy.py: nothing uses toy, and it is not public. Import it in ")
    assert "nbkit/scores/__init__.pyi and add it to __all__" in found


def test_a_file_that_its_folder_does_not_tell_of_is_found(package):
    scores = package / "scores"
    assert listing_problems(scores) == []
    (scores / "margins.py").rename(scores / "toy.py")
    assert listing_problems(scores) == [
        "scores/ has no margins.py: mend the list `Files::` there",
        "scores/__init__.py tells of no toy.py: mend the list `Files::` there",
    ]


def test_a_function_in_no_test_is_found():
    code = "nb.select.top(x)\nfrom nbkit import sample\nRIGHT = {'check_a': [1]}"
    tests = names_in_tests(ast.parse(code))
    public = {"nb.select.top": "top", "nb.sample": "sample", "nb.x.check_a": "check_a"}
    assert untested(public, tests) == []
    (found,) = untested(public | {"nb.scores.toy": "toy"}, tests)
    assert found.startswith("nb.scores.toy is in no test: write one in tests/")


def test_the_readers_see_the_package():
    """Were they blind, the rules could not fail."""
    assert {"nb.compare", "nb.scores.irm", "nb.plots.margins"} <= public_functions().keys()
    assert len(syntax(PACKAGE)) > 80 and LESSONS.joinpath("00_setup_and_tour.py").exists()
