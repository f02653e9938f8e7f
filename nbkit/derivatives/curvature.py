"""A direction times the inverse of a damped Gauss-Newton matrix, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from nbkit.derivatives.finite import finite_difference
from nbkit.derivatives.ghost import ghost
from nbkit.derivatives.gradient import gradient
from nbkit.derivatives.parameters import Direction, choose, combine, dot, norm, scaled
from nbkit.engine import why_not_packed
from nbkit.models import Policy
from nbkit.tokens import TokenPair

STEP = 1e-4  # of central differences where ghost products are out of reach, relative to |theta|


@dataclass(frozen=True)
class Solution:
    """(H + damping) direction = g, solved.

    Attributes:
        direction: by parameter name.
        largest: largest eigenvalue of H.
        damping: what was added to the diagonal.
        iterations: of conjugate gradients.
        residual: |g - (H + damping) direction| / |g|.
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
    """
    packed = why_not_packed(policy, max(p.longest for p in token_pairs)) is None
    length = norm(choose(policy, parameters))
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)

    def times(u: Direction) -> Direction:
        if packed:
            _, along = ghost(policy, token_pairs, u, budget=budget)
        else:
            _, sides = finite_difference(
                policy, token_pairs, u, STEP * length / norm(u),
                path=path, budget=budget, progress=False,
            )  # fmt: skip
            along = sides[:, 0] - sides[:, 1]
        slopes = weights * along / len(token_pairs)
        return gradient(
            policy, token_pairs, lambda i, _: slopes[i, None] * signs,
            parameters=parameters, path=path, budget=budget,
        )  # fmt: skip

    return times


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
    return Solution(x, largest, added, iterations, squared**0.5 / size)


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
