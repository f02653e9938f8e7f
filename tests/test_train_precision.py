"""Training in half precision: it teaches, it ranks pairs as float32 does, or it says that it did
not."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

import nbkit as nb
from nbkit import world
from nbkit.experiments.crossfit import validation_loss
from nbkit.train import dpo
from nbkit.train.dpo import settings_in_effect
from nbkit.train.learned import rounding
from nbkit.train.settings import FULL_RATE, LORA_RATE

QUIET = dict(progress=False)


def load(dtype, size="medium"):
    return nb.load_policy(f"world/{size}", device="cpu", dtype=dtype)


@pytest.fixture(scope="module")
def half():
    return load("bfloat16")


@pytest.fixture(scope="module")
def pairs():
    return world.pairs(96, seed=5)


def accuracy(policy, reference, pairs):
    return nb.preference_accuracy(policy, reference, pairs, beta=0.5).loc["accuracy", "value"]


def changed(before, after):
    """Share of the weights that differ."""
    moved = [(a != b).double().mean() for a, b in zip(before.parameters(), after.parameters())]
    return float(torch.stack(moved).mean())


# --- full training ------------------------------------------------------------------------------


def test_all_weights_of_a_bfloat16_policy_train_as_those_of_a_float32_one(half, pairs):
    """The steps are smaller than the distance of neighbours in bfloat16, and add up all the same:
    trained in bfloat16 itself, most weights would stay where they are."""
    how = dict(QUIET, beta=0.5, learning_rate=2e-5, batch_size=8, epochs=4, log_every=1)
    runs = {p: nb.train_dpo(p, pairs, **how) for p in (load("float32"), half)}
    exact, rounded = runs.values()
    assert rounded.policy.dtype == torch.bfloat16
    assert {p.dtype for p in rounded.policy.model.parameters()} == {torch.bfloat16}
    assert rounded.history.loss.tolist() == pytest.approx(exact.history.loss.tolist(), abs=0.02)
    scores = [accuracy(run.policy, start, pairs) for start, run in runs.items()]
    assert scores[0] > 0.7 and scores[1] == pytest.approx(scores[0], abs=0.05)
    assert rounded.history.loss.iloc[-1] < 0.68


def test_the_policy_itself_stays_and_in_place_it_keeps_its_precision(pairs):
    own = load("bfloat16", "small")
    before = copy.deepcopy(own.model)
    how = dict(QUIET, beta=0.5, learning_rate=1e-3, batch_size=8)
    nb.train_dpo(own, pairs, **how)
    assert changed(before, own.model) == 0
    run = nb.train_dpo(own, pairs, copy_model=False, **how)
    assert run.policy.model is own.model and changed(before, own.model) > 0.3
    assert all(p.dtype == torch.bfloat16 and p.grad is None for p in own.model.parameters())


def test_the_trace_is_of_the_policy_as_it_is_returned(half, pairs):
    how = dict(QUIET, beta=0.5, learning_rate=1e-4, batch_size=8)
    run = nb.train_dpo(half, pairs, trace=pairs, trace_every=100, **how)
    after = nb.response_logprobs(run.policy, pairs, **QUIET)
    last = run.trace[run.trace.step == run.trace.step.max()].set_index("id")
    assert last.chosen_logp.tolist() == after.chosen_logp.tolist()
    assert run.trace.query("step == 0").margin.abs().max() == 0  # the same rounding, twice


def test_adapters_of_a_bfloat16_policy_train_in_float32(half, pairs):
    run = nb.train_dpo(half, pairs, lora=4, max_steps=1, **QUIET, learning_rate=1e-3)
    kinds = {p.dtype for n, p in run.policy.model.named_parameters() if "lora" in n}
    assert kinds == {torch.float32} and run.policy.dtype == torch.bfloat16
    assert not {"forward", "_original_forward", "save_pretrained"} & set(run.policy.model.__dict__)

    rough = nb.add_lora(load("bfloat16", "small"), 4)
    for parameter in rough.model.parameters():
        parameter.data = parameter.data.bfloat16()
    again = nb.train_dpo(rough, pairs, max_steps=20, learning_rate=1e-3, batch_size=8, **QUIET)
    kinds = {p.dtype for n, p in again.policy.model.named_parameters() if "lora" in n}
    assert kinds == {torch.bfloat16}


def test_in_place_a_bfloat16_policy_trains_as_its_copy_does(pairs, monkeypatch):
    """Under autocast, though its weights are in float32 by then."""
    autocast, real = [], dpo.make_trainer
    monkeypatch.setattr(
        dpo, "make_trainer", lambda *a, **k: autocast.append(k["bf16"]) or real(*a, **k)
    )
    how = dict(QUIET, batch_size=8, learning_rate=1e-3, log_every=1)
    one, other = load("bfloat16", "small"), load("bfloat16", "small")
    runs = [nb.train_dpo(one, pairs, **how), nb.train_dpo(other, pairs, copy_model=False, **how)]
    pd.testing.assert_frame_equal(runs[0].history, runs[1].history)
    assert autocast == [True, True]


@pytest.mark.parametrize("lora", [None, 4])
def test_float16_is_refused_before_the_work(pairs, lora):
    with pytest.raises(ValueError, match="is in float16, .* Load it with dtype='bfloat16'"):
        nb.train_dpo(load("float16", "small"), pairs, lora=lora, **QUIET)


def test_a_reward_model_of_a_bfloat16_policy_learns(pairs):
    own = load("bfloat16", "small")
    how = dict(QUIET, epochs=4, batch_size=8, learning_rate=3e-4, log_every=1)
    run = nb.train_reward_model(own, pairs, **how)
    assert {p.dtype for p in run.reward_model.model.parameters()} == {torch.bfloat16}
    assert run.history.loss.iloc[-5:].mean() < run.history.loss.iloc[:5].mean() - 0.05
    with pytest.raises(ValueError, match="is in float16"):
        nb.train_reward_model(load("float16", "small"), pairs, **how)


# --- README's recipes ---------------------------------------------------------------------------


def test_the_default_rate_is_that_of_the_kind_of_training(half):
    assert settings_in_effect(half, {})["learning_rate"] == FULL_RATE
    assert settings_in_effect(half, dict(lora=16))["learning_rate"] == LORA_RATE
    adapted = nb.add_lora(load("float32", "small"), 2)
    assert settings_in_effect(adapted, {})["learning_rate"] == LORA_RATE
    assert settings_in_effect(half, dict(lora=16, learning_rate=1e-3))["learning_rate"] == 1e-3


@pytest.mark.slow
def test_the_recipes_of_the_readme_rank_in_bfloat16_as_in_float32(half):
    """validation_loss(policy, pairs, lora=16), and influence after train_dpo(..., lora=16)."""
    pairs, validation = world.pairs(600, seed=5), world.pairs(40, seed=1, part="validation")
    losses, influences = [], []
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "These losses rank by|This training taught nothing")
        for policy in (load("float32"), half):
            losses.append(validation_loss(policy, pairs, lora=16, seeds=1, **QUIET))
            warm = nb.train_dpo(policy, pairs, lora=16, **QUIET).policy
            few = pairs.select(range(100))
            influences.append(
                nb.scores.influence(warm, warm.without_adapter(), few, validation, **QUIET)
            )
    assert losses[0].corr(losses[1], "spearman") >= 0.9
    assert influences[0].corr(influences[1], "spearman") >= 0.9
    easy = [set(nb.select.easiest(score, 0.5)) for score in losses]
    assert len(easy[0] & easy[1]) >= 0.85 * len(easy[0])


# --- nothing was learned ------------------------------------------------------------------------


def test_a_training_that_moved_nothing_says_so_with_the_numbers(half, pairs):
    with pytest.warns(UserWarning, match="taught nothing .* nats .rms., and bfloat16 alone by"):
        nb.train_dpo(half, pairs, **QUIET)  # 6 steps of 1e-6 on all weights
    with pytest.warns(UserWarning, match="a higher learning rate than 1e-09, more steps, or a"):
        nb.train_dpo(half, pairs, lora=4, learning_rate=1e-9, **QUIET)
    with pytest.warns(UserWarning, match="float32 alone by .* more steps .there were 6 steps"):
        nb.train_dpo(load("float32"), pairs, lora=4, learning_rate=1e-12, **QUIET)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("loss", ["sigmoid", "simpo"])
def test_a_training_that_moved_something_is_quiet(pairs, dtype, loss, recwarn):
    nb.train_dpo(load(dtype), pairs, loss=loss, lora=16, learning_rate=1e-3, **QUIET)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


def test_losses_that_rank_by_rounding_are_said_once_with_the_numbers(half, pairs, recwarn):
    how = dict(QUIET, lora=4, seeds=1, learning_rate=1e-7)
    score = validation_loss(half, pairs, **how)
    said = [str(w.message) for w in recwarn if w.category is UserWarning]
    assert len(said) == 1 and f"spread by {score.std():.2g} nats" in said[0]
    assert "bfloat16 alone" in said[0] and "higher learning rate than 1e-07" in said[0]
    recwarn.clear()
    validation_loss(half, pairs, loss="simpo", **how)  # margins that differ before any training
    assert not [w for w in recwarn if w.category is UserWarning]


def test_the_rounding_of_a_policy_is_that_of_its_log_probs():
    rough = tiny.policy("llama")
    rough.model.to(torch.bfloat16)
    pairs = tiny.text_pairs(30)
    tokens = nb.tokenize_pairs(rough.tokenizer, pairs)
    table = nb.response_logprobs(rough, pairs, **QUIET)
    error = table[["chosen_logp", "rejected_logp"]] - tiny.by_hand(rough, tokens).numpy()
    counts = table[["chosen_tokens", "rejected_tokens"]].to_numpy()
    expected = np.sqrt(np.mean(error.to_numpy() ** 2 / counts))
    assert rounding(rough, tokens) == pytest.approx(expected, rel=0.05)
