"""No stale result comes back: whatever a result depends on is in its key, and nothing else is."""

import copy
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from transformers import SchedulerType

import nbkit as nb
from nbkit import world
from nbkit.cache import hashes
from nbkit.cache.hashes import hash_content, with_defaults
from nbkit.experiments import selfplay
from nbkit.experiments.crossfit import cross_fitted_losses
from nbkit.logprobs import store

TRAIN = dict(beta=0.5, learning_rate=1e-3, batch_size=8, max_steps=2, progress=False)
HOW = dict(max_new_tokens=8)


@pytest.fixture(scope="module")
def policy():
    return nb.load_policy("world/small", device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return world.pairs(16, seed=5)


@pytest.fixture(scope="module")
def tell():
    """The hash of anything but pairs."""
    return partial(hash_content, tiny.policy())


def inner(value):
    return lambda: value


# --- what is told apart -------------------------------------------------------------------------

LONG = pd.Series(range(1000), index=[f"p{i}" for i in range(1000)], name="margin", dtype=float)
NUMBERS = np.arange(5000.0)


def changed(values, where=500):
    values = values.clone() if isinstance(values, torch.Tensor) else values.copy()
    values[where] = -1.0
    return values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG, pd.Series(changed(LONG.to_numpy()), LONG.index, name="margin")),  # repr shows ten
        (LONG, LONG.rename("length")),
        (LONG, LONG.set_axis([f"q{i}" for i in range(1000)])),
        (LONG, LONG.iloc[::-1]),
        (LONG, LONG.to_frame()),
        (pd.DataFrame({"a": [1.0], "b": [2.0]}), pd.DataFrame({"b": [1.0], "a": [2.0]})),
        (pd.DataFrame({"a": [1.0], "b": [2.0]}), pd.DataFrame({"a": [1.0], "c": [2.0]})),
        (NUMBERS, changed(NUMBERS)),
        (NUMBERS, NUMBERS.astype("float32")),
        (NUMBERS, NUMBERS.reshape(50, 100)),
        (np.array(["a", None], object), np.array(["a", "None"], object)),
        (torch.arange(5000), changed(torch.arange(5000))),
        (torch.zeros(3), torch.zeros(3, dtype=torch.bfloat16)),
        (torch.float16, torch.bfloat16),
        ({"a", "b"}, {"a", "c"}),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        (["a", "b"], ["a, b"]),
        ([1, [2]], [[1], 2]),
        ("1", 1),
        (1, True),
        (None, "None"),
        (SchedulerType.LINEAR, SchedulerType.COSINE),
        (Path("a"), Path("b")),
        (world.reward, world.grade),
        (partial(selfplay.highest, share=0.5), partial(selfplay.highest, share=0.6)),
        (world.Judge(), world.Judge(correct=0)),
        (world.Judge().__call__, world.Judge(noise=1).__call__),
        (tiny.model(), tiny.model(seed=1)),
        (tiny.tokenizer(), tiny.tokenizer(chat_template=tiny.CHAT_TEMPLATE)),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_other_content_is_told_from_this(tell, one, other):
    assert tell(one) == tell(one) != tell(other) == tell(other)


def test_the_order_of_sets_and_dicts_does_not_matter(tell):
    assert list({8, 0}) != list({0, 8})  # a set's order is that of its history
    assert tell({8, 0}) == tell({0, 8}) and tell({"a": 1, "b": 2}) == tell({"b": 2, "a": 1})


@pytest.mark.parametrize(
    "thing", [object(), lambda: None, inner(1), partial(inner(1)), [object()], {"f": inner(2)}],
    ids=["object", "lambda", "inner", "partial", "in a list", "in a dict"],
)  # fmt: skip
def test_what_cannot_be_told_apart_is_refused(tell, thing):
    """Not known by its address in memory, which is another in each process, or the same again."""
    with pytest.raises(TypeError, match="be kept by its content.*Give a plain value") as said:
        tell(thing)
    assert len(str(said.value)) < 400


ANOTHER_PROCESS = """
import test_stale as t
policy = t.tiny.policy()
things = [{"x", "y", "z"}, t.LONG, t.NUMBERS, t.world.reward, t.world.Judge(), t.torch.ones(3),
          t.SchedulerType.LINEAR, t.tiny.tokenizer(), t.tiny.text_pairs(), policy]
print(t.hash_content(policy, *things))
"""


def test_another_process_tells_the_same():
    said = [
        subprocess.run(
            [sys.executable, "-c", ANOTHER_PROCESS], text=True, capture_output=True, check=True,
            cwd=Path(__file__).parent, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in "12"
    ]  # fmt: skip
    assert said[0] == said[1] != ""


def test_the_order_of_pairs_matters(policy, pairs):
    assert hash_content(policy, pairs) != hash_content(policy, pairs.select(range(15, -1, -1)))
    assert hash_content(policy, pairs) == hash_content(policy, pairs.select(range(16)))


def test_settings_in_effect_are_those_given_and_the_defaults():
    def train(policy, *, rate=1e-6, epochs=1, **options):
        pass

    assert with_defaults(train, dict(epochs=3, extra=True)) == dict(rate=1e-6, epochs=3, extra=True)


@pytest.mark.parametrize("library", ["trl", "transformers", "torch"])
def test_another_version_is_another_result(tell, monkeypatch, library):
    before, real = tell(1), hashes.metadata.version
    monkeypatch.setattr(
        hashes.metadata, "version", lambda name: "9.9" if name == library else real(name)
    )
    assert tell(1) != before


def test_another_version_of_nbkit_is_another_result(tell, monkeypatch):
    before = tell(1)
    monkeypatch.setattr(nb, "__version__", "9.9")
    assert tell(1) != before


# --- the calls ----------------------------------------------------------------------------------


def cross_fit(policy, pairs, folder, **options):
    return cross_fitted_losses(policy, pairs, seeds=1, cache=folder, **TRAIN | options)


def compare(policy, pairs, folder, **options):
    return nb.compare(policy, pairs, {}, world.prompts(4), world.reward, seeds=1, **HOW,
                      held_out=pairs, cache=folder, **TRAIN | options)  # fmt: skip


CALLS = [cross_fit, compare]


@pytest.mark.parametrize("call", CALLS)
def test_after_a_changed_default_nothing_old_comes_back(policy, pairs, tmp_path, monkeypatch, call):
    old = call(policy, pairs, tmp_path)
    monkeypatch.setitem(nb.train_dpo.__kwdefaults__, "max_grad_norm", 1e-4)
    new = call(policy, pairs, tmp_path)
    pd.testing.assert_frame_equal(new, call(policy, pairs, None))
    assert not new.equals(old)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(call(policy, pairs, tmp_path), old)


@pytest.mark.parametrize("call", CALLS)
def test_a_default_that_is_named_changes_nothing(policy, pairs, tmp_path, call):
    old = call(policy, pairs, tmp_path)
    kept = set(tmp_path.iterdir())
    pd.testing.assert_frame_equal(call(policy, pairs, tmp_path, max_grad_norm=1.0, epochs=1), old)
    assert set(tmp_path.iterdir()) == kept


@pytest.mark.parametrize("call", CALLS)
def test_after_another_version_nothing_old_comes_back(policy, pairs, tmp_path, monkeypatch, call):
    call(policy, pairs, tmp_path)
    kept = len(list(tmp_path.glob("*.parquet")))
    monkeypatch.setattr(nb, "__version__", "9.9")
    call(policy, pairs, tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == 2 * kept


def test_numbers_of_another_engine_are_not_mixed_in(policy, pairs, tmp_path, monkeypatch):
    score = partial(nb.response_logprobs, policy, pairs, cache=tmp_path, progress=False)
    score()
    monkeypatch.setattr(store, "SCORING", store.SCORING + 1)
    score()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_self_play_of_another_version_or_default_is_refused(policy, tmp_path, monkeypatch):
    asked = world.prompts(6, part="train")
    how = dict(rounds=1, k=3, **HOW, **TRAIN)
    play = partial(selfplay.self_play, policy, asked, folder=tmp_path, **how)
    list(play(judge=world.reward))
    assert len(list(play(judge=world.reward))) == 1
    with monkeypatch.context() as patched:
        patched.setitem(nb.train_dpo.__kwdefaults__, "max_grad_norm", 1e-4)
        with pytest.raises(ValueError, match="holds a self-play with another policy"):
            list(play(judge=world.reward))
    for change in (dict(judge=world.Judge(correct=0)), dict(judge=world.reward, select=any_pair)):
        with pytest.raises(ValueError, match="other functions"):
            list(play(**change))
    other = copy.deepcopy(policy.tokenizer)  # it decides what is asked
    other.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ValueError, match="holds a self-play with another policy"):
        changed = nb.Policy(policy.model, other)
        list(selfplay.self_play(changed, asked, judge=world.reward, folder=tmp_path, **how))
    monkeypatch.setattr(nb, "__version__", "9.9")
    with pytest.raises(ValueError, match=r"versions \(nbkit 0\..*Give this one a folder of its"):
        list(play(judge=world.reward))


def any_pair(pairs):
    return list(pairs.index)
