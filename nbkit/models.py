"""A policy: the language model that is scored and trained, with its tokenizer."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

WORLD_WEIGHTS = Path(__file__).parent / "world" / "weights"


@dataclass(frozen=True)
class Policy:
    """A causal language model and its tokenizer.

    Attributes:
        model: transformers causal LM (or a peft model around one), in eval mode.
        tokenizer: its tokenizer.
        name: how plots and tables call it.
        adapter_enabled: False for the reference of a LoRA policy: same weights in memory, the
            adapter switched off (see `without_adapter`).
    """

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str = "policy"
    adapter_enabled: bool = True

    def __post_init__(self):
        if self.causal_lm is not self.model and self.model.active_peft_config.is_prompt_learning:
            raise ValueError(
                f"Policy {self.name!r} has a prompt-learning adapter (prefix or prompt tuning). "
                "nbkit scores with adapters that live in the model's layers, such as LoRA."
            )
        self.model.eval()
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The transformers model itself, inside its LoRA wrapper if it has one. The adapter's
        layers live in it, so calling it applies them."""
        return unwrapped(self.model)

    @property
    def has_adapter(self) -> bool:
        return hasattr(self.model, "peft_config")

    @property
    def device(self) -> torch.device:
        return self.causal_lm.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.causal_lm.get_input_embeddings().weight.dtype

    @property
    def pad_id(self) -> int:
        """The token id that fills rows up to one length: the tokenizer's pad or eos token, else 0.
        Always a row of the embedding; what it is does not matter, since it is masked."""
        rows = self.causal_lm.get_input_embeddings().weight.shape[0]
        ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(id_ for id_ in ids if id_ is not None and 0 <= id_ < rows)

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
        return getattr(config, "max_position_embeddings", None)

    def without_adapter(self) -> Policy:
        """The reference of a LoRA policy: this policy with its adapter switched off. No copy."""
        if not self.has_adapter:
            raise ValueError(
                f"Policy {self.name!r} has no adapter to switch off. For a fully trained policy, "
                "the reference is the policy it started from: keep that one, or load it again."
            )
        return replace(self, name=f"{self.name} (reference)", adapter_enabled=False)

    @contextlib.contextmanager
    def ready(self):
        """Inside the block the model is in eval mode (dropout off), its adapter as this policy
        wants it; afterwards everything is as before. One thread at a time is inside, of all
        policies that share the model: the others wait."""
        with _lock_of(self.causal_lm):
            modes = {module: module.training for module in self.model.modules()}
            self.model.eval()
            try:
                with self._adapter_off() if not self.adapter_enabled else contextlib.nullcontext():
                    yield self
            finally:
                for module, training in modes.items():
                    module.training = training

    @contextlib.contextmanager
    def _adapter_off(self):
        # peft makes the adapter trainable when it switches it on again
        trainable = {p: p.requires_grad for p in self.model.parameters()}
        try:
            with self.model.disable_adapter():
                yield
        finally:
            for parameter, flag in trainable.items():
                parameter.requires_grad_(flag)

    def __repr__(self):
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        adapter = "" if not self.has_adapter else (
            ", adapter on" if self.adapter_enabled else ", adapter off"
        )
        dtype = str(self.dtype).removeprefix("torch.")
        size = f"{millions:.3g}M parameters"
        return f"Policy({self.name!r}, {size}, {dtype} on {self.device}{adapter})"


_locks = weakref.WeakKeyDictionary()  # by model; not in it, or it could not be copied or sent
_locks_lock = threading.Lock()


def _lock_of(model: PreTrainedModel) -> threading.RLock:
    with _locks_lock:
        return _locks.setdefault(model, threading.RLock())


def _forget_locks():
    """A forked process lacks the threads that may have held them."""
    global _locks_lock
    _locks_lock = threading.Lock()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


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
        name: `"world/small"`, `"world/medium"` or `"world/large"` (shipped with nbkit); a folder
            with a saved model, or with a LoRA adapter; or a hub id.
        device: default CUDA, then Apple's MPS, then the CPU.
        dtype: default bfloat16 on CUDA, else float32 (bfloat16 scores can reorder near-ties).
        revision: branch, tag or commit of a hub id, to pin what is loaded.
        attn_implementation: as in transformers; default "sdpa" where the model supports it.

    Returns:
        Policy, in eval mode.

    Raises:
        FileNotFoundError: no such world size, folder or reachable hub id.
        ValueError: weights that are not safetensors, are damaged or lack tensors; a model that
            needs remote code. nbkit runs neither pickles nor code from a hub.
    """
    device, dtype = where_and_how(device, dtype)
    source = _resolve(str(name))
    options = dict(revision=revision, trust_remote_code=False)
    model_options = dict(options, dtype=dtype, attn_implementation=attn_implementation)
    try:
        if (Path(source) / "adapter_config.json").is_file():
            model, tokenizer = _load_adapter(Path(source), options, model_options)
        else:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            AutoConfig.from_pretrained(source, **options)  # a clear error before any download
            model = load_complete(AutoModelForCausalLM, source, **model_options)
    except (OSError, ValueError, SafetensorError) as error:
        raise explain_load_error(str(name), source, error) from error
    return Policy(model.to(device), tokenizer, name=str(name))


def add_lora(policy: Policy, rank: int = 16, **lora) -> Policy:
    """A policy with a fresh LoRA adapter (zero effect until trained) on all linear layers but the
    head. The wrapped weights are shared with `policy`, so use the returned policy from here on;
    its reference is `policy.without_adapter()`.

    Args:
        policy: a policy without adapter.
        rank: LoRA rank r; `lora_alpha` defaults to 2 r.
        **lora: further fields of `peft.LoraConfig`.
    """
    from peft import LoraConfig, get_peft_model

    if policy.has_adapter:
        raise ValueError(f"Policy {policy.name!r} already has an adapter.")
    settings = dict(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(policy.model, LoraConfig(**{**settings, **lora}))
    return Policy(model, policy.tokenizer, name=f"{policy.name} + LoRA")


def unwrapped(model: torch.nn.Module) -> PreTrainedModel:
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


def where_and_how(device, dtype) -> tuple[torch.device, torch.dtype | str]:
    """Device and dtype to load a model with; see `load_policy` for the defaults."""
    device = torch.device(device) if device is not None else default_device()
    return device, dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)


def load_complete(auto_class, source: str | Path, **options) -> PreTrainedModel:
    """A model of one of transformers' Auto classes, from safetensors; ValueError for weights that
    lack tensors, which transformers would make up."""
    model, info = auto_class.from_pretrained(
        source, use_safetensors=True, output_loading_info=True, **options
    )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"its weights lack {len(missing)} tensors (first: {missing[0]})")
    return model


def default_device() -> torch.device:
    """CUDA if there is one, then Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _load_adapter(folder: Path, options, model_options):
    """The peft model of an adapter folder, and the folder's tokenizer or else its base's."""
    from peft import AutoPeftModelForCausalLM, PeftConfig

    if not (folder / "adapter_model.safetensors").is_file():  # peft would unpickle another file
        raise OSError(f"no file adapter_model.safetensors in {folder}")
    base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    if not base:
        raise ValueError('adapter_config.json names no base model ("base_model_name_or_path")')
    own = (folder / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(str(folder) if own else base, **options)
    model = AutoPeftModelForCausalLM.from_pretrained(
        str(folder), use_safetensors=True, **model_options
    )
    return model, tokenizer


def _resolve(name: str) -> str:
    """Where transformers finds `name`: the shipped folder of a world model, or `name` itself."""
    if not name.startswith("world/"):
        return name
    folder = WORLD_WEIGHTS / name.removeprefix("world/")
    if not (folder / "model.safetensors").is_file():
        sizes = sorted(p.parent.name for p in WORLD_WEIGHTS.glob("*/model.safetensors"))
        raise FileNotFoundError(
            f"There is no world model {name!r}. Shipped: {', '.join('world/' + s for s in sizes)}."
        )
    return str(folder)


def explain_load_error(name: str, source: str, error: Exception) -> Exception:
    """What transformers' error means for somebody who asked for `name`."""
    text = str(error)
    if "trust_remote_code" in text or "custom code" in text:
        return ValueError(
            f"{name!r} needs Python code from its repository to run, and nbkit does not run remote "
            "code. Use a model that transformers supports by itself, or load it on your own and "
            "pass `nb.Policy(model, tokenizer)`."
        )
    if "safetensors" in text and isinstance(error, OSError):
        return ValueError(
            f"{name!r} has no safetensors weights, and nbkit does not unpickle weights. Convert "
            "them once where you trust them (`model.save_pretrained(folder)`) and load that folder."
        )
    if Path(source).is_dir():
        return ValueError(f"The folder {name!r} is no complete saved model: {text}")
    if isinstance(error, ValueError) and "weights lack" in text:
        return ValueError(f"{name!r} is no complete model of this kind: {text}")
    return FileNotFoundError(
        f"{name!r} is neither a folder here nor a hub model that can be reached (offline, "
        "misspelt, or gated?). To work offline, pass a folder written by "
        f"`model.save_pretrained` and `tokenizer.save_pretrained`, or 'world/medium'. ({text})"
    )
