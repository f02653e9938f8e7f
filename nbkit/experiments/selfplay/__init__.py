"""Self-play: a policy makes its own preference pairs, and a selection decides which to learn from.

Files::

    steps.py   the steps of a round as plain functions: answer, best_and_worst, evolve, ...
    loop.py    `self_play`: rounds of them, resumed after an interruption
    kept.py    what it keeps on disk
    plays.py   `compare_plays`: several self-plays, judged after each round, as one tidy table
"""

from nbkit.experiments.selfplay.loop import Round, self_play
from nbkit.experiments.selfplay.plays import compare_plays
from nbkit.experiments.selfplay.steps import (
    answer,
    at_random,
    best_and_worst,
    evolve,
    highest,
    policy_rewriter,
)

__all__ = [
    "Round",
    "answer",
    "at_random",
    "best_and_worst",
    "compare_plays",
    "evolve",
    "highest",
    "policy_rewriter",
    "self_play",
]
