"""`load_pairs`: read, recognise, check, and hand out one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import datasets
import pandas as pd

from nbkit.pairs import checks, hints, layouts, recipes, rows, settings, sources
from nbkit.pairs import columns as parts
from nbkit.pairs.messages import as_messages
from nbkit.pairs.sources import Pairs
from nbkit.pairs.tables import Table
from nbkit.warning import warn

MESSAGES = [{"role": datasets.Value("string"), "content": datasets.Value("string")}]
FOLDING = ("plain", "conversational", "text answers")  # other text can be put to their prompts


@overload
def load_pairs(
    source: Pairs,
    *,
    split: str = ...,
    revision: str | None = ...,
    name: str | None = ...,
    columns: Mapping[str, str | Sequence[str] | None] | None = ...,
    recipe: str | None = ...,
    on_bad: Literal["raise"] = ...,
    chat: bool = ...,
) -> datasets.Dataset: ...


@overload
def load_pairs(
    source: Pairs,
    *,
    split: str = ...,
    revision: str | None = ...,
    name: str | None = ...,
    columns: Mapping[str, str | Sequence[str] | None] | None = ...,
    recipe: str | None = ...,
    on_bad: Literal["drop"],
    chat: bool = ...,
) -> tuple[datasets.Dataset, pd.DataFrame]: ...


def load_pairs(
    source: Pairs,
    *,
    split: str = "train",
    revision: str | None = None,
    name: str | None = None,
    columns: Mapping[str, str | Sequence[str] | None] | None = None,
    recipe: str | None = None,
    on_bad: str = "raise",
    chat: bool = False,
) -> datasets.Dataset | tuple[datasets.Dataset, pd.DataFrame]:
    """Load preference pairs from nearly anywhere, in nearly any published layout.

    Args:
        source: a path (`.jsonl`, `.json`, `.csv`, `.parquet`, or a folder of files of one kind;
            gzip, also as `.jsonl.gz`), a hub id, a pandas DataFrame, a list of dicts, a
            `datasets.Dataset` or a `datasets.DatasetDict`.
        split: of a hub id, of a `DatasetDict`, or of a folder whose files are named after their
            splits.
        revision: commit or tag of a hub id; pin it!
        name: configuration of a hub id.
        columns: which column is what, where the names are others: a part of the pair (`id, prompt,
            system, chosen, rejected, chosen_score, rejected_score`) -> a column. A prompt may be
            made of several, in order, line below line: `{"prompt": ["instruction", "input"]}`;
            where one of them is a conversation, all become turns. `system` becomes the system
            message, and so every pair a conversation. Any column -> None leaves it out.
        recipe: how two or more answers and a judgement become pairs, by data set: `shp`,
            `helpsteer2`, `helpsteer3`, `pku_better`, `pku_safer`, `arena`, `nectar`,
            `ultrafeedback`, `ultrafeedback_overall`, `distilabel`, `openai` (see
            `nbkit.pairs.recipes`). Lists give the best against the worst answer. Ties are left out
            and counted. Where the columns fit one recipe only it is taken without being named, and
            a warning says so.
        on_bad: "raise" (default): any bad row raises one `BadPairs` error, and the pairs are
            returned. "drop": always returns `(pairs, report)`, the good rows and a DataFrame with
            the columns `row, id, column, problem, received`, one line for each problem or tie,
            rows from 0 (in a folder through all files in the order of their names).
        chat: wrap plain strings into messages (user, assistant), so that the chat template of an
            instruct model is applied. Pairs that are messages already stay as they are.

    Returns:
        Dataset with `id` (str), `prompt, chosen, rejected` (all str, or all lists of
        `{"role", "content"}` messages), `chosen_score, rejected_score` (float, if the source has
        them, also as `score_chosen, score_rejected`), of conversations `tools,
        chat_template_kwargs` (JSON text, if the source has them), then all other columns as they
        came. Messages may come as `from, value`, with roles such as human and gpt, and with content
        as text parts; keys other than role and content are left out. An id that is missing is made
        from the pair's content (`content_id`), so it is the same on every run and machine, in any
        order of the rows. A warning says which columns that belong to the prompt, or that look like
        scores, are not used, how many ties are left out, and where a prompt was taken from the
        answers, or off them.

    Raises:
        BadPairs: a value is missing, empty or no text; messages are malformed, or hold tool calls
            or reasoning; chosen equals rejected; an id occurs twice; a score is null, NaN,
            infinite, or higher for rejected. With "drop" only if no row is left, or if the ids are
            those of prompts. A `ValueError`.
        UnknownLayout: the columns fit no known layout, or more than one (see
            `nbkit.pairs.layouts`). A `ValueError`.
        ValueError: a file cannot be read, with the file, the line and the cause; or an argument is
            wrong.
        FileNotFoundError: no such file, and no such data set on the hub or the hub cannot be
            reached.

    Examples:
        >>> import nbkit as nb
        >>> rows = [{"id": "a", "question": "A river?", "good": "The Nile.", "bad": "Wet."}]
        >>> names = {"prompt": "question", "chosen": "good", "rejected": "bad"}
        >>> nb.load_pairs(rows, columns=names)[0]
        {'id': 'a', 'prompt': 'A river?', 'chosen': 'The Nile.', 'rejected': 'Wet.'}

        >>> judged = {"prompt": "A river?", "response_1": "Wet.", "response_2": "The Nile."}
        >>> nb.load_pairs([judged | {"preference_strength": 2}], recipe="helpsteer2")[0]["chosen"]
        'The Nile.'
    """
    if on_bad not in ("raise", "drop"):
        raise ValueError(f'on_bad={on_bad!r}; expected "raise" or "drop".')
    table = sources.read(source, split, revision, name)
    if table.rows == 0:
        raise ValueError("The source has no rows; expected at least one preference pair.")
    columns = columns or {}
    used = recipes.choose(table, recipe, columns)
    made, problems, ties = recipes.apply(used, table) if used else ({}, [], [])
    if len({row for row, *_ in problems + ties}) == table.rows:
        nothing = [(row, None, *what) for row, *what in problems + ties]
        raise checks.bad_pairs(checks.make_report(nothing), table.rows)
    core, asked = parts.take(table, columns, made)
    scores = parts.scores(core, table, columns)
    core |= {name: [*map(as_messages, core[name])] for name in sources.TEXT_COLUMNS if name in core}
    layout = layouts.recognise(core, table.names, columns)

    passed_over = {row for row, *_ in problems + ties}
    pairs, found = rows.make_pairs(core, layout, table, scores, chat, passed_over)
    problems += found
    report = checks.make_report([(row, pairs["id"][row], *what) for row, *what in problems + ties])
    if problems and on_bad == "raise" or report["row"].nunique() == table.rows:
        raise checks.bad_pairs(report, table.rows)
    left_out = set(report["row"])
    good = [row for row in range(table.rows) if row not in left_out]
    beside = table.beside()
    notes = [
        recipe is None and _about_the_recipe(used),
        on_bad == "raise" and _about_ties(ties, table),
        _about_the_prompt(layout, pairs["prompt"][good[0]]),
        hints.unread(
            _saying_more(table, pairs["prompt"], good),
            asked if layout.name in FOLDING else [], columns,
        ),
        not scores and hints.score_columns(table.names, table.values, columns),
    ]  # fmt: skip
    for note in notes:
        if isinstance(note, str):
            warn(note)
    pairs = _build(pairs, beside, good, layout.gives_messages or "system" in core, chat)
    return (pairs, report) if on_bad == "drop" else pairs


def _about_the_recipe(used: recipes.Recipe | None) -> str | None:
    if used is None:
        return None
    return (
        f"Read with recipe={used.name!r}: {used.says}. Name the recipe in load_pairs, and this "
        "warning ends."
    )


def _about_ties(ties: list, table: Table) -> str | None:
    if not ties:
        return None
    return f"{len(ties)} of {table.rows} rows are ties and left out; on_bad='drop' lists them."


def _about_the_prompt(layout: layouts.Layout, first: Any) -> str | None:
    if layout.name == "repeated":
        return "Both answers begin with their prompt in most rows; there it was taken off."
    if layout.name == "implicit plain":
        return (
            "There is no column 'prompt': what chosen and rejected share at their beginning was "
            f"taken as the prompt (first: {first!r:.60})."
        )
    return None


def _saying_more(table: Table, prompts: list, good: list[int]) -> list[str]:
    """The columns beside the pairs that belong to the prompt and say more than it does."""
    names = hints.found_among(table.names, hints.PICTURES)  # pictures are not opened
    texts = [_text(prompts[row]) for row in good]
    for name in hints.found_among(table.names, hints.BESIDE):
        values = table.values(name)
        if hints.says_more([values[row] for row in good], texts):
            names.append(name)
    return names


def _text(prompt: str | list[dict]) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)


def _build(
    pairs: dict[str, list], beside: datasets.Dataset | None, good: list[int], gives_messages: bool,
    chat: bool,
) -> datasets.Dataset:  # fmt: skip
    pairs = {name: [values[row] for row in good] for name, values in pairs.items()}
    texts = [pairs[name] for name in sources.TEXT_COLUMNS]
    if chat and not gives_messages:
        texts = zip(*(rows.as_chat(*row) for row in zip(*texts, strict=True)), strict=True)
    kind = MESSAGES if gives_messages or chat else datasets.Value("string")
    built = {"id": pairs["id"]} | dict(zip(sources.TEXT_COLUMNS, map(list, texts), strict=True))
    features = {"id": datasets.Value("string")} | dict.fromkeys(sources.TEXT_COLUMNS, kind)
    if "chosen_score" in pairs:
        built |= {name: [float(score) for score in pairs[name]] for name in parts.SCORES}
        features |= dict.fromkeys(parts.SCORES, datasets.Value("float64"))
    for name in settings.SETTINGS:
        if name in pairs:
            built[name], features[name] = pairs[name], datasets.Value("string")
    built = datasets.Dataset.from_dict(built, features=datasets.Features(features))
    if beside is None:
        return built
    kept = beside if len(good) == len(beside) else beside.select(good)
    return datasets.concatenate_datasets([built, kept], axis=1)
