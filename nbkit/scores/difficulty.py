"""How hard a pair is: from what happened to it while a model was trained, or from its responses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nbkit.inputs import as_number
from nbkit.scores.margins import mean_logp
from nbkit.scores.same_pairs import check_table


def learned_step(trace: pd.DataFrame, threshold: float = 0.4) -> pd.Series:
    """When a pair was learned for good: LS = min {t0 : m_t > threshold for all t > t0}
    (Selective DPO, arXiv 2502.09650, section 3).

    Args:
        trace: tidy frame with columns `step, id, margin` (`run.trace` of `nbkit.train_dpo`);
            margin is the implicit reward margin, beta included. The paper follows held-out pairs
            and evaluates after every update (`trace_every=1`).
        threshold: margin above which a pair counts as learned, beta x nats; the paper's 0.4.

    Returns:
        Series of optimizer steps (float): the last step at which the margin was not above the
        threshold (the first step when it always was). Lower: easier. Infinite for a pair that
        is not above the threshold at the last step: never learned; such pairs rank last. With
        `trace_every=k` a step is known up to k - 1.

    Raises:
        TypeError: no trace, or a column that holds no numbers.
        ValueError: a column is missing, a pair has a step twice or lacks one, or a margin is NaN
            or infinite.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> trace = pd.DataFrame(
        ...     dict(step=[0, 0, 5, 5, 9, 9], id=["a", "b"] * 3, margin=[0, 0, 0.5, 0.1, 0.9, 0.3])
        ... )
        >>> nb.scores.learned_step(trace).to_dict()
        {'a': 0.0, 'b': inf}
    """
    threshold = as_number(threshold, "threshold")
    margins = margins_by_step(trace)
    steps = margins.index.to_numpy(float)
    below = margins.to_numpy() <= threshold
    last_below = len(steps) - 1 - below[::-1].argmax(axis=0)
    learned = np.where(below.any(axis=0), steps[last_below], steps[0])
    learned[below[-1]] = np.inf
    return pd.Series(learned, index=margins.columns, name="learned_step")


def confidence(trace: pd.DataFrame) -> pd.Series:
    """Data-map confidence: mean over the training steps of sigmoid(m_t), the probability that the
    policy gives to the label (Dataset Cartography, arXiv 2009.10795, section 2, with the
    Bradley-Terry probability of a pair). 0 to 1; higher: easier. Step 0, at
    which all pairs are alike, counts like any other.

    Args:
        trace: as for `learned_step`.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> trace = pd.DataFrame(
        ...     dict(step=[0, 0, 5, 5, 9, 9], id=["a", "b"] * 3, margin=[0, 0, 0.5, 0.1, 0.9, 0.3])
        ... )
        >>> nb.scores.confidence(trace).round(2).to_dict()
        {'a': 0.61, 'b': 0.53}
    """
    return _probabilities(trace).mean().rename("confidence")


def variability(trace: pd.DataFrame) -> pd.Series:
    """Data-map variability: standard deviation over the training steps of sigmoid(m_t)
    (arXiv 2009.10795, section 2; the population's). 0 to 0.5; higher: the policy wavered more, or
    moved further.

    Args:
        trace: as for `learned_step`.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> trace = pd.DataFrame(
        ...     dict(step=[0, 0, 5, 5, 9, 9], id=["a", "b"] * 3, margin=[0, 0, 0.5, 0.1, 0.9, 0.3])
        ... )
        >>> nb.scores.variability(trace).round(2).to_dict()
        {'a': 0.09, 'b': 0.03}
    """
    return _probabilities(trace).std(ddof=0).rename("variability")


def perplexity(logps: pd.DataFrame, side: str = "chosen") -> pd.Series:
    """Perplexity of one response: exp(- mean log-prob per token), from a log-prob table of the
    reference. 1 and up; higher: the model finds the response less likely, token for token.

    Args:
        logps: log-prob table (`nbkit.response_logprobs`).
        side: "chosen" or "rejected".

    Raises:
        TypeError: no log-prob table.
        ValueError: side is neither "chosen" nor "rejected"; a response has no tokens.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> table = pd.DataFrame(
        ...     dict(chosen_logp=-6.0, rejected_logp=-4.0, chosen_tokens=12, rejected_tokens=4),
        ...     index=["a"],
        ... )
        >>> nb.scores.perplexity(table).round(2).to_dict()  # exp(6 / 12)
        {'a': 1.65}
    """
    return np.exp(-mean_logp(logps, _side(side))).rename("perplexity")


def response_length(logps: pd.DataFrame, side: str = "chosen") -> pd.Series:
    """Length of one response in scored tokens, its end-of-sequence token included.

    Args:
        logps: log-prob table (`nbkit.response_logprobs`).
        side: "chosen" or "rejected".

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> table = pd.DataFrame(
        ...     dict(chosen_logp=-6.0, rejected_logp=-4.0, chosen_tokens=12, rejected_tokens=4),
        ...     index=["a"],
        ... )
        >>> nb.scores.response_length(table, "rejected").to_dict()
        {'a': 4}
    """
    side = _side(side)
    check_table(logps, "The log-prob table")
    return logps[f"{side}_tokens"].rename("response_length")


def _side(side: str) -> str:
    if side not in ("chosen", "rejected"):
        raise ValueError(f"side={side!r}; expected 'chosen' or 'rejected'.")
    return side


def _probabilities(trace: pd.DataFrame) -> pd.DataFrame:
    odds: Any = np.exp(-margins_by_step(trace))  # a DataFrame, of a DataFrame
    return 1 / (1 + odds)


def margins_by_step(trace: pd.DataFrame) -> pd.DataFrame:
    """The margins of a training trace as a table [steps, pairs], steps ascending, pairs in the
    trace's order. Refuses traces as `learned_step` does."""
    if not isinstance(trace, pd.DataFrame):
        raise TypeError(
            f"Expected a training trace, got {type(trace).__name__}. `nbkit.train_dpo(..., "
            "trace=pairs).trace` is one."
        )
    missing = [name for name in ("step", "id", "margin") if name not in trace]
    if missing:
        raise ValueError(
            f"A training trace has columns step, id and margin; {missing} are missing (came: "
            f"{list(trace)}). `nbkit.train_dpo(..., trace=pairs).trace` is one."
        )
    for name in ("step", "margin"):
        if not pd.api.types.is_any_real_numeric_dtype(trace[name]):
            raise TypeError(f"The trace's {name} is {trace[name].dtype}; expected numbers.")
    if (infinite := trace.loc[np.isinf(trace["margin"]), "id"]).size:
        raise ValueError(f"The margin of pair {infinite.iloc[0]!r} is infinite at some step.")
    twice = trace.duplicated(["step", "id"])
    if twice.any():
        first = trace[twice].iloc[0]
        raise ValueError(f"The trace holds pair {first['id']!r} twice at step {first['step']}.")
    margins = trace.pivot(index="step", columns="id", values="margin")
    lacking = margins.columns[margins.isna().any()]
    if len(lacking):
        step = margins.index[margins[lacking[0]].isna()][0]
        raise ValueError(
            f"{len(lacking)} of {margins.shape[1]} pairs have no margin at some step (first: "
            f"{lacking[0]!r} at step {step}). Trace the same pairs at every step."
        )
    if margins.empty:
        raise ValueError("The trace is empty: got no steps.")
    return margins[trace["id"].drop_duplicates()]  # pivot sorts; keep the order of the pairs
