"""Pairs that are passed over: the one account of them, and the one way to say so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Self

from nbkit.warning import warn

SHOWN = 3  # examples named in a message


class LeftOut(dict[str, str]):
    """Pairs that were passed over: id -> the reason. It does not change once it is made, so that
    copies are free: pandas copies a table's `attrs` at every step."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return LeftOut, (dict(self),)

    def __repr__(self) -> str:
        if len(self) <= SHOWN:
            return f"LeftOut({dict(self)!r})"
        return f"LeftOut({len(self)} pairs: {self.reasons()})"

    def reasons(self) -> str:
        """How many pairs for each kind of reason, with the first of each, in one line."""
        kinds: dict[str, list[str]] = {}
        for id_, reason in self.items():
            kinds.setdefault(re.sub(r"\d+", "#", reason), []).append(id_)
        told = [f"{len(ids)} such as {ids[0]!r}: {self[ids[0]]}" for ids in kinds.values()]
        more = f"; and {len(told) - SHOWN} other reasons" if len(told) > SHOWN else ""
        return "; ".join(told[:SHOWN]) + more

    def warn(self, total: int, what: str = "pairs", where: str | None = None) -> None:
        """Say, once and in one form, how many of `total` are left out and why; nothing if none
        is. `where`: the place at which the caller's result lists them."""
        if self:
            listed = f" All are in `{where}`." if where else ""
            warn(f"{len(self)} of {total} {what} are left out: {self.reasons()}.{listed}")


def some(things: Iterable[object], shown: int = SHOWN) -> str:
    """The first few of them, and how many more there are."""
    things = list(things)
    more = f" and {len(things) - shown} more" if len(things) > shown else ""
    return ", ".join(f"{thing!r:.60}" for thing in things[:shown]) + more
