"""What all figures share: colours, guides, and the checks of what came in."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

PALETTE = sns.color_palette("colorblind").as_hex()
COLORS = {"chosen": PALETTE[0], "rejected": PALETTE[1], "margin": PALETTE[2]}
GREY = "0.45"  # seen on white and on black
GUIDE = {"color": GREY, "linewidth": 1, "zorder": 0}

TRACE_COLUMNS = ["step", "id", "chosen_logp", "rejected_logp", "margin"]


def current_axes(ax):
    """The Axes that was given, or the current one, as seaborn does."""
    return plt.gca() if ax is None else ax


def need_columns(frame, needed: list[str], what: str) -> None:
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
