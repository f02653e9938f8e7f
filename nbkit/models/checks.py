"""Is this a causal language model, whole and sound, and is that its tokenizer?"""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PreTrainedModel, PreTrainedTokenizerBase

from nbkit.models.devices import DTYPES


def no_language_model(config: Any, kind: str) -> str | None:
    """What a model of this configuration and class is instead, and what to do; None if it is a
    causal language model as far as can be seen."""
    if getattr(config, "is_encoder_decoder", False):
        return (
            f"an encoder-decoder model ({kind or config.model_type}); nbkit scores and trains "
            "decoder-only language models, such as Llama, Qwen or GPT-2."
        )
    if "SequenceClassification" in kind:
        return f"a sequence classifier ({kind}), not a language model. Use nb.load_reward_model."
    if re.search("Classification|QuestionAnswering|MaskedLM|MultipleChoice", kind):
        return f"a {kind}, not a causal language model (…ForCausalLM)."
    both_ways = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if both_ways and not getattr(config, "is_decoder", False):
        return (
            f"a {kind or config.model_type}, which reads both ways: its log-probs of a token would "
            "know the token. nbkit needs a causal language model."
        )
    return None


def check_finite(name: str, model: torch.nn.Module) -> None:
    """ValueError for a weight that is NaN or infinite."""
    weights = {key: w.detach() for key, w in model.named_parameters() if _dtype_name(w) in DTYPES}
    sums = [weight.sum(dtype=torch.float32).isfinite() for weight in weights.values()]
    if not weights or torch.stack(sums).all():
        return
    for key, weight in weights.items():  # a sum may also have overflowed
        if not weight.isfinite().all():
            half = weight.dtype == torch.float16
            remedy = " float16 ends at 65504: load it with dtype='float32'." if half else ""
            raise ValueError(f"{name!r}: its weight {key} holds NaN or infinity.{remedy}")


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def embedding(model: PreTrainedModel) -> torch.Tensor:
    """The weight of a model's input embedding: [token ids, d]."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight


def check_vocabulary(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """ValueError for a tokenizer whose texts need rows that the embedding does not have. Added
    tokens that no text needs, such as a pad or image token, may lie beyond (Gemma 3)."""
    rows = len(embedding(model))
    if len(tokenizer) <= rows:
        return
    added, template = tokenizer.added_tokens_decoder, str(tokenizer.chat_template)
    needed = (tokenizer.bos_token, tokenizer.eos_token)
    for token, id_ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if id_ >= rows and (id_ not in added or token in needed or token in template):
            raise ValueError(
                f"{name!r}: its tokenizer has {len(tokenizer)} tokens, its model's embedding {rows}"
                f" rows, none for {token!r:.60} ({id_}): they do not belong together. Give the "
                "folder the tokenizer that its model was trained with."
            )


def no_prompt_learning(name: str) -> str:
    return (
        f"Policy {name!r} has a prompt-learning adapter (prefix or prompt tuning). "
        "nbkit scores with adapters that live in the model's layers, such as LoRA."
    )
