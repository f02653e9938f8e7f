"""Two threads, one model: each gets the numbers it would get alone."""

import copy
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import tiny
import torch

import nbkit as nb
from nbkit.derivatives import along
from nbkit.derivatives.differences import finite_difference
from nbkit.derivatives.parameters import choose
from nbkit.models import locks

PATIENCE = 120  # seconds, after which two threads that wait for each other are a failure


@pytest.fixture(scope="module")
def pairs():
    return tiny.text_pairs(8)


def lora_policy():
    policy = nb.add_lora(tiny.policy(), rank=4)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return policy


def table(policy, pairs, **options):
    return nb.response_logprobs(policy, pairs, budget=100, progress=False, **options)


def at_once(*jobs, times=3):
    """The results of each job, run `times` times in a thread of its own; all threads start
    together."""
    start = threading.Barrier(len(jobs))

    def run(job):
        start.wait()
        return [job() for _ in range(times)]

    pool = ThreadPoolExecutor(len(jobs))
    try:
        return [f.result(timeout=PATIENCE) for f in [pool.submit(run, job) for job in jobs]]
    finally:
        pool.shutdown(wait=False)


def state(policy):
    return (
        policy.causal_lm.config._attn_implementation,
        [m.training for m in policy.model.modules()],
        [p.requires_grad for p in policy.model.parameters()],
    )


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_two_threads_score_one_policy(pairs, path):
    policy = tiny.policy()
    policy.model.train()
    before, expected = state(policy), table(policy, pairs, path=path)
    for found in at_once(*[lambda: table(policy, pairs, path=path)] * 2):
        for one in found:
            pd.testing.assert_frame_equal(one, expected, check_exact=True)
    assert state(policy) == before and before[0] == "sdpa"


def test_one_thread_scores_while_another_samples(pairs):
    policy = tiny.policy(initializer_range=0.05)
    before, expected = state(policy), table(policy, pairs)

    def answers():
        return nb.sample(policy, ["hello", "what is it"], max_new_tokens=12, temperature=0,
                         progress=False)  # fmt: skip

    said = answers()
    scored, sampled = at_once(lambda: table(policy, pairs), answers)
    for one in scored:
        pd.testing.assert_frame_equal(one, expected, check_exact=True)
    assert sampled == [said] * 3 and state(policy) == before


def test_a_policy_and_its_reference_in_two_threads(pairs):
    policy = lora_policy()
    reference = policy.without_adapter()
    before = state(policy)
    expected = [table(p, pairs) for p in (policy, reference)]
    found = at_once(lambda: table(policy, pairs), lambda: table(reference, pairs))
    for tables, one in zip(found, expected, strict=True):
        for other in tables:
            pd.testing.assert_frame_equal(other, one, check_exact=True)
    assert state(policy) == before and policy.model.get_model_status().enabled is True


def test_scoring_sees_no_step_of_a_finite_difference(pairs):
    policy = tiny.policy()
    token_pairs = nb.tokenize_pairs(policy.tokenizer, pairs)
    torch.manual_seed(0)
    direction = {name: torch.randn_like(p) for name, p in choose(policy).items()}
    expected = table(policy, pairs)

    def slopes_of_all():
        return finite_difference(policy, token_pairs, direction, 1.0, progress=False)[1]

    slopes = slopes_of_all()
    scored, found = at_once(lambda: table(policy, pairs), slopes_of_all)
    for one in scored:
        pd.testing.assert_frame_equal(one, expected, check_exact=True)
    assert all(torch.equal(one, slopes) for one in found)


@pytest.mark.parametrize("method", ["jvp", "ghost", "loop"])
def test_derivatives_of_one_policy_in_two_threads(pairs, method):
    policy = tiny.policy()
    token_pairs = nb.tokenize_pairs(policy.tokenizer, pairs)[:3]
    torch.manual_seed(0)
    direction = {name: torch.randn_like(p) for name, p in choose(policy).items()}
    before = state(policy)

    def slopes():
        return along.derivatives(policy, token_pairs, direction, method=method, check=0).margin

    expected = slopes()
    for found in at_once(slopes, slopes, times=2):
        for one in found:
            torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-4)
    assert state(policy) == before


def test_two_policies_in_opposite_order_do_not_wait_for_each_other(pairs):
    a, b = tiny.policy(), tiny.policy("gpt2")

    def score(*policies):
        return [table(p, pairs) for p in policies]

    one, other = at_once(lambda: score(a, b), lambda: score(b, a))
    for (x, y), (v, w) in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(x, w, check_exact=True)
        pd.testing.assert_frame_equal(y, v, check_exact=True)


def test_a_thread_may_be_ready_twice_and_leaves_after_an_error(pairs):
    policy = tiny.policy()
    with pytest.raises(KeyboardInterrupt):
        with policy.ready(), policy.ready():
            raise KeyboardInterrupt
    assert len(at_once(lambda: table(policy, pairs), times=1)[0][0]) == len(pairs)


def test_copies_of_a_policy_wait_for_nobody(pairs):
    policy = tiny.policy()
    with policy.ready():
        other = copy.deepcopy(policy)
        (found,) = at_once(lambda: table(other, pairs), times=1)
        expected = table(policy, pairs)
    pd.testing.assert_frame_equal(found[0], expected, check_exact=True)


def test_a_lock_goes_with_its_model():
    policy = tiny.policy()
    with policy.ready():
        known = len(locks._locks)
    del policy
    import gc

    gc.collect()
    assert len(locks._locks) < known


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_a_thread_it_lacks():
    policy, inside, done = tiny.policy(), threading.Event(), threading.Event()

    def hold():
        with policy.ready():
            inside.set()
            done.wait(PATIENCE)

    def child():
        with policy.ready():
            pass

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert inside.wait(PATIENCE)
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(30)
        exit_code = process.exitcode
        process.kill()
    finally:
        done.set()
        holder.join()
    assert exit_code == 0
