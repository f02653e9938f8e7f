"""One thread at a time in a model."""

from __future__ import annotations

import os
import threading
import weakref

from transformers import PreTrainedModel

# By model; not in it, or it could not be copied or sent.
_locks: weakref.WeakKeyDictionary[PreTrainedModel, threading.RLock] = weakref.WeakKeyDictionary()
_locks_lock = threading.Lock()


def lock_of(model: PreTrainedModel) -> threading.RLock:
    """The lock of this model, the same one each time."""
    with _locks_lock:
        return _locks.setdefault(model, threading.RLock())


def _forget_locks() -> None:
    """A forked process lacks the threads that may have held them."""
    global _locks_lock
    _locks_lock = threading.Lock()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
