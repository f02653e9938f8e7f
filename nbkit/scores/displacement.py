"""Which pairs make a policy forget both responses: CHES (arXiv 2410.08847)."""

from __future__ import annotations

import pandas as pd
import torch
from tqdm.auto import tqdm

from nbkit.inputs import as_limit, as_policy
from nbkit.logprobs.engine import response_states
from nbkit.logprobs.finite import not_finite
from nbkit.logprobs.fitting import tokenize
from nbkit.models.policy import Policy
from nbkit.pairs.sources import Pairs


def ches(
    policy: Policy,
    pairs: Pairs,
    *,
    normalized: bool = False,
    max_length: int | None = None,
    path: str = "auto",
    budget: int | None = None,
    progress: bool = True,
) -> pd.Series:
    """Centered hidden embedding similarity, `< H_w, H_l > - |H_w|^2` (arXiv 2410.08847, section 5):
    the higher, the more training on the pair lowers the log-prob of its own chosen response
    (likelihood displacement), because both responses look alike to the model. Needs one pass and
    no reference; leave the highest out.

    Args:
        policy: whose states.
        pairs: as for `nbkit.response_logprobs`.
        normalized: H_w, H_l are means over the response tokens, not sums (their length-normalised
            variant), so that long responses do not come first by their length.
        max_length, path, budget, progress: see `nbkit.response_logprobs`.

    Returns:
        Series "ches" indexed by pair id, in squared units of the last hidden states (those that
        predict the response tokens, after the final norm); `attrs["left_out"]`.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(8)
        >>> scores = nb.scores.ches(policy, pairs, progress=False)
        >>> kept = nb.select.easiest(scores, 6)  # the two highest are left out
        >>> len(scores), len(kept)
        (8, 6)
    """
    policy, budget = as_policy(policy), as_limit(budget, "budget")
    token_pairs, left_out = tokenize(policy, pairs, max_length)
    values = torch.zeros(len(token_pairs), dtype=torch.float64)
    with tqdm(
        total=len(token_pairs), unit=" pairs", desc=f"hidden states, {policy.name}", delay=1,
        disable=not progress,
    ) as bar:  # fmt: skip
        for indices, owners, states in response_states(
            policy, token_pairs, path=path, budget=budget
        ):
            sides, own = owners.unique(return_inverse=True)  # both sides of every pair, in order
            sums = torch.zeros(len(sides), states.shape[1], dtype=torch.float64)
            sums.index_add_(0, own, states.double().cpu())
            if normalized:
                sums /= own.bincount()[:, None]
            chosen, rejected = sums[::2], sums[1::2]
            values[sides[::2] // 2] = (chosen * rejected).sum(1) - (chosen * chosen).sum(1)
            if not values[indices].isfinite().all():
                first = next(i for i in indices if not values[i].isfinite())
                raise not_finite(policy, f"pair {token_pairs[first].id!r}")
            bar.update(len(indices))
    index = pd.Index([p.id for p in token_pairs], name="id")
    scores = pd.Series(values.numpy(), index=index, name="ches")
    scores.attrs["left_out"] = left_out
    return scores
