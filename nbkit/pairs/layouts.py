"""The layouts in which preference pairs are published, and the one that nbkit uses.

    name              prompt    chosen, rejected
    plain             text      text
    repeated          text      text that begins with the prompt
    conversational    messages  messages (the answer, or the whole conversation)
    text answers      messages  text
    ultrafeedback     text      messages (the answer, with or without the user's turn before it)
    implicit          -         messages, sharing their first turns
    implicit plain    -         text, sharing its beginning
    transcripts       text or - text: "\\n\\nHuman: ...\\n\\nAssistant: ..." (HH-RLHF)

`plain`, `repeated` and `implicit plain` give strings; all others give lists of {"role", "content"}
messages, TRL's conversational format with an explicit prompt. The layout is read from all rows, by
majority, so that neither a few bad rows nor the order of the rows can change it.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbkit.pairs.hints import ASKED, found_among, likely_columns
from nbkit.pairs.messages import said_by
from nbkit.pairs.values import listed

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
END_OF_PROMPT = re.compile(r"[:?>\n]")  # what a prompt has in it, and a chance beginning has not
TEXTS = ("plain", "repeated", "implicit plain")

# (kind of prompt, kind of chosen and rejected) -> name; None: there is no such column.
LAYOUTS: dict[tuple[str | None, str], str] = {
    ("text", "text"): "plain",
    ("messages", "messages"): "conversational",
    ("messages", "text"): "text answers",
    ("text", "messages"): "ultrafeedback",
    ("text", "transcript"): "transcripts",
    (None, "messages"): "implicit",
    (None, "text"): "implicit plain",
    (None, "transcript"): "transcripts",
}


class UnknownLayout(ValueError):
    """The columns are not those of any layout that `load_pairs` knows."""


@dataclass(frozen=True)
class Layout:
    name: str
    kinds: dict[str, str]  # column -> the kind of value expected in every row

    @property
    def gives_messages(self) -> bool:
        return self.name not in TEXTS


def kind(value: object) -> str:
    """One of text, transcript, messages, or the name of the type for anything else."""
    if isinstance(value, str):
        return "transcript" if value.startswith("\n\nHuman:") else "text"
    if isinstance(value, list):
        is_messages = all(isinstance(item, dict) and "role" in item for item in value)
        return "messages" if is_messages else "list"
    return type(value).__name__


def recognise(core: dict[str, list], names: list[str], given: Mapping) -> Layout:
    """Find the layout from the kinds of values; raise `UnknownLayout` rather than guess. For
    advice: `names` are the other columns, `given` is what the caller has said of columns.

    Only the kinds that a pair can be made of have a vote, so numbers and nulls do not.
    """
    if "chosen" not in core or "rejected" not in core:
        raise _unknown(core, names, given)
    majority: dict[str, str] = {
        name: _majority(core[name]) for name in ("prompt", "chosen", "rejected") if name in core
    }
    if majority["chosen"] != majority["rejected"]:
        raise _unknown(core, names, given)
    if majority.get("prompt") == "transcript":  # one that ends where the answer begins
        majority["prompt"] = "text"
    name = LAYOUTS.get((majority.get("prompt"), majority["chosen"]))
    if name is None:
        raise _unknown(core, names, given)
    if name in TEXTS:
        _refuse_written_out_messages(core, names)
    if name == "plain" and _share_of_rows(_repeats_prompt, core["prompt"], core) > 1 / 2:
        name = "repeated"
    if name == "implicit plain":
        _refuse_chance_beginnings(core, names, given)
    return Layout(name, dict.fromkeys(majority, "text") if name in TEXTS else majority)


def to_pair(layout: Layout, prompt: Any, chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """One row, brought into (prompt, chosen, rejected): all text, or all lists of messages."""
    if layout.name == "plain":
        return prompt, chosen, rejected
    if layout.name == "repeated":
        if not _repeats_prompt(prompt, chosen, rejected):
            return prompt, chosen, rejected
        return prompt, chosen[len(prompt) :], rejected[len(prompt) :]
    if layout.name == "implicit plain":
        return extract_prompt(chosen, rejected)
    if layout.name == "text answers":
        answers = said_by("assistant", chosen), said_by("assistant", rejected)
        return _role_and_content(prompt), *answers
    if layout.name == "transcripts":
        return extract_prompt(read_transcript(chosen), read_transcript(rejected))
    chosen, rejected = _role_and_content(chosen), _role_and_content(rejected)
    if layout.name == "conversational":
        prompt = _role_and_content(prompt)
        length = len(prompt)
        if chosen[:length] == rejected[:length] == prompt:
            return prompt, chosen[length:], rejected[length:]
        return prompt, chosen, rejected
    if prompt is not None and chosen[0]["role"] == rejected[0]["role"] == "assistant":
        return said_by("user", prompt), chosen, rejected
    return extract_prompt(chosen, rejected)


def is_a_prompt(text: str) -> bool:
    """Whether a beginning that two answers share can be a prompt, and not a chance ("The")."""
    return bool(END_OF_PROMPT.search(text.lstrip()))


def extract_prompt(chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """Split what chosen and rejected share at their beginning off as the prompt.

    As TRL's `extract_prompt` does, for text (by character) and for messages (by turn): a space
    before the split goes to the answers, and if one side is the whole beginning of the other, its
    last element stays an answer. Unlike TRL, sides that share nothing give an empty prompt here.
    """
    shortest = min(len(chosen), len(rejected))
    # First length at which the beginnings differ, by bisection: quick on long texts.
    lengths = range(1, shortest + 1)
    shared = bisect_left(lengths, True, key=lambda n: chosen[:n] != rejected[:n])
    if shared == shortest:
        shared = max(shortest - 1, 0)
    elif shared and chosen[shared - 1] == " ":
        shared -= 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def read_transcript(text: str) -> list[dict]:
    """An HH-RLHF transcript as messages; spaces around each turn's text are removed."""
    _, *parts = TURN.split(text)
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": ROLES[who], "content": said.strip()} for who, said in turns]


def _role_and_content(messages: list[dict]) -> list[dict]:
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages]


def _majority(values: list) -> str:
    """The kind of most values that a pair can be made of; "" where there is none."""
    known = Counter(kind(value) for value in values)
    votes = {name: known[name] for name in ("messages", "text", "transcript") if known[name]}
    return max(votes, key=votes.__getitem__, default="")


def _repeats_prompt(prompt: str, chosen: str, rejected: str) -> bool:
    begins = bool(prompt.strip()) and chosen.startswith(prompt) and rejected.startswith(prompt)
    return begins and "" not in (chosen[len(prompt) :].strip(), rejected[len(prompt) :].strip())


def _share_of_rows(test: Callable[..., bool], prompts: list, core: dict[str, list]) -> float:
    rows = [row for row in zip(prompts, core["chosen"], core["rejected"], strict=True)
            if all(isinstance(value, str) for value in row)]  # fmt: skip
    return sum(test(*row) for row in rows) / max(len(rows), 1)


def _refuse_chance_beginnings(core: dict[str, list], names: list[str], given: Mapping) -> None:
    """Two answers whose prompt is somewhere else, or nowhere, may share their first letters."""
    if asked := found_among(names, ASKED):
        columns = likely_columns([*core, *names], given)
        raise UnknownLayout(
            f"chosen and rejected are answers without a prompt, which seems to stand in "
            f"{listed(asked)}. What to do: load_pairs(..., columns={columns!r})."
        )

    def share_a_prompt(_: str, chosen: str, rejected: str) -> bool:
        return is_a_prompt(extract_prompt(chosen, rejected)[0])

    if _share_of_rows(share_a_prompt, [""] * len(core["chosen"]), core) < 1 / 2:
        raise UnknownLayout(
            "There is no column 'prompt', and most of chosen and rejected share no beginning that "
            f"could be one. Came: {listed([*core, *names])}. What to do: name the column that "
            "holds the question, load_pairs(..., columns={'prompt': ...})."
        )


def _refuse_written_out_messages(core: dict[str, list], names: list[str]) -> None:
    """A CSV cannot hold lists: messages written into one are text that looks like a list."""
    texts = [value for value in core["chosen"] if isinstance(value, str)]
    written_out = [v for v in texts if re.match(r"\[\s*\{\s*['\"](role|content|from)", v)]
    if len(written_out) * 2 > len(texts):
        raise UnknownLayout(
            f"Column 'chosen' holds message lists written out as text: {written_out[0]!r:.80}. "
            "Expected real lists: save the pairs as .jsonl or .parquet instead of .csv, or parse "
            f"the text with json.loads first. Columns that came: {listed([*core, *names])}."
        )


def _unknown(core: dict[str, list], names: list[str], given: Mapping) -> UnknownLayout:
    came = []
    for name, values in core.items():
        counts = Counter(kind(value) for value in values).most_common(2)
        texts = name in ("prompt", "chosen", "rejected")
        came.append(f"{name} ({', '.join(what for what, _ in counts)})" if texts else name)
    columns = likely_columns([*core, *names], given)
    such_as = "such as " if not {*core, *columns} >= {"chosen", "rejected"} else ""
    if such_as:
        columns = {"prompt": "question", **columns, "chosen": "good", "rejected": "bad"}
    advice = f"say which column is which, {such_as}load_pairs(..., columns={columns!r}); or "
    return UnknownLayout(
        f"The columns are no layout of preference pairs that load_pairs knows.\n"
        f"  came: {listed([*came, *names]) or 'no columns'}\n"
        "  expected one of:\n"
        "    prompt, chosen, rejected: all text\n"
        "    prompt, chosen, rejected: all lists of {'role', 'content'} messages\n"
        "    prompt text; chosen, rejected message lists that begin with the user's turn "
        "(UltraFeedback-binarized)\n"
        "    chosen, rejected: message lists, or text, that begin with the same prompt\n"
        "    chosen, rejected: transcripts '\\n\\nHuman: ...\\n\\nAssistant: ...' (HH-RLHF)\n"
        "    two answers and a judgement, by recipe= (see load_pairs)\n"
        f"  What to do: {advice if columns else ''}rename or convert the columns first."
    )
