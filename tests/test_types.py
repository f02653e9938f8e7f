"""Types are shipped: the stubs tell the truth, and an editor follows the code that people write."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import nbkit

ROOT = Path(__file__).resolve().parents[1]
STUBS = {
    ".".join(path.parent.relative_to(ROOT).parts): path.read_text("utf-8")
    for path in (ROOT / "nbkit").rglob("*.pyi")
}
LESSON = ROOT / "nbkit/course/lessons/00_setup_and_tour.py"
WRONG = """
import nbkit as nb

nb.load_policy(3)
nb.load_pairs("mine.jsonl", on_bad="drop").column_names
nb.load_pairs("mine.jsonl").column_names  # this one is right
nb.scores.no_such_score
"""


# Stubs -------------------------------------------------------------------------------------------


def stub_problems(stub: str, package: str) -> list[str]:
    """Where a stub does not say what the package has at run time, or its `__all__` is not the
    sorted names that it imports."""
    there, names, listed, problems = importlib.import_module(package), [], [], []
    for node in ast.parse(stub).body:
        if isinstance(node, ast.Assign):
            listed = ast.literal_eval(node.value)
        if isinstance(node, ast.ImportFrom):
            home = "." * node.level + (node.module or "")
            for name in (alias.name for alias in node.names):
                names.append(name)
                if getattr(there, name, None) is not _imported(home, name, package):
                    problems.append(f"{package}.{name} is not that of {home}")
    if listed != sorted(names):
        problems.append(f"__all__ is not the imported names, sorted: {listed}")
    if sorted(there.__all__) != sorted(names):
        problems.append(f"{package} has other names: {sorted({*there.__all__} ^ {*names})}")
    return problems


def _imported(home: str, name: str, package: str):
    """What `from home import name` gives in the package, or a text that is nothing of it."""
    module = importlib.import_module(home, package)
    if hasattr(module, name):
        return getattr(module, name)
    try:
        return importlib.import_module(f"{module.__name__}.{name}")
    except ModuleNotFoundError:
        return "missing"


@pytest.mark.parametrize("package", STUBS)
def test_a_stub_says_what_is_there(package):
    assert stub_problems(STUBS[package], package) == []


def test_a_stub_that_lies_is_found():
    stub = STUBS["nbkit.scores"]
    ches = "from .displacement import ches"
    assert ches in stub and '    "ches",\n' in stub
    assert stub_problems(stub.replace(ches, "from .margins import ches"), "nbkit.scores")
    assert stub_problems(stub.replace('    "ches",\n', ""), "nbkit.scores")
    assert stub_problems(stub.replace('"bees"', '"ches", "bees"', 1), "nbkit.scores")
    assert stub_problems(stub.replace(f"{ches}\n", "").replace('    "ches",\n', ""), "nbkit.scores")


# Annotations -------------------------------------------------------------------------------------


def public(names: dict) -> dict:
    """The public functions and classes by their path, those of namespaces included."""
    found = {}
    for path, thing in names.items():
        if isinstance(thing, ModuleType):
            found |= public({f"{path}.{name}": getattr(thing, name) for name in thing.__all__})
        elif callable(thing):
            found[path] = thing
    return found


def unannotated(thing) -> list[str]:
    """Parameters without a type, and `return` where what comes back has none; of a class, those of
    its public methods and properties."""
    if inspect.isclass(thing):
        own = {name: getattr(member, "fget", getattr(member, "__func__", member))
               for name, member in vars(thing).items()
               if name == "__call__" or not name.startswith("_")}  # fmt: skip
        return [f"{name}: {what}" for name, function in own.items()
                if inspect.isfunction(function) for what in unannotated(function)]  # fmt: skip
    if not inspect.isfunction(thing):  # an object that can be called: its class is looked at
        return unannotated(type(thing))
    signature = inspect.signature(thing)
    without = [name for name, parameter in signature.parameters.items()
               if parameter.annotation is parameter.empty and name != "self"]  # fmt: skip
    return without + ["return"] * (signature.return_annotation is signature.empty)


def test_every_public_function_says_what_it_takes_and_gives():
    surface = public({name: getattr(nbkit, name) for name in nbkit.__all__})
    assert {"train_dpo", "scores.influence", "world.reward", "course.readiness"} <= set(surface)
    missing = {path: found for path, thing in surface.items() if (found := unannotated(thing))}
    assert not missing, f"Annotate these (an editor reads them): {missing}"


def test_a_forgotten_annotation_is_found():
    class Thing:
        @property
        def size(self): ...

        def grow(self, by: int, *more) -> None: ...

    def half(a: int, b): ...

    assert unannotated(half) == ["b", "return"]
    assert unannotated(Thing) == ["size: return", "grow: more"]


# Editors -----------------------------------------------------------------------------------------


def test_an_editor_follows_the_code_of_readme_and_lesson(tmp_path):
    """Pyright, which reads types in VS Code and others, has nothing against code that is right,
    solutions included, and finds what is wrong."""
    pytest.importorskip("pyright", reason='pip install -e ".[dev]"')
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    (tmp_path / "readme.py").write_text("\n".join(code), "utf-8")
    (tmp_path / "lesson.py").write_text(LESSON.read_text("utf-8"), "utf-8")
    (tmp_path / "wrong.py").write_text(WRONG, "utf-8")
    settings = {"extraPaths": [str(ROOT)], "typeCheckingMode": "basic"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--project", str(tmp_path),
         "--pythonpath", sys.executable],
        capture_output=True, text=True,
    )  # fmt: skip
    told = json.loads(run.stdout)["generalDiagnostics"]
    errors = [
        f"{Path(e['file']).name}:{e['range']['start']['line'] + 1}: {e['message']}"
        for e in told
        if e["severity"] == "error"
    ]
    assert [error for error in errors if not error.startswith("wrong")] == []
    assert [error.split(":")[1] for error in errors] == ["4", "5", "7"], errors
