"""The cache: nothing is scored twice, nothing is shared that differs, nothing finished is lost."""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from peft.helpers import rescale_adapter_scale

from nbkit.cache.files import write_whole
from nbkit.cache.hashes import hash_content, hash_pair, hash_weights
from nbkit.logprobs import table as logprobs
from nbkit.logprobs.engine import score_tokens
from nbkit.logprobs.store import LogprobCache
from nbkit.logprobs.table import response_logprobs
from nbkit.models.lora import add_lora
from nbkit.models.policy import Policy, load_policy
from nbkit.tokens.ids import TokenPair, tokenize_pairs


@pytest.fixture
def counted(monkeypatch):
    """Ids of the pairs that were really scored, call by call."""
    calls = []
    real = logprobs.score_tokens

    def count(policy, token_pairs, **options):
        calls.append([p.id for p in token_pairs])
        return real(policy, token_pairs, **options)

    monkeypatch.setattr(logprobs, "score_tokens", count)
    return calls


@pytest.fixture
def pairs():
    return tiny.text_pairs(10)


def score(policy, pairs, cache, **options):
    return response_logprobs(policy, pairs, cache=cache, progress=False, **options)


def forward_passes(policy):
    """Counts the calls of the model's first layer."""
    passes = []
    policy.causal_lm.model.layers[0].register_forward_pre_hook(lambda *call: passes.append(call))
    return passes


def test_a_second_call_runs_no_forward_pass_and_gives_the_same_table(tmp_path, pairs):
    policy = tiny.policy()
    first = score(policy, pairs, tmp_path)
    passes = forward_passes(policy)
    second = score(policy, pairs, tmp_path)
    assert not passes
    pd.testing.assert_frame_equal(second, first, check_exact=True)
    assert second.attrs == first.attrs
    pd.testing.assert_frame_equal(first, response_logprobs(policy, pairs), check_exact=True)
    assert passes


def test_a_grown_data_set_scores_only_what_is_new(tmp_path, pairs, counted):
    policy = tiny.policy()
    score(policy, pairs.select([7, 2, 5]), tmp_path)
    table = score(policy, pairs, tmp_path)
    assert counted == [["p7", "p2", "p5"], ["p0", "p1", "p3", "p4", "p6", "p8", "p9"]]
    whole = response_logprobs(policy, pairs, progress=False)
    assert table.index.tolist() == whole.index.tolist()
    assert (table - whole).abs().max(axis=None) < 2e-5, "each number on its own row"
    again = score(policy, pairs, tmp_path)
    assert counted[-1] == []
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_rows_are_found_by_content_not_by_id(tmp_path, pairs, counted):
    policy = tiny.policy()
    first = score(policy, pairs, tmp_path)
    renamed = pairs.remove_columns("id").add_column("id", [f"other{i}" for i in range(10)])
    table = score(policy, renamed.select([3, 1]), tmp_path)
    assert counted[1] == [] and table.index.tolist() == ["other3", "other1"]
    assert table.to_numpy().tolist() == first.loc[["p3", "p1"]].to_numpy().tolist()
    swapped = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    score(policy, swapped.select([0]), tmp_path)
    edited = pairs.select([0]).map(lambda row: {"chosen": row["chosen"] + " !"})
    score(policy, edited, tmp_path)
    assert counted[2:] == [["p0"], ["p0"]], "another order or another text is another pair"


def test_too_long_pairs_stay_left_out(tmp_path, pairs):
    policy = tiny.policy()
    score(policy, pairs, tmp_path)
    with pytest.warns(UserWarning, match="left out"):
        table = score(policy, pairs, tmp_path, max_length=50)
    assert 0 < len(table) < 10 and len(table) + len(table.attrs["left_out"]) == 10


def test_a_pairs_hash_knows_where_the_boundaries_are():
    same = hash_pair(TokenPair("a", [1, 2], [3], [4]))
    assert same == hash_pair(TokenPair("b", [1, 2], [3], [4])) and len(same) == 32
    others = [([1], [2, 3], [4]), ([1, 2, 3], [], [4]), ([1, 2], [4], [3]), ([1, 2], [3], [4, 0])]
    assert len({same, *(hash_pair(TokenPair("a", *other)) for other in others)}) == 5


# --- what does not share ------------------------------------------------------------------------


def one_weight_more(policy):
    with torch.no_grad():
        policy.model.model.layers[1].mlp.down_proj.weight[0, 0] += 1e-6


def one_bfloat16(policy):
    policy.model.to(torch.bfloat16)


def other_setting(policy):
    policy.model.config.rms_norm_eps = 1e-3


@pytest.mark.parametrize("change", [one_weight_more, one_bfloat16, other_setting])
def test_another_model_does_not_share(tmp_path, pairs, counted, change):
    policy, other = tiny.policy(), tiny.policy()
    change(other)
    assert hash_weights(policy) == hash_weights(tiny.policy()) != hash_weights(other)
    score(policy, pairs.select([0]), tmp_path)
    score(other, pairs.select([0]), tmp_path)
    assert counted == [["p0"]] * 2 and len(list(tmp_path.iterdir())) == 2


def lora(base=None, seed=1, **settings):
    policy = add_lora(base or tiny.policy(), rank=2, lora_options=settings)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    return policy


def test_adapter_on_off_scaled_and_swapped_do_not_share(tmp_path, pairs):
    policy, two = lora(), lora()
    two.model.add_adapter("second", two.model.peft_config["default"])
    plain = {
        "base": tiny.policy(),
        "on": policy,
        "first of two": two,
        "off": policy.without_adapter(),
        "other weights": lora(seed=2),
        "scaled": lora(lora_alpha=64),  # the very same tensors, another strength
    }
    tables = {name: score(p, pairs.select([0]), tmp_path) for name, p in plain.items()}
    two.model.set_adapter("second")
    tables["second of two"] = score(two, pairs.select([0]), tmp_path)
    numbers = {name: table["chosen_logp"].item() for name, table in tables.items()}
    assert numbers["base"] == numbers["off"] == numbers["second of two"], "which is at zero"
    assert numbers["on"] == numbers["first of two"]
    with rescale_adapter_scale(policy.model, 3.0):
        tables["rescaled"] = score(policy, pairs.select([0]), tmp_path)
    numbers["rescaled"] = tables["rescaled"]["chosen_logp"].item()
    differ = {numbers[name] for name in ("base", "on", "other weights", "scaled", "rescaled")}
    assert len(differ) == 5, "each has its own numbers"
    again = score(policy, pairs.select([0]), tmp_path)["chosen_logp"].item()
    assert again == numbers["on"]


def test_numpys_numbers_count_as_pythons():
    told = hash_content(tiny.policy(), {"seed": 3, "rates": [0.5, True]})
    numpys = {"seed": np.int64(3), "rates": [np.float64(0.5), np.bool_(True)]}
    assert hash_content(tiny.policy(), numpys) == told
    assert hash_content(tiny.policy(), {"seed": np.int64(4), "rates": [0.5, True]}) != told


def test_a_trained_policy_and_its_saved_copy_share(tmp_path, pairs, counted):
    policy = tiny.policy()
    score(policy, pairs, tmp_path / "cache")
    again = load_policy(tiny.save(policy, tmp_path / "model"), device="cpu")
    again.model.config.use_cache = False  # as trainers leave it
    score(again, pairs, tmp_path / "cache")
    copied = Policy(copy.deepcopy(policy.model), policy.tokenizer, "another name")
    score(copied, pairs, tmp_path / "cache")
    assert counted[1:] == [[], []]


# --- interruptions ------------------------------------------------------------------------------


def interrupt_at(policy, number):
    """The policy's model raises KeyboardInterrupt in its forward pass `number`."""
    passes = []

    def count(*call):
        passes.append(call)
        if len(passes) == number:
            raise KeyboardInterrupt

    policy.model.model.layers[0].register_forward_pre_hook(count)


def probes_of(path):
    """Small passes of its own that a path starts with."""
    policy = tiny.policy()
    passes = forward_passes(policy)
    list(score_tokens(policy, tiny.token_pairs((5, 4, 3)), path=path, budget=1))
    return len(passes) - 1


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_an_interrupted_run_keeps_what_was_finished_and_resumes(tmp_path, pairs, counted, path):
    policy = tiny.policy()
    interrupt_at(policy, probes_of(path) + 5)
    with pytest.raises(KeyboardInterrupt):
        score(policy, pairs, tmp_path, path=path, budget=1)
    fresh = tiny.policy()
    table = score(fresh, pairs, tmp_path, path=path, budget=1)
    assert len(counted[0]) == 10 and len(counted[1]) == 6, "four pairs were finished"
    whole = response_logprobs(fresh, pairs, path=path, budget=1, progress=False)
    pd.testing.assert_frame_equal(table, whole, check_exact=True)


RUN = """
import sys, test_cache, time, tiny
from nbkit.logprobs import table
table.SECONDS_BETWEEN_PARTS = 0.0
policy = test_cache.lora()
slow = float(sys.argv[2])
policy.causal_lm.model.layers[0].register_forward_pre_hook(lambda *call: time.sleep(slow))
table.response_logprobs(policy, tiny.text_pairs(10), cache=sys.argv[1], budget=1, progress=False)
"""


def run_python(code, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], text=True, cwd=Path(__file__).parent,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment},
    )  # fmt: skip


def wait_for_parts(folder, number, seconds=100):
    until = time.monotonic() + seconds
    while len(list(folder.glob("*/*.parquet"))) < number and time.monotonic() < until:
        time.sleep(0.02)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_process_loses_at_most_the_unfinished_part(tmp_path, pairs, counted):
    process = run_python(RUN, tmp_path, 0.2)
    wait_for_parts(tmp_path, 3)
    process.send_signal(signal.SIGKILL)
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error
    written = len(list(tmp_path.glob("*/*.parquet")))
    assert 3 <= written < 10
    table = score(lora(), pairs, tmp_path, budget=1)
    assert len(counted[0]) == 10 - written
    whole = response_logprobs(lora(), pairs, budget=1, progress=False)
    pd.testing.assert_frame_equal(table, whole, check_exact=True)


def test_two_processes_may_write_at_once(tmp_path, pairs, counted, monkeypatch):
    """Into one folder: the hash of a policy is the same in every process, though settings that
    are sets (an adapter's target modules) are listed in another order by each."""
    monkeypatch.setattr(logprobs, "SECONDS_BETWEEN_PARTS", 0.0)
    process = run_python(RUN, tmp_path, 0.2, PYTHONHASHSEED="1")
    wait_for_parts(tmp_path, 1)
    ours = score(lora(), pairs, tmp_path, budget=1)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    assert len(list(tmp_path.iterdir())) == 1 and not list(tmp_path.glob("*/*.tmp"))
    assert len(list(tmp_path.glob("*/*.parquet"))) == 10 + len(counted[0]) > 10, "both wrote"
    table = score(lora(), pairs, tmp_path)
    assert counted[1:] == [[]]
    whole = response_logprobs(lora(), pairs, budget=1, progress=False)
    pd.testing.assert_frame_equal(table, whole, check_exact=True)
    pd.testing.assert_frame_equal(ours, whole, check_exact=True)


def test_parts_are_written_while_the_run_goes_on(tmp_path, pairs, monkeypatch):
    policy, seen = tiny.policy(), []
    monkeypatch.setattr(logprobs, "SECONDS_BETWEEN_PARTS", 0.0)
    policy.model.model.layers[0].register_forward_pre_hook(
        lambda *call: seen.append(len(list(tmp_path.glob("*/*.parquet"))))
    )
    score(policy, pairs, tmp_path, path="padded", budget=1)
    assert seen == [*[0] * probes_of("padded"), *range(10)]
    store = LogprobCache(tmp_path, policy).load()
    keys = [hash_pair(p) for p in tokenize_pairs(policy.tokenizer, pairs)]
    assert sorted(store.index) == sorted(keys)


def test_a_half_written_part_is_ignored_and_never_has_its_final_name(tmp_path, pairs, monkeypatch):
    policy = tiny.policy()
    score(policy, pairs.select([0, 1]), tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "half.tmp").write_bytes(b"PAR1 and then the power failed")

    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.warns(UserWarning, match="cannot be kept in .*disk full"):
            table = score(policy, pairs.select([2]), tmp_path)
    assert table.index.tolist() == ["p2"]
    assert len(list(folder.glob("*.parquet"))) == 1
    table = score(policy, pairs, tmp_path)
    whole = response_logprobs(policy, pairs, progress=False)
    assert (table - whole).abs().max(axis=None) < 2e-5


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    table, failed = pd.DataFrame({"x": range(2000)}), []

    def write():
        for _ in range(60):
            try:
                write_whole(table, tmp_path / "same.parquet")
            except OSError as error:
                failed.append(error)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / "same.parquet").exists():
            assert len(pd.read_parquet(tmp_path / "same.parquet")) == 2000
    assert not failed and [path.name for path in tmp_path.iterdir()] == ["same.parquet"]
