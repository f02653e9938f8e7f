import sys
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")  # not by MPLBACKEND: the kernels of notebooks would inherit it


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real preference data that lies beside the repository, not in it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "alpacaeval_pairs.jsonl").exists():
        pytest.skip("the real data (../shared/data beside the repository) is not on this machine")
    return folder


@pytest.fixture(autouse=True)
def nothing_is_shown_and_no_figure_is_left(monkeypatch):
    def show(*args, **kwargs):
        raise AssertionError("plt.show() was called")

    if plt := pyplot():
        monkeypatch.setattr(plt, "show", show)
    yield
    if plt := pyplot():
        leaked = plt.get_fignums()
        plt.close("all")
        assert not leaked, f"figures {leaked} were left open"  # `ax` has closed its own by now


@pytest.fixture
def ax():
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def pyplot():
    """matplotlib.pyplot, unless nothing has imported it yet."""
    return sys.modules.get("matplotlib.pyplot")
