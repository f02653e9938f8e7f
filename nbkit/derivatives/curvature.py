"""A direction times the inverse of a damped Gauss-Newton matrix, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from tqdm.auto import tqdm

from nbkit.derivatives.along import EXACT, exact_ways, full_precision, of_margin
from nbkit.derivatives.differences import finite_difference
from nbkit.derivatives.exact import CannotServe
from nbkit.derivatives.gradient import gradient
from nbkit.derivatives.parameters import Direction, choose, combine, dot, norm, scaled
from nbkit.models.policy import Policy
from nbkit.tokens.ids import TokenPair
from nbkit.warning import warn

STEP = 1e-4  # of central differences where ghost products are out of reach, relative to |theta|


@dataclass(frozen=True)
class Solution:
    """(H + damping) direction = g, solved.

    Attributes:
        direction: by parameter name.
        largest: largest eigenvalue of H.
        damping: what was added to the diagonal.
        iterations: of conjugate gradients.
        residual: |g - (H + damping) direction| / |g|, computed anew at the end.
    """

    direction: Direction
    largest: float
    damping: float
    iterations: int
    residual: float


def gauss_newton(
    policy: Policy,
    token_pairs: list[TokenPair],
    weights: torch.Tensor,
    *,
    parameters: str | Callable[[str], bool] | None = None,
    path: str = "auto",
    budget: int | None = None,
) -> Callable[[Direction], Direction]:
    """u -> H u, where H = 1/n sum_i weight_i grad(margin_i) grad(margin_i)^T is the Gauss-Newton
    matrix of a mean loss of margins log p(chosen) - log p(rejected), whose second derivatives by
    the margin are the weights [n].

    Costs a derivative along u and a gradient: about two forward and backward passes.

    Raises:
        ValueError: no pairs; a policy in half precision that no exact method can serve.
    """
    if not token_pairs:
        raise ValueError("The curvature is made of 0 pairs; expected 1 or more.")
    along = _first_that_serves(_ways(policy, token_pairs, parameters, path, budget))
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)

    def times(u: Direction) -> Direction:
        slopes = weights * along(u) / len(token_pairs)
        return gradient(
            policy, token_pairs, lambda i, _: slopes[i, None] * signs,
            parameters=parameters, path=path, budget=budget,
        )  # fmt: skip

    return times


def _ways(
    policy: Policy,
    token_pairs: list[TokenPair],
    parameters: str | Callable[[str], bool] | None,
    path: str,
    budget: int | None,
) -> list[Callable]:
    """Functions u -> (log-probs, derivatives along u), best first."""
    length = norm(choose(policy, parameters))

    def by_difference(u: Direction) -> tuple[torch.Tensor, torch.Tensor]:
        h = STEP * length / norm(u)
        return finite_difference(
            policy, token_pairs, u, h, path=path, budget=budget, progress=False
        )

    ways: list[Callable] = [
        partial(EXACT[way], policy, token_pairs, budget=budget)
        for way in exact_ways(policy, token_pairs, path)
    ]
    if full_precision(policy):
        ways.append(by_difference)
    if not ways:
        raise ValueError(
            f"Curvature of {policy.name!r} needs finite differences, which rounding to "
            f"{policy.dtype} spoils. Load the policy with dtype='float32'."
        )
    return ways


def _first_that_serves(ways: list[Callable]) -> Callable[[Direction], torch.Tensor]:
    """u -> derivatives of the margins along u [n]; ways that cannot serve are given up for good."""

    def along(u: Direction) -> torch.Tensor:
        try:
            return of_margin(ways[0](u)[1])
        except CannotServe:
            if len(ways) == 1:
                raise
            del ways[0]
            return along(u)

    return along


def solve(
    times: Callable[[Direction], Direction],
    g: Direction,
    *,
    damping: float = 0.1,
    tolerance: float = 1e-4,
    most: int = 100,
    progress: bool = False,
) -> Solution:
    """(H + damping * largest eigenvalue of H)^-1 g by conjugate gradients.

    Args:
        times: u -> H u, for a symmetric H without negative eigenvalues.
        g: right-hand side.
        damping: relative to the largest eigenvalue.
        tolerance: of the residual, relative to |g|.
        most: iterations at most; the residual says how far they came.
    """
    if not damping > 0:
        raise ValueError(f"damping={damping!r}; expected a number above 0: H itself is singular.")
    size = norm(g)
    if size == 0.0:
        return Solution(g, 0.0, 0.0, 0, 0.0)
    largest = largest_eigenvalue(times, scaled(g, 1 / size))
    added = damping * largest or 1.0
    x, rest = scaled(g, 0.0), g
    search, squared, iterations = g, size**2, 0
    with tqdm(total=most, unit=" steps", desc="curvature", delay=1, disable=not progress) as bar:
        while squared**0.5 > tolerance * size and iterations < most:
            moved = combine(times(search), added, search)
            far = squared / dot(search, moved)
            x, rest = combine(x, far, search), combine(rest, -far, moved)
            before, squared = squared, dot(rest, rest)
            search = combine(rest, squared / before, search)
            iterations += 1
            bar.update()
    # CG's own account of what is left drifts from the truth where products are rounded
    left = combine(combine(g, -added, x), -1.0, times(x))
    residual = norm(left) / size
    if residual > max(0.01, 10 * tolerance):
        warn(
            f"(H + {added:.3g}) x = g is solved to {residual:.1%} of |g| only, after {iterations} "
            "iterations. More damping, or a policy in float32, brings x closer."
        )
    return Solution(x, largest, added, iterations, residual)


def largest_eigenvalue(
    times: Callable[[Direction], Direction], start: Direction, steps: int = 10
) -> float:
    """Of a symmetric H without negative eigenvalues, from below: Lanczos iteration from a start of
    length 1."""
    before, q, b = scaled(start, 0.0), start, 0.0
    diagonal, beside = [], []
    for _ in range(steps):
        w = combine(times(q), -b, before)
        diagonal.append(dot(w, q))
        w = combine(w, -diagonal[-1], q)
        b = norm(w)
        if b <= 1e-6 * max(diagonal):
            break
        beside.append(b)
        before, q = q, scaled(w, 1 / b)
    beside = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    T = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    T += torch.diag(beside, 1) + torch.diag(beside, -1)
    return torch.linalg.eigvalsh(T)[-1].item()
