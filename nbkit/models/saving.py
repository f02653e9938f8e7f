"""Models and adapters to folders that load again: what `Policy.save` does."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbkit.models.checksums import checksums, own_name


def save_model(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: str | Path, *, adapter: bool
) -> Path:
    """See `nbkit.Policy.save`; `adapter`: whether the model's adapter is part of it."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"{str(folder)!r} is there already{' and not empty' if folder.is_dir() else ''}. "
            "Save to a new folder, or remove that one first."
        )
    unfinished = folder.absolute().with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        unfinished.mkdir(parents=True)
        tokenizer.save_pretrained(unfinished)
        if adapter and hasattr(model, "peft_config"):
            _save_adapter(model, tokenizer, unfinished)
        else:
            _save_base(model, unfinished)
        if folder.exists():
            folder.rmdir()
        os.replace(unfinished, folder)
    except (OSError, SafetensorError) as error:
        raise OSError(f"The policy cannot be saved to {str(folder)!r}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _save_base(model: Any, folder: Path) -> None:
    """The model itself, without the adapter that may be around its layers."""
    if not hasattr(model, "peft_config"):
        with _valid_generation(model):
            model.save_pretrained(folder)
        return
    prefix, causal_lm = model.base_model.prefix, model.get_base_model()
    own = {own_name(name, prefix): weight for name, weight in causal_lm.state_dict().items()}
    own.pop(None, None)
    with _valid_generation(causal_lm):
        causal_lm.save_pretrained(folder, state_dict=own)


@contextlib.contextmanager
def _valid_generation(model: Any) -> Iterator[None]:
    """Inside the block the model's generation settings are such as transformers saves: some models
    come with a temperature but without sampling, which it refuses."""
    settings = getattr(model, "generation_config", None)
    if settings is not None:
        try:
            settings.validate(strict=True)
        except ValueError:
            model.generation_config = copy.deepcopy(settings)
            model.generation_config.do_sample = True
    try:
        yield
    finally:
        if settings is not None:
            model.generation_config = settings


def _save_adapter(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    active = model.active_adapters
    if len(active) != 1:
        raise ValueError(
            f"The policy has {len(active)} active adapters ({', '.join(active)}); one can be saved."
            " Choose it by model.set_adapter(name)."
        )
    # embeddings change only with the base, and to ask would ask the hub
    model.save_pretrained(folder, selected_adapters=active, save_embedding_layers=False)
    if (inside := folder / active[0]).is_dir():  # where peft puts any name but "default"
        for file in inside.iterdir():
            file.rename(folder / file.name)
        inside.rmdir()
    (folder / "README.md").unlink(missing_ok=True)  # peft's form, to be filled in, with paths
    name, revision = _base_name(model.get_base_model())
    if name is None:
        name = "./base"
        _save_base(model, folder / "base")
        tokenizer.save_pretrained(folder / "base")
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text("utf-8"))
    config.update(base_model_name_or_path=name, revision=revision)
    file.write_text(json.dumps(config, indent=2), "utf-8")


def _base_name(causal_lm: PreTrainedModel) -> tuple[str | None, str | None]:
    """Name and revision under which `load_policy` finds these very weights; None if it does not."""
    origin = getattr(causal_lm, "nbkit_origin", None)
    if origin is None or (os.path.isabs(origin.name) and not os.path.exists(origin.name)):
        return None, None
    now = checksums(causal_lm)
    if any(now.get(name) != total for name, total in origin.sums.items()):
        return None, None
    return origin.name, origin.revision
