"""Agreement of scores and of selections."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import nbkit as nb


def test_rank_correlation_is_spearmans_over_the_shared_pairs():
    draw = np.random.default_rng(1)
    a = pd.Series(draw.normal(size=200), index=[f"p{i}" for i in range(200)])
    b = (a + draw.normal(size=200)).sample(frac=0.9, random_state=0)
    result = nb.rank_correlation(a, b)
    assert result.value == pytest.approx(stats.spearmanr(a[b.index], b).statistic)
    assert result.n == 180 and result.low < result.value < result.high
    assert nb.rank_correlation(a, -a).value == pytest.approx(-1)
    with pytest.raises(ValueError, match="share 0 pairs without NaN"):
        nb.rank_correlation(a, b.rename(index=lambda i: f"x{i}"))


def test_a_quick_correlation_has_no_interval_and_infinite_scores_rank_last():
    a = pd.Series([1.0, 2.0, np.inf, np.inf], index=list("abcd"))
    b = pd.Series([1.0, 2.0, 3.0, 3.0], index=list("abcd"))
    result = nb.rank_correlation(a, b, confidence=None)
    assert result.value == pytest.approx(1) and result.n == 4
    assert np.isnan([result.low, result.high]).all()


def test_set_agreement():
    assert nb.jaccard(["a", "b"], ["b", "c"]) == pytest.approx(1 / 3)
    assert nb.overlap(["a", "b"], ["b", "c", "d"]) == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="the first selection is empty"):
        nb.jaccard([], ["a"])


def test_what_has_no_ranks_is_refused_or_told():
    a = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("abcd"), name="loss")
    with pytest.warns(UserWarning, match="loss is the same for all 4 pairs") as said:
        result = nb.rank_correlation(a * 0, a)
    assert len(said) == 1 and np.isnan([*result]).all() and result.n == 4
    with pytest.raises(TypeError, match="loss of pair 'a' is '1.0'; expected numbers"):
        nb.rank_correlation(a, a.astype(str))
    with pytest.raises(TypeError, match="pandas Series indexed by pair id, got list"):
        nb.rank_correlation(a, [1, 2, 3, 4])
    with pytest.raises(ValueError, match="loss holds pair 'a' more than once"):
        nb.rank_correlation(pd.concat([a, a]), a)
    for confidence in (95, 0, 1, "0.9", float("nan")):
        with pytest.raises(ValueError, match="confidence=.*; expected a number between 0 and 1"):
            nb.rank_correlation(a, a, confidence=confidence)


def test_selections_are_lists_of_ids():
    for wrong in ("ab", 0.5, {"a": 1}, [0, 1], ["a", "a"]):
        with pytest.raises((TypeError, ValueError), match="^.?the second selection"):
            nb.overlap(["a"], wrong)
