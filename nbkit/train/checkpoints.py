"""Where a training run's state lies, and whether there is one to go on from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nbkit.cache import hash_weights

# What changes how a run is watched, or where it is kept, but not what it computes.
NO_PART = {"progress", "checkpoints", "checkpoint_every", "copy_model"}


def fingerprint(learner, data, settings, trl_options, followed_ids) -> str:
    """Name of a run's folder: a hash of the starting weights, the tokenised rows in order with
    their reference log-probs, the settings, and the followed pairs."""
    told = {k: v for k, v in {**settings, **trl_options}.items() if k not in NO_PART}
    digest = hashlib.sha256(hash_weights(learner).encode())
    digest.update(repr((sorted(told.items(), key=lambda kv: kv[0]), followed_ids)).encode())
    for row in data:
        digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()[:32]


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint in `folder` (the trainer's state is written last), or None."""
    complete = folder.glob("checkpoint-*/trainer_state.json")
    newest = max(complete, key=lambda f: int(f.parent.name.rpartition("-")[2]), default=None)
    return str(newest.parent) if newest else None
