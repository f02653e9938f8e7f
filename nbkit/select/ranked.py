"""Selections by rank: the lowest, the highest, the middle of a score."""

from __future__ import annotations

from numbers import Integral, Real

import pandas as pd

from nbkit.inputs import as_ids
from nbkit.select.series import as_scores


def easiest(scores: pd.Series, share: float | int, ties: pd.Series | None = None) -> list[str]:
    """The pairs with the lowest scores: easiest, for scores such as a loss, of which lower means
    easier (Selective DPO, arXiv 2502.09650).

    Args:
        scores: Series by pair id.
        share: a fraction of the pairs (0.5), or their number (800).
        ties: another score, which ranks pairs of equal score: lowest first.

    Returns:
        list of ids, lowest score first.

    Raises:
        TypeError, ValueError: no scores, or no fraction or count of them.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> loss = pd.Series({"a": 0.69, "b": 0.02, "c": 1.4, "d": 0.3})
        >>> nb.select.easiest(loss, share=0.5)
        ['b', 'd']
    """
    return _first(scores, share, ties, ascending=True)


def hardest(scores: pd.Series, share: float | int, ties: pd.Series | None = None) -> list[str]:
    """The pairs with the highest scores: hardest, for scores such as a loss.

    Args:
        scores: Series by pair id.
        share: a fraction of the pairs (0.5), or their number (800).
        ties: another score, which ranks pairs of equal score: highest first.

    Returns:
        list of ids, highest score first.

    Raises:
        TypeError, ValueError: no scores, or no fraction or count of them.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> loss = pd.Series({"a": 0.69, "b": 0.02, "c": 1.4, "d": 0.3})
        >>> nb.select.hardest(loss, share=1)
        ['c']
    """
    return _first(scores, share, ties, ascending=False)


def top(scores: pd.Series, share: float | int, ties: pd.Series | None = None) -> list[str]:
    """The pairs with the highest scores: best, for scores of which more is better.

    Args:
        scores: Series by pair id.
        share: a fraction of the pairs (0.5), or their number (800).
        ties: another score, which ranks pairs of equal score: highest first.

    Returns:
        list of ids, highest score first.

    Raises:
        TypeError, ValueError: no scores, or no fraction or count of them.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> potential = pd.Series({"a": 1.0, "b": 2.0, "c": 1.0, "d": -0.5})
        >>> tokens = pd.Series({"a": 3, "b": 7, "c": 9, "d": 4})
        >>> nb.select.top(potential, share=2, ties=tokens)
        ['b', 'c']
    """
    return _first(scores, share, ties, ascending=False)


def middle(scores: pd.Series, low: float, high: float) -> list[str]:
    """The pairs in a band of percentiles: those after the lowest share `low` and up to the share
    `high` (0.2, 0.8: without the lowest and the highest fifth), as in truncated influence
    (arXiv 2510.13212).

    Args:
        scores: Series by pair id.
        low: share below the band.
        high: share up to the band's end.

    Returns:
        list of ids, lowest score first.

    Raises:
        ValueError: not 0 <= low < high <= 1, or no pair lies in the band.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> influence = pd.Series({"a": 0.5, "b": -9.0, "c": 0.1, "d": 7.0, "e": -0.2})
        >>> nb.select.middle(influence, 0.2, 0.8)
        ['e', 'c', 'a']
    """
    shares = all(isinstance(end, Real) and not isinstance(end, bool) for end in (low, high))
    if not shares or not 0 <= low < high <= 1:
        raise ValueError(f"low={low!r}, high={high!r}; expected shares, 0 <= low < high <= 1.")
    ranked = _ranked(scores, ascending=True)
    band = ranked.index[round(low * len(ranked)) : round(high * len(ranked))].tolist()
    if not band:
        raise ValueError(f"No pair lies between {low:.0%} and {high:.0%} of {len(ranked)} pairs.")
    return band


def central(*scores: pd.Series, share: float | int) -> list[str]:
    """The pairs nearest the middle of every one of the scores, nearest first: the intersection of
    percentile bands around the median, all as wide as it takes to keep so many, so that selections
    by one score and by several can be compared at equal size.

    Args:
        *scores: one or more Series by pair id; a pair that lacks one of them (NaN, or no row) is
            never selected, and percentiles are among the others.
        share: fraction of those pairs, or their number.

    Returns:
        list of ids, the most central first.

    Raises:
        TypeError, ValueError: no scores, or no fraction or count of them.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> lossdiff = pd.Series({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5})
        >>> irm = pd.Series({"a": 3, "b": 2, "c": 5, "d": 4, "e": 1})
        >>> nb.select.central(lossdiff, irm, share=2)
        ['b', 'd']
    """
    if not scores:
        raise ValueError("Expected one score or more, got none.")
    known = [as_scores(score).rename(None) for score in scores]
    known = pd.concat(known, axis=1, join="inner").dropna()
    ranks = known.sort_index().rank(method="first")  # ties by id, as everywhere here
    off_centre = (ranks - (len(ranks) + 1) / 2).abs().max(axis=1)
    return easiest(off_centre, share)


def both(*selections: list[str]) -> list[str]:
    """The pairs that are in every one of the selections, in the order of the first.

    Args:
        *selections: two or more lists of ids.

    Returns:
        list of ids.

    Raises:
        ValueError: fewer than two selections, or no pair is in all of them.

    Example:
        >>> import nbkit as nb
        >>> nb.select.both(["c", "a", "b"], ["a", "c", "d"])
        ['c', 'a']
    """
    if len(selections) < 2:
        raise ValueError(f"Expected two selections or more, got {len(selections)}.")
    selections = [as_ids(ids, None, f"selection {n}") for n, ids in enumerate(selections, start=1)]
    shared = set(selections[0]).intersection(*selections[1:])
    if not shared:
        sizes = ", ".join(str(len(selection)) for selection in selections)
        raise ValueError(f"No pair is in all of the selections (of {sizes} pairs).")
    return [id_ for id_ in selections[0] if id_ in shared]


def _first(
    scores: pd.Series, share: float | int, ties: pd.Series | None, ascending: bool
) -> list[str]:
    ranked = _ranked(scores, ascending, ties)
    return ranked.index[: _count(share, len(ranked))].tolist()


def _ranked(scores: pd.Series, ascending: bool, ties: pd.Series | None = None) -> pd.DataFrame:
    # in id order: the sort is stable
    frame = as_scores(scores).dropna().sort_index().to_frame("score")
    if ties is not None:
        ties = as_scores(ties, "ties")
        if absent := [id_ for id_ in frame.index if id_ not in ties.index]:
            raise ValueError(
                f"ties lacks {len(absent)} of the scored pairs (first: {absent[0]!r})."
            )
        frame["ties"] = ties
    return frame.sort_values(frame.columns.tolist(), ascending=ascending, kind="stable")


def _count(share: float | int, available: int) -> int:
    if available == 0:
        raise ValueError(
            "There is no pair to select: every score is NaN, or the scores have no pair in common."
        )
    if isinstance(share, bool) or not isinstance(share, Real):
        raise TypeError(
            f"share={share!r:.60}; expected a fraction such as 0.5 or a count such as 800."
        )
    if isinstance(share, Integral):
        if not 0 < share <= available:
            raise ValueError(
                f"share={share}; as a count it must lie in 1..{available} (scored pairs)."
            )
        return int(share)
    if not 0 < share <= 1:
        raise ValueError(f"share={share}; as a fraction (float) it must lie in (0, 1].")
    return max(1, round(float(share) * available))
