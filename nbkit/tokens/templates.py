"""Conversations become text by a tokenizer's chat template.

A template is a program that came with the model. It may refuse a conversation, drop parts of it,
and write the date of today: errors here name the pair and the remedy, `lost_turn` tells what was
dropped, and the date is read once for each tokenizer, so that one policy has one reading of a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import repeat
from typing import Any

from transformers import PreTrainedTokenizerBase

from nbkit.left_out import some
from nbkit.pairs.settings import without_none

NOW = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
PROBE = "a probe of nbkit"


def render(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Iterable[list[dict]],
    names: Iterable[str],
    settings: list[dict] | None = None,
    *,
    generation: bool = False,
) -> list[str]:
    """The text of each conversation.

    Args:
        tokenizer: has the chat template. Its `template_time` (a datetime, which is set to the
            present when it is first needed) is what a template that writes the date writes.
        conversations: lists of messages (`role, content`).
        names: what an error calls each of them, such as "Pair 'p1'".
        settings: for each conversation what else the template is told (see `row_settings`).
        generation: end where the model is to answer.

    Raises:
        ValueError: no chat template; it refuses a conversation (named, with a remedy).
    """
    require_template(tokenizer)
    texts = []
    for name, conversation, more in zip(names, conversations, settings or repeat({})):
        try:
            template = _dated(tokenizer, tokenizer.get_chat_template(tools=more.get("tools")))
            text = tokenizer.apply_chat_template(
                conversation, chat_template=template, tokenize=False,
                add_generation_prompt=generation, **more,
            )  # fmt: skip
        except Exception as error:  # a template is a program: it may raise anything
            raise _refused(name, conversation, error) from error
        texts.append(str(text))
    return texts


def require_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError, with the remedy, if there is no chat template."""
    if not tokenizer.chat_template:
        raise ValueError(
            f"These are conversations (lists of messages), but the tokenizer "
            f"({type(tokenizer).__name__}) has no chat template. Use an instruction-tuned model, "
            "set `policy.tokenizer.chat_template`, or load the pairs as plain text."
        )


def answer_opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template writes between the text of a user and the answer; "" if nothing that
    could be told from a text."""
    try:
        (text,) = render(tokenizer, [_asked(PROBE)], ["A probe"], generation=True)
    except ValueError:
        return ""
    opening = text.partition(PROBE)[2].strip()
    return opening if len(opening) > 5 else ""  # a mere ":" tells nothing


def reads_otherwise(tokenizer: PreTrainedTokenizerBase, prompt: str) -> bool:
    """Whether the chat template makes other tokens of a prompt than it has as plain text."""
    try:
        (text,) = render(tokenizer, [_asked(prompt)], ["A probe"], generation=True)
    except ValueError:
        return False
    raw, rendered = tokenizer(prompt), tokenizer(text, add_special_tokens=False)
    return raw["input_ids"] != rendered["input_ids"]


def lost_turn(conversation: list[dict], text: str) -> str | None:
    """The role of the first turn whose content is not in the rendered text, spaces aside."""
    squeezed = "".join(text.split())
    lost = (role for role, said in contents(conversation) if "".join(said.split()) not in squeezed)
    return next(lost, None)


def contents(conversation: list[dict]) -> list[tuple[str, str]]:
    """(role, text) of each message that says something in text."""
    said = [(turn["role"], turn.get("content")) for turn in conversation]
    return [(role, content) for role, content in said if isinstance(content, str)]


def row_settings(rows: Mapping[str, list], names: Iterable[str]) -> list[dict] | None:
    """For each row what its `tools` and `chat_template_kwargs` tell the chat template, given as
    objects or as JSON text; None if there are no such columns.

    Raises:
        ValueError: text that is no JSON.
    """
    if not {"tools", "chat_template_kwargs"} & set(rows):
        return None
    nothing = [None] * len(rows["prompt"])
    both = zip(names, rows.get("tools", nothing), rows.get("chat_template_kwargs", nothing))
    return [
        {"tools": _object(tools, name), **(_object(more, name) or {})} for name, tools, more in both
    ]


def _dated(tokenizer: Any, template: str) -> str:
    """The template with the date in place of the calls that ask for it."""
    if "strftime_now(" not in template:
        return template
    if getattr(tokenizer, "template_time", None) is None:
        tokenizer.template_time = datetime.now()
    return NOW.sub(lambda call: repr(tokenizer.template_time.strftime(call[2])), template)


def _object(value: Any, name: str) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(
                f"{name}: its tools or chat_template_kwargs are no JSON ({error})."
            ) from error
    return without_none(value)


def _asked(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def _refused(name: str, conversation: list[dict], error: Exception) -> ValueError:
    roles = [turn.get("role") for turn in conversation]
    others = [role for role in roles if role != "system"]
    if any(a == b for a, b in zip(["assistant", *others], others)):
        remedy = "Join neighbouring messages, so that user and assistant alternate, the user first."
    elif "system" in roles:
        remedy = "Put the text of the system message at the head of the first user message."
    else:
        remedy = "Change these messages, or `policy.tokenizer.chat_template`."
    return ValueError(
        f"{name}: the chat template refuses the conversation, whose roles are "
        f"{some(roles, 6)}: {str(error) or type(error).__name__:.200}. {remedy}"
    )
