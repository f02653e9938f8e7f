"""Selections: ordered lists of pair ids, made from scores.

A score is a pandas Series indexed by pair id; `keep` is a share (a float in (0, 1]) or a count
(an int). Pairs whose score is NaN are never selected. Ties are broken by id, so that a selection
does not depend on the order of the data set. The first id of a selection is the one that fits it
best: `order="given"` in `nbkit.train_dpo` trains in that order.
"""

from __future__ import annotations

import random

import pandas as pd


def easiest(scores: pd.Series, keep: float | int) -> list[str]:
    """The pairs with the lowest scores, lowest first: easiest, for scores such as a loss of which
    lower means easier (Selective DPO, arXiv 2502.09650)."""
    return _first(scores, keep, ascending=True)


def hardest(scores: pd.Series, keep: float | int) -> list[str]:
    """The pairs with the highest scores, highest first: hardest, for scores such as a loss."""
    return _first(scores, keep, ascending=False)


def top(scores: pd.Series, keep: float | int) -> list[str]:
    """The pairs with the highest scores, highest first: for scores of which more is better."""
    return _first(scores, keep, ascending=False)


def random_like(selection: list[str], pairs, seed: int = 0) -> list[str]:
    """As many pairs as `selection` has, drawn at random from all ids (of `pairs`, a Series, or a
    list): the control that every selection is compared with."""
    ids = sorted(_ids(pairs))
    if len(selection) > len(ids):
        raise ValueError(f"Cannot draw {len(selection)} pairs from {len(ids)}.")
    return random.Random(seed).sample(ids, len(selection))


def _ids(pairs) -> list[str]:
    if isinstance(pairs, (pd.Series, pd.DataFrame)):
        return list(pairs.index)
    return list(pairs["id"]) if hasattr(pairs, "column_names") else list(pairs)


def _first(scores, keep, ascending):
    if not isinstance(scores, pd.Series):
        raise TypeError(
            f"Expected scores as a pandas Series indexed by pair id, got {type(scores).__name__}."
        )
    if scores.index.has_duplicates:
        id_ = scores.index[scores.index.duplicated()][0]
        raise ValueError(f"The scores hold pair {id_!r} more than once; expected each id once.")
    # a stable sort of the rows in id order breaks ties by id
    ranked = scores.dropna().sort_index().sort_values(ascending=ascending, kind="stable")
    return ranked.index[: _count(keep, len(ranked))].tolist()


def _count(keep, available: int) -> int:
    if isinstance(keep, bool) or not isinstance(keep, (int, float)):
        raise TypeError(f"keep={keep!r}; expected a share such as 0.5 or a count such as 800.")
    if isinstance(keep, float) and not 0 < keep <= 1:
        raise ValueError(f"keep={keep}; as a share (float) it must lie in (0, 1].")
    if isinstance(keep, int) and not 0 < keep <= available:
        raise ValueError(f"keep={keep}; as a count it must lie in 1..{available} (scored pairs).")
    return keep if isinstance(keep, int) else max(1, round(keep * available))
