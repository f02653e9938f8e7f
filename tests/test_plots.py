"""What is drawn is what was given; HTML is escaped; wrong input is named."""

import inspect
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import test_plots_difficulty
from IPython.display import HTML
from matplotlib.colors import to_hex

from nbkit import plots

TRACE = pd.DataFrame(
    {
        "step": [0, 0, 10, 10, 20, 20],
        "id": ["a", "b"] * 3,
        "chosen_logp": [-10.0, -20.0, -11.0, -20.0, -14.0, -22.0],
        "rejected_logp": [-12.0, -20.0, -15.0, -24.0, -20.0, -28.0],
        "margin": [0.0, 0.0, 0.2, 0.4, 0.4, 0.6],
    }
)
RATES = pd.DataFrame(
    {
        "name": ["full", "random 50%", "easiest 50%"],
        "win_rate": [0.62, 0.58, 0.69],
        "low": [0.60, 0.55, 0.66],
        "high": [0.65, 0.62, 0.73],
    }
)
SCORES = pd.Series([0.1, -0.4, 0.9], index=list("abc"), name="a")
DRAWINGS = {
    "margins": lambda ax: plots.margins(pd.Series([-1.0, 2.0, 3.0], name="m"), ax),
    "training_trace": lambda ax: plots.training_trace(TRACE, ax),
    "win_rates": lambda ax: plots.win_rates(RATES, ax),
    "margin_plane": lambda ax: plots.margin_plane(SCORES, SCORES[::-1].rename("b"), ax=ax),
    "band_plane": lambda ax: plots.band_plane(SCORES, SCORES.rename("b"), ax=ax),
    **test_plots_difficulty.DRAWINGS,
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_the_given_ax_is_drawn_on_and_returned(ax, draw):
    other = ax.figure.add_axes([0.8, 0.8, 0.1, 0.1])
    plt.sca(other)
    assert draw(ax) is ax
    assert ax.has_data() and not other.has_data()
    assert plt.get_fignums() == [ax.figure.number]


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_without_ax_the_current_one_is_used(ax, draw):
    plt.sca(ax)
    assert draw(None) is ax


def test_every_figure_is_tried():
    """Of those that take an `ax`."""
    figures = [getattr(plots, name) for name in plots.__all__ if callable(getattr(plots, name))]
    names = {f.__name__ for f in figures if "ax" in inspect.signature(f).parameters}
    missing = names - {*DRAWINGS}
    assert not missing, f"no entry in DRAWINGS: {', '.join(sorted(missing))}; give each one."


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Margins -----------------------------------------------------------------------------------------


def test_margins_of_one_series(ax):
    values = pd.Series(np.linspace(-1, 3, 101), name="implicit_margin")
    plots.margins(values, ax, bins=10)
    assert legend_texts(ax) == [f"implicit_margin: {(values > 0).mean():.0%} above 0"]
    assert ax.get_xlabel() == "margin (nats)" and ax.get_ylabel() == "pairs (%)"
    assert any(set(line.get_xdata()) == {0} for line in ax.lines)
    assert to_hex(ax.collections[0].get_facecolor()[0]) == plots.COLORS["chosen"]


def test_margins_heights_are_the_share_of_pairs(ax):
    plots.margins(pd.Series([0.5, 0.5, 0.5, 1.5], name="m"), ax, bins=[0, 1, 2])
    heights = {y for _, y in ax.collections[0].get_paths()[0].vertices}
    assert heights == {0, 25, 75}


def test_margins_of_several_with_missing_scores(ax):
    frame = pd.DataFrame({"before": [-1.0, 1.0, 1.0, 1.0], "after": [1.0, 1.0, -1.0, np.nan]})
    plots.margins(frame, ax)
    expected = ["before: 75% above 0", "after: 67% above 0 (1 pairs without a score)"]
    assert legend_texts(ax) == expected
    plots.margins({name: frame[name] for name in frame}, ax)
    assert legend_texts(ax) == expected


def test_each_distribution_is_in_per_cent_of_its_own_pairs(ax):
    plots.margins(
        {"few": pd.Series([0.5]), "many": pd.Series([0.5, 0.5, 1.5, 1.5])}, ax, bins=[0, 1, 2]
    )
    peaks = [max(y for _, y in drawn.get_paths()[0].vertices) for drawn in ax.collections]
    assert sorted(peaks) == [50, 100]


def test_a_margin_of_exactly_zero_is_not_above_zero(ax):
    plots.margins(pd.Series([0.0, 0.0, 0.0, 1.0], name="m"), ax)
    assert legend_texts(ax) == ["m: 25% above 0"]


def test_margins_refuses_what_it_cannot_draw():
    with pytest.raises(TypeError, match="got a list; expected a Series"):
        plots.margins([1.0, 2.0])
    with pytest.raises(ValueError, match="no scores"):
        plots.margins({})
    with pytest.raises(ValueError, match=r"'m' hold no number \(2 values came\)"):
        plots.margins(pd.Series([np.nan, np.nan], name="m"))
    with pytest.raises(TypeError, match="'m' are .*expected numbers"):
        plots.margins(pd.Series(["a", "b"], name="m"))
    assert plt.get_fignums() == []  # an error leaves no empty figure behind


# Training trace ----------------------------------------------------------------------------------


def data_lines(ax):
    """The drawn lines by legend label."""
    lines = {to_hex(line.get_color()): line for line in ax.lines if len(line.get_xdata()) > 2}
    return {name: lines[color] for name, color in plots.COLORS.items() if color in lines}


def test_trace_draws_the_mean_change_of_each_side(ax):
    plots.training_trace(TRACE.sample(frac=1, random_state=0), ax)
    lines = data_lines(ax)
    assert list(lines) == ["chosen", "rejected"]
    np.testing.assert_allclose(lines["chosen"].get_xydata(), [[0, 0], [10, -0.5], [20, -3]])
    np.testing.assert_allclose(lines["rejected"].get_xydata(), [[0, 0], [10, -3.5], [20, -8]])
    assert legend_texts(ax) == ["chosen", "rejected"]
    assert ax.get_xlabel() == "training step (updates)" and "nats" in ax.get_ylabel()


def test_trace_band_is_over_the_pairs(ax):
    plots.training_trace(TRACE, ax, band=100)  # the whole range: both pairs are on its edge
    points = {(x, y) for x, y in ax.collections[0].get_paths()[0].vertices}
    assert {(10.0, -1.0), (10.0, 0.0), (20.0, -4.0), (20.0, -2.0)} <= points
    assert ax.get_legend().get_title().get_text() == "mean (band: middle 100% of pairs)"


def test_trace_without_band(ax):
    plots.training_trace(TRACE, ax, band=None)
    assert not ax.collections and ax.get_legend().get_title().get_text() == "mean"


def test_trace_with_margin(ax):
    plots.training_trace(TRACE, ax, margin=True)
    line = data_lines(ax)["margin"]
    np.testing.assert_allclose(line.get_xydata(), [[0, 0], [10, 0.3], [20, 0.5]])
    assert legend_texts(ax) == ["chosen", "rejected", "margin"]


def test_trace_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match=r"\['rejected_logp'\] are missing .*Came: .*expected"):
        plots.training_trace(TRACE.drop(columns="rejected_logp"))
    with pytest.raises(ValueError, match=r"\['margin'\] are missing"):
        plots.training_trace(TRACE.drop(columns="margin"), margin=True)
    with pytest.raises(ValueError, match="no rows; expected a training trace"):
        plots.training_trace(TRACE.iloc[:0])
    with pytest.raises(TypeError, match="Got a dict; expected a training trace"):
        plots.training_trace(TRACE.to_dict())
    with pytest.raises(ValueError, match=r"1 pairs .*first step \(0\).*\['b'\]"):
        plots.training_trace(TRACE.drop(index=1))
    with pytest.raises(ValueError, match="an id twice at step 0"):
        plots.training_trace(pd.concat([TRACE, TRACE]))
    assert plt.get_fignums() == []


# Win rates ---------------------------------------------------------------------------------------


def test_win_rates_draws_points_and_intervals_from_top_to_bottom(ax):
    plots.win_rates(RATES.set_index(pd.Index([7, 7, 9])), ax)
    points = ax.containers[0].lines[0]
    np.testing.assert_allclose(points.get_xdata(orig=False), RATES["win_rate"])
    assert [text.get_text() for text in ax.get_yticklabels()] == RATES["name"].tolist()
    assert ax.yaxis_inverted()
    ends = [segment[:, 0] for segment in ax.containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(np.array(ends, float), RATES[["low", "high"]].to_numpy(float))
    half = [line for line in ax.lines if list(line.get_xdata()) == [0.5, 0.5]]
    assert len(half) == 1


def test_win_rates_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match=r"Columns \['low', 'high'\] are missing"):
        plots.win_rates(RATES[["name", "win_rate"]])
    with pytest.raises(ValueError, match="no rows"):
        plots.win_rates(RATES.iloc[:0])
    with pytest.raises(ValueError, match=r"'full': win_rate 62.*shares, not %"):
        plots.win_rates(RATES.assign(win_rate=[62, 0.6, 0.7]))
    with pytest.raises(ValueError, match=r"'random 50%': .*low <= win_rate <= high"):
        plots.win_rates(RATES.assign(low=[0.6, 0.6, 0.6]))
    with pytest.raises(ValueError, match="'full': win_rate nan"):
        plots.win_rates(RATES.assign(win_rate=[np.nan, 0.58, 0.69]))
    assert plt.get_fignums() == []


# Tokens ------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a browser would make of the page: its tags, and (style, title, text) of each box."""

    def __init__(self, view):
        super().__init__()
        self.tags, self.boxes, self._open = [], [], []
        self.feed(view._repr_html_())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "span":
            self._open = [dict(attributes), ""]

    def handle_data(self, data):
        if self._open:
            self._open[1] += data

    def handle_endtag(self, tag):
        if tag == "span":
            attributes, text = self._open
            self.boxes.append((attributes["style"], attributes.get("title"), text))
            self._open = []


def tokens(logps, words=("sure", " dog", "\n")):
    return pd.DataFrame(
        {
            "id": "a",
            "side": ["chosen"] * 3 + ["rejected"] * 2,
            "position": [0, 1, 2, 0, 1],
            "token": [*words, "ugh", "."],
            "logp": logps,
        }
    )


REFERENCE = tokens([-1.0, -2.0, -3.0, -4.0, -5.0])
POLICY = tokens([-0.5, -2.0, -4.0, -6.0, -5.1])


def test_token_view_shows_each_log_ratio():
    view = plots.token_view(POLICY.sample(frac=1, random_state=0), REFERENCE, "a")
    assert isinstance(view, HTML)
    boxes = Reader(view).boxes[:5]
    assert [text for _, _, text in boxes] == ["sure", "␣dog", "↵", "ugh", "."]
    ratios = [float(re.search(r"log-ratio ([+-][\d.]+) nats", title)[1]) for _, title, _ in boxes]
    np.testing.assert_allclose(ratios, POLICY["logp"] - REFERENCE["logp"], atol=1e-3)
    assert boxes[0][1] == ("position 0: policy -0.500, reference -1.000, log-ratio +0.500 nats")
    html = view._repr_html_()
    assert "<b>chosen</b>: summed log-ratio -0.50 nats over 3 tokens" in html
    assert "<b>rejected</b>: summed log-ratio -2.10 nats over 2 tokens" in html
    assert "less likely than under the reference &minus;2.00" in html  # legend: the largest


def test_token_view_colours_follow_the_sign():
    boxes = Reader(plots.token_view(POLICY, REFERENCE, "a", limit=2)).boxes
    colours = [
        tuple(map(int, re.search(r"rgb\((\d+),(\d+),(\d+)\)", style).groups()))
        for style, _, _ in boxes[:5]
    ]
    more, same, less, least, _ = colours
    assert more[1] > max(more[0], more[2])  # green: more likely
    assert same == (247, 247, 247)
    assert less[1] < min(less[0], less[2]) and sum(least) < sum(less)  # purple: less likely
    for style, _, _ in boxes[:5]:
        assert re.search(r";color:#(111|fff);", style)  # own text colour: any theme can be read
    assert "color:#fff" in boxes[3][0] and "color:#111" in boxes[1][0]


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&amp;</span>")


def test_token_view_escapes_everything():
    pair_id = "<b onclick=x>'\""
    frames = [tokens([-1.0] * 5, HOSTILE).assign(id=pair_id) for _ in range(2)]
    view = plots.token_view(*frames, pair_id)
    page = Reader(view)
    assert set(page.tags) == {"div", "p", "b", "br", "span"}
    assert [text for _, _, text in page.boxes[:3]] == [word.replace(" ", "␣") for word in HOSTILE]
    assert "<script" not in view._repr_html_() and "<b onclick" not in view._repr_html_()


@pytest.mark.parametrize(
    "token, shown",
    [
        (" a", "␣a"),
        ("\n", "↵"),
        ("\t", "⇥"),
        ("", "∅"),
        ("\x00", r"\x00"),
        ("\u202e", r"\u202e"),
        ("\ud800", r"\ud800"),
        ("\u00a0", r"\xa0"),
        ("größe🙂", "größe🙂"),
    ],
)
def test_invisible_characters_are_made_visible(token, shown):
    assert Reader(plots.mask_view([token], 0, [True])).boxes[0][2] == shown


def test_token_view_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match=r"policy_tokens has no columns \['logp'\]. Came: .*expec"):
        plots.token_view(POLICY.drop(columns="logp"), REFERENCE, "a")
    with pytest.raises(TypeError, match="reference_tokens is a NoneType; expected a DataFrame"):
        plots.token_view(POLICY, None, "a")
    with pytest.raises(ValueError, match=r"policy_tokens has no pair 'zz'; it has 1 pairs: \['a'"):
        plots.token_view(POLICY, REFERENCE, "zz")
    with pytest.raises(ValueError, match=r"differ between policy \(5 tokens\) and reference \(4\)"):
        plots.token_view(POLICY, REFERENCE.iloc[:4], "a")
    with pytest.raises(ValueError, match="one tokenizer"):
        plots.token_view(POLICY, tokens([-1.0] * 5, ("a", "b", "c")), "a")


WORDS = ["<s>", "pet", "?", "sure", "dog", "</s>"]
SPECIAL = ("<s>", "</s>")


def test_mask_view_draws_parts_and_mask():
    view = plots.mask_view(WORDS, 3, [0, 0, 0, 1, 1, 1], special=SPECIAL)
    boxes = Reader(view).boxes[:6]
    assert [text for _, _, text in boxes] == WORDS
    assert [title.split(", ")[1:] for _, title, _ in boxes] == [
        ["special", "not scored"],
        ["prompt", "not scored"],
        ["prompt", "not scored"],
        ["response", "scored"],
        ["response", "scored"],
        ["special", "scored"],
    ]
    assert all("solid" in style for style, _, _ in boxes[3:])
    assert all("dashed" in style for style, _, _ in boxes[:3])
    assert "3 of 6 tokens are scored" in view._repr_html_()


def test_mask_view_takes_a_mask_over_label_positions():
    whole = plots.mask_view(WORDS, 3, [0, 0, 0, 1, 1, 1])
    labels = plots.mask_view(WORDS, 3, np.array([False, False, True, True, True]))
    assert labels.data == whole.data


def test_mask_view_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match=r"mask has 3 entries for 6 tokens; expected 6 .* or 5"):
        plots.mask_view(WORDS, 3, [0, 1, 1])
    with pytest.raises(ValueError, match="prompt_length is 7; expected 0 to 6"):
        plots.mask_view(WORDS, 7, [0] * 6)
    with pytest.raises(ValueError, match="no tokens"):
        plots.mask_view([], 0, [])
