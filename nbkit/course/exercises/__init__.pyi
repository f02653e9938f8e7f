from .checking import Result
from .crossfit import check_leak, check_validation_loss
from .difficulty import check_jaccard_by_chance, check_learned_step
from .dpo import check_displacement, check_dpo_gradient_weight, check_dpo_loss
from .influence import (
    check_central_difference,
    check_datamodeling_score,
    check_flipped_influence,
    check_loss_slope,
)
from .logprobs import check_implicit_margin, check_response_mask, check_sequence_logprob
from .margins import check_bradley_terry, check_contradictions, check_margin_per_token
from .potential import check_alignment_potential, check_residual_weight, check_tie_weight
from .selective import check_equal_updates, check_paired_gain, check_parabola_peak
from .selfplay import check_best_against_worst, check_hacked_round, check_worth_asking
from .tour import check_easiest, check_win_rate
from .truncation import (
    check_change_of_sides,
    check_loss_difference,
    check_overlap_by_chance,
    check_truncation,
)

__all__ = [
    "Result",
    "check_alignment_potential",
    "check_best_against_worst",
    "check_bradley_terry",
    "check_central_difference",
    "check_change_of_sides",
    "check_contradictions",
    "check_datamodeling_score",
    "check_displacement",
    "check_dpo_gradient_weight",
    "check_dpo_loss",
    "check_easiest",
    "check_equal_updates",
    "check_flipped_influence",
    "check_hacked_round",
    "check_implicit_margin",
    "check_jaccard_by_chance",
    "check_leak",
    "check_learned_step",
    "check_loss_difference",
    "check_loss_slope",
    "check_margin_per_token",
    "check_overlap_by_chance",
    "check_paired_gain",
    "check_parabola_peak",
    "check_residual_weight",
    "check_response_mask",
    "check_sequence_logprob",
    "check_tie_weight",
    "check_truncation",
    "check_validation_loss",
    "check_win_rate",
    "check_worth_asking",
]
