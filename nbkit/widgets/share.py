"""A slider for the share of pairs to keep."""

from collections.abc import Sequence

import ipywidgets
import pandas as pd

from nbkit.pairs.sources import Pairs
from nbkit.plots.common import as_png, known_scores
from nbkit.plots.kept import kept_and_dropped
from nbkit.select.ranked import easiest
from nbkit.widgets.frame import follow, image, slider
from nbkit.widgets.table import PairTable

STEP = 0.05


def share_slider(
    scores: pd.Series,
    pairs: Pairs,
    *,
    curve: pd.DataFrame | None = None,
    marks: pd.Series | None = None,
    show: str | Sequence[str] = ("prompt", "chosen", "rejected"),
    rows: int = 4,
) -> ipywidgets.VBox:
    """A slider for the share of pairs to keep, easiest first, and what it keeps and drops.

    Below the slider stand the picture of `nbkit.plots.kept_and_dropped` and a table of the pairs
    around the cut: the hardest still kept, then the easiest just dropped. Both follow when the
    handle is let go, or an arrow key moves it.

    Args:
        scores: Series by pair id; lower means easier. Pairs without a score (NaN) are neither kept
            nor dropped; they are warned of.
        pairs: Dataset with `id` and the columns in `show`; it holds every scored pair.
            Conversational columns are shown as text, with the roles where there is more than one
            message.
        curve, marks: as for `kept_and_dropped`; with marks the table says which pairs have one.
        show: columns of the pairs in the table.
        rows: how many pairs to show on each side of the cut.

    Raises:
        TypeError, ValueError: for what `kept_and_dropped` refuses, ids that occur twice, a scored
            id that is not in `pairs`, a column of `show` that is missing, and `rows` that is no
            count.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> scores = pd.Series([0.1, 0.2, 0.3, 0.4], index=list("abcd"), name="loss")
        >>> pairs = nb.load_pairs(
        ...     [dict(id=x, prompt="River?", chosen="Nile.", rejected=f"Wet {x}.") for x in "abcd"]
        ... )
        >>> box = nb.widgets.share_slider(scores, pairs)
        >>> box.children[0].value, "50% kept" in box.children[2].value
        (0.5, True)
    """
    scores = known_scores(scores)  # said once, not at every move
    ranked = easiest(scores, 1.0)
    table = PairTable(pairs, ranked, [(str(scores.name or "score"), scores)], marks, show, rows)
    handle = slider(
        ipywidgets.FloatSlider,
        "share of pairs kept (τ)",
        "Share of pairs kept, easiest first. The arrow keys move it by 5%.",
        value=0.5,
        min=STEP,
        max=1.0,
        step=STEP,
        readout_format=".0%",
    )

    def look() -> tuple[str, str]:
        share = round(handle.value, 2)
        kept = len(easiest(scores, share))
        png = as_png(
            lambda axes: kept_and_dropped(scores, share, axes, curve=curve, marks=marks),
            panels=1 if curve is None else 2,
        )
        dropped = len(ranked) - kept
        words = f"Histogram of the scores: {kept} of {len(ranked)} pairs kept, {dropped} dropped."
        around = [(id_, "kept") for id_ in ranked[max(kept - table.rows, 0) : kept]]
        around += [(id_, "dropped") for id_ in ranked[kept : kept + table.rows]]
        caption = f"{share:.0%} kept: the hardest of them, then the easiest that are dropped"
        return image(png, words), table.html(around, caption)

    return follow([handle], look)
