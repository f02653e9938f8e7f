"""Sampling and judging: real responses, and what is made of their rewards."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import nbkit as nb
from nbkit import world
from nbkit.judges import rewards


@pytest.fixture(scope="module")
def policy():
    return nb.load_policy("world/small", device="cpu")


@pytest.fixture(scope="module")
def prompts():
    return world.prompts(40, seed=0)


def test_greedy_samples_are_the_argmax_of_the_model(policy, prompts):
    responses = nb.sample(policy, prompts, temperature=0, max_new_tokens=12, progress=False)
    for prompt, response in list(zip(prompts["prompt"], responses))[:5]:
        ids = policy.tokenizer(prompt, return_tensors="pt")["input_ids"]
        start = ids.shape[1]
        while ids.shape[1] < start + 12 and ids[0, -1] != policy.tokenizer.eos_token_id:
            with torch.no_grad():
                best = policy.model(ids).logits[0, -1].argmax()
            ids = torch.cat([ids, best.view(1, 1)], dim=1)
        assert policy.tokenizer.decode(ids[0, start:], skip_special_tokens=True) == response


def test_prompts_of_any_length_share_a_batch(policy):
    prompts = ["pet of mia ?", "emblem of leo ? cat logo of ana ?", "?", "toy of sam ? dog"]
    how = dict(temperature=0, max_new_tokens=8, progress=False)
    alone = [nb.sample(policy, [prompt], **how)[0] for prompt in prompts]
    assert nb.sample(policy, prompts, **how) == alone
    assert len(set(alone)) > 1


def test_samples_follow_the_models_distribution(policy):
    """First tokens of 2,000 samples of one prompt, against the softmax."""
    prompt = world.prompts(1, seed=3)["prompt"][0]
    responses = nb.sample(policy, [prompt] * 2000, max_new_tokens=1, progress=False)
    with torch.no_grad():
        logits = policy.model(policy.tokenizer(prompt, return_tensors="pt")["input_ids"]).logits
    p = logits[0, -1].softmax(-1)
    for i in p.topk(3).indices:
        seen = np.mean([r == policy.tokenizer.decode([i]) for r in responses])
        assert seen == pytest.approx(p[i].item(), abs=0.05)


def test_sampling_is_seeded_and_leaves_torchs_state(policy, prompts):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    how = dict(max_new_tokens=12, progress=False)
    one = nb.sample(policy, prompts, seed=1, **how)
    assert torch.equal(torch.rand(3), expected)
    assert one == nb.sample(policy, prompts, seed=1, **how)
    assert one != nb.sample(policy, prompts, seed=2, **how)
    small = nb.sample(policy, prompts, temperature=0, budget=40, **how)  # one prompt at a time
    assert small == nb.sample(policy, prompts, temperature=0, **how)


def test_bad_prompts_are_named(policy):
    with pytest.raises(ValueError, match="no prompts to answer"):
        nb.sample(policy, [])
    with pytest.raises(ValueError, match=r"Expected a `prompt` column, got columns \['text'\]"):
        nb.sample(policy, pd.DataFrame({"text": ["pet of mia ?"]}))
    with pytest.raises(ValueError, match="temperature=-1"):
        nb.sample(policy, ["pet of mia ?"], temperature=-1)


def test_win_rate_counts_wins_and_half_ties(policy, prompts):
    how = dict(temperature=0, max_new_tokens=12, progress=False)
    itself = nb.win_rate(policy, policy, prompts, world.reward, **how)
    assert (itself.value, itself.low, itself.high) == (0.5, 0.5, 0.5)
    against_nothing = nb.win_rate(policy, [""] * 40, prompts, lambda p, r: len(r), **how)
    assert against_nothing.value == 1.0
    fixed = [world.compose("", a, "") for a in prompts["answer"]]
    result = nb.win_rate(policy, fixed, prompts, world.reward, **how)
    expected = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, b in zip(result.table.reward, result.table.baseline_reward)
    ]
    assert result.value == pytest.approx(np.mean(expected))
    assert result.low < result.value < result.high
    assert result.table.reward.tolist() == [
        world.reward(p, r) for p, r in zip(result.table.prompt, result.table.response)
    ]
    assert str(result).startswith(f"win rate {result.value:.3f} [")


def test_win_rate_refuses_what_it_cannot_judge(policy, prompts):
    with pytest.raises(ValueError, match="Got 1 baseline responses to 40 prompts"):
        nb.win_rate(policy, ["dog"], prompts, world.reward, max_new_tokens=2)
    with pytest.raises(ValueError, match="judge gave nan .* expected a finite number"):
        nb.win_rate(policy, [""] * 40, prompts, lambda p, r: float("nan"), max_new_tokens=2)


def test_a_judge_that_fails_is_named_in_a_short_sentence(policy, prompts):
    def ask(judge, responses=("",) * 40):
        with pytest.raises(ValueError) as caught:
            nb.win_rate(policy, list(responses), prompts, judge, max_new_tokens=2, progress=False)
        return str(caught.value)

    one = prompts["prompt"][0]
    for answer in (None, "bad", "1.5", float("inf"), [1, 2]):
        told = ask(lambda p, r, answer=answer: answer)
        assert told.startswith(f"The judge gave {answer!r} for response ")
        assert told.endswith(f"to prompt 0 ({one!r}); 40 such of 40; expected a finite number.")

    def third(prompt, response):
        if prompt == prompts["prompt"][2]:
            raise KeyError("no such pet")
        return 1.0

    with pytest.raises(KeyError, match=r"The judge failed for response .* to prompt 2 \('"):
        nb.win_rate(policy, [""] * 40, prompts, third, max_new_tokens=2, progress=False)
    for judge in (lambda p, r: None, lambda p, r: "bad"):
        with pytest.raises(ValueError) as caught:
            rewards(judge, ["hello " * 100_000], ["dog " * 100_000])
        assert len(str(caught.value)) < 600
    assert rewards(lambda p, r: np.float32(len(r)), ["a", "b"], ["", "dog"]).tolist() == [0, 3]
    assert rewards(lambda p, r: torch.tensor(True), ["a"], [""]).tolist() == [1]


def test_win_rate_refuses_before_it_samples(policy, prompts, monkeypatch):
    def sampled(*args, **kwargs):
        raise AssertionError("sampled")

    monkeypatch.setattr(policy.model, "generate", sampled)
    with pytest.raises(ValueError, match="Got 1 baseline responses to 40 prompts"):
        nb.win_rate(policy, ["dog"], prompts, world.reward)
    with pytest.raises(TypeError, match="judge='good'; expected a function"):
        nb.win_rate(policy, [""] * 40, prompts, "good")
    with pytest.raises(TypeError, match="baseline: expected a policy"):
        nb.win_rate(policy, "world/small", prompts, world.reward)
    with pytest.raises(ValueError, match="confidence=95"):
        nb.win_rate(policy, policy, prompts, world.reward, confidence=95)


def test_win_rate_takes_one_prompt(policy):
    how = dict(max_new_tokens=4, progress=False)
    result = nb.win_rate(policy, [""], "pet of mia ?", lambda p, r: len(r), **how)
    assert result.value == 1.0 and result.table.prompt.tolist() == ["pet of mia ?"]


def test_preference_accuracy_refuses_before_it_scores(policy):
    pairs = world.pairs(4, seed=2, part="validation")
    with pytest.raises(ValueError, match="beta=0"):
        nb.preference_accuracy(policy, policy, pairs, beta=0)
    with pytest.raises(TypeError, match="reference: expected a policy, got None"):
        nb.preference_accuracy(policy, None, pairs)
    with pytest.raises(TypeError, match="pairs: expected preference pairs, got None"):
        nb.preference_accuracy(policy, policy, None)


def test_preference_accuracy_refuses_a_stale_table_before_it_scores(policy, monkeypatch):
    pairs = world.pairs(4, seed=2, part="validation")
    table = nb.response_logprobs(policy, pairs, progress=False)
    turned = nb.flip_labels(pairs, pairs["id"])
    monkeypatch.setattr(policy.model, "forward", lambda *a, **k: pytest.fail("scored"))
    with pytest.raises(ValueError, match="holds other texts under the ids of 4 pairs"):
        nb.preference_accuracy(policy, table, turned)
    with pytest.raises(ValueError, match="table 'reference' lacks 1 of 4 pairs"):
        nb.preference_accuracy(policy, table.iloc[1:], pairs)


def test_preference_accuracy_says_once_what_is_left_out_and_keeps_it(policy):
    rows = world.pairs(5, seed=0).to_list()
    rows[0]["chosen"] = "cat " * 400
    pairs = nb.load_pairs(rows)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        result = nb.preference_accuracy(policy, policy, pairs)
    said = [each for each in said if "are left out" in str(each.message)]
    assert len(said) == 1 and "1 of 5 pairs" in str(said[0].message)
    assert list(result.attrs["left_out"]) == [rows[0]["id"]]


def test_preference_accuracy_on_held_out_pairs(policy):
    pairs = world.pairs(60, seed=2, part="validation")
    other = nb.load_policy("world/large", device="cpu")
    result = nb.preference_accuracy(other, policy, pairs, beta=0.5)
    tables = [nb.response_logprobs(p, pairs, progress=False) for p in (other, policy)]
    margin = nb.scores.implicit_margin(*tables, beta=0.5)
    assert result.loc["accuracy", "value"] == pytest.approx((margin > 0).mean())
    assert result.loc["margin", "value"] == pytest.approx(margin.mean())
    assert result.loc["loss", "value"] == pytest.approx(np.log1p(np.exp(-margin)).mean())
    assert (result.low <= result.value).all() and (result.value <= result.high).all()
    same = nb.preference_accuracy(policy, tables[1], pairs)
    assert same.loc["loss", "value"] == pytest.approx(np.log(2))
