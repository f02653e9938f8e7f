"""What can be wrong with a row, and the one error that says so.

Every check returns None, or a short wording of the problem. Nothing here changes a pair.
"""

import math
from collections import Counter, defaultdict
from numbers import Real
from typing import Any

import pandas as pd

from nbkit.pairs.layouts import TURN, Layout, is_a_prompt, kind, read_transcript
from nbkit.pairs.values import is_missing, shorten

REPORT_COLUMNS = ["row", "id", "column", "problem", "received"]
MESSAGE_ROLES = ("system", "developer", "user", "assistant", "tool")
EXPECTED = {
    "text": "text",
    "transcript": "a '\\n\\nHuman: ...' transcript",
    "messages": "a list of {'role', 'content'} messages",
}
# Keys of a message that say something, and that nbkit does not give to a model.
UNREAD = {
    "tool_calls": "tool_calls are not supported",
    "function_call": "a function_call is not supported",
    "reasoning_content": "reasoning_content is not supported",
    "reasoning": "reasoning is not supported",
    "thinking": "thinking is not supported",
}
SHOWN = 5  # rows shown in the error

Problem = tuple[str, str, Any]  # column, what is wrong, what came


class BadPairs(ValueError):
    """Some rows are no usable pairs.

    Args:
        message: how many, and the first of them.

    Attributes:
        report: DataFrame `row, id, column, problem, received`, one line for each problem.

    Example:
        >>> import nbkit as nb
        >>> rows = [{"prompt": "A river?", "chosen": "The Nile.", "rejected": "The Nile."}]
        >>> try:
        ...     nb.load_pairs(rows)
        ... except nb.BadPairs as bad:
        ...     print(bad.report["problem"].tolist())
        ['equal to chosen']
    """

    def __init__(self, message: str, report: pd.DataFrame | None = None) -> None:
        super().__init__(message)
        self.report = report


# One value ---------------------------------------------------------------------------------------


def value_problem(value: Any, expected: str) -> str | None:
    """What is wrong with one value of prompt, chosen or rejected, as it came."""
    if is_missing(value):
        return "missing"
    if isinstance(value, str) and (expected == "text" or not value.strip()):
        return text_problem(value)
    if kind(value) != expected:
        return f"not {EXPECTED[expected]}"
    return messages_problem(value) if expected == "messages" else transcript_problem(value)


def text_problem(text: str) -> str | None:
    if not text or text.isspace():
        return "empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "not valid Unicode (a lone surrogate)"
    return None


def messages_problem(messages: list[dict]) -> str | None:
    if not messages:
        return "empty"
    for number, turn in enumerate(messages):
        if turn["role"] not in MESSAGE_ROLES:
            return f"malformed message {number}: role {shorten(turn['role'], 30)}"
        if unread := [why for key, why in UNREAD.items() if turn.get(key)]:
            return f"malformed message {number}: {unread[0]}"
        content = turn.get("content")
        if not isinstance(content, str):
            what = "no content" if is_missing(content) else "content is not text"
            return f"malformed message {number}: {what}"
        problem = text_problem(content)
        if problem and not (turn["role"] == "system" and content == ""):
            return f"malformed message {number}: {problem} content"
    return None


def transcript_problem(text: str) -> str | None:
    if text_problem(text):
        return text_problem(text)
    _, *parts = TURN.split(text)
    if not all(said.strip() for said in parts[1::2]):
        return "malformed transcript: a turn is empty"
    if parts[-2] != "Assistant":
        return "malformed transcript: the last turn is not the assistant's"
    return None


# One pair ----------------------------------------------------------------------------------------


def pair_problem(
    layout: Layout, raw_prompt: Any, prompt: Any, chosen: Any, rejected: Any
) -> Problem | None:
    """The problem of a pair whose values are fine one by one, or None."""
    if chosen == rejected:
        return "rejected", "equal to chosen", rejected
    if not prompt or (isinstance(prompt, str) and prompt.isspace()):
        return "prompt", "chosen and rejected share no beginning", (chosen, rejected)
    if layout.name == "implicit plain" and not is_a_prompt(prompt):
        return "prompt", "chosen and rejected share no beginning that ends a prompt", prompt
    if not layout.gives_messages:
        for column, text in (("chosen", chosen), ("rejected", rejected)):
            if not text.strip():
                return column, "empty once the shared prompt is taken off", text
        return None
    if prompt[-1]["role"] not in ("user", "tool"):
        return "prompt", "malformed messages: the prompt must end with the user's turn", prompt
    for column, answer in (("chosen", chosen), ("rejected", rejected)):
        if answer[0]["role"] != "assistant" or answer[-1]["role"] != "assistant":
            problem = "malformed messages: an answer must begin and end with the assistant's turn"
            return column, problem, answer
    if isinstance(raw_prompt, str) and layout.name in ("ultrafeedback", "transcripts"):
        asked = raw_prompt.strip()
        if kind(raw_prompt) == "transcript":
            asked = [turn["content"] for turn in read_transcript(raw_prompt) if turn["content"]][-1]
        if all(turn["content"].strip() != asked for turn in prompt):
            return "prompt", "not among the first turns of chosen and rejected", raw_prompt
    return None


def score_problem(chosen_score: float, rejected_score: float) -> Problem | None:
    """The problem of a pair of explicit scores, which may be of any type, or None."""
    for column, score in (("chosen_score", chosen_score), ("rejected_score", rejected_score)):
        if isinstance(score, Real) and not isinstance(score, bool):
            if not math.isfinite(number := _as_float(score)):
                return column, "NaN" if math.isnan(number) else "infinite", score
        elif is_missing(score):
            return column, "missing", score
        else:
            comma = isinstance(score, str) and "," in score
            return column, "not a number" + (": a comma is not read" if comma else ""), score
    if chosen_score < rejected_score:
        return "chosen_score", "lower than rejected_score", (chosen_score, rejected_score)
    return None


def _as_float(number: float) -> float:
    """A number of any kind, NumPy's too, as a float; infinite if it is too large for one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


# All pairs ---------------------------------------------------------------------------------------


def duplicate_problems(rows: list[int], ids: list[str], contents: list) -> list[tuple]:
    """(row, problem) for ids that are not unique among `rows`.

    Rows that agree in everything are one pair: the first stays. Rows that share an id and differ
    are all bad, since which of them was meant must not depend on their order.
    """
    groups = defaultdict(list)
    for row in rows:
        groups[ids[row]].append(row)
    found = []
    for same_id in groups.values():
        first, *others = same_id
        if all(contents[row] == contents[first] for row in others):
            found += [(row, f"duplicate id: same pair as row {first}") for row in others]
        else:
            listed = ", ".join(str(row) for row in same_id[:SHOWN])
            problem = f"duplicate id: given to different pairs or scores (rows {listed})"
            found += [(row, problem) for row in same_id]
    return found


def id_of_prompts(rows: list[int], ids: list[str], pairs: list[tuple]) -> str | None:
    """An id given to different pairs, if all such ids stand for one prompt each: then the ids are
    those of the prompts. `pairs` are (prompt, chosen, rejected)."""
    groups = defaultdict(list)
    for row in rows:
        groups[ids[row]].append(pairs[row])
    differing = {id_: of_id for id_, of_id in groups.items()
                 if any(pair != of_id[0] for pair in of_id)}  # fmt: skip
    if all(pair[0] == of_id[0][0] for of_id in differing.values() for pair in of_id):
        return next(iter(differing), None)
    return None


def make_report(problems: list[tuple]) -> pd.DataFrame:
    """One line for each problem, in the order of the rows; `received` is shortened."""
    lines = [
        (row, id_ and id_.encode(errors="backslashreplace").decode(), *what, shorten(received))
        for row, id_, *what, received in problems
    ]
    report = pd.DataFrame(lines, columns=REPORT_COLUMNS)
    report = report.astype({"row": "int64"})
    return report.sort_values("row", kind="stable", ignore_index=True)


def bad_pairs(report: pd.DataFrame, rows: int) -> BadPairs:
    """The error about all lines of a report on so many rows."""
    bad = report["row"].nunique()
    counts = Counter(problem.split(":")[0] for problem in report["problem"])
    summary = ", ".join(f"{count} {problem}" for problem, count in counts.most_common())
    lines = [f"{bad:,} of {rows:,} rows cannot be used as preference pairs ({summary})."]
    for line in report.head(SHOWN).itertuples():
        who = f"row {line.row}" + (f" (id {shorten(line.id)})" if line.id else "")
        lines.append(f"  {who}, column {line.column!r}: {line.problem}; received {line.received}")
    if len(report) > SHOWN:
        lines.append(f"  ... and {len(report) - SHOWN:,} more (all in the error's .report)")
    lines += [
        "Expected: prompt, chosen and rejected present and not empty, all text or all message",
        "lists; chosen different from rejected; unique ids; finite scores, the chosen one not",
        "lower. Rows are counted from 0.",
        "What to do: mend these rows, or leave them out knowingly with",
        '  pairs, report = load_pairs(..., on_bad="drop")',
    ]
    return BadPairs("\n".join(lines), report)
