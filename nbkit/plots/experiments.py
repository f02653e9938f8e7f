"""Experiments over several seeds: selections side by side, and the curve over the share kept."""

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from nbkit.estimates import seed_interval
from nbkit.left_out import LeftOut
from nbkit.plots.common import GREY, GUIDE, PALETTE, current_axes, need_columns, need_numbers, plain

BRIGHT = [color for number, color in enumerate(PALETTE) if number != 7]  # 7 is grey
BUDGETS = {"examples": "o", "updates": "D"}  # one epoch each, or the same number of updates
LABELS = {
    "win_rate": "win rate against the policy before training (a tie counts ½)",
    "reward": "mean reward",
    "accuracy": "accuracy on held-out pairs",
    "length": "mean response length (tokens)",
    "correct": "share of correct answers",
    "chosen_shift": "change in log-prob of the chosen responses (nats, summed)",
    "rejected_shift": "change in log-prob of the rejected responses (nats, summed)",
}


def comparison(
    results: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "win_rate",
    xlabel: str | None = None,
) -> Axes:
    """Selections side by side: mean over seeds with its 95% Student-t interval, one row each.

    Args:
        results: tidy DataFrame as `nbkit.compare` returns it: columns `selection, seed`, the
            metric, and optionally `budget`: "examples" and "updates" get a marker each, and one
            together where they are the same runs (full data). Selections stand from top to bottom
            in the order in which they first appear; controls (`full`, `before`, names that begin
            with `random`) are grey. A row named `before` also gets a dashed line at its mean. NaN
            is left out, with a warning.
        ax: matplotlib Axes to draw on; default: the current ones.
        metric: column to draw. Single seeds are faint dots; one seed alone has no interval.
        xlabel: name and unit of the metric.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> results = pd.DataFrame(
        ...     dict(selection=["easiest", "easiest", "full", "full"], seed=[0, 1, 0, 1],
        ...          win_rate=[0.60, 0.64, 0.50, 0.52])
        ... )
        >>> ax = plt.figure().add_subplot()
        >>> ax = nb.plots.comparison(results, ax)
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['easiest', 'full']
        >>> plt.close()
    """
    if isinstance(results, pd.DataFrame) and "budget" not in results.columns:
        results = results.assign(budget="examples")
    means = _one_for_equal_budgets(over_seeds(results, ["selection", "budget"], metric))
    _tell_missing(results, metric)
    names = list(means["selection"].unique())
    both = set(BUDGETS) <= set(means["budget"])
    ax = current_axes(ax)
    colors = _colors(names)
    row: Any
    for row in means.itertuples():
        budgets = means.loc[means["selection"] == row.selection, "budget"]
        place = names.index(row.selection) + _offset(row.budget, list(budgets))
        _draw_row(ax, place, row, colors[row.selection])
    if "before" in names:
        values = results.loc[results["selection"] == "before", metric]
        ax.axvline(values.mean(), **(GUIDE | {"linestyle": "--"}))
    ax.set_yticks(range(len(names)), [plain(name) for name in names])
    # with two budgets, some room at the bottom holds the legend, clear of all points
    room = max(0.5, 0.1 * len(names)) if both else 0.0
    ax.set_ylim(len(names) - 0.5 + room, -0.5)
    if both:
        _budget_legend(ax)
    label = xlabel or LABELS.get(metric, plain(metric).replace("_", " "))
    ax.set(xlabel=f"{label}\n{_seeds(means)}; faint: single seeds", ylabel="")
    ax.grid(axis="x", alpha=0.3)
    return ax


def share_curve(
    results: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "win_rate",
    hue: str | None = None,
    parabola: bool = True,
) -> Axes:
    """A metric over the share of pairs kept: mean over seeds, in a band, its 95% t-interval.

    Args:
        results: tidy DataFrame with columns `share` (0 to 1), `seed`, the metric and, when given,
            `hue`.
        ax: matplotlib Axes to draw on; default: the current ones.
        metric: column to draw.
        hue: column with a line for each of its values (such as the policy), in order of appearance.
        parabola: also draw, dotted, the least-squares parabola through the means (three shares or
            more), and mark its vertex when it is a maximum inside the measured range. Its interval
            is a matter of `nbkit.parabola_peak`.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> results = pd.DataFrame(
        ...     dict(share=[0.2, 0.5, 1.0] * 2, seed=[0] * 3 + [1] * 3,
        ...          win_rate=[0.50, 0.60, 0.55, 0.52, 0.62, 0.53])
        ... )
        >>> ax = plt.figure().add_subplot()
        >>> nb.plots.share_curve(results, ax).get_xlabel()
        'share of pairs kept'
        >>> plt.close()
    """
    means = over_shares(results, ["share"] if hue is None else [hue, "share"], metric)
    _tell_missing(results, metric)
    lines = [(None, means)] if hue is None else means.groupby(hue, sort=False)
    ax = current_axes(ax)
    for number, (name, line) in enumerate(lines):
        color = BRIGHT[number % len(BRIGHT)]
        line = line.sort_values("share")
        label = _seeds(line) if hue is None else plain(name)
        ax.plot(line["share"], line["mean"], "o-", color=color, markersize=5, label=label)
        ax.fill_between(line["share"], line["low"], line["high"], color=color, alpha=0.15, lw=0)
        if parabola and len(line) > 2:
            _draw_parabola(ax, line, color)
    ylabel = LABELS.get(metric, plain(metric).replace("_", " "))
    ax.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    ax.set(xlabel="share of pairs kept", ylabel=fill(ylabel, 36))
    ax.legend(title=None if hue is None else f"{plain(hue)} ({_seeds(means)})", frameon=False)
    return ax


def over_shares(results: pd.DataFrame, by: list[str], metric: str) -> pd.DataFrame:
    """As `over_seeds`, where `by` has a share: from 0 to 1."""
    means = over_seeds(results, by, metric)
    outside = means.loc[~means["share"].between(0, 1), "share"]
    if len(outside):
        raise ValueError(f"share={outside.iloc[0]}; expected shares from 0 to 1, not per cent.")
    return means


def over_seeds(results: pd.DataFrame, by: list[str], metric: str) -> pd.DataFrame:
    """Columns `*by, mean, low, high, values`: one row for each combination, in order of
    appearance; `values` are the single seeds'. NaN is left out."""
    need_columns(results, [*by, "seed", metric], "results of an experiment")
    numbers = [metric, *(name for name in by if name == "share")]
    need_numbers(results, numbers, "results of an experiment")
    known = results.dropna(subset=[metric])
    if known.empty:
        raise ValueError(f"Column {metric!r} holds no number ({len(results)} rows came).")
    twice = known.duplicated([*by, "seed"])
    if twice.any():
        first = known.loc[twice, [*by, "seed"]].iloc[0].to_dict()
        raise ValueError(
            f"More than one row has {first}; expected one for each seed. Draw one budget, "
            'policy or kind of selection at a time: results[results["budget"] == "examples"].'
        )
    rows = []
    for key, values in known.groupby(by, sort=False, dropna=False)[metric]:
        rows.append((*key, *seed_interval(values), values.to_numpy(float)))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "values"])


def _tell_missing(results: pd.DataFrame, metric: str) -> None:
    missing = results.index[results[metric].isna()]
    left_out = LeftOut({f"row {row}": f"no {metric} (NaN)" for row in missing})
    left_out.warn(len(results), "rows")


def _one_for_equal_budgets(means: pd.DataFrame) -> pd.DataFrame:
    """Both budgets train alike on full data, and not at all before: such rows are drawn once."""
    runs = means.assign(values=means["values"].map(tuple))
    return means[~runs.duplicated(["selection", "values"])]


def _colors(names: list[str]) -> dict[str, str]:
    """Grey for controls, the palette in turn for the others."""
    tested = [name for name in names if not _is_control(str(name))]
    colors = {name: BRIGHT[number % len(BRIGHT)] for number, name in enumerate(tested)}
    return {name: colors.get(name, GREY) for name in names}


def _is_control(name: str) -> bool:
    return name in ("full", "before") or name.startswith("random")


def _offset(budget: str, budgets: list[str]) -> float:
    return 0.3 * (budgets.index(budget) / (len(budgets) - 1) - 0.5) if len(budgets) > 1 else 0.0


def _draw_row(ax: Axes, place: float, row: Any, color: str) -> None:
    below = [place + 0.1] * len(row.values)  # clear of the interval's line
    ax.scatter(row.values, below, s=12, color=color, alpha=0.5, lw=0)
    ax.errorbar(
        row.mean,
        place,
        xerr=[[row.mean - row.low], [row.high - row.mean]],
        fmt=BUDGETS.get(row.budget, "o"),
        markersize=6,
        color=color,
        markerfacecolor="white" if row.budget == "updates" else color,
        capsize=3,
    )


def _budget_legend(ax: Axes) -> None:
    handles = [
        Line2D([], [], color=GREY, marker=marker, linestyle="", label=f"equal {budget}",
               markerfacecolor="white" if budget == "updates" else GREY)
        for budget, marker in BUDGETS.items()
    ]  # fmt: skip
    ax.legend(
        handles=handles,
        loc="lower right",
        ncols=2,
        facecolor="inherit",
        framealpha=1,
        edgecolor="none",
    )  # hides the guide behind it


def _seeds(means: pd.DataFrame) -> str:
    fewest, most = means["values"].str.len().min(), means["values"].str.len().max()
    count = str(most) if fewest == most else f"{fewest} to {most}"
    if most == 1:
        return "one seed, no interval"
    return f"mean of {count} seeds, 95% t-interval"


def _draw_parabola(ax: Axes, line: pd.DataFrame, color: str) -> None:
    shares = line["share"].to_numpy(float)
    a, b, c = np.polyfit(shares, line["mean"], 2)
    places = np.linspace(shares.min(), shares.max(), 101)
    vertex = -b / (2 * a) if a < -1e-9 else np.nan  # a flat curve bends by rounding only
    inside = shares.min() < vertex < shares.max()
    label = f"parabola, highest at {vertex:.0%}" if inside else "parabola, no peak inside"
    ax.plot(places, np.polyval([a, b, c], places), ":", color=color, label=label)
    if inside:
        ax.plot(vertex, np.polyval([a, b, c], vertex), "*", color=color, markersize=13, mec="white")
