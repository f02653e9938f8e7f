"""Derivatives along one direction by ghost dot products: one forward and one backward pass in which
no gradient of a parameter is ever made.

A parameter of a layer moves the layer's output by d_out = (layer with the direction as its
parameters)(the same input). A backward pass gives what each output is worth, g_out; the sum of
g_out * d_out over the layers, token by token, is the derivative, and tokens belong to pairs.
"""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.autograd.forward_ad as forward_ad
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle
from tqdm.auto import tqdm
from transformers.pytorch_utils import Conv1D

from nbkit.derivatives.exact import CannotServe, check_packed, dual_level
from nbkit.derivatives.parameters import Direction, differentiable
from nbkit.logprobs.attending import packed_states
from nbkit.logprobs.engine import default_budget
from nbkit.logprobs.head import target_logps, target_slopes
from nbkit.logprobs.packing import PackedRow, Segment, pack_row, plan_rows
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair

LINEAR = (torch.nn.Linear, torch.nn.Embedding, Conv1D)  # in their parameters


def ghost(
    policy: Policy,
    token_pairs: list[TokenPair],
    direction: Direction,
    *,
    budget: int | None = None,
    progress: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs (float64 [n, 2], nats), and the derivatives of log p(chosen) - log p(rejected)
    along a direction ([n], nats per unit of it: the responses share their prompt's layers, so their
    own cannot be told apart). Exact in the precision of the model, and sound in half precision,
    where a finite difference is lost in rounding. Needs the packed path.

    Raises:
        CannotServe: the packed path cannot serve this policy, or a moved parameter is used outside
            of the layer that owns it. (A ValueError.)
    """
    check_packed(policy, token_pairs, "ghost")
    model = policy.causal_lm
    with policy.ready():
        names = {id(p): name for name, p in model.named_parameters()}
        head_name = names[id(model.get_output_embeddings().weight)]
        meter = _Meter(model.base_model, direction, names)
    d_head = direction.get(head_name)
    sums = torch.zeros(2 * len(token_pairs), dtype=torch.float64)
    slopes = torch.zeros(len(token_pairs), dtype=torch.float64)
    with (
        differentiable(policy, {}), meter,
        tqdm(total=len(token_pairs), unit=" pairs", desc=f"ghost dot products, {policy.name}",
             delay=1, disable=not progress) as bar,
    ):  # fmt: skip
        for indices in plan_rows(token_pairs, budget or default_budget(policy, backward=True)):
            row = pack_row(token_pairs, indices, device=policy.device)
            logps, by_layers, by_head = _of_row(model, row, d_head, meter)
            sums.index_add_(0, row.owners.cpu(), logps.double().cpu())
            whose = [i for i, s in zip(indices, row.segments) for _ in range(_length(s))]
            slopes.index_add_(0, torch.tensor(whose), by_layers.double().cpu())
            if by_head is not None:
                slopes.index_add_(0, row.owners.cpu() // 2, by_head.double().cpu())
            bar.update(len(indices))
    _check_met(policy, direction, meter.seen | ({head_name} if d_head is not None else set()))
    return sums.view(-1, 2), slopes


def _of_row(
    model: Any, row: PackedRow, d_head: torch.Tensor | None, meter: _Meter
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Log-probs of a packed row [S], and what adds up to the derivatives of its margins: the part
    of the layers by token of the row [T], the head's by scored token [S] (None: it stays)."""
    head = model.get_output_embeddings().weight
    meter.worth = torch.zeros(row.input_ids.shape[1], device=row.input_ids.device)
    # something must require a gradient for the backward pass to reach the first layer
    inputs = model.get_input_embeddings()(row.input_ids).requires_grad_(True)
    states = packed_states(model, row, inputs=dict(inputs_embeds=inputs))
    logps = target_logps(states, head, row.targets)
    signs = (1 - 2 * (row.owners % 2)).float()
    (signs * logps).sum().backward()
    if d_head is None:
        return logps.detach(), meter.worth, None
    with torch.no_grad():
        by_head = target_slopes(states, head, row.targets, d_weight=d_head) * signs
    return logps.detach(), meter.worth, by_head


def _check_met(policy: Policy, direction: Direction, met: set[str]) -> None:
    """Raise `CannotServe` if a moved parameter was used where no hook could see it."""
    if missed := sorted(set(direction) - met):
        raise CannotServe(
            f"method='ghost' cannot serve {policy.name!r}: {len(missed)} of its parameters "
            f"(first: {missed[0]!r}) are used outside of the layer that owns them."
        )


class _Meter:
    """Hooks on every layer that owns a moved parameter: `worth` [T] adds up g_out * d_out by token
    of the row, `seen` are the names of the parameters that were met."""

    def __init__(self, backbone: Any, direction: Direction, names: dict[int, str]) -> None:
        self.worth = torch.zeros(0)
        self.seen: set[str] = set()
        self.hooks: list[RemovableHandle] = []
        self.moves: dict[torch.nn.Module, Direction] = {}
        self.measuring = False
        for layer in backbone.modules():
            own = {
                part: direction[names[id(p)]]
                for part, p in layer.named_parameters(recurse=False)
                if names.get(id(p)) in direction
            }
            if own:
                self.moves[layer] = own
        self.names = {
            layer: [names[id(getattr(layer, part))] for part in own]
            for layer, own in self.moves.items()
        }

    def __enter__(self) -> Self:
        self.hooks = [
            layer.register_forward_hook(self.after, with_kwargs=True) for layer in self.moves
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def after(self, layer: torch.nn.Module, args: tuple, kwargs: dict[str, Any], out: Any) -> None:
        # This hook calls the layer once more; and a layer that returns something else than a tensor
        # is left to the check of what was seen.
        if self.measuring or not isinstance(out, torch.Tensor):
            return
        self.measuring = True
        with torch.no_grad():
            d_out = _direct_slope(layer, self.moves[layer], args, kwargs)
        self.measuring = False
        self.seen.update(self.names[layer])
        if not out.requires_grad:  # an embedding: its output is where the backward pass ends
            out.requires_grad_(True)
        out.register_hook(lambda g_out: self.add(g_out, d_out))

    def add(self, g_out: torch.Tensor, d_out: torch.Tensor) -> None:
        worth = (g_out.float() * d_out.float()).reshape(len(self.worth), -1)
        self.worth += worth.sum(1)


def _direct_slope(
    layer: torch.nn.Module, move: Direction, args: tuple, kwargs: dict[str, Any]
) -> torch.Tensor:
    """What moving the layer's own parameters does to its output at the same input."""
    if isinstance(layer, LINEAR):
        still = {
            part: torch.zeros_like(p)
            for part, p in layer.named_parameters(recurse=False)
            if part not in move
        }
        return functional_call(layer, {**still, **move}, args, kwargs)
    with dual_level():
        moved = {
            part: forward_ad.make_dual(getattr(layer, part).detach(), d) for part, d in move.items()
        }
        return forward_ad.unpack_dual(functional_call(layer, moved, args, kwargs)).tangent


def _length(segment: Segment) -> int:
    return segment.prompt + sum(segment.responses)
