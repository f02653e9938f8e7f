"""Validation loss: how hard a pair is for models that were trained on the other half of the data
(Selective DPO, arXiv 2502.09650, section 3)."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from datasets import Dataset

from nbkit.cache.files import as_folder
from nbkit.cache.hashes import hash_content, hash_pairs
from nbkit.experiments.arguments import check_names, seed_list
from nbkit.experiments.jobs import check_workers
from nbkit.experiments.kept import read_kept, run_kept
from nbkit.inputs import as_count, as_pairs, as_policy
from nbkit.models.policy import Policy
from nbkit.pairs.sources import Pairs
from nbkit.tokens.ids import tokenize_pairs
from nbkit.train.dpo import settings_in_effect, train_dpo
from nbkit.train.fitting import pairs_that_fit
from nbkit.train.learned import NOTHING, warn_if_noise, watched
from nbkit.train.reference import reference_table
from nbkit.train.settings import Training, updates

# what it gives to `train_dpo` itself
OWN = {"seed", "trace", "trace_every", "checkpoints", "copy_model"}
HALVES = ("A", "B")


def validation_loss(
    policy: Policy,
    pairs: Pairs,
    *,
    seeds: int | Iterable[int] = 3,
    groups: str = "prompt",
    points: int = 1,
    reference: Policy | pd.DataFrame | None = None,
    cache: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
    **training: Unpack[Training],
) -> pd.Series:
    """Mean DPO loss of each pair under reference models that were not trained on it.

    The mean of the columns of `cross_fitted_losses`, whose errors it has: by default six models,
    two halves by three seeded splits, three of which score each pair, as in the paper.

    Args:
        policy, pairs, seeds, groups, points: as of `cross_fitted_losses`.
        reference, cache, workers, progress: as there.
        **training: for `nbkit.train_dpo`.

    Returns:
        Series by pair id, nats; lower: easier. NaN for a pair too long for the model.
        `nbkit.select.easiest(validation_loss(...), 0.5)` is Selective DPO's selection.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(8)
        >>> loss = nb.validation_loss(policy, pairs, seeds=1, learning_rate=1e-3, progress=False)
        >>> len(nb.select.easiest(loss, 0.5))
        4
    """
    losses = cross_fitted_losses(
        policy, pairs, seeds=seeds, groups=groups, points=points, reference=reference,
        cache=cache, workers=workers, progress=progress, **training,
    )  # fmt: skip
    return losses.mean(axis=1).rename("validation_loss")


def cross_fitted_losses(
    policy: Policy,
    pairs: Pairs,
    *,
    seeds: int | Iterable[int] = 3,
    groups: str = "prompt",
    points: int = 1,
    reference: Policy | pd.DataFrame | None = None,
    cache: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
    **training: Unpack[Training],
) -> pd.DataFrame:
    """DPO loss of each pair under each reference model that was not trained on it.

    For each seed the pairs are split into two halves (`folds`), and a copy of the policy is
    trained with DPO on each; it scores the pairs of the other half.

    Args:
        policy: where the reference models start.
        pairs: Dataset with `id, prompt, chosen, rejected`.
        seeds: number of splits, or their seeds. Two models are trained for each.
        groups: column of `pairs`; pairs with the same value are never in different halves. By
            default the prompt. Name something wider where prompts ask about the same thing: a
            model that has seen a pair's neighbours makes the pair look easy.
        points: average the loss over at most so many evaluation points during training: every
            ceil(updates / points) updates, and the last one. The released code takes five. 1:
            after training.
        reference: DPO's reference, a policy or its log-prob table over `pairs`; default the
            policy itself, as it is before training.
        cache: folder in which the losses of each finished model are kept by content. The same
            call after an interruption trains only the models that are missing.
        workers: processes that train at once (see `nbkit.at_once`).
        progress: show a bar over the models.
        **training: for `nbkit.train_dpo`: beta, learning_rate, epochs, lora, ...

    Returns:
        DataFrame [pairs, 2 x splits] of losses -log sigmoid(margin) (nats; lower: easier; margin
        as `run.trace` has it: with `loss="simpo"` the length-normalised one), columns (split, half)
        named after the half that the model was trained on: NaN for the pairs of that half, and
        for pairs too long for the model (a warning names them). A warning says, with the numbers,
        when the pairs' mean losses differ by less than the precision of the policy can show.

    Raises:
        TypeError, ValueError: no column `groups`, a single group, no seeds, or what `train_dpo`
            refuses.
        OSError: nothing can be kept in `cache`. Found before anything is trained.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(8)
        >>> how = dict(seeds=1, learning_rate=1e-3, progress=False)
        >>> losses = nb.cross_fitted_losses(policy, pairs, **how)
        >>> losses.shape, losses.notna().sum(axis=1).unique().tolist()
        ((8, 2), [1])
    """
    check_names(cross_fitted_losses, training, OWN, "cross-fitting")
    policy, pairs, seeds = as_policy(policy), as_pairs(pairs), seed_list(seeds)
    check_workers(policy, workers)
    as_count(points, "points")
    settings = settings_in_effect(policy, training)
    fit = pairs_that_fit(policy, pairs, settings["max_length"])
    split = _split(fit, seeds, groups)
    files = {}
    if cache is not None:
        files = _files(as_folder(cache), policy, fit, split, (reference, points, settings))
    losses = read_kept(files)
    if missing := [key for key in split if key not in losses]:
        table = reference_table(policy, reference, fit, settings["max_length"], progress)
        jobs = {
            key: (policy, *split[key], table, points, {**settings, "seed": key[0]})
            for key in missing
        }
        how: dict[str, Any] = dict(workers=workers, progress=progress, desc="cross-fitting, models")
        losses |= dict(run_kept(_train_and_score, jobs, files, **how))
    columns = {key: losses[key]["loss"] for key in split}  # in this order, whichever came first
    ids = pd.Index(pairs["id"][:], name="id")
    table = pd.concat(columns, axis=1, names=["split", "half"]).reindex(ids)
    few = fit.select(watched(list(range(len(fit)))))
    few = tokenize_pairs(policy.tokenizer, few)
    warn_if_noise(policy, few, table.mean(axis=1), settings)
    return table


def folds(pairs: Dataset, seed: int = 0, groups: str = "prompt") -> pd.Series:
    """The half, "A" or "B", of each pair by id. Groups (pairs with the same value in the column
    `groups`) stay together; they are dealt in random order, much larger groups first, each to the
    half that has fewer pairs so far: so the halves come out about even.

    Args:
        pairs: Dataset with `id, prompt, chosen, rejected`.
        seed: of the deal.
        groups: column whose values stay together, such as "prompt".

    Returns:
        Series "A" or "B" by pair id.

    Raises:
        ValueError: there is no such column, or all pairs are in one group.

    Example:
        >>> import nbkit as nb
        >>> nb.folds(nb.world.pairs(8), seed=0).value_counts().to_dict()
        {'A': 4, 'B': 4}
    """
    if groups not in pairs.column_names:
        raise ValueError(
            f"groups={groups!r} is not a column of the pairs ({', '.join(pairs.column_names)})."
        )
    names = [value if isinstance(value, str) else json.dumps(value) for value in pairs[groups]]
    sizes = pd.Series(names).value_counts()
    if len(sizes) < 2:
        raise ValueError(
            f"All {len(pairs)} pairs have the same {groups!r}, and pairs of one group are not put "
            "into different halves: there is nothing to split."
        )
    order = sorted(sizes.index)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda name: -int(sizes[name]).bit_length())  # a large one late would tip it
    dealt, half_of = dict.fromkeys(HALVES, 0), {}
    for name in order:
        half = min(HALVES, key=dealt.__getitem__)
        dealt[half] += sizes[name]
        half_of[name] = half
    index = pd.Index(pairs["id"][:], name="id")
    return pd.Series([half_of[name] for name in names], index=index, name="half")


def _split(fit: Dataset, seeds: list[int], groups: str) -> dict[tuple[int, str], tuple]:
    """The pairs to learn and those to score, by (seed, half that is learned)."""
    split = {}
    for seed in seeds:
        half = folds(fit, seed, groups).to_numpy()
        for name in HALVES:
            learned, scored = np.flatnonzero(half == name), np.flatnonzero(half != name)
            split[seed, name] = fit.select(learned), fit.select(scored)
    return split


def _files(
    folder: Path,
    policy: Policy,
    fit: Dataset,
    split: Mapping[tuple[int, str], tuple],
    common: tuple,
) -> dict[tuple, Path]:
    """Where the losses of each model are kept: named after all that decides them."""
    common = hash_content(policy, policy, *common)
    prints = hash_pairs(policy, fit)
    files = {}
    for (seed, name), parts in split.items():
        halves = [[(id_, prints[id_]) for id_ in some["id"]] for some in parts]
        files[seed, name] = folder / f"{hash_content(policy, common, halves, seed)}.parquet"
    return files


def _train_and_score(
    policy: Policy,
    learned: Dataset,
    scored: Dataset,
    table: pd.DataFrame | None,
    points: int,
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """Column `loss` of the pairs `scored` under a policy trained on the pairs `learned`."""
    spacing = -(-updates(len(learned), settings) // points)
    how = {**settings, "trace_every": spacing, "progress": False}
    with warnings.catch_warnings():  # said once, of all models together
        warnings.filterwarnings("ignore", NOTHING)
        run = train_dpo(policy, learned, reference=table, trace=scored, **how)
    assert run.trace is not None  # asked for
    trace = run.trace.loc[run.trace.step > 0]
    losses: Any = np.logaddexp(0.0, -trace.margin)  # a Series, of a Series
    return losses.groupby(trace.id).mean().to_frame("loss")
