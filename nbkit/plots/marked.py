"""Pairs that are kept, dropped, or marked, in a figure and in its legend."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nbkit.plots.common import PALETTE, plain

KEPT, DROPPED, MARKED = PALETTE[2], "0.75", PALETTE[1]


def scatter_kept(
    ax: Axes,
    x: pd.Series,
    y: pd.Series,
    scores: pd.Series,
    kept: list[str],
    marks: pd.Series | None,
) -> None:
    """Every pair as a point, in the color of what happened to it; marked pairs get a cross.

    `x`, `y` and `scores`, which the legend tells of, are Series over the same pairs, `kept` some of
    their ids, `marks` as `flags` returns them or None.
    """
    x, y = x.reindex(scores.index), y.reindex(scores.index)
    is_kept = np.zeros(len(scores), bool)
    is_kept[scores.index.get_indexer(pd.Index(kept))] = True
    for word, part, color in (("dropped", ~is_kept, DROPPED), ("kept", is_kept, KEPT)):
        label = describe(word, scores[part], len(scores), marks)
        ax.scatter(x[part], y[part], s=10, color=color, lw=0, label=label)
    if marks is not None:
        part = marks[scores.index].to_numpy(bool)
        ax.scatter(x[part], y[part], s=14, color=MARKED, marker="x", lw=0.8,
                   label=plain(marks.name or "marked").replace("_", " "))  # fmt: skip


def describe(word: str, part: pd.Series, total: int, marks: pd.Series | None) -> str:
    """Legend text of some of the pairs: how many, and the share of them with a mark."""
    text = f"{word} {len(part) / total:.0%}: {len(part):,} pairs"
    if marks is not None and len(part):
        text += f", {marks[part.index].mean():.0%} {plain(marks.name or 'marked')}"
    infinite = int(np.isinf(part).sum())
    return f"{text}, {infinite:,} infinite" if infinite else text


def flags(marks: pd.Series, ids: pd.Index) -> pd.Series:
    """The marks, if they are a boolean Series with a value for every id."""
    if not (isinstance(marks, pd.Series) and pd.api.types.is_bool_dtype(marks)):
        what = marks.dtype if isinstance(marks, pd.Series) else type(marks).__name__
        raise TypeError(f"marks is {what}; expected a boolean Series indexed by pair id.")
    unknown = ids[~ids.isin(marks.index)]
    if len(unknown):
        raise ValueError(
            f"marks has no value for {len(unknown)} of {len(ids)} scored pairs: "
            f"{list(unknown[:3])}. Are both indexed by pair id?"
        )
    return marks
