"""What a pair can still teach: how far the margin that the policy has is from the margin that the
judge wants. And a neighbour that reads the same two margins the other way."""

from __future__ import annotations

import pandas as pd

from nbkit.inputs import as_number
from nbkit.scores.same_pairs import common_pairs
from nbkit.warning import warn

ROUNDING = 1e-4  # nats: two scorings of one model differ by less


def alignment_potential(
    explicit: pd.Series, implicit: pd.Series, weight: float = 1.0, standardize: bool = True
) -> pd.Series:
    """Alignment potential M_AP: the gap from the policy's margin to the judge's
    (arXiv 2503.01864)::

        standardize=True    z(explicit) - weight * z(|implicit|)    the authors' released rule
        standardize=False     |explicit| - weight * |implicit|      the paper's gap

    where z(x) = (x - mean) / standard deviation over these pairs. Of the implicit margin only the
    size enters: a policy that is sure of the wrong response counts as decided, too. The released
    rule has no bars around the explicit margin, and needs none: it is the highest minus the lowest
    score that the reward model gave to the sampled responses, never negative. Where the labels are
    somebody else's it can be: the rule then keeps the sign [our reading], while the gap prefers
    pairs whose label the judge firmly *contradicts*.

    Args:
        explicit: margin of a judge or reward model, in its own units (`explicit_margin`).
        implicit: the policy's margin. The released rule takes `length_normalized_margin` of the
            policy alone; the paper's gap also DPO's `implicit_margin`.
        weight: w, the price of the implicit margin. Under z-scores it is the only knob: beta
            cancels. 1 for selection, 2.5 for self-play in the released code.
        standardize: z-scores, which depend on the pool of pairs: a pair's score changes with the
            pairs around it. Without, both margins must be in the same units.

    Returns:
        Series over the pairs that both margins hold, in the order of `explicit` (pairs that only
        one holds are warned of, and listed in `attrs["left_out"]`), in standard deviations (or the
        margins' units); higher: the judge is surer than the policy, more is left to learn.
        `nbkit.select.top(m_ap, 0.4)` is the paper's selection. NaN where a margin is NaN.

        A margin that is the same for every pair (up to the rounding of log-probs, 1e-4 nats) tells
        none from another: its z-score is 0, with a warning. So it is with DPO's implicit margin
        at policy = reference, which is 0 everywhere: M_AP then ranks by the explicit margin alone.

    Raises:
        TypeError: no scores.
        ValueError: no pair in common, an infinite margin, or a weight below 0.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> explicit = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("abcd"), name="explicit")
        >>> implicit = pd.Series([0.1, 0.2, 0.1, 5.0], index=list("abcd"), name="implicit")
        >>> nb.scores.alignment_potential(explicit, implicit).round(2).to_dict()
        {'a': -0.75, 'b': 0.1, 'c': 1.04, 'd': -0.39}
    """
    weight = as_number(weight, "weight", least=0)
    explicit, implicit, left_out = common_pairs(explicit, implicit)
    judged, reached = explicit.abs(), implicit.abs()
    if standardize:
        judged = _zscore(explicit, 0.0, "explicit", "the implicit margin alone")
        reached = _zscore(reached, ROUNDING, "implicit", "the explicit margin alone")
    score = (judged - weight * reached).rename("alignment_potential")
    score.attrs["left_out"] = left_out
    return score


def residual_weight(explicit: pd.Series, implicit: pd.Series) -> float:
    """A weight for `alignment_potential` that needs no training run [ours; the paper leaves the
    choice open]: the slope of the least-squares line from `|implicit|` to the explicit margin in
    z-scores, which is their Pearson correlation, and 0 if that is negative.

    With it M_AP is the residual of that line: what the judge says beyond what the policy's margin
    would lead one to expect, uncorrelated with the size of the implicit margin. A smaller weight
    prefers pairs that the policy has decided already, a larger one pairs that it is undecided on,
    whatever the judge says. Where the two margins have nothing to do with each other it is near 0,
    and M_AP near the explicit margin.

    Args:
        explicit, implicit: Series by pair id, as for `alignment_potential`.

    Raises:
        TypeError, ValueError: as of `alignment_potential`; a margin of the same size everywhere.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> explicit = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("abcd"), name="explicit")
        >>> implicit = pd.Series([0.1, 0.2, 0.1, 5.0], index=list("abcd"), name="implicit")
        >>> round(nb.scores.residual_weight(explicit, implicit), 2)
        0.77
    """
    explicit, implicit, _ = common_pairs(explicit, implicit, where=None)
    slope = explicit.corr(implicit.abs())
    if pd.isna(slope) or implicit.abs().std(ddof=0) < ROUNDING:
        raise ValueError(
            "A margin is the same for every pair (DPO's implicit margin has at policy = "
            "reference): there is no weight to choose. Warm the policy up first."
        )
    return max(0.0, float(slope))


def bees(
    explicit: pd.Series,
    implicit: pd.Series,
    *,
    explicit_range: tuple[float, float] | None = None,
    implicit_range: tuple[float, float] | None = None,
) -> pd.Series:
    """Preference probability of BeeS, "Less is More" (arXiv 2502.14560): both margins are clipped
    to a range [L, U] and read as probabilities, p = (m - L) / (U - L), which are combined as two
    independent witnesses: P = p1 p2 / (p1 p2 + (1 - p1)(1 - p2)). Keep the largest.

    Here a large implicit margin speaks *for* a pair, in alignment potential against it.

    Args:
        explicit, implicit: margins of the same pairs, with their signs.
        explicit_range, implicit_range: L and U in the margin's units; default its 1st and 99th
            percentile [our choice; the paper sets the ranges by hand].

    Returns:
        Series 0 to 1; higher: the label is likelier right. Where one witness says 0 and the other
        1 they contradict each other: one half.

    Raises:
        TypeError, ValueError: as of `alignment_potential`; not L < U.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> explicit = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("abcd"), name="explicit")
        >>> implicit = pd.Series([0.1, 0.2, 0.1, 5.0], index=list("abcd"), name="implicit")
        >>> ranges = dict(explicit_range=(0.0, 4.0), implicit_range=(0.0, 4.0))
        >>> nb.scores.bees(explicit, implicit, **ranges).round(2).to_dict()
        {'a': 0.01, 'b': 0.05, 'c': 0.07, 'd': 1.0}
    """
    explicit, implicit, left_out = common_pairs(explicit, implicit)
    first = _probability(explicit, explicit_range, "explicit_range")
    second = _probability(implicit, implicit_range, "implicit_range")
    agree = first * second
    total = agree + (1 - first) * (1 - second)
    combined = (agree / total.where(total > 0)).where(total > 0, 0.5)
    score = combined.where(first.notna() & second.notna()).rename("bees")
    score.attrs["left_out"] = left_out
    return score


def _zscore(values: pd.Series, rounding: float, name: str, instead: str) -> pd.Series:
    spread = values.std(ddof=0)
    if not spread > max(rounding, 1e-12 * values.abs().max()):
        warn(
            f"The {name} margin is the same for every pair, so it cannot rank them: "
            f"alignment potential falls back to {instead}. (DPO's implicit margin is 0 everywhere "
            "while the policy is its own reference: train a little first, or take "
            "`length_normalized_margin`.)"
        )
        return values * 0.0
    return (values - values.mean()) / spread


def _probability(margin: pd.Series, limits: tuple[float, float] | None, name: str) -> pd.Series:
    low, high = margin.quantile([0.01, 0.99]) if limits is None else _limits(limits, name)
    if not low < high:
        raise ValueError(f"{name}: got [{low:g}, {high:g}]; expected L < U (all margins alike?).")
    return (margin.clip(low, high) - low) / (high - low)


def _limits(limits: tuple[float, float], name: str) -> tuple[float, float]:
    if not isinstance(limits, (tuple, list)) or len(limits) != 2:
        raise TypeError(f"{name}={limits!r:.60}; expected two numbers, (L, U).")
    low, high = (as_number(end, name) for end in limits)
    return low, high
