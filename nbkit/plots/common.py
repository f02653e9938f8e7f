"""What all figures share: colours, guides, and the checks of what came in."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nbkit.left_out import LeftOut
from nbkit.select.series import as_scores

PALETTE = sns.color_palette("colorblind").as_hex()
# Chosen is always blue and rejected always orange.
COLORS = {"chosen": PALETTE[0], "rejected": PALETTE[1], "margin": PALETTE[2]}
GREY = "0.45"  # seen on white and on black
GUIDE: dict[str, Any] = {"color": GREY, "linewidth": 1, "zorder": 0}

LONGEST = 40  # characters of one name
TRACE_COLUMNS = ["step", "id", "chosen_logp", "rejected_logp", "margin"]


def current_axes(ax: Axes | None) -> Axes:
    """The Axes that was given, or the current one, as seaborn does."""
    return plt.gca() if ax is None else ax


def plain(name: object) -> str:
    """A name that came with the data, for a figure: every character as it is, `$` too, which
    matplotlib else reads as the start of a formula; and not endless."""
    text = str(name).encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) > LONGEST:  # both ends: names often differ in the last word
        text = f"{text[: LONGEST // 2]}…{text[1 - LONGEST // 2 :]}"
    return text.replace("$", r"\$")


def score_name(scores: pd.Series) -> str:
    """What the scores are called in a figure."""
    return plain(scores.name or "score").replace("_", " ")


def known_scores(scores: pd.Series) -> pd.Series:
    """The scores without NaN, which are warned of."""
    scores = as_scores(scores)
    missing = scores.index[scores.isna()]
    reason = f"no {scores.name or 'score'} (NaN)"
    LeftOut(dict.fromkeys(missing, reason)).warn(len(scores))
    return scores.dropna()


def need_columns(frame: pd.DataFrame, needed: list[str], what: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"Got a {type(frame).__name__}; expected {what}: a DataFrame {needed}.")
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise ValueError(
            f"Columns {missing} are missing for {what}. Came: {list(frame.columns)}; "
            f"expected: {needed}."
        )
    if frame.empty:
        raise ValueError(f"Got no rows; expected {what} with at least one.")


def need_numbers(frame: pd.DataFrame, columns: list[str], what: str) -> None:
    """Refuse columns that are no numbers, or hold one that is infinite (NaN passes)."""
    for name in columns:
        if not pd.api.types.is_any_real_numeric_dtype(frame[name]):
            raise TypeError(f"Column {name!r} of {what} is {frame[name].dtype}; expected numbers.")
        if (infinite := frame.index[np.isinf(frame[name].to_numpy(float, na_value=np.nan))]).size:
            raise ValueError(f"Column {name!r} of {what} is infinite in row {infinite[0]!r}.")


def as_png(draw: Callable[[np.ndarray], object], panels: int = 1) -> bytes:
    """PNG of what `draw(axes)` draws on `panels` Axes side by side.

    The figure is unknown to pyplot: no backend shows it, and none has to be closed.

    Args:
        draw: function of a list of matplotlib Axes.
        panels: how many Axes.

    Example:
        >>> import nbkit as nb
        >>> nb.plots.as_png(lambda axes: axes[0].plot([0, 1]))[1:4]
        b'PNG'
    """
    figure = Figure(figsize=(5.5 * panels, 4), layout="constrained")
    draw(figure.subplots(1, panels, squeeze=False)[0])
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110, facecolor="white")
    return png.getvalue()
