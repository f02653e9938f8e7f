"""Execute a notebook in a fresh kernel, and keep only what a reader should see."""

import base64
import hashlib
import json
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from nbkit.course.profiles import profile

WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS_BAR = re.compile(r"\d%\||\dit/s|s/it")
# Runs last and is not kept: the kernel's peak memory, where the system can tell (not on Windows).
PEAK_MEMORY = """
try:
    import resource, sys
    unit = 1 if sys.platform == "darwin" else 1024
    print(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
except ImportError:
    print(0)
"""


def execute(notebook: NotebookNode, folder: Path, timeout: int = 1800) -> int:
    """Run all cells in a fresh kernel; return the kernel's peak memory in bytes (0: unknown).

    Raises nbclient's CellExecutionError or CellTimeoutError. `timeout` is in seconds a cell.
    """
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK_MEMORY))
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # a kernel warns of every start by TCP
    )
    client.execute()
    notebook.metadata.language_info = {"name": "python"}  # the kernel puts its version there
    return int(notebook.cells.pop().outputs[0].text)


def clean(notebook: NotebookNode) -> list[str]:
    """Remove widgets, progress bars and stderr; return the lines of stderr that were no bar."""
    notebook.metadata.pop("widgets", None)
    lines = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.get("name") == "stderr":
                lines += output.text.splitlines()  # also splits at a bar's carriage returns
        cell.outputs = [output for output in cell.outputs if not is_noise(output)]
    return [line for line in lines if line.strip() and not PROGRESS_BAR.search(line)]


def is_noise(output: NotebookNode) -> bool:
    """Whether an output is not for a reader of the finished notebook."""
    data = output.get("data", {})
    progress_table = "<progress" in data.get("text/html", "")  # transformers' own
    return output.get("name") == "stderr" or WIDGET in data or progress_table


def stamp(notebook: NotebookNode) -> None:
    """Say in the metadata which profile the outputs are of, and what they are."""
    notebook.metadata.nbkit = {"profile": profile().name, "outputs": outputs_hash(notebook)}


def outputs_hash(notebook: NotebookNode) -> str:
    """A hash of all outputs: it changes when cells are run again, or numbers are edited."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()[:16]


def keep_outputs(notebook: NotebookNode, old: NotebookNode) -> None:
    """Give a newly assembled notebook the outputs of its old self, when no code has changed.

    Raises ValueError when a code cell differs.
    """
    new_code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    old_code = [cell for cell in old.cells if cell.cell_type == "code"]
    if [cell.source for cell in new_code] != [cell.source for cell in old_code]:
        raise ValueError("code cells have changed: build without --text")
    for new, before in zip(new_code, old_code, strict=True):
        new.outputs, new.execution_count = before.outputs, before.execution_count
    if "nbkit" in old.metadata:
        notebook.metadata.nbkit = old.metadata.nbkit


def write_picture(notebook: NotebookNode, path: Path) -> None:
    """Keep the first figure of the cell tagged `picture`, for README.md."""
    for cell in notebook.cells:
        if "picture" not in cell.metadata.get("tags", []):
            continue
        figures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
        if not figures:
            raise ValueError(f"the cell tagged `picture` shows no figure:\n{cell.source}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(figures[0]))
