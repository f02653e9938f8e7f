"""Derivatives of all log-probs along one direction: the choice between the ways to compute them,
checked on a few pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from nbkit.derivatives.differences import finite_difference
from nbkit.derivatives.exact import CannotServe
from nbkit.derivatives.ghost import ghost
from nbkit.derivatives.jvp import forward_mode
from nbkit.derivatives.loop import pair_by_pair, some
from nbkit.derivatives.parameters import Direction
from nbkit.logprobs.engine import why_not_packed
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair
from nbkit.warning import warn

EXACT = {"ghost": ghost, "jvp": forward_mode}
METHODS = ("central", "forward", *EXACT, "loop")
# A step changes log-probs of about L nats by STEP * sqrt(L): far above what float32 rounds (which
# grows with L), and so little that they change linearly. Tried first; then larger and smaller.
STEP = {"central": 3e-3, "forward": 1e-3}
FACTORS = (1, 1 / 4, 4, 1 / 16, 16)
# Largest relative error over the checked pairs in float32, where Pearson's r is then about
# 1 - error^2 / 2 = .99995, and in half precision, where the loop itself is no better.
GOOD, GOOD_IN_HALF = 0.01, 0.05
STILL = 1e-20  # a slope of the log-probs this small is no slope


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
        error: |margin - margin of the loop| / |margin of the loop| over the checked pairs, along
            the same direction; NaN if none was checked, or all of the loop's are zero.
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
            check fails, "ghost", then "jvp"; these two need the packed path.
        step: of a finite difference, in nats, see `Slopes`; None: the first that passes the check.
        check: number of pairs whose derivatives are compared with the loop's. A finite difference
            needs one at least, to know how far a step goes.
        at_theta: [n, 2] log-probs at theta, for "forward".
        path, budget, progress: see `nbkit.response_logprobs`.
        cache: folder in which the passes of finite differences are kept, so that the same call
            goes on after an interruption where it stopped.

    Raises:
        ValueError: no such method; one that cannot serve this policy; log-probs at theta that are
            another policy's; or none that "auto" tried agrees with the loop.

    Warns:
        UserWarning: the method that was asked for does not agree with the loop.
    """
    _check(method, step, check, path, at_theta)
    known = at_theta is not None
    where = some(token_pairs, check if method != "loop" else 0)
    probe, near = [token_pairs[i] for i in where], at_theta[where] if known else None
    at_probe, truth = pair_by_pair(policy, probe, direction)
    _check_probe(policy, at_probe, truth, near)
    size, pace = (x.square().mean().sqrt().item() for x in (at_probe, truth))

    good = GOOD if full_precision(policy) else GOOD_IN_HALF
    ways = _in_auto(policy, token_pairs, known, path) if method == "auto" else [method]
    if probe and pace < STILL and ways[0] in STEP:
        ways = exact_ways(policy, token_pairs, path) or ["loop"]  # no step can be found
    attempts = [(way, nats) for way in ways for nats in _steps(way, step, size)]
    errors, refusals = {}, []
    for attempt in attempts if of_margin(truth).any() else []:
        try:
            _, found = _by(*attempt, pace, policy, probe, direction, near, path, budget)
            errors[attempt] = _distance(of_margin(found), of_margin(truth))
        except CannotServe as refusal:
            if method != "auto":
                raise
            refusals.append(str(refusal))
            continue
        if errors[attempt] <= good:
            break
    way, nats = min(errors, key=errors.get) if errors else attempts[0]
    error = errors.get((way, nats), float("nan"))
    if error > good:
        said = (
            f"Derivatives of {policy.name!r} by {way} are {error:.1%} away from the loop's on "
            f"{len(probe)} pairs; at most {good:.0%} was expected."
        )
        if method == "auto":
            advice = "Use a policy in float32, or method='loop', which is slow."
            raise ValueError(" ".join([said, advice, *refusals]))
        warn(said)
    logps, slopes = _by(
        way, nats, pace, policy, token_pairs, direction, at_theta, path, budget, cache, progress
    )
    sides = slopes if slopes.dim() == 2 else None
    return Slopes(logps, of_margin(slopes), sides, way, nats, error, len(probe))


def exact_ways(policy: Policy, token_pairs: list[TokenPair], path: str = "auto") -> list[str]:
    """The names in `EXACT` that the policy can take, faster first."""
    longest = max(p.longest for p in token_pairs)
    return [] if path == "padded" or why_not_packed(policy, longest) else list(EXACT)


def full_precision(policy: Policy) -> bool:
    return all(p.dtype == torch.float32 for p in policy.model.parameters())


def of_margin(slopes: torch.Tensor) -> torch.Tensor:
    """Derivatives of log p(chosen) - log p(rejected), [n], from those of the sides [n, 2]."""
    return slopes if slopes.dim() == 1 else slopes[:, 0] - slopes[:, 1]


def _check(method, step, check, path, at_theta):
    if method not in ("auto", *METHODS):
        raise ValueError(f"method={method!r}; expected 'auto' or one of {', '.join(METHODS)}.")
    if method == "forward" and at_theta is None:
        raise ValueError("method='forward' needs the log-probs at theta.")
    least = 1 if method in ("auto", *STEP) else 0
    if check < least:
        raise ValueError(f"check={check} with method={method!r}; a finite difference needs 1.")
    if step is not None and not step > 0:
        raise ValueError(f"step={step!r}; expected a number of nats above 0, or None.")
    if method in EXACT and path == "padded":
        raise ValueError(f"method={method!r} takes the packed path; got path='padded'.")


def _check_probe(policy, at_probe, truth, given):
    """Raise ValueError for derivatives that are no numbers, and for log-probs of another policy."""
    if not (at_probe.isfinite().all() and truth.isfinite().all()):
        raise ValueError(
            f"Log-probs of {policy.name!r}, or their derivatives, are not finite (NaN or "
            "infinite): look at its weights, and at the direction."
        )
    if given is None:
        return
    allowed = 0.01 + 1e-4 * at_probe.abs() if full_precision(policy) else 1 + at_probe.abs() / 20
    apart = (given - at_probe).abs()
    if (apart > allowed).any():
        raise ValueError(
            f"The log-probs at theta that were given are {apart.max():.3g} nats away from those of "
            f"{policy.name!r}. Pass its table at the present parameters, or none."
        )


def _in_auto(policy, token_pairs, known, path) -> list[str]:
    """The methods to try, best first."""
    exact = exact_ways(policy, token_pairs, path)
    if not full_precision(policy):
        return exact or ["central"]
    return [*(["forward"] if known else []), "central", *exact]


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
    return EXACT[way](policy, token_pairs, direction, budget=budget, progress=progress)


def _distance(found: torch.Tensor, truth: torch.Tensor) -> float:
    distance = ((found - truth).norm() / truth.norm()).item()
    return distance if math.isfinite(distance) else math.inf
