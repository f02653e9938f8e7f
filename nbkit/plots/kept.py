"""What a selection keeps and what it drops: the picture of one share."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nbkit.plots.common import known_scores, score_name
from nbkit.plots.experiments import over_shares, share_curve
from nbkit.plots.marked import DROPPED, KEPT, describe, flags
from nbkit.select.ranked import easiest
from nbkit.select.series import as_scores

BINS = 40


def kept_and_dropped(
    scores: pd.Series,
    share: float,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
    *,
    curve: pd.DataFrame | None = None,
    marks: pd.Series | None = None,
) -> np.ndarray:
    """The scores with the easiest `share` kept, and where that share lies on the measured curve.

    Args:
        scores: Series by pair id; lower means easier. Infinite scores cannot be drawn: they are
            counted in the legend. Pairs without a score (NaN) are left out, with a warning.
        share: share of the scored pairs to keep, above 0 and up to 1, as `nbkit.select.easiest`
            does.
        axes: one Axes, or two when a curve is given. Default: those of a new figure.
        curve: tidy DataFrame with columns `share, seed, win_rate`: what was measured at several
            shares.
        marks: boolean Series by pair id, such as `flipped`: its share among kept and dropped pairs
            is told in the legend.

    Returns:
        Array of Axes: the histogram of the scores and, with `curve`, the curve
        with this share marked.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> scores = pd.Series([0.1, 0.2, 0.3, 0.4], index=list("abcd"), name="loss")
        >>> ax = plt.figure().add_subplot()
        >>> (ax,) = nb.plots.kept_and_dropped(scores, 0.5, ax)
        >>> [text.get_text() for text in ax.get_legend().get_texts()][:2]
        ['kept 50%: 2 pairs', 'dropped 50%: 2 pairs']
        >>> plt.close()
    """
    if not np.isfinite(as_scores(scores)).any():
        raise ValueError(f"The scores hold no finite number ({len(scores)} values came).")
    scores = known_scores(scores)
    share = _share(share)
    keep = easiest(scores, share)
    marks = None if marks is None else flags(marks, scores.index)
    if curve is not None:
        means = over_shares(curve, ["share"], "win_rate").set_index("share")["mean"].sort_index()
    axes = _panels(axes, 1 if curve is None else 2)
    _draw_scores(axes[0], scores, keep, marks)
    if curve is not None:
        share_curve(curve, axes[1])
        _draw_share(axes[1], means, share)
    return axes


def _draw_scores(ax: Axes, scores: pd.Series, keep: list[str], marks: pd.Series | None) -> None:
    kept, dropped = scores.loc[keep], scores.drop(keep)
    finite = scores[np.isfinite(scores)]
    ax.hist(
        [part[np.isfinite(part)] for part in (kept, dropped)],
        bins=np.histogram_bin_edges(finite, min(BINS, finite.nunique())).tolist(),
        stacked=True,
        color=[KEPT, DROPPED],
        label=[
            describe("kept", kept, len(scores), marks),
            describe("dropped", dropped, len(scores), marks),
        ],
    )
    cut = kept.iloc[-1]
    if np.isfinite(cut):
        ax.axvline(cut, color="0.2", linestyle="--", label=f"cut at {cut:.3g}")
    ax.set(xlabel=f"{score_name(scores)} (lower is easier)", ylabel="pairs")
    # the legend stands above the bars: they are anywhere, and move with the share
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2)


def _draw_share(ax: Axes, means: pd.Series, share: float) -> None:
    """Mark a share on the curve: on the line between measured shares, never beyond them."""
    ax.axvline(share, color="0.2", linestyle="--", linewidth=1)
    measured = np.isclose(means.index, share).any()
    if means.index.min() - 1e-9 <= share <= means.index.max() + 1e-9:
        height = np.interp(share, means.index, means)
        label = f"at {share:.0%}: {height:.3f}{'' if measured else ', between measured shares'}"
        ax.plot(share, height, "o", color="0.2", fillstyle="none", markersize=11, mew=2,
                label=label)  # fmt: skip
    else:
        ax.plot([], [], "--", color="0.2", linewidth=1, label=f"at {share:.0%}: not measured")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2)


def _share(share: float) -> float:
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share <= 1:
        raise ValueError(f"share={share!r}; expected a share of the pairs above 0 and up to 1.")
    return float(share)  # easiest() takes an int for a count


def _panels(axes: Any, count: int) -> np.ndarray:
    if axes is None:
        _, axes = plt.subplots(1, count, figsize=(5.5 * count, 4), layout="constrained")
    axes = np.atleast_1d(axes).ravel()
    if len(axes) != count:
        needs = "a curve needs two" if count == 2 else "without a curve one is needed"
        raise ValueError(f"Got {len(axes)} Axes; {needs}.")
    return axes
