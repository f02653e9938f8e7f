"""Alignment potential as geometry: the plane of the two margins, cut by a line."""

import warnings

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nbkit.plots.common import GREY, current_axes, known_scores
from nbkit.plots.marked import flags, scatter_kept
from nbkit.scores.potential import alignment_potential
from nbkit.select.ranked import top

IN_SIGHT = 0.99  # share of the pairs that each axis shows: few decided pairs lie far to the right


def margin_plane(
    explicit: pd.Series,
    implicit: pd.Series,
    weight: float = 1.0,
    share: float = 0.4,
    ax: Axes | None = None,
    marks: pd.Series | None = None,
) -> Axes:
    """Both margins of every pair, and the line above which pairs are kept.

    Alignment potential `z(explicit) - weight * z(|implicit|)` is the same along lines of
    slope `weight`: with weight 0 they lie level and the explicit margin alone decides; the larger
    the weight, the steeper they stand, and the more the implicit margin decides.

    Args:
        explicit, implicit: Series by pair id, as for `nbkit.scores.alignment_potential`. A pair
            without one of them (NaN, or no row) is left out, with a warning.
        weight: price of the implicit margin, 0 or more.
        share: of the pairs: a fraction (a float) or their number (an int), highest M_AP first.
        ax: matplotlib Axes to draw on; default: the current ones.
        marks: boolean Series by pair id, such as `flipped`: marked pairs get a cross, and the
            legend tells their share among kept and dropped pairs.

    Returns:
        The Axes. x: `z(|implicit|)`; y: `z(explicit)`, in standard deviations. The most extreme
        values of either lie outside; the label of the x axis says how many pairs.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> explicit = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("abcd"), name="explicit")
        >>> implicit = pd.Series([0.1, 0.2, 0.1, 5.0], index=list("abcd"), name="implicit")
        >>> ax = plt.figure().add_subplot()
        >>> ax = nb.plots.margin_plane(explicit, implicit, weight=1.0, share=0.5, ax=ax)
        >>> [text.get_text() for text in ax.get_legend().get_texts()][:2]
        ['dropped 50%: 2 pairs', 'kept 50%: 2 pairs']
        >>> plt.close()
    """
    potential = known_scores(alignment_potential(explicit, implicit, weight))
    kept = top(potential, share)
    marks = None if marks is None else flags(marks, potential.index)
    with warnings.catch_warnings():  # of a margin that is the same everywhere: said above
        warnings.simplefilter("ignore")
        judged = alignment_potential(explicit, implicit, 0.0)[potential.index]  # z(explicit)
        reached = alignment_potential(implicit.abs(), explicit, 0.0)[potential.index]
    ax = current_axes(ax)
    scatter_kept(ax, reached, judged, potential, kept, marks)
    limits = _limits(reached), _limits(judged)
    ax.set(xlim=limits[0], ylim=limits[1])
    _draw_lines(ax, *limits, potential[kept[-1]], weight)
    outside = int((~(reached.between(*limits[0]) & judged.between(*limits[1]))).sum())
    ax.set(
        xlabel="z(|implicit margin|): how decided the policy is"
        + (f"\n({outside:,} pairs lie outside)" if outside else ""),
        ylabel="z(explicit margin):\nhow sure the judge is of the label",
    )
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2)
    return ax


def _limits(values: pd.Series) -> tuple[float, float]:
    low, high = values.quantile([1 - IN_SIGHT, IN_SIGHT])
    room = 0.05 * (high - low) or 1.0  # a margin that is the same everywhere is 0 everywhere
    return low - room, high + room


def _draw_lines(
    ax: Axes, xlim: tuple[float, float], ylim: tuple[float, float], cut: float, weight: float
) -> None:
    """The cut, and dotted lines of equal potential at some whole numbers."""
    x, y = np.meshgrid(np.linspace(*xlim, 50), np.linspace(*ylim, 50))  # room for the labels
    field = y - weight * x
    levels = MaxNLocator(8, integer=True).tick_values(field.min(), field.max())
    levels = levels[(levels > field.min()) & (levels < field.max())]
    if len(levels):
        lines = ax.contour(x, y, field, levels, colors=GREY, linestyles=":", linewidths=1, zorder=0)
        ax.clabel(lines, fmt="%g", fontsize=8)
    if field.min() < cut < field.max():
        ax.contour(x, y, field, [cut], colors="0.2", linestyles="-", linewidths=1.5)
    ax.plot([], [], color="0.2", label=f"w = {weight:g}: cut at M_AP = {cut:.2f}")
