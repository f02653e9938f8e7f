"""Selections: order, ties, NaN, counts, and what is refused."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from nbkit import scores, select
from nbkit.select.series import as_scores

LOSS = pd.Series({"d": 0.3, "a": 0.9, "c": 0.1, "b": 0.3, "e": float("nan")})


def test_order_ties_and_nan():
    assert select.easiest(LOSS, 4) == ["c", "b", "d", "a"]  # b and d tie: by id; e is NaN
    assert select.hardest(LOSS, 4) == ["a", "b", "d", "c"]
    assert select.top(LOSS, 2) == ["a", "b"]
    assert select.easiest(LOSS.sample(frac=1, random_state=0), 4) == ["c", "b", "d", "a"]


def test_the_namespace_holds_selections_alone():
    assert dir(select) == sorted(select.__all__)
    assert all(
        getattr(select, name).__module__.startswith("nbkit.select.") for name in select.__all__
    )


def test_shares_count_the_scored_pairs():
    assert select.easiest(LOSS, 0.5) == ["c", "b"]
    assert select.easiest(LOSS, 1.0) == ["c", "b", "d", "a"]
    assert select.easiest(LOSS, 0.01) == ["c"]  # never empty


@pytest.mark.parametrize(
    ("share", "error", "message"),
    [
        (0.0, ValueError, "share=0.0; as a fraction .float. it must lie in .0, 1."),
        (1.5, ValueError, "share=1.5; as a fraction"),
        (0, ValueError, "share=0; as a count it must lie in 1..4"),
        (5, ValueError, "share=5; as a count it must lie in 1..4"),
        ("half", TypeError, "share='half'; expected a fraction"),
        (True, TypeError, "share=True; expected a fraction"),
    ],
)
def test_impossible_share_is_refused(share, error, message):
    with pytest.raises(error, match=message):
        select.top(LOSS, share)


def test_scores_must_be_a_series_of_distinct_ids():
    with pytest.raises(TypeError, match="got list"):
        select.easiest([0.1, 0.2], 1)
    with pytest.raises(ValueError, match="holds pair 'a' more than once"):
        select.easiest(pd.Series([1.0, 2.0], index=["a", "a"]), 1)


SELECTORS = {
    "easiest": lambda s: select.easiest(s, 1.0),
    "hardest": lambda s: select.hardest(s, 1.0),
    "top": lambda s: select.top(s, 1.0),
    "middle": lambda s: select.middle(s, 0, 1),
    "central": lambda s: select.central(s, share=1.0),
    "ties": lambda s: select.easiest(LOSS, 1.0, ties=s),
    "random": lambda s: select.random(["a"], s),
    "random_matched": lambda s: select.random_matched(["a"], s),
    "truncated": lambda s: scores.truncated(s, 0, 1),
    "alignment_potential": lambda s: scores.alignment_potential(s, LOSS),
    "bees": lambda s: scores.bees(LOSS, s),
}
TIMES = pd.to_datetime(["2024-01-01", "2024-01-02", "2023-01-01"])


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize(
    "values",
    [
        ["10", "9", "2"],
        [1.0, "9", 2.0],
        [1 + 1j, 2, 3],
        TIMES,
        TIMES - TIMES[0],
        [[1], [2], [3]],
        pd.Categorical(["x", "y", "z"]),
        [10**400, 1, 2],
    ],
    ids=["text", "mixed", "complex", "dates", "times", "lists", "category", "beyond float"],
)
def test_scores_that_are_no_numbers_are_refused_by_the_first_id(selector, values):
    values = pd.Series(values, list("abc"), name="loss")
    name = "ties|lengths|loss"
    with pytest.raises(TypeError, match=f"^({name}) of pair '[ab]' is .*; expected numbers"):
        SELECTORS[selector](values)


@pytest.mark.parametrize("selector", SELECTORS)
def test_what_is_no_series_by_text_id_is_refused(selector):
    for wrong in (LOSS.to_frame(), LOSS.to_numpy(), LOSS.to_dict(), 0.5):
        if selector != "random":  # which draws from tables, too
            with pytest.raises(TypeError, match="as a pandas Series indexed by pair id, got "):
                SELECTORS[selector](wrong)
    with pytest.raises(ValueError, match="holds pair 'a' more than once; expected each once"):
        SELECTORS[selector](pd.Series([1.0, 2.0, 3.0], index=list("aba")))
    if selector in ("alignment_potential", "bees"):  # scores, which take rows of any name
        return
    for ids in ([0, 1, 2], ["a", 1, "c"], ["a", None, "c"], [("a", 1), ("b", 1), ("c", 1)]):
        with pytest.raises(ValueError, match="ids are text, got .*Index it by `pairs"):
            SELECTORS[selector](pd.Series([1.0, 2.0, 3.0], index=ids))


@pytest.mark.parametrize(
    "values",
    [
        pd.array([3, 1, None, 2], "Int64"),
        pd.array([3.0, 1.0, None, 2.0], "Float64"),
        pd.array([3, 1, None, 2], "float32[pyarrow]"),
        np.array([3, 1, np.nan, 2], "float16"),
        pd.Series([3, np.float32(1), None, 2.0], dtype=object),
    ],
    ids=str,
)
def test_numbers_of_any_kind_are_scores(values):
    series = pd.Series(np.asarray(values, object), list("abcd")).astype(values.dtype)
    assert select.easiest(series, 1.0) == ["b", "d", "a"]
    assert as_scores(series).dtype == float
    assert select.top(pd.Series([False, True, True], list("abc")), 2) == ["b", "c"]
    assert select.easiest(series.set_axis(pd.CategoricalIndex(list("dcba"))), 1) == ["c"]


def test_a_share_may_be_of_any_real_kind():
    for half in (np.float32(0.5), np.float64(0.5), Fraction(1, 2)):
        assert select.easiest(LOSS, half) == ["c", "b"]
    assert select.easiest(LOSS, 1.0) == ["c", "b", "d", "a"] and select.easiest(LOSS, 1) == ["c"]
    for no_number in (np.True_, "0.5", None, [0.5], 0.5 + 0j):
        with pytest.raises(TypeError, match="share=.*expected a fraction such as 0.5 or a count"):
            select.easiest(LOSS, no_number)
    for outside in (float("nan"), float("inf"), 5.0, -1, np.float32(1.5)):
        with pytest.raises(ValueError, match="share=.*it must lie in"):
            select.easiest(LOSS, outside)


def test_infinite_scores_are_ranked_and_nan_is_not():
    steps = pd.Series([np.inf, 1.0, -np.inf, np.nan], list("abcd"))
    assert select.easiest(steps, 1.0) == ["c", "b", "a"] and select.top(steps, 1) == ["a"]


def test_selections_are_lists_of_ids():
    for wrong in ("ab", 0.5, {"a": 1}, LOSS.to_frame(), [0, 1], ["a", "a"], []):
        with pytest.raises((TypeError, ValueError), match="^.?selection"):
            select.both(wrong, ["a"])
        with pytest.raises((TypeError, ValueError), match="^.?selection"):
            select.random_matched(wrong, LOSS)
    for wrong in ("ab", 0.5, None):
        with pytest.raises(TypeError, match="selection=.*expected a list of pair ids"):
            select.random(wrong, LOSS)


def test_a_control_is_drawn_from_pairs_in_any_form():
    ids = [f"p{i}" for i in range(30)]
    wanted = select.random(ids[:9], ids, seed=np.int64(1))
    pairs = Dataset.from_dict({"id": ids, "prompt": ["?"] * 30})
    assert wanted == select.random(ids[:9], pairs.to_pandas(), seed=1)
    table = pd.DataFrame({"chosen_logp": 0.0, "rejected_logp": 0.0}, index=ids)
    assert wanted == select.random(ids[:9], table, seed=1)
    short = table.drop(index=ids[:20])  # 20 were too long to be scored
    assert set(select.random(ids[:9], short)) <= set(ids[20:])
    for wrong in ([*ids, ids[0]], {"id": ids}, "p0", range(30), 30):
        with pytest.raises((TypeError, ValueError), match="^.?pairs"):
            select.random(ids[:9], wrong)
    for seed in (None, 1.5, "1", -1):
        with pytest.raises((TypeError, ValueError), match="seed=.*whole number, 0 or more"):
            select.random(ids[:9], ids, seed=seed)


@pytest.mark.parametrize("bins", [0, -1, 2.5, None, True])
def test_bins_are_a_count(bins):
    with pytest.raises((TypeError, ValueError), match="bins=.*; expected a whole number, 1 or"):
        select.random_matched(["a"], LOSS, bins=bins)


def test_random_control_has_the_size_and_depends_on_the_seed_only():
    ids = [f"p{i}" for i in range(100)]
    control = select.random(ids[:30], ids, seed=1)
    assert len(set(control)) == 30 and set(control) <= set(ids)
    assert control == select.random(ids[70:], ids[::-1], seed=1)
    assert control != select.random(ids[:30], ids, seed=2)
    pairs = Dataset.from_dict({"id": ids})
    assert control == select.random(ids[:30], pairs, seed=1)
    assert control == select.random(ids[:30], pd.Series(0.0, index=ids), seed=1)
    with pytest.raises(ValueError, match="Cannot draw 101 pairs from 100"):
        select.random(list(range(101)), ids)


def test_middle_is_a_band_of_percentiles():
    scores = pd.Series(range(10), index=list("jihgfedcba"), dtype=float)
    scores["x"] = float("nan")
    assert select.middle(scores, 0.2, 0.8) == list("hgfedc")
    assert select.middle(scores, 0, 0.1) == ["j"] and select.middle(scores, 0.9, 1) == ["a"]
    assert select.middle(scores, 0, 1) == select.easiest(scores, 1.0)
    thirds = [select.middle(scores, k / 3, (k + 1) / 3) for k in range(3)]
    assert sorted(sum(thirds, [])) == list("abcdefghij")  # bands that touch share no pair
    bands = [(0.5, 0.5), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.1), (20, 80), ("0", 1), (0, True)]
    for low, high in bands:
        with pytest.raises(ValueError, match="expected shares, 0 <= low < high <= 1"):
            select.middle(scores, low, high)
    with pytest.raises(ValueError, match="No pair lies between 1% and 2% of 10 pairs"):
        select.middle(scores, 0.01, 0.02)


def test_central_is_the_intersection_of_bands_as_wide_as_it_takes():
    draw = np.random.default_rng(0)
    ids = [f"p{number:02}" for number in range(40)]
    a = pd.Series(draw.standard_t(2, 40), ids, name="score")
    b = pd.Series(a + draw.normal(0, 2, 40), ids, name="score")  # a name may come twice
    assert sorted(select.central(a, share=0.5)) == sorted(select.middle(a, 0.25, 0.75))
    tied = a * 0.0  # ties by id, as in `middle`
    assert sorted(select.central(tied, share=0.5)) == select.middle(tied, 0.25, 0.75)
    for cut in (4, 8, 12):  # pairs off each end of both
        bands = [select.middle(scores, cut / 40, 1 - cut / 40) for scores in (a, b)]
        wanted = select.both(*bands)
        shuffled = b.sample(frac=1, random_state=1)
        assert sorted(select.central(a, shuffled, share=len(wanted))) == sorted(wanted)
    assert len(select.central(a, b, share=0.3)) == 12
    assert select.central(a, share=40)[-2:] == sorted([a.idxmin(), a.idxmax()])  # the furthest


def test_central_needs_all_scores_of_a_pair():
    a = pd.Series([1.0, 2.0, 3.0, 4.0, np.nan], list("abcde"))
    assert sorted(select.central(a, a.drop("a"), share=1.0)) == list("bcd")
    with pytest.raises(ValueError, match="one score or more, got none"):
        select.central(share=0.5)
    with pytest.raises(TypeError, match="Expected scores as a pandas Series"):
        select.central(a, [1.0], share=0.5)
    with pytest.raises(ValueError, match="share=5; as a count it must lie in 1..4"):
        select.central(a, share=5)


@pytest.mark.parametrize("share", [0.5, 3])
def test_scores_without_a_pair_are_refused(share):
    with pytest.raises(ValueError, match="no pair in common"):
        select.central(LOSS, LOSS.rename("{}-2".format), share=share)
    with pytest.raises(ValueError, match="every score is NaN"):
        select.easiest(LOSS * np.nan, share)


def test_both_keeps_the_order_of_the_first():
    assert select.both(list("cabd"), list("dxbc")) == list("cbd")
    assert select.both(list("cabd"), list("dxbc"), list("dc")) == list("cd")
    with pytest.raises(ValueError, match="No pair is in all of the selections .of 1, 2 pairs"):
        select.both(["a"], ["b", "c"])
    with pytest.raises(ValueError, match="two selections or more, got 1"):
        select.both(["a"])


def test_matched_control_has_the_lengths_of_the_selection():
    lengths = pd.Series(range(200), index=[f"p{i:03d}" for i in range(200)])
    selection = lengths.index[lengths % 200 > 150].tolist() + ["p000", "p001"]
    control = select.random_matched(selection, lengths, seed=1)
    assert len(set(control)) == len(selection) and set(control) != set(selection)
    by_bin = [(lengths[ids] // 20).value_counts().to_dict() for ids in (selection, control)]
    assert by_bin[0] == by_bin[1]
    assert control == select.random_matched(selection, lengths.sample(frac=1), seed=1)
    assert control != select.random_matched(selection, lengths, seed=2)
    free = select.random(selection, lengths, seed=1)
    assert lengths[free].mean() < 130 < 160 < lengths[control].mean()


def test_matched_control_is_in_random_order():
    """Trained on in its order it must not be a curriculum by length."""
    lengths = pd.Series(range(100), index=[f"p{i:03d}" for i in range(100)])
    control = lengths[select.random_matched(lengths.index.tolist(), lengths)]
    assert abs(control.reset_index(drop=True).corr(pd.Series(range(100)))) < 0.4


def test_matched_control_when_lengths_tie_or_lack():
    same = pd.Series(7, index=list("abcdef"))
    assert len(set(select.random_matched(["a", "b"], same))) == 2
    with pytest.raises(ValueError, match="1 of the 2 selected pairs have no length .first: 'z'"):
        select.random_matched(["a", "z"], same)
    with pytest.raises(ValueError, match="first: 'a'"):
        select.random_matched(["a"], same.astype(float).replace(7, float("nan")))


def test_a_control_is_drawn_from_scored_pairs_and_counts_may_be_numpys():
    scores = pd.Series([1.0, float("nan"), 2.0, 3.0], index=list("abcd"))
    assert all("b" not in select.random(range(3), scores, seed) for seed in range(9))
    assert select.easiest(scores, np.int64(2)) == ["a", "c"]


def test_another_score_breaks_ties_in_the_same_direction():
    never = pd.Series([float("inf")] * 3 + [5.0], index=list("abcd"))
    margin = pd.Series([3.0, 1.0, 2.0, 9.0, 0.0], index=list("abcdx"))
    assert select.easiest(never, 4) == list("dabc")
    assert select.easiest(never, 4, ties=margin) == list("dbca")
    assert select.hardest(never, 2, ties=margin) == list("ac")
    assert select.top(never, 4, ties=margin) == list("acbd")
    assert select.easiest(never, 4, ties=margin * 0) == list("dabc")  # then by id
    with pytest.raises(ValueError, match="ties lacks 1 of the scored pairs .first: 'c'"):
        select.easiest(never, 2, ties=margin.drop("c"))
    with pytest.raises(TypeError, match="got list"):
        select.easiest(never, 2, ties=[1, 2])
