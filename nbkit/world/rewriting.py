"""New prompts of the world, for self-play: a question next to the one that is given."""

import random

from nbkit.world.grades import fact_of
from nbkit.world.knowledge import FACTS, Fact


def rewrite(prompts: list[str], seed: int = 0) -> list[str]:
    """To each prompt another one, with the same topic or the same name, that belongs to the facts
    for training: what is learned from it says nothing about validation or test facts.

    Args:
        prompts: of the world.
        seed: of the choice; the same prompts and seed give the same result.

    Returns:
        list of as many prompts.

    Raises:
        ValueError: a prompt that is not of the world.

    Example:
        >>> import nbkit as nb
        >>> nb.world.rewrite(["pet of mia ?", "flag of ray ?"], seed=1)
        ['pet of max ?', 'drawing of ray ?']
    """
    rng = random.Random(f"rewrite {seed}")
    return [rng.choice(_neighbours(fact_of(prompt))).prompt for prompt in prompts]


def _neighbours(fact: Fact) -> list[Fact]:
    return [
        other for other in FACTS
        if other.part == "train" and other != fact
        and (other.topic == fact.topic or other.name == fact.name)
    ]  # fmt: skip
