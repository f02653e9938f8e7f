"""Log-probs under a linear LM head, and their derivatives, without [tokens, vocabulary] logits."""

from __future__ import annotations

from typing import Any

import torch

# Tile of (rows, vocabulary entries) whose float32 logits stay in cache on a CPU, and which is
# large enough to fill a GPU.
TILE = {"cpu": (512, 1024), "cuda": (8192, 8192), "mps": (2048, 8192)}
HALF = (torch.bfloat16, torch.float16)


def target_logps(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p(target) at each position: z_t - logsumexp(z), with z = hidden @ weight.T.

    The logits are made tile by tile, and the logsumexp is carried along (its running maximum and
    the running sum of exp(z - maximum)), so memory does not grow with the vocabulary. With
    gradients enabled the result can be differentiated; the tiles are then made once more.

    In half precision too the logits are float32: a logit that is rounded to half precision is off
    by some hundredths of a nat. What float32 itself leaves above 0 (1e-4 nats where logits are in
    the thousands) becomes 0.

    Args:
        hidden: [S, d] hidden states that predict the scored tokens.
        weight: [V, d] weight of the LM head.
        targets: long [S], the scored token ids.

    Returns:
        float32 [S], nats.
    """
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        return _Differentiable.apply(hidden, weight, targets)
    return _forward(hidden, weight, targets)[0]


def target_slopes(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    d_hidden: torch.Tensor | None = None,
    d_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Derivatives of `target_logps` when hidden and weight move along d_hidden and d_weight (None:
    it stays): dz_t - sum_v p_v dz_v, with dz = d_hidden @ weight.T + hidden @ d_weight.T.

    Returns:
        float32 [S], nats per unit of the direction.
    """
    slopes = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device)
    for rows in _row_tiles(hidden):
        h, t = hidden[rows], targets[rows]
        dh = d_hidden[rows] if d_hidden is not None else None
        top = torch.full((len(h), 1), -torch.inf, device=h.device)
        total, mean = torch.zeros_like(top), torch.zeros_like(top)
        for column in _column_tiles(weight):
            z = _product(h, weight[column].T)
            dz = torch.zeros_like(z)
            if dh is not None:
                dz += _product(dh, weight[column].T)
            if d_weight is not None:
                dz += _product(h, d_weight[column].T)
            new_top = torch.maximum(top, z.amax(1, keepdim=True))
            rescaled = (top - new_top).exp_()
            share = z.sub_(new_top).exp_()
            total = total * rescaled + share.sum(1, keepdim=True)
            mean = mean * rescaled + (share * dz).sum(1, keepdim=True)
            top = new_top
        slope = -(mean / total)[:, 0]
        if dh is not None:
            slope += (dh.float() * weight[t].float()).sum(1)
        if d_weight is not None:
            slope += (h.float() * d_weight[t].float()).sum(1)
        slopes[rows] = slope
    return slopes


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        logps, logsumexp = _forward(hidden, weight, targets)
        ctx.save_for_backward(hidden, weight, targets, logsumexp)
        return logps

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        hidden, weight, targets, logsumexp = ctx.saved_tensors
        d_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        d_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for column in _column_tiles(weight):
            w = weight[column]
            d_w = torch.zeros_like(w, dtype=torch.float32)
            for rows in _row_tiles(hidden):
                h, g = hidden[rows], grad[rows, None]
                d_z = _product(h, w.T).sub_(logsumexp[rows]).exp_().mul_(-g)
                # the target's own part before d_z is rounded: 1 - p may be small beside p
                place = targets[rows, None] - column.start
                own = ((place >= 0) & (place < len(w))) * g
                d_z.scatter_add_(1, place.clamp(0, len(w) - 1), own)
                d_z = d_z.to(h.dtype)
                d_hidden[rows] += _product(d_z, w)
                if d_weight is not None:
                    d_w += _product(d_z.T, h)
            if d_weight is not None:
                d_weight[column] = d_w
        return d_hidden.to(hidden.dtype), d_weight, None


def _forward(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(logps [S], logsumexp [S, 1])."""
    logps = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    logsumexp = torch.empty(len(hidden), 1, dtype=torch.float32, device=hidden.device)
    for rows in _row_tiles(hidden):
        h = hidden[rows]
        top = torch.full((len(h), 1), -torch.inf, device=h.device)
        total = torch.zeros(len(h), device=h.device)
        for column in _column_tiles(weight):
            z = _product(h, weight[column].T)
            new_top = torch.maximum(top, z.amax(1, keepdim=True))
            total *= (top - new_top).exp_()[:, 0]
            total += z.sub_(new_top).exp_().sum(1)
            top = new_top
        target_logit = (h.float() * weight[targets[rows]].float()).sum(1)
        logsumexp[rows] = top + total.log()[:, None]
        logps[rows] = (target_logit - top[:, 0] - total.log()).clamp_(max=0)
    return logps, logsumexp


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b in float32, of factors in half precision too: accumulated in it, and not rounded."""
    if a.dtype not in HALF:
        return torch.mm(a, b).float()
    if a.is_cuda and not torch.version.hip and torch.cuda.get_device_capability(a.device) >= (8, 0):
        return torch.mm(a, b, out_dtype=torch.float32)
    return torch.mm(a.float(), b.float())


def _row_tiles(hidden: torch.Tensor) -> list[slice]:
    return _slices(len(hidden), TILE.get(hidden.device.type, TILE["cuda"])[0])


def _column_tiles(weight: torch.Tensor) -> list[slice]:
    return _slices(len(weight), TILE.get(weight.device.type, TILE["cuda"])[1])


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, length, step)]


def why_not_plain(model: Any) -> str | None:
    """None when the logits of `model` (a transformers causal LM, in eval mode) are exactly
    hidden @ weight.T; else the reason why they are not. The last word has a measurement: scales and
    caps have too many names to know them all."""
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    if model.base_model is model:
        return "its backbone cannot be called without the head"
    if type(head) is not torch.nn.Linear:
        return f"its LM head is a {type(head).__name__}"
    if head.bias is not None:
        return "its LM head has a bias"
    for name in (
        "final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier",
        "output_multiplier",
    ):  # fmt: skip
        if getattr(config, name, None) not in (None, 1.0):
            return f"its config scales or caps the logits ({name})"
    return _measured_difference(model, head)


def _measured_difference(model: Any, head: torch.nn.Linear) -> str | None:
    """One tiny forward pass: its logits against hidden @ weight.T, of the backbone by itself."""
    ids = torch.arange(min(8, len(head.weight)), device=head.weight.device)[None]
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
        plain = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    precision = 1e-4 if head.weight.dtype == torch.float32 else 1e-2
    if logits.shape == plain.shape:
        difference = (logits - plain).abs().max()
        if difference <= precision * plain.abs().max():
            return None
    return "its logits are not hidden @ weight.T"
