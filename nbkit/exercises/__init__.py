"""Checks of what learners write: `check_x(my_function)` says passed, not attempted, or a hint.

    checking.py   how a function is run on fresh cases and a usual mistake is recognised
    tour.py       notebook 00: selecting the easiest half, win rate
    logprobs.py   notebook 01: response mask, log-prob of a response, implicit margin
    dpo.py        notebook 02: DPO loss, its gradient weight, likelihood displacement
"""

from nbkit.exercises.checking import Result
from nbkit.exercises.dpo import check_displacement, check_dpo_gradient_weight, check_dpo_loss
from nbkit.exercises.logprobs import (
    check_implicit_margin,
    check_response_mask,
    check_sequence_logprob,
)
from nbkit.exercises.tour import check_easiest, check_win_rate

__all__ = [
    "Result",
    "check_displacement",
    "check_dpo_gradient_weight",
    "check_dpo_loss",
    "check_easiest",
    "check_implicit_margin",
    "check_response_mask",
    "check_sequence_logprob",
    "check_win_rate",
]
