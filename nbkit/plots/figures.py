"""Figures of margins, of training and of win rates, each on one Axes.

Chosen is always blue and rejected always orange, from seaborn's colour-blind palette.
"""

import numpy as np
import pandas as pd
import seaborn as sns

from nbkit.inputs import as_number
from nbkit.plots.common import (
    COLORS,
    GUIDE,
    PALETTE,
    TRACE_COLUMNS,
    current_axes,
    need_columns,
    need_numbers,
    plain,
)


def margins(scores, ax=None, *, bins=40, xlabel="margin (nats)", unit="pairs"):
    """Distribution of one or several margins (or any scores), with the share above zero.

    Args:
        scores: a Series (drawn under its name), a DataFrame (a distribution for each column), or a
            dict name -> Series. One number for each pair; NaN and infinity are left out and counted
            in the legend.
        xlabel: say the unit: nats for implicit margins, the reward's own for explicit ones.

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


def training_trace(trace, ax=None, *, band=50, margin=False):
    """How the log-probs of chosen and rejected responses move while training.

    Both can fall while the margin between them grows: likelihood displacement (Razin et al.,
    2024, arXiv 2410.08847). So the two are drawn apart, each as its change since the first step.

    Args:
        trace: tidy DataFrame with columns `step, id, chosen_logp, rejected_logp` (nats, summed over
            response tokens) and, for `margin=True`, `margin` (nats, times beta).
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


def win_rates(table, ax=None, *, xlabel="win rate against the baseline (a tie counts ½)"):
    """Win rates as points with their intervals, one row each, and a line at 0.5.

    Args:
        table: DataFrame with columns `name, win_rate, low, high`: shares from 0 to 1, drawn from
            top to bottom in the order in which they come.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> table = pd.DataFrame(dict(name=["easiest"], win_rate=[0.6], low=[0.5], high=[0.7]))
        >>> ax = plt.figure().add_subplot()
        >>> [label.get_text() for label in nb.plots.win_rates(table, ax).get_yticklabels()]
        ['easiest']
        >>> plt.close()
    """
    need_columns(table, ["name", "win_rate", "low", "high"], "a table of win rates")
    need_numbers(table, ["win_rate", "low", "high"], "a table of win rates")
    numbers = table[["win_rate", "low", "high"]]
    outside = ~numbers.apply(lambda column: column.between(0, 1)).all(axis=1)
    crossed = (table["low"] > table["win_rate"]) | (table["high"] < table["win_rate"])
    if (outside | crossed).any():
        first = table[outside | crossed].iloc[0]
        raise ValueError(
            f"Row {first['name']!r}: win_rate {first['win_rate']}, low {first['low']}, "
            f"high {first['high']}; expected 0 <= low <= win_rate <= high <= 1 (shares, not %)."
        )
    ax = current_axes(ax)
    places = range(len(table))
    ax.errorbar(
        table["win_rate"],
        places,
        xerr=[table["win_rate"] - table["low"], table["high"] - table["win_rate"]],
        fmt="o",
        color=COLORS["chosen"],
        capsize=3,
    )
    ax.axvline(0.5, **(GUIDE | {"linestyle": "--"}))
    ax.set_yticks(places, [plain(name) for name in table["name"]])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set(xlabel=xlabel, ylabel="")
    ax.grid(axis="x", alpha=0.3)
    return ax


def _named_scores(scores) -> dict[str, pd.Series]:
    if isinstance(scores, pd.Series):
        scores = {scores.name or "score": scores}
    elif isinstance(scores, pd.DataFrame):
        scores = {name: scores[name] for name in scores.columns}
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


def _share_above_zero(name, values, kept, unit) -> str:
    label = f"{name}: {(kept > 0).mean():.0%} above 0"
    missing, infinite = len(values) - len(kept), int(np.isinf(kept).sum())
    label += f" ({missing} {unit} without a score)" if missing else ""
    return label + (f" ({infinite} infinite, not drawn)" if infinite else "")


def _since_first_step(trace) -> pd.DataFrame:
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
