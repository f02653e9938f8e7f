"""Checks of what learners write: `check_x(my_function)` says passed, not attempted, or a hint.

Files::

    checking.py   how a function is run on fresh cases and a usual mistake is recognised
    tour.py       lesson 00: selecting the easiest half, win rate
    logprobs.py   lesson 01: response mask, log-prob of a response, implicit margin
    dpo.py        lesson 02: DPO loss, its gradient weight, likelihood displacement
    difficulty.py lesson 03: learned step, Jaccard index by chance
    crossfit.py   lesson 03: the leak of a split, validation loss
    selective.py  lesson 04: equal updates, paired gain, peak of the parabola
    margins.py    lesson 05: Bradley-Terry loss, margin per token, contradictions
    potential.py  lesson 06: alignment potential, tie weight, residual weight
    influence.py  lesson 07: slope of a loss, central difference, flipped label, LDS
    truncation.py lesson 08: truncation, LossDiff, overlap by chance, change of sides
    selfplay.py   lesson 10: best against worst, evolved prompts worth asking, hacked round
"""

from nbkit.course.exercises.checking import Result
from nbkit.course.exercises.crossfit import check_leak, check_validation_loss
from nbkit.course.exercises.difficulty import check_jaccard_by_chance, check_learned_step
from nbkit.course.exercises.dpo import check_displacement, check_dpo_gradient_weight, check_dpo_loss
from nbkit.course.exercises.influence import (
    check_central_difference,
    check_datamodeling_score,
    check_flipped_influence,
    check_loss_slope,
)
from nbkit.course.exercises.logprobs import (
    check_implicit_margin,
    check_response_mask,
    check_sequence_logprob,
)
from nbkit.course.exercises.margins import (
    check_bradley_terry,
    check_contradictions,
    check_margin_per_token,
)
from nbkit.course.exercises.potential import (
    check_alignment_potential,
    check_residual_weight,
    check_tie_weight,
)
from nbkit.course.exercises.selective import (
    check_equal_updates,
    check_paired_gain,
    check_parabola_peak,
)
from nbkit.course.exercises.selfplay import (
    check_best_against_worst,
    check_hacked_round,
    check_worth_asking,
)
from nbkit.course.exercises.tour import check_easiest, check_win_rate
from nbkit.course.exercises.truncation import (
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
