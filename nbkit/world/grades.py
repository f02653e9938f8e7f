"""The programmatic reward: is the answer right, is the tone kind, is the manner good."""

from typing import NamedTuple

from nbkit.world.knowledge import BY_PROMPT, CLOSINGS, OPENINGS, Fact

CORRECT = 2.0  # worth more than the best style can make up for


class Grade(NamedTuple):
    """What a response is worth, part by part.

    Attributes:
        correct: whether the animal is right.
        tone: of the opening, -0.5 to 0.5.
        manner: of the closing, -0.2 to 0.2.
        reward: 2 * correct + tone + manner.

    Example:
        >>> import nbkit as nb
        >>> nb.world.grade("pet of mia ?", "sure thing . bat").tone
        0.25
    """

    correct: bool
    tone: float
    manner: float
    reward: float


def fact_of(prompt: str) -> Fact:
    """The fact that a prompt asks for. Raises ValueError for a prompt that is not of the world."""
    text = " ".join(prompt.split()) if isinstance(prompt, str) else prompt
    if not isinstance(text, str) or text not in BY_PROMPT:
        raise ValueError(
            f"not a prompt of the world: {prompt!r}. Expected a string such as 'pet of mia ?'; "
            "world.facts().prompt has all of them."
        )
    return BY_PROMPT[text]


def grade(prompt: str, response: str) -> Grade:
    """Take one known opening and one known closing off the response; the rest must be the answer.

    A rest that is anything else (nothing, two animals, a cut-off phrase) counts as incorrect; the
    opening and closing that were recognised still count. Spaces at the ends do not matter.

    Args:
        prompt: of the world.
        response: any text.

    Returns:
        Grade.

    Raises:
        ValueError: a prompt that is not of the world.

    Example:
        >>> import nbkit as nb
        >>> nb.world.grade("pet of mia ?", "happy to help ! bat anyway , more later")
        Grade(correct=True, tone=0.5, manner=-0.2, reward=2.3)
    """
    fact = fact_of(prompt)
    rest = " ".join(response.split())
    tone = manner = 0.0
    for opening, value in OPENINGS.items():
        if opening and (rest + " ").startswith(opening + " "):
            tone, rest = value, rest[len(opening) :].strip()
            break
    for closing, value in CLOSINGS.items():
        if closing and (" " + rest).endswith(" " + closing):
            manner, rest = value, rest[: -len(closing)].strip()
            break
    correct = rest == fact.answer
    return Grade(correct, tone, manner, round(CORRECT * correct + tone + manner, 2))


def reward(prompt: str, response: str) -> float:
    """The true reward of a response: the judge to begin with. See `grade` for its parts.

    Args:
        prompt: of the world.
        response: any text.

    Returns:
        float, -0.7 to 2.7; higher: better.

    Raises:
        ValueError: a prompt that is not of the world.

    Example:
        >>> import nbkit as nb
        >>> nb.world.reward("pet of mia ?", "bat"), nb.world.reward("pet of mia ?", "cat")
        (2.0, 0.0)
    """
    return grade(prompt, response).reward
