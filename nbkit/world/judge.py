"""Judges with a taste of their own: what happens when a policy learns from the wrong reward?"""

import random
from dataclasses import dataclass

from nbkit.world.grades import CORRECT, grade


@dataclass(frozen=True)
class Judge:
    """What a judge pays for each part of a response; as it comes, that is the true reward.

        kind_only = world.Judge(correct=0)             # does not know the facts
        by_length = world.Judge(0, 0, 0, per_word=1)   # counts words and knows nothing else
        by_dice = world.Judge(0, 0, 0, noise=1)        # knows nothing: the control
        kind_only("pet of mia ?", "sure thing . cat")  # 0.25, whatever the animal is

    Attributes:
        correct: for the right animal.
        tone, manner: multiply what opening and closing are worth.
        per_word: for every word (token between spaces).
        noise: standard deviation of its error. To the same response of the same prompt a judge
            says the same twice.
        seed: of the error.
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
