"""Training on TRL: `train_dpo`, `train_reward_model`.

    dpo.py          policies, on preference pairs
    reward.py       reward models, on preference pairs
    trainers.py     TRL's trainers, fed with nbkit's tokens and log-probs: the only import of trl
    planning.py     what can be said of a training before it starts
    weights.py      their precision while they are trained; learned.py: whether they have moved
    callbacks.py    progress, log, trace; checkpoints.py: where a run's state lies
    randomness.py   the caller's random states stay as they were
"""

from nbkit.tables import rows_of as table_rows
from nbkit.train.dpo import Run, reference_table, settings_in_effect, train_dpo
from nbkit.train.learned import warn_if_noise
from nbkit.train.planning import pairs_that_fit, refuse, seed_list, updates
from nbkit.train.reward import RewardRun, train_reward_model

__all__ = [
    "RewardRun",
    "Run",
    "pairs_that_fit",
    "reference_table",
    "refuse",
    "seed_list",
    "settings_in_effect",
    "table_rows",
    "train_dpo",
    "train_reward_model",
    "updates",
    "warn_if_noise",
]
