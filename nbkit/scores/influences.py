"""Influence of training pairs on a validation loss (arXiv 2510.13212).

Influence of pair d: IF(d) = < grad L_val, grad loss(d) > at theta, where L_val is the mean DPO loss
of the validation pairs. That is the derivative of loss(d) along *one* direction, grad L_val, which
is the same for all pairs: two scoring passes a small step apart give it for every pair at once, to
rounding, whatever the number of parameters (see `nbkit.derivatives`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from nbkit.cache.files import try_folder
from nbkit.derivatives.along import Slopes, derivatives
from nbkit.derivatives.curvature import gauss_newton, solve
from nbkit.derivatives.differences import logp_sums
from nbkit.derivatives.gradient import gradient
from nbkit.derivatives.loop import of_all_lengths
from nbkit.derivatives.parameters import Direction
from nbkit.inputs import as_limit, as_number, as_policy
from nbkit.logprobs.fitting import tokenize
from nbkit.logprobs.rows import LOGPS, rows_of_tokens
from nbkit.models.policy import Policy
from nbkit.pairs.sources import Pairs
from nbkit.tokens.ids import check_vocabulary


def influence(
    policy: Policy,
    reference: Policy | pd.DataFrame,
    pairs: Pairs,
    validation: Pairs,
    *,
    logps: pd.DataFrame | None = None,
    beta: float = 0.1,
    method: str = "auto",
    step: float | None = None,
    check: int = 6,
    curvature: str | None = None,
    damping: float = 0.1,
    curvature_pairs: int = 256,
    parameters: str | Callable[[str], bool] | None = None,
    max_length: int | None = None,
    path: str = "auto",
    budget: int | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> pd.Series:
    """IF(d) = < grad L_val, grad loss(d) > of every pair, at the policy's parameters.

    Positive: a gradient step on d lowers the validation loss, by IF(d) times the learning rate to
    first order; negative: it raises it (TracIn's sign; Koh and Liang's is the opposite). In nats
    squared per squared unit of the parameters: compare within one policy only. With curvature in
    nats: by how much the validation loss falls for each unit of weight that the pair gets in the
    mean loss of the pairs.

    Args:
        policy, reference, pairs, validation: as of `influence_table`, which also returns what this
            is made of, and has the same errors.
        logps, beta, method, step, check: as there.
        curvature, damping, curvature_pairs, parameters: as there.
        max_length, path, budget, cache, progress: as there.

    Returns:
        Series "influence" indexed by pair id, with the `attrs` of the table.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(12)
        >>> few, goal = pairs.select(range(8)), pairs.select(range(8, 12))
        >>> influence = nb.scores.influence(policy, policy, few, goal, check=2, progress=False)
        >>> influence.name, len(influence), influence.attrs["method"]
        ('influence', 8, 'central')
    """
    table = influence_table(
        policy, reference, pairs, validation, logps=logps, beta=beta, method=method, step=step,
        check=check, curvature=curvature, damping=damping, curvature_pairs=curvature_pairs,
        parameters=parameters, max_length=max_length, path=path, budget=budget, cache=cache,
        progress=progress,
    )  # fmt: skip
    scores = table["influence"]
    scores.attrs = table.attrs
    return scores


def influence_table(
    policy: Policy,
    reference: Policy | pd.DataFrame,
    pairs: Pairs,
    validation: Pairs,
    *,
    logps: pd.DataFrame | None = None,
    beta: float = 0.1,
    method: str = "auto",
    step: float | None = None,
    check: int = 6,
    curvature: str | None = None,
    damping: float = 0.1,
    curvature_pairs: int = 256,
    parameters: str | Callable[[str], bool] | None = None,
    max_length: int | None = None,
    path: str = "auto",
    budget: int | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Influence of every pair on the mean DPO loss of the validation pairs, and its ingredients.

    Args:
        policy: theta: usually warmed up on the pairs (arXiv 2510.13212, section 3).
        reference: the DPO reference: a policy, or a log-prob table that covers both sets.
        pairs: whose influence.
        validation: pairs on which the loss should fall.
        logps: the policy's own log-prob table of the pairs, where it is at hand: a forward
            difference then needs one pass instead of two.
        beta: DPO's beta.
        method: "auto", or one of `nbkit.derivatives.along.METHODS`; all give the same numbers.
        step: of a finite difference: by how many nats it changes the log-probs (root mean square);
            None: found.
        check: pairs whose derivatives are compared with gradients made pair by pair.
        curvature: None: the inner product above. "gauss-newton": < (H + lambda I)^-1 grad L_val,
            grad loss(d) >, H the Gauss-Newton matrix of the pairs' mean loss: the classical
            influence function. Some 20 gradients of the pairs that H is made of.
        damping: lambda, relative to H's largest eigenvalue.
        curvature_pairs: number of pairs, of all lengths, that H is made of.
        parameters: "all", "lora", or a function name -> bool; None: the adapter's if there is one.
        max_length, path, budget, progress: see `nbkit.response_logprobs`.
        cache: folder in which log-probs are kept, those a step away too, so that the same call
            goes on after an interruption where it stopped.

    Returns:
        DataFrame indexed by pair id: `influence`; `margin` (beta x nats) and `loss` (nats) at
        theta; `margin_slope` (derivative of the margin along the direction), and, unless the
        method is "ghost", `chosen_slope, rejected_slope` (of the log-probs). `attrs`: "method",
        "step", "error" (relative, over the "checked" pairs, along the same direction: in half
        precision that direction is rounded, too), "left_out", "validation_left_out" (id ->
        reason), and, with curvature, "iterations", "residual", "damping" (as it was added).

    Raises:
        ValueError: a table that lacks pairs, or holds other texts under their ids; no pair that
            can be scored; a method or path that cannot serve this policy; derivatives that do not
            agree with those of the loop.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(12)
        >>> few, goal = pairs.select(range(8)), pairs.select(range(8, 12))
        >>> table = nb.scores.influence_table(policy, policy, few, goal, method="ghost", check=2,
        ...                                   progress=False)
        >>> list(table)
        ['influence', 'margin', 'loss', 'margin_slope']
        >>> table["loss"].round(3).unique().tolist()  # ln 2: policy = reference
        [0.693]
    """
    if curvature not in (None, "gauss-newton"):
        raise ValueError(f"curvature={curvature!r}; expected None or 'gauss-newton'.")
    policy, budget = as_policy(policy), as_limit(budget, "budget")
    beta = as_number(beta, "beta", above=0)
    if cache is not None:
        try_folder(cache)
    scoring: dict[str, Any] = dict(path=path, budget=budget, cache=cache, progress=progress)
    goal = _Pairs(
        policy, reference, validation, beta, max_length, scoring,
        what="validation pairs", kept_as="validation_left_out",
    )  # fmt: skip
    own = _Pairs(policy, reference, pairs, beta, max_length, scoring, "pairs", "left_out")
    at_theta = None if logps is None else own.of_table(logps, "logps")
    if at_theta is None and (curvature or method == "forward"):
        at_theta = logp_sums(policy, own.token_pairs, **scoring)

    chosen: dict[str, Any] = dict(parameters=parameters, path=path, budget=budget)
    direction = gradient(
        policy, goal.token_pairs, goal.slopes_of_mean_loss, progress=progress, **chosen
    )
    facts: dict[Any, Any] = {}
    if curvature:
        assert at_theta is not None  # made above
        times = _gauss_newton_of_some(policy, own, at_theta, curvature_pairs, chosen)
        solved = solve(times, direction, damping=damping, progress=progress)
        direction = solved.direction
        facts = dict(iterations=solved.iterations, residual=solved.residual, damping=solved.damping)
    found = derivatives(
        policy, own.token_pairs, direction, method=method, step=step, check=check,
        at_theta=at_theta, **scoring,
    )  # fmt: skip
    table = _as_table(own, found)
    table.attrs = dict(
        method=found.method, step=found.step, error=found.error, checked=found.checked,
        left_out=own.left_out, validation_left_out=goal.left_out, **facts,
    )  # fmt: skip
    return table


class _Pairs:
    """Pairs as token ids, their log-probs under the reference, and the DPO loss that they make."""

    def __init__(
        self,
        policy: Policy,
        reference: Policy | pd.DataFrame,
        pairs: Pairs,
        beta: float,
        max_length: int | None,
        scoring: dict[str, Any],
        what: str,
        kept_as: str,
    ) -> None:
        self.token_pairs, self.left_out = tokenize(policy, pairs, max_length, what, kept_as)
        self.beta = beta
        if not self.token_pairs:
            raise ValueError(
                f"None of the {len(self.left_out)} {what} can be scored: {self.left_out.reasons()}."
            )
        if isinstance(reference, Policy):
            check_vocabulary(self.token_pairs, reference.vocabulary)
            self.reference = logp_sums(reference, self.token_pairs, **scoring)
        else:
            self.reference = self.of_table(reference, "reference")

    def of_table(self, table: pd.DataFrame, what: str) -> torch.Tensor:
        """[n, 2] log-probs of these pairs from a table that may hold more."""
        rows = rows_of_tokens(table, self.token_pairs, what)
        return torch.from_numpy(rows[LOGPS].to_numpy(float).copy())

    def margin(self, logps: torch.Tensor, positions: Any = slice(None)) -> torch.Tensor:
        """Implicit margins [n], from log-probs [n, 2] of the pairs at `positions`."""
        ratios = logps - self.reference[positions]
        return self.beta * (ratios[:, 0] - ratios[:, 1])

    def slopes_of_mean_loss(self, positions: Any, logps: torch.Tensor) -> torch.Tensor:
        """[n, 2]: derivatives of the mean DPO loss by these log-probs [n, 2]."""
        pull = self.beta * torch.sigmoid(-self.margin(logps, positions)) / len(self.token_pairs)
        return torch.stack([-pull, pull], dim=1)


def _gauss_newton_of_some(
    policy: Policy, own: _Pairs, at_theta: torch.Tensor, count: int, chosen: dict
) -> Callable[[Direction], Direction]:
    """u -> H u of the mean loss of `count` of the pairs, of all lengths."""
    few = of_all_lengths(own.token_pairs, count)
    likely = torch.sigmoid(own.margin(at_theta))[few]
    bends = own.beta**2 * likely * (1 - likely)  # of the loss, by the margin in log-probs
    return gauss_newton(policy, [own.token_pairs[i] for i in few], bends, **chosen)


def _as_table(own: _Pairs, found: Slopes) -> pd.DataFrame:
    """What the derivatives of the log-probs make of the pairs' losses."""
    margin = own.margin(found.logps)
    columns = dict(
        influence=-torch.sigmoid(-margin) * own.beta * found.margin,
        margin=margin,
        loss=-torch.nn.functional.logsigmoid(margin),
        margin_slope=own.beta * found.margin,
    )
    if found.sides is not None:
        columns |= dict(chosen_slope=found.sides[:, 0], rejected_slope=found.sides[:, 1])
    index = pd.Index([p.id for p in own.token_pairs], name="id")
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()}, index=index)
