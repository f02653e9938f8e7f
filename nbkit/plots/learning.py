"""The order in which pairs are learned, as one picture of a whole training run."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nbkit.inputs import as_number
from nbkit.plots.common import COLORS, current_axes, need_columns, score_name
from nbkit.scores.difficulty import learned_step, margins_by_step
from nbkit.select.series import as_scores

# Orange: the policy leans to the rejected response; blue: to the chosen one.
LEANING = sns.blend_palette([COLORS["rejected"], "white", COLORS["chosen"]], as_cmap=True)
ROBUST = 98  # percentile of |margin| at which the colour is full: a few pairs run far ahead


def learning_order(
    trace: pd.DataFrame,
    ax: Axes | None = None,
    *,
    scores: pd.Series | None = None,
    limit: float | None = None,
) -> Axes:
    """Heat map of the implicit margins while training: a row a pair, easiest at the top.

    Args:
        trace: tidy DataFrame with columns `step, id, margin` (implicit reward margin, beta
            included), the same pairs at every step: `run.trace` of `nbkit.train_dpo(...,
            trace=pairs)`.
        ax: matplotlib Axes to draw on; default: the current ones.
        scores: Series by pair id whose lower values mean easier; pairs without a score are left
            out, and counted in the label. Default: the learned step of this trace. Ties go to the
            pair with the higher mean margin, then by id.
        limit: margin (beta x nats) at which the colour is full, on both sides of 0; default: the
            98th percentile of the margins' sizes.

    Returns:
        The Axes; a colour bar stands beside it.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> trace = pd.DataFrame(
        ...     dict(step=[0, 0, 5, 5, 9, 9], id=["a", "b"] * 3, margin=[0, 0, 0.5, 0.1, 0.9, 0.3])
        ... )
        >>> ax = plt.figure().add_subplot()
        >>> nb.plots.learning_order(trace, ax).get_ylabel()
        '2 pairs by learned step'
        >>> plt.close()
    """
    need_columns(trace, ["step", "id", "margin"], "a training trace")
    margins = margins_by_step(trace).T
    if margins.shape[1] < 2:
        raise ValueError(
            f"The trace has {margins.shape[1]} step; the order of learning takes 2 or more. "
            "Lower `trace_every` of train_dpo."
        )
    if scores is None:
        scores = learned_step(trace)
    ordered = margins.loc[_easiest_first(margins, scores)]
    if limit is None:
        limit = np.percentile(ordered.abs(), ROBUST) or 1.0
    else:
        limit = as_number(limit, "limit", above=0)
    ax = current_axes(ax)
    _draw_margins(ax, ordered, limit)
    shown, missing = len(ordered), len(margins) - len(ordered)
    ax.set_yticks([0.5, shown - 0.5], ["easiest", "hardest"])
    ax.set_ylim(shown, 0)
    left_out = f"\n({missing:,} without a score left out)" if missing else ""
    ylabel = f"{shown:,} pairs by {score_name(scores)}{left_out}"
    ax.set(xlabel="training step (updates)", ylabel=ylabel)
    return ax


def _draw_margins(ax: Axes, margins: pd.DataFrame, limit: float) -> None:
    """A row a pair, a column a step, with a colour bar that says whether values lie beyond."""
    values = margins.to_numpy(float)
    mesh = ax.pcolormesh(
        _edges(margins.columns.to_numpy(float)),
        np.arange(len(values) + 1),
        values,
        cmap=LEANING,
        vmin=-limit,
        vmax=limit,
        rasterized=True,  # hundreds of rows would make a vector image slow
    )
    beyond = bool((values < -limit).any()), bool((values > limit).any())
    ax.figure.colorbar(
        mesh,
        ax=ax,
        label="implicit margin (beta × nats)",
        extend={(True, True): "both", (True, False): "min", (False, True): "max"}.get(
            beyond, "neither"
        ),
    )


def _easiest_first(margins: pd.DataFrame, scores: pd.Series) -> list:
    scores = as_scores(scores)
    table = pd.DataFrame({"score": scores.reindex(margins.index), "mean": margins.mean(axis=1)})
    table = table.dropna(subset="score").sort_index()
    if table.empty:
        raise ValueError(
            f"None of the {len(margins)} pairs of the trace has a score. The trace has ids such as "
            f"{margins.index[0]!r}; the scores came with {list(scores.index[:3])}."
        )
    return list(table.sort_values(["score", "mean"], ascending=[True, False], kind="stable").index)


def _edges(steps: np.ndarray) -> np.ndarray:
    """Left and right ends of the columns: halfway between steps, which may be unequally apart."""
    middles = (steps[1:] + steps[:-1]) / 2
    return np.array([2 * steps[0] - middles[0], *middles, 2 * steps[-1] - middles[-1]])
