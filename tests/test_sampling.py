"""Sampling: what ends an answer, what does not leak into it, and what is refused before."""

import inspect
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import tiny
import torch
from transformers import GenerationConfig

import nbkit as nb
from nbkit.models.lora import add_lora
from nbkit.models.policy import Policy
from nbkit.sampling import stop_tokens

QUIET = dict(progress=False)
GREEDY = dict(temperature=0, max_new_tokens=20, progress=False)


@pytest.fixture
def policy():
    return tiny.policy()


def argmax_ids(policy, text, steps):
    """The ids that greedy decoding gives, one forward pass a token."""
    ids = policy.tokenizer(text)["input_ids"]
    start = len(ids)
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(policy.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


@pytest.mark.parametrize("as_list", [True, False])
def test_an_answer_ends_at_the_models_own_stop_tokens(policy, as_list):
    ids = argmax_ids(policy, "what is it ?", 20)
    stop = next(id_ for id_ in ids[3:] if id_ not in ids[:3])
    whole = nb.sample(policy, "what is it ?", **GREEDY)
    assert whole == [policy.tokenizer.decode(ids, skip_special_tokens=True)]
    policy.model.generation_config.eos_token_id = [2, stop] if as_list else stop
    short = ids[: ids.index(stop)]
    assert 3 <= len(short) < 20
    told = nb.sample(policy, ["what is it ?", "hello"], **GREEDY)
    assert told[0] == policy.tokenizer.decode(short, skip_special_tokens=True)
    assert stop_tokens(policy) == sorted({3, stop, *([2] if as_list else [])})


def test_the_tokenizers_eos_ends_an_answer_too(policy):
    ids = argmax_ids(policy, "what is it ?", 20)
    stop = next(id_ for id_ in ids[3:] if id_ not in ids[:3] and id_ < 404)
    policy.model.generation_config.eos_token_id = 2
    policy.tokenizer.eos_token = policy.tokenizer.convert_ids_to_tokens(stop)
    expected = policy.tokenizer.decode(ids[: ids.index(stop)], skip_special_tokens=True)
    assert nb.sample(policy, "what is it ?", **GREEDY) == [expected]


def test_nothing_else_of_the_generation_config_counts(policy):
    greedy = nb.sample(policy, ["what is it ?", "hello"], **GREEDY)
    drawn = nb.sample(policy, ["what is it ?", "hello"], max_new_tokens=20, **QUIET)
    own = GenerationConfig(
        repetition_penalty=5.0, temperature=0.1, top_k=1, min_p=0.5, top_p=0.1, do_sample=True,
        suppress_tokens=argmax_ids(policy, "what is it ?", 5), no_repeat_ngram_size=1,
        max_length=3, min_new_tokens=15, forced_eos_token_id=7, num_return_sequences=2,
        bad_words_ids=[[5]], eos_token_id=3,
    )  # fmt: skip
    policy.model.generation_config = own
    assert nb.sample(policy, ["what is it ?", "hello"], **GREEDY) == greedy
    assert nb.sample(policy, ["what is it ?", "hello"], max_new_tokens=20, **QUIET) == drawn
    assert policy.model.generation_config is own, "the model's own config is as it was"


def test_the_generation_config_is_as_it_was_after_an_error(policy):
    own = policy.model.generation_config
    with torch.no_grad():
        policy.model.lm_head.weight[:] = float("nan")
    with pytest.raises(ValueError):
        nb.sample(policy, "hello", **QUIET)
    assert policy.model.generation_config is own


def test_greedy_and_drawn_answers_come_without_warnings(policy, caplog):
    policy.model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.6, top_p=0.9, top_k=40, max_length=60, eos_token_id=[3, 2]
    )
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        nb.sample(policy, ["hello", "what is it ?"], **GREEDY)
        nb.sample(policy, ["hello", "what is it ?"], max_new_tokens=4, top_p=0.9, **QUIET)
    assert not caplog.records


def test_one_prompt_has_one_answer(policy):
    (answer,) = nb.sample(policy, "hello", **GREEDY)
    assert nb.sample(policy, ["hello"], **GREEDY) == [answer]
    assert nb.sample(policy, pd.DataFrame({"prompt": ["hello"]}), **GREEDY) == [answer]
    chat = tiny.policy(tokens=tiny.tokenizer(chat_template=tiny.CHAT_TEMPLATE))
    assert len(nb.sample(chat, [{"role": "user", "content": "hello"}], **GREEDY)) == 1
    assert nb.sample((policy.model, policy.tokenizer), "hello", **GREEDY) == [answer]
    with pytest.raises(TypeError, match=r"nb\.load_policy\('world/small'\)"):
        nb.sample("world/small", "hello")


def test_prompts_beyond_the_models_length_are_refused_before(policy, monkeypatch):
    def generate(*args, **kwargs):
        raise AssertionError("generated")

    monkeypatch.setattr(policy.model, "generate", generate)
    long = "hello " * 300
    message = r"^Prompt 1 has \d+ tokens; with max_new_tokens=20 that is more than the 256 the mod"
    with pytest.raises(ValueError, match=message):
        nb.sample(policy, ["hello", long, long], **GREEDY)
    with pytest.raises(ValueError, match="Prompt 0 has 1 tokens; with max_new_tokens=256"):
        nb.sample(policy, "hello", max_new_tokens=256)


def test_the_default_length_is_within_the_model():
    short = tiny.policy(max_position_embeddings=32)
    (answer,) = nb.sample(short, "hello", temperature=0, **QUIET)
    assert answer == nb.sample(short, "hello", temperature=0, max_new_tokens=16, **QUIET)[0]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (dict(temperature=-1), ValueError, "temperature=-1"),
        (dict(temperature=float("nan")), ValueError, "temperature=nan"),
        (dict(temperature="hot"), TypeError, "temperature='hot'; expected a number"),
        (dict(top_p=0), ValueError, "top_p=0"),
        (dict(top_p=1.5), ValueError, "top_p=1.5"),
        (dict(max_new_tokens=0), ValueError, "max_new_tokens=0; expected a whole number"),
        (dict(max_new_tokens=2.5), TypeError, "max_new_tokens=2.5"),
        (dict(budget=-1), ValueError, "budget=-1"),
    ],
)
def test_settings_out_of_range_are_refused(policy, wrong, error, message):
    with pytest.raises(error, match=message):
        nb.sample(policy, "hello", **wrong)


def test_prompts_that_cannot_be_read_are_refused(policy):
    with pytest.raises(ValueError, match="Prompt 1 has no tokens"):
        nb.sample(policy, ["hello", ""])
    assert len(nb.sample(Policy(policy.model, tiny.tokenizer(bos=True)), [""], **GREEDY)) == 1
    small = tiny.policy(vocab_size=300)
    with pytest.raises(ValueError, match=r"token id \d+, but the model's embedding has 300 rows"):
        nb.sample(small, "what is it ?")
    with pytest.raises(TypeError, match="Prompt 1 is None"):
        nb.sample(policy, ["hello", None])


def test_a_tokenizer_without_pad_and_eos_samples(policy):
    bare = Policy(policy.model, tiny.tokenizer(pad_token=None, eos_token=None))
    policy.model.generation_config.eos_token_id = None
    prompts = ["what is it ?", "hello", "thank you for asking !"]
    alone = [nb.sample(bare, prompt, **GREEDY)[0] for prompt in prompts]
    assert nb.sample(bare, prompts, **GREEDY) == alone
    assert stop_tokens(bare) == []


def test_fillers_after_the_end_are_no_text(policy):
    """Without a pad token the filler may be a token with a text."""
    ids = argmax_ids(policy, "what is it ?", 20)
    stop = next(id_ for id_ in ids[3:] if id_ not in ids[:3])
    bare = Policy(policy.model, tiny.tokenizer(pad_token=None, eos_token=None, unk_token=None))
    bare.tokenizer.pad_token = "!"
    policy.model.generation_config.eos_token_id = stop
    assert nb.sample(bare, ["what is it ?", "hello"], **GREEDY)[0] == bare.tokenizer.decode(
        ids[: ids.index(stop)], skip_special_tokens=True
    )


def test_everything_that_samples_has_the_same_defaults():
    play = nb.selfplay
    plays = [play.self_play, play.compare_plays, play.answer, play.policy_rewriter]
    for function in (nb.sample, nb.win_rate, nb.compare, *plays):
        arguments = inspect.signature(function).parameters
        names = ("temperature", "top_p", "max_new_tokens")
        assert [arguments[name].default for name in names] == [0.7, 1.0, None], function


@pytest.mark.parametrize("temperature", [0, 1])
def test_nan_weights_are_named(policy, temperature):
    with torch.no_grad():
        policy.model.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    message = "^Policy 'llama' gives NaN or infinity for prompt [01]. Its weights .*up_proj.weight"
    with pytest.raises(ValueError, match=message):
        nb.sample(policy, ["hello", "what is it ?"], temperature=temperature, **QUIET)


def test_sampling_and_scoring_take_turns_in_threads(policy):
    pairs, prompts = tiny.text_pairs(4), ["hello", "what is it ?"]
    calls = [
        lambda: nb.sample(policy, prompts, **GREEDY),
        lambda: nb.response_logprobs(policy, pairs, progress=False).round(4).to_dict(),
    ]
    alone = [call() for call in calls]
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda call: call(), calls * 4))
    assert told == alone * 4


def test_an_adapter_answers_as_its_model_does(policy):
    adapted = add_lora(policy, rank=2)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    ids = argmax_ids(adapted, "what is it ?", 20)
    expected = adapted.tokenizer.decode(ids, skip_special_tokens=True)
    adapted.causal_lm.generation_config.eos_token_id = None
    adapted.tokenizer.eos_token = None
    assert nb.sample(adapted, "what is it ?", **GREEDY) == [expected]
    assert nb.sample(adapted.without_adapter(), "what is it ?", **GREEDY) != [expected]
