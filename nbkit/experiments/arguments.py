"""Arguments that experiments share: seeds, and the settings of their trainings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Set
from difflib import get_close_matches
from numbers import Integral

from nbkit.inputs import as_count
from nbkit.train.settings import Training


def check_names(
    function: Callable, given: Mapping[str, object], own: Set[str] = frozenset(), whose: str = ""
) -> None:
    """Refuse arguments of an experiment (those in its `**training` too) before anything begins.

    Args:
        function: the experiment.
        given: what it was given, by name.
        own: arguments of `train_dpo` that it sets itself.
        whose: what it is called in a message.

    Raises:
        ValueError: an argument that it sets itself.
        TypeError: one that neither it nor a training has, with the nearest that there is.
    """
    if taken := own & set(given):
        raise ValueError(f"{', '.join(sorted(taken))}: set by the {whose} itself.")
    known = {*inspect.signature(function).parameters, *Training.__annotations__} - own
    for name in given:
        if name not in known - {"training"}:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise TypeError(
                f"{function.__name__} has no argument {name!r}.{hint} Further fields of TRL's "
                "config go into `trl_options`."
            )


def seed_list(seeds: int | Iterable[int]) -> list[int]:
    """Seeds from their number (0, 1, ...) or from a list of them.

    Raises:
        TypeError: neither, or a seed that is no whole number.
        ValueError: there are none, or one comes twice.
    """
    expected = "expected a number, 1 or more, or distinct seeds"
    if isinstance(seeds, (bool, str)) or not isinstance(seeds, (Integral, Iterable)):
        raise TypeError(f"seeds={seeds!r:.60}; {expected}.")
    listed = range(seeds) if isinstance(seeds, Integral) else seeds
    listed = [as_count(seed, "seeds", least=0) for seed in listed]
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"seeds={seeds!r:.60}; {expected}.")
    return listed
