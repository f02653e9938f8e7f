"""Pairs as an HTML table. Their texts come from data that others wrote: all are escaped."""

from collections.abc import Collection, Sequence
from html import escape

import pandas as pd
from datasets import Dataset

from nbkit.inputs import as_count, as_pairs
from nbkit.pair_ids import check_each_once, check_texts
from nbkit.pairs.sources import Pairs
from nbkit.plots.marked import flags

LONGEST = 400  # characters of one text

TABLE = "border-collapse:collapse;margin-top:0.5em;"
CELL = "padding:4px 10px;text-align:left;vertical-align:top;border-bottom:1px solid #8888;"
SHORT = CELL + "white-space:nowrap;"
LONG = CELL + "white-space:pre-wrap;overflow-wrap:anywhere;min-width:8em;unicode-bidi:isolate;"
CUT = "border-top:3px dashed #888;"


class PairTable:
    """Pairs, one a row: what is known of each, then its texts.

    Args:
        pairs: Dataset with `id` and the columns in `show`; it holds every scored pair.
        ids: of the scored pairs.
        facts: the columns before the texts: (name, Series of numbers by pair id).
        marks: boolean Series by pair id, one more such column; or None.
        show: columns of the pairs, one or several.
        rows: how many pairs of each kind to show.

    Raises:
        TypeError, ValueError: ids that occur twice, a scored id that is not in `pairs`, a missing
            column, marks that are no boolean Series, `rows` that is no count.
    """

    def __init__(
        self,
        pairs: Pairs,
        ids: Collection[str],
        facts: list,
        marks: pd.Series | None,
        show: str | Sequence[str],
        rows: int,
    ) -> None:
        self.show = [show] if isinstance(show, str) else list(show)
        self.rows = as_count(rows, "rows")
        self.pairs = pairs if isinstance(pairs, Dataset) else as_pairs(pairs)
        self.row_of = _rows_of(self.pairs, ids, self.show)
        self.facts = list(facts)
        if marks is not None:
            marks = flags(marks, pd.Index(ids)).map({True: "yes", False: "no"})
            self.facts.append((str(marks.name or "marked"), marks))

    def html(self, found: list[tuple[str, str]], caption: str) -> str:
        """The table of `found`, (id, what happened to it); a dashed line stands wherever something
        else begins to happen."""
        names = ["", *(name for name, _ in self.facts), *self.show]
        heads = "".join(f'<th scope="col" style="{SHORT}">{_text(name)}</th>' for name in names)
        lines = []
        for place, (id_, side) in enumerate(found):
            cut = CUT if place and side != found[place - 1][1] else ""
            head = f'<th scope="row" style="{SHORT}">{_text(side)}</th>'
            lines.append(f'<tr style="{cut}">{head}{self._cells(id_)}</tr>')
        return (
            f'<table style="{TABLE}"><caption style="text-align:left">{caption}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        )

    def _cells(self, id_: str) -> str:
        pair = self.pairs[self.row_of[id_]]
        known = [values[id_] for _, values in self.facts]
        known = [fact if isinstance(fact, str) else f"{fact:.3g}" for fact in known]
        texts = [_text(_readable(pair[name])) for name in self.show]
        return "".join(f'<td style="{SHORT}">{fact}</td>' for fact in known) + "".join(
            f'<td style="{LONG}">{text}</td>' for text in texts
        )


def _rows_of(pairs: Dataset, ids: Collection[str], show: list[str]) -> dict[str, int]:
    """id -> row of pairs that hold all the scored ids and the columns to show."""
    missing = [name for name in ("id", *show) if name not in pairs.column_names]
    if missing:
        raise ValueError(
            f"Columns {missing} are missing in the pairs. Came: {pairs.column_names}; expected "
            f"'id' and those to show: {show}."
        )
    own = pd.Index(pairs["id"][:])
    check_each_once(own, "pairs")
    check_texts(own, "pairs")
    row_of = {id_: row for row, id_ in enumerate(own)}
    unknown = [id_ for id_ in ids if id_ not in row_of]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(ids)} scored pairs are not in `pairs`: {unknown[:3]}. "
            "Pass the pairs that were scored."
        )
    return row_of


def _readable(value: object) -> str:
    """A text as it is; messages, or the entries of any list, one below the other; messages with
    their roles if there are several."""
    if not isinstance(value, list):
        return str(value)
    return "\n".join(_entry(entry, len(value) > 1) for entry in value)


def _entry(entry: object, with_role: bool) -> str:
    if not (isinstance(entry, dict) and "role" in entry and "content" in entry):
        return str(entry)
    return f"{entry['role']}: {entry['content']}" if with_role else str(entry["content"])


def _text(text: str) -> str:
    """Safe in HTML and in UTF-8, and not endless."""
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))
