"""Selections: order, ties, NaN, counts, and what is refused."""

import pandas as pd
import pytest
from datasets import Dataset

from nbkit import select

LOSS = pd.Series({"d": 0.3, "a": 0.9, "c": 0.1, "b": 0.3, "e": float("nan")})


def test_order_ties_and_nan():
    assert select.easiest(LOSS, 4) == ["c", "b", "d", "a"]  # b and d tie: by id; e is NaN
    assert select.hardest(LOSS, 4) == ["a", "b", "d", "c"]
    assert select.top(LOSS, 2) == ["a", "b"]
    assert select.easiest(LOSS.sample(frac=1, random_state=0), 4) == ["c", "b", "d", "a"]


def test_shares_count_the_scored_pairs():
    assert select.easiest(LOSS, 0.5) == ["c", "b"]
    assert select.easiest(LOSS, 1.0) == ["c", "b", "d", "a"]
    assert select.easiest(LOSS, 0.01) == ["c"]  # never empty


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        (0.0, ValueError, "keep=0.0; as a share .float. it must lie in .0, 1."),
        (1.5, ValueError, "keep=1.5; as a share"),
        (0, ValueError, "keep=0; as a count it must lie in 1..4"),
        (5, ValueError, "keep=5; as a count it must lie in 1..4"),
        ("half", TypeError, "keep='half'; expected a share"),
        (True, TypeError, "keep=True; expected a share"),
    ],
)
def test_impossible_keep_is_refused(keep, error, message):
    with pytest.raises(error, match=message):
        select.top(LOSS, keep)


def test_scores_must_be_a_series_of_distinct_ids():
    with pytest.raises(TypeError, match="got list"):
        select.easiest([0.1, 0.2], 1)
    with pytest.raises(ValueError, match="hold pair 'a' more than once"):
        select.easiest(pd.Series([1.0, 2.0], index=["a", "a"]), 1)


def test_random_control_has_the_size_and_depends_on_the_seed_only():
    ids = [f"p{i}" for i in range(100)]
    control = select.random_like(ids[:30], ids, seed=1)
    assert len(set(control)) == 30 and set(control) <= set(ids)
    assert control == select.random_like(ids[70:], ids[::-1], seed=1)
    assert control != select.random_like(ids[:30], ids, seed=2)
    pairs = Dataset.from_dict({"id": ids})
    assert control == select.random_like(ids[:30], pairs, seed=1)
    assert control == select.random_like(ids[:30], pd.Series(0.0, index=ids), seed=1)
    with pytest.raises(ValueError, match="Cannot draw 101 pairs from 100"):
        select.random_like(list(range(101)), ids)
