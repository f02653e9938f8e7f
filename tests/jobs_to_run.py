"""What the workers of test_jobs.py run: they import it, as they do a module of nbkit."""

import os
import signal
import time
from pathlib import Path

import pandas as pd

import nbkit as nb


def double(number):
    return 2 * number


def meet(folder, me, other):
    """Ends once a job in another process runs at the same time."""
    touch(folder, me)
    wait_for(Path(folder) / str(other))
    return os.getpid()


def touch(folder, name):
    """Leaves a file that holds the number of the process."""
    unfinished = Path(folder) / f"{name}.tmp"
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(Path(folder) / str(name))


def touch_and_wait(folder, name, gate):
    """A long job: it leaves a file when it begins, and another when it ends."""
    touch(folder, f"{name} began")
    wait_for(Path(folder) / gate)
    touch(folder, f"{name} ended")


def wait_for(path, seconds=60):
    until = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path.name} never came")
        time.sleep(0.02)


def die():
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def misread(word):
    raise LookupError(f"no such word: {word}")


class Particular(Exception):
    """An error that cannot be copied to another process."""

    def __init__(self, what, *, where):
        super().__init__(f"{what} in {where}")


def be_particular():
    raise Particular("a fault", where="a job")


def alone(folder):
    """Fails if another job runs at the same time."""
    (Path(folder) / "mine").touch(exist_ok=False)
    time.sleep(0.1)
    (Path(folder) / "mine").unlink()
    return os.getpid()


def bars():
    import datasets
    from transformers.utils import logging

    return datasets.is_progress_bar_enabled(), logging.is_progress_bar_enabled()


def threads():
    import torch

    return torch.get_num_threads()


def score(policy, pairs):
    return nb.response_logprobs(policy, pairs, progress=False)


def device_in_company(folder, policy, me, other):
    meet(folder, me, other)
    return policy.device.index


def train(policy, pairs, copy_model=True):
    return nb.train_dpo(
        policy, pairs, copy_model=copy_model, progress=False,
        beta=0.5, learning_rate=1e-3, batch_size=4, log_every=1,
    )  # fmt: skip


def train_in_place(policies, pairs):
    return [train(policy, pairs, copy_model=False) for policy in policies]


def frame(number):
    return pd.DataFrame({"x": [number]})


def cross_fit(cache, workers=1):
    """Four models, of some seconds."""
    policy = nb.load_policy("world/small", device="cpu")
    return nb.cross_fitted_losses(
        policy, nb.world.pairs(32, seed=5), seeds=2, cache=cache, workers=workers, progress=False,
        beta=0.5, learning_rate=1e-3, batch_size=4,
    )  # fmt: skip
