"""Profiles: one switch for how much a notebook does, read from `NBKIT_PROFILE`.

    p = nb.course.profile()                                  # quick, full (the default) or gpu
    policy = nb.load_policy(p.policy)
    betas = p.pick(quick=[0.1], full=[0.01, 0.1, 1.0])

*full* is what a learner runs on a laptop, *quick* is the same code on less data for the tests,
*gpu* names a real model and data set. A profile changes sizes and names, never code paths.
"""

import os
from dataclasses import dataclass
from typing import Any

VARIABLE = "NBKIT_PROFILE"
_MISSING = object()


@dataclass(frozen=True)
class Profile:
    """Sizes and names for one way of running the course.

    Attributes:
        name: "quick", "full" or "gpu".
        policy: what `nb.load_policy` takes.
        data: "world" for `nbkit.world`, or what `nb.load_pairs` takes.
        pairs: number of preference pairs to work on.
        prompts: number of prompts to sample at when a win rate is measured.
        seeds: seeds to repeat a training with.
        workers: processes that train at once (see `nbkit.at_once`).
        note: a sentence to print beside a result; empty where none is needed.
    """

    name: str
    policy: str
    data: str
    pairs: int
    prompts: int
    seeds: tuple[int, ...]
    workers: int = 1
    note: str = ""

    @property
    def quick(self) -> bool:
        """True when the sizes are too small to conclude anything."""
        return self.name == "quick"

    def pick(self, *, quick: Any, full: Any, gpu: Any = _MISSING) -> Any:
        """The value for this profile.

        Args:
            quick: value of the quick profile.
            full: value of the full profile.
            gpu: value of the gpu profile; default that of full.
        """
        values = {"quick": quick, "full": full, "gpu": full if gpu is _MISSING else gpu}
        return values[self.name]


PROFILES = {
    "quick": Profile(
        name="quick",
        policy="world/small",
        data="world",
        pairs=96,
        prompts=48,
        seeds=(0,),
        note="quick profile: too small to conclude anything from these numbers",
    ),
    "full": Profile(
        name="full",
        policy="world/medium",
        data="world",
        pairs=3200,
        prompts=1200,
        seeds=(0, 1, 2),
        workers=2,
    ),
    "gpu": Profile(
        name="gpu",
        policy="Qwen/Qwen2.5-0.5B-Instruct",
        data="HuggingFaceH4/ultrafeedback_binarized",
        pairs=8000,
        prompts=400,
        seeds=(0, 1, 2),
        note="gpu profile: the model and the data are downloaded the first time",
    ),
}


def profile(name: str | None = None) -> Profile:
    """How much a notebook does: one switch.

    Args:
        name: "quick", "full" or "gpu"; default what the environment variable `NBKIT_PROFILE` says,
            else full.

    Returns:
        Profile.

    Raises:
        ValueError: a name that is no profile.

    Example:
        >>> import nbkit as nb
        >>> p = nb.course.profile("quick")
        >>> p.policy, p.pairs, p.pick(quick=[0.1], full=[0.01, 0.1, 1.0])
        ('world/small', 96, [0.1])
    """
    source = "profile name" if name is not None else f"environment variable {VARIABLE}"
    if name is None:
        name = os.environ.get(VARIABLE) or "full"
    if name not in PROFILES:
        raise ValueError(
            f"the {source} is {name!r}; expected one of {', '.join(PROFILES)}. "
            f"Unset {VARIABLE} for the default, full."
        )
    return PROFILES[name]
