"""`nbkit lab`: is the machine ready? Then JupyterLab, on the list of lessons."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from nbkit.course.errors import CommandError
from nbkit.course.machine import REINSTALL, readiness

CLONE = Path(__file__).resolve().parents[2]
LANDING = "index.ipynb"


def lab(options: list[str]) -> int:
    """Say in one line whether the machine is ready, and become JupyterLab, on the list of lessons.

    Args:
        options: further options of `jupyter lab`; they go before ours where both name one.

    Returns:
        JupyterLab's exit status.

    Raises:
        CommandError: the notebooks are not here, or JupyterLab is not installed.
    """
    folder = notebooks()
    if importlib.util.find_spec("jupyterlab") is None:
        raise CommandError(f"JupyterLab is not installed in this Python; {REINSTALL}.")
    print(readiness().summary)
    print(f"JupyterLab opens {folder / LANDING}")
    print("Its address comes below, with a token. Ctrl-C stops it.", flush=True)
    return become(command(folder, options))


def notebooks() -> Path:
    """The folder of the notebooks: of the clone that nbkit runs from, or of the one we are in."""
    here = Path.cwd()
    for folder in (CLONE / "notebooks", here / "notebooks", here):
        if (folder / LANDING).is_file() and any(folder.glob("00_*.ipynb")):
            return folder
    raise CommandError(
        "the notebooks are in nbkit's repository, which is not here: run `nbkit lab` in the folder "
        "of a clone. `nbkit tour` works without them."
    )


def command(folder: Path, options: list[str]) -> list[str]:
    """The command that starts JupyterLab in `folder`, on its landing page. Options of the user's
    come last: JupyterLab takes the last value of each."""
    ours = [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{LANDING}"]
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
