"""The layouts in which preference pairs are published, and the one that nbkit uses.

    name              prompt    chosen, rejected
    plain             text      text
    conversational    messages  messages (the answer)
    ultrafeedback     text      messages (the user's turn, then the answer)
    implicit          -         messages, sharing their first turns
    implicit plain    -         text, sharing its beginning
    transcripts       -         text: "\\n\\nHuman: ...\\n\\nAssistant: ..." (HH-RLHF)

`plain` and `implicit plain` give strings; all others give lists of {"role", "content"} messages,
TRL's conversational format with an explicit prompt. The layout is read from all rows, by majority,
so that neither a few bad rows nor the order of the rows can change it.
"""

import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}

# (kind of prompt, kind of chosen and rejected) -> name; None: there is no such column.
LAYOUTS = {
    ("text", "text"): "plain",
    ("text", "transcript"): "plain",
    ("messages", "messages"): "conversational",
    ("text", "messages"): "ultrafeedback",
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
        return self.name not in ("plain", "implicit plain")


def kind(value) -> str:
    """One of text, transcript, messages, or the name of the type for anything else."""
    if isinstance(value, str):
        return "transcript" if value.startswith("\n\nHuman:") else "text"
    if isinstance(value, list):
        is_messages = all(isinstance(item, dict) and "role" in item for item in value)
        return "messages" if is_messages else "list"
    return type(value).__name__


def recognise(columns: dict[str, list], column_names: list[str]) -> Layout:
    """Find the layout from the kinds of values; raise `UnknownLayout` rather than guess.

    Only the kinds that a pair can be made of have a vote, so numbers and nulls do not.
    """
    if "chosen" not in columns or "rejected" not in columns:
        raise _unknown(columns, column_names)
    majority = {name: _majority(columns[name]) for name in ("prompt", "chosen", "rejected")
                if name in columns}
    if majority["chosen"] != majority["rejected"]:
        raise _unknown(columns, column_names)
    prompt = majority.get("prompt")
    if prompt == "transcript":  # a transcript that ends where the answer begins is plain text
        prompt = "text"
    has_prompt = "prompt" in columns
    name = LAYOUTS.get((prompt, majority["chosen"])) if has_prompt == bool(prompt) else None
    if name is None:
        raise _unknown(columns, column_names)
    if name in ("plain", "implicit plain"):
        _refuse_written_out_messages(columns, column_names)
    return Layout(name, dict.fromkeys(majority, "text") if name == "plain" else majority)


def to_pair(layout: Layout, prompt, chosen, rejected) -> tuple:
    """One row, brought into (prompt, chosen, rejected): all text, or all lists of messages."""
    if layout.name == "plain":
        return prompt, chosen, rejected
    if layout.name == "implicit plain":
        return extract_prompt(chosen, rejected)
    if layout.name == "transcripts":
        return extract_prompt(read_transcript(chosen), read_transcript(rejected))
    if layout.name == "conversational":
        return tuple(_role_and_content(part) for part in (prompt, chosen, rejected))
    return extract_prompt(_role_and_content(chosen), _role_and_content(rejected))


def extract_prompt(chosen, rejected) -> tuple:
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


def _majority(values: list) -> str | None:
    known = Counter(kind(value) for value in values)
    votes = {name: known[name] for name in ("messages", "text", "transcript") if known[name]}
    return max(votes, key=votes.get) if votes else None


def _refuse_written_out_messages(columns, column_names) -> None:
    """A CSV cannot hold lists: messages written into one are text that looks like a list."""
    texts = [value for value in columns["chosen"] if isinstance(value, str)]
    written_out = [value for value in texts if re.match(r"\[\s*\{\s*['\"](role|content)", value)]
    if len(written_out) * 2 > len(texts):
        raise UnknownLayout(
            f"Column 'chosen' holds message lists written out as text: {written_out[0]!r:.80}. "
            "Expected real lists: save the pairs as .jsonl or .parquet instead of .csv, or parse "
            f"the text with json.loads first. Columns that came: {', '.join(column_names)}."
        )


def _unknown(columns: dict[str, list], column_names: list[str]) -> UnknownLayout:
    came = []
    for name in column_names:
        if name in ("prompt", "chosen", "rejected"):
            counts = Counter(kind(value) for value in columns[name]).most_common(2)
            came.append(f"{name} ({', '.join(what for what, _ in counts)})")
        else:
            came.append(name)
    return UnknownLayout(
        f"The columns are no layout of preference pairs that load_pairs knows.\n"
        f"  came: {', '.join(came) or 'no columns'}\n"
        "  expected one of:\n"
        "    prompt, chosen, rejected: all text\n"
        "    prompt, chosen, rejected: all lists of {'role', 'content'} messages\n"
        "    prompt text; chosen, rejected message lists that begin with the user's turn "
        "(UltraFeedback-binarized)\n"
        "    chosen, rejected: message lists, or text, that begin with the same prompt\n"
        "    chosen, rejected: transcripts '\\n\\nHuman: ...\\n\\nAssistant: ...' (HH-RLHF)\n"
        "  What to do: rename or convert the columns, e.g. "
        "df.rename(columns={'question': 'prompt'})."
    )
