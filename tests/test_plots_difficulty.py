"""Figures of difficulty and of experiments: what is drawn is what was measured."""

import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from scipy import stats

from nbkit import plots


def trace_of(margins: dict, steps) -> pd.DataFrame:
    rows = [
        {"step": step, "id": pair_id, "chosen_logp": -1.0, "rejected_logp": -1.0, "margin": margin}
        for pair_id, values in margins.items()
        for step, margin in zip(steps, values, strict=True)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


# With the threshold of 0.4: late is learned after step 10, the two early ones after step 0, never
# not at all. The tie of the early ones goes to the higher mean margin, against the ids' order.
STEPS = [0, 10, 30]
MARGINS = {
    "a_never": [0.0, -1.0, -2.0],
    "b_late": [0.0, 0.2, 1.0],
    "c_early": [0.0, 0.5, 0.6],
    "d_early": [0.0, 0.9, 4.0],
}
TRACE = trace_of(MARGINS, STEPS)
RESULTS = pd.DataFrame(
    [
        ("before", 0, "examples", 0.48),
        ("before", 1, "examples", 0.52),
        ("full", 0, "examples", 0.60),
        ("full", 1, "examples", 0.64),
        ("easiest", 0, "examples", 0.70),
        ("easiest", 1, "examples", 0.68),
        ("random 50", 0, "examples", 0.55),
        ("random 50", 1, "examples", 0.61),
        ("hardest", 0, "examples", 0.41),
        ("hardest", 1, "examples", 0.45),
    ],
    columns=["selection", "seed", "budget", "win_rate"],
)
# 0.6 - (share - 0.7)^2: the mean of the two seeds is a parabola with its top at 70%
SHARES = [0.4, 0.6, 0.8, 1.0]
CURVE = pd.DataFrame(
    [(share, seed, 0.6 - (share - 0.7) ** 2 + off) for share in SHARES
     for seed, off in ((0, -0.02), (1, 0.02))],
    columns=["share", "seed", "win_rate"],
).sample(frac=1, random_state=1)  # fmt: skip
SCORES = pd.Series([0.9, 0.1, 0.5, 0.3], index=list("abcd"), name="validation_loss")

DRAWINGS = {  # test_plots.py tries them
    "learning_order": lambda ax: plots.learning_order(TRACE, ax),
    "comparison": lambda ax: plots.comparison(RESULTS, ax),
    "share_curve": lambda ax: plots.share_curve(CURVE, ax),
}


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Learning order ----------------------------------------------------------------------------------


def drawn_rows(ax):
    return np.asarray(ax.collections[0].get_array())


def test_rows_go_from_the_first_learned_to_the_never_learned(ax):
    plots.learning_order(TRACE, ax)
    order = ["d_early", "c_early", "b_late", "a_never"]
    np.testing.assert_allclose(drawn_rows(ax), [MARGINS[pair_id] for pair_id in order])
    assert ax.get_ylim() == (4, 0)  # row 0 is at the top
    assert [text.get_text() for text in ax.get_yticklabels()] == ["easiest", "hardest"]
    assert list(ax.get_yticks()) == [0.5, 3.5]
    assert ax.get_ylabel() == "4 pairs by learned step"
    assert ax.get_xlabel() == "training step (updates)"


def test_rows_follow_the_scores_that_came(ax):
    scores = pd.Series({"a_never": 0.1, "d_early": np.nan, "b_late": 0.0, "c_early": np.inf,
                        "unknown": -1.0}, name="validation_loss")  # fmt: skip
    plots.learning_order(TRACE, ax, scores=scores)
    order = ["b_late", "a_never", "c_early"]
    np.testing.assert_allclose(drawn_rows(ax), [MARGINS[pair_id] for pair_id in order])
    assert ax.get_ylabel() == "3 pairs by validation loss\n(1 without a score left out)"


def test_columns_stand_at_their_steps(ax):
    plots.learning_order(TRACE, ax)
    edges = ax.collections[0].get_coordinates()[0, :, 0]
    np.testing.assert_allclose(edges, [-5, 5, 20, 40])


def test_colours_are_centred_on_zero_and_robust(ax):
    margins = {f"p{number}": [0.0, 1.0] for number in range(200)} | {"wild": [0.0, -50.0]}
    mesh = plots.learning_order(trace_of(margins, [0, 1]), ax).collections[0]
    assert mesh.get_clim() == (-1, 1)  # one pair that ran away does not bleach the others
    assert to_hex(mesh.cmap(mesh.norm(1.0))) == plots.COLORS["chosen"]
    assert to_hex(mesh.cmap(mesh.norm(-1.0))) == plots.COLORS["rejected"]
    assert min(mesh.cmap(mesh.norm(0.0))[:3]) > 0.98
    assert mesh.colorbar.extend == "min"


def test_limit_and_colour_bar(ax):
    mesh = plots.learning_order(TRACE, ax, limit=2).collections[0]
    assert mesh.get_clim() == (-2, 2) and mesh.colorbar.extend == "max"
    assert mesh.colorbar.ax.get_ylabel() == "implicit margin (beta × nats)"
    flat = plots.learning_order(trace_of({"p": [0.0, 0.0]}, [0, 1]), ax).collections[1]
    assert flat.get_clim() == (-1, 1) and flat.colorbar.extend == "neither"


def test_hundreds_of_pairs_are_drawn_at_once(ax):
    draws = np.random.default_rng(0).normal(size=(600, 40)).cumsum(axis=1)
    trace = trace_of({f"p{row}": values for row, values in enumerate(draws)}, range(40))
    begun = time.perf_counter()
    plots.learning_order(trace, ax)
    ax.figure.canvas.draw()
    assert time.perf_counter() - begun < 3  # 0.1 s; the limit leaves room for a busy machine
    assert drawn_rows(ax).shape == (600, 40)


def test_learning_order_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match=r"\['margin'\] are missing for a training trace"):
        plots.learning_order(TRACE.drop(columns="margin"))
    with pytest.raises(ValueError, match="no rows"):
        plots.learning_order(TRACE.iloc[:0])
    with pytest.raises(ValueError, match="twice at step"):
        plots.learning_order(pd.concat([TRACE, TRACE]))
    with pytest.raises(ValueError, match="1 of 4 pairs have no margin .* .first: 'b_late'"):
        plots.learning_order(TRACE[(TRACE["id"] != "b_late") | (TRACE["step"] > 0)])
    with pytest.raises(ValueError, match="1 step; .* 2 or more"):
        plots.learning_order(TRACE[TRACE["step"] == 0])
    with pytest.raises(ValueError, match="limit=0; expected a number above 0"):
        plots.learning_order(TRACE, limit=0)
    with pytest.raises(TypeError, match="Series indexed by pair id, got list"):
        plots.learning_order(TRACE, scores=[1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"None of the 4 pairs .*such as 'c_early'.*\['a', 'b'"):
        plots.learning_order(TRACE, scores=SCORES)
    with pytest.raises(ValueError, match="holds pair 'a_never' more than once"):
        plots.learning_order(TRACE, scores=pd.Series([1.0, 2.0], index=["a_never"] * 2))
    assert plt.get_fignums() == []


# Comparison --------------------------------------------------------------------------------------


def t_interval(values):
    return stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))


def points(ax):
    """(x, y, low, high, colour, marker, face) of each mean, in drawing order."""
    found = []
    for container in ax.containers:
        line, _, (bar,) = container.lines
        ends = bar.get_segments()[0]  # empty without an interval
        low, high = ends[:, 0] if len(ends) else (None, None)
        face = to_hex(line.get_markerfacecolor())
        found.append((line.get_xdata()[0], line.get_ydata()[0], low, high,
                      to_hex(line.get_color()), line.get_marker(), face))  # fmt: skip
    return found


def test_comparison_draws_means_with_t_intervals_in_order_of_appearance(ax):
    plots.comparison(RESULTS, ax)
    names = ["before", "full", "easiest", "random 50", "hardest"]
    assert [text.get_text() for text in ax.get_yticklabels()] == names
    assert ax.yaxis_inverted()
    drawn = points(ax)
    assert [point[1] for point in drawn] == [0, 1, 2, 3, 4]
    for name, (x, _, low, high, *_) in zip(names, drawn, strict=True):
        values = RESULTS.loc[RESULTS["selection"] == name, "win_rate"]
        assert x == pytest.approx(values.mean())
        assert (low, high) == pytest.approx(t_interval(values))
    assert ax.get_xlabel() == (
        "win rate against the policy before training (a tie counts ½)\n"
        "mean of 2 seeds, 95% t-interval; faint: single seeds"
    )
    assert ax.get_legend() is None  # one budget needs none


def test_every_seed_is_a_dot_beside_its_row(ax):
    plots.comparison(RESULTS, ax)
    dots = [drawn.get_offsets() for drawn in ax.collections if len(drawn.get_offsets()) == 2
            and drawn.get_sizes().size]  # fmt: skip
    np.testing.assert_allclose([rows[:, 0] for rows in dots][2], [0.70, 0.68])
    for place, rows in enumerate(dots):
        assert (np.abs(rows[:, 1] - place) < 0.2).all()
    assert len(dots) == 5


def test_controls_are_grey_and_selections_coloured(ax):
    plots.comparison(RESULTS, ax)
    grey = to_hex("0.45")
    colors = [point[4] for point in points(ax)]
    assert [color == grey for color in colors] == [True, True, False, True, False]
    assert len(set(colors)) == 3


def test_many_selections_never_get_a_grey(ax):
    rows = [(f"s{number}", 0, number) for number in range(12)]
    plots.comparison(pd.DataFrame(rows, columns=["selection", "seed", "win_rate"]), ax)
    for point in points(ax):
        rgb = to_rgb(point[4])
        assert max(rgb) - min(rgb) > 0.1


def guides(ax):
    return [line.get_xdata()[0] for line in ax.lines
            if line.get_linestyle() == "--" and len(line.get_xdata()) == 2]  # fmt: skip


def test_the_guide_stands_at_the_mean_before(ax):
    plots.comparison(RESULTS, ax)
    assert guides(ax) == pytest.approx([0.50])
    ax.clear()
    plots.comparison(RESULTS[RESULTS["selection"] != "before"], ax)
    assert guides(ax) == []


def two_budgets():
    trained = ~RESULTS["selection"].isin(["before", "full"])
    updates = RESULTS.assign(budget="updates", win_rate=RESULTS["win_rate"] + 0.01 * trained)
    return pd.concat([RESULTS, updates])


def test_two_budgets_have_two_markers_side_by_side(ax):
    plots.comparison(two_budgets(), ax)
    drawn = points(ax)
    easiest = [point for point in drawn if round(point[1]) == 2]
    assert [point[5] for point in easiest] == ["o", "D"]
    assert [point[1] for point in easiest] == pytest.approx([1.85, 2.15])
    assert [point[0] for point in easiest] == pytest.approx([0.69, 0.70])
    assert easiest[0][6] != easiest[1][6] == "#ffffff"
    assert legend_texts(ax) == ["equal examples", "equal updates"]


@pytest.mark.parametrize("count, inches", [(2, 2.0), (10, 4.8)])
def test_the_legend_of_the_budgets_hides_no_point(ax, count, inches):
    ax.figure.set_figheight(inches)
    rows = [(f"s{number}", 0, budget, number + share) for number in range(count)
            for share, budget in enumerate(("examples", "updates"))]  # fmt: skip
    results = pd.DataFrame(rows, columns=["selection", "seed", "budget", "win_rate"])
    plots.comparison(results, ax)
    ax.figure.canvas.draw()
    box = ax.get_legend().get_frame().get_window_extent().transformed(ax.transData.inverted())
    lowest = max(point[1] for point in points(ax))
    assert min(box.y0, box.y1) > lowest + 0.1  # the dots of single seeds are 0.1 below


def test_runs_that_are_the_same_in_both_budgets_are_drawn_once(ax):
    plots.comparison(two_budgets(), ax)
    assert [point[1] for point in points(ax) if point[1] < 1.5] == [0, 1]
    assert len(points(ax)) == 2 + 3 * 2


def test_another_metric_without_budget_and_with_gaps(ax):
    lengths = RESULTS.drop(columns="budget").assign(length=range(10))
    lengths.loc[[0, 1, 9], "length"] = np.nan
    with pytest.warns(UserWarning, match="3 of 10 rows are left out: .*'row 0': no length"):
        plots.comparison(lengths, ax, metric="length", xlabel="tokens")
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["full", "easiest", "random 50", "hardest"]
    assert ax.get_xlabel() == "tokens\nmean of 1 to 2 seeds, 95% t-interval; faint: single seeds"
    x, _, low, high, *_ = points(ax)[-1]
    assert (x, low, high) == (8, None, None)  # one seed has no interval


def test_one_seed_has_no_interval(ax):
    plots.comparison(RESULTS[RESULTS["seed"] == 0], ax)
    assert ax.get_xlabel().endswith("one seed, no interval; faint: single seeds")


def test_comparison_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match=r"\['correct'\] are missing for results of an experiment"):
        plots.comparison(RESULTS, metric="correct")
    with pytest.raises(TypeError, match="Got a dict; expected results"):
        plots.comparison({})
    with pytest.raises(ValueError, match="no rows"):
        plots.comparison(RESULTS.iloc[:0])
    with pytest.raises(ValueError, match=r"'win_rate' holds no number \(10 rows came\)"):
        plots.comparison(RESULTS.assign(win_rate=np.nan))
    with pytest.raises(TypeError, match="'win_rate' of .* is .*; expected numbers"):
        plots.comparison(RESULTS.assign(win_rate="high"))
    with pytest.raises(ValueError, match="More than one row has .*'before'.*one for each seed"):
        plots.comparison(two_budgets().assign(budget="examples"))
    assert plt.get_fignums() == []


# Share curve -------------------------------------------------------------------------------------


def measured(ax):
    return [line for line in ax.lines if line.get_marker() == "o"]


def test_share_curve_draws_means_and_band(ax):
    plots.share_curve(CURVE, ax)
    (line,) = measured(ax)
    means = [0.6 - (share - 0.7) ** 2 for share in SHARES]
    np.testing.assert_allclose(line.get_xydata(), np.c_[SHARES, means])
    band = ax.collections[0].get_paths()[0].vertices
    low, high = t_interval([means[0] - 0.02, means[0] + 0.02])
    at_first = band[np.isclose(band[:, 0], 0.4), 1]
    assert (at_first.min(), at_first.max()) == pytest.approx((low, high))
    ax.figure.canvas.draw()
    assert "80%" in [text.get_text() for text in ax.get_xticklabels()]
    assert ax.get_xlabel() == "share of pairs kept" and "win rate" in ax.get_ylabel()


def test_the_parabola_and_its_top(ax):
    plots.share_curve(CURVE, ax)
    (dotted,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    x, y = dotted.get_data()
    np.testing.assert_allclose(y, 0.6 - (x - 0.7) ** 2, atol=1e-9)
    assert (x.min(), x.max()) == (0.4, 1.0)  # not beyond what was measured
    (star,) = [line for line in ax.lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((0.7, 0.6))
    assert legend_texts(ax) == ["mean of 2 seeds, 95% t-interval", "parabola, highest at 70%"]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: 0.5 + (x - 0.7) ** 2,
        lambda x: 0.5 - (x - 1.3) ** 2,
        lambda x: 0.4 + 1e-16 * (x == 0.6),
    ],
    ids=["opens upward", "highest beyond the range", "flat"],
)
def test_no_top_is_marked_where_there_is_none(ax, change):
    plots.share_curve(CURVE.assign(win_rate=change(CURVE["share"])), ax)
    assert not [line for line in ax.lines if line.get_marker() == "*"]
    assert legend_texts(ax)[1] == "parabola, no peak inside"


def test_no_parabola_when_unwanted_or_undetermined(ax):
    plots.share_curve(CURVE, ax, parabola=False)
    assert legend_texts(ax) == ["mean of 2 seeds, 95% t-interval"]
    ax.clear()
    plots.share_curve(CURVE[CURVE["share"] < 0.7], ax)
    assert legend_texts(ax) == ["mean of 2 seeds, 95% t-interval"]


def test_a_line_for_each_hue(ax):
    higher = CURVE.assign(policy="large", win_rate=CURVE["win_rate"] + 0.1)
    both = pd.concat([CURVE.assign(policy="small"), higher])
    plots.share_curve(both, ax, hue="policy", parabola=False)
    small, large = measured(ax)
    np.testing.assert_allclose(large.get_ydata() - small.get_ydata(), 0.1)
    assert small.get_color() != large.get_color()
    assert legend_texts(ax) == ["small", "large"]
    title = ax.get_legend().get_title().get_text()
    assert title == "policy (mean of 2 seeds, 95% t-interval)"


def test_share_curve_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="share=40.0; expected shares from 0 to 1, not per cent"):
        plots.share_curve(CURVE.assign(share=CURVE["share"] * 100).sort_values("share"))
    with pytest.raises(ValueError, match=r"\['policy'\] are missing"):
        plots.share_curve(CURVE, hue="policy")
    with pytest.raises(ValueError, match="More than one row has .*Draw one budget"):
        plots.share_curve(pd.concat([CURVE, CURVE]))
    assert plt.get_fignums() == []


# Kept and dropped --------------------------------------------------------------------------------


@pytest.fixture
def panels():
    figure, axes = plt.subplots(1, 2)
    yield axes
    plt.close(figure)


def counts(ax):
    """Heights of the kept and of the dropped part of all bars."""
    return [sum(bar.get_height() for bar in part) for part in ax.containers]


def test_kept_and_dropped_counts_pairs_and_marks_the_cut(ax):
    (drawn,) = plots.kept_and_dropped(SCORES, 0.5, ax)
    assert drawn is ax and counts(ax) == [2, 2]
    assert legend_texts(ax) == ["kept 50%: 2 pairs", "dropped 50%: 2 pairs", "cut at 0.3"]
    assert guides(ax) == [0.3]  # the hardest that is kept
    kept, dropped = ax.containers
    tall = [bar.get_x() for bar in kept if bar.get_height()]
    assert max(tall) <= 0.3
    assert [bar.get_x() for bar in kept] == [bar.get_x() for bar in dropped]
    assert [bar.get_y() for bar in dropped] == [bar.get_height() for bar in kept]  # stacked
    assert kept[0].get_facecolor() != dropped[0].get_facecolor()
    assert ax.get_xlabel() == "validation loss (lower is easier)" and ax.get_ylabel() == "pairs"


def test_the_share_of_marked_pairs_is_told(ax):
    flipped = pd.Series({"a": True, "b": False, "c": True, "d": True, "e": False}, name="flipped")
    plots.kept_and_dropped(SCORES, 0.5, ax, marks=flipped)
    assert legend_texts(ax)[:2] == ["kept 50%: 2 pairs, 50% flipped",
                                    "dropped 50%: 2 pairs, 100% flipped"]  # fmt: skip


def test_infinite_scores_are_counted_and_missing_ones_left_out(ax):
    scores = pd.Series([0.0, 5.0, np.inf, np.inf, np.nan], index=list("abcde"), name="learned_step")
    plots.kept_and_dropped(scores, 0.5, ax)
    assert legend_texts(ax) == ["kept 50%: 2 pairs", "dropped 50%: 2 pairs, 2 infinite", "cut at 5"]
    assert counts(ax) == [2, 0]
    ax.clear()
    plots.kept_and_dropped(scores, 1, ax)  # a share, although an int: all four
    assert legend_texts(ax) == ["kept 100%: 4 pairs, 2 infinite", "dropped 0%: 0 pairs"]
    assert guides(ax) == []


def ring(ax):
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines
            if line.get_fillstyle() == "none"]  # fmt: skip


def test_the_share_is_marked_on_the_curve(panels):
    drawn = plots.kept_and_dropped(SCORES, 0.6, panels, curve=CURVE)
    assert list(drawn) == list(panels)
    right = panels[1]
    assert ring(right) == [pytest.approx((0.6, 0.59))]
    assert legend_texts(right)[-1] == "at 60%: 0.590"
    assert guides(right) == [0.6]


def test_between_measured_shares_the_mark_is_on_the_line(panels):
    plots.kept_and_dropped(SCORES, 0.5, panels, curve=CURVE)
    assert ring(panels[1]) == [pytest.approx((0.5, (0.51 + 0.59) / 2))]
    assert legend_texts(panels[1])[-1] == "at 50%: 0.550, between measured shares"


def test_beyond_the_measured_shares_no_height_is_invented(panels):
    plots.kept_and_dropped(SCORES, 0.25, panels, curve=CURVE)
    assert ring(panels[1]) == []
    assert legend_texts(panels[1])[-1] == "at 25%: not measured"


@pytest.mark.parametrize("curve, count", [(None, 1), (CURVE, 2)])
def test_without_axes_a_figure_is_made(curve, count):
    axes = plots.kept_and_dropped(SCORES, 0.5, curve=curve)
    assert len(axes) == count == len(axes[0].figure.axes)
    plt.close(axes[0].figure)


def test_kept_and_dropped_refuses_what_it_cannot_draw(panels):
    with pytest.raises(TypeError, match="Series indexed by pair id, got list"):
        plots.kept_and_dropped([0.1], 0.5)
    with pytest.raises(TypeError, match="validation_loss of pair 'a' is '0.9'; expected numbers"):
        plots.kept_and_dropped(SCORES.astype(str), 0.5)
    with pytest.raises(ValueError, match=r"no finite number \(4 values came\)"):
        plots.kept_and_dropped(SCORES * np.nan, 0.5)
    for share in (0, -0.1, 50, True, np.nan, "half"):
        with pytest.raises(ValueError, match=f"share={share!r}; expected a share"):
            plots.kept_and_dropped(SCORES, share)
    with pytest.raises(TypeError, match="marks is float64; expected a boolean Series"):
        plots.kept_and_dropped(SCORES, 0.5, marks=SCORES)
    with pytest.raises(TypeError, match="marks is list"):
        plots.kept_and_dropped(SCORES, 0.5, marks=[True] * 4)
    with pytest.raises(ValueError, match=r"no value for 3 of 4 scored pairs: \['b', 'c', 'd'\]"):
        plots.kept_and_dropped(SCORES, 0.5, marks=pd.Series([True], index=["a"]))
    with pytest.raises(ValueError, match="Got 1 Axes; a curve needs two"):
        plots.kept_and_dropped(SCORES, 0.5, panels[0], curve=CURVE)
    with pytest.raises(ValueError, match="Got 2 Axes; without a curve one"):
        plots.kept_and_dropped(SCORES, 0.5, panels)
    with pytest.raises(ValueError, match=r"\['seed'\] are missing"):
        plots.kept_and_dropped(SCORES, 0.5, curve=CURVE.drop(columns="seed"))
    with pytest.raises(ValueError, match="share=40.0; expected shares from 0 to 1"):
        plots.kept_and_dropped(SCORES, 0.5, curve=CURVE.assign(share=40.0 + CURVE["share"] * 0)
                               .drop_duplicates("seed"))  # fmt: skip
    assert plt.get_fignums() == [panels[0].figure.number]
