"""How much better a selection did than another, over seeds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nbkit.estimates import Estimate, paired_gain


def gain(
    results: pd.DataFrame,
    selection: str,
    over: str = "random",
    *,
    metric: str = "win_rate",
    budget: str = "examples",
) -> Estimate:
    """How much better a selection did than another, seed by seed.

    Args:
        results: from `compare`; results of several data sets may be concatenated, if each has its
            own seeds.
        selection: its name in `results`.
        over: the other's name; "random" is the selection's own control, of equal size (full data,
            for a selection of that size).
        metric: a column of `results`.
        budget: "examples" or "updates".

    Returns:
        Estimate: mean of the paired differences, with a Student-t interval over seeds.

    Raises:
        ValueError: a selection, a control or a budget that is not in `results`.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> rows = [("easy", 0, 0.6), ("easy", 1, 0.7), ("full", 0, 0.5), ("full", 1, 0.5)]
        >>> results = pd.DataFrame(rows, columns=["selection", "seed", "win_rate"])
        >>> results = results.assign(budget="examples", pairs=8)
        >>> round(nb.gain(results, "easy", over="full").value, 3)
        0.15
    """
    at = results[results.budget == budget]
    by_seed = at.pivot(index="seed", columns="selection", values=metric)
    missing = [n for n in (selection, over) if n not in by_seed and n != "random"]
    if missing:
        raise ValueError(
            f"No row of budget {budget!r} is named {missing}; there are {list(by_seed.columns)}."
        )
    own = at[at.selection == selection].set_index("seed")
    if over != "random":
        return paired_gain(own[metric], by_seed.loc[own.index, over])
    everything = at[at.selection == "full"].set_index("seed").pairs
    baseline: dict[Any, float] = {}
    seed: Any
    for seed, size in own.pairs.items():  # of each seed: a selection's size may differ
        control = "full" if size == everything.get(seed) else control_name(size)
        if control not in by_seed:
            raise ValueError(f"{selection!r} has no control {control!r} in these results.")
        baseline[seed] = by_seed[control].loc[seed]
    return paired_gain(own[metric], pd.Series(baseline))


def control_name(size: int) -> str:
    """What `compare` calls the random control of a selection of this size."""
    return f"random {size}"
