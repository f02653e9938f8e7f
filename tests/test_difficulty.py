"""Difficulty read off a training trace and off responses: against loops written out."""

import math

import numpy as np
import pandas as pd
import pytest

import nbkit as nb
from nbkit import scores, world


def trace_of(margins: dict[str, list[float]], steps=(0, 10, 20, 30)) -> pd.DataFrame:
    rows = [
        dict(step=step, id=id_, margin=m)
        for id_, values in margins.items()
        for step, m in zip(steps, values, strict=True)
    ]
    return pd.DataFrame(rows)


def learned_by_loop(steps, margins, threshold):
    """The definition, read aloud: the smallest t0 with m_t > threshold for all later t."""
    for t0 in steps:
        later = [m for t, m in zip(steps, margins) if t > t0]
        if later and all(m > threshold for m in later):
            return t0
    return math.inf


def test_learned_step_on_the_cases_that_differ():
    trace = trace_of(
        {
            "z_early": [0.0, 0.5, 0.6, 0.7],
            "forgotten": [0.0, 0.5, 0.1, 0.5],
            "late": [0.0, 0.1, 0.3, 0.5],
            "lost": [0.0, 0.5, 0.6, 0.3],
            "never": [0.0, -1.0, -2.0, -3.0],
            "at": [0.0, 0.5, 0.4, 0.5],  # equal is not above
            "from_the_start": [1.0, 1.0, 1.0, 1.0],
        }
    )
    expected = [0, 20, 20, math.inf, math.inf, 20, 0]
    result = scores.learned_step(trace)
    assert result.name == "learned_step" and result.tolist() == expected
    assert result.index.tolist() == trace.id.unique().tolist()  # in the order of the pairs
    assert scores.learned_step(trace.sample(frac=1, random_state=0))[result.index].equals(result)
    assert scores.learned_step(trace, threshold=0.05)["forgotten"] == 0


def test_learned_step_is_its_definition_on_random_walks():
    draw = np.random.default_rng(0)
    steps = [0, 1, 2, 5, 9, 30]
    walks = {f"p{i}": draw.normal(0.2, 0.5, 6).cumsum() for i in range(300)}
    result = scores.learned_step(trace_of(walks, steps), threshold=0.3)
    assert result.tolist() == [learned_by_loop(steps, walk, 0.3) for walk in walks.values()]
    assert result.isin([0.0, math.inf]).mean() < 0.9


def test_pairs_never_learned_rank_last():
    result = scores.learned_step(trace_of({"never": [0, 0, 0, 0], "late": [0, 0, 0, 1]}))
    assert nb.select.easiest(result, 2) == ["late", "never"]


def test_data_map_is_mean_and_deviation_of_the_probability():
    trace = trace_of({"b": [0.0, 1.0, 3.0, -1.0], "a": [0.0, 0.0, 0.0, 0.0]})
    p = [1 / (1 + math.exp(-m)) for m in (0, 1, 3, -1)]
    mean = sum(p) / 4
    deviation = math.sqrt(sum((x - mean) ** 2 for x in p) / 4)
    assert scores.confidence(trace).to_dict() == pytest.approx({"b": mean, "a": 0.5})
    assert scores.variability(trace).to_dict() == pytest.approx({"b": deviation, "a": 0})
    assert (scores.confidence(trace).name, scores.variability(trace).name) == (
        "confidence", "variability",
    )  # fmt: skip


@pytest.mark.parametrize("score", [scores.learned_step, scores.confidence, scores.variability])
def test_traces_that_cannot_be_read_are_refused(score):
    trace = trace_of({"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]})
    with pytest.raises(ValueError, match="'margin'. are missing"):
        score(trace.drop(columns="margin"))
    with pytest.raises(ValueError, match="pair 'b' twice at step 20"):
        score(pd.concat([trace, trace.iloc[[6]]]))
    with pytest.raises(ValueError, match="1 of 2 pairs have no margin .* 'b' at step 10"):
        score(trace.drop(index=5))
    with pytest.raises(ValueError, match="no margin at some step .first: 'a' at step 0"):
        score(trace.assign(margin=[math.nan, *trace.margin[1:]]))
    with pytest.raises(ValueError, match="The trace is empty"):
        score(trace.iloc[:0])


def test_perplexity_and_length_come_from_the_table():
    policy, pairs = nb.load_policy("world/small", device="cpu"), world.pairs(6, seed=3)
    table = nb.response_logprobs(policy, pairs, progress=False)
    tokens = nb.token_logprobs(policy, pairs)
    for side in ("chosen", "rejected"):
        by_hand = np.exp(-tokens[tokens.side == side].groupby("id").logp.mean())
        result = scores.perplexity(table, side)
        assert result.to_dict() == pytest.approx(by_hand.to_dict(), rel=1e-4)
        counted = tokens[tokens.side == side].groupby("id").size()
        assert scores.response_length(table, side).to_dict() == counted.to_dict()
    assert scores.perplexity(table).equals(scores.perplexity(table, "chosen"))
    for score in (scores.perplexity, scores.response_length):
        with pytest.raises(ValueError, match="side='both'; expected 'chosen' or 'rejected'"):
            score(table, "both")


def test_unknown_scores_are_named():
    with pytest.raises(AttributeError, match="hardness"):
        _ = scores.hardness
    assert set(scores.__all__) <= set(dir(scores))


@pytest.mark.parametrize("score", [scores.learned_step, scores.confidence, scores.variability])
def test_what_is_no_trace_is_refused(score):
    trace = trace_of({"a": [0.0, 0.5, 0.6, 0.7], "b": [0.0, 0.1, 0.2, 0.3]})
    for wrong in (trace["margin"], None, trace.to_dict("records")):
        with pytest.raises(TypeError, match="Expected a training trace, got (Series|None|list)"):
            score(wrong)
    with pytest.raises(ValueError, match="The margin of pair 'a' is infinite"):
        score(trace.assign(margin=trace.margin.where(trace.id != "a", math.inf)))
    with pytest.raises(TypeError, match="The trace's margin is (str|object); expected numbers"):
        score(trace.assign(margin=trace.margin.astype(str)))
    with pytest.raises(TypeError, match="The trace's step is (str|object); expected numbers"):
        score(trace.assign(step=trace.step.astype(str)))


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), "0.4", None, True])
def test_the_threshold_is_a_number(threshold):
    trace = trace_of({"a": [0.0, 0.5, 0.6, 0.7]})
    with pytest.raises((TypeError, ValueError), match="threshold=.*; expected a number"):
        scores.learned_step(trace, threshold)
