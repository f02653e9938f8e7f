"""The embedded world: 768 facts, a reward, four writers, a noisy judge, three tiny policies.

    pairs = world.pairs(3200)            # preference pairs, with the truth beside them
    prompts = world.prompts(192)         # to evaluate on: facts that are in no pair
    world.reward("pet of mia ?", "sure thing . dog")
    world.facts()                        # everything there is to know, as a DataFrame

The policies are `load_policy("world/small")`, `"world/medium"`, `"world/large"`. How all of it was
made, what was searched for and what does not hold is in this folder's README.md.
"""

from pathlib import Path

from nbkit.world.demos import demonstrations
from nbkit.world.grades import Grade, grade, reward
from nbkit.world.judge import Judge
from nbkit.world.knowledge import (
    ANIMALS,
    CLOSINGS,
    FACTS,
    NAMES,
    OPENINGS,
    RUNGS,
    TOPICS,
    compose,
    facts,
)
from nbkit.world.preferences import NOISE, pairs, prompts
from nbkit.world.rewriting import rewrite
from nbkit.world.settings import DPO

WEIGHTS = Path(__file__).with_name("weights")  # a Hugging Face folder for each size
SIZES = ("small", "medium", "large")

__all__ = [
    "ANIMALS",
    "CLOSINGS",
    "DPO",
    "FACTS",
    "NAMES",
    "NOISE",
    "OPENINGS",
    "RUNGS",
    "SIZES",
    "TOPICS",
    "WEIGHTS",
    "Grade",
    "Judge",
    "compose",
    "demonstrations",
    "facts",
    "grade",
    "pairs",
    "prompts",
    "reward",
    "rewrite",
]
