"""Margins and losses of log-prob tables, against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import tiny
from datasets import Dataset

import nbkit as nb
from nbkit import scores, select


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


@pytest.mark.parametrize("beta", [0, -1, float("nan"), float("inf"), "0.1", True, None])
def test_beta_is_positive(beta):
    for call in (scores.implicit_margin, scores.dpo_loss, scores.irm):
        with pytest.raises((TypeError, ValueError), match="beta=.*; expected a number above 0"):
            call(POLICY, REFERENCE, beta=beta)
    with pytest.raises((TypeError, ValueError), match="beta=.*; expected a number above 0"):
        scores.length_normalized_margin(POLICY, beta=beta)


def test_a_beta_that_overflows_is_refused():
    with pytest.raises(ValueError, match=r"beta=1e\+308 makes margins infinite"):
        scores.dpo_loss(POLICY, REFERENCE, beta=1e308)


def hashed(logps, **changed):
    numbers = {id_: 2**47 + ord(id_) for id_ in logps.index} | changed
    return logps.assign(tokens_hash=pd.Series(numbers))


def test_tables_of_other_tokens_under_the_same_ids_are_refused():
    """A stale reference table: other texts of the same lengths, or a template with another date."""
    plain = scores.implicit_margin(POLICY, REFERENCE)
    assert scores.implicit_margin(hashed(POLICY), hashed(REFERENCE)).equals(plain)
    assert scores.implicit_margin(POLICY, hashed(REFERENCE)).equals(plain)
    with pytest.raises(ValueError, match="other tokens under the ids of 1 pairs .first: 'c'"):
        scores.dpo_loss(hashed(POLICY), hashed(REFERENCE, c=2**47))
    stale = hashed(POLICY, a=1, b=2, c=3)
    with pytest.raises(ValueError, match="3 pairs .first: 'a'"):
        scores.loss_difference(hashed(POLICY), stale, hashed(REFERENCE))
    mixed = pd.concat([hashed(REFERENCE).drop(index="a"), REFERENCE.loc[["a"]]])  # an old row
    assert scores.implicit_margin(hashed(POLICY), mixed).equals(plain)


def test_the_refusal_of_other_pairs_says_what_to_write():
    with pytest.raises(ValueError, match="first: 'b'.*index.intersection") as error:
        scores.implicit_margin(POLICY, REFERENCE.drop(index="b"))
    assert len(str(error.value)) < 400
    ids = POLICY.index.intersection(REFERENCE.drop(index="b").index)
    assert len(scores.implicit_margin(POLICY.loc[ids], REFERENCE.loc[ids])) == 2


@pytest.mark.parametrize("tokens", [0, -1])
def test_a_response_without_tokens_is_refused(tokens):
    empty = POLICY.assign(rejected_tokens=[4, tokens, 1])
    with pytest.raises(ValueError, match=f"rejected_tokens of pair 'b' is {tokens}: a response wi"):
        scores.length_normalized_margin(empty)
    with pytest.raises(ValueError, match=f"rejected_tokens of pair 'b' is {tokens}"):
        scores.perplexity(empty, "rejected")


SCORES_OF_TABLES = {
    "implicit_margin": lambda t: scores.implicit_margin(t, REFERENCE),
    "dpo_loss": lambda t: scores.dpo_loss(POLICY, t),
    "loss_difference": lambda t: scores.loss_difference(POLICY, t, REFERENCE),
    "irm": lambda t: scores.irm(t, REFERENCE),
    "length_normalized_margin": scores.length_normalized_margin,
    "perplexity": scores.perplexity,
    "response_length": scores.response_length,
}


@pytest.mark.parametrize("score", SCORES_OF_TABLES)
def test_what_is_no_table_is_refused_in_one_sentence(score):
    score = SCORES_OF_TABLES[score]
    texts = Dataset.from_dict({"id": ["a"], "prompt": ["?"], "chosen": ["x"], "rejected": ["y"]})
    for wrong in (texts, texts.to_pandas(), POLICY["chosen_logp"], None, POLICY.to_dict()):
        with pytest.raises(TypeError, match="expected a log-prob table .nb.response_logprobs. wi"):
            score(wrong)
    with pytest.raises(TypeError, match="chosen_logp of pair 'a' is '-10.0'; expected numbers"):
        score(POLICY.assign(chosen_logp=POLICY.chosen_logp.astype(str)))
    with pytest.raises(ValueError, match="rejected_logp of pair 'b' is -inf; expected a finite"):
        score(POLICY.assign(rejected_logp=[-1, -np.inf, -1]))
    with pytest.raises(ValueError, match="holds pair 'a' more than once"):
        score(pd.concat([POLICY, POLICY.iloc[:1]]))


def test_tables_made_by_hand_may_count_their_rows():
    both = (POLICY, REFERENCE.loc[POLICY.index])
    policy, reference = (table.reset_index(drop=True) for table in both)
    for by_number, by_id in (
        (scores.dpo_loss(policy, reference), scores.dpo_loss(POLICY, REFERENCE)),
        (scores.length_normalized_margin(policy), scores.length_normalized_margin(POLICY)),
    ):
        assert by_number.tolist() == by_id.tolist() and by_number.index.tolist() == [0, 1, 2]


def test_a_nan_in_a_table_gives_a_nan_that_is_never_selected():
    gap = POLICY.assign(chosen_logp=[np.nan, -30.0, -1.0])
    for score in (scores.dpo_loss(gap, REFERENCE), scores.length_normalized_margin(gap)):
        assert score.isna().tolist() == [True, False, False]
        assert "a" not in select.easiest(score, 1.0)


def test_scores_of_explicit_margins_are_checked():
    rows = dict(id=["a", "b"], chosen_score=[2.0, 1.5], rejected_score=[0.5, 1.5])
    texts = dict(prompt=["?", "?"], chosen=["x", "y"], rejected=["u", "v"])
    as_list = [dict(zip(rows | texts, row)) for row in zip(*(rows | texts).values())]
    assert scores.explicit_margin(as_list).to_dict() == {"a": 1.5, "b": 0.0}
    gap = scores.explicit_margin(Dataset.from_dict(rows | dict(chosen_score=[None, 1.5])))
    assert np.isnan(gap["a"]) and gap["b"] == 0
    for value, error in (("10", TypeError), (math.inf, ValueError), (10**400, TypeError)):
        bad = pd.DataFrame(rows).assign(rejected_score=pd.Series([0.5, value], dtype=object))
        with pytest.raises(error, match="rejected_score of pair 'b' is "):
            scores.explicit_margin(bad)
    with pytest.raises(ValueError, match="chosen_score holds pair 'a' more than once"):
        scores.explicit_margin(pd.DataFrame(rows | dict(id=["a", "a"])))
    with pytest.raises(TypeError, match="expected preference pairs, got a float"):
        scores.explicit_margin(0.5)


def test_a_stale_table_and_a_pair_that_was_left_out():
    """As they come about: other texts under the same ids, and a pair too long for the policy."""
    policy = tiny.policy()
    longer = ["the dog " * (n + 1) for n in range(6)]
    rows = dict(id=[f"p{n}" for n in range(6)], prompt=["what is it ?"] * 6, chosen=longer)
    pairs = Dataset.from_dict(rows | dict(rejected=["no ."] * 6))
    table = nb.response_logprobs(policy, pairs, progress=False)
    turned = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    asked = pairs.map(lambda row: {"prompt": "who is it ?"})  # with as many tokens
    for others in (turned, asked):
        other = nb.response_logprobs(policy, others, progress=False)
        with pytest.raises(ValueError, match="differs between the tables|scored other tokens"):
            scores.implicit_margin(table, other)
    limit = int(table.chosen_tokens.max()) + 2
    explicit = pd.Series(np.arange(6.0), pairs["id"][:], name="explicit_margin")
    with pytest.warns(UserWarning, match="of 6 pairs are left out"):
        short = nb.response_logprobs(policy, pairs, max_length=limit, progress=False)
    left_out = short.attrs["left_out"]
    assert 0 < len(left_out) < 6
    with pytest.warns(UserWarning, match=f"{len(left_out)} of 6 pairs .*: only in explicit_margin"):
        potential = scores.alignment_potential(explicit, scores.length_normalized_margin(short))
    assert set(potential.attrs["left_out"]) == set(left_out)
    assert set(select.random(potential.index, short)) == set(potential.index)
