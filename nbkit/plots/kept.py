"""What a selection keeps and what it drops: the picture of one share."""

from numbers import Real

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from nbkit.plots.common import PALETTE, known_scores, plain, score_name
from nbkit.plots.experiments import over_shares, share_curve
from nbkit.select.ranked import easiest
from nbkit.select.series import as_scores

KEPT, DROPPED, MARKED = PALETTE[2], "0.75", PALETTE[1]
BINS = 40


def kept_and_dropped(scores, share, axes=None, *, curve=None, marks=None):
    """The scores with the easiest `share` kept, and where that share lies on the measured curve.

    Parameters
    ----------
    scores
        Series by pair id; lower means easier. Infinite scores cannot be drawn: they are counted in
        the legend. Pairs without a score (NaN) are left out, with a warning.
    share
        Share of the scored pairs to keep, above 0 and up to 1, as `nbkit.select.easiest` does.
    axes
        One Axes, or two when a curve is given. Default: those of a new figure.
    curve
        Tidy DataFrame with columns `share, seed, win_rate`: what was measured at several shares.
    marks
        Boolean Series by pair id, such as `flipped`: its share among kept and dropped pairs is
        told in the legend.

    Returns
    -------
    numpy array of matplotlib Axes
        The histogram of the scores and, with `curve`, the curve with this share marked.
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


def _draw_scores(ax, scores, keep, marks) -> None:
    kept, dropped = scores.loc[keep], scores.drop(keep)
    finite = scores[np.isfinite(scores)]
    ax.hist(
        [part[np.isfinite(part)] for part in (kept, dropped)],
        bins=np.histogram_bin_edges(finite, min(BINS, finite.nunique())),
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


def scatter_kept(ax, x, y, scores, kept, marks) -> None:
    """Every pair as a point, in the color of what happened to it; marked pairs get a cross.

    `x`, `y` and `scores`, which the legend tells of, are Series over the same pairs, `kept` some of
    their ids, `marks` as `flags` returns them or None.
    """
    x, y = x.reindex(scores.index), y.reindex(scores.index)
    is_kept = np.zeros(len(scores), bool)
    is_kept[scores.index.get_indexer(kept)] = True
    for word, part, color in (("dropped", ~is_kept, DROPPED), ("kept", is_kept, KEPT)):
        label = describe(word, scores[part], len(scores), marks)
        ax.scatter(x[part], y[part], s=10, color=color, lw=0, label=label)
    if marks is not None:
        part = marks[scores.index].to_numpy(bool)
        ax.scatter(x[part], y[part], s=14, color=MARKED, marker="x", lw=0.8,
                   label=plain(marks.name or "marked").replace("_", " "))  # fmt: skip


def describe(word: str, part, total: int, marks) -> str:
    """Legend text of some of the pairs: how many, and the share of them with a mark."""
    text = f"{word} {len(part) / total:.0%}: {len(part):,} pairs"
    if marks is not None and len(part):
        text += f", {marks[part.index].mean():.0%} {plain(marks.name or 'marked')}"
    infinite = int(np.isinf(part).sum())
    return f"{text}, {infinite:,} infinite" if infinite else text


def _draw_share(ax, means, share: float) -> None:
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


def _share(share) -> float:
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share <= 1:
        raise ValueError(f"share={share!r}; expected a share of the pairs above 0 and up to 1.")
    return float(share)  # easiest() takes an int for a count


def flags(marks, ids) -> pd.Series:
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


def _panels(axes, count: int) -> np.ndarray:
    if axes is None:
        _, axes = plt.subplots(1, count, figsize=(5.5 * count, 4), layout="constrained")
    axes = np.atleast_1d(axes).ravel()
    if len(axes) != count:
        needs = "a curve needs two" if count == 2 else "without a curve one is needed"
        raise ValueError(f"Got {len(axes)} Axes; {needs}.")
    return axes
