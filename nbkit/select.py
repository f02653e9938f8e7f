"""Selections: ordered lists of pair ids, made from scores.

A score is a pandas Series indexed by pair id; `keep` is a share (a float in (0, 1]) or a count
(an int). Pairs whose score is NaN are never selected. Ties are broken by `ties`, another score,
and then by id, so that a selection does not depend on the order of the data set. A score with many
ties, such as a learned step of which half is infinite, needs `ties`: cut by id, two selections that
have nothing in common look alike. The first id of a selection is the one that fits it
best: `order="given"` in `nbkit.train_dpo` trains in that order.
"""

from __future__ import annotations

import random
from numbers import Integral

import pandas as pd


def easiest(scores: pd.Series, keep: float | int, ties: pd.Series | None = None) -> list[str]:
    """The pairs with the lowest scores, lowest first: easiest, for scores such as a loss of which
    lower means easier (Selective DPO, arXiv 2502.09650)."""
    return _first(scores, keep, ties, ascending=True)


def hardest(scores: pd.Series, keep: float | int, ties: pd.Series | None = None) -> list[str]:
    """The pairs with the highest scores, highest first: hardest, for scores such as a loss."""
    return _first(scores, keep, ties, ascending=False)


def top(scores: pd.Series, keep: float | int, ties: pd.Series | None = None) -> list[str]:
    """The pairs with the highest scores, highest first: for scores of which more is better."""
    return _first(scores, keep, ties, ascending=False)


def middle(scores: pd.Series, low: float, high: float) -> list[str]:
    """The pairs in a band of percentiles, lowest score first: those after the lowest share `low`
    and up to the share `high` (0.2, 0.8: without the lowest and the highest fifth).

    Raises:
        ValueError: not 0 <= low < high <= 1, or no pair lies in the band.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"low={low!r}, high={high!r}; expected shares, 0 <= low < high <= 1.")
    ranked = _ranked(scores, ascending=True)
    band = ranked.index[round(low * len(ranked)) : round(high * len(ranked))].tolist()
    if not band:
        raise ValueError(f"No pair lies between {low:.0%} and {high:.0%} of {len(ranked)} pairs.")
    return band


def central(*scores: pd.Series, keep: float | int) -> list[str]:
    """The pairs nearest the middle of every one of the scores, nearest first: the intersection of
    percentile bands around the median, all as wide as it takes to keep so many, so that selections
    by one score and by several can be compared at equal size.

    Args:
        scores: one or more; a pair that lacks one of them (NaN, or no row) is never selected, and
            percentiles are among the others.
        keep: share of those pairs, or their number.
    """
    if not scores:
        raise ValueError("Expected one score or more, got none.")
    for some in scores:
        check_scores(some)
    known = pd.concat([some.rename(None) for some in scores], axis=1, join="inner").dropna()
    ranks = known.sort_index().rank(method="first")  # ties by id, as everywhere here
    off_centre = (ranks - (len(ranks) + 1) / 2).abs().max(axis=1)
    return easiest(off_centre, keep)


def both(*selections: list[str]) -> list[str]:
    """The pairs that are in every one of the selections, in the order of the first.

    Raises:
        ValueError: fewer than two selections, or no pair is in all of them.
    """
    if len(selections) < 2:
        raise ValueError(f"Expected two selections or more, got {len(selections)}.")
    shared = set(selections[0]).intersection(*selections[1:])
    if not shared:
        sizes = ", ".join(str(len(selection)) for selection in selections)
        raise ValueError(f"No pair is in all of the selections (of {sizes} pairs).")
    return [id_ for id_ in selections[0] if id_ in shared]


def random_like(selection: list[str], pairs, seed: int = 0) -> list[str]:
    """As many pairs as `selection` has, drawn at random from all ids (of `pairs`, a Series, or a
    list): the control that every selection is compared with."""
    ids = sorted(_ids(pairs))  # of a Series the scored ones
    if len(selection) > len(ids):
        raise ValueError(f"Cannot draw {len(selection)} pairs from {len(ids)}.")
    return random.Random(seed).sample(ids, len(selection))


def random_matched(
    selection: list[str], lengths: pd.Series, seed: int = 0, bins: int = 10
) -> list[str]:
    """A random control of the same size and, nearly, the same lengths: is a selection more than a
    preference for long (or short) responses?

    Args:
        selection: ids.
        lengths: a number for every pair, the selected ones included, such as `chosen_tokens` of a
            log-prob table. The pairs are cut into `bins` of about equal size by it (fewer where
            lengths tie), and as many are drawn from each as the selection has there.
        seed: of the draw.

    Raises:
        ValueError: a selected pair has no length.
    """
    unknown = [id_ for id_ in selection if id_ not in lengths.index or pd.isna(lengths[id_])]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the {len(selection)} selected pairs have no length (first: "
            f"{unknown[0]!r}). Lengths are a Series indexed by pair id, one for every pair."
        )
    known = lengths.dropna().sort_index()
    bin_of = pd.cut(known.rank(), bins, labels=False)  # equal lengths share a rank, so a bin
    wanted = bin_of[list(selection)].value_counts()
    rng = random.Random(seed)
    drawn = [
        id_
        for bin_, count in sorted(wanted.items())
        for id_ in rng.sample(bin_of.index[bin_of == bin_].tolist(), count)
    ]
    rng.shuffle(drawn)
    return drawn


def _ids(pairs) -> list[str]:
    if isinstance(pairs, (pd.Series, pd.DataFrame)):
        return list(pairs.dropna().index)
    return list(pairs["id"]) if hasattr(pairs, "column_names") else list(pairs)


def _first(scores, keep, ties, ascending):
    ranked = _ranked(scores, ascending, ties)
    return ranked.index[: _count(keep, len(ranked))].tolist()


def _ranked(scores, ascending, ties=None):
    check_scores(scores)
    frame = scores.dropna().sort_index().to_frame("score")  # in id order: the sort is stable
    if ties is not None:
        check_scores(ties)
        if absent := [id_ for id_ in frame.index if id_ not in ties.index]:
            raise ValueError(
                f"ties lacks {len(absent)} of the scored pairs (first: {absent[0]!r})."
            )
        frame["ties"] = ties
    return frame.sort_values(list(frame), ascending=ascending, kind="stable")


def check_scores(scores) -> None:
    """Raise TypeError or ValueError unless these are scores: a Series with each pair id once."""
    if not isinstance(scores, pd.Series):
        raise TypeError(
            f"Expected scores as a pandas Series indexed by pair id, got {type(scores).__name__}."
        )
    if scores.index.has_duplicates:
        id_ = scores.index[scores.index.duplicated()][0]
        raise ValueError(f"The scores hold pair {id_!r} more than once; expected each id once.")


def _count(keep, available: int) -> int:
    if available == 0:
        raise ValueError(
            "There is no pair to select: every score is NaN, or the scores have no pair in common."
        )
    if isinstance(keep, Integral) and not isinstance(keep, bool):
        keep = int(keep)  # NumPy's, too
    if isinstance(keep, bool) or not isinstance(keep, (int, float)):
        raise TypeError(f"keep={keep!r}; expected a share such as 0.5 or a count such as 800.")
    if isinstance(keep, float) and not 0 < keep <= 1:
        raise ValueError(f"keep={keep}; as a share (float) it must lie in (0, 1].")
    if isinstance(keep, int) and not 0 < keep <= available:
        raise ValueError(f"keep={keep}; as a count it must lie in 1..{available} (scored pairs).")
    return keep if isinstance(keep, int) else max(1, round(keep * available))
