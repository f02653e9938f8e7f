"""README's code runs as it stands, on files of one's own; so does what CONTRIBUTING.md adds."""

import doctest
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import nbkit as nb
from nbkit import scores, world
from nbkit.course.exercises import checking, tour
from nbkit.scores import difficulty

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def added(code: str, *modules) -> dict:
    """What `code` defines, where the names of these modules are known."""
    names = {name: value for module in modules for name, value in vars(module).items()}
    exec(code, names)
    return names


def run_example(function) -> None:
    test = doctest.DocTestParser().get_doctest(function.__doc__, {}, "example", None, None)
    said = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed == 0, said


@pytest.fixture(scope="module")
def toys() -> dict[str, str]:
    """The blocks of code in CONTRIBUTING.md, by what they are."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.S)
    names = ["score", "its test", "checker", "right", "wrong", "cells", "figure", "test of it"]
    return dict(zip(names, blocks, strict=True))


def test_the_first_score(toys, monkeypatch):
    score = added(toys["score"], difficulty)["length_ratio"]
    monkeypatch.setattr(nb.scores, "length_ratio", score, raising=False)
    run_example(score)
    test = added(toys["its test"], SimpleNamespace(pd=pd, pytest=pytest, scores=scores))
    test["test_length_ratio_by_hand"]()


def test_the_first_exercise(toys, monkeypatch):
    checker = added(toys["checker"], checking, tour)["check_share_longer"]
    monkeypatch.setattr(nb.course.exercises, "check_share_longer", checker, raising=False)
    run_example(checker)
    right, wrong = (added(f"found = {{{toys[name]}}}", SimpleNamespace(np=np))["found"]
                    for name in ("right", "wrong"))  # fmt: skip
    assert all(checker(learner).passed for learner in right["check_share_longer"])
    assert all(hint in checker(learner).hint for learner, hint in wrong["check_share_longer"])
    cells = added(toys["cells"], SimpleNamespace(nb=nb))
    assert checker(cells["my_share_longer"]).passed


def test_the_first_figure(toys, monkeypatch, ax):
    figure = added(toys["figure"])["lengths"]
    monkeypatch.setattr(nb.plots, "lengths", figure, raising=False)
    run_example(figure)
    ax.clear()
    test = added(toys["test of it"], SimpleNamespace(pd=pd, plots=nb.plots))
    test["test_lengths_are_a_dot_for_each_pair"](ax)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_check")
def test_the_code_for_your_own_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ["prompt", "chosen", "rejected"]
    world.pairs(30).select_columns(texts).to_json("my_pairs.jsonl")
    world.pairs(12, part="validation").select_columns(texts).to_json("my_validation.jsonl")
    code = next(c for c in re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)
                if "my_pairs.jsonl" in c)  # fmt: skip
    there = {}
    exec(code.replace("Qwen/Qwen2.5-0.5B-Instruct", "world/small"), there)
    assert list(there["table"].index) == there["pairs"]["id"][:]
    assert there["run"].trained_on == there["loss"].nsmallest(15).index.tolist()
    band = scores.truncated(there["influence"], 0.15, 0.85)
    assert set(there["keep"]) == set(band.index[band == 1])
