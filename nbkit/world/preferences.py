"""Preference pairs with the truth beside them, and prompts to evaluate on.

Pairs come about as UltraFeedback's do: several writers answer a prompt, a judge scores the
answers, the best is chosen and one of the others, at random, rejected. The judge sees the true
reward through noise, so some labels are wrong, and each row says which.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbkit.world.grades import reward
from nbkit.world.knowledge import CLOSINGS, FACTS, OPENINGS, PARTS, RUNGS, Fact, compose
from nbkit.world.pool import WRITERS, read_pool

if TYPE_CHECKING:
    from datasets import Dataset

NOISE = 0.6  # standard deviation of the judge's error, in units of reward
EXPERT = "expert"  # always right, in any style


def pairs(
    n: int,
    seed: int = 0,
    *,
    part: str = "train",
    noise: float = NOISE,
    rungs: Sequence[float] | None = None,
) -> Dataset:
    """Preference pairs, with the truth beside them. The same arguments give the same rows anywhere,
    and the first k rows do not depend on `n`.

    Args:
        n: how many. Facts recur, about every 384 rows in "train": split by `fact` when you
            cross-fit.
        seed: of all that is drawn.
        part: "train" or "validation"; their facts are disjoint, and both from those of "test".
        noise: standard deviation of the judge's error (reward units). 0 gives no wrong label; the
            default flips about 13%.
        rungs: six weights, the share of prompts from each rung; None is uniform.

    Returns:
        Dataset with `id, prompt, chosen, rejected` (str) and `chosen_score >= rejected_score`, the
        judge's. The truth: `rung` (1 head .. 6 tail), `fact, answer, chosen_writer,
        rejected_writer, chosen_reward, rejected_reward, true_margin` (their difference) and
        `flipped` (true_margin < 0).

    Raises:
        ValueError: arguments that make no pairs.

    Example:
        >>> import nbkit as nb
        >>> pairs = nb.world.pairs(300)
        >>> pairs[0]["prompt"], pairs[0]["chosen"], pairs[0]["rejected"]
        ('coin of ray ?', 'ibis', 'happy to help ! ibis anyway , more later')
        >>> sum(pairs["flipped"])  # wrong labels
        45
    """
    from datasets import Dataset  # here, so that importing the world stays quick

    _check_count(n)
    if part not in ("train", "validation"):
        raise ValueError(
            f"part = {part!r}: expected 'train' or 'validation' (test facts are for world.prompts)"
        )
    if not 0 <= noise < float("inf"):
        raise ValueError(f"noise = {noise!r}: expected a standard deviation, 0 or more")
    facts = _draw_facts(part, seed, _check_weights(rungs))
    return Dataset.from_list([_pair(next(facts), i, seed, noise) for i in range(n)])


def prompts(
    n: int, seed: int = 0, *, part: str = "test", rungs: Sequence[float] | None = None
) -> Dataset:
    """Prompts to evaluate on. The facts of "test" (32 a rung, 192 in all) are in no pair. Each is
    asked once before one is asked again, rung by rung.

    Args:
        n: how many.
        seed: of the draw.
        part: "train", "validation" or "test".
        rungs: six weights, the share of prompts from each rung; None is uniform.

    Returns:
        Dataset with `id, prompt, rung, fact, answer`.

    Raises:
        ValueError: n < 1, an unknown part or bad weights.

    Example:
        >>> import nbkit as nb
        >>> nb.world.prompts(192)["prompt"][:2]
        ['puppet of ana ?', 'stamp of dan ?']
    """
    from datasets import Dataset

    _check_count(n)
    if part not in PARTS:
        raise ValueError(f"part = {part!r}: expected one of {', '.join(PARTS)}")
    facts = _draw_facts(part, seed, _check_weights(rungs))
    rows = []
    for i in range(n):
        fact = next(facts)
        rows.append(
            {
                "id": f"{part}-{seed}-{i:05d}-{fact.key}",
                "prompt": fact.prompt,
                "rung": fact.rung,
                "fact": fact.key,
                "answer": fact.answer,
            }
        )
    return Dataset.from_list(rows)


def _draw_facts(part: str, seed: int, weights: Sequence[float]) -> Iterator[Fact]:
    """Facts without end; within a rung each comes up once before one comes up again."""
    rng = random.Random(f"facts {part} {seed}")
    decks: dict[int, list[Fact]] = {rung: [] for rung in RUNGS}
    uniform = len(set(weights)) == 1
    turn = 0
    while True:
        # Uniform weights take the rungs in turn, so that every small sample is balanced.
        rung = RUNGS[turn % len(RUNGS)] if uniform else rng.choices(RUNGS, weights)[0]
        turn += 1
        if not decks[rung]:
            decks[rung] = [f for f in FACTS if f.part == part and f.rung == rung]
            rng.shuffle(decks[rung])
        yield decks[rung].pop()


def _pair(fact: Fact, i: int, seed: int, noise: float) -> dict:
    """One pair. Its own random stream: a change of noise leaves the four answers as they were
    (unless the judge picks an empty one, of which the pool has ten)."""
    rng = random.Random(f"pair {fact.part} {seed} {i}")
    chosen, rejected = _chosen_and_rejected(fact, rng, noise)
    while not (chosen.response and rejected.response):  # no answer is no response: ask again
        chosen, rejected = _chosen_and_rejected(fact, rng, noise)
    margin = round(chosen.reward - rejected.reward, 2)
    return {
        "id": f"{fact.part}-{seed}-{i:05d}-{fact.key}",
        "prompt": fact.prompt,
        "chosen": chosen.response,
        "rejected": rejected.response,
        "chosen_score": chosen.score,
        "rejected_score": rejected.score,
        "rung": fact.rung,
        "fact": fact.key,
        "answer": fact.answer,
        "chosen_writer": chosen.writer,
        "rejected_writer": rejected.writer,
        "chosen_reward": chosen.reward,
        "rejected_reward": rejected.reward,
        "true_margin": margin,
        "flipped": margin < 0,
    }


def _chosen_and_rejected(fact: Fact, rng: random.Random, noise: float) -> tuple[_Judged, _Judged]:
    answers = _answers(fact, rng)
    while len({response for _, response in answers}) == 1:  # nothing to prefer: ask again
        answers = _answers(fact, rng)
    judged = []
    for writer, response in answers:
        true = reward(fact.prompt, response)
        score = round(true + noise * rng.gauss(0, 1), 3)
        judged.append(_Judged(score, rng.random(), true, writer, response))
    judged.sort(reverse=True)
    chosen = judged[0]
    return chosen, rng.choice([other for other in judged if other.response != chosen.response])


class _Judged(NamedTuple):
    score: float
    tie_break: float
    reward: float
    writer: str
    response: str


def _answers(fact: Fact, rng: random.Random) -> list[tuple[str, str]]:
    """(writer, response): one pooled sample of each policy, and the expert's."""
    pool = read_pool()
    answers = [(writer, rng.choice(pool[fact.key, writer])) for writer in WRITERS]
    opening, closing = rng.choice(list(OPENINGS)), rng.choice(list(CLOSINGS))
    return [*answers, (EXPERT, compose(opening, fact.answer, closing))]


def _check_count(n: int) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n = {n!r}: expected a whole number, 1 or more")


def _check_weights(rungs: Sequence[float] | None) -> Sequence[float]:
    if rungs is None:
        return [1.0] * len(RUNGS)
    weights = list(rungs) if isinstance(rungs, Iterable) else []
    numbers = all(isinstance(w, int | float) and 0 <= w < float("inf") for w in weights)
    if len(weights) != len(RUNGS) or not numbers or sum(weights) == 0:
        raise ValueError(
            f"rungs = {rungs!r}: expected six weights, one for each rung from 1 (head) to 6 "
            "(tail), none negative and not all 0; or None for uniform"
        )
    return weights
