"""Derivatives of all log-probs along one direction: the choice between the ways to compute them,
checked on a few pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from nbkit.derivatives.differences import finite_difference
from nbkit.derivatives.exact import CannotServe
from nbkit.derivatives.ghost import ghost
from nbkit.derivatives.jvp import forward_mode
from nbkit.derivatives.loop import of_all_lengths, pair_by_pair
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
    compute = _Computation(policy, direction, path, budget)
    probe = _probe(policy, token_pairs, direction, check if method != "loop" else 0, at_theta)
    attempts = _attempts(policy, token_pairs, probe, method, step, path)
    best, error, refusals = _first_good(attempts, probe, compute, method == "auto")
    if error > _allowed(policy):
        _tell_bad(policy, best, error, probe, method == "auto", refusals)
    logps, slopes = compute(best, token_pairs, at_theta, cache, progress)
    sides = slopes if slopes.dim() == 2 else None
    return Slopes(logps, of_margin(slopes), sides, best.way, best.nats, error, len(probe.pairs))


def exact_ways(policy: Policy, token_pairs: list[TokenPair], path: str = "auto") -> list[str]:
    """The names in `EXACT` that the policy can take, faster first."""
    longest = max(p.longest for p in token_pairs)
    return [] if path == "padded" or why_not_packed(policy, longest) else list(EXACT)


def full_precision(policy: Policy) -> bool:
    return all(p.dtype == torch.float32 for p in policy.model.parameters())


def of_margin(slopes: torch.Tensor) -> torch.Tensor:
    """Derivatives of log p(chosen) - log p(rejected), [n], from those of the sides [n, 2]."""
    return slopes if slopes.dim() == 1 else slopes[:, 0] - slopes[:, 1]


def _check(
    method: str, step: float | None, check: int, path: str, at_theta: torch.Tensor | None
) -> None:
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


class _Attempt(NamedTuple):
    """One way, and of a finite difference the step: in nats, and along the direction."""

    way: str
    nats: float | None = None
    h: float | None = None


@dataclass(frozen=True)
class _Computation:
    """Log-probs, and derivatives along one direction, by whichever way."""

    policy: Policy
    direction: Direction
    path: str
    budget: int | None

    def __call__(
        self, attempt: _Attempt, token_pairs: list[TokenPair], at_theta: torch.Tensor | None,
        cache: str | Path | None = None, progress: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        given = self.policy, token_pairs, self.direction
        if attempt.h is not None:  # a finite difference
            known = at_theta if attempt.way == "forward" else None
            return finite_difference(
                *given, attempt.h, known, path=self.path, budget=self.budget, cache=cache,
                progress=progress,
            )  # fmt: skip
        if attempt.way == "loop":
            return pair_by_pair(*given, progress=progress)
        return EXACT[attempt.way](*given, budget=self.budget, progress=progress)


@dataclass(frozen=True)
class _Probe:
    """A few pairs that every way is tried on: their log-probs at theta, where they were given, and
    by the loop, with their derivatives: all [n, 2]."""

    pairs: list[TokenPair]
    given: torch.Tensor | None
    logps: torch.Tensor
    slopes: torch.Tensor


def _probe(
    policy: Policy,
    token_pairs: list[TokenPair],
    direction: Direction,
    count: int,
    at_theta: torch.Tensor | None,
) -> _Probe:
    """Raises ValueError for derivatives that are no numbers, or log-probs of another policy."""
    where = of_all_lengths(token_pairs, count)
    pairs = [token_pairs[i] for i in where]
    probe = _Probe(
        pairs, at_theta[where] if at_theta is not None else None,
        *pair_by_pair(policy, pairs, direction),
    )  # fmt: skip
    if not (probe.logps.isfinite().all() and probe.slopes.isfinite().all()):
        raise ValueError(
            f"Log-probs of {policy.name!r}, or their derivatives, are not finite (NaN or "
            "infinite): look at its weights, and at the direction."
        )
    if probe.given is None:
        return probe
    size = probe.logps.abs()
    allowed = 0.01 + 1e-4 * size if full_precision(policy) else 1 + size / 20
    apart = (probe.given - probe.logps).abs()
    if (apart > allowed).any():
        raise ValueError(
            f"The log-probs at theta that were given are {apart.max():.3g} nats away from those of "
            f"{policy.name!r}. Pass its table at the present parameters, or none."
        )
    return probe


def _attempts(
    policy: Policy,
    token_pairs: list[TokenPair],
    probe: _Probe,
    method: str,
    step: float | None,
    path: str,
) -> list[_Attempt]:
    """What to try, best first."""
    ways = [method]
    if method == "auto":
        ways = _in_auto(policy, token_pairs, probe.given is not None, path)
    size, pace = (x.square().mean().sqrt().item() for x in (probe.logps, probe.slopes))
    if probe.pairs and pace < STILL and ways[0] in STEP:  # no step can be found
        ways = exact_ways(policy, token_pairs, path) or ["loop"]
    attempts = []
    for way in ways:
        if way not in STEP:
            attempts.append(_Attempt(way))
            continue
        for nats in [step] if step else [STEP[way] * size**0.5 * factor for factor in FACTORS]:
            attempts.append(_Attempt(way, nats, nats / pace))
    return attempts


def _in_auto(policy: Policy, token_pairs: list[TokenPair], known: bool, path: str) -> list[str]:
    """The methods that "auto" tries; `known`: the log-probs at theta were given."""
    exact = exact_ways(policy, token_pairs, path)
    if not full_precision(policy):
        return exact or ["central"]
    return [*(["forward"] if known else []), "central", *exact]


def _first_good(
    attempts: list[_Attempt], probe: _Probe, compute: _Computation, pass_over: bool
) -> tuple[_Attempt, float, list[str]]:
    """The first attempt that agrees with the loop on the probe, or the one that comes nearest; its
    error (NaN where there is nothing to compare with); and why others, with `pass_over`, were
    passed over."""
    truth, good = of_margin(probe.slopes), _allowed(compute.policy)
    errors: dict[_Attempt, float] = {}
    refusals: list[str] = []
    for attempt in attempts if truth.any() else []:
        try:
            _, found = compute(attempt, probe.pairs, probe.given)
        except CannotServe as refusal:
            if not pass_over:
                raise
            refusals.append(str(refusal))
            continue
        errors[attempt] = _distance(of_margin(found), truth)
        if errors[attempt] <= good:
            break
    best = min(errors, key=errors.__getitem__) if errors else attempts[0]
    return best, errors.get(best, math.nan), refusals


def _allowed(policy: Policy) -> float:
    """The largest error that is good enough."""
    return GOOD if full_precision(policy) else GOOD_IN_HALF


def _tell_bad(
    policy: Policy, best: _Attempt, error: float, probe: _Probe, refuse: bool, refusals: list[str]
) -> None:
    """Raise ValueError, or warn, that derivatives do not agree with the loop's."""
    said = (
        f"Derivatives of {policy.name!r} by {best.way} are {error:.1%} away from the loop's on "
        f"{len(probe.pairs)} pairs; at most {_allowed(policy):.0%} was expected."
    )
    if refuse:
        advice = "Use a policy in float32, or method='loop', which is slow."
        raise ValueError(" ".join([said, advice, *refusals]))
    warn(said)


def _distance(found: torch.Tensor, truth: torch.Tensor) -> float:
    distance = ((found - truth).norm() / truth.norm()).item()
    return distance if math.isfinite(distance) else math.inf
