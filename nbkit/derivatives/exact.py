"""What the exact ways along a direction, ghost products and forward mode, need of a policy."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch.autograd.forward_ad as forward_ad

from nbkit.logprobs.engine import why_not_packed
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair


class CannotServe(ValueError):
    """A way to compute derivatives that this policy cannot take, and why."""


def check_packed(policy: Policy, token_pairs: list[TokenPair], method: str) -> None:
    """Raise `CannotServe` unless the packed path serves the policy on these pairs."""
    if reason := why_not_packed(policy, max(p.longest for p in token_pairs)):
        raise CannotServe(f"method={method!r} cannot serve {policy.name!r}: {reason}.")


_dual = threading.RLock()


@contextlib.contextmanager
def dual_level() -> Iterator[None]:
    """Forward-mode differentiation, one thread at a time: torch has one level in the process."""
    with _dual, forward_ad.dual_level():
        yield
