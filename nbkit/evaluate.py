"""Judging a policy: win rates of its samples, and how it ranks held-out pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from nbkit.estimates import Estimate, check_confidence, mean_interval
from nbkit.inputs import Prompts, as_number, as_pairs, as_policy, as_prompts
from nbkit.judges import Judge, rewards
from nbkit.logprobs.fitting import tokenize
from nbkit.logprobs.rows import rows_of_tokens
from nbkit.logprobs.table import logprob_table, response_logprobs
from nbkit.models.policy import Policy
from nbkit.pairs.sources import Pairs
from nbkit.sampling import TEMPERATURE, TOP_P, sample
from nbkit.scores.margins import dpo_loss, implicit_margin


def win_rate(
    policy: Policy,
    baseline: Policy | list[str],
    prompts: Prompts,
    judge: Judge,
    *,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
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
        progress: show progress bars.

    Returns:
        Estimate: share of prompts on which the policy's response has the higher reward; ties count
        one half. The interval is over resampled prompts (the luck of the prompts and of the
        sampling; not that of another training run). `.table` has one row a prompt: `prompt,
        response, baseline_response, reward, baseline_reward`.

    Raises:
        ValueError: no prompts, a wrong number of baseline responses, what `nbkit.sample` refuses,
            or a reward that is no finite number.

    Example:
        >>> import nbkit as nb
        >>> policy, prompts = nb.load_policy("world/small"), nb.world.prompts(4)
        >>> how = dict(temperature=0, max_new_tokens=4, progress=False)
        >>> nb.win_rate(policy, policy, prompts, nb.world.reward, **how).value  # all are ties
        0.5
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
    how: dict[str, Any] = dict(
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


def wins(rewards: Any, baseline_rewards: Any) -> np.ndarray:
    """1 where the reward is higher than the baseline's, 0 where lower, one half on a tie.

    Args:
        rewards, baseline_rewards: [prompts], of responses to the same prompts.

    Example:
        >>> import nbkit as nb
        >>> nb.wins([2.0, 1.0, 0.0], [1.0, 1.0, 1.0]).tolist()
        [1.0, 0.5, 0.0]
    """
    return (np.sign(np.asarray(rewards, float) - np.asarray(baseline_rewards, float)) + 1) / 2


def preference_accuracy(
    policy: Policy,
    reference: Policy | pd.DataFrame,
    pairs: Pairs,
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
        confidence: of the bootstrap intervals (over pairs, percentile).

    Returns:
        DataFrame with rows `accuracy` (share of pairs with implicit margin > 0; zero counts one
        half), `margin` (mean, beta included) and `loss` (mean DPO loss, nats), columns `value,
        low, high` (bootstrap over pairs). `.attrs["left_out"]`: pairs too long for the policy.

    Raises:
        TypeError, ValueError: no pairs, no policy, or a reference table that lacks pairs or was
            made of other tokens. Found before anything is scored.

    Example:
        >>> import nbkit as nb
        >>> policy, other = nb.load_policy("world/small"), nb.load_policy("world/medium")
        >>> nb.preference_accuracy(other, policy, nb.world.pairs(8)).index.tolist()
        ['accuracy', 'margin', 'loss']
    """
    policy, pairs = as_policy(policy), as_pairs(pairs)
    beta = as_number(beta, "beta", above=0)
    check_confidence(confidence)
    if not isinstance(reference, pd.DataFrame):
        reference = as_policy(reference, "reference")
    token_pairs, left_out = tokenize(policy, pairs, None)
    if isinstance(reference, pd.DataFrame):
        table = rows_of_tokens(reference, token_pairs)
    else:
        rest = [row for row, id_ in enumerate(pairs["id"]) if id_ not in left_out]  # said already
        table = response_logprobs(reference, pairs.select(rest))
    logps = logprob_table(policy, token_pairs)
    margin = implicit_margin(logps, table, beta)
    rows: dict[str, Any] = {
        "accuracy": wins(margin, np.zeros(len(margin))),
        "margin": margin,
        "loss": dpo_loss(logps, table, beta),
    }
    intervals = {name: [*mean_interval(values, confidence)] for name, values in rows.items()}
    found = pd.DataFrame.from_dict(intervals, orient="index", columns=["value", "low", "high"])
    found.attrs["left_out"] = left_out
    return found
