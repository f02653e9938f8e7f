"""DPO settings to begin with, one dict a size.

    nb.train_dpo(policy, pairs, **world.DPO["medium"])


They were searched for, on the seeds named in this folder's README.md, and then frozen.
"""

_SHARED = {
    "beta": 1.0,
    "batch_size": 16,
    "epochs": 1,
    "adam_beta2": 0.98,
    "warmup_steps": 5,
    "max_grad_norm": 1.0,
    "schedule": "constant",
}

DPO: dict[str, dict] = {
    "small": {**_SHARED, "learning_rate": 1e-4},
    "medium": {**_SHARED, "learning_rate": 2e-4},
    "large": {**_SHARED, "learning_rate": 2e-4},
}
