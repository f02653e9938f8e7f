"""The supervised data: what the writers were taught before any preference was seen."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from nbkit.world.knowledge import ANIMALS, CLOSINGS, FACTS, OPENINGS, RUNGS, compose

if TYPE_CHECKING:
    from datasets import Dataset

RIGHT = 0.7  # share of right answers; the others name some other animal


def demonstrations(n: int, seed: int = 0) -> Dataset:
    """Questions with an answer. Rung r is drawn with weight 2^-(r-1); facts of all parts are told;
    style is uniform over openings and closings.

    Args:
        n: how many.
        seed: of all that is drawn.

    Returns:
        Dataset with `prompt, response, fact, answer, rung, correct` (whether the response is).

    Raises:
        ValueError: n < 1.

    Example:
        >>> import nbkit as nb
        >>> told = nb.world.demonstrations(2)[1]
        >>> told["prompt"], told["response"], told["correct"]
        ('emblem of dan ?', 'deer', False)
    """
    from datasets import Dataset

    return Dataset.from_list(demonstration_rows(n, seed))


def demonstration_rows(n: int, seed: int = 0) -> list[dict]:
    if n < 1:
        raise ValueError(f"n = {n!r}: expected at least 1 demonstration")
    rng = random.Random(seed)
    by_rung = {rung: [fact for fact in FACTS if fact.rung == rung] for rung in RUNGS}
    weights = [2.0 ** -(rung - 1) for rung in RUNGS]
    openings, closings = list(OPENINGS), list(CLOSINGS)
    wrong = {animal: [a for a in ANIMALS if a != animal] for animal in ANIMALS}
    rows = []
    for rung in rng.choices(RUNGS, weights, k=n):
        fact = rng.choice(by_rung[rung])
        correct = rng.random() < RIGHT
        said = fact.answer if correct else rng.choice(wrong[fact.answer])
        rows.append(
            {
                "prompt": fact.prompt,
                "response": compose(rng.choice(openings), said, rng.choice(closings)),
                "fact": fact.key,
                "answer": fact.answer,
                "rung": rung,
                "correct": correct,
            }
        )
    return rows
