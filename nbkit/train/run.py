"""What a training of a policy leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nbkit.left_out import LeftOut
from nbkit.models.policy import Policy

HISTORY = {
    "step": "step", "epoch": "epoch", "loss": "loss", "rewards/margins": "margin",
    "rewards/accuracies": "accuracy", "logps/chosen": "chosen_logp",
    "logps/rejected": "rejected_logp", "grad_norm": "grad_norm", "learning_rate": "learning_rate",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What a training run leaves.

    Attributes:
        policy: the trained policy.
        history: one row a logged step: `step, epoch, loss, margin, accuracy, chosen_logp,
            rejected_logp, grad_norm, learning_rate`, means over the steps since the last row
            (margin: implicit reward margin, beta included; log-probs in nats, summed; for SimPO
            both are length-normalised, as TRL logs them).
        trace: tidy frame `step, id, chosen_logp, rejected_logp, margin` of the followed pairs
            (nats, summed; margin with beta; step 0 is before training); None when none were.
        trained_on: ids in the order of the first epoch's data set.
        left_out: id -> reason, for pairs that could not be tokenised into the model's length.
        settings: the arguments of the run, with the learning rate that was in effect.
    """

    policy: Policy
    history: pd.DataFrame
    trace: pd.DataFrame | None
    trained_on: list[str]
    left_out: LeftOut
    settings: dict[str, Any] = field(repr=False)


def history_of(log: list[dict[str, float]]) -> pd.DataFrame:
    """A training's log, by TRL's names, as `Run.history`."""
    history = pd.DataFrame(log)
    history = history[history["loss"].notna()].rename(columns=HISTORY)
    return history[[name for name in HISTORY.values() if name in history]].reset_index(drop=True)
