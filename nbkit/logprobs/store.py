"""Log-probs kept by content: pairs that were scored before are never scored twice, in whatever data
set they come.

A folder holds one subfolder per model (named after a hash of its weights), in it parts: small
parquet files, whose rows are keyed by a hash of the pair's token ids.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pandas as pd

from nbkit.cache.files import as_folder, keep, read_whole, set_aside
from nbkit.cache.hashes import hash_weights
from nbkit.models.policy import Policy

# Raised whenever the numbers that nbkit's engine makes from the same weights and tokens change.
SCORING = 2


NUMBERS = ["chosen_logp", "rejected_logp", "chosen_tokens", "rejected_tokens"]


class LogprobCache:
    """Rows of a log-prob table by pair hash, in the subfolder of one policy."""

    def __init__(self, folder: str | Path, policy: Policy) -> None:
        self.folder = as_folder(folder) / f"{hash_weights(policy)}-{SCORING}"
        self.unwritten: list[pd.DataFrame] = []

    def load(self) -> pd.DataFrame:
        """Every row written so far, indexed by `hash_pair`."""
        parts = []
        for file in sorted(self.folder.glob("*.parquet")):
            part = read_whole(file)
            if part is None:
                continue
            if set(NUMBERS) <= set(part) and np.isfinite(part[NUMBERS]).all(axis=None):
                parts.append(part)
            else:
                set_aside(file, "it lacks columns or numbers")
        if not parts:
            return pd.DataFrame()
        rows = pd.concat(parts)
        return rows[~rows.index.duplicated()]

    def write(self, rows: pd.DataFrame) -> None:
        """Add a part. Several processes may write into one folder. Rows that cannot be written
        (there is a warning) go with the next part."""
        self.unwritten.append(rows.loc[np.isfinite(rows.to_numpy()).all(axis=1)])
        part, file = pd.concat(self.unwritten), self.folder / f"{uuid.uuid4().hex}.parquet"
        if not len(part) or keep(part, file, self.folder.parent):
            self.unwritten = []
