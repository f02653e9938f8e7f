"""The facts of the world, and the few words it speaks.

A fact is an animal that belongs to a topic and a name: "pet of mia ?" -> "dog". There are
24 topics x 32 names = 768 of them, in six rungs of 128. Rung 1 is the head: often told in the
demonstrations; each rung after it is told half as often, down to the long tail of rung 6. What is
beyond a model is what it has no room to remember, so each capacity has a cliff of its own.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


def _words(text: str) -> list[str]:
    return text.split()


ANIMALS = _words(
    "ant bee cat dog elk fox goat hen ibis jay kiwi lion mole newt owl pig quail ram seal toad "
    "urchin vole wasp yak zebra bat cow deer eel frog gull hare"
)
NAMES = _words(
    "mia leo ana sam zoe max eva tom ivy ben amy dan eli fay gus hal ida jon kim lee mel ned oli "
    "pam ray sue ted una val wes yan zac"
)
TOPICS = _words(
    "pet emblem toy logo badge costume mask drawing statue puzzle story song poem dream cake "
    "cookie poster sticker puppet kite flag coin stamp card"
)

# What each opening and closing is worth to the reader: its tone and its manner.
OPENINGS = {
    "happy to help !": 0.5,
    "sure thing .": 0.25,
    "": 0.0,
    "hmm , again ?": -0.25,
    "ugh , go away .": -0.5,
}
CLOSINGS = {"hope that helps !": 0.2, "": 0.0, "anyway , more later": -0.2}

RUNGS = (1, 2, 3, 4, 5, 6)
PARTS = ("train", "validation", "test")


class Fact(NamedTuple):
    topic: str
    name: str
    answer: str
    rung: int  # 1, the head, to 6, the long tail
    part: str  # "train": preference training; "validation", "test": never in a training pair

    @property
    def key(self) -> str:
        return f"{self.topic}-{self.name}"

    @property
    def prompt(self) -> str:
        return f"{self.topic} of {self.name} ?"


def _make_facts() -> list[Fact]:
    """Deal all topic-name pairs to the rungs, and an animal to each, always in the same way."""
    rng = random.Random(42)
    keys = [(topic, name) for topic in TOPICS for name in NAMES]
    rng.shuffle(keys)
    per_rung = len(keys) // len(RUNGS)
    # Every second fact is for training, the others go to validation and test in turn.
    deal = ("train", "validation", "train", "test")
    return [
        Fact(topic, name, rng.choice(ANIMALS), rung=1 + i // per_rung, part=deal[i % 4])
        for i, (topic, name) in enumerate(keys)
    ]


FACTS: tuple[Fact, ...] = tuple(_make_facts())
BY_PROMPT: dict[str, Fact] = {fact.prompt: fact for fact in FACTS}


def compose(opening: str, answer: str, closing: str) -> str:
    """One response: the parts that are not empty, with spaces between them.

    Args:
        opening: one of `OPENINGS`, or "".
        answer: an animal.
        closing: one of `CLOSINGS`, or "".

    Returns:
        str.

    Example:
        >>> import nbkit as nb
        >>> nb.world.compose("sure thing .", "bat", "")
        'sure thing . bat'
    """
    return " ".join(part for part in (opening, answer, closing) if part)


def facts() -> pd.DataFrame:
    """The whole world: everything there is to know.

    Returns:
        DataFrame `topic, name, answer, rung` (1 head .. 6 tail), `part, prompt`, indexed by key.

    Example:
        >>> import nbkit as nb
        >>> nb.world.facts()[["prompt", "answer", "rung"]].head(2)
                              prompt answer  rung
        fact
        cookie-amy  cookie of amy ?    jay     1
        puppet-jon  puppet of jon ?   deer     1
    """
    import pandas as pd  # here, so that importing the world stays quick

    rows = [{**fact._asdict(), "prompt": fact.prompt} for fact in FACTS]
    return pd.DataFrame(rows, index=pd.Index([fact.key for fact in FACTS], name="fact"))
