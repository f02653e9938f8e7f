"""Which parameters are differentiated, and arithmetic of directions in their space."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from nbkit.models.policy import Policy

Direction = dict[str, torch.Tensor]  # by the names of `policy.causal_lm.named_parameters()`


def choose(policy: Policy, parameters: str | Callable[[str], bool] | None = None) -> Direction:
    """The parameters to differentiate with respect to, by name. Those of an adapter that is off,
    or not the active one, are never among them: they play no part.

    Args:
        policy: whose parameters.
        parameters: "all"; "lora" (the adapter's, of LoRA or of another kind); or
            `chosen(name) -> bool`. None: the adapter's where there is one that is on, else all.

    Raises:
        ValueError: no such choice, or it chooses none; "lora" of a policy with its adapter off.
    """
    active = policy.model.active_adapters if policy.has_adapter and policy.adapter_enabled else []
    if parameters is None:
        parameters = "lora" if active else "all"
    rules = {"all": lambda name: True, "lora": lambda name: _adapter(policy, name) is not None}
    rule = parameters if callable(parameters) else rules.get(str(parameters))
    if rule is None:
        raise ValueError(
            f"parameters={parameters!r}; expected 'all', 'lora', or a function name -> bool."
        )
    with policy.ready():  # no other thread has put something in their place
        named = dict(policy.causal_lm.named_parameters())
    chosen: Direction = {
        name: p
        for name, p in named.items()
        if p.is_floating_point() and _adapter(policy, name) in (None, *active) and rule(name)
    }
    if not chosen:
        raise ValueError(
            f"parameters={parameters!r} chooses none of the {len(named)} parameters of "
            f"{policy!r} (the first is called {next(iter(named))!r})."
        )
    return chosen


def _adapter(policy: Policy, name: str) -> str | None:
    """The adapter that a parameter belongs to: "default" of "...q_proj.lora_A.default.weight"."""
    if not policy.has_adapter:
        return None
    prefix, parts = policy.model.base_model.prefix, name.split(".")
    for part, adapter in zip(parts, parts[1:]):
        if part.startswith(prefix) or part == "modules_to_save":
            return adapter
    return None


@contextlib.contextmanager
def differentiable(policy: Policy, chosen: Direction) -> Iterator[None]:
    """Inside the block exactly the chosen parameters require gradients, and gradients are made;
    the policy is ready (see `Policy.ready`)."""
    wanted = {id(p) for p in chosen.values()}
    with policy.ready(), torch.enable_grad():
        before = {p: p.requires_grad for p in policy.model.parameters()}
        for p in before:
            p.requires_grad_(id(p) in wanted)
        try:
            yield
        finally:
            for p, flag in before.items():
                p.requires_grad_(flag)


def dot(a: Direction, b: Direction) -> float:
    """Inner product: of products in float32, summed in float64."""
    return sum((a[name].float() * b[name].float()).sum(dtype=torch.float64).item() for name in a)


def norm(a: Direction) -> float:
    return dot(a, a) ** 0.5


def combine(a: Direction, factor: float, b: Direction) -> Direction:
    """a + factor b."""
    return {name: torch.add(a[name], b[name], alpha=factor) for name in a}


def scaled(a: Direction, factor: float) -> Direction:
    return {name: factor * part for name, part in a.items()}
