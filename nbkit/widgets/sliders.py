"""Widgets: the static figures with a handle. This is the only module that imports ipywidgets.

Every picture stands in the notebooks without a widget too, so that nothing is lost on a page that
cannot run one. Texts of pairs come from data that others wrote: all are escaped.
"""

import warnings
from base64 import b64encode
from html import escape

import ipywidgets
import pandas as pd
from datasets import Dataset

from nbkit.inputs import as_count, as_pairs
from nbkit.plots.bands import band_plane, in_both, on_common_pairs, percentiles
from nbkit.plots.common import as_png, known_scores
from nbkit.plots.kept import kept_and_dropped
from nbkit.plots.plane import margin_plane
from nbkit.scores.margins import common_pairs
from nbkit.scores.potential import alignment_potential
from nbkit.select.ranked import easiest, top
from nbkit.select.series import check_each_once, check_texts

STEP = 0.05  # of the share kept
LONGEST = 400  # characters of one text in the table
NAME = 40  # characters of a score's name beside its slider
HEAVIEST = 4.0  # weight of the implicit margin

TABLE = "border-collapse:collapse;margin-top:0.5em;"
CELL = "padding:4px 10px;text-align:left;vertical-align:top;border-bottom:1px solid #8888;"
SHORT = CELL + "white-space:nowrap;"
LONG = CELL + "white-space:pre-wrap;overflow-wrap:anywhere;min-width:8em;unicode-bidi:isolate;"
CUT = "border-top:3px dashed #888;"


def share_slider(
    scores, pairs, *, curve=None, marks=None, show=("prompt", "chosen", "rejected"), rows=4
) -> ipywidgets.VBox:
    """A slider for the share of pairs to keep, easiest first, and what it keeps and drops.

    Below the slider stand the picture of `nbkit.plots.kept_and_dropped` and a table of the pairs
    around the cut: the hardest still kept, then the easiest just dropped. Both follow when the
    handle is let go, or an arrow key moves it.

    Parameters
    ----------
    scores
        Series by pair id; lower means easier. Pairs without a score (NaN) are neither kept nor
        dropped; they are warned of.
    pairs
        Dataset with `id` and the columns in `show`; it holds every scored pair. Conversational
        columns are shown as text, with the roles where there is more than one message.
    curve, marks
        As for `kept_and_dropped`; with marks the table says which pairs have one.
    show
        Columns of the pairs in the table.
    rows
        How many pairs to show on each side of the cut.

    Raises
    ------
    TypeError, ValueError
        For what `kept_and_dropped` refuses, ids that occur twice, a scored id that is not in
        `pairs`, a column of `show` that is missing, and `rows` that is no count.
    """
    scores = known_scores(scores)  # said once, not at every move
    ranked = easiest(scores, 1.0)
    pairs, row_of, show, rows = _pairs_to_show(pairs, ranked, show, rows)
    slider = _slider(
        ipywidgets.FloatSlider,
        "share of pairs kept (τ)",
        "Share of pairs kept, easiest first. The arrow keys move it by 5%.",
        value=0.5,
        min=STEP,
        max=1.0,
        step=STEP,
        readout_format=".0%",
    )
    picture, table = ipywidgets.HTML(), ipywidgets.HTML()
    facts = [(str(scores.name or "score"), scores), *_marked(marks)]

    def redraw(change=None):
        share = round(slider.value, 2)
        kept = len(easiest(scores, share))
        picture.value = _share_picture(scores, share, curve, marks, kept, len(ranked))
        around = [(pair_id, "kept") for pair_id in ranked[max(kept - rows, 0) : kept]]
        around += [(pair_id, "dropped") for pair_id in ranked[kept : kept + rows]]
        found = [(id_, side, pairs[row_of[id_]]) for id_, side in around]
        caption = f"{share:.0%} kept: the hardest of them, then the easiest that are dropped"
        table.value = _table(found, caption, facts, show)

    redraw()  # input that cannot be drawn is refused here, not in a callback that nobody hears
    slider.observe(redraw, names="value")
    return ipywidgets.VBox([slider, picture, table])


def weight_slider(
    explicit, implicit, pairs, *, share=0.4, marks=None, show=("prompt", "chosen", "rejected"),
    rows=4,
) -> ipywidgets.VBox:  # fmt: skip
    """A slider for the weight of alignment potential, and what it brings in and throws out.

    Below the slider stand the picture of `nbkit.plots.margin_plane` and a table: the pairs with
    the highest potential of those that are kept now, but not with weight 0; then the pairs with
    the largest explicit margin of those that were kept with weight 0, and no longer are. Both
    follow when the handle is let go, or an arrow key moves it.

    Parameters
    ----------
    explicit, implicit
        Series by pair id, as for `nbkit.scores.alignment_potential`.
    pairs
        Dataset with `id` and the columns in `show`; it holds every scored pair.
    share, marks
        As for `margin_plane`; with marks the table says which pairs have one.
    show, rows
        As for `share_slider`: columns in the table, and pairs on each side.

    Raises
    ------
    TypeError, ValueError
        For what `margin_plane` refuses, a scored id that is not in `pairs`, a column of `show`
        that is missing, and `rows` that is no count.
    """
    explicit, implicit, _ = common_pairs(explicit, implicit, where=None)
    by_judge = alignment_potential(explicit, implicit, 0.0)
    first = top(by_judge, share)
    pairs, row_of, show, rows = _pairs_to_show(pairs, by_judge.dropna().index, show, rows)
    slider = _slider(
        ipywidgets.FloatSlider,
        "weight of the implicit margin (w)",
        "Price of a decided policy. The arrow keys move it by 0.25.",
        value=1.0,
        min=0.0,
        max=HEAVIEST,
        step=0.25,
    )
    picture, table = ipywidgets.HTML(), ipywidgets.HTML()
    facts = [("explicit", explicit), ("implicit", implicit), *_marked(marks)]

    def redraw(change=None):
        weight = slider.value
        with warnings.catch_warnings():
            if change is not None:  # said when the slider was made
                warnings.simplefilter("ignore")
            kept = top(alignment_potential(explicit, implicit, weight), share)
            png = as_png(
                lambda axes: margin_plane(explicit, implicit, weight, share, axes[0], marks)
            )
        before, now = set(first), set(kept)
        come = [id_ for id_ in kept if id_ not in before]
        gone = [id_ for id_ in first if id_ not in now]
        words = f"The two margins of each pair, with w = {weight:g}: {len(kept)} pairs kept."
        picture.value = _image(png, words)
        found = [(id_, "in", pairs[row_of[id_]]) for id_ in come[:rows]]
        found += [(id_, "out", pairs[row_of[id_]]) for id_ in gone[:rows]]
        caption = (
            f"w = {weight:g}: {len(come)} of {len(kept)} kept pairs are others than with w = 0. "
            "In: those with the highest potential. Out: those with the largest explicit margin"
        )
        table.value = _table(found, caption, facts, show)

    redraw()
    slider.observe(redraw, names="value")
    return ipywidgets.VBox([slider, picture, table])


def band_sliders(
    a, b, pairs, *, low=0.2, high=0.8, marks=None, show=("prompt", "chosen", "rejected"), rows=2
) -> ipywidgets.VBox:
    """Two sliders, a percentile band of each score, and what lies in both bands.

    Below the sliders stand the picture of `nbkit.plots.band_plane` and a table: pairs from the
    middle of what is kept; then, for each of the four ways to fall out, the most extreme pairs:
    those with the lowest `a`, the highest `a`, the lowest `b`, the highest `b`. All follow when a
    handle is let go, or an arrow key moves it.

    Parameters
    ----------
    a, b
        Series by pair id, such as LossDiff and IRM.
    pairs
        Dataset with `id` and the columns in `show`; it holds every scored pair.
    low, high
        Shares at which both bands begin and end.
    marks
        As for `band_plane`; with marks the table says which pairs have one.
    show, rows
        As for `share_slider`: columns in the table, and pairs of each kind.

    Raises
    ------
    TypeError, ValueError
        For what `band_plane` refuses, a scored id that is not in `pairs`, a column of `show` that
        is missing, and `rows` that is no count.
    """
    a, b = on_common_pairs(a, b)
    pairs, row_of, show, rows = _pairs_to_show(pairs, a.index, show, rows)
    in_both(a, b, (low, high), (low, high))  # refuses what is no band, in words
    names = [str(scores.name or word) for scores, word in ((a, "first"), (b, "second"))]
    sliders = [_band_slider(name, low, high) for name in names]
    picture, table = ipywidgets.HTML(), ipywidgets.HTML()
    facts = [*zip(names, (a, b)), *_marked(marks)]
    places = percentiles(a), percentiles(b)

    def redraw(change=None):
        bands = [tuple(round(edge, 2) for edge in slider.value) for slider in sliders]
        if any(start == end for start, end in bands):  # the handles may meet
            picture.value, table.value = "", "Nothing lies in an empty band: move a handle."
            return
        kept = in_both(a, b, *bands)
        png = as_png(lambda axes: band_plane(a, b, *bands, axes[0], marks=marks))
        words = f"Percentiles of both scores of each pair: {len(kept)} of {len(a)} pairs kept."
        picture.value = _image(png, words)
        aside = _off_centre(places, bands)
        central = aside.loc[kept].sort_values(kind="stable").index
        found = [(id_, "kept", pairs[row_of[id_]]) for id_ in central[:rows]]
        for name, place, (start, end) in zip(names, places, bands):
            below, above = round(start * len(place)), round(end * len(place))
            for side, ids in (
                (f"{name} low", place.index[:below]),
                (f"{name} high", place.index[above:][::-1]),
            ):
                found += [(id_, _text(side), pairs[row_of[id_]]) for id_ in ids[:rows]]
        caption = (
            f"{len(kept) / len(a):.0%} kept: first those nearest the middle of both bands; then "
            "the most extreme that fall out, at each end"
        )
        table.value = _table(found, caption, facts, show)

    redraw()
    for slider in sliders:
        slider.observe(redraw, names="value")
    return ipywidgets.VBox([*sliders, picture, table])


def _band_slider(name: str, low: float, high: float) -> ipywidgets.FloatRangeSlider:
    return _slider(
        ipywidgets.FloatRangeSlider,
        f"percentiles of {name if len(name) <= NAME else name[: NAME - 1] + '…'} kept",
        "Lower and upper end of the band. The arrow keys move an end by 5%.",
        value=(low, high),
        min=0.0,
        max=1.0,
        step=STEP,
        readout_format=".0%",
        layout={"width": "min(100%, 42em)"},
    )


def _slider(kind, description: str, hint: str, layout=None, **values):
    """A slider that moves what it steers when it is let go. Its hint is a `tooltip`, which
    ipywidgets 7 calls `description_tooltip`."""
    values["tooltip" if kind.has_trait(kind, "tooltip") else "description_tooltip"] = hint
    return kind(
        description=description,
        continuous_update=False,
        style={"description_width": "initial"},
        layout=layout or {"width": "min(100%, 36em)"},
        **values,
    )


def _off_centre(places, bands) -> pd.Series:
    """How far each pair is from the middle of both bands: of two shares the larger."""
    aside = [(place - sum(band) / 2).abs() for place, band in zip(places, bands)]
    return pd.concat(aside, axis=1).max(axis=1)


def _pairs_to_show(pairs, ids, show, rows: int) -> tuple:
    """Pairs that hold all the scored ids and the columns to show; id -> row; the columns; rows."""
    show = [show] if isinstance(show, str) else list(show)
    rows = as_count(rows, "rows")
    if not isinstance(pairs, Dataset):
        pairs = as_pairs(pairs)
    missing = [name for name in ("id", *show) if name not in pairs.column_names]
    if missing:
        raise ValueError(
            f"Columns {missing} are missing in the pairs. Came: {pairs.column_names}; expected "
            f"'id' and those to show: {show}."
        )
    own = pd.Index(pairs["id"][:])
    check_each_once(own, "pairs")
    check_texts(own, "pairs")
    row_of = {pair_id: row for row, pair_id in enumerate(own)}
    unknown = [pair_id for pair_id in ids if pair_id not in row_of]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(ids)} scored pairs are not in `pairs`: {unknown[:3]}. "
            "Pass the pairs that were scored."
        )
    return pairs, row_of, show, rows


def _marked(marks) -> list:
    """The marks as a column of the table, if there are any."""
    if marks is None:
        return []
    return [(str(marks.name or "marked"), marks.map({True: "yes", False: "no"}))]


def _share_picture(scores, share, curve, marks, kept: int, total: int) -> str:
    png = as_png(
        lambda axes: kept_and_dropped(scores, share, axes, curve=curve, marks=marks),
        panels=1 if curve is None else 2,
    )
    words = f"Histogram of the scores: {kept} of {total} pairs kept, {total - kept} dropped."
    return _image(png, words)


def _image(png: bytes, words: str) -> str:
    """The figure as an image inside the page, with words for those who do not see it."""
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return f'<img alt="{escape(words)}" style="max-width:100%" src="{source}">'


def _table(found, caption: str, facts: list, show) -> str:
    """Pairs, one a row: `found` holds (id, side, pair), and a dashed line stands between the
    sides; `facts` are the columns before the texts: (name, Series by pair id, numbers or texts)."""
    names = ["", *(name for name, _ in facts), *show]
    heads = "".join(f'<th scope="col" style="{SHORT}">{_text(name)}</th>' for name in names)
    lines = []
    for place, (pair_id, side, pair) in enumerate(found):
        known = [values[pair_id] for _, values in facts]
        known = [fact if isinstance(fact, str) else f"{fact:.3g}" for fact in known]
        cells = "".join(f'<td style="{SHORT}">{fact}</td>' for fact in known)
        cells += "".join(f'<td style="{LONG}">{_text(_readable(pair[name]))}</td>' for name in show)
        cut = CUT if place and side != found[place - 1][1] else ""
        lines.append(f'<tr style="{cut}"><th scope="row" style="{SHORT}">{side}</th>{cells}</tr>')
    return (
        f'<table style="{TABLE}"><caption style="text-align:left">{caption}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _readable(value) -> str:
    """A text as it is; messages, or the entries of any list, one below the other; messages with
    their roles if there are several."""
    if not isinstance(value, list):
        return str(value)
    return "\n".join(_entry(entry, len(value) > 1) for entry in value)


def _entry(entry, with_role: bool) -> str:
    if not (isinstance(entry, dict) and "role" in entry and "content" in entry):
        return str(entry)
    return f"{entry['role']}: {entry['content']}" if with_role else str(entry["content"])


def _text(text: str) -> str:
    """Safe in HTML and in UTF-8, and not endless."""
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))
