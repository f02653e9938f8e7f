from .loop import Round, self_play
from .plays import compare_plays
from .steps import answer, at_random, best_and_worst, evolve, highest, policy_rewriter

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
