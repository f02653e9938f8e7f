"""Self-play: a policy makes its own preference pairs, and a selection decides which to learn from.

    steps.py   the steps of a round as plain functions: answer, best_and_worst, evolve, ...
    loop.py    `self_play`: rounds of them, kept on disk, resumed after an interruption
"""

from nbkit.selfplay.loop import Round, self_play
from nbkit.selfplay.steps import answer, best_and_worst, evolve, most_potential, policy_rewriter

__all__ = [
    "Round",
    "answer",
    "best_and_worst",
    "evolve",
    "most_potential",
    "policy_rewriter",
    "self_play",
]
