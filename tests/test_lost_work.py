"""No work is lost: a place that cannot keep results is found before the work, what fails later is
returned all the same, and what was damaged on disk is noticed and made again."""

import os
import shutil
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from filelock import FileLock

import nbkit as nb
from nbkit import world
from nbkit.cache.files import read_whole, try_folder, write_whole
from nbkit.experiments import selfplay
from nbkit.experiments.crossfit import cross_fitted_losses
from nbkit.logprobs.store import LogprobCache
from nbkit.scores.influences import influence

TRAIN = dict(beta=0.5, learning_rate=1e-3, batch_size=8, max_steps=1, progress=False)
HOW = dict(max_new_tokens=8)


@pytest.fixture
def policy():
    return nb.load_policy("world/small", device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return world.pairs(16, seed=5)


def score(policy, pairs, folder):
    return nb.response_logprobs(policy, pairs, cache=folder, progress=False)


def cross_fit(policy, pairs, folder):
    return cross_fitted_losses(policy, pairs, seeds=1, cache=folder, **TRAIN)


def compare(policy, pairs, folder):
    return nb.compare(policy, pairs, {}, world.prompts(4), world.reward, seeds=1, **HOW,
                      cache=folder, **TRAIN)  # fmt: skip


def influences(policy, pairs, folder):
    reference = nb.load_policy("world/small", device="cpu")
    table = nb.response_logprobs(reference, pairs, progress=False)
    few = pairs.select(range(4))
    return influence(policy, table, pairs, few, method="central", cache=folder, progress=False)


def play(policy, pairs, folder, rounds=1, **options):
    how = dict(rounds=rounds, rewrite=world.rewrite, k=3, **HOW, **TRAIN) | options
    asked = world.prompts(6, part="train")
    return list(selfplay.self_play(policy, asked, world.reward, folder, **how))


def plays(policy, pairs, folder):
    given = {("a", 0): dict(prompts=world.prompts(6, part="train"), rounds=1)}
    return selfplay.compare_plays(policy, given, world.prompts(4), world.reward, folder, **HOW,
                                  common=dict(k=3, **HOW, **TRAIN))  # fmt: skip


CALLS = [score, cross_fit, compare, influences, play, plays]
KEEPING = [cross_fit, compare]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Two rounds that nothing happened to."""
    policy = nb.load_policy("world/small", device="cpu")
    return play(policy, None, tmp_path_factory.mktemp("whole"), rounds=2)


def same_rounds(some, others):
    for one, other in zip(some, others):
        pd.testing.assert_frame_equal(one.pairs, other.pairs)
        weights = other.policy.model.state_dict()
        assert all((t == weights[name]).all() for name, t in one.policy.model.state_dict().items())


def on_first_pass(policy, act):
    """Does something when the policy's model, or a copy of it, is first used."""
    done = []

    def once(*call):
        if not done:
            done.append(act())

    policy.model.model.layers[0].register_forward_pre_hook(once)


# --- before the work ----------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("where", ["taken", "taken/below"])
def test_a_file_in_the_way_is_found_before_the_work(policy, pairs, tmp_path, call, where):
    (tmp_path / "taken").write_text("a file")
    on_first_pass(policy, lambda: pytest.fail("the work has begun"))
    with pytest.raises(OSError, match="nothing can be kept in .*taken.*nothing was begun") as said:
        call(policy, pairs, tmp_path / where)
    assert len(str(said.value)) < 300 + len(str(tmp_path))


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may write anywhere")
@pytest.mark.skipif(sys.platform == "win32", reason="folders are not read-only there")
def test_a_read_only_folder_is_found_before_the_work(policy, pairs, tmp_path):
    tmp_path.chmod(0o500)
    for call in (score, cross_fit, compare, play, plays):
        with pytest.raises(PermissionError, match="Permission denied.*so nothing was begun"):
            call(policy, pairs, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("nbkit.cache.files.uuid.uuid4", lambda: type("Name", (), {"hex": "trial"}))
    (tmp_path / "trial.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device\), so nothing was begun"):
        try_folder(tmp_path)


@pytest.mark.parametrize("folder", [3, True, ["a"]])
def test_a_folder_is_a_path(policy, pairs, folder):
    for call in (score, cross_fit, compare, play, plays):
        with pytest.raises(TypeError, match="expected the path of a folder"):
            call(policy, pairs, folder)


def test_the_trial_leaves_nothing(tmp_path):
    assert try_folder(str(tmp_path / "new" / "folder")) == tmp_path / "new" / "folder"
    assert not list((tmp_path / "new" / "folder").iterdir())


def test_what_is_complete_needs_no_writing(policy, pairs, tmp_path, monkeypatch):
    made = [call(policy, pairs, tmp_path / call.__name__) for call in (score, *KEEPING)]
    monkeypatch.setattr("nbkit.cache.files.os.replace", lambda *a: pytest.fail("written"))
    for call, before in zip((score, *KEEPING), made):
        pd.testing.assert_frame_equal(call(policy, pairs, tmp_path / call.__name__), before)


# --- while it goes on ---------------------------------------------------------------------------


def block(folder):
    """A folder's place is taken by a file: nothing can be written there, whoever one is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("a file")


@pytest.mark.parametrize("call", [score, *KEEPING, influences])
def test_what_cannot_be_written_is_returned(policy, pairs, tmp_path, call):
    expected = call(policy, pairs, None)
    on_first_pass(policy, partial(block, tmp_path / "kept"))
    with pytest.warns(UserWarning, match="cannot be kept in .*kept") as heard:
        got = call(policy, pairs, tmp_path / "kept")
    same = pd.testing.assert_series_equal if got.ndim == 1 else pd.testing.assert_frame_equal
    same(got, expected)
    said = {str(w.message) for w in heard if "cannot be kept" in str(w.message)}
    assert len(said) == 1, "one text, however often it failed: it is shown once"


@pytest.mark.parametrize("blocked", ["answers.parquet", "pairs.parquet", "policy"])
def test_a_self_play_that_cannot_write_goes_on(policy, pairs, tmp_path, blocked, played):
    (tmp_path / "round-1" / blocked / "in the way").mkdir(parents=True)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        got = play(policy, pairs, tmp_path)
    assert any("round-1" in str(w.message) for w in heard)
    same_rounds(got, played)


def test_rows_that_could_not_be_written_go_with_the_next(tmp_path):
    rows = pd.DataFrame({"chosen_logp": [-1.0], "rejected_logp": [-2.0], "chosen_tokens": [3],
                         "rejected_tokens": [4]}, ["one"])  # fmt: skip
    store = LogprobCache(tmp_path, tiny.policy())
    block(store.folder)
    with pytest.warns(UserWarning, match="cannot be kept"):
        store.write(rows)
    store.folder.unlink()
    store.write(rows.set_axis(["two"]))
    assert sorted(store.load().index) == ["one", "two"]


# --- damage -------------------------------------------------------------------------------------


def aside(folder):
    return [path.name for path in folder.rglob("*.damaged")]


def test_no_changed_byte_changes_a_number(tmp_path):
    columns = {"x": [1.5, -2.25], "n": [3, 4], "text": ["a", "é"], "talk": [[{"a": 1}]] * 2}
    table = pd.DataFrame(columns, index=pd.Index(["p", "q"], name="id"))
    file = tmp_path / "table.parquet"
    write_whole(table, file)
    whole = file.read_bytes()
    pd.testing.assert_frame_equal(read_whole(file), table)
    noticed = 0
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for position in range(0, len(whole), 29):
            for bit in (1, 64):
                damaged = bytearray(whole)
                damaged[position] ^= bit
                file.write_bytes(damaged)
                read = read_whole(file)
                noticed += read is None
                if read is not None:  # a byte that holds nothing of the table
                    pd.testing.assert_frame_equal(read, table)
    assert noticed > len(whole) / 29 and len(aside(tmp_path)) == noticed == len(heard)


def damage(file):
    begin = file.read_bytes()[:100]
    file.unlink()  # a loaded model is the file itself, in memory
    file.write_bytes(begin)


def edit(file):
    """A number is changed by somebody who can write such a file."""
    table = pd.read_parquet(file)
    column = table.select_dtypes("number").columns[0]
    table.assign(**{column: table[column] + 5}).to_parquet(file)


def lose_a_column(file):
    write_whole(read_whole(file).drop(columns="rejected_tokens"), file)


def lose_a_number(file):
    write_whole(read_whole(file).assign(chosen_logp=np.nan), file)


@pytest.mark.parametrize("harm", [damage, edit, lose_a_column, lose_a_number])
def test_a_damaged_part_is_set_aside_and_made_again(policy, pairs, tmp_path, harm):
    expected = score(policy, pairs, tmp_path)
    (part,) = tmp_path.glob("*/*.parquet")
    harm(part)
    with pytest.warns(UserWarning, match=f"{part.name} is damaged: .*set aside as .*made again"):
        again = score(policy, pairs, tmp_path)
    pd.testing.assert_frame_equal(again, expected)
    assert len(aside(tmp_path)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(score(policy, pairs, tmp_path), expected)


def test_rows_without_a_number_are_not_kept(tmp_path):
    store = LogprobCache(tmp_path, tiny.policy())
    store.write(pd.DataFrame({"chosen_logp": [np.nan, -1.0]}, ["bad", "good"]))
    (part,) = store.folder.iterdir()
    assert read_whole(part).index.tolist() == ["good"]


@pytest.mark.parametrize("harm", [damage, edit])
@pytest.mark.parametrize("call", KEEPING)
def test_a_damaged_result_is_set_aside_and_made_again(policy, pairs, tmp_path, call, harm):
    if (call, harm) == (compare, edit):
        pytest.skip("its tables hold texts only")
    expected = call(policy, pairs, tmp_path)
    harm(sorted(tmp_path.glob("*.parquet"))[0])
    with pytest.warns(UserWarning, match="is damaged: .*set aside as .*made again"):
        again = call(policy, pairs, tmp_path)
    pd.testing.assert_frame_equal(again, expected)
    assert len(aside(tmp_path)) == 1


@pytest.mark.parametrize("what", ["answers.parquet", "pairs.parquet", "policy/model.safetensors"])
def test_a_damaged_part_of_a_self_play_is_made_again(policy, pairs, tmp_path, what, played):
    play(policy, pairs, tmp_path)
    damage(tmp_path / "round-1" / what)
    with pytest.warns(UserWarning, match="is damaged: .*set aside as .*made again"):
        same_rounds(play(policy, pairs, tmp_path), played)
    assert len(aside(tmp_path)) == 1


@pytest.mark.parametrize("content", ["", "[]", '{"key": ', None])
def test_a_self_play_without_a_readable_note_begins_anew(policy, pairs, tmp_path, content, played):
    """Nothing says whose the rounds are; they are kept, but not taken for its own."""
    play(policy, pairs, tmp_path)
    note = tmp_path / "self_play.json"
    note.unlink() if content is None else note.write_text(content)
    with pytest.warns(UserWarning, match="round-1 is damaged: self_play.json does not say"):
        same_rounds(play(policy, pairs, tmp_path), played)
    assert any(name.startswith("round-1") for name in aside(tmp_path))


# --- several at once, and interruptions ---------------------------------------------------------

PLAY = """
import sys, test_lost_work as t
t.play(t.nb.load_policy("world/small", device="cpu"), None, sys.argv[1], int(sys.argv[2]))
"""


def start(folder, rounds):
    return subprocess.Popen(
        [sys.executable, "-W", "always", "-c", PLAY, str(folder), str(rounds)], text=True,
        cwd=Path(__file__).parent, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
def test_a_second_process_in_a_folder_waits_and_says_so(policy, pairs, tmp_path):
    with FileLock(tmp_path / "self_play.lock"):
        process = start(tmp_path, 1)
        for line in process.stderr:
            if "Another process plays in" in line:
                break
        else:
            pytest.fail("it did not wait")
        assert not list(tmp_path.glob("round-*"))
    process.communicate()
    assert process.returncode == 0 and (tmp_path / "round-1" / "policy").is_dir()


@pytest.mark.slow
def test_two_processes_in_one_folder_do_not_hinder_each_other(policy, pairs, tmp_path, played):
    others = [start(tmp_path, 2) for _ in range(2)]
    for other in others:
        _, error = other.communicate()
        assert other.returncode == 0, error
    same_rounds(play(policy, pairs, tmp_path, rounds=2), played)
    assert not aside(tmp_path) and not list(tmp_path.rglob("*.tmp"))


def test_a_round_that_waits_to_be_looked_at_holds_nobody_up(policy, pairs, tmp_path):
    asked, how = world.prompts(6, part="train"), dict(k=3, **HOW, **TRAIN)
    rounds = selfplay.self_play(policy, asked, world.reward, tmp_path, **how)
    first = next(rounds)  # and a cell is run anew, while somebody still holds the iterator
    again = next(selfplay.self_play(policy, asked, world.reward, tmp_path, **how))
    pd.testing.assert_frame_equal(first.pairs, again.pairs)


@pytest.mark.parametrize("when", [2, 3, 4, 6])
def test_an_interrupted_self_play_keeps_what_is_done(
    policy, pairs, tmp_path, when, monkeypatch, played
):
    """Two answerings and a training a round."""
    from nbkit.experiments.selfplay import kept, steps

    begun, stop_at = [], [when]

    def interruptible(real):
        def step(*args, **kwargs):
            begun.append(1)
            if len(begun) == stop_at[0]:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return step

    monkeypatch.setattr(steps, "sample", interruptible(steps.sample))
    monkeypatch.setattr(kept, "train_dpo", interruptible(kept.train_dpo))
    with pytest.raises(KeyboardInterrupt):
        play(policy, pairs, tmp_path, rounds=2)
    begun.clear()
    stop_at[0] = None
    same_rounds(play(policy, pairs, tmp_path, rounds=2), played)
    assert len(begun) == 6 - (when - 1), "nothing that was finished is made again"


# --- names --------------------------------------------------------------------------------------


def test_self_plays_may_have_any_name(policy, tmp_path):
    names = ["../../x", "/", "x" * 300, "x" * 301, "CON", "a:b*?", "Same", "same", "", "..", "é"]
    given = {(name, 0): dict(prompts=world.prompts(4, part="train"), rounds=1) for name in names}
    folder = tmp_path / "deep" / "plays"
    rows = selfplay.compare_plays(policy, given, world.prompts(4), world.reward, folder, **HOW,
                                  common=dict(k=3, **HOW, **TRAIN))  # fmt: skip
    assert rows.play.unique().tolist() == names
    made = [path.name for path in folder.iterdir()]
    assert len({name.casefold() for name in made}) == len(names) and max(map(len, made)) <= 90
    assert os.listdir(tmp_path) == ["deep"] and os.listdir(folder.parent) == ["plays"]
