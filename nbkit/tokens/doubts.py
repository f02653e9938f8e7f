"""What happens to texts on their way to tokens that their owner may not expect.

None of it is an error, and the tokens are TRL's: each kind is said once, with a count, the first of
the texts, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from nbkit.tokens.templates import answer_opening, contents, lost_turn, reads_otherwise
from nbkit.warning import warn

RAW = (
    "are plain text, and the model reads them as they are, without the chat template of its "
    "tokenizer. If it is to see conversations: {conversations}. If raw text is meant: "
    "`policy.tokenizer.chat_template = None`."
)
CONVERSATIONS = {
    "pairs": "`nb.load_pairs(..., chat=True)`",
    "prompts": "`[{'role': 'user', 'content': prompt}]` as a prompt",
}
TWICE = (
    "look as if the chat template had rendered them already ({opening!r} is in them), and now it "
    "renders them again. Load them as plain text, without `chat=True`."
)
LOST = (
    "lose text in the chat template (a message of the {role} in the first), so the model does not "
    "read all of them."
)
TWO_BOS = (
    "begin with {bos!r} twice, once from the text and once from the tokenizer. Take it out of the "
    "text."
)
OWN_EOS = (
    "get {eos!r} from the tokenizer itself at the end of every text, so prompts end in it and "
    "responses have it twice. Set `policy.tokenizer.add_eos_token = False`."
)
SPECIAL = (
    "hold the text of special tokens such as {token!r}, which becomes the token itself (as in "
    "TRL). Take it out where it was only quoted."
)
CUT = (
    "have a tokenised prompt that is not a prefix of the tokenised prompt + response, so the "
    "response starts where they diverge and the model reads a shorter prompt than at generation. "
    "End prompts on a token boundary (a newline), or use a chat template that renders both the "
    "same way."
)


class Doubts:
    """Collects the texts of each kind: all plain texts, or all conversations. `ids` are token ids
    of what the model reads."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, what: str, plain: bool) -> None:
        self.tokenizer, self.what = tokenizer, what
        self.found: dict[str, dict[object, bool]] = {}  # kind -> names, each once
        self.told: dict[str, object] = {}  # what the messages say of the first
        self.opening = answer_opening(tokenizer) if tokenizer.chat_template else ""
        self.special = _special_tokens(tokenizer)
        self.raw_is_other: bool | None = None  # does the chat template make other tokens?
        self.ends_texts = plain and _ends_texts(tokenizer)

    def plain(self, name: object, prompt: str, responses: list[str], ids: list[int]) -> None:
        """A plain-text prompt with its responses."""
        if self.ends_texts:
            self.add(OWN_EOS, name, eos=self.tokenizer.eos_token)
        self._begins_twice(name, ids)
        if self._rendered(prompt):
            return
        if self.tokenizer.chat_template:
            if self.raw_is_other is None:
                self.raw_is_other = reads_otherwise(self.tokenizer, prompt)
            if self.raw_is_other:
                self.add(RAW, name, conversations=CONVERSATIONS[self.what])
        bos, eos = self.tokenizer.bos_token or "", self.tokenizer.eos_token or ""
        self._quotes(name, [prompt.removeprefix(bos), *(r.removesuffix(eos) for r in responses)])

    def chat(self, name: object, conversation: list[dict], text: str, ids: list[int]) -> None:
        """A conversation and its rendering."""
        self._begins_twice(name, ids)
        said = [content for _, content in contents(conversation)]
        if any(map(self._rendered, said)):
            self.add(TWICE, name, opening=self.opening)
        else:
            self._quotes(name, said)
        if role := lost_turn(conversation, text):
            self.add(LOST, name, role=role)

    def add(self, kind: str, name: object, **told: object) -> None:
        self.found.setdefault(kind, {})[name] = True
        self.told = told | self.told

    def warn(self, total: int) -> None:
        """Say all that was found, of `total` texts."""
        for kind, names in self.found.items():
            first = next(iter(names))
            start = f"{len(names)} of {total} {self.what} (first: {first!r:.60}) "
            warn(start + kind.format(**self.told))

    def _rendered(self, text: str) -> bool:
        return bool(self.opening) and self.opening in text

    def _begins_twice(self, name: object, ids: list[int]) -> None:
        bos = self.tokenizer.bos_token_id
        if bos is not None and ids[:2] == [bos, bos]:
            self.add(TWO_BOS, name, bos=self.tokenizer.bos_token)

    def _quotes(self, name: object, texts: Iterable[str]) -> None:
        if self.special and (match := next(filter(None, map(self.special.search, texts)), None)):
            self.add(SPECIAL, name, token=match.group())


def _ends_texts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer writes the eos token at the end of every plain text."""
    return tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id]


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern | None:
    """Finds the text of special tokens, where the tokenizer makes tokens of it."""
    if getattr(tokenizer, "split_special_tokens", False):
        return None
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    tokens = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None
