"""DPO settings to begin with, one dict a size.

    nb.train_dpo(policy, pairs, **world.DPO["medium"])


They were searched for, on the seeds named in this folder's README.md, and then frozen.
"""

from typing import Any

# One setting for all sizes. beta = 2 keeps the tiny policies near their reference: with beta = 1
# some runs break up the fixed phrases ("sure thing ." becomes "sure frog") and lose correctness.
_SETTINGS = {
    "beta": 2.0,
    "learning_rate": 1e-4,
    "batch_size": 16,
    "epochs": 1,
    "adam_beta2": 0.98,
    "warmup_steps": 5,
    "max_grad_norm": 1.0,
    "schedule": "constant",  # a decaying rate hides what the hard pairs do
}

DPO: dict[str, dict[str, Any]] = {size: dict(_SETTINGS) for size in ("small", "medium", "large")}
