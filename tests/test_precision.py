"""Half precision: log-probs, gradients and slopes of the head, and the noise of what is summed."""

import copy

import numpy as np
import pytest
import tiny
import torch

import nbkit as nb
from nbkit.derivatives.parameters import dot
from nbkit.logprobs import engine
from nbkit.logprobs.head import target_logps, target_slopes
from nbkit.logprobs.precision import scoring_noise
from nbkit.tokens.ids import tokenize_pairs

HALF = [torch.bfloat16, torch.float16]
ALL = [torch.float32, *HALF]


def whole(hidden, weight, targets):
    """As plain transformers does: logits in the precision of the factors, then float32."""
    logits = hidden @ weight.T
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def likely_tokens(dtype):
    """Peaked logits, as of a trained model, and the likeliest token at each position."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(400, 256).to(dtype), (torch.randn(2500, 256) / 2).to(dtype)
    return hidden, weight, (hidden.float() @ weight.float().T).argmax(1)


def world_tokens(dtype, factor=1):
    """What the head of world/medium reads on the world's pairs, its weight, and the targets."""
    policy = nb.load_policy("world/medium", device="cpu", dtype=dtype)
    pairs = tokenize_pairs(policy.tokenizer, nb.world.pairs(100))
    with policy.ready(), torch.no_grad():
        steps = list(engine._packed_states(policy, pairs, 1024))
    hidden, targets = torch.cat([s[2] for s in steps]), torch.cat([s[3] for s in steps])
    return hidden, policy.causal_lm.get_output_embeddings().weight.detach() * factor, targets


CASES = {
    "likely tokens": likely_tokens,
    "world/medium": world_tokens,
    "world/medium, 200 times as peaked": lambda dtype: world_tokens(dtype, 200),
}


@pytest.fixture(scope="module", params=CASES)
def factors(request):
    return {dtype: CASES[request.param](dtype) for dtype in ALL}


def rms(x):
    return x.double().square().mean().sqrt().item()


@pytest.mark.parametrize("dtype", HALF)
def test_log_probs_of_the_head_are_as_good_as_float32s(factors, dtype):
    hidden, weight, targets = factors[dtype]
    truth = whole(hidden.double(), weight.double(), targets)
    found = target_logps(hidden, weight, targets)
    assert found.dtype == torch.float32 and found.max() <= 0
    size = (hidden.double() @ weight.double().T).abs().max().item()
    assert rms(found - truth) < 1e-6 * size
    assert rms(found - truth) < rms(whole(hidden, weight, targets) - truth) / 100


def test_no_log_prob_is_above_zero_in_float32(factors):
    hidden, weight, targets = factors[torch.float32]
    truth = whole(hidden.double(), weight.double(), targets)
    found = target_logps(hidden, weight, targets)
    size = (hidden.double() @ weight.double().T).abs().max().item()
    assert found.max() <= 0 and rms(found - truth) < 1e-6 * size


@pytest.mark.parametrize("dtype", HALF)
def test_derivatives_of_the_head_are_rounded_once(factors, dtype):
    hidden, weight, targets = factors[dtype]
    torch.manual_seed(0)
    pull = torch.randn(len(hidden))
    d_hidden, d_weight = (torch.randn(x.shape).to(dtype) for x in (hidden, weight))

    def gradients(function, *given):
        given = [x.clone().requires_grad_() for x in given]
        (function(*given, targets) * pull).sum().backward()
        return [x.grad.double() for x in given]

    truth = gradients(whole, hidden.double(), weight.double())
    found = gradients(target_logps, hidden, weight)
    for mine, exact in zip(found, truth, strict=True):
        assert rms(mine - exact) < torch.finfo(dtype).eps * rms(exact)
    _, slopes = torch.func.jvp(
        lambda h, w: whole(h, w, targets),
        (hidden.double(), weight.double()), (d_hidden.double(), d_weight.double()),
    )  # fmt: skip
    found = target_slopes(hidden, weight, targets, d_hidden, d_weight)
    assert rms(found - slopes) < 1e-4 * rms(slopes)


def test_factors_in_two_rows_of_tiles_and_several_columns(monkeypatch):
    from nbkit.logprobs import head

    hidden, weight, targets = likely_tokens(torch.bfloat16)
    expected = target_logps(hidden, weight, targets)
    monkeypatch.setitem(head.TILE, "cpu", (7, 70))
    torch.testing.assert_close(target_logps(hidden, weight, targets), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("path", ["packed", "padded"])
@pytest.mark.parametrize("dtype", ALL)
def test_a_policys_noise_is_what_is_documented(dtype, path):
    """Of summed log-probs, against the same weights in float64."""
    policy = tiny.policy()
    policy.model.to(dtype)
    pairs = tiny.token_pairs(*[(10, n, 2 * n) for n in (4, 10, 20, 40, 60)])
    truth = tiny.by_hand(policy, pairs)
    found = torch.zeros(2 * len(pairs), dtype=torch.float64)
    for scored in engine.score_tokens(policy, pairs, path=path):
        assert scored.logps.max() <= 0
        found.index_add_(0, scored.owners, scored.logps.double())
    noise = scoring_noise(dtype, [[len(p.chosen), len(p.rejected)] for p in pairs])
    relative = (found.view(-1, 2) - truth).numpy() / noise
    assert 0.1 < np.sqrt((relative**2).mean()) < 5


def test_noise_grows_with_the_root_of_the_tokens():
    assert scoring_noise(torch.bfloat16, 4) == pytest.approx(2 * scoring_noise("bfloat16", 1))
    assert scoring_noise("torch.float32", 1) < scoring_noise("float16", 1) < 0.01
    found = scoring_noise("bfloat16", np.array([1, 4, 9]))
    np.testing.assert_allclose(found, scoring_noise("bfloat16", 1) * np.array([1, 2, 3]))
    assert isinstance(scoring_noise("float64", 7), float)


def test_scores_of_the_world_in_bfloat16_are_as_near_as_rounded_weights_allow():
    pairs = nb.world.pairs(60)
    exact, half = (
        nb.load_policy("world/medium", device="cpu", dtype=d) for d in ("float32", "bfloat16")
    )
    rounded = nb.Policy(copy.deepcopy(half.model).float(), half.tokenizer)
    table, same_weights, truth = (
        nb.response_logprobs(p, pairs, progress=False) for p in (half, rounded, exact)
    )
    margins = [t["chosen_logp"] - t["rejected_logp"] for t in (table, same_weights, truth)]
    assert rms(torch.tensor((margins[0] - margins[1]).to_numpy())) < 0.1
    assert margins[0].corr(margins[2], method="spearman") > 0.99


def test_products_of_directions_in_half_precision():
    torch.manual_seed(0)
    a = {"w": torch.randn(100_000).bfloat16()}
    b = {"w": (1 / a["w"].float()).bfloat16()}
    exact = (a["w"].double() * b["w"].double()).sum().item()
    assert dot(a, b) == pytest.approx(exact, rel=1e-6)
