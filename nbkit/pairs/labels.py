"""Pairs with other labels: what would a selection, or a training, do without the labels' help?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from datasets import Dataset


def flip_labels(pairs: Dataset, ids: Iterable[str]) -> Dataset:
    """The pairs, in those named by `ids` chosen and rejected exchanged, and with them all twin
    columns (`chosen_score` and `rejected_score`, ...). Other columns stay as they came: one that
    speaks of the label, such as the world's `true_margin` and `flipped`, speaks of the old one.

    Args:
        pairs: Dataset with `id, prompt, chosen, rejected`.
        ids: of the pairs to flip.

    Returns:
        Dataset of all the pairs, in their order.

    Raises:
        ValueError: an id that is not in the pairs.

    Example:
        >>> import nbkit as nb
        >>> pairs = nb.world.pairs(2)
        >>> flipped = nb.flip_labels(pairs, [pairs["id"][1]])
        >>> flipped["chosen"][1] == pairs["rejected"][1], flipped[0] == pairs[0]
        (True, True)
    """
    flipped, known = set(ids), set(pairs["id"])
    if unknown := flipped - known:
        raise ValueError(
            f"{len(unknown)} of the {len(flipped)} ids to flip are not in the pairs (one: "
            f"{min(unknown)!r})."
        )
    columns = pairs.to_dict()
    turned = [row for row, id_ in enumerate(columns["id"]) if id_ in flipped]
    for name, chosen in columns.items():
        rejected = columns.get(name.replace("chosen", "rejected", 1))
        if name.startswith("chosen") and rejected is not None:
            for row in turned:
                chosen[row], rejected[row] = rejected[row], chosen[row]
    return Dataset.from_dict(columns, features=pairs.features)


def coin_labels(pairs: Dataset, seed: int = 0) -> Dataset:
    """The pairs with every label decided by a coin: the control in which there is nothing to learn
    but the responses themselves. Scores are exchanged with the responses (see `flip_labels`).

    Args:
        pairs: Dataset with `id, prompt, chosen, rejected`.
        seed: of the coin.

    Returns:
        Dataset of all the pairs, in their order.

    Example:
        >>> import nbkit as nb
        >>> pairs = nb.world.pairs(100)
        >>> coin = nb.coin_labels(pairs, seed=0)
        >>> sum(new != old for new, old in zip(coin["chosen"], pairs["chosen"]))
        44
    """
    heads = np.random.default_rng(seed).random(len(pairs)) < 0.5
    return flip_labels(pairs, (id_ for id_, head in zip(pairs["id"], heads, strict=True) if head))
