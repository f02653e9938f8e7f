"""Training on TRL: `train_dpo`, `train_reward_model`.

    dpo.py          policies, on preference pairs
    reward.py       reward models, on preference pairs
    trainers.py     TRL's trainers, fed with nbkit's tokens and log-probs: the only import of trl
    planning.py     what can be said of a training before it starts
    callbacks.py    progress, log, trace; checkpoints.py: where a run's state lies
"""

from nbkit.train.dpo import Run, reference_table, table_rows, train_dpo
from nbkit.train.planning import pairs_that_fit, refuse, rows_that_fit, seed_list, updates
from nbkit.train.reward import RewardRun, train_reward_model

__all__ = [
    "RewardRun",
    "Run",
    "pairs_that_fit",
    "reference_table",
    "refuse",
    "rows_that_fit",
    "seed_list",
    "table_rows",
    "train_dpo",
    "train_reward_model",
    "updates",
]
