from .difficulty import confidence, learned_step, perplexity, response_length, variability
from .displacement import ches
from .influences import influence, influence_table
from .margins import (
    dpo_loss,
    explicit_margin,
    implicit_margin,
    length_normalized_margin,
    log_ratios,
)
from .potential import alignment_potential, bees, residual_weight
from .truncation import irm, loss_difference, truncated

__all__ = [
    "alignment_potential",
    "bees",
    "ches",
    "confidence",
    "dpo_loss",
    "explicit_margin",
    "implicit_margin",
    "influence",
    "influence_table",
    "irm",
    "learned_step",
    "length_normalized_margin",
    "log_ratios",
    "loss_difference",
    "perplexity",
    "residual_weight",
    "response_length",
    "truncated",
    "variability",
]
