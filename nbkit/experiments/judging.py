"""What `compare` finds a run's answers to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nbkit.evaluate import wins
from nbkit.judges import Judge, rewards
from nbkit.models.policy import Policy
from nbkit.sampling import sample


class Judged(NamedTuple):
    """What a run's answers were found to be."""

    rewards: np.ndarray
    means: dict[str, float]  # column -> value, but for the win rate


def judge_answers(
    answers: pd.DataFrame,
    prompts: list[Any],
    judge: Judge,
    measures: Mapping[str, Judge],
    policy: Policy,
) -> Judged:
    """What the judge and the measures say of a run's answers, one a prompt."""
    earned = rewards(judge, prompts, answers.response)
    tokens = policy.tokenizer(answers.response.tolist(), add_special_tokens=False)["input_ids"]
    means = {
        "reward": earned.mean(),
        "length": pd.Series(tokens).map(len).mean(),
        **{name: rewards(f, prompts, answers.response).mean() for name, f in measures.items()},
        **answers.drop(columns="response").iloc[0],
    }
    return Judged(earned, means)


def verdict(judged: dict[tuple, Judged], key: Any) -> dict[str, float]:
    """The measured columns of a run."""
    baseline = judged["baseline", key[1], 0]
    return {"win_rate": wins(judged[key].rewards, baseline.rewards).mean(), **judged[key].means}


def try_judge(
    policy: Policy,
    prompts: list[Any],
    judge: Judge,
    measures: Mapping[str, Judge],
    how: Mapping[str, Any],
) -> None:
    """Let the judge and the measures see one answer before hours of training."""
    answer = sample(policy, prompts[:1], seed=0, progress=False, **how)
    for function in (judge, *measures.values()):
        rewards(function, prompts[:1], answer)
