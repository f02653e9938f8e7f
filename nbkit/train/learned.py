"""Whether a training taught anything that can be told from rounding."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from nbkit.logprobs.precision import scoring_noise
from nbkit.logprobs.table import logprob_table
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair
from nbkit.warning import warn

SIDES = ("chosen", "rejected")
LOGPS = [f"{side}_logp" for side in SIDES]
TOKENS = [f"{side}_tokens" for side in SIDES]
SMALL = 5e8  # parameters of a model that is copied to float32 to see what its precision costs
WATCHED = 32  # pairs that are looked at
T = TypeVar("T")
NOTHING = "This training taught nothing"  # how the warning begins


def watched(pairs: list[T]) -> list[T]:
    """A few pairs from all over the list."""
    return pairs[:: -(-len(pairs) // WATCHED)]


def warn_if_nothing(
    policy: Policy,
    token_pairs: list[TokenPair],
    before: pd.DataFrame,
    after: pd.DataFrame,
    settings: Mapping[str, Any],
    steps: int,
) -> None:
    """Warn, with the numbers, if a training moved the log-probs of the pairs by no more than the
    rounding of two scorings does.

    Args:
        policy: the trained policy.
        token_pairs: the pairs that were looked at.
        before, after: their log-prob tables.
        settings, steps: of the training.
    """
    moved = rms((after[LOGPS] - before[LOGPS]).to_numpy())

    def noise(of_a_token: float) -> float:
        return np.sqrt(2) * of_a_token * rms(np.sqrt(before[TOKENS]))

    if moved < np.sqrt(2) * noise(scoring_noise(policy.dtype, 1)):
        found = noise(rounding(policy, token_pairs))
        if moved < np.sqrt(2) * found:  # then there is less of the training in it than of rounding
            warn(
                f"{NOTHING} that can be told from rounding: it moved the "
                f"log-probs of its pairs by {moved:.2g} nats (rms), and {dtype_name(policy)} alone "
                f"by about {found:.2g}. {remedy(policy, settings)} (there were {steps} steps)."
            )


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Inside the block only the first warning of `warn_if_nothing` is shown, of many trainings."""
    show = warnings.showwarning
    said: list[Any] = []

    def show_first(message: Any, *where: Any, **more: Any) -> None:
        if not str(message).startswith(NOTHING):
            show(message, *where, **more)
        elif not said:
            said.append(message)
            show(message, *where, **more)

    warnings.showwarning = show_first
    try:
        yield
    finally:
        warnings.showwarning = show


def warn_if_noise(
    policy: Policy, token_pairs: list[TokenPair], score: pd.Series, settings: Mapping[str, Any]
) -> None:
    """Warn, with the numbers, if the pairs differ in their mean loss, near ln 2, by no more than
    rounding would make them differ.

    Args:
        policy: where the trainings started.
        token_pairs: some of the pairs.
        score: loss by pair.
        settings: of the trainings.
    """
    spread = score.std()
    tokens = np.array([[len(p.chosen), len(p.rejected)] for p in token_pairs])
    simpo = settings["loss"] == "simpo"  # means a token, no reference
    errors = 1 / np.sqrt(tokens) if simpo else np.sqrt(2 * tokens)

    def noise(of_a_token: float) -> float:
        slope = settings["beta"] / 2  # of the loss, by the difference of log-ratios
        return slope * of_a_token * rms(np.sqrt((errors**2).sum(axis=1)))

    if spread < np.sqrt(2) * noise(scoring_noise(policy.dtype, 1)):
        found = noise(rounding(policy, token_pairs))
        if spread < np.sqrt(2) * found:
            warn(
                f"These losses rank by rounding: over the pairs they spread by {spread:.2g} nats "
                f"around {score.mean():.3g}, and {dtype_name(policy)} alone makes them differ by "
                f"about {found:.2g}. {remedy(policy, settings)}."
            )


def rounding(policy: Policy, token_pairs: list[TokenPair]) -> float:
    """Rms error, in nats, of the log-prob of a token in the policy's precision; of a sum over n
    tokens it is sqrt(n) times as large. For a small policy measured against float32."""
    size = sum(parameter.numel() for parameter in policy.model.parameters())
    if policy.dtype.itemsize > 2 or size > SMALL:
        return scoring_noise(policy.dtype, 1)
    exact = dataclasses.replace(policy, model=copy.deepcopy(policy.model).float())
    tables = [logprob_table(p, token_pairs, progress=False) for p in (policy, exact)]
    return rms((tables[0][LOGPS] - tables[1][LOGPS]).to_numpy() / np.sqrt(tables[0][TOKENS]))


def dtype_name(policy: Policy) -> str:
    return str(policy.dtype).removeprefix("torch.")


def remedy(policy: Policy, settings: Mapping[str, Any]) -> str:
    precise = "" if policy.dtype.itemsize > 2 else ", or a policy in float32"
    rate = f"a higher learning rate than {settings['learning_rate']:g}"
    return f"Take {rate}, more steps{precise}"


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values)))))
