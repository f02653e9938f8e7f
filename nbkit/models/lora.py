"""A fresh LoRA adapter around a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbkit.models.policy import Policy


def add_lora(
    policy: Policy, rank: int = 16, lora_options: Mapping[str, Any] | None = None
) -> Policy:
    """A fresh LoRA adapter (zero effect until trained) on all linear layers of a policy but the
    head. The wrapped weights are shared with `policy`, so use the returned policy from here on;
    its reference is `policy.without_adapter()`.

    Args:
        policy: a policy without adapter.
        rank: LoRA rank r; `lora_alpha` defaults to 2 r.
        lora_options: further fields of `peft.LoraConfig`, such as `{"lora_dropout": 0.1}`.

    Returns:
        Policy, its adapter switched on.

    Raises:
        ValueError: it has an adapter already.

    Example:
        >>> import nbkit as nb
        >>> policy = nb.add_lora(nb.load_policy("world/small"), rank=2)
        >>> sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
        2176
    """
    from peft import LoraConfig, get_peft_model

    if policy.has_adapter:
        raise ValueError(
            f"Policy {policy.name!r} already has an adapter. Train it on as it is, or begin afresh "
            "on top of it: nb.Policy(policy.model.merge_and_unload(), policy.tokenizer)."
        )
    settings: dict[str, Any] = dict(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(policy.model, LoraConfig(**{**settings, **(lora_options or {})}))
    return Policy(model, policy.tokenizer, name=f"{policy.name} + LoRA")
