"""Scores: pure functions of log-prob tables (and of score columns). Each returns a pandas Series
named after the method and indexed by pair id."""

from nbkit.scores.margins import (
    dpo_loss,
    explicit_margin,
    implicit_margin,
    length_normalized_margin,
    log_ratios,
)

__all__ = [
    "dpo_loss",
    "explicit_margin",
    "implicit_margin",
    "length_normalized_margin",
    "log_ratios",
]
