from .demos import demonstrations
from .grades import Grade, grade, reward
from .judge import Judge
from .knowledge import ANIMALS, CLOSINGS, FACTS, NAMES, OPENINGS, RUNGS, TOPICS, compose, facts
from .preferences import NOISE, pairs, prompts
from .rewriting import rewrite
from .settings import DPO, SIZES, WEIGHTS

__all__ = [
    "ANIMALS",
    "CLOSINGS",
    "DPO",
    "FACTS",
    "Grade",
    "Judge",
    "NAMES",
    "NOISE",
    "OPENINGS",
    "RUNGS",
    "SIZES",
    "TOPICS",
    "WEIGHTS",
    "compose",
    "demonstrations",
    "facts",
    "grade",
    "pairs",
    "prompts",
    "reward",
    "rewrite",
]
