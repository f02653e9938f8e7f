"""Real preference data, end to end: load, score, train, with no special case for any of it."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

import nbkit as nb

pytestmark = pytest.mark.filterwarnings("ignore:.*tokenised prompt is not a prefix")
FILES = {"alpacaeval_pairs.jsonl": 2034, "short_pairs.jsonl": 1100}
ALPACA = pytest.mark.parametrize("real", ["alpacaeval_pairs.jsonl"], indirect=True)
QUIET = dict(progress=False)


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


def config_of(width, layers, vocabulary, **more):
    torch.manual_seed(0)
    return Qwen2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32,
        num_key_value_heads=1, intermediate_size=2 * width, vocab_size=vocabulary,
        max_position_embeddings=8192, tie_word_embeddings=True, initializer_range=0.05,
        bos_token_id=None, eos_token_id=1, pad_token_id=0, **more,
    )  # fmt: skip


def policy_of(tokenizer, *size):
    return nb.Policy(Qwen2ForCausalLM(config_of(*size)), tokenizer, name=f"width {size[0]}")


def shortest(pairs, tokenizer, low, high):
    """The pairs from the `low`-th to the `high`-th in tokens, in the order of the data."""
    lengths = {p.id: p.longest for p in nb.tokenize_pairs(tokenizer, pairs)}
    some = set(sorted(lengths, key=lengths.get)[low:high])
    return pairs.filter(lambda row: row["id"] in some)


@pytest.fixture(scope="module")
def table(real, tokenizer):
    """Log-probs of every pair of a file, by a model of the world's size."""
    return nb.response_logprobs(policy_of(tokenizer, 32, 2, 2000), real[0], **QUIET)


@pytest.mark.slow
def test_every_pair_is_scored_by_a_model_of_the_worlds_size(real, table):
    pairs, report, rows = real
    assert len(pairs) + len(report["row"].unique()) == rows
    assert list(table.index) == pairs["id"][:]
    assert table.attrs["left_out"] == {}
    logps = table[["chosen_logp", "rejected_logp"]].to_numpy()
    tokens = table[["chosen_tokens", "rejected_tokens"]].to_numpy()
    assert np.isfinite(logps).all() and (logps < 0).all() and (tokens >= 1).all()
    per_token = logps / tokens  # random weights: near the uniform distribution over 2,000 entries
    assert np.median(per_token) == pytest.approx(-np.log(2000), abs=0.5)


@pytest.mark.slow
def test_a_30m_model_scores_and_trains(real, tokenizer):
    pairs, _, _ = real
    policy = policy_of(tokenizer, 512, 8, 24_000)
    assert 25e6 < sum(p.numel() for p in policy.model.parameters()) < 40e6
    few = shortest(pairs, tokenizer, 100, 108)
    run = nb.train_dpo(
        policy, few, lora=4, learning_rate=1e-3, batch_size=2, max_steps=4, log_every=1,
        progress=False,
    )  # fmt: skip
    assert run.history.loss.iloc[0] == pytest.approx(np.log(2), abs=1e-5)
    after = nb.preference_accuracy(run.policy, run.policy.without_adapter(), few)
    assert after.loc["loss", "value"] < np.log(2)


@pytest.mark.slow
def test_the_easiest_of_200_pairs_by_a_5m_model_and_lora(tokenizer, shared_data):
    pairs = nb.load_pairs(shared_data / "alpacaeval_pairs.jsonl")
    policy = policy_of(tokenizer, 256, 8, 6000)
    assert 4e6 < sum(p.numel() for p in policy.model.parameters()) < 6e6
    few = shortest(pairs, tokenizer, 0, 200)
    ref = nb.response_logprobs(policy, few, **QUIET)
    how = dict(reference=ref, lora=4, progress=False)
    training = dict(seeds=1, learning_rate=1e-3, batch_size=8, max_steps=4)
    losses = nb.cross_fitted_losses(policy, few, **training, **how)
    assert len(losses) == 200 and (losses.notna().sum(axis=1) == 1).all()
    half = nb.folds(few)
    assert half.groupby(few["prompt"][:]).nunique().max() == 1  # three pairs share a prompt
    keep = nb.select.easiest(losses.mean(axis=1), 0.5)
    assert len(keep) == 100 and losses.mean(axis=1)[keep].max() <= losses.mean(axis=1).median()
    run = nb.train_dpo(policy, few, keep, order="given", max_steps=2, **how)
    assert run.trained_on == keep


# --- margins and alignment potential: what lessons 05 and 06 do with the world ----------------


def z(values):
    return (values - np.mean(values)) / np.std(values)


def best(values, ids, count):
    """Ids of the highest values, ties in the order of the ids."""
    return [id_ for _, id_ in sorted(zip(-np.asarray(values), ids))[:count]]


@pytest.mark.slow
@ALPACA
def test_margins_and_potential_of_every_pair_are_numpys(real, table, shared_data, ax):
    rows = pd.read_json(shared_data / "alpacaeval_pairs.jsonl", lines=True, dtype=False)
    ids, judged = rows["id"].tolist(), (rows.chosen_score - rows.rejected_score).to_numpy()
    explicit = nb.scores.explicit_margin(real[0])
    assert explicit.index.tolist() == ids and explicit.to_numpy() == pytest.approx(judged)
    implicit = nb.scores.length_normalized_margin(table)
    logps = table[["chosen_logp", "rejected_logp"]].to_numpy()
    reached = logps / table[["chosen_tokens", "rejected_tokens"]].to_numpy() @ [1, -1]
    assert implicit.index.tolist() == ids and implicit.to_numpy() == pytest.approx(reached)

    weight = nb.scores.residual_weight(explicit, implicit)
    slope = stats.linregress(z(np.abs(reached)), z(judged)).slope
    assert weight == pytest.approx(max(0, slope))
    for w in (1.0, 2.5, weight):
        m_ap = nb.scores.alignment_potential(explicit, implicit, w)
        assert m_ap.index.tolist() == ids
        assert m_ap.to_numpy() == pytest.approx(z(judged) - w * z(np.abs(reached)))
        keep = nb.select.top(m_ap, 0.4)
        assert len(keep) == 814 and keep == best(m_ap, ids, 814)
    gap = nb.scores.alignment_potential(explicit, implicit, 2.0, standardize=False)
    assert gap.to_numpy() == pytest.approx(np.abs(judged) - 2 * np.abs(reached))

    clipped = [np.clip(x, *np.percentile(x, [1, 99])) for x in (judged, reached)]
    p, q = ((x - x.min()) / (x.max() - x.min()) for x in clipped)
    with np.errstate(invalid="ignore"):  # one is sure of the label, the other that it is wrong
        surely = np.nan_to_num(p * q / (p * q + (1 - p) * (1 - q)), nan=0.5)
    bees = nb.scores.bees(explicit, implicit)
    assert bees.index.tolist() == ids and bees.to_numpy() == pytest.approx(surely)

    m_ap = nb.scores.alignment_potential(explicit, implicit)
    keep = nb.select.top(m_ap, 0.4)
    nb.plots.margin_plane(explicit, implicit, share=0.4, ax=ax)
    drawn = {c.get_label(): c.get_offsets() for c in ax.collections}
    chosen = sorted(ids.index(id_) for id_ in keep)  # points are drawn in the order of the pairs
    points = np.stack([z(np.abs(reached)), z(judged)], axis=1)[chosen]
    np.testing.assert_allclose(drawn["kept 40%: 814 pairs"], points, atol=1e-9)
    assert len(drawn["dropped 60%: 1,220 pairs"]) == 1220
    ax.clear()
    nb.plots.kept_and_dropped(-m_ap, 0.4, ax)  # lowest first
    kept, dropped = (sum(bar.get_height() for bar in bars) for bars in ax.containers)
    assert (kept, dropped) == (814, 1220)
    assert ax.lines[0].get_xdata()[0] == pytest.approx(-m_ap[keep[-1]])


@pytest.mark.slow
@ALPACA
def test_while_the_policy_is_its_own_reference_the_judge_alone_ranks_real_pairs(real, table):
    explicit = nb.scores.explicit_margin(real[0])
    implicit = nb.scores.implicit_margin(table, table)
    assert (implicit == 0).all() and len(implicit) == 2034
    with pytest.warns(UserWarning, match="falls back to the explicit margin alone"):
        m_ap = nb.scores.alignment_potential(explicit, implicit)
    assert m_ap.to_numpy() == pytest.approx(z(explicit.to_numpy()))
    assert nb.select.top(m_ap, 0.4) == best(explicit, explicit.index, 814)
    with pytest.raises(ValueError, match="no weight to choose"):
        nb.scores.residual_weight(explicit, implicit)


@pytest.mark.slow
@ALPACA
def test_a_saved_reward_model_scores_real_pairs_as_one_row_at_a_time(real, tokenizer, tmp_path):
    model = Qwen2ForSequenceClassification(config_of(32, 1, 2000, num_labels=1)).eval()
    model.score.weight.data.normal_()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    judge = nb.load_reward_model(tmp_path, device="cpu")
    pairs = real[0].select(range(0, 2034, 3))  # one for each prompt: all lengths
    assert len(set(pairs["prompt"])) == 678
    scores = nb.reward_scores(judge, pairs, **QUIET)
    assert scores.index.tolist() == pairs["id"][:] and scores.notna().all(axis=None)
    model = model.double()
    own = judge.tokenizer  # transformers loads a Qwen2 folder with Qwen2's way to split words
    for row in pairs.select(range(0, 678, 40)):
        for side in ("chosen", "rejected"):
            ids = own(row["prompt"] + row[side])["input_ids"] + [own.eos_token_id]
            with torch.inference_mode():
                alone = model.score(model.model(torch.tensor([ids]))[0][0, -1]).item()
            assert scores.loc[row["id"], f"{side}_score"] == pytest.approx(alone, abs=1e-4)
    margin = nb.scores.explicit_margin(scores)
    assert margin.to_numpy() == pytest.approx((scores.chosen_score - scores.rejected_score).values)
    assert margin.std() > 0.1  # numbers to tell apart, not one for all


@pytest.mark.slow
@ALPACA
def test_real_pairs_from_warm_up_to_a_training_on_the_kept_ones(real, tokenizer, tmp_path):
    few = shortest(real[0], tokenizer, 0, 30)
    policy = policy_of(tokenizer, 64, 2, 2000)
    how = dict(learning_rate=5e-3, batch_size=10, **QUIET)
    warm = nb.train_dpo(policy, few, lora=4, max_steps=6, **how).policy
    ref = nb.response_logprobs(policy, few, **QUIET)
    logps = nb.response_logprobs(warm, few, **QUIET)
    same = nb.response_logprobs(warm.without_adapter(), few, **QUIET)
    pd.testing.assert_frame_equal(same, ref, atol=1e-4)

    implicit = nb.scores.implicit_margin(logps, ref, beta=0.1)
    moved = (logps - ref)[["chosen_logp", "rejected_logp"]].to_numpy() @ [0.1, -0.1]
    assert implicit.to_numpy() == pytest.approx(moved) and moved.mean() > 0.01
    learned = nb.train_reward_model(policy, few, trl_options=dict(max_steps=3), **how).reward_model
    judged = {
        "columns": nb.scores.explicit_margin(few),
        "reward model": nb.scores.explicit_margin(nb.reward_scores(learned, few, **QUIET)),
    }
    for explicit in judged.values():
        m_ap = nb.scores.alignment_potential(explicit, implicit)
        assert m_ap.index.tolist() == few["id"][:]
        assert m_ap.to_numpy() == pytest.approx(z(explicit.to_numpy()) - z(np.abs(moved)))
        keep = nb.select.top(m_ap, 0.4)
        assert keep == best(m_ap, m_ap.index, 12)
        run = nb.train_dpo(warm, few, keep, order="given", max_steps=2, log_every=1, **how)
        assert run.trained_on == keep and run.left_out == {}

    kept = few.select([few["id"].index(id_) for id_ in keep])
    kept.to_json(tmp_path / "kept.jsonl")
    again = nb.load_pairs(tmp_path / "kept.jsonl")
    assert again["id"][:] == keep
    margins = nb.scores.explicit_margin(again)
    pd.testing.assert_series_equal(margins, judged["columns"][keep])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tokenised prompt is not a prefix", "ignore:.*is_gradient_ch")
@pytest.mark.parametrize("adapter", [False, True])
def test_influence_by_a_30m_model_and_by_lora(tokenizer, shared_data, adapter):
    pairs = nb.load_pairs(shared_data / "alpacaeval_pairs.jsonl")
    policy = policy_of(tokenizer, 512, 8, 24_000)
    by_length = np.argsort([p.longest for p in nb.tokenize_pairs(policy.tokenizer, pairs)])
    few, goal = pairs.select(by_length[100:104]), pairs.select(by_length[104:106])
    reference = policy
    if adapter:
        policy = nb.add_lora(policy, 8)
        reference = policy.without_adapter()
    logps = nb.response_logprobs(policy, few, progress=False) if adapter else None
    found = nb.scores.influence(policy, reference, few, goal, logps=logps, check=2, progress=False)
    assert found.attrs["method"] == ("forward" if adapter else "central")
    assert found.attrs["error"] < 0.01 and np.isfinite(found).all() and found.std() > 0
    exact = nb.scores.influence(policy, reference, few, goal, method="ghost", progress=False)
    assert np.corrcoef(found, exact)[0, 1] > 0.9999
