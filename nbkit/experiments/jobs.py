"""Independent trainings in several processes, by joblib.

A model as small as the world's cannot use a second core; two trainings side by side can. joblib
starts the workers, keeps them for the next call, and ends them: when this process ends, at an
interrupt or an error, and after five minutes without work.

joblib's own switch takes the same calls (`cross_fitted_losses`, `compare`, `compare_plays`,
`at_once`) to a cluster. With Dask, which `pip install nbkit[dask]` brings::

    import joblib
    from dask.distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=4, threads_per_worker=1, preload=["nbkit.train.trainers"])
    client = Client(cluster)  # or the address of a scheduler
    with joblib.parallel_config(backend="dask"):
        losses = nb.cross_fitted_losses(policy, pairs, workers=4)

Any `workers` above 1 hands the jobs over; how many run at once, with how many threads and on which
GPU is then the cluster's affair (dask-cuda gives each worker a GPU). A process does one job at a
time, so give it one thread; `preload` imports TRL before a worker answers to the scheduler, which
else may take it for dead. Other machines need nbkit installed, and a `cache` folder that they
share. Policies travel with every job. If all workers are lost, Dask waits for others.

Ray is switched on likewise (`register_ray()` of `ray.util.joblib`, then `backend="ray"`), and hands
over results when all jobs are done. nbkit's tests run Dask, and not Ray.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from numbers import Integral
from operator import call
from pathlib import Path
from typing import Any

import psutil
import torch
from filelock import FileLock, Timeout
from joblib import Parallel, delayed
from joblib.parallel import LokyBackend, get_active_backend
from tqdm.auto import tqdm

# Neither torch's models nor nbkit's are imported here: a worker sets NO_BARS before they are.
NO_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")

_turn = threading.Lock()  # held by the job that this process works on
_held: list[FileLock] = []  # the lock of this worker's GPU, while the process lives


def run_jobs(
    function: Callable, jobs: Sequence[tuple], workers: int = 1, *,
    progress: bool = True, desc: str = "jobs",
) -> Iterator[tuple[int, Any]]:  # fmt: skip
    """Run `function(*job)` for every job, in this process or in several.

    Args:
        function: what to run; one from a notebook cell will do. Workers keep the modules that they
            have imported: `joblib.externals.loky.get_reusable_executor().shutdown()` ends them, and
            the next ones import a module that you have changed anew.
        jobs: tuples of arguments. With several workers, arguments and results are copied between
            processes: what a job changes in place is its own copy.
        workers: number of processes; 1 runs the jobs here, one after the other (as a job's own
            jobs are run). Each worker gets its share of torch's threads, and holds torch and TRL
            in memory (about half a GB). Of policies on a CUDA device each worker gets a copy on a
            GPU of its own, where its results stay. Another backend of joblib, such as Dask's,
            sees to all this itself (see the module's docstring).
        progress: show one progress bar over the jobs if they take more than a second. A job's own
            bars are its own affair: pass it `progress=False`.
        desc: text in front of the bar.

    Returns:
        an iterator of (number of the job, its result) as jobs finish; in order for workers=1.
        Nothing runs before the first is asked for. An error in a job is raised here, with the
        job's own traceback; like an interrupt, or a loop that is left early, it ends the workers
        and what they do. The next call starts new ones. Warnings of jobs are given here, each
        once.

    Raises:
        ValueError: `workers` is no whole number of at least 1, or more than there are GPUs for.
        TypeError: a job that is no tuple.
        RuntimeError: a worker died.
    """
    jobs = list(jobs)
    check_workers(None, workers)
    for number, job in enumerate(jobs):
        if not isinstance(job, tuple):
            raise TypeError(
                f"Job {number} is of type {type(job).__name__}; expected a tuple of arguments."
            )
    if workers == 1 or _turn.locked():
        results = ((number, function(*job)) for number, job in enumerate(jobs))
    else:
        for argument in _arguments(jobs):
            check_workers(argument, workers)
        results = _run_in_workers(function, jobs, int(workers))
    return _with_bar(results, len(jobs), desc, progress)


def at_once(
    jobs: Mapping[Any, Callable[[], Any]], workers: int = 1, *,
    progress: bool = True, desc: str = "jobs",
) -> dict[Any, Any]:  # fmt: skip
    """The results of prepared calls, under the keys of the calls and in their order.

        runs = {seed: partial(nb.train_dpo, policy, pairs, seed=seed) for seed in range(5)}
        nb.at_once(runs, workers=2)

    On a cluster, with its client made (see the docstring of `nbkit.experiments.jobs`):

        with joblib.parallel_config(backend="dask"):
            nb.at_once(runs, workers=2)

    Args:
        jobs: key -> a function that needs no arguments, like those of `functools.partial`.
        workers, progress, desc: see `run_jobs`, and for the errors.

    Example:
        >>> import nbkit as nb
        >>> from functools import partial
        >>> jobs = {word: partial(nb.world.reward, "pet of mia ?", word) for word in ("bat", "cat")}
        >>> nb.at_once(jobs)
        {'bat': 2.0, 'cat': 0.0}
    """
    keys = list(jobs)
    calls = [(job,) for job in jobs.values()]
    done = dict(run_jobs(call, calls, workers, progress=progress, desc=desc))
    return {key: done[number] for number, key in enumerate(keys)}


def check_workers(policy: Any, workers: int) -> None:
    """Raise ValueError unless `policy` can be used with so many workers (see `run_jobs`)."""
    if not isinstance(workers, Integral) or isinstance(workers, bool) or workers < 1:
        raise ValueError(f"workers={workers!r}; expected a whole number, 1 or more.")
    device = _device(policy)
    if workers == 1 or device is None or device.type == "cpu" or not _on_this_machine():
        return
    gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    if workers > gpus:
        name = getattr(policy, "name", "a model")
        raise ValueError(
            f"workers={workers}, but {name!r} is on {device}, and each worker takes a GPU of its "
            f"own, of which there are {gpus}. Use workers={gpus}, or load the policy with "
            "device='cpu'."
        )


def _with_bar(
    results: Generator, total: int, desc: str, progress: bool
) -> Iterator[tuple[int, Any]]:
    with tqdm(total=total, unit=" jobs", desc=desc, delay=1, disable=not progress) as bar:
        with contextlib.closing(results):
            for numbered in results:
                bar.update(1)
                yield numbered


def _arguments(values: Any) -> Iterator:
    """What jobs and prepared calls are made of."""
    for value in values:
        if isinstance(value, partial):
            yield from _arguments((*value.args, *value.keywords.values()))
        elif isinstance(value, tuple):
            yield from _arguments(value)
        else:
            yield value


def _device(value: Any) -> torch.device | None:
    device = getattr(value, "device", None)
    return device if isinstance(device, torch.device) else None


def _on_this_machine() -> bool:
    """Whether the workers are joblib's own processes, and not threads or those of a cluster."""
    return isinstance(get_active_backend()[0], LokyBackend)


def _run_in_workers(
    function: Callable, jobs: Sequence[tuple], workers: int
) -> Generator[tuple[int, Any]]:
    calls = (delayed(_run)(function, *numbered) for numbered in enumerate(jobs))
    results, said = _started(calls, jobs, workers), set()
    try:
        for number, result, heard in results:
            for warning in heard:
                if warning not in said:
                    said.add(warning)
                    warnings.warn_explicit(*warning)
            yield number, result
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A worker process died, probably for lack of memory. Finished jobs are kept if a "
            "cache folder was given. Call again, with fewer workers (workers=1 runs in this "
            "process)."
        ) from error
    finally:
        with warnings.catch_warnings(action="ignore"):  # joblib's, of a loop that is left early
            results.close()


def _started(calls: Iterable, jobs: Sequence[tuple], workers: int) -> Generator:
    """What the calls return, as they finish."""
    backend, options = get_active_backend()[0], {}
    if _on_this_machine():
        on_gpu = any(getattr(_device(a), "type", "") == "cuda" for a in _arguments(jobs))
        gpus = tuple(f"cuda:{number}" for number in range(workers)) if on_gpu else ()
        threads = max(1, torch.get_num_threads() // workers)
        options = dict(initializer=_start_worker, initargs=(threads, gpus))
    how = "generator_unordered" if backend.supports_return_generator else "list"
    # max_nbytes: else large arrays would be files in memory, which no job can change
    parallel = Parallel(workers, return_as=how, batch_size=1, max_nbytes=None, **options)
    yield from parallel(calls)


# --- in a worker --------------------------------------------------------------------------------


def _run(function: Callable, number: int, job: tuple) -> tuple[int, Any, list[tuple]]:
    """Number, result and warnings of a job. One at a time, for trainings set the random states of
    their process: where a backend has several threads in one, they wait for each other."""
    with _turn, warnings.catch_warnings(record=True) as heard:
        try:
            result = function(*job)
        except Exception as error:
            try:
                copy.copy(error)
            except Exception:  # it could not be made anew on the other side
                raise RuntimeError(f"{type(error).__name__}: {error}") from error
            raise
    return number, result, [(str(w.message), w.category, w.filename, w.lineno) for w in heard]


def _start_worker(threads: int, gpus: Sequence[str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # JupyterLab sends it to all; the parent decides
    os.environ.update(dict.fromkeys(NO_BARS, "1"))
    torch.set_num_threads(threads)
    if gpus:
        gpu = _free(gpus)
        torch.cuda.set_device(gpu)
        _bring_to(gpu)


def _end_with_parent() -> None:
    """Else a worker would wait, after the sudden end of its parent, five minutes for work."""
    me = psutil.Process()
    parent = me.parent()
    while me.parent() == parent:
        time.sleep(1)
    os._exit(1)


def _free(devices: Sequence[str]) -> str:
    """The first of the devices that no other worker of the same parent has taken. Taken until the
    process ends, however it ends."""
    while True:
        for device in devices:
            name = f"nbkit-{os.getppid()}-{device.replace(':', '-')}.lock"
            lock = FileLock(Path(tempfile.gettempdir()) / name)
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                _held.append(lock)
                return device
        time.sleep(0.1)  # a worker is ending


def _bring_to(device: str) -> None:
    """From now on, what comes to this process from any GPU comes to this device."""

    def place(storage: Any, location: str) -> Any:
        return storage.to(device=device) if location.startswith("cuda") else None

    torch.serialization.register_package(0, lambda storage: None, place)
