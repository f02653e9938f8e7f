"""What is written about the package is about the package as it is: the API pages under docs/, names
in backticks, CITATION.cff and the workflow.

The pages themselves are built in CI, where warnings are errors (docs/conf.py).
"""

import inspect
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import nbkit

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DIRECTIVE = re.compile(r"^\.\. (?:autofunction|autoclass|autoexception|data):: (nbkit\.\S+)$", re.M)
REFERENCE = re.compile(r"`(?:nb|nbkit)((?:\.\w+)+)")


def public_names(module=nbkit, name: str = "nbkit") -> list[str]:
    """All that `__all__` lists, of nbkit and of its namespaces."""
    found = []
    for attribute in module.__all__:
        value = getattr(module, attribute)
        deeper = inspect.ismodule(value)
        here = f"{name}.{attribute}"
        found += public_names(value, here) if deeper else [here]
    return found


def names_on_pages() -> list[str]:
    pages = sorted((ROOT / "docs" / "api").glob("*.rst"))
    return [name for page in pages for name in DIRECTIVE.findall(page.read_text("utf-8"))]


def page_problems(public: list[str], on_pages: list[str]) -> list[str]:
    """Public names that are on no page, and names that are on two."""
    missing = [
        f"{name} is public and on no page: write `.. autofunction:: {name}` (or autoclass, or "
        "data) where it belongs in docs/api/, or take it out of __all__"
        for name in public
        if name not in on_pages
    ]
    twice = [f"{name} is on the pages twice" for name in set(public) if on_pages.count(name) > 1]
    return missing + twice


def reference_problems(text: str) -> list[str]:
    """Names of nbkit in backticks that are not there."""
    return [f"`nbkit{name}` is not there" for name in REFERENCE.findall(text) if not is_there(name)]


def is_there(name: str) -> bool:
    try:
        pkgutil.resolve_name(f"nbkit{name}")
    except (ImportError, AttributeError):
        return False
    return True


def test_every_public_name_is_on_one_page():
    problems = page_problems(public_names(), names_on_pages())
    assert not problems, "\n".join(problems)


def test_a_forgotten_name_and_a_doubled_one_are_found():
    assert "on no page" in page_problems(["nbkit.forgotten"], ["nbkit.gain"])[0]
    assert "twice" in page_problems(["nbkit.gain"], ["nbkit.gain", "nbkit.gain"])[0]


def test_the_reader_of_the_public_surface_goes_into_namespaces():
    assert {"nbkit.gain", "nbkit.scores.bees", "nbkit.course.exercises.Result"} <= set(
        public_names()
    )


def texts_with_names() -> list[Path]:
    """Docstrings and lessons, README and the like. Not the changelog: it names what was."""
    files = [*(ROOT / "nbkit").rglob("*.py"), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    files += (ROOT / "docs").rglob("*.rst")
    return sorted(path for path in files if path.name != "CHANGELOG.md")


def test_names_in_backticks_are_there():
    problems = [
        f"{path.relative_to(ROOT)}: {problem}"
        for path in texts_with_names()
        for problem in reference_problems(path.read_text("utf-8"))
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("text", ["`nb.gone`", "`nbkit.scores.gone(x)`", "`nb.gone.margins`"])
def test_a_name_that_is_gone_is_found(text):
    assert reference_problems(text)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == nbkit.__version__, "CITATION.cff: give it nbkit.__version__"
    assert citation["license"] == PROJECT["license"]


def test_the_changelog_has_this_version():
    assert f"## [{nbkit.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_workflow_tries_the_pythons_that_are_declared():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    tried = workflow["jobs"]["suite"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: 3."
    declared = [c.removeprefix("Programming Language :: Python :: ") for c in PROJECT["classifiers"]
                if c.startswith(prefix)]  # fmt: skip
    assert tried == declared
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert all(python in allowed for python in tried)
