"""Readiness: is this machine ready for the course, what will be slow, and what to do about it.

    nb.course.readiness()        # a table in a notebook, aligned text elsewhere; touches no network

Each line is OK, NOTE (works, but know this) or FAIL (does not work), with the remedy.
"""

import html
import os
import platform
import shutil
import time
from dataclasses import dataclass
from importlib import metadata, resources
from importlib.resources.abc import Traversable

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

GB = 1e9
REINSTALL = "run: pip install -e . (in the folder of nbkit), then restart the kernel"
WORLD_SIZES = ("small", "medium", "large")
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class Line:
    """One thing that was looked at. `status` is "OK", "NOTE" or "FAIL"."""

    what: str
    status: str
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Readiness:
    """The lines of the check; `.ok` is False when any of them failed."""

    lines: tuple[Line, ...]

    @property
    def ok(self) -> bool:
        return all(line.status != "FAIL" for line in self.lines)

    @property
    def verdict(self) -> str:
        failed = sum(line.status == "FAIL" for line in self.lines)
        if failed:
            return f"NOT READY: {failed} of {len(self.lines)} checks failed; see the remedies."
        return "READY: nothing here stops the course."

    @property
    def summary(self) -> str:
        """The check in one line: the first failure with its remedy, or the names of the notes."""
        failed = [line for line in self.lines if line.status == "FAIL"]
        noted = [line.what for line in self.lines if line.status == "NOTE"]
        if failed:
            first, *more = failed
            others = f" ({len(more)} more; nb.course.readiness() lists them)" if more else ""
            return f"NOT READY: {first.what}: {first.found} -> {first.remedy}{others}"
        if noted:
            count = f"{len(noted)} note{'s' if len(noted) > 1 else ''}"
            return f"READY, with {count} (nb.course.readiness() explains): {', '.join(noted)}"
        return "READY"

    def __repr__(self) -> str:
        width = max(len(line.what) for line in self.lines)
        rows = []
        for line in self.lines:
            rows.append(f"{line.status:<4}  {line.what:<{width}}  {line.found}")
            if line.remedy:
                rows.append(f"{'':<4}  {'':<{width}}  -> {line.remedy}")
        return "\n".join([*rows, self.verdict])

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + f"<td><b>{_text(line.status)}</b></td><td>{_text(line.what)}</td>"
            + f"<td style='text-align:left'>{_text(line.found)}</td>"
            + f"<td style='text-align:left'>{_text(line.remedy)}</td></tr>"
            for line in self.lines
        )
        head = "<tr><th></th><th></th><th>found</th><th>what to do</th></tr>"
        return f"<table>{head}{rows}</table><p><b>{_text(self.verdict)}</b></p>"


def readiness() -> Readiness:
    """Look at Python, packages, device, memory, disk, offline switches and the world's weights.

    Takes about a second, most of it to measure the speed of a matrix product.

    Returns:
        Readiness: a table in a notebook, aligned text elsewhere.

    Example:
        >>> import nbkit as nb
        >>> nb.course.readiness()
        OK    python ...
    """
    device = _device()
    lines = [*_versions(), device, _memory(), _disk(), _hub(), _world()]
    if device.status != "FAIL":
        lines.append(_speed())
    return Readiness(tuple(lines))


def _text(value: str) -> str:
    return html.escape(value)


def _versions() -> list[Line]:
    """Python and every dependency against the windows that pyproject.toml declares. What only an
    extra needs is told when it is there in another version."""
    try:
        about = metadata.metadata("nbkit")
        declared = metadata.requires("nbkit") or []
    except metadata.PackageNotFoundError:
        return [Line("nbkit", "FAIL", "not installed in this Python", REINSTALL)]
    extras = about.get_all("Provides-Extra") or []
    python = platform.python_version()
    lines = [_version_line("python", python, SpecifierSet(about["Requires-Python"]))]
    for requirement in map(Requirement, declared):
        name, marker = requirement.name, requirement.marker
        line = _version_line(name, _installed(name), requirement.specifier)
        if marker is None or marker.evaluate({"extra": ""}):
            lines.append(line)
        elif line.status == "FAIL" and _installed(name) is not None:
            for extra in extras:
                if marker.evaluate({"extra": extra}):
                    remedy = f'only for this extra; run: pip install -e ".[{extra}]"'
                    lines.append(Line(f"{name} [{extra}]", "NOTE", line.found, remedy))
    return lines


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _version_line(name: str, installed: str | None, window: SpecifierSet) -> Line:
    expected = ",".join(sorted(map(str, window), reverse=True))  # ">=1.2,<2", the way we write it
    if installed is None:
        return Line(name, "FAIL", f"not installed, expected {expected}", REINSTALL)
    if not window.contains(installed, prereleases=True):
        remedy = REINSTALL
        if name == "python":
            remedy = f"make a new environment with Python {expected} (README.md, first command)"
        return Line(name, "FAIL", f"{installed}, expected {expected}", remedy)
    return Line(name, "OK", installed)


def _device() -> Line:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that torch loads is missing
        reason = str(error).partition("\n")[0]
        return Line("device", "FAIL", f"torch cannot be imported: {reason}", REINSTALL)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        found = f"CUDA: {name}, {free / GB:.0f} of {total / GB:.0f} GB free"
        return Line("device", "OK", found)
    if torch.backends.mps.is_available():
        return Line("device", "OK", "MPS (Apple GPU)")
    threads = torch.get_num_threads()
    remedy = "fine for lessons 00-10; a GPU is for real models: NBKIT_PROFILE=gpu"
    return Line("device", "NOTE", f"CPU, {threads} threads", remedy)


def _memory() -> Line:
    """Lessons need up to about 2 GB; below 1.5 GB free even the first may be killed."""
    free = psutil.virtual_memory().available / GB
    found = f"{free:.1f} GB free"
    if free < 1.5:
        remedy = "close other programs and other notebooks' kernels, then run this again"
        return Line("memory", "FAIL", f"{found}, expected at least 1.5", remedy)
    if free < 3:
        remedy = "run one notebook at a time and shut its kernel down after"
        return Line("memory", "NOTE", found, remedy)
    return Line("memory", "OK", found)


def _disk() -> Line:
    """The course writes little; a real model (gpu profile) needs a few GB of cache."""
    free = shutil.disk_usage(os.getcwd()).free / GB
    found = f"{free:.1f} GB free"
    if free < 0.5:
        remedy = "free some space on the disk that holds this folder"
        return Line("disk", "FAIL", f"{found}, expected at least 0.5", remedy)
    if free < 10:
        return Line("disk", "NOTE", found, "enough for the course; a real model wants 10 GB")
    return Line("disk", "OK", found)


def _hub() -> Line:
    """Read the environment only: nothing here asks the network whether it is there."""
    on = [name for name in OFFLINE_VARIABLES if os.environ.get(name, "0") not in ("", "0")]
    if on:
        remedy = f"the course needs no hub; to download a real model, unset {', '.join(on)}"
        return Line("model hub", "NOTE", f"switched off by {', '.join(on)}", remedy)
    return Line("model hub", "OK", "not switched off (not contacted; the course does not need it)")


def _world() -> Line:
    weights = resources.files("nbkit") / "world" / "weights"
    missing = [size for size in WORLD_SIZES if not _has_weights(weights / size)]
    if missing:
        found = f"no weights for {', '.join(missing)}"
        return Line("world models", "FAIL", found, REINSTALL)
    return Line("world models", "OK", ", ".join(WORLD_SIZES))


def _has_weights(folder: Traversable) -> bool:
    return folder.is_dir() and any(f.name.endswith(".safetensors") for f in folder.iterdir())


def _speed() -> Line:
    """Measure a matrix product, and say what it means for a real model.

    The estimate is 2 FLOPs a parameter a token at half of the measured speed, a rough figure.
    """
    rate = _flops_per_second()
    hours = 1000 * 600 * 2 * 0.5e9 / (0.5 * rate) / 3600
    found = f"{rate / 1e9:,.0f} GFLOP/s; 1,000 pairs of 600 tokens through 0.5B parameters: "
    found += f"about {hours:.1f} h" if hours > 0.1 else f"about {hours * 3600:.0f} s"
    if hours > 0.1:
        remedy = "world models take seconds here; score real models on a GPU, or over night"
        return Line("what is slow", "NOTE", found, remedy)
    return Line("what is slow", "OK", found)


def _flops_per_second(size: int = 1024, repeats: int = 10) -> float:
    """The best of some float32 matrix products, on CUDA if there is one, else on the CPU.

    The best, because other programs on the machine only ever make a product slower.
    """
    import torch

    cuda = torch.cuda.is_available()
    a = torch.ones(size, size, device="cuda" if cuda else "cpu")
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
