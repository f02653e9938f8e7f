"""Preference training, `train_dpo` (dpo.py), and `train_reward_model` (reward.py), on TRL's
trainers (trainers.py)."""

from nbkit.train.dpo import Run, reference_table, train_dpo
from nbkit.train.planning import rows_that_fit, seed_list, updates
from nbkit.train.reward import RewardRun, train_reward_model

__all__ = [
    "RewardRun",
    "Run",
    "reference_table",
    "rows_that_fit",
    "seed_list",
    "train_dpo",
    "train_reward_model",
    "updates",
]
