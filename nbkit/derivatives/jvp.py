"""Derivatives along one direction by forward-mode differentiation: every number carries its own
derivative through the pass."""

from __future__ import annotations

import torch
import torch.autograd.forward_ad as forward_ad
from torch.func import functional_call
from tqdm.auto import tqdm

from nbkit.derivatives.exact import check_packed, dual_level
from nbkit.derivatives.parameters import Direction
from nbkit.logprobs.attending import packed_states
from nbkit.logprobs.engine import default_budget
from nbkit.logprobs.head import target_logps, target_slopes
from nbkit.logprobs.packing import pack_row, plan_rows
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair


def forward_mode(
    policy: Policy,
    token_pairs: list[TokenPair],
    direction: Direction,
    *,
    budget: int | None = None,
    progress: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs (float64 [n, 2], nats), and their derivatives along a direction ([n, 2], nats per
    unit of it). Exact in the precision of the model, without a step to choose; one pass of about
    three times the work of scoring. Needs the packed path.

    Raises:
        CannotServe: the packed path cannot serve this policy. (A ValueError.)
    """
    check_packed(policy, token_pairs, "jvp")
    model = policy.causal_lm
    logps, slopes = torch.zeros(2, 2 * len(token_pairs), dtype=torch.float64)
    with (
        policy.ready(), torch.no_grad(), dual_level(),
        tqdm(total=len(token_pairs), unit=" pairs", desc=f"forward mode, {policy.name}", delay=1,
             disable=not progress) as bar,
    ):  # fmt: skip
        head, backbone = model.get_output_embeddings().weight, model.base_model
        names = {id(p): name for name, p in model.named_parameters()}
        d_head = direction.get(names[id(head)])
        duals = {
            name: forward_ad.make_dual(p, direction[names[id(p)]])
            for name, p in backbone.named_parameters()
            if names[id(p)] in direction
        }
        for indices in plan_rows(token_pairs, budget or default_budget(policy)):
            row = pack_row(token_pairs, indices, device=policy.device)
            states = packed_states(
                model, row, fused=False,
                backbone=lambda **inputs: functional_call(backbone, duals, (), inputs),
            )  # fmt: skip
            hidden, d_hidden = forward_ad.unpack_dual(states)
            own = row.owners.cpu()
            logps.index_add_(0, own, target_logps(hidden, head, row.targets).cpu().double())
            found = target_slopes(hidden, head, row.targets, d_hidden, d_head)
            slopes.index_add_(0, own, found.cpu().double())
            bar.update(len(indices))
    return logps.view(-1, 2), slopes.view(-1, 2)
