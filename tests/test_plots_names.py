"""Names come from data: every figure draws them as they are, whatever they hold, and says which
pairs it cannot draw."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.cbook import is_math_text
from matplotlib.text import Text

from nbkit import plots

IDS = [f"p{number}" for number in range(20)]
DRAW = np.random.default_rng(0)
FIRST, SECOND = (pd.Series(DRAW.normal(size=20), IDS) for _ in range(2))
MARKS = pd.Series([number % 3 == 0 for number in range(20)], IDS)
TRACE = pd.DataFrame(
    [(step, id_, DRAW.normal()) for step in (0, 5, 9) for id_ in IDS],
    columns=["step", "id", "margin"],
)
HOSTILE = [
    r"$\frac{$",  # a formula that cannot be read
    "cost_$_{",
    "$x$ and $y$",
    r"5\$ or 6$",
    "<img src=x onerror=alert(1)>",
    "a" * 500,
    "two\nlines",
]


def results(name, metric):
    rows = [(selection, seed, DRAW.random()) for selection in (name, "full") for seed in (0, 1)]
    return pd.DataFrame(rows, columns=["selection", "seed", metric])


def shares(name, metric="win_rate", hue="kind"):
    rows = [(name, share, seed, DRAW.random()) for share in (0.3, 0.6, 1.0) for seed in (0, 1)]
    return pd.DataFrame(rows, columns=[hue, "share", "seed", metric])


def draw_rates(name, ax):
    plots.win_rates(pd.DataFrame(dict(name=[name], win_rate=0.5, low=0.4, high=0.6)), ax)


DRAWN = {
    "margins": lambda name, ax: plots.margins({name: FIRST, f"other {name}": SECOND}, ax),
    "win_rates": draw_rates,
    "comparison": lambda name, ax: plots.comparison(results(name, name), ax, metric=name),
    "share_curve": lambda name, ax: plots.share_curve(
        shares(name, name, f"hue {name}"), ax, metric=name, hue=f"hue {name}"),
    "kept_and_dropped": lambda name, ax: plots.kept_and_dropped(
        FIRST.rename(name), 0.5, ax, marks=MARKS.rename(name)),
    "learning_order": lambda name, ax: plots.learning_order(TRACE, ax, scores=FIRST.rename(name)),
    "margin_plane": lambda name, ax: plots.margin_plane(
        FIRST.rename(name), SECOND, ax=ax, marks=MARKS.rename(name)),
    "band_plane": lambda name, ax: plots.band_plane(
        FIRST.rename(name), SECOND.rename(name), ax=ax, marks=MARKS.rename(name)),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.filterwarnings("error")
def test_any_name_is_drawn_as_it_is(kind, name):
    figure = []

    def draw(axes):
        figure.append(axes[0].figure)
        DRAWN[kind](name, axes[0])

    assert plots.as_png(draw).startswith(b"\x89PNG")
    texts = [text.get_text() for text in figure[0].findobj(Text)]
    assert not any(is_math_text(text) for text in texts if "mathdefault" not in text)
    begin = name[:20].replace("$", r"\$")
    shown = [text for text in texts if begin.split("\n")[0].replace("_", " ")[:9] in
             text.replace("_", " ").replace("\n", " ")]  # fmt: skip
    assert shown, texts
    assert max(map(len, texts)) < 400
    assert plt.get_fignums() == []


def test_a_lone_surrogate_in_a_name_can_be_drawn():
    for kind in ("margins", "kept_and_dropped", "learning_order", "margin_plane", "band_plane"):
        assert plots.as_png(lambda axes, kind=kind: DRAWN[kind]("lone \ud800", axes[0]))


def test_names_that_differ_at_the_end_stay_apart():
    names = ["loss of " + "a very long name " * 8 + end for end in ("one", "two")]
    ax = plots.margins({name: FIRST for name in names}, plt.figure().add_subplot())
    assert len(ax.get_legend().get_texts()) == 2
    plt.close("all")
    with pytest.raises(ValueError, match="same name once shortened"):
        plots.margins({"x" * 100 + middle + "x" * 100: FIRST for middle in "ab"})


GAPS = FIRST.where(FIRST.index != "p3").rename("loss")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda ax: plots.kept_and_dropped(GAPS, 0.5, ax), "'p3': no loss .NaN"),
        (lambda ax: plots.band_plane(GAPS, SECOND, ax=ax), "'p3': not both scores"),
        (lambda ax: plots.margin_plane(GAPS, SECOND, ax=ax), "'p3': no alignment_potential"),
    ],
)
def test_pairs_that_cannot_be_drawn_are_said_once(draw, message):
    ax = plt.figure().add_subplot()
    with pytest.warns(UserWarning, match=f"1 of 20 pairs are left out: 1 such as {message}") as w:
        draw(ax)
    assert len(w) == 1 and w[0].filename == __file__
    plt.close("all")


def test_runs_without_a_number_are_said_once():
    gaps = results("easiest", "win_rate").assign(win_rate=[0.5, np.nan, 0.6, 0.7])
    ax = plt.figure().add_subplot()
    with pytest.warns(UserWarning, match="1 of 4 rows are left out: .*'row 1': no win_rate") as w:
        plots.comparison(gaps, ax)
    assert len(w) == 1 and w[0].filename == __file__
    plt.close("all")


def tokens(logp):
    return pd.DataFrame(
        dict(id="a", side=["chosen", "rejected"], position=0, token=["x", "y"], logp=logp)
    )


RATES = pd.DataFrame(dict(name=["a"], win_rate=0.5, low=0.4, high=0.6))
LOGPS = TRACE.assign(chosen_logp=-1.0, rejected_logp=-2.0)
REFUSED = {
    "trace, text": (
        lambda: plots.training_trace(LOGPS.assign(chosen_logp="x")), "'chosen_logp' of a training"),
    "trace, inf": (
        lambda: plots.training_trace(LOGPS.assign(rejected_logp=-np.inf)), "is infinite in row 0"),
    "band": (lambda: plots.training_trace(LOGPS, band=500), "band=500; expected a number above 0"),
    "rates": (lambda: plots.win_rates(RATES.assign(low="0.4")), "'low' of a table of win rates is"),
    "results": (
        lambda: plots.comparison(results("a", "win_rate").assign(win_rate=np.inf)), "infinite in"),
    "shares": (lambda: plots.share_curve(shares("a").assign(share="0.5")), "'share' of results"),
    "learning": (lambda: plots.learning_order(TRACE.assign(margin=np.inf)), "'p0' is infinite"),
    "a band": (lambda: plots.band_plane(FIRST, SECOND, 0.2), "a_band=0.2; expected two shares"),
    "limit": (
        lambda: plots.token_view(tokens(-1.0), tokens(-2.0), "a", limit=0), "limit=0; expected"),
    "logps": (lambda: plots.token_view(tokens(np.nan), tokens(-2.0), "a"), "not finite"),
    "tokens": (lambda: plots.mask_view(["a", None], 1, [1, 1]), "tokens as text, got None"),
    "length": (lambda: plots.mask_view(["a"], "1", [1]), "prompt_length='1'; expected a whole"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(case):
    draw, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message) as error:
        draw()
    assert len(str(error.value)) < 300
    plt.close("all")


def test_infinite_margins_are_counted():
    ax = plots.margins(FIRST.where(FIRST.index != "p3", np.inf), plt.figure().add_subplot())
    assert "(1 infinite, not drawn)" in ax.get_legend().get_texts()[0].get_text()
    plt.close("all")
