"""Self-play: each step by hand, provenance, and a loop that survives being killed anywhere."""

import signal
import subprocess
import sys

import pandas as pd
import pytest
import tiny

import nbkit as nb
from nbkit import world
from nbkit.experiments import selfplay

TRAIN = dict(beta=0.5, learning_rate=1e-3, batch_size=8)
SAMPLING = dict(temperature=0.8, top_p=0.95, max_new_tokens=8)
ROUNDS = dict(rounds=2, rewrite=world.rewrite, **SAMPLING, progress=False, seed=3, k=3,
              **TRAIN)  # fmt: skip


@pytest.fixture(scope="module")
def policy():
    return nb.load_policy("world/small", device="cpu")


@pytest.fixture(scope="module")
def prompts():
    return world.prompts(24, part="train")["prompt"][:]


@pytest.fixture(scope="module")
def whole(policy, prompts, tmp_path_factory):
    """Two rounds without an interruption, and where they are kept."""
    folder = tmp_path_factory.mktemp("whole")
    return list(selfplay.self_play(policy, prompts, world.reward, folder, **ROUNDS)), folder


def same_rounds(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others):
        pd.testing.assert_frame_equal(one.prompts, other.prompts)
        pd.testing.assert_frame_equal(one.answers, other.answers)
        pd.testing.assert_frame_equal(one.pairs, other.pairs, atol=1e-4)
        assert one.base.to_list() == other.base.to_list()
        weights = other.policy.model.state_dict()
        for name, tensor in one.policy.model.state_dict().items():
            assert (tensor - weights[name]).abs().max() < 1e-5


# --- the steps ----------------------------------------------------------------------------------


def test_answers_are_samples_with_their_rewards(policy, prompts):
    table = selfplay.answer(policy, prompts, world.reward, 3, seed=5, progress=False, **SAMPLING)
    assert table.prompt.tolist() == [prompt for prompt in prompts for _ in range(3)]
    expected = nb.sample(
        policy, table.prompt.tolist(), seed=5, progress=False, **SAMPLING,
    )  # fmt: skip
    assert table.response.tolist() == expected
    assert table.reward.tolist() == [world.reward(*x) for x in zip(table.prompt, expected)]
    assert table.groupby("prompt_id").response.nunique().max() > 1


def test_best_against_worst_and_no_pair_where_all_are_equal():
    answers = pd.DataFrame(
        [("a", "?", "x", 1.0), ("a", "?", "y", 3.0), ("a", "?", "z", -1.0), ("a", "?", "t", 3.0),
         ("b", "!", "same", 2.0), ("b", "!", "other", 2.0), ("c", ".", "lone", 0.0),
         ("d", ",", "n", 0.5), ("d", ",", "m", 0.0)],
        columns=["prompt_id", "prompt", "response", "reward"],
    )  # fmt: skip
    pairs = selfplay.best_and_worst(answers, prefix="r1-")
    assert pairs.to_dict("records") == [
        dict(id="r1-a", prompt_id="a", prompt="?", chosen="y", rejected="z", chosen_score=3.0,
             rejected_score=-1.0),
        dict(id="r1-d", prompt_id="d", prompt=",", chosen="n", rejected="m", chosen_score=0.5,
             rejected_score=0.0),
    ]  # fmt: skip
    assert list(selfplay.best_and_worst(answers.iloc[4:7]).columns) == list(pairs.columns)


def test_evolved_prompts_are_new_and_of_about_the_same_length():
    parents = pd.DataFrame(dict(id=list("abcde"), prompt=["p one", "p two", "p3", "p4", "p5"]))
    said = ["new one", "old", " ", "new one", "x" * 11]
    told = []
    table = selfplay.evolve(
        parents, lambda prompts, seed: told.append((prompts, seed)) or said, ["old"], seed=7,
        suffix=".2",
    )  # fmt: skip
    assert told == [(parents.prompt.tolist(), 7)]
    assert table.id.tolist() == ["a.2", "b.2", "c.2", "d.2", "e.2"]
    assert table.parent.tolist() == list("abcde") and table.prompt.tolist() == said
    assert table.left_out.tolist() == [
        "", "asked before", "empty", "asked before", "5.5 times longer or shorter than its parent",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="rewrite returned 1 prompts for 5"):
        selfplay.evolve(parents, lambda prompts, seed: ["one"])


def test_the_world_rewrites_to_neighbours_for_training(prompts):
    new = world.rewrite(prompts, seed=1)
    facts = world.facts().set_index("prompt")
    assert new == world.rewrite(prompts, seed=1) != world.rewrite(prompts, seed=2)
    for old, prompt in zip(prompts, new):
        a, b = facts.loc[old], facts.loc[prompt]
        assert old != prompt and b.part == "train"
        assert a.topic == b.topic or a["name"] == b["name"]
    assert {facts.loc[p].topic == facts.loc[q].topic for p, q in zip(prompts, new)} == {True, False}
    with pytest.raises(ValueError, match="not a prompt of the world"):
        world.rewrite(["hello"])


def test_a_policy_rewrites_texts_and_the_last_message_of_conversations():
    policy = tiny.policy(tokens=tiny.tokenizer(chat_template=tiny.CHAT_TEMPLATE))
    how = dict(max_new_tokens=5, temperature=0, progress=False)
    rewrite = selfplay.policy_rewriter(policy, "another: {prompt}", **how)
    expected = [t.strip() for t in nb.sample(policy, ["another: good dog"], **how)]
    assert rewrite(["good dog"], 0) == expected
    talk = [dict(role="system", content="be kind"), dict(role="user", content="good dog")]
    order = [[dict(role="user", content="another: good dog")]]
    said = [t.strip() for t in nb.sample(policy, order, **how)]
    assert rewrite([talk], 0) == [[talk[0], dict(role="user", content=said[0])]]


# --- the loop -----------------------------------------------------------------------------------


def test_a_round_is_its_steps(policy, prompts, whole):
    first = whole[0][0]
    asked = pd.DataFrame(dict(id=[f"p{i:05d}" for i in range(24)], prompt=prompts))
    how = dict(progress=False, **SAMPLING)
    answers = selfplay.answer(policy, asked, world.reward, 3, seed=3010, **how)
    given = selfplay.best_and_worst(answers, "r1-")
    data = nb.load_pairs(given)
    logps = nb.response_logprobs(policy, data, progress=False)
    margins = nb.scores.explicit_margin(data), nb.scores.length_normalized_margin(logps)
    potential = nb.scores.alignment_potential(*margins, weight=2.5)
    chosen = [id_.removeprefix("r1-") for id_ in nb.select.top(potential, 6)]  # a quarter of 24
    evolved = first.prompts[first.prompts.parent != ""]
    assert evolved.parent.tolist() == chosen
    parents = asked.set_index("id").prompt[chosen].tolist()
    assert evolved.prompt.tolist() == world.rewrite(parents, 3011)
    fresh = evolved[evolved.left_out == ""]
    to_fresh = selfplay.answer(policy, fresh, world.reward, 3, seed=3012, **how)
    more = selfplay.best_and_worst(to_fresh, "r1-")
    everything = pd.concat([answers, to_fresh], ignore_index=True)
    pd.testing.assert_frame_equal(first.answers, everything)
    assert first.pairs.id.tolist() == [*given.id, *more.id]
    assert first.pairs.evolved.tolist() == [False] * len(given) + [True] * len(more)
    everything = nb.load_pairs(pd.concat([given, more]))
    logps = nb.response_logprobs(policy, everything, progress=False)
    margins = nb.scores.explicit_margin(everything), nb.scores.length_normalized_margin(logps)
    potential = nb.scores.alignment_potential(*margins, weight=2.5)
    table = first.pairs.set_index("id")
    for column, expected in zip(
        ["explicit_margin", "implicit_margin", "alignment_potential"], [*margins, potential]
    ):
        assert table[column].to_dict() == pytest.approx(expected.to_dict(), abs=1e-4)
    keep = table.index[table.selected]
    assert set(keep) == set(nb.select.top(potential, 0.4)) == set(first.base["id"])
    run = nb.train_dpo(policy, first.base, seed=4, progress=False, **TRAIN)
    after = nb.response_logprobs(run.policy, everything, progress=False)
    kept = nb.response_logprobs(first.policy, everything, progress=False)
    pd.testing.assert_frame_equal(after, kept, atol=1e-4)


def test_the_next_round_asks_more_answers_anew_and_adds_to_the_base(policy, whole):
    first, second = whole[0]
    evolved = first.prompts[(first.prompts.parent != "") & (first.prompts.left_out == "")]
    assert len(evolved) and second.prompts.id.tolist()[:24] == first.prompts.id.tolist()[:24]
    assert set(evolved.id) <= set(second.prompts.id)
    assert second.base["id"][: len(first.base)] == first.base["id"][:]
    assert len(set(second.base["id"])) == len(second.base) > len(first.base)
    answers = pd.read_parquet(whole[1] / "round-2" / "answers.parquet")
    asked = answers.groupby("prompt_id", sort=False).first()
    by_first = nb.sample(
        first.policy, answers.prompt.tolist(), seed=3020, progress=False, **SAMPLING,
    )  # fmt: skip
    assert answers.response.tolist() == by_first and len(asked) == 24 + len(evolved)
    assert second.policy.name == "world/small, round-2"


def test_without_progress_nothing_is_shown(policy, prompts, tmp_path, capfd):
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    list(selfplay.self_play(policy, prompts, world.reward, tmp_path, **dict(ROUNDS, rounds=1)))
    assert "%|" not in capfd.readouterr().err
    assert logging.is_progress_bar_enabled() == shown


def test_a_base_set_and_another_selection(policy, prompts, tmp_path):
    base = world.pairs(8, seed=9)
    seen = []

    def everything(pairs):
        seen.append(pairs)
        return pairs.index.tolist()

    (only,) = selfplay.self_play(
        policy, prompts, world.reward, tmp_path, base=base, select=everything,
        **dict(ROUNDS, rounds=1, rewrite=None),
    )  # fmt: skip
    assert only.base["id"][:] == base["id"][:] + only.pairs.id.tolist()
    assert not only.pairs.evolved.any() and (only.prompts.parent == "").all()
    assert {"explicit_margin", "implicit_margin", "alignment_potential"} <= set(seen[0])
    with pytest.raises(ValueError, match="select returned ids that are not of this round: .'x'"):
        list(selfplay.self_play(policy, prompts, world.reward, tmp_path / "other",
                                select=lambda pairs: ["x"], **ROUNDS))  # fmt: skip


def test_conversations_lora_and_a_reward_model_as_judge(tmp_path):
    policy = tiny.policy(tokens=tiny.tokenizer(chat_template=tiny.CHAT_TEMPLATE))
    judge = nb.RewardModel(
        nb.train_reward_model(policy, tiny.text_pairs(), progress=False,
                              trl_options=dict(max_steps=1))
        .reward_model.model, policy.tokenizer,
    )  # fmt: skip
    prompts = [[dict(role="user", content=text)] for text in tiny.text_pairs()["prompt"][:6]]
    rewrite = selfplay.policy_rewriter(policy, max_new_tokens=12, progress=False)
    how = dict(rounds=2, max_new_tokens=6, progress=False, lora=2, batch_size=2,
               rewrite=rewrite)  # fmt: skip
    rounds = list(selfplay.self_play(policy, prompts, judge, tmp_path, **how))
    again = list(selfplay.self_play(policy, prompts, judge, tmp_path, **how))
    same_rounds(again, rounds)
    assert rounds[0].base[0]["chosen"][0]["role"] == "assistant"
    assert not rounds[1].policy.has_adapter


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(k=1), ValueError, "k=1; a best and a worst need 2"),
        (dict(judge=lambda p, r: 1.0), ValueError, "Round 1: to each of the 24 prompts all 3 answ"),
        (dict(k=2.5), TypeError, "k=2.5; expected a whole number, 1 or more"),
        (dict(rounds=0), ValueError, "rounds=0; expected a whole number, 1 or more"),
        (dict(evolve_share=2), ValueError, "evolve_share=2; expected a number above 0 up to 1"),
        (dict(weight=float("nan")), ValueError, "weight=nan; expected a number"),
        (dict(judge="world"), TypeError, "judge: expected a function, got 'world'"),
        (dict(select="top"), TypeError, "select: expected a function, got 'top'"),
        (dict(base=7), TypeError, "base: expected preference pairs, got an int"),
        (dict(policy="world/small"), TypeError, "expected a policy, got the text 'world/small'"),
        (dict(loss="dpop"), ValueError, "loss='dpop'; expected one of"),
        (dict(prompts=7), TypeError, "Expected prompts .*got an int"),
        (dict(prompts=[]), ValueError, "no prompts"),
        (dict(copy_model=False), ValueError, "copy_model: set by the self-play itself"),
        (dict(round=3), TypeError, "self_play has no argument 'round'. Did you mean rounds?"),
        (dict(rewrite="it"), TypeError, "rewrite: expected a function, got 'it'"),
        (dict(select=lambda pairs: []), ValueError, "No pair was selected, and there is no base"),
        (
            dict(
                prompts=pd.DataFrame(dict(id=["a", "a"], prompt=["pet of mia ?", "toy of leo ?"]))
            ),
            ValueError,
            "prompts hold an id more than once",
        ),
    ],
)
def test_what_cannot_be_played_is_said(policy, prompts, tmp_path, change, error, message):
    given = dict(policy=policy, prompts=prompts, judge=world.reward, folder=tmp_path, **ROUNDS)
    with pytest.raises(error, match=message):
        list(selfplay.self_play(**given | change))


@pytest.mark.parametrize("change", [dict(seed=4), dict(k=4), dict(beta=1.0), dict(weight=1.0)])
def test_a_folder_of_another_self_play_is_refused(policy, prompts, whole, change):
    given = dict(ROUNDS) | change
    with pytest.raises(ValueError, match="holds a self-play with another policy, other prompts"):
        list(selfplay.self_play(policy, prompts, world.reward, whole[1], **given))
    with pytest.raises(ValueError, match="holds a self-play"):
        list(selfplay.self_play(policy, prompts[1:], world.reward, whole[1], **ROUNDS))


def test_a_base_set_of_an_earlier_self_play_needs_other_ids(policy, prompts, whole, tmp_path):
    base = whole[0][0].base
    with pytest.raises(ValueError, match="ids of the base set are those of this self-play's own"):
        list(selfplay.self_play(policy, prompts, world.reward, tmp_path / "a", base=base, **ROUNDS))
    renamed = base.map(lambda row: {"id": "old-" + row["id"]})
    how = dict(ROUNDS, rounds=1, select=lambda pairs: [])  # nothing selected: the base stays
    (only,) = selfplay.self_play(policy, prompts, world.reward, tmp_path / "b", base=renamed, **how)
    assert only.base["id"][:] == renamed["id"][:]


def test_prompts_may_bring_ids_of_any_kind(policy, tmp_path):
    asked = pd.DataFrame(dict(id=[7, 8], prompt=["pet of mia ?", "toy of leo ?"]))
    table = selfplay.answer(policy, asked, world.reward, 2, progress=False, **SAMPLING)
    assert table.prompt_id.tolist() == ["7", "7", "8", "8"]
    pairs = selfplay.best_and_worst(table, "r-")
    assert set(pairs.id) <= {"r-7", "r-8"}


# --- interruption -------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
import nbkit as nb
from nbkit import selfplay, world
from nbkit.cache import files
from nbkit.experiments.selfplay import kept

folder, where = sys.argv[1], int(sys.argv[2])
made = 0
def die_in_time(before):
    def wrapped(*args, **kwargs):
        global made
        made += 1
        if made == where:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(*args, **kwargs)
    return wrapped
for module, step in ((files, "write_whole"), (kept, "train_dpo")):
    setattr(module, step, die_in_time(getattr(module, step)))
policy = nb.load_policy("world/small", device="cpu")
prompts = world.prompts(24, part="train")["prompt"][:]
for _ in selfplay.self_play(policy, prompts, world.reward, folder, rounds=2, seed=3, k=3,
                            rewrite=world.rewrite, temperature=0.8, top_p=0.95,
                            max_new_tokens=8, progress=False,
                            beta=0.5, learning_rate=1e-3, batch_size=8):
    pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("where", [3, 5, 6])
def test_a_killed_self_play_goes_on_with_nothing_lost_or_repeated(
    policy, prompts, whole, tmp_path, where, monkeypatch
):
    """Four tables and a training a round: killed inside a round, before its training, between."""
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path, str(where)],
                            capture_output=True)  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    finished = {path for path in tmp_path.rglob("*.parquet")}
    written = {path: path.stat().st_mtime_ns for path in finished}
    asked = []
    from nbkit.experiments.selfplay import steps

    real = steps.sample
    monkeypatch.setattr(steps, "sample", lambda *a, **k: asked.append(len(a[1])) or real(*a, **k))
    resumed = list(selfplay.self_play(policy, prompts, world.reward, tmp_path, **ROUNDS))
    same_rounds(resumed, whole[0])
    assert {path: path.stat().st_mtime_ns for path in finished} == written
    assert len(asked) == 4 - sum("answers" in path.name for path in finished)
    assert not list(tmp_path.rglob("*.tmp"))
