"""On which device, and in which precision, a model is loaded."""

from __future__ import annotations

from collections.abc import Callable

import torch

DTYPES = ("float32", "bfloat16", "float16", "float64")


def where_and_how(
    device: str | torch.device | None, dtype: str | torch.dtype | None
) -> tuple[torch.device, torch.dtype | str]:
    """Device and dtype to load a model with; see `load_policy` for the defaults."""
    try:
        device = torch.device(device) if device is not None else default_device()
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is none; expected 'cuda', 'mps' or 'cpu'.") from error
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
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
