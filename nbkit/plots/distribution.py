"""Distributions of margins, or of any scores."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nbkit.plots.common import GUIDE, PALETTE, current_axes, plain

Scores: TypeAlias = pd.Series | pd.DataFrame | Mapping[str, pd.Series]


def margins(
    scores: Scores,
    ax: Axes | None = None,
    *,
    bins: int = 40,
    xlabel: str = "margin (nats)",
    unit: str = "pairs",
) -> Axes:
    """Distribution of one or several margins (or any scores), with the share above zero.

    Args:
        scores: a Series (drawn under its name), a DataFrame (a distribution for each column), or a
            dict name -> Series. One number for each pair; NaN and infinity are left out and counted
            in the legend.
        ax: matplotlib Axes to draw on; default: the current ones.
        bins: how many bars the common range is cut into.
        xlabel: say the unit: nats for implicit margins, the reward's own for explicit ones.
        unit: what is counted.

    Returns:
        The Axes: histograms over common bins; bar heights are per cent of the pairs of that
        distribution.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> ax = plt.figure().add_subplot()
        >>> ax = nb.plots.margins(pd.Series([2.0, 1.0, -1.0, 3.0], name="judge"), ax)
        >>> ax.get_legend().get_texts()[0].get_text()
        'judge: 75% above 0'
        >>> plt.close()
    """
    named = _named_scores(scores)
    kept = {name: values.dropna() for name, values in named.items()}
    for name, values in kept.items():
        if values.empty:
            raise ValueError(f"Scores {name!r} hold no number ({len(named[name])} values came).")
    labels = {name: _share_above_zero(plain(name), named[name], kept[name], unit) for name in kept}
    if len(set(labels.values())) < len(labels):
        raise ValueError("Two distributions have the same name once shortened: give them others.")
    tidy = pd.concat(
        [pd.DataFrame({"score": kept[name], "label": labels[name]}) for name in kept],
        ignore_index=True,
    )
    ax = current_axes(ax)
    sns.histplot(
        tidy,
        x="score",
        hue="label",
        palette=PALETTE[: len(kept)] if len(kept) <= len(PALETTE) else "husl",
        bins=bins,
        stat="percent",
        common_norm=False,
        element="step",
        fill=True,
        alpha=0.25,
        ax=ax,
    )
    ax.axvline(0, **GUIDE)
    ax.set(xlabel=xlabel, ylabel=f"{unit} (%)")
    sns.move_legend(ax, "best", title=None, frameon=False)
    return ax


def _named_scores(scores: Scores) -> dict[str, pd.Series]:
    if isinstance(scores, pd.Series):
        scores = {str(scores.name or "score"): scores}
    elif isinstance(scores, pd.DataFrame):
        scores = {str(name): scores[name] for name in scores.columns}
    elif not isinstance(scores, dict):
        raise TypeError(
            f"margins got a {type(scores).__name__}; expected a Series, a DataFrame with one "
            "column for each distribution, or a dict name -> Series."
        )
    if not scores:
        raise ValueError("margins got no scores; expected at least one Series.")
    named = {str(name): pd.Series(values) for name, values in scores.items()}
    for name, values in named.items():
        if not (pd.api.types.is_any_real_numeric_dtype(values) or values.empty):
            raise TypeError(f"Scores {name!r} are {values.dtype}; expected numbers.")
    return named


def _share_above_zero(name: str, values: pd.Series, kept: pd.Series, unit: str) -> str:
    label = f"{name}: {(kept > 0).mean():.0%} above 0"
    missing, infinite = len(values) - len(kept), int(np.isinf(kept).sum())
    label += f" ({missing} {unit} without a score)" if missing else ""
    return label + (f" ({infinite} infinite, not drawn)" if infinite else "")
