"""Real preference data, end to end: load, score, train, with no special case for any of it."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

import nbkit as nb

FILES = {"alpacaeval_pairs.jsonl": 2034, "short_pairs.jsonl": 1100}


@pytest.fixture(scope="module", params=FILES)
def real(request, shared_data):
    """(pairs, report of the bad rows, number of rows) of one file."""
    pairs, report = nb.load_pairs(shared_data / request.param, on_bad="drop")
    return pairs, report, FILES[request.param]


@pytest.fixture(scope="module")
def tokenizer(shared_data):
    """A byte-level BPE made from the real texts, as real models have."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator((shared_data / "short_pairs.jsonl").open(encoding="utf-8"), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>")


def policy_of(tokenizer, width, layers, vocabulary):
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32,
        num_key_value_heads=1, intermediate_size=2 * width, vocab_size=vocabulary,
        max_position_embeddings=8192, tie_word_embeddings=True, initializer_range=0.05,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return nb.Policy(Qwen2ForCausalLM(config), tokenizer, name=f"width {width}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tokenised prompt is not a prefix")
def test_every_pair_is_scored_by_a_model_of_the_worlds_size(real, tokenizer):
    pairs, report, rows = real
    assert len(pairs) + len(report["row"].unique()) == rows
    table = nb.response_logprobs(policy_of(tokenizer, 32, 2, 2000), pairs, progress=False)
    assert list(table.index) == pairs["id"][:]
    assert table.attrs["left_out"] == {}
    logps = table[["chosen_logp", "rejected_logp"]].to_numpy()
    tokens = table[["chosen_tokens", "rejected_tokens"]].to_numpy()
    assert np.isfinite(logps).all() and (logps < 0).all() and (tokens >= 1).all()
    per_token = logps / tokens  # random weights: near the uniform distribution over 2,000 entries
    assert np.median(per_token) == pytest.approx(-np.log(2000), abs=0.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tokenised prompt is not a prefix")
def test_a_30m_model_scores_and_trains(real, tokenizer):
    pairs, _, _ = real
    policy = policy_of(tokenizer, 512, 8, 24_000)
    assert 25e6 < sum(p.numel() for p in policy.model.parameters()) < 40e6
    lengths = {p.id: p.longest for p in nb.tokenize_pairs(policy.tokenizer, pairs)}
    some = sorted(lengths, key=lengths.get)[100:108]
    few = pairs.filter(lambda row: row["id"] in some)
    run = nb.train_dpo(
        policy, few, lora=4, learning_rate=1e-3, batch_size=2, max_steps=4, log_every=1,
        progress=False,
    )  # fmt: skip
    assert run.history.loss.iloc[0] == pytest.approx(np.log(2), abs=1e-5)
    after = nb.preference_accuracy(run.policy, run.policy.without_adapter(), few)
    assert after.loc["loss", "value"] < np.log(2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tokenised prompt is not a prefix")
def test_the_easiest_of_200_pairs_by_a_5m_model_and_lora(tokenizer, shared_data):
    pairs = nb.load_pairs(shared_data / "alpacaeval_pairs.jsonl")
    policy = policy_of(tokenizer, 256, 8, 6000)
    assert 4e6 < sum(p.numel() for p in policy.model.parameters()) < 6e6
    lengths = {p.id: p.longest for p in nb.tokenize_pairs(policy.tokenizer, pairs)}
    some = set(sorted(lengths, key=lengths.get)[:200])
    few = pairs.filter(lambda row: row["id"] in some)
    how = dict(seeds=1, lora=4, learning_rate=1e-3, batch_size=8, max_steps=4, progress=False)
    losses = nb.scores.cross_fitted_losses(policy, few, **how)
    assert len(losses) == 200 and (losses.notna().sum(axis=1) == 1).all()
    half = nb.scores.folds(few)
    assert half.groupby(few["prompt"][:]).nunique().max() == 1  # three pairs share a prompt
    keep = nb.select.easiest(losses.mean(axis=1), 0.5)
    assert len(keep) == 100 and losses.mean(axis=1)[keep].max() <= losses.mean(axis=1).median()
    run = nb.train_dpo(policy, few, keep, order="given", lora=4, max_steps=2, progress=False)
    assert run.trained_on == keep
