"""`load_pairs`: read, recognise, check, and hand out one shape."""

import hashlib
import json

import datasets
import pandas as pd

from nbkit.pairs import checks, layouts, sources

MESSAGES = [{"role": datasets.Value("string"), "content": datasets.Value("string")}]


def load_pairs(
    source,
    *,
    split: str = "train",
    revision: str | None = None,
    name: str | None = None,
    on_bad: str = "raise",
    chat: bool = False,
) -> datasets.Dataset | tuple[datasets.Dataset, pd.DataFrame]:
    """Load preference pairs from nearly anywhere, in nearly any published layout.

    Parameters
    ----------
    source
        A path (`.jsonl`, `.json`, `.csv`, `.parquet`, or a folder of them), a hub id, a pandas
        DataFrame, a list of dicts, a `datasets.Dataset` or a `datasets.DatasetDict`.
    split, revision, name
        Choose within a hub id: its split, its commit or tag (pin it!), its configuration.
        `split` also chooses within a `DatasetDict`.
    on_bad
        `"raise"` (default): any bad row raises one `BadPairs` error, and the pairs are returned.
        `"drop"`: always returns `(pairs, report)`, the good rows and a DataFrame with the
        columns `row, id, column, problem, received`, one line for each problem, rows from 0.
    chat
        Wrap plain strings into messages (user, assistant), so that the chat template of an
        instruct model is applied. Pairs that are messages already stay as they are.

    Returns
    -------
    datasets.Dataset
        `id` (str), `prompt, chosen, rejected` (all str, or all lists of `{"role", "content"}`
        messages), `chosen_score, rejected_score` (float, if the source has them, also as
        `score_chosen, score_rejected`), then all other columns as they came. Message keys other
        than role and content are left out. An id that is missing is made from the pair's content
        (`content_id`), so it is the same on every run and machine, in any order of the rows.

    Raises
    ------
    BadPairs
        A value is missing, empty or no text; messages are malformed; chosen equals rejected; an
        id occurs twice; a score is null, NaN, infinite, or higher for rejected. A `ValueError`.
    UnknownLayout
        The columns fit no known layout (see `nbkit.pairs.layouts`). A `ValueError`.
    FileNotFoundError
        No such file, and no such data set on the hub or the hub cannot be reached.
    """
    if on_bad not in ("raise", "drop"):
        raise ValueError(f'on_bad={on_bad!r}; expected "raise" or "drop".')
    table = sources.read(source, split, revision, name)
    if table.rows == 0:
        raise ValueError("The source has no rows; expected at least one preference pair.")
    scores = _scores(table)
    layout = layouts.recognise(table.core, table.column_names)

    columns, problems = _convert(table, layout)
    columns |= scores
    columns["id"] = _ids(table, columns)
    problems = [(row, columns["id"][row], *problem) for row, *problem in problems]
    problems += _score_problems(columns)
    problems += _duplicates(columns, bad_rows={problem[0] for problem in problems})

    report = checks.make_report(problems)
    if problems and (on_bad == "raise" or report["row"].nunique() == table.rows):
        raise checks.BadPairs(checks.error_message(report, table.rows), report)
    bad_rows = set(report["row"])
    good_rows = [row for row in range(table.rows) if row not in bad_rows]
    pairs = _build(columns, table.extras, good_rows, layout, chat)
    return (pairs, report) if on_bad == "drop" else pairs


def content_id(prompt, chosen, rejected) -> str:
    """The id of a pair without one: 16 hex digits of SHA-256 over its canonical JSON."""
    canonical = json.dumps(
        [prompt, chosen, rejected], ensure_ascii=True, sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]


def _convert(table: sources.Table, layout: layouts.Layout) -> tuple[dict, list]:
    """Every row as (prompt, chosen, rejected), None where bad; and (row, column, problem, value)"""
    nothing = [None] * table.rows
    raw = [table.core.get(name, nothing) for name in sources.TEXT_COLUMNS]
    columns = {name: [None] * table.rows for name in sources.TEXT_COLUMNS}
    problems = []
    for row, values in enumerate(zip(*raw, strict=True)):
        values = dict(zip(sources.TEXT_COLUMNS, values, strict=True))
        found = [
            (row, column, problem, values[column])
            for column, expected in layout.kinds.items()
            if (problem := checks.value_problem(values[column], expected))
        ]
        if not found:
            pair = layouts.to_pair(layout, **values)
            problem = checks.pair_problem(layout, values["prompt"], *pair)
            if problem:
                found = [(row, *problem)]
            else:
                for column, value in zip(sources.TEXT_COLUMNS, pair, strict=True):
                    columns[column][row] = value
        problems += found
    return columns, problems


def _scores(table: sources.Table) -> dict[str, list]:
    """The two score columns under nbkit's names, or nothing."""
    found = {}
    for came, values in table.core.items():
        name = sources.SCORE_NAMES.get(came, came)
        if name not in ("chosen_score", "rejected_score"):
            continue
        if name in found:
            raise layouts.UnknownLayout(
                f"Two columns for {name}: {name} and {came}. Drop or rename one of them."
            )
        found[name] = values
    if len(found) == 1:
        raise layouts.UnknownLayout(
            f"Column {next(iter(found))!r} came without its partner; expected both chosen_score "
            f"and rejected_score, or neither. Came: {', '.join(table.column_names)}."
        )
    return found


def _ids(table: sources.Table, columns: dict[str, list]) -> list[str | None]:
    """The ids as text, made from the content where missing; None for a bad row without one."""
    given = table.core.get("id", [None] * table.rows)
    contents = zip(*(columns[name] for name in sources.TEXT_COLUMNS), strict=True)
    ids = []
    for value, content in zip(given, contents, strict=True):
        if not checks.is_missing(value) and str(value).strip():
            ids.append(_id_text(value))
        else:
            ids.append(content_id(*content) if content[0] is not None else None)
    return ids


def _id_text(value) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # pandas makes 7 a 7.0 in a column where another id is missing
    return str(value)


def _score_problems(columns: dict[str, list]) -> list[tuple]:
    if "chosen_score" not in columns:
        return []
    scores = zip(columns["id"], columns["chosen_score"], columns["rejected_score"], strict=True)
    return [
        (row, pair_id, *problem)
        for row, (pair_id, chosen, rejected) in enumerate(scores)
        if (problem := checks.score_problem(chosen, rejected))
    ]


def _duplicates(columns: dict[str, list], bad_rows: set[int]) -> list[tuple]:
    ids = columns["id"]
    rows = [row for row in range(len(ids)) if row not in bad_rows]
    contents = list(zip(*(columns[name] for name in columns if name != "id"), strict=True))
    found = checks.duplicate_problems(rows, ids, contents)
    return [(row, ids[row], "id", problem, ids[row]) for row, problem in found]


def _build(columns, extras, rows, layout, chat) -> datasets.Dataset:
    pairs = {name: [columns[name][row] for row in rows] for name in ("id", *sources.TEXT_COLUMNS)}
    as_messages = layout.gives_messages or chat
    if chat and not layout.gives_messages:
        for name in sources.TEXT_COLUMNS:
            role = "user" if name == "prompt" else "assistant"
            pairs[name] = [[{"role": role, "content": text}] for text in pairs[name]]
    features = {"id": datasets.Value("string")}
    for name in sources.TEXT_COLUMNS:
        features[name] = MESSAGES if as_messages else datasets.Value("string")
    for name in ("chosen_score", "rejected_score"):
        if name in columns:
            pairs[name] = [float(columns[name][row]) for row in rows]
            features[name] = datasets.Value("float64")
    built = datasets.Dataset.from_dict(pairs, features=datasets.Features(features))
    if extras is None:
        return built
    kept = extras if len(rows) == len(extras) else extras.select(rows)
    return datasets.concatenate_datasets([built, kept], axis=1)
