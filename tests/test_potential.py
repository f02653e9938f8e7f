"""Alignment potential and BeeS against re-computations, and where they could fail silently."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest

import nbkit as nb
from nbkit import world
from nbkit.scores.potential import alignment_potential, bees


@pytest.fixture
def margins():
    draw = np.random.default_rng(0)
    ids = [f"p{i}" for i in range(1000)]
    explicit = pd.Series(draw.normal(1, 2, 1000), index=ids, name="explicit_margin")
    implicit = pd.Series(draw.standard_t(4, 1000), index=ids, name="implicit_margin")
    return explicit, implicit


def z(values):
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    return [(value - mean) / deviation for value in values]


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 2.5])
def test_the_released_rule_and_the_papers_gap(margins, weight):
    explicit, implicit = margins
    shuffled = implicit.sample(frac=1, random_state=1)  # aligned by id
    sizes = [abs(x) for x in explicit], [abs(implicit[i]) for i in explicit.index]
    gap = [e - weight * m for e, m in zip(*sizes)]
    rule = [e - weight * m for e, m in zip(z(explicit), z(sizes[1]))]  # signed, against a size
    result = alignment_potential(explicit, shuffled, weight)
    assert result.to_numpy() == pytest.approx(rule)
    assert result.index.equals(explicit.index) and result.name == "alignment_potential"
    raw = alignment_potential(explicit, shuffled, weight, standardize=False)
    assert raw.to_numpy() == pytest.approx(gap)


def test_under_z_scores_units_cancel(margins):
    explicit, implicit = margins
    one = alignment_potential(explicit, implicit)
    other = alignment_potential(3 * explicit, 0.01 * implicit)
    assert one.to_numpy() == pytest.approx(other.to_numpy())
    raw = [alignment_potential(explicit, m, standardize=False) for m in (implicit, 0.01 * implicit)]
    assert nb.rank_correlation(*raw).value < 0.99


def test_the_sign_of_the_implicit_margin_does_not_matter(margins):
    explicit, implicit = margins
    turned = alignment_potential(explicit, -implicit)
    assert turned.equals(alignment_potential(explicit, implicit))


def test_a_label_that_the_judge_contradicts_has_a_gap_but_no_rank_in_the_released_rule():
    explicit = pd.Series({"right": 1.0, "weak": 0.2, "contradicted": -3.0})
    implicit = pd.Series({"right": 0.5, "weak": 0.4, "contradicted": 0.45})
    assert nb.select.top(alignment_potential(explicit, implicit), 3)[-1] == "contradicted"
    gap = alignment_potential(explicit, implicit, standardize=False)
    assert nb.select.top(gap, 1) == ["contradicted"]


def test_at_policy_equal_to_reference_it_falls_back_to_the_judge_and_says_so():
    policy, pairs = nb.load_policy("world/small", device="cpu"), world.pairs(40, seed=1)
    table = nb.response_logprobs(policy, pairs, progress=False)
    explicit = nb.scores.explicit_margin(pairs)
    with pytest.warns(UserWarning, match="implicit margin is the same .* explicit margin al"):
        score = alignment_potential(explicit, nb.scores.implicit_margin(table, table))
    assert score.notna().all()
    assert nb.select.top(score, 0.4) == nb.select.top(explicit, 0.4)
    again = nb.response_logprobs(policy, pairs, path="padded", budget=200, progress=False)
    noise = nb.scores.implicit_margin(again, table)
    assert 0 < noise.abs().max() < 1e-4  # rounding is no margin
    with pytest.warns(UserWarning, match="is the same for every pair"):
        assert alignment_potential(explicit, noise).equals(score)
    with pytest.raises(ValueError, match="no weight to choose"):
        nb.scores.residual_weight(explicit, noise)
    gap = alignment_potential(explicit, nb.scores.implicit_margin(table, table), standardize=False)
    assert gap.to_numpy() == pytest.approx(explicit.abs().to_numpy())


def test_a_margin_that_is_constant_but_for_rounding_is_constant(margins):
    explicit, _ = margins
    constant = pd.Series(0.1, index=explicit.index) + 1e-17 * explicit
    with pytest.warns(UserWarning, match="is the same for every pair"):
        assert alignment_potential(explicit, constant).notna().all()


def test_one_pair_or_missing_margins(margins):
    explicit, implicit = margins
    implicit = implicit.copy()
    implicit["p3"] = math.nan
    score = alignment_potential(explicit, implicit)
    assert score.isna().sum() == 1 and np.isnan(score["p3"])
    rest = alignment_potential(explicit, implicit).drop("p3")
    known = z([abs(x) for i, x in implicit.items() if i != "p3"])
    expected = np.array(z(explicit))[explicit.index != "p3"] - known
    assert rest.to_numpy() == pytest.approx(expected)


@pytest.mark.parametrize("score", [alignment_potential, bees])
def test_margins_are_put_together_on_the_pairs_that_both_hold(margins, score):
    """One pair was too long for the policy, say: it has an explicit margin only."""
    explicit, implicit = margins
    with pytest.warns(UserWarning, match="1 of 1000 pairs are left out: .*'p7': only in expl") as w:
        result = score(explicit, implicit.drop("p7"))
    assert len(w) == 1 and w[0].filename == __file__
    assert result.equals(score(explicit.drop("p7"), implicit.drop("p7")))
    assert result.attrs["left_out"] == {"p7": "only in explicit_margin"}
    with pytest.warns(UserWarning, match="3 of 1000 pairs are left out: 2 .* only in explicit_mar"):
        result = score(explicit.drop("p0"), implicit.drop(["p7", "p8"]))
    assert list(result.index) == [i for i in explicit.index if i not in ("p0", "p7", "p8")]
    with pytest.raises(ValueError, match="explicit_margin .1000 pairs. .* no pair in common"):
        score(explicit, implicit.rename("{}-2".format))


@pytest.mark.parametrize("score", [alignment_potential, bees, nb.scores.residual_weight])
@pytest.mark.parametrize("side", [0, 1])
def test_an_infinite_margin_or_one_that_is_no_number_is_named(margins, score, side):
    for value in (math.inf, -math.inf):
        bad = list(margins)
        bad[side] = bad[side].where(bad[side].index != "p3", value)
        with pytest.raises(ValueError, match=f"{bad[side].name} of pair 'p3' is {value}; .*finite"):
            score(*bad)
    bad[side] = margins[side].astype(str)
    with pytest.raises(TypeError, match=f"{bad[side].name} of pair 'p0' is '.*; expected numbers"):
        score(*bad)
    bad[side] = margins[side].to_frame()
    with pytest.raises(TypeError, match="got DataFrame. Take one of its columns"):
        score(*bad)


@pytest.mark.parametrize("score", [alignment_potential, bees])
def test_an_id_twice_is_refused(margins, score):
    explicit, implicit = margins
    with pytest.raises(ValueError, match="implicit_margin holds pair 'p0' more than once"):
        score(explicit, pd.concat([implicit, implicit.iloc[:1]]))
    with pytest.raises(ValueError, match="explicit_margin holds pair 'p0' more than once"):
        score(pd.concat([explicit, explicit.iloc[:1]]), implicit)


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "1", True])
def test_bad_weights(margins, weight):
    with pytest.raises((TypeError, ValueError), match="weight=.*; expected a number, 0 or more"):
        alignment_potential(*margins, weight)


@pytest.mark.parametrize("limits", [(0, math.inf), (math.nan, 1), ("0", 1), 3, (1, 2, 3)])
def test_bad_ranges(margins, limits):
    with pytest.raises((TypeError, ValueError), match="implicit_range=.*; expected "):
        bees(*margins, implicit_range=limits)


def test_bees_is_two_witnesses(margins):
    explicit, implicit = margins
    result = bees(explicit, implicit, explicit_range=(-1, 3), implicit_range=(-2, 2))
    for id_ in explicit.index[:200]:
        p1 = (min(max(explicit[id_], -1), 3) + 1) / 4
        p2 = (min(max(implicit[id_], -2), 2) + 2) / 4
        both, neither = p1 * p2, (1 - p1) * (1 - p2)
        expected = both / (both + neither) if both + neither else 0.5
        assert result[id_] == pytest.approx(expected)
    assert result.between(0, 1).all() and result.name == "bees"


def test_bees_by_default_clips_at_percentiles(margins):
    explicit, implicit = margins
    limits = [tuple(np.percentile(margin, [1, 99])) for margin in margins]
    by_hand = bees(explicit, implicit, explicit_range=limits[0], implicit_range=limits[1])
    assert bees(explicit, implicit).to_numpy() == pytest.approx(by_hand.to_numpy())


def test_bees_contradiction_and_gaps():
    explicit = pd.Series({"a": 9.0, "b": 9.0, "c": 0.0}, name="explicit_margin")
    implicit = pd.Series({"a": -9.0, "b": 9.0, "c": math.nan}, name="implicit_margin")
    result = bees(explicit, implicit, explicit_range=(-1, 1), implicit_range=(-1, 1))
    assert result["a"] == 0.5 and result["b"] == 1 and np.isnan(result["c"])
    with pytest.raises(ValueError, match=r"implicit_range: got \[2, 1\]; expected L < U"):
        bees(explicit, implicit, explicit_range=(-1, 1), implicit_range=(2, 1))
    with pytest.raises(ValueError, match="explicit_range: .*all margins alike"):
        bees(explicit * 0, implicit)


def test_potential_and_bees_disagree_on_the_implicit_margin(margins):
    explicit, implicit = margins
    sure = implicit.abs()
    assert nb.rank_correlation(alignment_potential(explicit.abs(), sure), sure).value < -0.3
    assert nb.rank_correlation(bees(explicit.abs(), sure), sure).value > 0.3


def test_at_the_residual_weight_the_potential_is_uncorrelated_with_the_implicit_margin(margins):
    explicit, noise = margins[0].abs(), margins[1]
    implicit = (explicit * 0.7 + noise.abs()).rename("implicit_margin")
    weight = nb.scores.residual_weight(explicit, implicit.sample(frac=1, random_state=0))
    sizes = [abs(x) for x in explicit], [abs(x) for x in implicit]
    assert weight == pytest.approx(statistics.linear_regression(*map(z, sizes[::-1])).slope)
    potential = alignment_potential(explicit, implicit, weight)
    assert potential.corr(implicit.abs()) == pytest.approx(0, abs=1e-9)
    assert abs(alignment_potential(explicit, implicit, 1.0).corr(implicit.abs())) > 0.1


def test_the_residual_weight_is_never_negative_and_needs_margins_that_vary(margins):
    explicit = margins[0].abs()
    against = (10 - explicit.abs()).rename("implicit_margin")
    assert nb.scores.residual_weight(explicit, against) == 0
    with pytest.raises(ValueError, match="is the same for every pair .* no weight to choose"):
        nb.scores.residual_weight(explicit, 0 * against)
    with pytest.warns(UserWarning, match="1 of 1000 pairs are left out"):
        assert nb.scores.residual_weight(explicit, against.drop("p3")) == 0
