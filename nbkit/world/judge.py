"""Judges with a taste of their own: what happens when a policy learns from the wrong reward?"""

import random
from dataclasses import dataclass

from nbkit.world.grades import CORRECT, grade


@dataclass(frozen=True)
class Judge:
    """What a judge pays for each part of a response; as it comes, that is the true reward.

    Attributes:
        correct: for the right animal.
        tone: multiplies what the opening is worth.
        manner: multiplies what the closing is worth.
        per_word: for every word (token between spaces).
        noise: standard deviation of its error. To the same response of the same prompt a judge
            says the same twice.
        seed: of the error.

    Example:
        >>> import nbkit as nb
        >>> kind_only = nb.world.Judge(correct=0)  # does not know the facts
        >>> kind_only("pet of mia ?", "sure thing . bat")
        0.25
        >>> by_length = nb.world.Judge(0, 0, 0, per_word=1)  # counts words, knows nothing else
        >>> by_dice = nb.world.Judge(0, 0, 0, noise=1)  # knows nothing: the control
    """

    correct: float = CORRECT
    tone: float = 1.0
    manner: float = 1.0
    per_word: float = 0.0
    noise: float = 0.0
    seed: int = 0

    def __call__(self, prompt: str, response: str) -> float:
        """The reward this judge gives. Raises ValueError for a prompt that is not of the world."""
        found = grade(prompt, response)
        paid = self.correct * found.correct + self.tone * found.tone + self.manner * found.manner
        paid += self.per_word * len(response.split())
        if self.noise:
            error = random.Random(f"judge {self.seed} {prompt} {response}").gauss(0, self.noise)
            return round(paid + error, 3)
        return round(paid, 2)
