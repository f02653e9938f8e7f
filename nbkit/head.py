"""Log-probs of given tokens under a linear LM head, without the [tokens, vocabulary] matrix."""

from __future__ import annotations

import torch

# Tile of (rows, vocabulary entries) whose float32 logits stay in cache on a CPU, and which is
# large enough to fill a GPU.
TILE = {"cpu": (512, 1024), "cuda": (8192, 8192), "mps": (2048, 8192)}


def target_logps(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p(target) at each position: z_t - logsumexp(z), with z = hidden @ weight.T.

    The logits are made tile by tile, and the logsumexp is carried along (its running maximum and
    the running sum of exp(z - maximum)), so memory does not grow with the vocabulary.

    Args:
        hidden: [S, d] hidden states that predict the scored tokens.
        weight: [V, d] weight of the LM head.
        targets: long [S], the scored token ids.

    Returns:
        float32 [S], nats.
    """
    rows, columns = TILE.get(hidden.device.type, TILE["cuda"])
    logps = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    for start in range(0, len(hidden), rows):
        h = hidden[start : start + rows]
        top = torch.full((len(h), 1), -torch.inf, device=h.device)
        total = torch.zeros(len(h), device=h.device)
        for column in range(0, len(weight), columns):
            z = torch.mm(h, weight[column : column + columns].T).float()
            new_top = torch.maximum(top, z.amax(1, keepdim=True))
            total *= (top - new_top).exp_()[:, 0]
            total += z.sub_(new_top).exp_().sum(1)
            top = new_top
        target_logit = (h.float() * weight[targets[start : start + rows]].float()).sum(1)
        logps[start : start + rows] = target_logit - top[:, 0] - total.log()
    return logps


def why_not_plain(model) -> str | None:
    """None when the logits of `model` (a transformers causal LM) are exactly hidden @ weight.T;
    else the reason why they are not. The last word has a measurement: scales and caps have too many
    names to know them all."""
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


def _measured_difference(model, head) -> str | None:
    """One tiny forward pass: its logits against hidden @ weight.T."""
    backbone = []
    hook = model.base_model.register_forward_hook(lambda *call: backbone.append(call[-1]))
    try:
        with torch.no_grad():
            ids = torch.arange(8, device=head.weight.device)[None]
            logits = model(input_ids=ids, use_cache=False).logits
            plain = head(backbone[-1].last_hidden_state)
    finally:
        hook.remove()
    precision = 1e-4 if head.weight.dtype == torch.float32 else 1e-2
    if logits.shape == plain.shape:
        difference = (logits - plain).abs().max()
        if difference <= precision * plain.abs().max():
            return None
    return "its logits are not hidden @ weight.T"
