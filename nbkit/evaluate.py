"""Judging a policy: win rates of its samples, and how it ranks held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from nbkit.estimates import Estimate, check_confidence, mean_interval
from nbkit.inputs import as_number, as_pairs, as_policy, as_prompts
from nbkit.judges import rewards
from nbkit.logprobs.table import response_logprobs
from nbkit.models.policy import Policy
from nbkit.sampling import sample
from nbkit.scores.margins import dpo_loss, implicit_margin


def win_rate(
    policy: Policy,
    baseline: Policy | list[str],
    prompts,
    judge: Callable[[object, str], float],
    *,
    temperature: float = 0.7,
    top_p: float = 1.0,
    max_new_tokens: int | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    progress: bool = True,
) -> Estimate:
    """How often a policy's sampled response beats the baseline's, prompt by prompt.

    Args:
        policy: the policy under test.
        baseline: another policy (it samples with `seed + 1`), or fixed responses, one a prompt.
        prompts: as for `nbkit.sample`.
        judge: `judge(prompt, response)` -> reward; higher is better. Called once a response.
        temperature, top_p, max_new_tokens, seed: see `nbkit.sample`.
        confidence: of the bootstrap interval (over prompts, percentile).

    Returns:
        Estimate: share of prompts on which the policy's response has the higher reward; ties count
        one half. The interval is over resampled prompts (the luck of the prompts and of the
        sampling; not that of another training run). `.table` has one row a prompt: `prompt,
        response, baseline_response, reward, baseline_reward`.

    Raises:
        ValueError: no prompts, a wrong number of baseline responses, what `nbkit.sample` refuses,
            or a reward that is no finite number.
    """
    policy, prompts = as_policy(policy), as_prompts(prompts)
    check_confidence(confidence)
    if not callable(judge):
        raise TypeError(f"judge={judge!r:.60}; expected a function (prompt, response) -> reward.")
    if isinstance(baseline, Iterable) and not isinstance(baseline, (str, tuple)):
        baseline = list(baseline)
        if len(baseline) != len(prompts):
            raise ValueError(f"Got {len(baseline)} baseline responses to {len(prompts)} prompts.")
    else:
        baseline = as_policy(baseline, "baseline")
    how = dict(
        temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, progress=progress
    )
    responses = sample(policy, prompts, seed=seed, **how)
    if isinstance(baseline, Policy):
        baseline = sample(baseline, prompts, seed=seed + 1, **how)
    table = pd.DataFrame(
        dict(
            prompt=prompts,
            response=responses,
            baseline_response=baseline,
            reward=rewards(judge, prompts, responses),
            baseline_reward=rewards(judge, prompts, baseline),
        )
    )
    won = mean_interval(wins(table.reward, table.baseline_reward), confidence)
    template = f"win rate {{:.3f}} over {len(table):,} prompts"
    return replace(won, unit="prompts", template=template, table=table)


def wins(rewards, baseline_rewards) -> np.ndarray:
    """1 where the reward is higher than the baseline's, 0 where lower, one half on a tie."""
    return (np.sign(np.asarray(rewards, float) - np.asarray(baseline_rewards, float)) + 1) / 2


def preference_accuracy(
    policy: Policy,
    reference: Policy | pd.DataFrame,
    pairs,
    *,
    beta: float = 0.1,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How a policy ranks held-out pairs.

    Args:
        policy: the policy under test.
        reference: the reference policy, or its log-prob table over `pairs`.
        pairs: held-out pairs.
        beta: the DPO temperature.

    Returns:
        DataFrame with rows `accuracy` (share of pairs with implicit margin > 0; zero counts one
        half), `margin` (mean, beta included) and `loss` (mean DPO loss, nats), columns `value,
        low, high` (bootstrap over pairs). `.attrs["left_out"]`: pairs too long for the policy.
    """
    policy, pairs = as_policy(policy), as_pairs(pairs)
    beta = as_number(beta, "beta", above=0)
    check_confidence(confidence)
    if not isinstance(reference, pd.DataFrame):
        reference = as_policy(reference, "reference")
    logps = response_logprobs(policy, pairs)
    if isinstance(reference, Policy):
        told = logps.attrs["left_out"]  # said already
        rest = [row for row, id_ in enumerate(pairs["id"]) if id_ not in told]
        reference = response_logprobs(reference, pairs.select(rest))
    margin = implicit_margin(logps, reference, beta)
    rows = {
        "accuracy": wins(margin, np.zeros(len(margin))),
        "margin": margin,
        "loss": dpo_loss(logps, reference, beta),
    }
    intervals = {name: [*mean_interval(values, confidence)] for name, values in rows.items()}
    table = pd.DataFrame.from_dict(intervals, orient="index", columns=["value", "low", "high"])
    table.attrs["left_out"] = logps.attrs["left_out"]
    return table
