"""The plane of two scores: what is kept lies in both bands, and percentiles are the places by which
`middle` cuts."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from nbkit import plots, select

DRAW = np.random.default_rng(0)
IDS = [f"p{number:03}" for number in range(200)]
FIRST = pd.Series(DRAW.standard_t(3, 200), IDS, name="loss_difference")
SECOND = pd.Series(FIRST + DRAW.normal(0, 1, 200), IDS, name="irm")
SHUFFLED = SECOND.sample(frac=1, random_state=0)
WRONG = pd.Series(DRAW.random(200) < 0.3, IDS, name="wrong_labels")


def points(ax, label):
    """Drawn points, sorted, of the series whose label begins so."""
    found = [c for c in ax.collections if c.get_label().startswith(label)]
    assert len(found) == 1
    return np.array(sorted(found[0].get_offsets().tolist())).reshape(-1, 2)


def expected(ids):
    x, y = ((scores.rank() - 0.5) / 200 for scores in (FIRST, SECOND))
    return np.array(sorted(zip(x[ids], y[ids])))


@pytest.mark.parametrize("bands", [((0.2, 0.8), (0.2, 0.8)), ((0.0, 0.5), (0.3, 1.0))])
def test_kept_pairs_are_those_in_both_bands(ax, bands):
    assert plots.band_plane(FIRST, SHUFFLED, *bands, ax) is ax
    kept = select.both(select.middle(FIRST, *bands[0]), select.middle(SECOND, *bands[1]))
    np.testing.assert_allclose(points(ax, "kept"), expected(kept))
    np.testing.assert_allclose(points(ax, "dropped"), expected([i for i in IDS if i not in kept]))
    x, y = points(ax, "kept").T
    assert (bands[0][0] < x.min()) and (x.max() < bands[0][1])
    assert (bands[1][0] < y.min()) and (y.max() < bands[1][1])


def test_the_edges_are_drawn_and_the_labels_tell_the_values_kept(ax):
    plots.band_plane(FIRST, SECOND, (0.1, 0.6), (0.3, 0.9), ax)
    lines = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.get_lines()]
    assert lines == [(0.1, 0), (0.6, 0), (0, 0.3), (0, 0.9)]
    ends = FIRST.sort_values().iloc[[20, 119]]
    assert ax.get_xlabel() == (
        f"loss difference, percentile\n(kept: {ends.iloc[0]:.3g} to {ends.iloc[1]:.3g})"
    )
    assert ax.get_ylabel().startswith("irm, percentile")
    assert ax.get_title("right") == "in both bands by chance: 30%"


def test_marks_are_crosses_and_counted(ax):
    plots.band_plane(FIRST, SECOND, ax=ax, marks=WRONG)
    np.testing.assert_allclose(points(ax, "wrong labels"), expected(WRONG.index[WRONG]))
    kept = select.both(select.middle(FIRST, 0.2, 0.8), select.middle(SECOND, 0.2, 0.8))
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    share = f"kept {len(kept) / 200:.0%}: {len(kept)} pairs, {WRONG[kept].mean():.0%} wrong_labels"
    assert share in texts
    with pytest.raises(TypeError, match="expected a boolean Series"):
        plots.band_plane(FIRST, SECOND, ax=ax, marks=WRONG.astype(int))


def test_an_empty_intersection_is_drawn_and_pairs_without_a_score_are_not(ax):
    first = FIRST.copy()
    first["p000"] = np.nan
    plots.band_plane(first, first.rename("again"), (0.0, 0.2), (0.8, 1.0), ax)
    assert len(points(ax, "kept")) == 0 and len(points(ax, "dropped")) == 199
    assert "kept 0%: 0 pairs" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_impossible_input_is_refused(ax):
    with pytest.raises(TypeError, match="scores as a pandas Series indexed by pair id, got list"):
        plots.band_plane([1.0], SECOND, ax=ax)
    with pytest.raises(ValueError, match="low=0.8, high=0.2; expected shares"):
        plots.band_plane(FIRST, SECOND, (0.8, 0.2), ax=ax)
    with pytest.raises(ValueError, match="No pair has both scores"):
        plots.band_plane(FIRST, SECOND.rename(lambda id_: f"q{id_}"), ax=ax)


def test_without_ax_the_current_one_is_used_and_nothing_is_shown(ax, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("a plot function called plt.show()"))
    plt.sca(ax)
    assert plots.band_plane(FIRST, SECOND) is ax
