"""Win rates with their intervals."""

import pandas as pd
from matplotlib.axes import Axes

from nbkit.plots.common import COLORS, GUIDE, current_axes, need_columns, need_numbers, plain


def win_rates(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    xlabel: str = "win rate against the baseline (a tie counts ½)",
) -> Axes:
    """Win rates as points with their intervals, one row each, and a line at 0.5.

    Args:
        table: DataFrame with columns `name, win_rate, low, high`: shares from 0 to 1, drawn from
            top to bottom in the order in which they come.
        ax: matplotlib Axes to draw on; default: the current ones.
        xlabel: name of what is drawn, and what it is against.

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
