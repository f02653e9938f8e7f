"""What a training does to the log-probs of both responses."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nbkit.inputs import as_number
from nbkit.plots.common import (
    COLORS,
    GUIDE,
    TRACE_COLUMNS,
    current_axes,
    need_columns,
    need_numbers,
)


def training_trace(
    trace: pd.DataFrame, ax: Axes | None = None, *, band: float | None = 50, margin: bool = False
) -> Axes:
    """How the log-probs of chosen and rejected responses move while training.

    Both can fall while the margin between them grows: likelihood displacement (Razin et al.,
    2024, arXiv 2410.08847). So the two are drawn apart, each as its change since the first step.

    Args:
        trace: tidy DataFrame with columns `step, id, chosen_logp, rejected_logp` (nats, summed over
            response tokens) and, for `margin=True`, `margin` (nats, times beta).
        ax: matplotlib Axes to draw on; default: the current ones.
        band: per cent of the pairs inside the shaded band around the mean: 50 is from the first to
            the third quartile over pairs. None draws no band.
        margin: also draw the mean of the trace's own `margin` column.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> trace = pd.DataFrame(
        ...     dict(step=[0, 10], id="a", chosen_logp=[-5.0, -7.0], rejected_logp=[-6.0, -9.0])
        ... )
        >>> ax = plt.figure().add_subplot()
        >>> nb.plots.training_trace(trace, ax, band=None).get_xlabel()
        'training step (updates)'
        >>> plt.close()
    """
    needed = TRACE_COLUMNS if margin else TRACE_COLUMNS[:4]
    need_columns(trace, needed, "a training trace")
    need_numbers(trace, [name for name in needed if name != "id"], "a training trace")
    if band is not None:
        band = as_number(band, "band", above=0, most=100)
    changes = _since_first_step(trace)
    ax = current_axes(ax)
    sns.lineplot(
        changes,
        x="step",
        y="change",
        hue="response",
        hue_order=["chosen", "rejected"],
        palette=COLORS,
        errorbar=None if band is None else ("pi", band),
        marker="o",
        markersize=4,
        ax=ax,
    )
    ylabel = "change in log-prob since the first step\n(nats, summed over response tokens)"
    if margin:
        mean = trace.groupby("step")["margin"].mean()
        ax.plot(mean.index, mean, color=COLORS["margin"], linestyle="--", label="margin")
        ylabel = "change since the first step; margin\n(nats, summed over response tokens)"
    ax.axhline(0, **GUIDE)
    ax.set(xlabel="training step (updates)", ylabel=ylabel)
    shaded = "" if band is None else f" (band: middle {band:g}% of pairs)"
    ax.legend(title=f"mean{shaded}", alignment="left", frameon=False)
    return ax


def _since_first_step(trace: pd.DataFrame) -> pd.DataFrame:
    """Tidy columns step, response, change: each pair relative to itself at the first step."""
    first_step = trace["step"].min()
    start = trace[trace["step"] == first_step].set_index("id")
    if not start.index.is_unique:
        raise ValueError(f"The trace has an id twice at step {first_step}; expected one row each.")
    unknown = trace.loc[~trace["id"].isin(start.index), "id"].unique()
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} pairs of the trace have no row at its first step ({first_step}), so "
            f"their change is unknown: {list(unknown[:3])}. Trace the same pairs at every step."
        )
    parts = []
    for response in ("chosen", "rejected"):
        column = f"{response}_logp"
        change = trace[column] - trace["id"].map(start[column])
        parts.append(pd.DataFrame({"step": trace["step"], "response": response, "change": change}))
    return pd.concat(parts, ignore_index=True)
