"""Two sliders for the percentile bands of two scores."""

from collections.abc import Iterable, Sequence

import ipywidgets
import pandas as pd

from nbkit.pairs.sources import Pairs
from nbkit.plots.bands import band_plane, in_both, percentiles, with_both
from nbkit.plots.common import as_png
from nbkit.widgets.frame import follow, image, slider
from nbkit.widgets.table import PairTable

STEP = 0.05
NAME = 40  # characters of a score's name beside its slider


def band_sliders(
    a: pd.Series,
    b: pd.Series,
    pairs: Pairs,
    *,
    low: float = 0.2,
    high: float = 0.8,
    marks: pd.Series | None = None,
    show: str | Sequence[str] = ("prompt", "chosen", "rejected"),
    rows: int = 2,
) -> ipywidgets.VBox:
    """Two sliders, a percentile band of each score, and what lies in both bands.

    Below the sliders stand the picture of `nbkit.plots.band_plane` and a table: pairs from the
    middle of what is kept; then, for each of the four ways to fall out, the most extreme pairs:
    those with the lowest `a`, the highest `a`, the lowest `b`, the highest `b`. All follow when a
    handle is let go, or an arrow key moves it.

    Args:
        a, b: Series by pair id, such as LossDiff and IRM.
        pairs: Dataset with `id` and the columns in `show`; it holds every scored pair.
        low, high: shares at which both bands begin and end.
        marks: as for `band_plane`; with marks the table says which pairs have one.
        show, rows: as for `share_slider`: columns in the table, and pairs of each kind.

    Raises:
        TypeError, ValueError: for what `band_plane` refuses, a scored id that is not in `pairs`, a
            column of `show` that is missing, and `rows` that is no count.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> scores = pd.Series([0.1, 0.2, 0.3, 0.4], index=list("abcd"), name="loss")
        >>> pairs = nb.load_pairs(
        ...     [dict(id=x, prompt="River?", chosen="Nile.", rejected=f"Wet {x}.") for x in "abcd"]
        ... )
        >>> box = nb.widgets.band_sliders(scores, (-scores).rename("irm"), pairs)
        >>> [child.description for child in box.children[:2]]
        ['percentiles of loss kept', 'percentiles of irm kept']
    """
    a, b = with_both(a, b)
    names = [str(scores.name or word) for scores, word in ((a, "first"), (b, "second"))]
    table = PairTable(pairs, a.index, [*zip(names, (a, b))], marks, show, rows)
    in_both(a, b, (low, high), (low, high))  # refuses what is no band, in words
    sliders = [_band_slider(name, low, high) for name in names]
    places = percentiles(a), percentiles(b)

    def look() -> tuple[str, str]:
        a_band, b_band = (_band(handle) for handle in sliders)
        bands = a_band, b_band
        if any(start == end for start, end in bands):  # the handles may meet
            return "", "Nothing lies in an empty band: move a handle."
        kept = in_both(a, b, a_band, b_band)
        png = as_png(lambda axes: band_plane(a, b, a_band, b_band, axes[0], marks=marks))
        words = f"Percentiles of both scores of each pair: {len(kept)} of {len(a)} pairs kept."
        central = _off_centre(places, bands).loc[kept].sort_values(kind="stable").index
        found = [(id_, "kept") for id_ in central[: table.rows]]
        for name, place, band in zip(names, places, bands):
            found += _outermost(name, place, band, table.rows)
        caption = (
            f"{len(kept) / len(a):.0%} kept: first those nearest the middle of both bands; then "
            "the most extreme that fall out, at each end"
        )
        return image(png, words), table.html(found, caption)

    return follow(sliders, look)


def _band_slider(name: str, low: float, high: float) -> ipywidgets.FloatRangeSlider:
    return slider(
        ipywidgets.FloatRangeSlider,
        f"percentiles of {name if len(name) <= NAME else name[: NAME - 1] + '…'} kept",
        "Lower and upper end of the band. The arrow keys move an end by 5%.",
        width="42em",
        value=(low, high),
        min=0.0,
        max=1.0,
        step=STEP,
        readout_format=".0%",
    )


def _band(handle: ipywidgets.FloatRangeSlider) -> tuple[float, float]:
    low, high = handle.value
    return round(low, 2), round(high, 2)


def _off_centre(places: Iterable[pd.Series], bands: Iterable[tuple[float, float]]) -> pd.Series:
    """How far each pair is from the middle of both bands: of two shares the larger."""
    aside = [(place - sum(band) / 2).abs() for place, band in zip(places, bands)]
    return pd.concat(aside, axis=1).max(axis=1)


def _outermost(
    name: str, place: pd.Series, band: tuple[float, float], rows: int
) -> list[tuple[str, str]]:
    """The pairs farthest outside of one band, at either end: (id, end)."""
    below, above = (round(edge * len(place)) for edge in band)
    low, high = place.index[:below], place.index[above:][::-1]
    return [(id_, f"{name} low") for id_ in low[:rows]] + [
        (id_, f"{name} high") for id_ in high[:rows]
    ]
