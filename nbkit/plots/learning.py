"""The order in which pairs are learned, as one picture of a whole training run."""

import numpy as np
import pandas as pd
import seaborn as sns

from nbkit.inputs import as_number
from nbkit.plots.common import COLORS, current_axes, need_columns, score_name
from nbkit.scores.difficulty import learned_step, margins_by_step
from nbkit.select.series import as_scores

# Orange: the policy leans to the rejected response; blue: to the chosen one.
LEANING = sns.blend_palette([COLORS["rejected"], "white", COLORS["chosen"]], as_cmap=True)
ROBUST = 98  # percentile of |margin| at which the colour is full: a few pairs run far ahead


def learning_order(trace, ax=None, *, scores=None, limit=None):
    """Heat map of the implicit margins while training: a row a pair, easiest at the top.

    Parameters
    ----------
    trace
        Tidy DataFrame with columns `step, id, margin` (implicit reward margin, beta included), the
        same pairs at every step: `run.trace` of `nbkit.train_dpo(..., trace=pairs)`.
    scores
        Series by pair id whose lower values mean easier; pairs without a score are left out, and
        counted in the label. Default: the learned step of this trace. Ties go to the pair with
        the higher mean margin, then by id.
    limit
        Margin (beta x nats) at which the colour is full, on both sides of 0; default: the 98th
        percentile of the margins' sizes.

    Returns
    -------
    matplotlib Axes
        A colour bar stands beside it.
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
    order = _easiest_first(margins, scores)
    steps, values = margins.columns.to_numpy(float), margins.loc[order].to_numpy(float)
    if limit is None:
        limit = np.percentile(np.abs(values), ROBUST) or 1.0
    else:
        limit = as_number(limit, "limit", above=0)
    ax = current_axes(ax)
    mesh = ax.pcolormesh(
        _edges(steps),
        np.arange(len(values) + 1),
        values,
        cmap=LEANING,
        vmin=-limit,
        vmax=limit,
        rasterized=True,  # hundreds of rows would make a vector image slow
    )
    beyond = (values < -limit).any(), (values > limit).any()
    ax.figure.colorbar(
        mesh,
        ax=ax,
        label="implicit margin (beta × nats)",
        extend={(True, True): "both", (True, False): "min", (False, True): "max"}.get(
            beyond, "neither"
        ),
    )
    ax.set_yticks([0.5, len(values) - 0.5], ["easiest", "hardest"])
    ax.set_ylim(len(values), 0)
    missing = len(margins) - len(order)
    left_out = f"\n({missing:,} without a score left out)" if missing else ""
    ylabel = f"{len(order):,} pairs by {score_name(scores)}{left_out}"
    ax.set(xlabel="training step (updates)", ylabel=ylabel)
    return ax


def _easiest_first(margins, scores) -> list:
    scores = as_scores(scores)
    table = pd.DataFrame({"score": scores.reindex(margins.index), "mean": margins.mean(axis=1)})
    table = table.dropna(subset="score").sort_index()
    if table.empty:
        raise ValueError(
            f"None of the {len(margins)} pairs of the trace has a score. The trace has ids such as "
            f"{margins.index[0]!r}; the scores came with {list(scores.index[:3])}."
        )
    return list(table.sort_values(["score", "mean"], ascending=[True, False], kind="stable").index)


def _edges(steps) -> np.ndarray:
    """Left and right ends of the columns: halfway between steps, which may be unequally apart."""
    middles = (steps[1:] + steps[:-1]) / 2
    return np.array([2 * steps[0] - middles[0], *middles, 2 * steps[-1] - middles[-1]])
