"""A slider for the weight of alignment potential."""

import warnings
from collections.abc import Sequence

import ipywidgets
import pandas as pd

from nbkit.pairs.sources import Pairs
from nbkit.plots.common import as_png, known_scores
from nbkit.plots.plane import margin_plane
from nbkit.scores.potential import alignment_potential
from nbkit.scores.same_pairs import common_pairs
from nbkit.select.ranked import top
from nbkit.widgets.frame import follow, image, slider
from nbkit.widgets.table import PairTable

HEAVIEST = 4.0  # weight of the implicit margin


def weight_slider(
    explicit: pd.Series,
    implicit: pd.Series,
    pairs: Pairs,
    *,
    share: float = 0.4,
    marks: pd.Series | None = None,
    show: str | Sequence[str] = ("prompt", "chosen", "rejected"),
    rows: int = 4,
) -> ipywidgets.VBox:
    """A slider for the weight of alignment potential, and what it brings in and throws out.

    Below the slider stand the picture of `nbkit.plots.margin_plane` and a table: the pairs with
    the highest potential of those that are kept now, but not with weight 0; then the pairs with
    the largest explicit margin of those that were kept with weight 0, and no longer are. Both
    follow when the handle is let go, or an arrow key moves it.

    Args:
        explicit, implicit: Series by pair id, as for `nbkit.scores.alignment_potential`.
        pairs: Dataset with `id` and the columns in `show`; it holds every scored pair.
        share, marks: as for `margin_plane`; with marks the table says which pairs have one.
        show, rows: as for `share_slider`: columns in the table, and pairs on each side.

    Raises:
        TypeError, ValueError: for what `margin_plane` refuses, a scored id that is not in `pairs`,
            a column of `show` that is missing, and `rows` that is no count.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> explicit = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("abcd"), name="explicit")
        >>> implicit = pd.Series([0.1, 0.2, 0.1, 5.0], index=list("abcd"), name="implicit")
        >>> pairs = nb.load_pairs(
        ...     [dict(id=x, prompt="River?", chosen="Nile.", rejected=f"Wet {x}.") for x in "abcd"]
        ... )
        >>> box = nb.widgets.weight_slider(explicit, implicit, pairs, share=0.5)
        >>> box.children[0].value = 2.0
        >>> "w = 2: 1 of 2 kept pairs are others than with w = 0" in box.children[2].value
        True
    """
    explicit, implicit, _ = common_pairs(explicit, implicit, where=None)
    by_judge = known_scores(alignment_potential(explicit, implicit, 0.0))
    first = top(by_judge, share)
    facts = [("explicit", explicit), ("implicit", implicit)]
    table = PairTable(pairs, by_judge.index, facts, marks, show, rows)
    handle = slider(
        ipywidgets.FloatSlider,
        "weight of the implicit margin (w)",
        "Price of a decided policy. The arrow keys move it by 0.25.",
        value=1.0,
        min=0.0,
        max=HEAVIEST,
        step=0.25,
    )

    def look() -> tuple[str, str]:
        weight = handle.value
        with warnings.catch_warnings():  # said when the slider was made, by potential of weight 0
            warnings.simplefilter("ignore")
            kept = top(alignment_potential(explicit, implicit, weight), share)
            png = as_png(
                lambda axes: margin_plane(explicit, implicit, weight, share, axes[0], marks)
            )
        words = f"The two margins of each pair, with w = {weight:g}: {len(kept)} pairs kept."
        before, now = set(first), set(kept)
        come = [id_ for id_ in kept if id_ not in before]
        gone = [id_ for id_ in first if id_ not in now]
        found = [(id_, "in") for id_ in come[: table.rows]]
        found += [(id_, "out") for id_ in gone[: table.rows]]
        caption = (
            f"w = {weight:g}: {len(come)} of {len(kept)} kept pairs are others than with w = 0. "
            "In: those with the highest potential. Out: those with the largest explicit margin"
        )
        return image(png, words), table.html(found, caption)

    return follow([handle], look)
