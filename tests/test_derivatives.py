"""Derivatives of log-probs along a direction, against float64 models and dense algebra."""

import copy
import warnings
import weakref

import pytest
import tiny
import torch

import nbkit as nb
from nbkit.derivatives import along, curvature, differences, loop
from nbkit.derivatives.gradient import gradient
from nbkit.derivatives.parameters import choose, dot, norm
from nbkit.logprobs import engine
from nbkit.logprobs.head import target_logps, target_slopes

FAMILIES = ["llama", "qwen2", "gpt2"]
LENGTHS = [(5, 9, 12), (20, 3, 4), (1, 30, 7), (12, 12, 1), (3, 8, 8), (15, 2, 20), (9, 9, 9)]
pytestmark = pytest.mark.filterwarnings("ignore:.*fan_in_fan_out", "ignore:.*is_gradient_check")


def with_lora(policy, seed=3):
    """A LoRA policy whose adapter does something."""
    policy = nb.add_lora(policy, rank=4)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in policy.model.named_parameters():
            if "lora_B" in name:
                p.copy_(0.05 * torch.randn_like(p))
    return policy


@pytest.fixture(scope="module", params=[f"{f}-{p}" for f in FAMILIES for p in ("all", "lora")])
def case(request):
    """(policy, token pairs, direction)"""
    family, parameters = request.param.split("-")
    policy = tiny.policy(family)
    if parameters == "lora":
        policy = with_lora(policy)
    return policy, tiny.token_pairs(*LENGTHS), random_direction(policy)


def random_direction(policy, seed=0, parameters=None):
    torch.manual_seed(seed)
    chosen = choose(policy, parameters)
    return {name: torch.randn_like(p) for name, p in chosen.items()}


def in_double(policy, pairs, direction):
    """[n, 2]: from a float64 model, one response at a time, the whole log-softmax, backward."""
    policy = copy.deepcopy(policy)
    policy.model.double()
    named = dict(policy.causal_lm.named_parameters())
    chosen = [named[name].requires_grad_() for name in direction]
    table = torch.zeros(len(pairs), 2, dtype=torch.float64)
    for n, pair in enumerate(pairs):
        for side, response in enumerate((pair.chosen, pair.rejected)):
            logits = policy.causal_lm(torch.tensor([pair.prompt + response])).logits[0]
            start = len(pair.prompt)
            before = range(start - 1, start + len(response) - 1)
            logp = logits.log_softmax(-1)[before, response].sum()
            parts = torch.autograd.grad(logp, chosen, allow_unused=True)
            table[n, side] = sum(
                (part * v.double()).sum().item()
                for part, v in zip(parts, direction.values())
                if part is not None
            )
    return table


def away(found, truth):
    return ((found - truth).norm() / truth.norm()).item()


def test_derivatives_are_what_a_step_changes(case):
    """The truth of the other tests against the change itself, in float64 (whose models keep some
    float32 inside: no more than 1% can be asked for)."""
    policy, pairs, direction = case
    truth = in_double(policy, pairs, direction)
    h = 0.03 / truth.square().mean().sqrt().item()
    tables = []
    for sign in (1, -1):
        with differences.shifted(choose(policy), direction, sign * h):
            tables.append(tiny.by_hand(policy, pairs))
    assert away((tables[0] - tables[1]) / (2 * h), truth) < 0.01


@pytest.mark.parametrize(
    "method, most", [("loop", 1e-5), ("jvp", 1e-5), ("ghost", 1e-5), ("central", 0.01)]
)
def test_each_method_equals_a_float64_model(case, method, most):
    policy, pairs, direction = case
    truth = in_double(policy, pairs, direction)
    found = along.derivatives(policy, pairs, direction, method=method)
    assert found.method == method
    assert away(found.margin, truth[:, 0] - truth[:, 1]) < most
    if method == "ghost":
        assert found.sides is None
    else:
        assert away(found.sides, truth) < most
    torch.testing.assert_close(found.logps, tiny.by_hand(policy, pairs), rtol=0, atol=2e-3)
    if method != "loop":
        assert found.checked == 6 and found.error < most
    assert (found.step is not None) == (method == "central")


def test_forward_differences_need_one_pass_and_the_log_probs_at_theta(case):
    policy, pairs, direction = case
    at_theta = differences.logp_sums(policy, pairs)
    found = along.derivatives(policy, pairs, direction, at_theta=at_theta)
    assert found.method == "forward" and found.logps is at_theta
    truth = in_double(policy, pairs, direction)
    assert away(found.margin, truth[:, 0] - truth[:, 1]) < 0.02
    with pytest.raises(ValueError, match="needs the log-probs at theta"):
        along.derivatives(policy, pairs, direction, method="forward")


@pytest.mark.parametrize("family", ["gemma2", "bloom", "cohere"])
def test_models_that_cannot_be_packed_take_finite_differences(family):
    policy, pairs = tiny.policy(family), tiny.token_pairs(*LENGTHS)
    direction = random_direction(policy)
    found = along.derivatives(policy, pairs, direction)
    assert found.method == "central"
    assert away(found.sides, in_double(policy, pairs, direction)) < 0.01
    for method in ("jvp", "ghost"):
        with pytest.raises(ValueError, match=f"cannot serve '{family}'"):
            along.derivatives(policy, pairs, direction, method=method)


@pytest.mark.parametrize("family", ["gemma", "qwen3", "gpt_neox"])
def test_ghost_products_know_other_norms_and_layers(family):
    policy, pairs = tiny.policy(family), tiny.token_pairs(*LENGTHS)
    direction = random_direction(policy)
    truth = in_double(policy, pairs, direction)
    found = along.derivatives(policy, pairs, direction, method="ghost")
    assert away(found.margin, truth[:, 0] - truth[:, 1]) < 1e-5


def test_a_step_by_hand_moves_the_log_probs_by_so_many_nats():
    policy, pairs = tiny.policy("qwen2"), tiny.token_pairs(*LENGTHS)
    direction = random_direction(policy)
    found = along.derivatives(policy, pairs, direction, method="central", step=0.02)
    probe = loop.of_all_lengths(pairs, 6)
    pace = found.sides[probe].square().mean().sqrt()
    with differences.shifted(choose(policy), direction, 0.02 / pace.item()):
        moved = differences.logp_sums(policy, pairs)
    change = (moved - found.logps)[probe].square().mean().sqrt()
    assert change.item() == pytest.approx(0.02, rel=0.05)


def test_a_bad_step_warns_and_a_better_one_is_found():
    policy, pairs = tiny.policy("qwen2"), tiny.token_pairs(*LENGTHS)
    direction = random_direction(policy)
    with pytest.warns(UserWarning, match="by central are .* away from the loop's on 6 pairs"):
        bad = along.derivatives(policy, pairs, direction, method="central", step=30.0)
    assert bad.error > 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert along.derivatives(policy, pairs, direction, method="central").error < 0.01


def test_auto_passes_over_finite_differences_that_fail(monkeypatch):
    monkeypatch.setattr(along, "STEP", {"central": 100.0, "forward": 100.0})
    monkeypatch.setattr(along, "FACTORS", (1, 3))
    policy, pairs = tiny.policy("qwen2"), tiny.token_pairs(*LENGTHS)
    direction = random_direction(policy)
    assert along.derivatives(policy, pairs, direction).method == "ghost"
    policy = tiny.policy("bloom")
    with pytest.raises(ValueError, match="by central are .* Use a policy in float32"):
        along.derivatives(policy, pairs, random_direction(policy))


def test_half_precision_takes_ghost_products_which_differences_cannot_match():
    pairs, direction = tiny.token_pairs(*LENGTHS), random_direction(tiny.policy("gpt2"))
    truth = in_double(tiny.policy("gpt2"), pairs, direction)
    half = tiny.policy("gpt2")
    half.model.to(torch.bfloat16)
    direction = {name: v.bfloat16() for name, v in direction.items()}
    found = along.derivatives(half, pairs, direction)
    assert found.method == "ghost" and found.error < 0.05
    assert away(found.margin, truth[:, 0] - truth[:, 1]) < 0.1
    with pytest.warns(UserWarning, match="by central"):
        central = along.derivatives(half, pairs, direction, method="central")
    assert central.error > 2 * found.error


def test_parameters_are_as_before_to_the_last_bit_also_after_an_error(case, monkeypatch):
    policy, pairs, direction = case
    before = {name: p.clone() for name, p in policy.causal_lm.named_parameters()}
    trainable = set(choose(policy))  # peft's adapter, or everything
    for method in ("central", "jvp", "loop", "ghost"):
        along.derivatives(policy, pairs, direction, method=method)
    calls = []

    def broken(*args, **kwargs):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(differences, "logp_sums", broken)
    with pytest.raises(KeyboardInterrupt):
        differences.finite_difference(policy, pairs, direction, 0.1)
    assert calls
    for name, p in policy.causal_lm.named_parameters():
        assert torch.equal(p, before[name]) and p.grad is None
        assert p.requires_grad == (name in trainable)


def test_no_movement_is_zero_by_every_method():
    policy, pairs = tiny.policy("llama"), tiny.token_pairs(*LENGTHS)
    still = {name: torch.zeros_like(p) for name, p in choose(policy).items()}
    for method in ("auto", "central", "ghost", "jvp"):
        found = along.derivatives(policy, pairs, still, method=method)
        assert found.margin.eq(0).all() and found.method != "loop" and found.error != found.error


def test_pairs_that_do_not_move_beside_one_that_does():
    """The checked pairs are still, so that no step can be found."""
    policy, pairs = tiny.policy("llama"), tiny.token_pairs(*LENGTHS)
    rare = max(pairs[0].rejected)
    pairs = [
        type(p)(p.id, *([t for t in part if t != rare] or [7] for part in
                        (p.prompt, p.chosen, p.rejected))) for p in pairs
    ]  # fmt: skip
    moved = type(pairs[0])("moved", [rare, 5], [9, 8], [7])
    direction = random_direction(policy, parameters=lambda name: "embed_tokens" in name)
    (v,) = direction.values()
    v[torch.arange(len(v)) != rare] = 0
    found = along.derivatives(policy, [*pairs, moved], direction, check=3)
    assert found.method == "ghost" and found.margin[:-1].eq(0).all()
    truth = in_double(policy, [moved], direction)
    assert away(found.margin[-1:], truth[:, 0] - truth[:, 1]) < 1e-5
    padded = along.derivatives(policy, [*pairs, moved], direction, check=3, path="padded")
    assert padded.method == "loop" and away(padded.margin, found.margin) < 1e-5


def test_equal_responses_have_no_slope_of_their_margin():
    policy, pairs = tiny.policy("llama"), tiny.token_pairs(*LENGTHS)
    pairs = [type(p)(p.id, p.prompt, p.chosen, p.chosen) for p in pairs]
    found = along.derivatives(policy, pairs, random_direction(policy))
    assert found.margin.abs().max() < 1e-2 * found.sides.abs().max()


def test_what_is_not_finite_is_refused():
    policy, pairs = tiny.policy("llama"), tiny.token_pairs(*LENGTHS)
    direction = random_direction(policy)
    next(iter(direction.values()))[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        along.derivatives(policy, pairs, direction)


@pytest.mark.parametrize("kind", ["embedding", "second adapter"])
def test_half_precision_goes_on_where_ghost_products_cannot(kind):
    from peft import LoraConfig

    policy = tiny.policy("llama")
    if kind == "embedding":
        policy = nb.add_lora(
            policy, rank=4, lora_options={"target_modules": ["embed_tokens", "q_proj"]}
        )
    else:
        policy = with_lora(policy)
        policy.model.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj"]))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, p in policy.model.named_parameters():
            if "lora_B" in name or "embedding_B" in name:
                p.copy_(0.1 * torch.randn_like(p))
    pairs, direction = tiny.token_pairs(*LENGTHS), random_direction(policy)
    assert not any(".other." in name for name in direction)
    truth = in_double(policy, pairs, direction)
    weights = torch.linspace(0.05, 0.25, len(pairs), dtype=torch.float64)
    curvature.gauss_newton(policy, pairs, weights)(direction)  # by forward mode
    policy.model.to(torch.bfloat16)
    half = {name: v.bfloat16() for name, v in direction.items()}
    found = along.derivatives(policy, pairs, half)
    assert found.method == ("jvp" if kind == "embedding" else "ghost") and found.error < 0.05
    assert away(found.margin, truth[:, 0] - truth[:, 1]) < 0.1
    if kind == "embedding":
        with pytest.raises(ValueError, match="outside of the layer"):
            along.derivatives(policy, pairs, half, method="ghost")


def test_log_probs_of_another_policy_are_refused():
    policy, pairs = tiny.policy("llama"), tiny.token_pairs(*LENGTHS)
    direction = random_direction(policy)
    known = differences.logp_sums(policy, pairs)
    assert along.derivatives(policy, pairs, direction, at_theta=known).method == "forward"
    stale = differences.logp_sums(tiny.policy("llama", seed=1), pairs)
    with pytest.raises(ValueError, match="nats away from those of 'llama'"):
        along.derivatives(policy, pairs, direction, at_theta=stale)


def test_some_of_the_parameters():
    policy, pairs = tiny.policy("llama"), tiny.token_pairs(*LENGTHS)
    direction = random_direction(policy, parameters=lambda name: "layers.1" in name)
    assert all("layers.1" in name for name in direction)
    truth = in_double(policy, pairs, direction)
    for method in ("ghost", "jvp"):
        found = along.derivatives(policy, pairs, direction, method=method)
        assert away(found.margin, truth[:, 0] - truth[:, 1]) < 1e-5


def test_ghost_products_refuse_a_parameter_outside_its_layer():
    policy, pairs = tiny.policy("llama"), tiny.token_pairs(*LENGTHS)
    policy.model.model.register_parameter("spare", torch.nn.Parameter(torch.ones(3)))
    with pytest.raises(ValueError, match="first: 'model.spare'.*outside of the layer"):
        along.derivatives(policy, pairs, random_direction(policy), method="ghost")


@pytest.mark.parametrize("wrong", ["lora", "most", ["lm_head.weight"], lambda name: False])
def test_parameters_that_choose_nothing(wrong):
    with pytest.raises(ValueError, match="parameters="):
        choose(tiny.policy("llama"), wrong)


def test_the_choice_of_parameters():
    plain, lora = tiny.policy("llama"), with_lora(tiny.policy("llama"))
    assert set(choose(plain)) == {name for name, _ in plain.model.named_parameters()}
    assert set(choose(lora)) == set(choose(lora, "lora"))
    assert all("lora_" in name for name in choose(lora))
    assert set(choose(lora)) < set(choose(lora, "all"))
    with pytest.raises(ValueError, match="chooses none"):
        choose(lora.without_adapter(), "lora")
    base = choose(lora.without_adapter())
    assert base and set(base) == set(choose(lora, "all")) - set(choose(lora))


def test_an_adapter_is_what_is_trained_with_it():
    from peft import IA3Config, get_peft_model

    policy = nb.add_lora(
        tiny.policy("llama"), rank=4, lora_options={"modules_to_save": ["lm_head"]}
    )
    assert "lm_head.modules_to_save.default.weight" in choose(policy)
    ia3 = IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"],
        task_type="CAUSAL_LM",
    )  # fmt: skip
    other = nb.Policy(get_peft_model(tiny.model("llama"), ia3), tiny.tokenizer())
    assert choose(other) and all("ia3_l" in name for name in choose(other))


def test_methods_are_named_and_checks_asked_for():
    policy, pairs = tiny.policy("llama"), tiny.token_pairs(*LENGTHS)
    direction = random_direction(policy)
    with pytest.raises(ValueError, match="method='exact'; expected 'auto' or one of central"):
        along.derivatives(policy, pairs, direction, method="exact")
    with pytest.raises(ValueError, match="check=0"):
        along.derivatives(policy, pairs, direction, check=0)
    with pytest.raises(ValueError, match="step=-1; expected"):
        along.derivatives(policy, pairs, direction, method="central", step=-1)
    with pytest.raises(ValueError, match="'jvp' takes the packed path"):
        along.derivatives(policy, pairs, direction, method="jvp", path="padded")
    unchecked = along.derivatives(policy, pairs, direction, method="ghost", check=0)
    assert unchecked.checked == 0 and unchecked.error != unchecked.error


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_the_gradient_of_a_function_of_the_log_probs(case, path):
    policy, pairs, _ = case
    weights = torch.linspace(-1, 2, 2 * len(pairs), dtype=torch.float64).view(-1, 2)
    seen = []

    def slopes(positions, logps):
        seen.append((positions, logps))
        return weights[positions]

    found = gradient(policy, pairs, slopes, path=path, budget=120)
    assert sorted(i for positions, _ in seen for i in positions) == list(range(len(pairs)))
    by_hand = tiny.by_hand(policy, pairs)
    for positions, logps in seen:
        torch.testing.assert_close(logps, by_hand[positions], rtol=0, atol=2e-3)
    double = copy.deepcopy(policy)
    double.model.double()
    total = sum(
        weights[n, side] * loop.response_logp(double, pair.prompt, response)
        for n, pair in enumerate(pairs)
        for side, response in enumerate((pair.chosen, pair.rejected))
    )
    chosen = choose(double)
    for p in chosen.values():
        p.requires_grad_(True)
    truth = dict(zip(chosen, torch.autograd.grad(total, list(chosen.values()))))
    apart = {name: found[name].double() - truth[name].double() for name in truth}
    assert norm(apart) < 1e-5 * norm(truth)


def test_gradients_of_one_pass_are_gone_before_the_next(monkeypatch):
    """Of a large model two sets of them would be a large part of the memory."""
    policy, pairs = tiny.policy("llama"), tiny.token_pairs(*LENGTHS)
    made, grad = [], torch.autograd.grad

    def watched(*args, **kwargs):
        assert all(ref() is None for ref in made)
        parts = grad(*args, **kwargs)
        made.extend(weakref.ref(part) for part in parts if part is not None)
        return parts

    monkeypatch.setattr(torch.autograd, "grad", watched)
    gradient(policy, pairs, lambda i, logps: torch.ones_like(logps), budget=40)
    assert len(made) > 2 * len(choose(policy))
    made.clear()
    loop.pair_by_pair(policy, pairs[:2], random_direction(policy))


def test_a_large_model_has_fewer_tokens_before_a_backward_pass(monkeypatch):
    policy = tiny.policy("llama")
    assert engine.default_budget(policy, backward=True) == engine.BUDGET_BACKWARD["cpu"]
    monkeypatch.setitem(engine.BUDGET_BACKWARD, "cpu", 8192)
    assert engine.default_budget(policy, backward=True) == 8192
    monkeypatch.setattr(engine, "ACTIVATIONS", 1.2e7)  # the tiny model has some 20 kB a token
    assert 1024 <= engine.default_budget(policy, backward=True) < 4096


@pytest.mark.parametrize("rows", [7, 700])
def test_the_head_is_differentiated_tile_by_tile(rows):
    torch.manual_seed(0)
    hidden, d_hidden = torch.randn(2, rows, 24)
    weight, d_weight = torch.randn(2, 2500, 24)
    targets = torch.randint(2500, (rows,))

    def whole(h, w):
        return (h @ w.T).log_softmax(-1).gather(1, targets[:, None])[:, 0]

    exact, slopes = torch.func.jvp(
        whole, (hidden.double(), weight.double()), (d_hidden.double(), d_weight.double())
    )
    found = target_slopes(hidden, weight, targets, d_hidden, d_weight)
    torch.testing.assert_close(found.double(), slopes, rtol=1e-4, atol=1e-3)
    _, of_hidden = torch.func.jvp(
        lambda h: whole(h, weight.double()), (hidden.double(),), (d_hidden.double(),)
    )
    found = target_slopes(hidden, weight, targets, d_hidden=d_hidden)
    torch.testing.assert_close(found.double(), of_hidden, rtol=1e-4, atol=1e-3)

    ours = [x.clone().requires_grad_() for x in (hidden, weight)]
    theirs = [x.double().requires_grad_() for x in (hidden, weight)]
    pull = torch.randn(rows)
    logps = target_logps(*ours, targets)
    torch.testing.assert_close(logps.double(), exact, rtol=0, atol=1e-4)
    (pull * logps).sum().backward()
    (pull.double() * whole(*theirs)).sum().backward()
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-4, atol=1e-4)


def margin_gradients(policy, pairs):
    """[n, parameters]: gradients of log p(chosen) - log p(rejected), pair by pair."""
    rows = []
    for n in range(len(pairs)):
        g = gradient(policy, pairs[n : n + 1], lambda i, _: torch.tensor([[1.0, -1.0]]))
        rows.append(torch.cat([part.flatten() for part in g.values()]))
    return torch.stack(rows).double()


@pytest.mark.parametrize("family", ["qwen2", "bloom"])
def test_curvature_equals_a_dense_solve(family):
    narrow = (
        dict(hidden_size=8, n_head=2, n_layer=1) if family == "bloom" else
        dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )  # fmt: skip
    policy = tiny.policy(family, vocab_size=40, **narrow)
    pairs = [
        type(p)(p.id, *([t % 40 for t in x] for x in (p.prompt, p.chosen, p.rejected)))
        for p in tiny.token_pairs(*LENGTHS)
    ]
    weights = torch.linspace(0.05, 0.25, len(pairs), dtype=torch.float64)
    J = margin_gradients(policy, pairs)
    H = J.T @ (weights[:, None] * J) / len(pairs)
    g = random_direction(policy)
    flat = torch.cat([part.flatten() for part in g.values()]).double()

    times = curvature.gauss_newton(policy, pairs, weights)
    product = torch.cat([part.flatten() for part in times(g).values()])
    assert away(product.double(), H @ flat) < (1e-5 if family == "qwen2" else 1e-2)

    solved = curvature.solve(times, g, damping=0.1)
    largest = torch.linalg.eigvalsh(H)[-1].item()
    assert solved.largest == pytest.approx(largest, rel=1e-2)
    dense = torch.linalg.solve(H + solved.damping * torch.eye(len(H)), flat)
    found = torch.cat([part.flatten() for part in solved.direction.values()]).double()
    assert away(found, dense) < (1e-3 if family == "qwen2" else 2e-2)
    assert solved.residual < (1e-3 if family == "qwen2" else 2e-2)
    assert 1 <= solved.iterations <= len(pairs) + 2
    assert solved.damping == pytest.approx(0.1 * solved.largest)


def test_curvature_in_half_precision_is_exact_or_refused_and_says_what_is_left():
    pairs, weights = tiny.token_pairs(*LENGTHS), torch.full((len(LENGTHS),), 0.2).double()
    other = tiny.policy("gemma2")
    other.model.to(torch.bfloat16)
    with pytest.raises(ValueError, match="Load the policy with dtype='float32'"):
        curvature.gauss_newton(other, pairs, weights)
    policy = tiny.policy("llama")
    policy.model.to(torch.bfloat16)
    g = random_direction(policy)
    times = curvature.gauss_newton(policy, pairs, weights)
    with pytest.warns(UserWarning, match="is solved to .* only"):
        solved = curvature.solve(times, g, damping=1e-4)
    left = {n: g[n] - solved.damping * v - times(solved.direction)[n]
            for n, v in solved.direction.items()}  # fmt: skip
    assert solved.residual == pytest.approx(norm(left) / norm(g), rel=0.2)
    with pytest.raises(ValueError, match="made of 0 pairs"):
        curvature.gauss_newton(policy, [], weights)


def test_conjugate_gradients_say_how_far_they_came():
    diagonal = {"x": torch.tensor([1.0, 10.0, 100.0, 1000.0])}

    def times(u):
        return {"x": diagonal["x"] * u["x"]}

    g = {"x": torch.ones(4)}
    with pytest.warns(UserWarning, match="solved to .* of .g. only, after 2 iterations"):
        stopped = curvature.solve(times, g, damping=1e-6, most=2)
    assert stopped.iterations == 2 and stopped.residual > 1e-4
    nothing = curvature.solve(times, {"x": torch.zeros(4)})
    assert nothing.iterations == 0 and dot(nothing.direction, nothing.direction) == 0
    with pytest.raises(ValueError, match="damping=0"):
        curvature.solve(times, g, damping=0)
