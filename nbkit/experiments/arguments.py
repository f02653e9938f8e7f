"""Arguments that experiments share: seeds, and what they set in their trainings themselves."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

from nbkit.inputs import as_count


def refuse(training: dict, names: set[str], whose: str) -> None:
    """Raise ValueError for arguments of `train_dpo` that a caller of it sets itself."""
    if own := names & set(training):
        raise ValueError(f"{', '.join(sorted(own))}: set by the {whose} itself.")


def seed_list(seeds: int | Iterable[int]) -> list[int]:
    """Seeds from their number (0, 1, ...) or from a list of them.

    Raises:
        ValueError: there are none, or one comes twice.
    """
    whole = isinstance(seeds, Integral) and not isinstance(seeds, bool)
    listed = list(range(seeds)) if whole else list(seeds)
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"seeds={seeds!r:.60}; expected a number, 1 or more, or distinct seeds.")
    return [as_count(seed, "seeds", least=0) for seed in listed]
