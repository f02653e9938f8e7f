"""Scores of pairs. Each returns a pandas Series named after the method and indexed by pair id.

    margins.py      margins and losses, from log-prob tables
    difficulty.py   learned step and data map, from a training trace; perplexity, length
    potential.py    alignment potential and BeeS, from an explicit and an implicit margin
    influences.py   influence on a validation loss, truncated; LossDiff and IRM
    displacement.py CHES, from hidden states
    validation.py   validation loss: it trains reference models, so it stands a floor higher

Names are loaded when they are first used, so that a pure score does not import a trainer.
"""

from importlib import import_module

_HOME = {
    "dpo_loss": "margins",
    "explicit_margin": "margins",
    "implicit_margin": "margins",
    "length_normalized_margin": "margins",
    "log_ratios": "margins",
    "confidence": "difficulty",
    "learned_step": "difficulty",
    "perplexity": "difficulty",
    "residual_weight": "potential",
    "response_length": "difficulty",
    "variability": "difficulty",
    "alignment_potential": "potential",
    "bees": "potential",
    "cross_fitted_losses": "validation",
    "folds": "validation",
    "validation_loss": "validation",
    "influence": "influences",
    "influence_table": "influences",
    "irm": "influences",
    "loss_difference": "influences",
    "truncated": "influences",
    "ches": "displacement",
}

__all__ = list(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"nbkit.scores has no {name!r}; it has {', '.join(sorted(_HOME))}")
    globals()[name] = value = getattr(import_module(f"nbkit.scores.{_HOME[name]}"), name)
    return value


def __dir__():
    return sorted([*globals(), *__all__])
