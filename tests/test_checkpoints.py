"""Checkpoints: the folder is tried first, what is damaged is passed over, a full disk costs
nothing but the checkpoint."""

import contextlib
import json
import resource
import shutil
import warnings

import pandas as pd
import pytest
import torch

import nbkit as nb
from nbkit import world
from nbkit.train.callbacks import LogLastStep

HOW = dict(
    beta=0.5, learning_rate=1e-3, batch_size=4, log_every=1, progress=False, checkpoint_every=2,
    trace_every=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def policy():
    return nb.load_policy("world/small", device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return world.pairs(24, seed=5)  # six steps: checkpoints 2, 4, 6, of which two are kept


@pytest.fixture(scope="module")
def kind(request):
    """(policy, options) of a kind of training."""
    dtype = "bfloat16" if request.param == "bfloat16" else "float32"
    policy = nb.load_policy("world/small", device="cpu", dtype=dtype)
    return policy, dict(HOW, lora=4) if request.param == "lora" else HOW


@pytest.fixture(scope="module")
def finished(kind, pairs, tmp_path_factory):
    """A finished run, and the folder with its checkpoints."""
    policy, how = kind
    folder = tmp_path_factory.mktemp("checkpoints")
    return nb.train_dpo(policy, pairs, trace=pairs, checkpoints=folder, **how), folder


@contextlib.contextmanager
def counted_steps():
    """The numbers of the optimizer steps that are made inside."""
    steps, on_step_end = [], LogLastStep.on_step_end

    def noted(self, args, state, control, **kwargs):
        steps.append(state.global_step)
        on_step_end(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogLastStep, "on_step_end", noted)
        yield steps


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def weights_of(checkpoint):
    return next(checkpoint.glob("*model.safetensors"))


DAMAGES = {
    "nothing": (lambda c: None, None),
    "state empty": (lambda c: (c / "trainer_state.json").write_text(""), "trainer_state.json is"),
    "state missing": (lambda c: (c / "trainer_state.json").unlink(), "trainer_state.json is"),
    "state of another": (
        lambda c: (c / "trainer_state.json").write_text(json.dumps({"global_step": 3})),
        "trainer_state.json is of another step",
    ),
    "weights cut": (lambda c: cut(weights_of(c)), "its weights are damaged"),
    "weights missing": (lambda c: weights_of(c).unlink(), "its weights are missing"),
    "optimizer missing": (lambda c: (c / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    "optimizer cut": (lambda c: cut(c / "optimizer.pt"), "optimizer.pt is missing or damaged"),
    "scheduler missing": (lambda c: (c / "scheduler.pt").unlink(), "scheduler.pt is missing"),
    "random state missing": (lambda c: (c / "rng_state.pth").unlink(), "rng_state.pth is missing"),
}


@pytest.mark.parametrize(
    ("kind", "damage"),
    [("full", damage) for damage in DAMAGES]
    + [(kind, damage) for kind in ("lora", "bfloat16") for damage in ("nothing", "weights cut")],
    indirect=["kind"],
)
def test_a_damaged_checkpoint_falls_back_to_the_whole_one_before(
    kind, pairs, finished, tmp_path, damage
):
    policy, how = kind
    run, folder = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    newest, message = next(tmp_path.glob("*/checkpoint-6")), DAMAGES[damage][1]
    DAMAGES[damage][0](newest)
    with counted_steps() as steps, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = nb.train_dpo(policy, pairs, trace=pairs, checkpoints=tmp_path, **how)
    said = [str(w.message) for w in caught if "checkpoint-" in str(w.message)]
    if message is None:
        assert steps == [] and not said
    else:
        assert steps == [5, 6]
        assert len(said) == 1 and f"checkpoint-6 ({message}" in said[0]
        assert said[0].endswith("cannot be used: the run goes on from checkpoint-4.")
    pd.testing.assert_frame_equal(again.trace, run.trace, atol=1e-5)
    pd.testing.assert_frame_equal(again.history, run.history, atol=1e-5)
    weights = zip(again.policy.model.parameters(), run.policy.model.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in weights)


def test_without_a_whole_checkpoint_the_run_starts_anew_and_says_so(policy, pairs, tmp_path):
    run = nb.train_dpo(policy, pairs, checkpoints=tmp_path, **HOW)
    for checkpoint in tmp_path.glob("*/checkpoint-*"):
        (checkpoint / "optimizer.pt").unlink()
    with counted_steps() as steps, pytest.warns(UserWarning, match="starts from the beginning"):
        again = nb.train_dpo(policy, pairs, checkpoints=tmp_path, **HOW)
    assert steps == [1, 2, 3, 4, 5, 6]
    pd.testing.assert_frame_equal(again.history, run.history, atol=1e-6)


def test_a_damaged_trace_is_made_again_with_the_run(policy, pairs, tmp_path):
    run = nb.train_dpo(policy, pairs, trace=pairs, checkpoints=tmp_path, **HOW)
    cut(next(tmp_path.glob("*/trace-3.parquet")))
    with counted_steps() as steps, pytest.warns(UserWarning, match="trace-3.parquet is damaged"):
        again = nb.train_dpo(policy, pairs, trace=pairs, checkpoints=tmp_path, **HOW)
    assert steps == [1, 2, 3, 4, 5, 6]
    pd.testing.assert_frame_equal(again.trace, run.trace, atol=1e-5)


def test_the_folder_is_tried_before_the_work(policy, pairs, tmp_path, monkeypatch):
    from nbkit.train import dpo

    monkeypatch.setattr(dpo, "logprob_table", None)  # nothing is scored
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="checkpoints: nothing can be kept in .* file is in the way"):
        nb.train_dpo(policy, pairs, checkpoints=tmp_path / "file", **HOW)
    with no_room(1000), pytest.raises(OSError, match="checkpoints: nothing can be kept in"):
        nb.train_dpo(policy, pairs, checkpoints=tmp_path / "full", **HOW)
    with pytest.raises(TypeError, match="checkpoints=3; expected the path of a folder"):
        nb.train_dpo(policy, pairs, checkpoints=3, **HOW)


@pytest.mark.parametrize("lora", [None, 16])
def test_a_disk_that_fills_up_costs_the_checkpoint_only(policy, pairs, tmp_path, lora):
    how = dict(HOW, lora=lora)
    expected = nb.train_dpo(policy, pairs, **how)
    with no_room(20_000), pytest.warns(UserWarning, match="checkpoint-2 could not be written"):
        run = nb.train_dpo(policy, pairs, checkpoints=tmp_path, **how)
    assert not list(tmp_path.glob("*/checkpoint-*"))
    pd.testing.assert_frame_equal(run.history, expected.history, atol=1e-6)
    assert run.policy.model.training is False


def test_what_fails_for_another_reason_is_not_taken_for_a_full_disk(
    policy, pairs, tmp_path, monkeypatch
):
    def fail(*args, **kwargs):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        nb.train_dpo(policy, pairs, checkpoints=tmp_path, **HOW)


def test_other_texts_under_the_ids_of_the_traced_pairs_are_another_run(policy, pairs, tmp_path):
    how = dict(HOW, checkpoints=tmp_path, max_steps=2)
    nb.train_dpo(policy, pairs, trace=pairs, **how)
    turned = nb.flip_labels(pairs, pairs["id"])
    again = nb.train_dpo(policy, pairs, trace=turned, **how).trace
    fresh = nb.train_dpo(policy, pairs, trace=turned, **dict(how, checkpoints=None)).trace
    pd.testing.assert_frame_equal(again, fresh)


def test_settings_that_are_in_effect_name_the_folder(policy, pairs, tmp_path):
    """The rate that a call names and the rate that it gets by default are one run."""
    how = {k: v for k, v in HOW.items() if k != "learning_rate"}
    run = nb.train_dpo(policy, pairs, checkpoints=tmp_path, lora=2, **how)
    rate = run.settings["learning_rate"]
    with counted_steps() as steps:
        nb.train_dpo(policy, pairs, checkpoints=tmp_path, lora=2, learning_rate=rate, **how)
    assert steps == [] and len(list(tmp_path.iterdir())) == 1


@contextlib.contextmanager
def no_room(size):
    """No file can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
