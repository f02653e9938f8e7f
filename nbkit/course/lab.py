"""`nbkit lab`: is the machine ready? Then JupyterLab, on the tour."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from nbkit.course.machine import REINSTALL, readiness
from nbkit.course.starting import CannotStart

CLONE = Path(__file__).resolve().parents[2]
TOUR = "00_setup_and_tour.ipynb"
# Not listed by JupyterLab: Jupyter's own choice, and what the notebooks are made with.
HIDDEN = ("__pycache__", "*.pyc", "*.pyo", ".DS_Store", "*~")
HIDDEN += ("build.py", "course.toml", "tooling", "images")


def lab(options: list[str]) -> int:
    """Say in one line whether the machine is ready, and become JupyterLab, opened on the tour.

    Args:
        options: further options of `jupyter lab`; they go before ours where both name one.

    Returns:
        JupyterLab's exit status.

    Raises:
        CannotStart: the notebooks are not here, or JupyterLab is not installed.
    """
    folder = notebooks()
    if importlib.util.find_spec("jupyterlab") is None:
        raise CannotStart(f"JupyterLab is not installed in this Python; {REINSTALL}.")
    print(readiness().summary)
    print(f"JupyterLab opens {folder / TOUR}")
    print("Its address comes below, with a token. Ctrl-C stops it.", flush=True)
    return become(command(folder, options))


def notebooks() -> Path:
    """The folder of the notebooks: of the clone that nbkit runs from, or of the one we are in."""
    here = Path.cwd()
    for folder in (CLONE / "notebooks", here / "notebooks", here):
        if (folder / TOUR).is_file():
            return folder
    raise CannotStart(
        "the notebooks are in nbkit's repository, which is not here: run `nbkit lab` in the folder "
        "of a clone. `nbkit tour` works without them."
    )


def command(folder: Path, options: list[str]) -> list[str]:
    """The command that starts JupyterLab on the tour in `folder`. Options of the user's come last:
    JupyterLab takes the last value of each."""
    ours = [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{TOUR}"]
    ours += [f"--ContentsManager.hide_globs={name}" for name in HIDDEN]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        ours.append("--allow-root")
    if not has_browser():
        ours.append("--no-browser")
    return [sys.executable, "-m", "jupyterlab", *ours, *options]


def has_browser() -> bool:
    """Whether a browser can open here: on Linux that takes a display, or a browser by name."""
    named = any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
    return named or not sys.platform.startswith("linux")


def become(command: list[str]) -> int:
    """Run `command` in the place of this process; on Windows, which has no such thing, wait."""
    if os.name == "posix":
        os.execv(command[0], command)
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            pass  # JupyterLab got it too, and asks whether to stop
