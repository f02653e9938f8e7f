"""Judging a policy, and comparing scores and selections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from nbkit.logprobs import response_logprobs
from nbkit.models import Policy
from nbkit.sampling import prompt_list, sample
from nbkit.scores import dpo_loss, implicit_margin

RESAMPLES = 2_000  # of a bootstrap


@dataclass(frozen=True)
class WinRate:
    """A win rate with its bootstrap interval.

    Attributes:
        value: share of prompts on which the policy's response has the higher reward; ties count
            one half.
        low, high: interval at `confidence`, over resampled prompts (the luck of the prompts and
            of the sampling; not that of another training run).
        confidence: e.g. 0.95.
        table: one row a prompt: `prompt, response, baseline_response, reward, baseline_reward`.
    """

    value: float
    low: float
    high: float
    confidence: float
    table: pd.DataFrame = field(repr=False)

    def __str__(self):
        return (
            f"win rate {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] "
            f"over {len(self.table):,} prompts"
        )

    __repr__ = __str__


def win_rate(
    policy: Policy,
    baseline: Policy | list[str],
    prompts,
    judge: Callable[[object, str], float],
    *,
    temperature: float = 0.7,
    top_p: float = 1.0,
    max_new_tokens: int = 128,
    seed: int = 0,
    confidence: float = 0.95,
    progress: bool = True,
) -> WinRate:
    """How often a policy's sampled response beats the baseline's, prompt by prompt.

    Args:
        policy: the policy under test.
        baseline: another policy (it samples with `seed + 1`), or fixed responses, one a prompt.
        prompts: list, or Dataset or DataFrame with a `prompt` column.
        judge: `judge(prompt, response)` -> reward; higher is better. Called once a response.
        temperature, top_p, max_new_tokens, seed: see `nbkit.sample`.
        confidence: of the bootstrap interval (over prompts, percentile).

    Returns:
        WinRate.

    Raises:
        ValueError: no prompts, a wrong number of baseline responses, or a reward that is no
            finite number.
    """
    prompts = prompt_list(prompts)
    how = dict(
        temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, progress=progress
    )
    responses = sample(policy, prompts, seed=seed, **how)
    if isinstance(baseline, Policy):
        baseline = sample(baseline, prompts, seed=seed + 1, **how)
    if len(baseline) != len(prompts):
        raise ValueError(f"Got {len(baseline)} baseline responses to {len(prompts)} prompts.")
    table = pd.DataFrame(
        dict(
            prompt=prompts,
            response=responses,
            baseline_response=list(baseline),
            reward=_rewards(judge, prompts, responses),
            baseline_reward=_rewards(judge, prompts, baseline),
        )
    )
    value, low, high = mean_interval(wins(table.reward, table.baseline_reward), confidence)
    return WinRate(value, low, high, confidence, table)


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
        low, high` (bootstrap over pairs).
    """
    logps = response_logprobs(policy, pairs)
    if isinstance(reference, Policy):
        reference = response_logprobs(reference, pairs)
    margin = implicit_margin(logps, reference, beta)
    rows = {
        "accuracy": wins(margin, np.zeros(len(margin))),
        "margin": margin,
        "loss": dpo_loss(logps, reference, beta),
    }
    intervals = {name: mean_interval(values, confidence) for name, values in rows.items()}
    return pd.DataFrame.from_dict(intervals, orient="index", columns=["value", "low", "high"])


def rank_correlation(a: pd.Series, b: pd.Series, confidence: float = 0.95) -> pd.Series:
    """Spearman's rank correlation of two scores over the pairs that both hold, with a bootstrap
    interval over pairs: Series `value, low, high, n`. 1: the same order; -1: reversed."""
    both = pd.concat([a, b], axis=1, join="inner").dropna().to_numpy()
    if len(both) < 3:
        raise ValueError(
            f"The scores share {len(both)} pairs without NaN (of {len(a)} and {len(b)}); a rank "
            "correlation needs 3 or more. Are both indexed by pair id?"
        )

    def spearman(x, y):
        return stats.spearmanr(x, y).statistic

    done = stats.bootstrap(
        tuple(both.T), spearman, paired=True, vectorized=False, n_resamples=999,
        confidence_level=confidence, method="percentile", rng=np.random.default_rng(0),
    )  # fmt: skip
    low, high = done.confidence_interval
    return pd.Series(dict(value=spearman(*both.T), low=low, high=high, n=len(both)))


def jaccard(a, b) -> float:
    """Jaccard index of two selections: shared ids over all ids. 1: the same set."""
    a, b = _two_sets(a, b)
    return len(a & b) / len(a | b)


def overlap(a, b) -> float:
    """Overlap coefficient of two selections: shared ids over the smaller selection's size."""
    a, b = _two_sets(a, b)
    return len(a & b) / min(len(a), len(b))


def mean_interval(values, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of the values and its percentile-bootstrap interval."""
    values = np.asarray(values, float)
    if len(values) == 0:
        raise ValueError("The mean of no values is not defined: got an empty list.")
    draw, n = np.random.default_rng(0), len(values)
    means = [values[draw.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(values.mean()), float(low), float(high)


def seed_interval(values, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean over repeated runs (training seeds) and its Student-t interval. Unlike a bootstrap it
    is honest for a handful of runs; one run has no interval: (value, nan, nan)."""
    values = np.asarray(values, float)
    if len(values) == 0:
        raise ValueError("The mean of no runs is not defined: got an empty list.")
    if len(values) == 1:
        return float(values[0]), float("nan"), float("nan")
    reach = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean()), float(values.mean() - reach), float(values.mean() + reach)


def _rewards(judge, prompts, responses) -> np.ndarray:
    rewards = np.array([float(judge(p, r)) for p, r in zip(prompts, responses, strict=True)])
    bad = np.flatnonzero(~np.isfinite(rewards))
    if len(bad):
        raise ValueError(
            f"The judge gave {rewards[bad[0]]} for response {responses[bad[0]]!r} to prompt "
            f"{prompts[bad[0]]!r} ({len(bad)} such rewards); expected a finite number."
        )
    return rewards


def _two_sets(a, b):
    a, b = set(a), set(b)
    if not a or not b:
        raise ValueError(f"Cannot compare an empty selection: got {len(a)} and {len(b)} ids.")
    return a, b
