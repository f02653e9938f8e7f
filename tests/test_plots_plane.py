"""The plane of two margins: what is kept is alignment potential's selection, and the lines have
the slope of the weight."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from nbkit import plots, scores, select

DRAW = np.random.default_rng(0)
IDS = [f"p{number}" for number in range(200)]
EXPLICIT = pd.Series(DRAW.normal(0.5, 2, 200), IDS)
IMPLICIT = pd.Series(DRAW.standard_t(4, 200), IDS)
SHUFFLED = IMPLICIT.sample(frac=1, random_state=0)
WRONG = pd.Series(DRAW.random(200) < 0.3, IDS, name="wrong_labels")


def z(values):
    return (values - values.mean()) / values.std(ddof=0)


def points(ax, label):
    """Drawn points, sorted, of the series whose label begins so."""
    found = [c for c in ax.collections if c.get_label().startswith(label)]
    assert len(found) == 1
    return np.array(sorted(found[0].get_offsets().tolist()))


def expected(ids):
    return np.array(sorted(zip(z(IMPLICIT.abs())[ids], z(EXPLICIT)[ids])))


@pytest.mark.parametrize("weight", [0.0, 1.0, 4.0])
def test_kept_pairs_are_the_selection_of_alignment_potential(ax, weight):
    assert plots.margin_plane(EXPLICIT, SHUFFLED, weight, 0.3, ax) is ax
    kept = select.top(scores.alignment_potential(EXPLICIT, IMPLICIT, weight), 0.3)
    np.testing.assert_allclose(points(ax, "kept"), expected(kept))
    np.testing.assert_allclose(points(ax, "dropped"), expected([i for i in IDS if i not in kept]))
    assert "30%: 60 pairs" in ax.get_legend().get_texts()[1].get_text()


def segments(ax):
    """Each line of equal potential: its points [n, 2]."""
    lines = [c for c in ax.collections if hasattr(c, "levels")]
    paths = [path.vertices for line in lines for path in line.get_paths() if len(path.vertices)]
    return lines, paths


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.5])
def test_lines_turn_with_the_weight_and_the_cut_is_the_last_kept_pair(ax, weight):
    plots.margin_plane(EXPLICIT, IMPLICIT, weight, ax=ax)
    lines, paths = segments(ax)
    for path in paths:
        y = path[:, 1] - weight * path[:, 0]
        pieces = np.abs(y - y.round()) < 1e-6
        cut = scores.alignment_potential(EXPLICIT, IMPLICIT, weight).nlargest(80).min()
        assert (pieces | (np.abs(y - cut) < 1e-6)).all()
    assert list(lines[-1].levels) == [pytest.approx(cut)]
    assert f"w = {weight:g}: cut at M_AP = {cut:.2f}" in ax.get_legend_handles_labels()[1]


def test_marks_are_crosses_and_counted(ax):
    plots.margin_plane(EXPLICIT, IMPLICIT, 1.0, 0.5, ax, WRONG)
    np.testing.assert_allclose(points(ax, "wrong labels"), expected(WRONG.index[WRONG]))
    kept = select.top(scores.alignment_potential(EXPLICIT, IMPLICIT), 0.5)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"kept 50%: 100 pairs, {WRONG[kept].mean():.0%} wrong_labels" in texts
    with pytest.raises(TypeError, match="expected a boolean Series"):
        plots.margin_plane(EXPLICIT, IMPLICIT, ax=ax, marks=WRONG.astype(int))


def test_pairs_outside_are_counted_and_those_without_a_margin_are_not_there(ax):
    explicit, implicit = EXPLICIT.copy(), IMPLICIT.copy()
    explicit["p0"], implicit["p1"] = np.nan, 1000.0
    plots.margin_plane(explicit, implicit, ax=ax)
    drawn = len(points(ax, "kept")) + len(points(ax, "dropped"))
    assert drawn == 199
    right, high = ax.get_xlim()[1], ax.get_ylim()[1]
    left, low = ax.get_xlim()[0], ax.get_ylim()[0]
    x, y = np.concatenate([points(ax, "kept"), points(ax, "dropped")]).T
    out = ((x > right) | (x < left) | (y > high) | (y < low)).sum()
    assert out >= 1 and f"({out} pairs lie outside)" in ax.get_xlabel()


def test_a_policy_that_is_its_own_reference_warns_and_is_drawn(ax):
    with pytest.warns(UserWarning, match="The implicit margin") as said:
        plots.margin_plane(EXPLICIT, IMPLICIT * 0.0, 1.0, 0.4, ax)
    assert len(said) == 1
    assert (points(ax, "kept")[:, 0] == 0).all()
    kept = select.top(EXPLICIT, 0.4)
    np.testing.assert_allclose(points(ax, "kept")[:, 1], sorted(z(EXPLICIT)[kept]))


def test_without_ax_the_current_one_is_used_and_nothing_is_shown(ax, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("a plot function called plt.show()"))
    plt.sca(ax)
    assert plots.margin_plane(EXPLICIT, IMPLICIT) is ax
