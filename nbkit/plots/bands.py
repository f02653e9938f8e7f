"""Two scores, a percentile band of each: what lies in both bands is kept."""

from typing import TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nbkit.left_out import LeftOut
from nbkit.plots.common import current_axes, score_name
from nbkit.plots.marked import flags, scatter_kept
from nbkit.select.ranked import middle
from nbkit.select.series import as_scores

Band: TypeAlias = tuple[float, float]  # low and high share


def band_plane(
    a: pd.Series,
    b: pd.Series,
    a_band: Band = (0.2, 0.8),
    b_band: Band = (0.2, 0.8),
    ax: Axes | None = None,
    *,
    marks: pd.Series | None = None,
) -> Axes:
    """Every pair at its percentiles of two scores, and the rectangle that is kept.

    Along each axis the pairs lie evenly, whatever the scores' units and tails; where they crowd,
    the two scores have to do with each other.

    Args:
        a, b: Series by pair id, such as LossDiff and IRM. A pair without one of them (NaN, or no
            row) is left out, with a warning.
        a_band, b_band: (low, high): shares, as for `nbkit.select.middle`. Kept is what lies in both
            bands: their intersection, `nbkit.select.both`, which may be empty here.
        ax: matplotlib Axes to draw on; default: the current ones.
        marks: boolean Series by pair id, such as `flipped`: marked pairs get a cross, and the
            legend tells their share among kept and dropped pairs.

    Returns:
        The Axes. x: percentile of a; y: percentile of b. The title says how many pairs chance would
        keep, if the two scores had nothing to do with each other.

    Raises:
        TypeError, ValueError: for what `middle` refuses, scores without a common pair, and marks
            that are no boolean Series over all of them.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> a = pd.Series(range(10), index=list("abcdefghij"), name="loss_difference")
        >>> ax = plt.figure().add_subplot()
        >>> nb.plots.band_plane(a, (-a).rename("irm"), ax=ax).get_title(loc="right")
        'in both bands by chance: 36%'
        >>> plt.close()
    """
    for name, band in (("a_band", a_band), ("b_band", b_band)):
        if not isinstance(band, (tuple, list)) or len(band) != 2:
            raise TypeError(f"{name}={band!r:.60}; expected two shares, (low, high).")
    a, b = with_both(a, b)
    marks = None if marks is None else flags(marks, a.index)
    kept = in_both(a, b, a_band, b_band)
    x, y = percentiles(a), percentiles(b)
    ax = current_axes(ax)
    scatter_kept(ax, x, y, a, kept, marks)
    for edge in a_band:
        ax.axvline(edge, color="0.2", linewidth=1)
    for edge in b_band:
        ax.axhline(edge, color="0.2", linewidth=1)
    chance = (a_band[1] - a_band[0]) * (b_band[1] - b_band[0])
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set(xlabel=_label(a, a_band), ylabel=_label(b, b_band))
    ax.set_title(f"in both bands by chance: {chance:.0%}", fontsize="medium", loc="right")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2)
    return ax


def with_both(a: pd.Series, b: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Both scores, on the pairs that have both; the others are warned of."""
    a, b = as_scores(a), as_scores(b)
    has_a, has_b = a.dropna().index, b.dropna().index
    common = has_a.intersection(has_b)
    if common.empty:
        raise ValueError(
            f"No pair has both scores (of {len(a)} and {len(b)}). Are both indexed by pair id?"
        )
    every = a.index.union(b.index)
    lacking = every.difference(common)
    LeftOut(dict.fromkeys(lacking, "not both scores")).warn(len(every))
    return a[common], b[common]


def in_both(a: pd.Series, b: pd.Series, a_band: Band, b_band: Band) -> list[str]:
    """Ids in both bands, lowest `a` first; maybe none."""
    second = set(middle(b, *b_band))
    return [id_ for id_ in middle(a, *a_band) if id_ in second]


def percentiles(scores: pd.Series) -> pd.Series:
    """Place of each pair among all, 0 (lowest) to 1, in the order that `middle` cuts."""
    ranked = middle(scores, 0, 1)
    return pd.Series([(place + 0.5) / len(ranked) for place in range(len(ranked))], ranked)


def _label(scores: pd.Series, band: Band) -> str:
    ranked = scores.loc[middle(scores, *band)]
    kept = f"(kept: {ranked.iloc[0]:.3g} to {ranked.iloc[-1]:.3g})"
    return f"{score_name(scores)}, percentile\n{kept}"
