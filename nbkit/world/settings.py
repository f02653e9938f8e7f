"""The sizes of the policies: their weights, and DPO settings to begin with.

    nb.train_dpo(policy, pairs, **world.DPO["medium"])

The settings were searched for, on the seeds named in this folder's README.md, and then frozen.
"""

from pathlib import Path
from typing import Any

SIZES = ("small", "medium", "large")
WEIGHTS = Path(__file__).with_name("weights")  # a Hugging Face folder for each size

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

DPO: dict[str, dict[str, Any]] = {size: dict(_SETTINGS) for size in SIZES}
