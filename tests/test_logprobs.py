"""Log-probs: against float64 by hand, against TRL, and whatever could make them differ."""

import copy
import dataclasses
import types
import warnings

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from trl import DPOTrainer

import nbkit as nb
from nbkit.logprobs import attending, engine, head, packing
from nbkit.logprobs.head import target_logps, why_not_plain
from nbkit.logprobs.rows import LOGPS
from nbkit.logprobs.table import COLUMNS, logprob_table, response_logprobs, token_logprobs
from nbkit.models.lora import add_lora
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair, tokenize_pairs

# Which path a family takes on sequences of about 60 tokens, and why.
PATHS = {
    "llama": None,
    "qwen2": None,
    "qwen3": None,
    "mistral": None,
    "mistral_window": "its sliding window (16) is shorter than the longest sequence (58)",
    "gpt2": None,
    "gpt_neox": None,
    "gemma": None,
    "gemma2": "its config scales or caps the logits (final_logit_softcapping)",
    "gemma3": "its sliding window (16) is shorter than the longest sequence (58)",
    "gemma3_wide": None,
    "phi": "its LM head has a bias",
    "granite": "its config scales or caps the logits (logits_scaling)",
    "cohere": "its config scales or caps the logits (logit_scale)",
    "gpt_oss": "its packed pass fails (packed attention knows no s_aux)",
    "bloom": "its attention cannot be exchanged",
    "opt": None,
    "bart": "its attention cannot be exchanged",
    "bigcode": None,
    "falcon": "its attention cannot be exchanged",
    "mixtral": None,
    "deepseek_v3": None,
    "mamba": "its attention cannot be exchanged",
}


@pytest.fixture(scope="module")
def pairs():
    return tiny.text_pairs()


@pytest.fixture(scope="module")
def llama():
    return tiny.policy()


def scores(policy, token_pairs, **options):
    """float64 [n, 2] straight from the engine."""
    table = torch.zeros(2 * len(token_pairs), dtype=torch.float64)
    for scored in engine.score_tokens(policy, token_pairs, **options):
        table.index_add_(0, scored.owners, scored.logps.double())
    return table.reshape(-1, 2)


def close(a, b, nats=1e-4):
    a, b = (x if torch.is_tensor(x) else torch.tensor(np.asarray(x)) for x in (a, b))
    torch.testing.assert_close(a, b, atol=nats, rtol=0)


def quiet(policy, pairs, **options):
    return response_logprobs(policy, pairs, progress=False, **options)


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", PATHS)
def test_numbers_equal_float64_by_hand(family, pairs):
    policy = tiny.policy(family)
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    expected = tiny.by_hand(policy, token_pairs)
    assert expected.min() < -250, "sums of some hundred nats"
    assert engine.why_not_packed(policy, 58) == PATHS[family]
    assert max(p.longest for p in token_pairs) == 58
    for path in ("auto", "padded") if PATHS[family] else ("auto", "padded", "packed"):
        table = quiet(policy, pairs, path=path)
        close(table[LOGPS], expected)
        assert table["chosen_tokens"].tolist() == [len(p.chosen) for p in token_pairs]
        assert table["rejected_tokens"].tolist() == [len(p.rejected) for p in token_pairs]
    if PATHS[family]:
        with pytest.raises(ValueError) as error:
            quiet(policy, pairs, path="packed")
        assert str(error.value) == f"The packed path cannot serve {family!r}: {PATHS[family]}."


@pytest.mark.parametrize("window, longest, packed", [(58, 58, True), (57, 58, False)])
def test_a_window_as_long_as_the_sequence_changes_nothing(pairs, window, longest, packed):
    policy = tiny.policy("mistral", sliding_window=window)
    assert (engine.why_not_packed(policy, longest) is None) == packed
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    close(quiet(policy, pairs)[LOGPS], tiny.by_hand(policy, token_pairs))


def test_a_head_that_scales_under_an_unknown_name_is_measured(pairs):
    policy = tiny.policy()
    forward = policy.model.forward

    def scaled(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits / 24
        return out

    policy.model.forward = scaled
    expected = tiny.by_hand(policy, tokenize_pairs(policy.tokenizer, pairs))
    assert engine.why_not_packed(policy, 58) == "its logits are not hidden @ weight.T"
    for path in ("auto", "padded"):
        close(quiet(policy, pairs, path=path)[LOGPS], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_attention_that_differs_in_a_way_unknown_is_measured(monkeypatch, dtype):
    policy = tiny.policy("gpt_oss")
    policy.model.to(dtype)
    monkeypatch.setattr(attending, "CHANGES_ATTENTION", ())
    assert engine.why_not_packed(policy, 58).startswith("on a probe its two paths differ by 0.")


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_the_probe_allows_for_rounding_that_the_model_itself_shows(monkeypatch, shift):
    """Packed attention by a kernel that rounds in another place, as on CUDA; and one that is wrong.
    Without the allowance that half precision has anyway."""

    def kernel(q, k, v, **options):
        out = torch.nn.functional.scaled_dot_product_attention(
            q.float(), k.float(), v.float(), **options
        )
        return out.to(q.dtype) + shift

    policy = tiny.policy()
    policy.model.to(torch.bfloat16)
    monkeypatch.setattr("nbkit.logprobs.precision.NOISE", {torch.bfloat16: 0.0})
    functional = types.SimpleNamespace(scaled_dot_product_attention=kernel)
    monkeypatch.setattr(attending, "F", functional)
    reason = engine.why_not_packed(policy, 58)
    assert (reason is None) == (shift == 0) and policy.model.config._attn_implementation == "sdpa"
    with policy.ready(), torch.no_grad():
        probe = tiny.token_pairs((5, 4, 6))
        packed, padded = (
            next(way(policy, probe, 64)).logps for way in (engine._packed, engine._padded)
        )
    assert (packed - padded).abs().max() > 2e-3, "more than is allowed without a second kernel"


def test_any_id_in_the_embedding_fills_rows(pairs):
    """A pad token that was added to the tokenizer and not to the model."""
    tokens = tiny.tokenizer()
    rows = len(tokens)
    tokens.add_special_tokens({"pad_token": "<fill>"})
    assert tokens.pad_token_id == rows
    for family in ("llama", "bloom"):
        policy = tiny.policy(family, tokens=tokens, vocab_size=rows)
        token_pairs = tokenize_pairs(tokens, pairs)
        close(quiet(policy, pairs, path="padded")[LOGPS], tiny.by_hand(policy, token_pairs))


def test_a_backbone_that_is_the_whole_model_is_not_plain(monkeypatch, pairs):
    """Llama 4's text model names a backbone it has not, so `base_model` is the model itself."""
    policy = tiny.policy()
    monkeypatch.setattr(type(policy.model), "base_model_prefix", "language_model")
    assert why_not_plain(policy.model) == "its backbone cannot be called without the head"
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    close(quiet(policy, pairs)[LOGPS], tiny.by_hand(policy, token_pairs))
    found = [states for _, _, states in engine.response_states(policy, token_pairs[:1])]
    monkeypatch.undo()
    ((_, _, expected),) = engine.response_states(policy, token_pairs[:1], path="padded")
    close(found[0], expected, nats=1e-6)


@pytest.mark.parametrize("bos", [False, True], ids=["without BOS", "with BOS"])
def test_numbers_equal_trls_reference_precompute(tmp_path, pairs, bos):
    policy = tiny.policy("qwen2", tokens=tiny.tokenizer(bos=bos))
    config = tiny.plain_config(tmp_path, precompute_ref_log_probs=True, precompute_ref_batch_size=8)
    trainer = DPOTrainer(
        copy.deepcopy(policy.model), args=config, train_dataset=pairs,
        processing_class=policy.tokenizer,
    )  # fmt: skip
    theirs = trainer.train_dataset.to_pandas()[["ref_chosen_logps", "ref_rejected_logps"]]
    close(quiet(policy, pairs)[LOGPS], theirs.astype("float64"), nats=1e-3)


def test_token_logprobs_are_what_is_summed(llama, pairs):
    table, tokens = quiet(llama, pairs), token_logprobs(llama, pairs)
    assert tokens.columns.tolist() == ["id", "side", "position", "token", "token_id", "logp"]
    sums = tokens.groupby(["id", "side"])["logp"].sum().unstack().loc[table.index]
    close(sums[["chosen", "rejected"]], table[LOGPS], nats=1e-9)
    for pair in tokenize_pairs(llama.tokenizer, pairs):
        rows = tokens[(tokens["id"] == pair.id) & (tokens["side"] == "rejected")]
        assert rows["token_id"].tolist() == pair.rejected
        assert rows["position"].tolist() == list(range(len(pair.rejected)))
        assert rows["token"].tolist() == [llama.tokenizer.decode([i]) for i in pair.rejected]
    assert tokens["id"].drop_duplicates().tolist() == pairs["id"][:]


def test_token_logprobs_keep_the_order_of_the_pairs_on_the_padded_path(pairs):
    policy = tiny.policy("phi")
    tokens = token_logprobs(policy, pairs)
    assert tokens["id"].drop_duplicates().tolist() == pairs["id"][:]
    sums = tokens.groupby(["id", "side"])["logp"].sum().unstack().loc[pairs["id"][:]]
    close(sums[["chosen", "rejected"]], quiet(policy, pairs)[LOGPS], nats=1e-9)


def test_an_empty_prompt_leaves_the_first_token_unscored():
    policy = tiny.policy()
    pairs = tiny.dataset([("", "hello dog", "old"), ("pet", "ting the dog", "petting")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        token_pairs = tokenize_pairs(policy.tokenizer, pairs)
        assert [p.prompt for p in token_pairs] == [[], []]
        for path in ("packed", "padded"):
            table = quiet(policy, pairs, path=path)
            close(table[LOGPS], tiny.by_hand(policy, token_pairs))
            assert table["chosen_tokens"].tolist() == [len(p.chosen) - 1 for p in token_pairs]
        tokens = token_logprobs(policy, pairs)
    assert tokens.groupby("side")["position"].min().tolist() == [1, 1]
    close(tokens["logp"].sum(), table[LOGPS].to_numpy().sum())


# --- packing ------------------------------------------------------------------------------------

SHAPES = [(9, 4, 7), (2, 11, 5), (2, 5, 11), (30, 1, 1), (1, 20, 1), (7, 7, 7), (0, 5, 9)]
SHAPES += [(0, 9, 2), (6, 1, 6), (120, 30, 70), (3, 60, 60)]


@pytest.mark.parametrize("path", ["packed", "padded"])
@pytest.mark.parametrize("budget", [1, 17, 64, 300, 10**6])
def test_every_proportion_at_every_budget(llama, path, budget):
    token_pairs = tiny.token_pairs(*SHAPES)
    close(scores(llama, token_pairs, path=path, budget=budget), tiny.by_hand(llama, token_pairs))


def test_both_attention_branches_and_both_paths_are_taken(llama, monkeypatch):
    taken = []
    for name in ("_prompt_and_response", "_response_only"):
        real = getattr(attending, name)

        def spy(*args, name=name, real=real, **kwargs):
            taken.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(attending, name, spy)
    scores(llama, tiny.token_pairs((9, 4, 7)), path="padded")
    assert not taken
    policy_layers = 2
    next(engine._packed(llama, tiny.token_pairs((9, 4, 7)), 99))
    assert taken == ["_prompt_and_response", "_response_only"] * policy_layers
    taken.clear()
    next(engine._packed(llama, tiny.token_pairs((2, 4, 7)), 99))
    assert taken == ["_prompt_and_response"] * 2 * policy_layers


def test_rows_hold_the_budget_and_a_longer_pair_gets_its_own():
    token_pairs = tiny.token_pairs((4, 3, 3), (4, 3, 3), (50, 5, 5), (2, 1, 1), (4, 3, 3))
    assert packing.plan_rows(token_pairs, 20) == [[0, 1], [2], [3, 4]]
    assert packing.plan_rows(token_pairs, 19) == [[0], [1], [2], [3, 4]]
    assert packing.plan_rows(token_pairs, 10**6) == [[0, 1, 2, 3, 4]]
    assert packing.plan_rows([], 10) == []


def test_a_packed_row_says_what_is_scored_and_by_what():
    prompt, chosen, rejected = [5, 6, 7], [8, 9], [10]
    pair = dataclasses.replace(
        tiny.token_pairs((1, 1, 1))[0], prompt=prompt, chosen=chosen, rejected=rejected
    )
    bare = dataclasses.replace(pair, prompt=[])
    row = packing.pack_row([pair, bare], [0, 1])
    assert row.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 8, 9, 10]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 0, 1, 0]]
    assert row.predictors.tolist() == [2, 3, 2, 6]
    assert row.targets.tolist() == [8, 9, 10, 9]
    assert row.owners.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_numbers_do_not_depend_on_company_or_order(llama, path):
    token_pairs = tiny.token_pairs(*SHAPES)
    together = scores(llama, token_pairs, path=path)
    for budget in (1, 200):
        close(scores(llama, token_pairs, path=path, budget=budget), together, nats=2e-5)
    order = torch.randperm(len(token_pairs), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = scores(llama, [token_pairs[i] for i in order], path=path)
    close(shuffled, together[order], nats=2e-5)


def test_more_pairs_than_one_row(llama):
    many = tiny.token_pairs(*[(10, 5 + i % 7, 3 + i % 11) for i in range(130)])
    passes = list(engine.score_tokens(llama, many))
    assert len(passes) > 1 and [i for s in passes for i in s.pairs] == list(range(130))
    close(scores(llama, many)[::13], tiny.by_hand(llama, many[::13]))


def varlen_by_definition(query, key, value, layout, scale):
    """What CUDA's variable-length attention computes, densely: each query sequence sees its own
    key sequence, causally, both aligned at the last token."""
    out = torch.empty_like(query)
    keys, values = key[:, :, layout.keys], value[:, :, layout.keys]
    queries, ends = layout.query_ends.tolist(), layout.key_ends.tolist()
    for (a, b), (c, d) in zip(zip(queries, queries[1:]), zip(ends, ends[1:])):
        groups = query.shape[1] // key.shape[1]
        k, v = (x[:, :, c:d].repeat_interleave(groups, dim=1) for x in (keys, values))
        weights = query[:, :, a:b] @ k.transpose(2, 3) * scale
        later = torch.arange(d - c) > torch.arange(b - a)[:, None] + (d - c) - (b - a)
        out[:, :, a:b] = weights.masked_fill(later, -torch.inf).softmax(-1) @ v
    return out.transpose(1, 2)


def test_the_varlen_layout_gives_the_same_attention():
    shapes = [(9, 4, 7), (2, 11, 5), (2, 5, 14), (1, 6, 1), (7, 7, 7), (0, 5, 9), (0, 9, 2)]
    row = packing.pack_row(tiny.token_pairs(*shapes), list(range(len(shapes))))
    layout, length = attending.varlen_layout(row), row.input_ids.shape[1]
    assert layout.query_ends[-1] == length and layout.key_ends[-1] == len(layout.keys)
    assert layout.query_ends.dtype == layout.key_ends.dtype == torch.int32
    assert layout.longest_query == layout.query_ends.diff().max() == 14
    assert layout.longest_key == layout.key_ends.diff().max() == 16
    torch.manual_seed(0)
    query = torch.randn(1, 4, length, 8, dtype=torch.float64)
    key, value = (torch.randn(1, 2, length, 8, dtype=torch.float64) for _ in range(2))
    config = type("Config", (), {"_attn_implementation": "sdpa"})()
    with attending.packed_attention(type("Model", (), {"config": config}), row):
        ours, _ = attending.attend_packed(None, query, key, value, None, scaling=0.3)
    close(ours, varlen_by_definition(query, key, value, layout, 0.3), nats=1e-12)


@pytest.mark.parametrize("version", ["torch 2.11", "torch 2.12"])
def test_varlen_attention_repeats_heads_where_torch_does_not(monkeypatch, version):
    """A stand-in for the CUDA kernel, with the arguments that each version of torch knows."""
    taken = []

    def kernel(q, k, v, query_ends, key_ends, longest_query, longest_key, scale, window_size,
               enable_gqa=False):  # fmt: skip
        assert enable_gqa or q.shape[1] == k.shape[1]
        taken.append((enable_gqa, window_size))
        out, groups = torch.empty_like(q), q.shape[1] // k.shape[1]
        ends = zip(query_ends, query_ends[1:], key_ends, key_ends[1:])
        for a, b, c, d in ends:
            weights = torch.einsum("qhd,khd->hqk", q[a:b], k[c:d].repeat_interleave(groups, 1))
            later = torch.arange(d - c) > torch.arange(b - a)[:, None] + (d - c) - (b - a)
            weights = (weights * scale).masked_fill(later, -torch.inf).softmax(-1)
            out[a:b] = torch.einsum("hqk,khd->qhd", weights, v[c:d].repeat_interleave(groups, 1))
        return out

    def older(q, k, v, a, b, c, d, *, scale=None, window_size=(-1, -1)):
        return kernel(q, k, v, a, b, c, d, scale, window_size)

    from torch.nn.attention import varlen

    monkeypatch.setattr(varlen, "varlen_attn", older if version == "torch 2.11" else kernel)
    row = packing.pack_row(tiny.token_pairs((9, 4, 7), (2, 5, 14)), [0, 1])
    layout, length = attending.varlen_layout(row), row.input_ids.shape[1]
    torch.manual_seed(0)
    query = torch.randn(1, 4, length, 8, dtype=torch.float64)
    key, value = (torch.randn(1, 2, length, 8, dtype=torch.float64) for _ in range(2))
    ours = attending._attend_varlen(layout, query, key, value, 0.3)
    close(ours, varlen_by_definition(query, key, value, layout, 0.3), nats=1e-12)
    assert taken == [(version == "torch 2.12", (-1, 0))]


def test_varlen_attention_is_decided_by_capability():
    half, ampere, t4 = torch.bfloat16, (8, 0), (7, 5)
    assert attending.varlen_serves("cuda", half, ampere)
    assert attending.varlen_serves("cuda", torch.float16, (9, 0))
    assert not attending.varlen_serves("cuda", torch.float16, t4)
    assert not attending.varlen_serves("cuda", torch.float32, ampere)
    assert not attending.varlen_serves("cpu", half, ampere)


# --- the model is left as it was ----------------------------------------------------------------


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_the_model_is_left_as_it_was_after_an_exception(pairs, path):
    policy = tiny.policy()
    policy.model.train()
    policy.model.model.layers[0].mlp.eval()
    modes = [m.training for m in policy.model.modules()]

    passes = []

    def interrupt(*args):
        passes.append(args)
        if len(passes) > 4:
            raise KeyboardInterrupt

    hook = policy.model.model.layers[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        quiet(policy, pairs, path=path, budget=100)
    hook.remove()
    assert policy.model.config._attn_implementation == "sdpa"
    assert [m.training for m in policy.model.modules()] == modes
    assert not torch.is_inference_mode_enabled()
    policy.model(torch.tensor([[1, 2, 3]])).logits.sum().backward()  # usable for training at once


def test_between_two_passes_the_model_is_the_callers(llama, pairs):
    """Two policies share the weights of a LoRA model: passes of both may be interleaved."""
    policy = lora_policy()
    base = policy.without_adapter()
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)

    def passes(policy):
        return engine.score_tokens(policy, token_pairs, budget=200)

    alone = zip(list(passes(policy)), list(passes(base)))
    for (a, b), (expected_a, expected_b) in zip(zip(passes(policy), passes(base)), alone):
        assert torch.equal(a.logps, expected_a.logps) and torch.equal(b.logps, expected_b.logps)
        assert not torch.is_inference_mode_enabled()


def test_dropout_is_off_though_the_model_is_in_training_mode(pairs):
    policy = tiny.policy("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    assert policy.model.transformer.drop.p == 0.5
    expected = tiny.by_hand(policy, tokenize_pairs(policy.tokenizer, pairs))
    for path in ("packed", "padded"):
        policy.model.train()
        state = torch.get_rng_state()
        close(quiet(policy, pairs, path=path)[LOGPS], expected)
        assert policy.model.training and torch.equal(torch.get_rng_state(), state)


# --- head ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [1, 7, 1023, 1024, 1025, 2500])
def test_head_equals_the_whole_log_softmax(vocabulary, monkeypatch):
    torch.manual_seed(0)
    hidden, weight = torch.randn(37, 24), torch.randn(vocabulary, 24)
    targets = torch.randint(vocabulary, (37,))
    expected = (hidden.double() @ weight.double().T).log_softmax(-1)
    expected = expected.gather(1, targets[:, None])[:, 0]
    for tile in (head.TILE["cpu"], (5, 70), (1, 2499), (36, 10**6)):
        monkeypatch.setitem(head.TILE, "cpu", tile)
        logps = target_logps(hidden, weight, targets)
        assert logps.dtype == torch.float32
        close(logps.double(), expected, nats=2e-5)
    assert target_logps(hidden[:0], weight, targets[:0]).shape == (0,)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_head_survives_extreme_logits(shift):
    """Logits of +-1e4, all of one sign too, growing and falling along the vocabulary."""
    logits = torch.linspace(-1e4, 1e4, 2500).flip(0) * (shift == 0) + shift
    logits[::100] += torch.arange(25.0)
    for z in (logits, logits.flip(0)):
        targets = torch.tensor([0, 1, 1249, 2400, 2499])
        expected = z.double().log_softmax(-1)[targets]
        logps = target_logps(torch.ones(5, 1), z[:, None], targets)
        assert torch.isfinite(logps).all()
        torch.testing.assert_close(logps.double(), expected, atol=2e-3, rtol=1e-6)


def test_head_in_bfloat16_accumulates_in_float32():
    torch.manual_seed(0)
    hidden, weight = torch.randn(400, 256).bfloat16(), (torch.randn(2500, 256) / 16).bfloat16()
    targets = torch.randint(2500, (400,))
    expected = (hidden.double() @ weight.double().T).log_softmax(-1)
    expected = expected.gather(1, targets[:, None])[:, 0]
    logps = target_logps(hidden, weight, targets)
    assert logps.dtype == torch.float32
    assert (logps - expected).pow(2).mean().sqrt() < 5e-4, "the target's logit is not rounded"


# --- dtype and adapters -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_bfloat16_runs_is_near_and_is_named(pairs, path):
    policy = tiny.policy(initializer_range=0.05)
    half = Policy(copy.deepcopy(policy.model).to(torch.bfloat16), policy.tokenizer, "half")
    table, exact = quiet(half, pairs, path=path), quiet(policy, pairs)
    assert table.attrs["dtype"] == "torch.bfloat16" and exact.attrs["dtype"] == "torch.float32"
    assert table.attrs["policy"] == "half"
    assert table.dtypes.tolist() == [np.float64] * 2 + [np.int64] * 3
    difference = (table - exact)[LOGPS].abs().to_numpy()
    assert 0 < difference.max() < 1.0, "near float32, but not float32"


def lora_policy(**lora):
    policy = add_lora(tiny.policy(), 4, lora)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return policy


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_lora_policy_and_its_reference(pairs, path):
    base = quiet(tiny.policy(), pairs, path=path)
    policy = lora_policy()
    table = quiet(policy, pairs, path=path)
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    close(table[LOGPS], tiny.by_hand(policy, token_pairs))
    assert (table - base)[LOGPS].abs().min(axis=None) > 0.1, "the adapter acts"
    reference = quiet(policy.without_adapter(), pairs, path=path)
    pd.testing.assert_frame_equal(reference, base, check_exact=True)
    pd.testing.assert_frame_equal(quiet(policy, pairs, path=path), table, check_exact=True)
    assert reference.attrs["policy"] == "llama + LoRA (reference)"


@pytest.mark.parametrize("trainable", [True, False])
def test_the_adapter_is_as_before_after_its_reference_scored(pairs, trainable):
    policy = lora_policy()
    for name, parameter in policy.model.named_parameters():
        parameter.requires_grad_(trainable and "lora_" in name)
    before = [p.requires_grad for p in policy.model.parameters()]
    quiet(policy.without_adapter(), pairs.select([0]))
    assert [p.requires_grad for p in policy.model.parameters()] == before
    assert policy.model.get_model_status().enabled is True


def test_an_adapter_on_the_head_is_not_passed_over(pairs):
    policy = lora_policy(target_modules=["q_proj", "lm_head"])
    assert engine.why_not_packed(policy, 58) == "its LM head is a Linear"
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    close(quiet(policy, pairs)[LOGPS], tiny.by_hand(policy, token_pairs))


# --- pairs that cannot be scored ----------------------------------------------------------------


def test_too_long_pairs_are_left_out_by_id_and_never_truncated(llama, pairs):
    whole = quiet(llama, pairs)
    lengths = {p.id: p.longest for p in tokenize_pairs(llama.tokenizer, pairs)}
    limit = sorted(lengths.values())[5]
    long = {id_: n for id_, n in lengths.items() if n > limit}
    with pytest.warns(UserWarning) as caught:
        table = quiet(llama, pairs, max_length=limit)
    first = next(iter(long))
    (message,) = [str(w.message) for w in caught]
    assert message == (
        f"{len(long)} of 12 pairs are left out: {len(long)} such as {first!r}: "
        f"{long[first]} tokens, more than {limit}. All are in `.attrs['left_out']`."
    )
    assert table.attrs["left_out"] == {i: f"{n} tokens, more than {limit}" for i, n in long.items()}
    kept = [id_ for id_ in lengths if id_ not in long]
    assert table.index.tolist() == kept and table.index.name == "id"
    close(table[LOGPS], whole.loc[kept, LOGPS], nats=2e-5)
    assert whole.attrs["left_out"] == {}


def test_the_models_own_length_is_the_default(pairs):
    policy = tiny.policy("gpt2", n_positions=50)
    with pytest.warns(UserWarning, match="tokens, more than 50"):
        table = quiet(policy, pairs)
    assert 0 < len(table) < 12 and table.attrs["left_out"]


def test_a_position_encoding_that_changes_with_the_company_ends_the_default_length(pairs):
    """In a "longrope" model one sequence beyond the original length changes all of its batch."""
    policy = tiny.policy("longrope")
    short = [p for p in tokenize_pairs(policy.tokenizer, pairs) if p.longest <= 45]
    with pytest.warns(UserWarning, match="tokens, more than 45"):
        table = quiet(policy, pairs)
    assert 0 < len(short) < 12 and table.index.tolist() == [p.id for p in short]
    close(table[LOGPS], tiny.by_hand(policy, short))
    mixed = quiet(policy, pairs, max_length=256).loc[table.index]
    assert (mixed - table)[LOGPS].abs().max(axis=None) > 1, "the reason for the limit"


def test_all_pairs_too_long_give_an_empty_table(llama, pairs):
    with pytest.warns(UserWarning, match="12 of 12 pairs are left out"):
        table = quiet(llama, pairs, max_length=1)
    assert table.empty and table.columns.tolist() == COLUMNS and len(table.attrs["left_out"]) == 12
    with pytest.warns(UserWarning, match="12 of 12"):
        tokens = token_logprobs(llama, pairs, max_length=1)
    assert tokens.empty and "logp" in tokens


def test_wrong_input_is_named(llama, pairs):
    with pytest.raises(ValueError, match="no pairs to work on: got a data set of 0 rows"):
        quiet(llama, pairs.select([]))
    with pytest.raises(ValueError, match="no pairs to work on"):
        token_logprobs(llama, pairs.select([]))
    with pytest.raises(ValueError, match=r"2 ids occur more than once \('p0', 'p1'\).*load_pairs"):
        quiet(llama, pairs.select([0, 1, 0, 2, 1]))
    with pytest.raises(ValueError, match="path='fast'; expected 'auto', 'packed' or 'padded'"):
        quiet(llama, pairs, path="fast")
    small = tiny.policy(vocab_size=300)
    with pytest.raises(ValueError, match=r"token id \d+, but the model's embedding has 300 rows"):
        quiet(small, pairs)


def broken(policy):
    with torch.no_grad():
        policy.model.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    return policy


def test_a_model_that_computes_no_numbers_is_refused(pairs, tmp_path):
    policy = broken(tiny.policy())
    message = (
        r"^Policy 'llama' gives NaN or infinity for pair 'p\d+'. Its weights hold NaN or infinity "
        r"\(model.layers.1.mlp.up_proj.weight\): load them again, or train anew.$"
    )
    for path in ("auto", "padded"):
        with pytest.raises(ValueError, match=message):
            quiet(policy, pairs, path=path, cache=tmp_path)
    assert not list(tmp_path.rglob("*.parquet"))
    for call in (token_logprobs, nb.scores.ches):
        with pytest.raises(ValueError, match=message):
            call(policy, pairs)
    for two in ((policy, tiny.policy()), (tiny.policy(), policy)):
        with pytest.raises(ValueError, match=message):
            nb.scores.influence(*two, pairs, pairs, progress=False)


def test_overflow_in_float16_is_refused_with_the_remedy(pairs):
    policy = tiny.policy()
    large = copy.deepcopy(policy.model)
    with torch.no_grad():
        large.model.embed_tokens.weight *= 1e3
        large.model.layers[0].mlp.down_proj.weight *= 1e4
    half = Policy(large.to(torch.float16), policy.tokenizer, "half")
    with pytest.raises(ValueError, match="'half' gives NaN .*float16: load it in bfloat16 or"):
        quiet(half, pairs)


def test_what_was_scored_before_a_nan_is_kept(pairs, tmp_path):
    """One token whose embedding is NaN: pairs without it are scored, and stay so."""
    policy = tiny.policy()
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    last = max(token_pairs, key=lambda p: p.longest)
    others = [p for p in token_pairs if p is not last]
    used = {i for p in others for i in p.prompt + p.chosen + p.rejected}
    free = next(i for i in range(400, tiny.VOCABULARY) if i not in used)
    spoilt = dataclasses.replace(last, chosen=[*last.chosen, free])
    with torch.no_grad():
        policy.model.model.embed_tokens.weight[free] = float("nan")
    how = dict(path="padded", budget=1, cache=tmp_path, progress=False)
    with pytest.raises(ValueError, match=f"for pair {last.id!r}"):
        logprob_table(policy, [*others, spoilt], **how)
    (part,) = tmp_path.rglob("*.parquet")
    assert len(pd.read_parquet(part)) == 11


def test_parts_written_before_the_hash_was_still_serve(llama, pairs, tmp_path):
    table = quiet(llama, pairs, cache=tmp_path)
    (part,) = tmp_path.rglob("*.parquet")
    assert pd.read_parquet(part).columns.tolist() == [*LOGPS, "chosen_tokens", "rejected_tokens"]
    pd.testing.assert_frame_equal(quiet(llama, pairs, cache=tmp_path), table, check_exact=True)


def test_pairs_and_policies_come_in_the_forms_people_have(llama, pairs, tmp_path):
    table = quiet(llama, pairs)
    frame = pairs.to_pandas()
    frame.to_json(tmp_path / "pairs.jsonl", orient="records", lines=True)
    for form in (pairs.to_list(), frame, tmp_path / "pairs.jsonl", str(tmp_path / "pairs.jsonl")):
        pd.testing.assert_frame_equal(quiet(llama, form), table, check_exact=True)
    numbered = frame.assign(id=range(12))
    assert quiet(llama, numbered).index.tolist() == [str(n) for n in range(12)]
    assert len(quiet(llama, pairs.remove_columns("id"))) == 12
    pd.testing.assert_frame_equal(quiet((llama.model, llama.tokenizer), pairs), table)
    with pytest.raises(TypeError, match="^pairs: expected preference pairs, got None"):
        quiet(llama, None)
    with pytest.raises(ValueError, match="prompt"):
        quiet(llama, [{**pairs[0], "prompt": None}])
    with pytest.raises(TypeError, match="policy: expected a policy.*nb.Policy"):
        quiet(llama.model, pairs)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (dict(max_length=0), ValueError), (dict(max_length=-5), ValueError),
        (dict(max_length=2.5), TypeError), (dict(budget=-1), ValueError),
        (dict(budget=0), ValueError), (dict(budget=0.5), TypeError),
    ],
)  # fmt: skip
def test_limits_that_are_no_counts_are_refused(llama, pairs, wrong, error):
    ((name, value),) = wrong.items()
    with pytest.raises(error, match=f"^{name}={value}; expected a whole number, 1 or more"):
        quiet(llama, pairs, **wrong)
    if name == "max_length":
        with pytest.raises(error, match=name):
            token_logprobs(llama, pairs, **wrong)
    with pytest.raises(error, match=name):
        nb.scores.ches(llama, pairs, **wrong)
    with pytest.raises(error, match=name):
        nb.scores.influence(llama, llama, pairs, pairs, **wrong)


def test_a_table_says_which_tokens_were_scored(llama, pairs):
    table = quiet(llama, pairs)
    token_pairs = tokenize_pairs(llama.tokenizer, pairs)
    assert table.tokens_hash.tolist() == [p.tokens_hash for p in token_pairs]
    assert table.tokens_hash.nunique() == 12 and table.tokens_hash.dtype == np.int64
    assert (table.tokens_hash.astype(float).astype(np.int64) == table.tokens_hash).all()
    other = pairs.map(lambda row: {"chosen": row["chosen"] + " dog"} if row["id"] == "p3" else {})
    changed = quiet(llama, other).tokens_hash != table.tokens_hash
    assert changed[changed].index.tolist() == ["p3"]
    one = TokenPair("a", [1, 2], [3], [4])
    assert one.tokens_hash == TokenPair("b", [1, 2], [3], [4]).tokens_hash
    assert one.tokens_hash != TokenPair("a", [1], [2, 3], [4]).tokens_hash


def test_two_pairs_of_the_same_text_are_two_rows(llama):
    pairs = tiny.dataset([("what", " is it", " is he")] * 2)
    table = quiet(llama, pairs)
    assert table.index.tolist() == ["p0", "p1"] and len(table.drop_duplicates()) == 1
