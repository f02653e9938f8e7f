"""Validation loss: nobody is scored by a model that saw it, and the numbers are train_dpo's."""

import inspect

import numpy as np
import pandas as pd
import pytest
import tiny
from datasets import Dataset

import nbkit as nb
from nbkit import world
from nbkit.experiments.crossfit import cross_fitted_losses, folds, validation_loss

TRAIN = dict(beta=0.5, learning_rate=1e-3, batch_size=8)
QUIET = dict(TRAIN, progress=False)


@pytest.fixture(scope="module")
def policy():
    return nb.load_policy("world/small", device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return world.pairs(600, seed=5).select(range(0, 600, 15))  # 40 pairs, some of one fact


@pytest.fixture(scope="module")
def losses(policy, pairs):
    return cross_fitted_losses(policy, pairs, seeds=[3, 4], groups="rung", **QUIET)


def changed(pairs, row, **values):
    rows = pairs.to_list()
    rows[row].update(values)
    return Dataset.from_list(rows)


def by_hand(policy, pairs, half, learned_half, seed, **training):
    """Loss of the other half's pairs, from the public calls."""
    learned = [id_ for id_ in pairs["id"] if half[id_] == learned_half]
    run = nb.train_dpo(policy, pairs, learned, seed=seed, progress=False, **training)
    logps = nb.response_logprobs(run.policy, pairs, progress=False)
    reference = nb.response_logprobs(policy, pairs, progress=False)
    return nb.scores.dpo_loss(logps, reference, training["beta"]).drop(learned)


# --- folds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", ["prompt", "fact", "rung", "id"])
def test_groups_are_never_split(pairs, groups):
    for seed in range(5):
        half = folds(pairs, seed, groups)
        assert half.index.tolist() == pairs["id"][:] and set(half) == {"A", "B"}
        by_group = half.groupby(np.array(pairs[groups][:])).nunique()
        assert (by_group == 1).all()


def test_halves_are_even_and_depend_on_the_seed(pairs):
    many = world.pairs(1200, seed=0)
    halves = {seed: folds(many, seed, "fact") for seed in range(4)}
    assert all(abs((half == "A").mean() - 0.5) < 0.01 for half in halves.values())
    assert halves[0].equals(folds(many, 0, "fact"))
    agree = [(halves[0] == halves[seed]).mean() for seed in (1, 2, 3)]
    assert all(0.35 < share < 0.65 for share in agree)
    turned = many.select(range(len(many) - 1, -1, -1))  # the order of the rows does not matter
    assert folds(turned, 0, "fact")[halves[0].index].equals(halves[0])


def test_halves_are_even_though_groups_are_not():
    prompts = ["big"] * 30 + [f"small {i}" for i in range(30)]
    pairs = Dataset.from_dict({"id": [str(i) for i in range(60)], "prompt": prompts})
    for seed in range(6):
        assert (folds(pairs, seed) == "A").sum() in (30, 31, 29)


def test_prompts_that_are_messages_are_groups_too():
    said = [[{"role": "user", "content": text}] for text in ("a", "b", "a", "c")]
    pairs = nb.load_pairs(
        [
            dict(prompt=p, chosen=[dict(role="assistant", content=f"y{i}")],
                 rejected=[dict(role="assistant", content="n")])
            for i, p in enumerate(said)
        ]
    )  # fmt: skip
    half = folds(pairs, 0).tolist()
    assert half[0] == half[2] and set(half) == {"A", "B"}


def test_folds_that_cannot_be_made_are_refused(pairs):
    with pytest.raises(ValueError, match="groups='topic' is not a column of the pairs .id, prompt"):
        folds(pairs, 0, "topic")
    one = pairs.map(lambda row: {"prompt": "same ?"})
    with pytest.raises(ValueError, match="All 40 pairs have the same 'prompt'"):
        folds(one)


# --- losses -------------------------------------------------------------------------------------


def test_losses_are_those_of_models_trained_on_the_other_half(policy, pairs, losses):
    assert losses.columns.tolist() == [(3, "A"), (3, "B"), (4, "A"), (4, "B")]
    assert losses.columns.names == ["split", "half"]
    assert losses.index.tolist() == pairs["id"][:]
    for seed, learned_half in losses.columns:
        half = folds(pairs, seed, "rung")
        expected = by_hand(policy, pairs, half, learned_half, seed, **TRAIN)
        got = losses[seed, learned_half]
        assert got[half == learned_half].isna().all()  # none is scored by a model that saw it
        assert got.dropna().to_dict() == pytest.approx(expected.to_dict(), abs=1e-4)
    assert losses.stack(["split", "half"]).std() > 0.01  # training did something


def test_validation_loss_is_the_mean_over_models_that_did_not_see_the_pair(policy, pairs, losses):
    score = validation_loss(policy, pairs, seeds=[3, 4], groups="rung", **QUIET)
    assert score.name == "validation_loss" and score.notna().all()
    expected = np.nanmean(losses, axis=1)
    assert score.to_numpy() == pytest.approx(expected, abs=1e-4)
    assert len(nb.select.easiest(score, 0.5)) == 20


def test_by_default_three_splits_by_prompt_make_six_models(policy, pairs):
    losses = cross_fitted_losses(policy, pairs, max_steps=1, **QUIET)
    assert losses.columns.tolist() == [(s, h) for s in range(3) for h in "AB"]
    assert (losses.notna().sum(axis=1) == 3).all()
    for split in range(3):
        assert (losses[split, "A"].isna() == (folds(pairs, split, "prompt") == "A")).all()


def test_points_average_over_training(policy, pairs):
    """40 pairs in two halves, two epochs of batches of 4: 10 or 12 steps, asked for 7 points."""
    how = dict(TRAIN, batch_size=4, epochs=2)
    losses = cross_fitted_losses(policy, pairs, seeds=[1], points=7, progress=False, **how)
    half = folds(pairs, 1)
    learned = [id_ for id_ in pairs["id"] if half[id_] == "A"]
    scored = pairs.select([i for i, id_ in enumerate(pairs["id"]) if half[id_] == "B"])
    run = nb.train_dpo(
        policy, pairs, learned, seed=1, progress=False, trace=scored, trace_every=1,
        reference=nb.response_logprobs(policy, pairs, progress=False), **how,
    )  # fmt: skip
    total = run.trace.step.max()
    assert total in (10, 12)
    seen = range(2, total + 1, 2)  # every second step, ending with the last
    margins = run.trace[run.trace.step.isin(seen)].set_index(["id", "step"]).margin
    expected = np.log1p(np.exp(-margins)).groupby("id").mean()
    assert losses[1, "A"].dropna().to_dict() == pytest.approx(expected.to_dict(), abs=1e-4)
    last = cross_fitted_losses(policy, pairs, seeds=[1], progress=False, **how)
    assert not np.allclose(last[1, "A"].dropna(), losses[1, "A"].dropna(), atol=1e-3)


def test_pairs_too_long_are_nan_and_rank_nowhere(policy, pairs):
    # a response of 30 words, of a policy whose limit is set to 20 tokens
    longer = changed(pairs, 0, chosen=" ".join(["sure thing ."] * 10))
    with pytest.warns(UserWarning, match="1 of 40 pairs are left out"):
        score = validation_loss(policy, longer, seeds=1, max_length=20, max_steps=2, **QUIET)
    assert score.isna().tolist() == [True] + [False] * 39
    assert longer["id"][0] not in nb.select.easiest(score, 1.0)


def test_a_reference_table_is_used_and_must_be_complete(policy, pairs):
    other = nb.load_policy("world/medium", device="cpu")
    table = nb.response_logprobs(other, pairs, progress=False)
    how = dict(QUIET, seeds=[0], max_steps=2)
    by_table = cross_fitted_losses(policy, pairs, reference=table, **how)
    pd.testing.assert_frame_equal(
        by_table, cross_fitted_losses(policy, pairs, reference=other, **how), atol=1e-4
    )
    assert (by_table - cross_fitted_losses(policy, pairs, **how)).abs().max().max() > 0.1
    with pytest.raises(ValueError, match="table 'reference' lacks"):
        cross_fitted_losses(policy, pairs, reference=table.iloc[1:], **how)


def test_lora_reference_models(policy, pairs):
    how = dict(TRAIN, learning_rate=1e-2, lora=2)
    losses = cross_fitted_losses(policy, pairs, seeds=[2], progress=False, **how)
    expected = by_hand(policy, pairs, folds(pairs, 2), "A", 2, **how)
    assert losses[2, "A"].dropna().to_dict() == pytest.approx(expected.to_dict(), abs=1e-4)
    assert not policy.has_adapter


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_other_model_families(family):
    policy = tiny.policy(family)
    losses = cross_fitted_losses(policy, tiny.text_pairs(), seeds=1, **QUIET)
    assert np.isfinite(losses.mean(axis=1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(seeds=0), "seeds=0; expected a number, 1 or more"),
        (dict(seeds=[1, 1]), "distinct seeds"),
        (dict(points=0), "points=0; expected a whole number, 1 or more"),
        (dict(points=-1), "points=-1"),
        (dict(beta=0), "beta=0; expected a number above 0"),
        (dict(learning_rate=-1e-3), "learning_rate=-0.001; expected a number, 0 or more"),
        (dict(groups="topic"), "groups='topic' is not a column"),
        (dict(trace=None), "trace: set by the cross-fitting itself"),
        (dict(seed=3), "seed: set by the cross-fitting itself"),
        (dict(loss="dpop"), "loss='dpop'; expected one of"),
        (dict(seeds=2.5), "seeds=2.5; expected a number, 1 or more"),
        (dict(group="fact"), "has no argument 'group'. Did you mean groups?"),
        (dict(keep=["x"]), "has no argument 'keep'."),
    ],
)
def test_bad_arguments_are_named(policy, pairs, options, message):
    for function in (cross_fitted_losses, validation_loss):
        with pytest.raises((TypeError, ValueError), match=message):
            function(policy, pairs, **{**QUIET, **options})


def test_the_validation_loss_has_the_arguments_of_its_columns():
    of = [inspect.signature(one).parameters for one in (validation_loss, cross_fitted_losses)]
    assert list(of[0].values()) == list(of[1].values())


# --- interruption -------------------------------------------------------------------------------


def test_an_interrupted_call_trains_only_what_is_missing(policy, pairs, tmp_path, monkeypatch):
    from nbkit.experiments import crossfit as module

    trained = []
    real = module.train_dpo

    def stop_after_three(*args, **kwargs):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(kwargs["seed"])
        return real(*args, **kwargs)

    how = dict(QUIET, seeds=2, cache=tmp_path / "kept")
    monkeypatch.setattr(module, "train_dpo", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        cross_fitted_losses(policy, pairs, **how)
    assert len(list((tmp_path / "kept").glob("*.parquet"))) == 3
    trained.clear()
    again = cross_fitted_losses(policy, pairs, **how)
    assert len(trained) == 1
    trained.clear()
    pd.testing.assert_frame_equal(cross_fitted_losses(policy, pairs, **how), again)
    assert not trained
    monkeypatch.setattr(module, "reference_table", None)  # of what is kept nothing is scored
    pd.testing.assert_frame_equal(cross_fitted_losses(policy, pairs, **how), again)
    monkeypatch.undo()
    fresh = cross_fitted_losses(policy, pairs, **dict(how, cache=None))
    pd.testing.assert_frame_equal(again, fresh)


@pytest.mark.parametrize(
    "change",
    [
        dict(learning_rate=2e-3),
        dict(points=2),
        dict(reference="other"),
        dict(policy="other"),
        dict(pairs="edited"),
        dict(groups="rung"),
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_the_losses_changes_what_is_kept(policy, pairs, tmp_path, change):
    other = nb.load_policy("world/small", device="cpu")
    other.model.model.embed_tokens.weight.data[5] += 0.01
    given = {"policy": policy, "pairs": pairs, **QUIET, "seeds": 1, "max_steps": 2}
    cross_fitted_losses(**given, cache=tmp_path)
    if change.get("pairs"):
        change = dict(pairs=changed(pairs, 7, chosen="no idea"))
    change = {k: other if isinstance(v, str) and v == "other" else v for k, v in change.items()}
    fresh = cross_fitted_losses(**{**given, **change})
    kept = cross_fitted_losses(**{**given, **change}, cache=tmp_path)
    pd.testing.assert_frame_equal(kept, fresh)
    assert len(list(tmp_path.glob("*.parquet"))) > 2
