"""A checksum of each weight: are these the weights that were loaded?"""

from __future__ import annotations

import torch


def checksums(causal_lm: torch.nn.Module) -> dict[str, int]:
    """A checksum of each of a model's own weights; those of an adapter in it do not count."""
    sums = {}
    for name, weight in causal_lm.named_parameters():
        if (name := own_name(name)) is not None:
            raw = weight.detach().contiguous().view(-1).view(torch.uint8)
            raw = raw.clone() if raw.storage_offset() % 8 else raw
            whole = len(raw) // 8 * 8
            sums[name] = raw[:whole].view(torch.int64).sum() + raw[whole:].sum()
    return {name: int(total) for name, total in sums.items()}


def own_name(name: str, prefix: str = "lora_") -> str | None:
    """The name that a weight has without an adapter around it; None for the adapter's own, which
    peft names by `prefix`."""
    parts = name.split(".")
    if any(part.startswith((prefix, "modules_to_save", "trainable_tokens_")) for part in parts):
        return None
    wrappers = ("base_layer", "original_module", "token_adapter")
    return ".".join(part for part in parts if part not in wrappers)
