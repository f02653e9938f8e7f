"""Whether a training taught anything that can be told from rounding."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from nbkit.precision import scoring_noise

SIDES = ("chosen", "rejected")


def warn_if_nothing(before: pd.DataFrame, after: pd.DataFrame, dtype, settings, steps) -> None:
    """Warn, with the numbers, if the log-probs of the pairs have moved by no more than what
    scoring them twice in this precision may.

    Args:
        before, after: log-prob tables of the same pairs.
        dtype: precision of the policy that scored.
        settings, steps: of the training.
    """
    moved = np.stack([after[f"{side}_logp"] - before[f"{side}_logp"] for side in SIDES])
    tokens = np.stack([before[f"{side}_tokens"] for side in SIDES])
    noise = _rms(np.sqrt(2) * scoring_noise(dtype, tokens))
    if _rms(moved) <= noise:
        dtype = str(dtype).removeprefix("torch.")
        precise = "" if dtype == "float32" else ", or a policy in float32"
        warnings.warn(
            f"This training taught nothing that can be seen: it moved the log-probs of its pairs "
            f"by {_rms(moved):.2g} nats (rms), and {dtype} alone by {noise:.2g}. A higher learning "
            f"rate (it was {settings['learning_rate']:g}), more steps ({steps}){precise} will.",
            stacklevel=3,
        )


def loss_noise(table: pd.DataFrame, dtype, loss: str, beta: float) -> float:
    """Rms error, in nats, that the precision of the log-probs leaves in a pair's loss around ln 2.

    Args:
        table: log-prob table of the pairs.
        dtype: precision in which policy and reference scored.
        loss, beta: as for `nbkit.train_dpo`.
    """
    tokens = np.stack([table[f"{side}_tokens"] for side in SIDES])
    noise = scoring_noise(dtype, tokens)
    noise = noise / tokens if loss == "simpo" else np.sqrt(2) * noise  # no reference; two tables
    return beta / 2 * _rms(np.sqrt((noise**2).sum(axis=0)))  # d loss / d margin = -1/2


def _rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
