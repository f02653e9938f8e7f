"""Selections: ordered lists of pair ids, made from scores.

A score is a pandas Series of numbers indexed by pair id; `share` is a fraction (a float in (0, 1])
or a count (an int): 1.0 keeps all pairs, 1 keeps one. Pairs whose score is NaN are never selected,
infinite ones are ranked like any other. Ties are broken by `ties`, another score,
and then by id, so that a selection does not depend on the order of the data set. A score with many
ties, such as a learned step of which half is infinite, needs `ties`: cut by id, two selections that
have nothing in common look alike. The first id of a selection is the one that fits it
best: `order="given"` in `nbkit.train_dpo` trains in that order.
"""

from __future__ import annotations

from numbers import Integral, Real
from random import Random

import numpy as np
import pandas as pd

from nbkit.inputs import as_count, as_ids
from nbkit.left_out import some

__all__ = [
    "both",
    "central",
    "easiest",
    "hardest",
    "middle",
    "random",
    "random_matched",
    "top",
]


def __dir__():
    return __all__


def easiest(scores: pd.Series, share: float | int, ties: pd.Series | None = None) -> list[str]:
    """The pairs with the lowest scores, lowest first: easiest, for scores such as a loss of which
    lower means easier (Selective DPO, arXiv 2502.09650)."""
    return _first(scores, share, ties, ascending=True)


def hardest(scores: pd.Series, share: float | int, ties: pd.Series | None = None) -> list[str]:
    """The pairs with the highest scores, highest first: hardest, for scores such as a loss."""
    return _first(scores, share, ties, ascending=False)


def top(scores: pd.Series, share: float | int, ties: pd.Series | None = None) -> list[str]:
    """The pairs with the highest scores, highest first: for scores of which more is better."""
    return _first(scores, share, ties, ascending=False)


def middle(scores: pd.Series, low: float, high: float) -> list[str]:
    """The pairs in a band of percentiles, lowest score first: those after the lowest share `low`
    and up to the share `high` (0.2, 0.8: without the lowest and the highest fifth).

    Raises:
        ValueError: not 0 <= low < high <= 1, or no pair lies in the band.
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
        scores: one or more; a pair that lacks one of them (NaN, or no row) is never selected, and
            percentiles are among the others.
        share: fraction of those pairs, or their number.
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

    Raises:
        ValueError: fewer than two selections, or no pair is in all of them.
    """
    if len(selections) < 2:
        raise ValueError(f"Expected two selections or more, got {len(selections)}.")
    selections = [as_ids(ids, None, f"selection {n}") for n, ids in enumerate(selections, start=1)]
    shared = set(selections[0]).intersection(*selections[1:])
    if not shared:
        sizes = ", ".join(str(len(selection)) for selection in selections)
        raise ValueError(f"No pair is in all of the selections (of {sizes} pairs).")
    return [id_ for id_ in selections[0] if id_ in shared]


def random(selection: list[str], pairs, seed: int = 0) -> list[str]:
    """As many pairs as `selection` has, drawn at random: the control that every selection is
    compared with.

    Args:
        selection: ids.
        pairs: what to draw from. A log-prob table, or a score: the pairs that it holds without
            NaN, so that those left out (too long, say) are not drawn; give this where training
            would pass them over, too, or the control ends up smaller than the selection. Or pairs
            (a Dataset or a DataFrame with `id`), or a list of ids: all of them.
        seed: of the draw.

    Raises:
        TypeError, ValueError: no ids to draw from, one of them twice, or fewer than wanted.
    """
    if isinstance(selection, str) or not hasattr(selection, "__len__"):
        raise TypeError(f"selection={selection!r:.60}: expected a list of pair ids.")
    ids = sorted(as_ids(_ids(pairs), None, "pairs"))
    if len(selection) > len(ids):
        raise ValueError(f"Cannot draw {len(selection)} pairs from {len(ids)}.")
    return Random(as_count(seed, "seed", least=0)).sample(ids, len(selection))


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
        TypeError, ValueError: what is no list of ids, no lengths or no count; a selected pair
            that has no length.
    """
    selection = as_ids(selection, None, "selection")
    bins, seed = as_count(bins, "bins"), as_count(seed, "seed", least=0)
    known = as_scores(lengths, "lengths").dropna().sort_index()
    unknown = [id_ for id_ in selection if id_ not in known.index]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the {len(selection)} selected pairs have no length (first: "
            f"{unknown[0]!r}). Lengths are a Series indexed by pair id, one for every pair."
        )
    bin_of = pd.cut(known.rank(), bins, labels=False)  # equal lengths share a rank, so a bin
    wanted = bin_of[selection].value_counts()
    rng = Random(seed)
    drawn = [
        id_
        for bin_, count in sorted(wanted.items())
        for id_ in rng.sample(bin_of.index[bin_of == bin_].tolist(), count)
    ]
    rng.shuffle(drawn)
    return drawn


def as_scores(scores, what: str | None = None) -> pd.Series:
    """Scores as floats by pair id: a Series whose ids are text, each once. NaN stays, and infinite
    scores do; numbers of any real kind (bool, nullable, Python's) are converted.

    Args:
        what: it is called in messages; None: the name of the Series.

    Raises:
        TypeError: no Series, or a score that is no real number (text, complex, a time).
        ValueError: ids that are not text, or twice.
    """
    scores = as_numbers(scores, what)
    check_texts(scores.index, what or str(scores.name or "The score"))
    return scores


def as_numbers(values, what: str | None = None) -> pd.Series:
    """A Series of any index, each entry once, as floats; errors as of `as_scores`."""
    if not isinstance(values, pd.Series):
        column = " Take one of its columns." if isinstance(values, pd.DataFrame) else ""
        raise TypeError(
            f"Expected {what or 'scores'} as a pandas Series indexed by pair id, got "
            f"{type(values).__name__}.{column}"
        )
    what = what or str(values.name or "The score")
    check_each_once(values.index, what)
    if pd.api.types.is_any_real_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        floats = values.to_numpy(float, na_value=np.nan)
    else:
        floats = [_float(value) for value in values]
        if None in floats:
            first = floats.index(None)
            raise TypeError(
                f"{what} of pair {values.index[first]!r} is {values.iloc[first]!r:.60}; expected "
                "numbers. Where numbers are written as text, `scores.astype(float)` makes numbers "
                "of them."
            )
    return pd.Series(floats, values.index, float, values.name)


def check_each_once(ids: pd.Index, what: str) -> None:
    """Raise ValueError if an id occurs twice."""
    if ids.has_duplicates:
        id_ = ids[ids.duplicated()][0]
        raise ValueError(
            f"{what} holds pair {id_!r} more than once; expected each once. Of two tables in one, "
            "`table[~table.index.duplicated()]` keeps the first row of each pair."
        )


def check_texts(ids: pd.Index, what: str) -> None:
    """Raise ValueError unless all ids are text."""
    if isinstance(ids.dtype, pd.StringDtype) and not ids.hasnans:  # without a look at each
        return
    if other := [id_ for id_ in ids if not isinstance(id_, str)]:
        raise ValueError(
            f"{what}: ids are text, got {some(other)}. Index it by `pairs['id']`, after "
            "`nb.load_pairs`."
        )


def _float(value) -> float | None:
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            return None
    return np.nan if pd.api.types.is_scalar(value) and pd.isna(value) else None


def _ids(pairs):
    if isinstance(pairs, pd.Series):
        return as_scores(pairs).dropna().index
    if isinstance(pairs, pd.DataFrame):
        if "id" in pairs:
            return pairs["id"]
        return pairs.drop(columns="tokens_hash", errors="ignore").dropna().index
    return pairs["id"] if hasattr(pairs, "column_names") else pairs


def _first(scores, share, ties, ascending):
    ranked = _ranked(scores, ascending, ties)
    return ranked.index[: _count(share, len(ranked))].tolist()


def _ranked(scores, ascending, ties=None):
    # in id order: the sort is stable
    frame = as_scores(scores).dropna().sort_index().to_frame("score")
    if ties is not None:
        ties = as_scores(ties, "ties")
        if absent := [id_ for id_ in frame.index if id_ not in ties.index]:
            raise ValueError(
                f"ties lacks {len(absent)} of the scored pairs (first: {absent[0]!r})."
            )
        frame["ties"] = ties
    return frame.sort_values(list(frame), ascending=ascending, kind="stable")


def _count(share, available: int) -> int:
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
