"""Random selections: the controls that every other is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from random import Random
from typing import Any

import pandas as pd
from datasets import Dataset

from nbkit.inputs import as_count, as_ids
from nbkit.select.series import as_scores


def random(
    selection: Sized,
    pairs: pd.DataFrame | pd.Series | Dataset | Iterable[str],
    seed: int = 0,
) -> list[str]:
    """As many pairs as `selection` has, drawn at random: the control that every selection is
    compared with.

    Args:
        selection: ids.
        pairs: what to draw from. A log-prob table, or a score: the pairs that it holds without
            NaN, so that those left out (too long, say) are not drawn; give this where training
            would pass them over, too, or the control ends up smaller than the selection. Or pairs
            (a Dataset or a DataFrame with `id`), or a list of ids: all of them.
        seed: of the draw.

    Returns:
        list of ids, in random order.

    Raises:
        TypeError, ValueError: no ids to draw from, one of them twice, or fewer than wanted.

    Example:
        >>> import nbkit as nb
        >>> nb.select.random(["b", "a"], pairs=["a", "b", "c", "d"], seed=1)
        ['b', 'c']
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
        bins: how many the pairs are cut into.

    Returns:
        list of ids, in random order.

    Raises:
        TypeError, ValueError: what is no list of ids, no lengths or no count; a selected pair
            that has no length.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> tokens = pd.Series({"a": 2, "b": 3, "c": 30, "d": 31, "e": 32})
        >>> nb.select.random_matched(["a", "c"], tokens, bins=2)  # one short, one long
        ['c', 'b']
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


def _ids(pairs: Any) -> Iterable[str]:
    if isinstance(pairs, pd.Series):
        return as_scores(pairs).dropna().index
    if isinstance(pairs, pd.DataFrame):
        if "id" in pairs:
            return pairs["id"]
        return pairs.drop(columns="tokens_hash", errors="ignore").dropna().index
    return pairs["id"] if hasattr(pairs, "column_names") else pairs
