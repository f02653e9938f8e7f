"""Preference training: `train_dpo` (dpo.py) on TRL's trainers (trainers.py)."""

from nbkit.train.dpo import Run, train_dpo

__all__ = ["Run", "train_dpo"]
