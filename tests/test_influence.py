"""Influence against gradients made by hand, real steps and definitions."""

import copy

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from datasets import concatenate_datasets

import nbkit as nb
from nbkit import scores, select

BETA = 0.3


@pytest.fixture(scope="module")
def case():
    """(policy, reference policy, pairs, validation)"""
    validation = tiny.text_pairs(5, seed=9)
    validation = validation.map(lambda row: {"id": f"v-{row['id']}"})
    return tiny.policy("qwen2"), tiny.policy("qwen2", seed=1), tiny.text_pairs(10), validation


@pytest.fixture(scope="module")
def table(case):
    """By forward mode, in several passes over each set."""
    return scores.influence_table(*case, beta=BETA, method="jvp", budget=60, progress=False)


def losses(policy, reference, pairs):
    """DPO losses of a float64 copy of the policy, by hand, with their graph."""
    token_pairs = nb.tokenize_pairs(policy.tokenizer, pairs)
    ref = tiny.by_hand(reference, token_pairs)
    out = []
    for n, pair in enumerate(token_pairs):
        ratios = []
        for side, response in enumerate((pair.chosen, pair.rejected)):
            logits = policy.model(torch.tensor([pair.prompt + response])).logits[0].log_softmax(-1)
            where = range(len(pair.prompt) - 1, len(pair.prompt) + len(response) - 1)
            ratios.append(logits[where, response].sum() - ref[n, side])
        out.append(-torch.nn.functional.logsigmoid(BETA * (ratios[0] - ratios[1])))
    return torch.stack(out)


def flat_gradient(loss, policy):
    parts = torch.autograd.grad(loss, list(policy.model.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


@pytest.fixture(scope="module")
def by_hand(case):
    """(losses, influence) of the pairs, float64."""
    policy, reference, pairs, validation = copy.deepcopy(case[0]), *case[1:]
    policy.model.double().requires_grad_(True)
    goal = flat_gradient(losses(policy, reference, validation).mean(), policy)
    own = losses(policy, reference, pairs)
    return own.detach(), torch.stack([flat_gradient(loss, policy) @ goal for loss in own])


def test_influence_is_an_inner_product_of_gradients(case, table, by_hand):
    own, truth = by_hand
    np.testing.assert_allclose(table.loss, own, atol=1e-4)
    np.testing.assert_allclose(table.influence, truth, rtol=1e-3, atol=1e-4 * truth.abs().max())
    assert list(table.index) == case[2]["id"][:]
    auto = scores.influence(*case, beta=BETA, progress=False)
    assert auto.name == "influence" and auto.attrs["method"] == "central"
    assert np.corrcoef(auto, truth)[0, 1] > 0.9999
    assert auto.attrs["error"] < 0.01 and auto.attrs["checked"] == 6


def test_positive_means_that_a_step_on_the_pair_lowers_the_validation_loss(case, table):
    policy, reference, pairs, validation = case
    rate = 2e-5
    policy = copy.deepcopy(policy)
    policy.model.double().requires_grad_(True)
    start = losses(policy, reference, validation).mean().item()
    fallen = []
    for n in range(len(pairs)):
        stepped = copy.deepcopy(policy)
        loss = losses(stepped, reference, pairs.select([n]))[0]
        parts = torch.autograd.grad(loss, list(stepped.model.parameters()))
        with torch.no_grad():
            for p, part in zip(stepped.model.parameters(), parts):
                p.sub_(part, alpha=rate)
            fallen.append(start - losses(stepped, reference, validation).mean().item())
    fallen = np.array(fallen) / rate
    assert np.corrcoef(fallen, table.influence)[0, 1] > 0.99
    assert (np.sign(fallen) == np.sign(table.influence)).all()
    assert (fallen > 0).any() and (fallen < 0).any()


def test_the_columns_belong_together(case, table):
    policy, reference, pairs, _ = case
    theta = nb.response_logprobs(policy, pairs, progress=False)
    ref = nb.response_logprobs(reference, pairs, progress=False)
    np.testing.assert_allclose(table.margin, scores.implicit_margin(theta, ref, BETA), atol=1e-4)
    np.testing.assert_allclose(table.loss, scores.dpo_loss(theta, ref, BETA), atol=1e-4)
    slopes = BETA * (table.chosen_slope - table.rejected_slope)
    np.testing.assert_allclose(table.margin_slope, slopes, rtol=1e-9)
    weight = 1 / (1 + np.exp(table.margin))
    np.testing.assert_allclose(table.influence, -weight * table.margin_slope, rtol=1e-9)
    ghost = scores.influence_table(*case, beta=BETA, method="ghost", progress=False)
    assert "chosen_slope" not in ghost
    np.testing.assert_allclose(ghost.influence, table.influence, rtol=1e-3, atol=1e-2)


def test_a_reference_table_and_the_policys_own_table(case, table):
    policy, reference, pairs, validation = case
    everything = concatenate_datasets([validation, pairs])
    ref = nb.response_logprobs(reference, everything, progress=False)
    own = nb.response_logprobs(policy, pairs, progress=False).sample(frac=1, random_state=0)
    found = scores.influence(policy, ref, pairs, validation, beta=BETA, logps=own, progress=False)
    assert found.attrs["method"] == "forward"
    assert np.corrcoef(found, table.influence)[0, 1] > 0.9999
    without = scores.influence(*case, beta=BETA, method="forward", progress=False)
    pd.testing.assert_series_equal(without, found, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="lacks 5 of 5 pairs .first: 'v-p0'"):
        scores.influence(policy, ref.drop(validation["id"][:]), pairs, validation)
    with pytest.raises(ValueError, match="lacks 1 of 10 pairs"):
        scores.influence(policy, ref, pairs, validation, logps=own.iloc[1:])


def test_tables_that_are_not_the_pairs_own_are_refused(case):
    policy, reference, pairs, validation = case
    ref = nb.response_logprobs(reference, concatenate_datasets([validation, pairs]), progress=False)
    how = dict(progress=False)
    with pytest.raises(ValueError, match="table 'reference' holds pair 'v-p0' more than once"):
        scores.influence(policy, pd.concat([ref, ref.iloc[:2]]), pairs, validation, **how)
    same_ids = validation.map(lambda row: {"id": row["id"].removeprefix("v-")})
    with pytest.raises(ValueError, match="other texts under the ids of [1-5] pairs .first: 'p"):
        scores.influence(policy, ref, pairs, same_ids, **how)
    unknown = ref.copy()
    unknown.loc["v-p1", "chosen_logp"] = np.nan
    with pytest.raises(ValueError, match="not finite: pair 'v-p1'"):
        scores.influence(policy, unknown, pairs, validation, **how)
    for wrong in (None, ref.chosen_logp):
        with pytest.raises(TypeError, match="reference is of type .* expected a log-prob table"):
            scores.influence(policy, wrong, pairs, validation, **how)
    with pytest.raises(TypeError, match="expected a policy, got a datasets.Dataset"):
        scores.influence(pairs, ref, policy, validation, **how)
    small = tiny.policy("qwen2", vocab_size=300)
    with pytest.raises(ValueError, match="embedding has 300 rows"):
        scores.influence(policy, small, pairs, validation, **how)
    stale = nb.response_logprobs(reference, pairs, progress=False)
    with pytest.raises(ValueError, match="nats away from those of 'qwen2'"):
        scores.influence(policy, ref, pairs, validation, logps=stale, **how)


def test_a_table_of_pairs_without_a_prompt():
    """Of their responses the first token is not scored, in a table and here."""
    policy, reference = tiny.policy("qwen2"), tiny.policy("qwen2", seed=1)
    pairs = tiny.text_pairs(4).map(lambda row: {"prompt": ""})
    ref = nb.response_logprobs(reference, pairs, progress=False)
    found = scores.influence(policy, ref, pairs, pairs, progress=False)
    pd.testing.assert_series_equal(
        found, scores.influence(policy, reference, pairs, pairs, progress=False), rtol=1e-6
    )


@pytest.mark.filterwarnings("ignore:.*are left out")
def test_sets_of_which_nothing_is_left_are_refused(case):
    policy, reference, pairs, validation = case
    for long, what in enumerate(["10 pairs", "5 validation pairs"]):
        sets = [pairs, validation]
        sets[long] = sets[long].map(lambda row: {"prompt": row["prompt"] * 200})
        with pytest.raises(ValueError, match=f"None of the {what} can be scored"):
            scores.influence(policy, reference, *sets, max_length=200, progress=False)
    with pytest.raises(ValueError, match="no validation pairs to work on"):
        scores.influence(policy, reference, pairs, validation.select([]), progress=False)


def test_pairs_that_are_too_long_are_left_out_of_both_sets(case):
    policy, reference, pairs, validation = case
    lengths = {p.id: p.longest for p in nb.tokenize_pairs(policy.tokenizer, pairs)}
    most = sorted(lengths.values())[6]
    with pytest.warns(UserWarning, match="are left out"):
        found = scores.influence(
            policy, reference, pairs, validation, max_length=most, progress=False
        )
    assert set(found.index) == {id_ for id_, length in lengths.items() if length <= most}
    assert set(found.attrs["left_out"]) == set(lengths) - set(found.index)
    held = {p.id: p.longest for p in nb.tokenize_pairs(policy.tokenizer, validation)}
    left_out = {id_ for id_, length in held.items() if length > most}
    assert set(found.attrs["validation_left_out"]) == left_out != set()


def test_lora_influence_is_over_the_adapter(case):
    _, _, pairs, validation = case
    policy = nb.add_lora(tiny.policy("llama"), rank=4)
    torch.manual_seed(0)
    for name, p in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    reference = policy.without_adapter()
    loop = scores.influence(policy, reference, pairs, validation, method="loop", progress=False)
    auto = scores.influence(policy, reference, pairs, validation, progress=False)
    everything = scores.influence(
        policy, reference, pairs, validation, parameters="all", progress=False
    )
    assert np.corrcoef(auto, loop)[0, 1] > 0.9999
    assert np.corrcoef(everything, loop)[0, 1] < 0.999


def test_curvature_changes_the_direction_only(case, by_hand):
    policy, reference, pairs, validation = case
    found = scores.influence_table(
        *case, beta=BETA, curvature="gauss-newton", damping=0.2, method="jvp", progress=False
    )
    assert found.attrs["residual"] <= 1e-4 and found.attrs["iterations"] >= 1
    # dense, in the space of the pairs: (J'DJ/n + c)^-1 g = (g - J'(n c D^-1 + JJ')^-1 J g) / c
    double = copy.deepcopy(policy)
    double.model.double().requires_grad_(True)
    goal = flat_gradient(losses(double, reference, validation).mean(), double)
    own = losses(double, reference, pairs)
    G = torch.stack([flat_gradient(loss, double) for loss in own])
    margin = torch.tensor(found.margin.to_numpy())
    pull = torch.sigmoid(-margin)
    J = -G / (BETA * pull[:, None])  # gradients of the margins in log-probs
    d = BETA**2 * pull * (1 - pull)
    c, n = found.attrs["damping"], len(pairs)
    inner = torch.diag(n * c / d) + J @ J.T
    moved = (goal - J.T @ torch.linalg.solve(inner, J @ goal)) / c
    np.testing.assert_allclose(found.influence, G @ moved, rtol=0.01, atol=1e-3 * (G @ moved).std())
    largest = torch.linalg.eigvalsh(d.sqrt()[:, None] * (J @ J.T) * d.sqrt() / n)[-1].item()
    assert c == pytest.approx(0.2 * largest, rel=0.05)
    few = scores.influence(*case, beta=BETA, curvature="gauss-newton", curvature_pairs=4,
                           progress=False)  # fmt: skip
    assert not np.allclose(few, found.influence, rtol=0.05)


@pytest.mark.parametrize(
    "how, message",
    [
        (dict(curvature="fisher"), "curvature='fisher'; expected None or 'gauss-newton'"),
        (dict(method="tracin"), "method='tracin'; expected 'auto' or one of"),
        (dict(parameters="lora"), "chooses none"),
        (dict(curvature="gauss-newton", damping=-1), "damping=-1"),
        (dict(curvature="gauss-newton", curvature_pairs=0), "made of 0 pairs"),
        (dict(beta=0.0), "beta=0.0; expected a number above 0"),
        (dict(beta=float("nan")), "beta=nan"),
        (dict(step=0.0), "step=0.0; expected"),
    ],
)
def test_arguments_that_make_no_sense(case, how, message):
    with pytest.raises(ValueError, match=message):
        scores.influence(*case, **how, progress=False)


def test_truncation_keeps_a_band_of_percentiles():
    influence = pd.Series(np.arange(10.0), [f"p{i}" for i in range(10)], name="influence")
    influence["p3"] = np.nan
    kept = scores.truncated(influence, 1 / 3, 2 / 3)
    assert kept.name == "truncated_influence" and list(kept.index) == list(influence.index)
    assert np.isnan(kept["p3"]) and kept.drop("p3").isin([0.0, 1.0]).all()
    assert set(kept.index[kept == 1]) == {"p4", "p5", "p6"}
    assert set(select.middle(influence, 1 / 3, 2 / 3)) == {"p4", "p5", "p6"}
    four = scores.truncated(pd.Series(range(4), list("abcd")), 0.25, 0.75)
    assert four.tolist() == [0.0, 1.0, 1.0, 0.0] and four.dtype == float


def logp_table(chosen, rejected):
    tokens = dict(chosen_tokens=[3] * len(chosen), rejected_tokens=[4] * len(chosen))
    ids = pd.Index([f"p{i}" for i in range(len(chosen))], name="id")
    return pd.DataFrame(dict(chosen_logp=chosen, rejected_logp=rejected, **tokens), index=ids)


def test_loss_difference_and_irm_by_hand():
    ref = logp_table([-10.0, -10.0], [-10.0, -10.0])
    theta, val = logp_table([-9.0, -12.0], [-11.0, -10.0]), logp_table([-8.0, -12.0], [-12.0, -9.0])
    margins = scores.irm(theta, ref, beta=0.5)
    assert margins.name == "irm" and margins.tolist() == [1.0, -1.0]
    found = scores.loss_difference(theta, val.iloc[::-1], ref, beta=0.5)
    assert found.name == "loss_difference" and list(found.index) == ["p0", "p1"]
    expected = [
        np.log1p(np.exp(-1)) - np.log1p(np.exp(-2)),
        np.log1p(np.exp(1)) - np.log1p(np.exp(1.5)),
    ]
    np.testing.assert_allclose(found, expected)
    with pytest.raises(ValueError, match="must hold the same pairs"):
        scores.loss_difference(theta, val.iloc[:1], ref)


def test_loss_difference_with_a_small_step_is_influence(case, table):
    """theta_val = theta - h grad L_val: LossDiff / h tends to the influence as h shrinks."""
    from nbkit.derivatives.differences import shifted
    from nbkit.derivatives.gradient import gradient
    from nbkit.derivatives.parameters import choose

    policy, reference, pairs, validation = case
    token_pairs = nb.tokenize_pairs(policy.tokenizer, validation)
    ref_val, val = (
        nb.response_logprobs(p, validation, progress=False) for p in (reference, policy)
    )
    pull = BETA / (1 + np.exp(scores.implicit_margin(val, ref_val, BETA))) / len(validation)
    pull = torch.tensor(np.stack([-pull, pull], 1))
    direction = gradient(policy, token_pairs, lambda i, _: pull[i])
    theta, ref = (nb.response_logprobs(p, pairs, progress=False) for p in (policy, reference))
    away = []
    for h in (1e-2, 1e-4):
        with shifted(choose(policy), direction, -h):
            moved = nb.response_logprobs(policy, pairs, progress=False)
        found = scores.loss_difference(theta, moved, ref, BETA) / h
        away.append(np.linalg.norm(found - table.influence) / np.linalg.norm(table.influence))
    assert away[1] < 0.05 and away[1] < away[0] / 3


@pytest.mark.parametrize(
    "family, path", [("qwen2", "packed"), ("gpt2", "padded"), ("bloom", "auto")]
)
@pytest.mark.parametrize("normalized", [False, True])
def test_ches_by_hand(family, path, normalized):
    policy, pairs = tiny.policy(family), tiny.text_pairs(6)
    how = dict(normalized=normalized, path=path, budget=60, progress=False)  # several passes
    found = scores.ches(policy, pairs, **how)
    expected = []
    for pair in nb.tokenize_pairs(policy.tokenizer, pairs):
        sides = []
        for response in (pair.chosen, pair.rejected):
            with torch.no_grad():
                out = policy.model(
                    torch.tensor([pair.prompt + response]), output_hidden_states=True
                )
            states = out.hidden_states[-1][0, len(pair.prompt) - 1 : -1].double()
            sides.append(states.mean(0) if normalized else states.sum(0))
        expected.append((sides[0] @ sides[1] - sides[0] @ sides[0]).item())
    assert found.name == "ches" and list(found.index) == pairs["id"][:]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.std(expected))


def test_ches_means_are_over_the_tokens_that_are_predicted():
    """After an empty prompt nothing predicts the first token."""
    policy = tiny.policy("qwen2")
    pairs = tiny.text_pairs(2).map(lambda row: {"prompt": ""})
    found = scores.ches(policy, pairs, normalized=True, progress=False)
    for pair, value in zip(nb.tokenize_pairs(policy.tokenizer, pairs), found, strict=True):
        assert pair.prompt == []
        sides = []
        for response in (pair.chosen, pair.rejected):
            with torch.no_grad():
                out = policy.model(torch.tensor([response]), output_hidden_states=True)
            sides.append(out.hidden_states[-1][0, :-1].double().mean(0))
        expected = sides[0] @ sides[1] - sides[0] @ sides[0]
        assert value == pytest.approx(expected.item(), rel=1e-3)


def test_an_interrupted_influence_goes_on_where_it_stopped(case, tmp_path, monkeypatch):
    from nbkit.logprobs import table as logprobs

    how = dict(beta=BETA, cache=tmp_path, budget=100, progress=False)
    expected = scores.influence(*case, **how | {"cache": None})
    scored = []

    def counted(policy, token_pairs, **options):
        for done in score_tokens(policy, token_pairs, **options):
            scored.extend(token_pairs[i].id for i in done.pairs)
            if len(scored) == stop:
                raise KeyboardInterrupt
            yield done

    score_tokens, stop = logprobs.score_tokens, None
    monkeypatch.setattr(logprobs, "score_tokens", counted)
    scores.influence(*case, **how | {"cache": tmp_path / "whole"})
    in_all, stop = len(scored), len(scored) - 4
    scored.clear()
    with pytest.raises(KeyboardInterrupt):
        scores.influence(*case, **how)
    stop = None
    scored.clear()
    found = scores.influence(*case, **how)
    assert len(scored) < in_all - 10  # the validation set, the references and a pass are there
    pd.testing.assert_series_equal(found, expected)
    scored.clear()
    scores.influence(*case, **how)
    assert not set(scored) - {p for p in case[2]["id"]} and len(scored) < 30
