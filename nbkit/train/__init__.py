"""Preference training: `train_dpo` (dpo.py) on TRL's trainers (trainers.py)."""

from nbkit.train.dpo import Run, reference_table, train_dpo
from nbkit.train.planning import rows_that_fit, seed_list, updates

__all__ = ["Run", "reference_table", "rows_that_fit", "seed_list", "train_dpo", "updates"]
