"""Validation loss: how hard a pair is for models that were trained on the other half of the data
(Selective DPO, arXiv 2502.09650, section 3)."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nbkit.cache.files import as_folder, keep_table, try_folder
from nbkit.cache.hashes import hash_content, hash_pairs
from nbkit.experiments.arguments import refuse, seed_list
from nbkit.experiments.jobs import check_workers, run_jobs
from nbkit.inputs import as_count, as_pairs, as_policy
from nbkit.models.policy import Policy
from nbkit.tokens.ids import tokenize_pairs
from nbkit.train.dpo import reference_table, settings_in_effect, train_dpo
from nbkit.train.learned import warn_if_noise
from nbkit.train.planning import pairs_that_fit, updates

HALVES = ("A", "B")
WATCHED = 32  # pairs on which the precision is measured


def validation_loss(policy: Policy, pairs, **options) -> pd.Series:
    """Mean DPO loss of each pair under reference models that were not trained on it.

    Takes the arguments of `cross_fitted_losses`, and is the mean of its columns: by default six
    models, two halves by three seeded splits, three of which score each pair, as in the paper.

    Returns:
        Series by pair id, nats; lower: easier. NaN for a pair too long for the model.
        `nbkit.select.easiest(validation_loss(...), 0.5)` is Selective DPO's selection.
    """
    return cross_fitted_losses(policy, pairs, **options).mean(axis=1).rename("validation_loss")


def cross_fitted_losses(
    policy: Policy,
    pairs,
    *,
    seeds: int | Sequence[int] = 3,
    groups: str = "prompt",
    points: int = 1,
    reference: Policy | pd.DataFrame | None = None,
    cache: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
    **training,
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
    """
    policy, pairs, seeds = as_policy(policy), as_pairs(pairs), seed_list(seeds)
    check_workers(policy, workers)
    as_count(points, "points")
    refuse(training, {"seed", "trace", "trace_every", "checkpoints", "copy_model"}, "cross-fitting")
    settings = settings_in_effect(policy, **training)
    length = settings["max_length"]
    fit = pairs_that_fit(policy, pairs, length)
    split = {}
    for seed in seeds:
        half = folds(fit, seed, groups).to_numpy()
        for name in HALVES:
            learned, scored = np.flatnonzero(half == name), np.flatnonzero(half != name)
            split[seed, name] = fit.select(learned), fit.select(scored)
    files = dict.fromkeys(split)
    if cache is not None:
        common = hash_content(policy, policy, reference, points, settings)
        prints = hash_pairs(policy, fit)
        for (seed, name), parts in split.items():
            halves = [[(id_, prints[id_]) for id_ in some["id"]] for some in parts]
            content = hash_content(policy, common, halves, seed)
            files[seed, name] = as_folder(cache) / f"{content}.parquet"
        if not all(file.exists() for file in files.values()):
            try_folder(cache)
    table = reference_table(policy, reference, fit, length, progress)
    jobs = [
        (files[seed, name], _train_and_score, policy, *parts, table, points, seed, training)
        for (seed, name), parts in split.items()
    ]
    columns = list(split)
    losses = dict.fromkeys(columns)  # in this order, whichever finishes first
    for number, result in run_jobs(
        keep_table, jobs, workers, progress=progress, desc="cross-fitting, models"
    ):
        losses[columns[number]] = result["loss"]
    ids = pd.Index(pairs["id"][:], name="id")
    losses = pd.concat(losses, axis=1, names=["split", "half"]).reindex(ids)
    few = fit.select(range(0, len(fit), -(-len(fit) // WATCHED)))
    few = tokenize_pairs(policy.tokenizer, few)
    warn_if_noise(policy, few, losses.mean(axis=1), settings)
    return losses


def folds(pairs, seed: int = 0, groups: str = "prompt") -> pd.Series:
    """The half, "A" or "B", of each pair by id. Groups (pairs with the same value in the column
    `groups`) stay together; they are dealt in random order, much larger groups first, each to the
    half that has fewer pairs so far: so the halves come out about even.

    Raises:
        ValueError: there is no such column, or all pairs are in one group.
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
        half = min(HALVES, key=dealt.get)
        dealt[half] += sizes[name]
        half_of[name] = half
    index = pd.Index(pairs["id"][:], name="id")
    return pd.Series([half_of[name] for name in names], index=index, name="half")


def _train_and_score(policy, learned, scored, table, points, seed, training) -> pd.DataFrame:
    """Column `loss` of the pairs `scored` under a policy trained on the pairs `learned`."""
    spacing = -(-updates(len(learned), **training) // points)
    with warnings.catch_warnings():  # said once, of all models together
        warnings.filterwarnings("ignore", "This training taught nothing")
        run = train_dpo(
            policy, learned, reference=table, seed=seed, trace=scored, trace_every=spacing,
            progress=False, **training,
        )  # fmt: skip
    trace = run.trace[run.trace.step > 0]
    return np.logaddexp(0.0, -trace.margin).groupby(trace.id).mean().to_frame("loss")
