"""Derivatives of all log-probs along one direction: the choice between the ways to compute them,
checked on a few pairs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from nbkit.derivatives.finite import finite_difference
from nbkit.derivatives.forward import forward_mode
from nbkit.derivatives.ghost import ghost
from nbkit.derivatives.parameters import Direction
from nbkit.derivatives.reference import pair_by_pair, some
from nbkit.engine import why_not_packed
from nbkit.models import Policy
from nbkit.tokens import TokenPair

METHODS = ("central", "forward", "jvp", "ghost", "loop")
# A step changes log-probs of about L nats by STEP * sqrt(L): far above what float32 rounds (which
# grows with L), and so little that they change linearly. Tried first; then larger and smaller.
STEP = {"central": 3e-3, "forward": 1e-3}
FACTORS = (1, 1 / 4, 4, 1 / 16, 16)
# Largest relative error over the checked pairs in float32, where Pearson's r is then about
# 1 - error^2 / 2 = .99995, and in half precision, where the loop itself is no better.
GOOD, GOOD_IN_HALF = 0.01, 0.05


@dataclass(frozen=True)
class Slopes:
    """Derivatives along a direction, nats per unit of it, and how they were computed.

    Attributes:
        logps: float64 [n, 2], log-probs at theta.
        margin: float64 [n], derivative of log p(chosen) - log p(rejected).
        sides: float64 [n, 2], derivatives of the chosen and rejected log-probs; None from "ghost".
        method: one of `METHODS`.
        step: of a finite difference, the root mean square of the change of the checked pairs'
            log-probs, nats; else None.
        error: |margin - margin of the loop| / |margin of the loop| over the checked pairs; NaN if
            none was checked.
        checked: number of pairs that were checked.
    """

    logps: torch.Tensor
    margin: torch.Tensor
    sides: torch.Tensor | None
    method: str
    step: float | None
    error: float
    checked: int


def derivatives(
    policy: Policy,
    token_pairs: list[TokenPair],
    direction: Direction,
    *,
    method: str = "auto",
    step: float | None = None,
    check: int = 6,
    at_theta: torch.Tensor | None = None,
    path: str = "auto",
    budget: int | None = None,
    cache: str | Path | None = None,
    progress: bool = False,
) -> Slopes:
    """Derivatives of all log-probs along a direction of the parameters.

    Args:
        policy: at which parameters.
        token_pairs: of which pairs.
        direction: from `gradient`, or anything in its form.
        method: "central" or "forward" finite difference, "jvp" (forward mode), "ghost", "loop"
            (pair by pair), or "auto". Auto takes, in float32, the forward difference if the
            log-probs at theta are given, else the central one; in half precision, or where the
            check fails, "ghost", then "jvp".
        step: of a finite difference, in nats, see `Slopes`; None: the first that passes the check.
        check: number of pairs whose derivatives are compared with the loop's. A finite difference
            needs one at least, to know how far a step goes.
        at_theta: [n, 2] log-probs at theta, for "forward".
        path, budget, progress: see `nbkit.response_logprobs`.
        cache: folder in which the passes of finite differences are kept, so that the same call
            goes on after an interruption where it stopped.

    Raises:
        ValueError: no such method; one that cannot serve this policy; or none that "auto" tried
            agrees with the loop.

    Warns:
        UserWarning: the method that was asked for does not agree with the loop.
    """
    if method not in ("auto", *METHODS):
        raise ValueError(f"method={method!r}; expected 'auto' or one of {', '.join(METHODS)}.")
    if method == "forward" and at_theta is None:
        raise ValueError("method='forward' needs the log-probs at theta.")
    if method in ("auto", *STEP) and check < 1:
        raise ValueError(f"check={check} with method={method!r}; a finite difference needs 1.")
    known = at_theta is not None
    where = some(token_pairs, check if method != "loop" else 0)
    probe, near = [token_pairs[i] for i in where], at_theta[where] if known else None
    at_probe, truth = pair_by_pair(policy, probe, direction)
    size, pace = (x.square().mean().sqrt().item() for x in (at_probe, truth))
    if probe and pace == 0.0:
        method = "loop"  # nothing moves the checked pairs, so no step can be found
    ways = _in_auto(policy, token_pairs, known) if method == "auto" else [method]

    good = GOOD if _full_precision(policy) else GOOD_IN_HALF
    errors = {}
    for attempt in [(way, nats) for way in ways for nats in _steps(way, step, size)]:
        errors[attempt] = float("nan")
        if probe and method != "loop":
            _, found = _by(*attempt, pace, policy, probe, direction, near, path, budget)
            errors[attempt] = _distance(_margin(found), _margin(truth))
        if not errors[attempt] > good:
            break
    way, nats = min(errors, key=errors.get)
    error = errors[way, nats]
    if error > good:
        said = (
            f"Derivatives of {policy.name!r} by {way} are {error:.1%} away from the loop's on "
            f"{len(probe)} pairs; at most {good:.0%} was expected."
        )
        if method == "auto":
            raise ValueError(f"{said} Use a policy in float32, or method='loop', which is slow.")
        warnings.warn(said, stacklevel=3)
    logps, slopes = _by(
        way, nats, pace, policy, token_pairs, direction, at_theta, path, budget, cache, progress
    )
    sides = slopes if slopes.dim() == 2 else None
    return Slopes(logps, _margin(slopes), sides, way, nats, error, len(probe))


def _in_auto(policy, token_pairs, known) -> list[str]:
    """The methods to try, best first."""
    packed = why_not_packed(policy, max(p.longest for p in token_pairs)) is None
    exact = ["ghost", "jvp"] if packed else []
    if not _full_precision(policy):
        return exact or ["central"]
    return [*(["forward"] if known else []), "central", *exact]


def _full_precision(policy) -> bool:
    return all(p.dtype == torch.float32 for p in policy.model.parameters())


def _steps(way, step, size) -> list[float | None]:
    if way not in STEP:
        return [None]
    return [step] if step else [STEP[way] * size**0.5 * factor for factor in FACTORS]


def _by(
    way, nats, pace, policy, token_pairs, direction, at_theta, path, budget, cache=None,
    progress=False,
):  # fmt: skip
    """Log-probs, and derivatives by one method."""
    if way in STEP:
        known = at_theta if way == "forward" else None
        return finite_difference(
            policy, token_pairs, direction, nats / pace, known,
            path=path, budget=budget, cache=cache, progress=progress,
        )  # fmt: skip
    if way == "loop":
        return pair_by_pair(policy, token_pairs, direction, progress=progress)
    exact = forward_mode if way == "jvp" else ghost
    return exact(policy, token_pairs, direction, budget=budget, progress=progress)


def _margin(slopes: torch.Tensor) -> torch.Tensor:
    return slopes if slopes.dim() == 1 else slopes[:, 0] - slopes[:, 1]


def _distance(found: torch.Tensor, truth: torch.Tensor) -> float:
    return ((found - truth).norm() / truth.norm()).item()
