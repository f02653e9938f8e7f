"""Margins and losses of log-prob tables, against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from nbkit import scores


def table(rows):
    columns = ["chosen_logp", "rejected_logp", "chosen_tokens", "rejected_tokens"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("id")


POLICY = table({"a": (-10.0, -12.0, 5, 4), "b": (-30.0, -8.0, 10, 2), "c": (-1.0, -1.0, 1, 1)})
REFERENCE = table({"b": (-20.0, -8.5, 10, 2), "c": (-1.0, -1.0, 1, 1), "a": (-11.0, -9.0, 5, 4)})


def test_by_hand():
    margin = scores.implicit_margin(POLICY, REFERENCE, beta=0.5)
    # a: (-10 + 11) - (-12 + 9) = 1 + 3 = 4; b: -10 - 0.5 = -10.5; c: 0; times beta
    assert margin.to_dict() == {"a": 2.0, "b": -5.25, "c": 0.0}
    assert margin.name == "implicit_margin"
    loss = scores.dpo_loss(POLICY, REFERENCE, beta=0.5)
    assert loss.name == "dpo_loss"
    assert loss["a"] == pytest.approx(-math.log(1 / (1 + math.exp(-2.0))))
    assert loss["c"] == pytest.approx(math.log(2))
    ratios = scores.log_ratios(POLICY, REFERENCE)
    assert ratios.loc["a"].to_dict() == {"chosen": 1.0, "rejected": -3.0}
    normalized = scores.length_normalized_margin(POLICY, beta=2.0)
    assert normalized.to_dict() == {"a": 2.0, "b": 2.0, "c": 0.0}
    assert normalized.name == "length_normalized_margin"


def test_loss_is_finite_at_extreme_margins():
    far = POLICY.assign(chosen_logp=[1e6, -1e6, 0.0])
    loss = scores.dpo_loss(far, REFERENCE, beta=1.0)
    assert np.isfinite(loss).all()
    assert loss["a"] == pytest.approx(0.0)
    assert loss["b"] == pytest.approx(1e6, rel=1e-3)


def test_explicit_margin_of_pairs_in_any_table():
    rows = dict(id=["a", "b"], chosen_score=[2.0, 1.5], rejected_score=[0.5, 1.5])
    for pairs in (Dataset.from_dict(rows), pd.DataFrame(rows)):
        margin = scores.explicit_margin(pairs)
        assert margin.to_dict() == {"a": 1.5, "b": 0.0}
        assert margin.name == "explicit_margin"
    with pytest.raises(KeyError, match="no chosen_score and rejected_score .columns: id, prompt."):
        scores.explicit_margin(pd.DataFrame(dict(id=["a"], prompt=["?"])))


def test_tables_of_other_pairs_or_other_tokens_are_refused():
    with pytest.raises(ValueError, match="1 of the policy's 3 pairs are not in the reference"):
        scores.implicit_margin(POLICY, REFERENCE.drop(index="b"))
    with pytest.raises(ValueError, match="1 of the reference's 3 are not in the policy's"):
        scores.dpo_loss(POLICY.drop(index="c"), REFERENCE)
    with pytest.raises(ValueError, match="The reference table holds pair 'b' more than once"):
        scores.dpo_loss(POLICY, pd.concat([REFERENCE, REFERENCE.loc[["b"]]]))
    with pytest.raises(ValueError, match="The policy's table holds pair 'b' more than once"):
        scores.irm(pd.concat([POLICY, POLICY.loc[["b"]]]), REFERENCE)
    recounted = REFERENCE.assign(rejected_tokens=REFERENCE.rejected_tokens + 1)
    with pytest.raises(ValueError, match="rejected_tokens differs .* 3 pairs .first: 'a'"):
        scores.implicit_margin(POLICY, recounted)


@pytest.mark.parametrize("beta", [0, -1, float("nan")])
def test_beta_is_positive(beta):
    with pytest.raises(ValueError, match="expected a number above 0"):
        scores.implicit_margin(POLICY, REFERENCE, beta=beta)
    with pytest.raises(ValueError, match="expected a number above 0"):
        scores.length_normalized_margin(POLICY, beta=beta)
