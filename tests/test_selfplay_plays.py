"""Several self-plays side by side, and the selections that they differ by."""

from functools import partial, wraps

import numpy as np
import pandas as pd
import pytest

import nbkit as nb
from nbkit import world
from nbkit.experiments import selfplay

COMMON = dict(rewrite=world.rewrite, k=3, temperature=0.8, top_p=0.95, max_new_tokens=8, beta=0.5,
              learning_rate=1e-3, batch_size=8)  # fmt: skip
ASKED = world.prompts(12, part="train")["prompt"][:]
TEST = world.prompts(8)["prompt"][:] * 2
KIND = world.Judge(correct=0)
HOW = dict(max_new_tokens=8)
PLAYS = {
    ("truth", 3): dict(prompts=ASKED, rounds=2),
    ("kind, all", 3): dict(prompts=ASKED, judge=KIND, rounds=1,
                           select=partial(selfplay.highest, share=1.0)),
    ("truth", 4): dict(prompts=ASKED[:6], rounds=1, rewrite=None),
}  # fmt: skip


@pytest.fixture(scope="module")
def policy():
    return nb.load_policy("world/small", device="cpu")


def compare(policy, folder, plays=PLAYS, **options):
    how = dict(measures={"words": lambda prompt, said: len(said.split())}, common=COMMON,
               progress=False) | HOW | options  # fmt: skip
    return selfplay.compare_plays(policy, plays, TEST, world.reward, folder, **how)


@pytest.fixture(scope="module")
def table(policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plays")
    return compare(policy, folder), folder


def test_a_row_for_each_round_of_each_play_counted_by_hand(policy, table, tmp_path):
    rows = table[0].set_index(["play", "seed", "round"])
    assert list(rows.index) == [
        ("truth", 3, 0), ("truth", 3, 1), ("truth", 3, 2), ("kind, all", 3, 0),
        ("kind, all", 3, 1), ("truth", 4, 0), ("truth", 4, 1),
    ]  # fmt: skip
    how = dict(COMMON, seed=3, progress=False)
    rounds = list(selfplay.self_play(policy, ASKED, world.reward, tmp_path, rounds=2, **how))
    baseline = nb.sample(policy, TEST, seed=7, temperature=0.7, progress=False, **HOW)
    for number, player in enumerate([policy, *(done.policy for done in rounds)]):
        said = nb.sample(player, TEST, seed=6, temperature=0.7, progress=False, **HOW)
        rewards = [[world.reward(*x) for x in zip(TEST, texts)] for texts in (said, baseline)]
        row = rows.loc["truth", 3, number]
        assert row.win_rate == pytest.approx(nb.wins(*rewards).mean())
        assert row.reward == row.judged == pytest.approx(np.mean(rewards[0]))
        tokens = policy.tokenizer(said, add_special_tokens=False)["input_ids"]
        assert row.length == pytest.approx(np.mean([len(ids) for ids in tokens]))
        assert row.distinct == pytest.approx(len(set(zip(TEST, said))) / len(TEST))
        assert row.words == pytest.approx(np.mean([len(text.split()) for text in said]))
    for done in rounds:
        row = rows.loc["truth", 3, done.number]
        asked = done.answers.prompt_id.nunique()
        assert (row.asked, row.pairs, row.trained_on) == (asked, len(done.pairs), len(done.base))
    assert (rows.loc["truth", 3, 0][["asked", "pairs", "trained_on"]] == 0).all()
    assert rows.loc[("truth", 4, 1), "asked"] == 6  # nothing evolved


def test_distinct_counts_repetitions_within_a_prompt_only(policy):
    from nbkit.experiments.selfplay.plays import _verdict

    prompts, said = ["a", "a", "b", "b"], ["dog", "dog", "dog", "cat"]
    row = _verdict(said, ["cat"] * 4, prompts, lambda _, text: text == "dog", policy.tokenizer)
    assert row["distinct"] == 0.75
    assert (row["win_rate"], row["reward"], row["length"]) == (7 / 8, 0.75, 1)


def test_a_play_is_judged_by_its_own_judge_and_by_the_one_that_counts(policy, table):
    row = table[0].set_index(["play", "seed", "round"]).loc["kind, all", 3, 1]
    assert row.trained_on == row.pairs  # its own selection
    kept = table[1] / "kind%2C all 3" / "round-1"
    player = nb.load_policy(kept / "policy", device="cpu")
    said = nb.sample(player, TEST, seed=6, temperature=0.7, progress=False, **HOW)
    assert row.judged == pytest.approx(np.mean([KIND(*x) for x in zip(TEST, said)]))
    assert row.reward == pytest.approx(np.mean([world.reward(*x) for x in zip(TEST, said)]))
    answers = pd.read_parquet(kept / "answers.parquet")
    assert answers.reward.tolist() == [KIND(*x) for x in zip(answers.prompt, answers.response)]


def test_the_same_call_plays_nothing_again(policy, table, monkeypatch):
    from nbkit.experiments.selfplay import kept, plays, steps

    @wraps(nb.sample)
    def only_before(who, *given, **options):
        assert who is policy, "a test is asked again"
        return nb.sample(who, *given, **options)

    monkeypatch.setattr(plays, "sample", only_before)
    monkeypatch.setattr(steps, "sample", lambda *a, **k: pytest.fail("asked again"))
    monkeypatch.setattr(kept, "train_dpo", lambda *a, **k: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(compare(policy, table[1]), table[0])


def test_another_test_of_the_same_plays_is_another(policy, table):
    """Answers to other prompts, or sampled otherwise, are not those that were kept."""
    rows = compare(policy, table[1], {("truth", 3): PLAYS["truth", 3]},
                   temperature=0.0)  # fmt: skip
    assert (rows.distinct == 0.5).all() and rows.pairs.tolist() == table[0].pairs[:3].tolist()


def test_workers_play_the_same(policy, table, tmp_path):
    pd.testing.assert_frame_equal(compare(policy, tmp_path, workers=2), table[0], atol=1e-6)


def test_workers_play_with_functions_of_a_cell(policy, tmp_path):
    """What one process has kept is what the workers find: they know a function by its name."""

    def judge(prompt, said, modulus=7):
        return len(said) % modulus

    def select(pairs):
        return list(pairs.index)

    def rewrite(prompts, seed):
        return [f"{prompt} " for prompt in prompts]

    own = dict(prompts=ASKED, rounds=1, rewrite=rewrite, select=select)
    plays = {
        ("mine", 0): {**own, "judge": judge},
        ("part", 0): {**own, "judge": partial(judge, modulus=5)},
    }
    workers = compare(policy, tmp_path, plays, workers=2)
    here = compare(policy, tmp_path, plays)
    pd.testing.assert_frame_equal(workers, here)


@pytest.mark.parametrize(
    ("plays", "message"),
    [
        ([dict(prompts=ASKED)], "plays: expected a dict, .name, seed. -> arguments, got list"),
        ({"mine": dict(prompts=ASKED)}, "plays: expected keys .name, seed., got 'mine'"),
        ({("mine", "a"): dict(prompts=ASKED)}, "plays: expected keys .name, seed., got"),
        ({("mine", 0): ASKED}, "Self-play .'mine', 0.: expected a dict of arguments"),
        ({("mine", 0): dict(prompt=ASKED)}, "has no argument 'prompt'. Did you mean prompts?"),
    ],
)
def test_plays_are_named_with_their_seeds(policy, tmp_path, plays, message):
    with pytest.raises(TypeError, match=message):
        compare(policy, tmp_path, plays)


# --- selections ---------------------------------------------------------------------------------


@pytest.fixture
def pairs():
    ids = [f"r1-{number:02d}" for number in range(20)]
    margin = [2.0] * 10 + [1.0] * 10
    potential = np.random.default_rng(0).normal(size=20)
    potential[4] = np.nan
    columns = dict(explicit_margin=margin, alignment_potential=potential)
    return pd.DataFrame(columns, ids).assign(id=ids)


def test_the_highest_with_equals_by_lot(pairs):
    best = pairs.alignment_potential.sort_values(ascending=False).index
    assert selfplay.highest(pairs) == list(best[:8])  # 40% of the 19 that have a score
    assert len(selfplay.highest(pairs, share=1.0)) == 19
    drawn = [selfplay.highest(pairs, "explicit_margin", 0.25, seed) for seed in range(20)]
    assert all(set(ids) <= set(pairs.index[:10]) and len(ids) == 5 for ids in drawn)
    assert len(set(map(tuple, drawn))) > 15 and set(sum(drawn, [])) == set(pairs.index[:10])
    assert selfplay.highest(pairs, "explicit_margin", 0.25, 3) == drawn[3]


def test_at_random_draws_as_many_and_anew_in_another_round(pairs):
    drawn = selfplay.at_random(pairs, seed=1)
    assert len(drawn) == len(set(drawn)) == len(selfplay.highest(pairs)) == 8
    assert drawn == selfplay.at_random(pairs, seed=1) != selfplay.at_random(pairs, seed=2)
    often = [selfplay.at_random(pairs, seed=seed) for seed in range(60)]
    counts = pd.Series(sum(often, [])).value_counts()
    assert "r1-04" not in counts and len(counts) == 19 and counts.min() > 10
    later = pairs.set_axis([f"r2-{number:02d}" for number in range(20)])
    places = [id_[-2:] for id_ in selfplay.at_random(later, seed=1)]
    assert places != [id_[-2:] for id_ in drawn]
