"""Independent trainings in several processes.

A model as small as the world's cannot use a second core; two trainings side by side can. Workers
are started by spawn (a fork of a process that has used OpenMP threads can hang), once, and kept
for the life of the kernel: importing torch and TRL takes them seconds. They end with it, however
it ends, and they do not heed an interrupt: what runs is finished, what waits is not begun.
"""

from __future__ import annotations

import atexit
import contextlib
import copyreg
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import connection, resource_tracker
from multiprocessing.reduction import ForkingPickler
from numbers import Integral
from operator import call
from typing import Any

import torch
from tqdm.auto import tqdm

# Neither torch's models nor nbkit's are imported here: a worker sets NO_BARS before they are.
NO_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")


def run_jobs(
    function: Callable, jobs: Sequence[tuple], workers: int = 1, *,
    progress: bool = True, desc: str = "jobs",
) -> Iterator[tuple[int, Any]]:  # fmt: skip
    """Run `function(*job)` for every job, in this process or in several.

    Args:
        function: what to run. With several workers it must be importable: defined at the top of
            a module, not in a notebook cell.
        jobs: tuples of arguments. With several workers, arguments and results are copied between
            processes (policies on the CPU, data sets, data frames, plain values).
        workers: number of processes; 1 runs the jobs here, one after the other. Each worker gets
            its share of torch's threads, and holds torch and TRL in memory (about half a GB).
        progress: show one progress bar over the jobs if they take more than a second. A job's own
            bars are its own affair: pass it `progress=False`.
        desc: text in front of the bar.

    Returns:
        an iterator of (number of the job, its result) as jobs finish; in order for workers=1.
        Nothing runs before the first is asked for. An error in a job is raised here, with the
        job's own traceback; like an interrupt, or a loop that is left early, it keeps further
        jobs from beginning, while those that run in a worker run on to their end. Warnings of
        jobs are given here, each once.

    Raises:
        ValueError: `workers` is no whole number of at least 1; with several: a function that they
            could not import, or a policy on a GPU.
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
    if workers == 1:
        results = ((number, function(*job)) for number, job in enumerate(jobs))
    else:
        _check_importable(function)
        for argument in (argument for job in jobs for argument in job):
            _check_sendable(argument, workers)
        results = _run_in_workers(function, jobs, int(workers))
    return _with_bar(results, len(jobs), desc, progress)


def at_once(
    jobs: Mapping[Any, Callable[[], Any]], workers: int = 1, *,
    progress: bool = True, desc: str = "jobs",
) -> dict[Any, Any]:  # fmt: skip
    """The results of prepared calls, under the keys of the calls and in their order.

        at_once({seed: partial(nb.train_dpo, policy, pairs, seed=seed) for seed in range(5)}, 2)

    Args:
        jobs: key -> a function that needs no arguments, like those of `functools.partial`.
        workers, progress, desc: see `run_jobs`, and for the errors.
    """
    keys = list(jobs)
    calls = [(job,) for job in jobs.values()]
    done = dict(run_jobs(call, calls, workers, progress=progress, desc=desc))
    return {key: done[number] for number, key in enumerate(keys)}


def check_workers(policy, workers: int) -> None:
    """Raise ValueError unless `policy` can be used with so many workers (see `run_jobs`)."""
    if not isinstance(workers, Integral) or isinstance(workers, bool) or workers < 1:
        raise ValueError(f"workers={workers!r}; expected a whole number, 1 or more.")
    device = getattr(policy, "device", None)
    if workers > 1 and isinstance(device, torch.device) and device.type != "cpu":
        name = getattr(policy, "name", "a model")
        raise ValueError(
            f"workers={workers}, but {name!r} is on {device}. Several processes would share one "
            "GPU and gain nothing: use workers=1, or load the policy with device='cpu'."
        )


def stop_workers() -> None:
    """End the worker processes, if there are any, and what they are doing. The next call of
    `run_jobs` starts new ones (which import a module that you have changed anew)."""
    global _pool
    pool, _pool = _pool, None
    if pool is not None and pool.owner == os.getpid():  # not in a fork of the process that has it
        pool.stop.send_bytes(b"stop")
        pool.executor.shutdown(wait=False, cancel_futures=True)


# Else the interpreter would wait, at its end, for jobs that run on after an interrupt. (An `atexit`
# function would come too late: after ProcessPoolExecutor's own wait.)
getattr(threading, "_register_atexit", atexit.register)(stop_workers)


def _with_bar(results, total, desc, progress):
    with tqdm(total=total, unit=" jobs", desc=desc, delay=1, disable=not progress) as bar:
        with contextlib.closing(results):
            for numbered in results:
                bar.update(1)
                yield numbered


def _check_sendable(argument, workers):
    """Of a prepared call (a partial) its function and arguments; of others the device."""
    if not isinstance(argument, partial):
        check_workers(argument, workers)
        return
    _check_importable(argument)
    for inner in (*argument.args, *argument.keywords.values()):
        _check_sendable(inner, workers)


def is_importable(function) -> bool:
    """Whether another process can import it; of a partial, what it is made of."""
    return _not_importable(function) is None


def _not_importable(function) -> str | None:
    """The name of what another process could not import, or None."""
    if isinstance(function, partial):
        parts = (function.func, *function.args, *function.keywords.values())
        return next(filter(None, map(_not_importable, parts)), None)
    name = getattr(function, "__qualname__", "")
    if getattr(function, "__module__", None) == "__main__" or "<" in name:
        return name or f"{function!r:.60}"
    return None


def _check_importable(function):
    if name := _not_importable(function):
        raise ValueError(
            f"With several workers, {name} must be importable, and what is defined in a notebook "
            "cell, a script or another function is not: move it to the top level of a module "
            "(a .py file beside the notebook) and import it from there, or use workers=1."
        )


def _run_in_workers(function, jobs, workers):
    todo, running, said = iter(enumerate(jobs)), {}, set()

    def refill():
        """As many jobs as workers: what is queued in the pool can no longer be held back."""
        for number, job in islice(todo, workers - len(running)):
            running[_submit(workers, function, job)] = number

    try:
        refill()
        while running:
            future = _first_done(running)
            number, answer = running.pop(future), future.result()
            refill()
            result, heard = ForkingPickler.loads(answer)
            for warning in heard:
                if warning not in said:
                    said.add(warning)
                    warnings.warn_explicit(*warning)
            yield number, result
    except BrokenProcessPool as error:  # the next call's `_submit` replaces the pool
        raise RuntimeError(
            "A worker process died, probably for lack of memory. Finished jobs are kept if a "
            "cache folder was given. Call again, with fewer workers (workers=1 runs in this "
            f"process).{_guard_hint()}"
        ) from error
    finally:
        for future in running:
            future.cancel()


def _first_done(futures) -> Future:
    done = ()
    while not done:  # in short waits: on Windows a long one could not be interrupted
        done, _ = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
    return next(iter(done))


def _guard_hint():
    """A script without the guard is run again by each worker, which then dies."""
    if getattr(sys.modules["__main__"], "__file__", None) is None:
        return ""
    return " A script must start its jobs below `if __name__ == '__main__':`."


# --- the pool, in this process ------------------------------------------------------------------


@dataclass(frozen=True)
class _Pool:
    owner: int
    workers: int
    threads: int
    executor: ProcessPoolExecutor
    stop: connection.Connection


_pool: _Pool | None = None


def _submit(workers, function, job) -> Future:
    call = bytes(_ByValue.dumps((function, job)))
    for last_try in (False, True):
        try:
            with _sigint_blocked():
                return _current_pool(workers).executor.submit(_run, call)
        except BaseException as error:
            stop_workers()  # interrupted halfway, or a worker died while it was idle
            if last_try or not isinstance(error, BrokenProcessPool):
                raise


def _current_pool(workers) -> _Pool:
    global _pool
    threads = max(1, torch.get_num_threads() // workers)
    kind = (os.getpid(), workers, threads)
    if _pool is None or (_pool.owner, _pool.workers, _pool.threads) != kind:
        stop_workers()
        context = multiprocessing.get_context("spawn")
        stopped, stop = context.Pipe(duplex=False)
        executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start_worker, initargs=(threads, stopped)
        )
        _pool = _Pool(*kind, executor, stop)
    return _pool


@contextlib.contextmanager
def _sigint_blocked():
    """A process that is started inside the block is deaf to SIGINT from its first moment on:
    JupyterLab interrupts the whole process group, and importing torch takes a while."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where interrupts reach the kernel only
        yield
        return
    resource_tracker.ensure_running()  # else the first worker starts it, which unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _ByValue(ForkingPickler):
    """Tensors travel as their bytes. torch would have the pool move them to shared memory: a
    worker that trains a model in place would train the caller's, every tensor would hold a file
    open, and a container's 64 MB of shared memory would be full soon."""

    def __init__(self, *args):
        super().__init__(*args)
        self.dispatch_table = copyreg.dispatch_table


# --- in a worker --------------------------------------------------------------------------------


def _as_told(warning) -> tuple:
    """A warning as arguments of `warnings.warn_explicit`, in a category that the parent knows."""
    category = next(kind for kind in warning.category.__mro__ if kind.__module__ == "builtins")
    return str(warning.message), category, warning.filename, warning.lineno


def _start_worker(threads, stopped):
    threading.Thread(target=_end_with_parent, args=(stopped,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(NO_BARS, "1"))
    torch.set_num_threads(threads)


def _end_with_parent(stopped):
    """Wait for the word to stop, or the end of the pipe when the parent is gone. (A worker of
    ProcessPoolExecutor would wait for work for ever.)"""
    connection.wait([stopped])
    os._exit(1)


def _run(call: bytes) -> bytes:
    function, job = ForkingPickler.loads(call)
    try:
        with warnings.catch_warnings(record=True) as heard:
            result = function(*job)
        return bytes(_ByValue.dumps((result, [_as_told(warning) for warning in heard])))
    except Exception as error:
        try:
            ForkingPickler.loads(_ByValue.dumps(error))
        except Exception:  # it would take the pool down on its way back
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise
