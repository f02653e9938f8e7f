"""`nbkit tour`: the tour in a terminal. Load, score, select, train, judge, and was it luck?"""

from __future__ import annotations

import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers.utils import logging

import nbkit as nb
from nbkit import world
from nbkit.course.errors import CommandError
from nbkit.train.dpo import Run

HALVES = ("selected half", "random half")
ANSWERS: dict[str, Any] = dict(temperature=0.7, max_new_tokens=16)


def tour(figure: str | Path) -> None:
    """Take the tour on the embedded world, print each step with its numbers, and draw the figure.

    Sizes are those of the profile (`NBKIT_PROFILE`): in full, under two minutes on two CPU cores.

    Args:
        figure: the PNG file to write. It is tried before the work.

    Raises:
        CommandError: the figure cannot be written there, or there is no such profile.
    """
    figure = writable(figure)
    try:
        p = nb.course.profile()
    except ValueError as error:
        raise CommandError(str(error)) from error
    began = time.perf_counter()
    logging.disable_progress_bar()  # transformers' own; ours tell what they are about
    torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
    size = p.pick(quick="small", full="medium")
    watched = sys.stderr.isatty()  # does somebody look at progress bars?
    print("nbkit tour: which preference pairs should a language model be trained on?")
    print("Everything is in the package: no network and no GPU are needed. About a minute.\n")

    pairs = world.pairs(p.pairs, seed=0)
    tell_load(pairs)
    policy = nb.load_policy(f"world/{size}")
    scores = score(policy, pairs, watched)
    tell_score(policy, pairs, scores)
    halves = select(pairs, scores, seed=0)
    tell_select(pairs, halves)
    runs = train(policy, pairs, halves, scores, size, 0, watched)
    tell_train(runs)
    prompts = world.prompts(p.prompts, seed=0)
    before = nb.sample(policy, prompts, seed=1, progress=watched, **ANSWERS)
    judged = judge(runs, before, prompts, watched)
    tell_judge(judged, before, prompts)

    won_rates = [won(judged, seed=0)]
    seeds = range(1, p.pick(quick=2, full=5))
    for seed in tqdm(seeds, desc="more seeds", unit=" seeds", leave=False, disable=not watched):
        more = world.pairs(p.pairs, seed=seed)
        scored = score(policy, more, progress=False)
        halves = select(more, scored, seed)
        runs = train(policy, more, halves, scored, size, seed, progress=False)
        won_rates.append(won(judge(runs, before, prompts, progress=False), seed))
    rows = pd.concat(won_rates, ignore_index=True)
    tell_luck(rows)
    picture = nb.plots.as_png(lambda axes: draw(axes, pairs, scores, rows), panels=2)
    print(f"Done in {time.perf_counter() - began:.0f} seconds. {p.note}".rstrip())
    try:
        figure.write_bytes(picture)
        print(f"The figure: {figure}")
    except OSError as error:  # the disk is full by now; what is told above stands
        print(f"The figure could not be written to {figure}: {error.strerror}.")
    print(NEXT)


NEXT = """
What to open next:
  nbkit lab                              this tour as a notebook, with exercises, and the lessons
  notebooks/01_pairs_and_margins.ipynb   what a model thinks of a pair: log-probs by hand
  README.md, "With your own pairs"       the same calls on your pairs and your model"""


def writable(figure: str | Path) -> Path:
    """The absolute path of the figure, if a PNG can be written there."""
    figure = Path(figure).expanduser().absolute()
    elsewhere = "choose another place with --figure FILE.png"
    if figure.suffix.lower() != ".png":
        raise CommandError(f"the figure is a PNG picture, so {figure.name!r} should end in .png")
    if figure.is_dir():
        raise CommandError(f"{figure} is a folder; {elsewhere}")
    try:
        with tempfile.TemporaryFile(dir=figure.parent):
            pass
        if figure.exists():
            figure.open("ab").close()
    except OSError as error:
        raise CommandError(f"cannot write {figure} ({error.strerror}); {elsewhere}") from error
    return figure


# --- the five steps -----------------------------------------------------------------------------


def score(policy: nb.Policy, pairs: Dataset, progress: bool) -> pd.DataFrame:
    """The table of log-probs, with both margins and the alignment potential beside it."""
    table = nb.response_logprobs(policy, pairs, progress=progress)
    explicit = nb.scores.explicit_margin(pairs)
    implicit = nb.scores.length_normalized_margin(table)
    potential = nb.scores.alignment_potential(explicit, implicit)
    return table.assign(explicit=explicit, implicit=implicit, potential=potential)


def select(pairs: Dataset, scores: pd.DataFrame, seed: int) -> dict[str, list[str]]:
    """The half with the most potential, and a random half of the same size."""
    keep = nb.select.top(scores["potential"], 0.5)
    return dict(zip(HALVES, (keep, nb.select.random(keep, pairs, seed=seed))))


def train(
    policy: nb.Policy,
    pairs: Dataset,
    halves: dict[str, list[str]],
    scores: pd.DataFrame,
    size: str,
    seed: int,
    progress: bool,
) -> dict[str, Run]:
    """A DPO run on each half."""
    how: dict[str, Any] = dict(reference=scores, seed=seed, progress=progress, **world.DPO[size])
    return {name: nb.train_dpo(policy, pairs, ids, **how) for name, ids in halves.items()}


def judge(
    runs: dict[str, Run], before: list[str], prompts: Dataset, progress: bool
) -> dict[str, nb.Estimate]:
    """The win rate of each run against the answers of the model before training."""
    how: dict[str, Any] = dict(seed=2, progress=progress, **ANSWERS)
    return {
        name: nb.win_rate(run.policy, before, prompts, world.reward, **how)
        for name, run in runs.items()
    }


def won(judged: dict[str, nb.Estimate], seed: int) -> pd.DataFrame:
    """Rows for `nbkit.plots.comparison`."""
    rows = [dict(selection=n, seed=seed, win_rate=result.value) for n, result in judged.items()]
    return pd.DataFrame(rows)


# --- what is said of them -----------------------------------------------------------------------


def say(title: str, text: str) -> None:
    width = 9
    lines = textwrap.wrap(text, 88 - width, break_on_hyphens=False)
    print(f"{title:<{width}}" + f"\n{'':<{width}}".join(lines), flush=True)


def tell_load(pairs: Dataset) -> None:
    first, wrong = pairs[0], sum(pairs["flipped"]) / len(pairs)
    say("1 Load", f"{len(pairs):,} pairs of answers, with the scores of a judge. The first pair:")
    print(f"{'':9}prompt    {first['prompt']}")
    for side in ("chosen", "rejected"):
        truth = world.reward(first["prompt"], first[side])
        judged = f"judge {first[side + '_score']:.2f}, truth {truth:.2f}"
        print(f"{'':9}{side:<9} {first[side]!r}: {judged}")
    too = ", this one among them" if first["flipped"] else ""
    say("", f"The judge errs: it chose the worse answer in {wrong:.1%} of the pairs{too}. (We "
        "know, because we made this world. No score below looks at the truth.)")  # fmt: skip


def tell_score(policy: nb.Policy, pairs: Dataset, scores: pd.DataFrame) -> None:
    parameters = sum(weights.numel() for weights in policy.model.parameters())
    tokens = scores["chosen_tokens"].sum() + scores["rejected_tokens"].sum()
    agree = (scores["implicit"] > 0).mean()
    say("2 Score", f"{policy.name}, a transformer of {parameters:,} parameters, gives each "
        f"response a log-probability ({tokens:,.0f} tokens). It finds the chosen response likelier "
        f"a token than the rejected one in {agree:.1%} of the pairs, by "
        f"{scores['implicit'].mean():.2f} nats on average.")  # fmt: skip


def tell_select(pairs: Dataset, halves: dict[str, list[str]]) -> None:
    flipped = pd.Series(pairs["flipped"], index=pairs["id"])
    selected, random = (f"{flipped[ids].mean():.1%}" for ids in halves.values())
    count = len(halves["selected half"])
    say("3 Select", f"Keep the {count:,} pairs with the most alignment potential: the judge is "
        f"sure, the model undecided. Wrong labels among them: {selected}; in a random half, the "
        f"control: {random}.")  # fmt: skip


def tell_train(runs: dict[str, Run]) -> None:
    selected, random = (run.history.iloc[-1] for run in runs.values())
    say("4 Train", f"DPO, by TRL, on each half: {selected['step']:.0f} updates. The loss began at "
        f"ln 2 = 0.693; it ends at {selected['loss']:.3f} on the selected half, at "
        f"{random['loss']:.3f} on the random one.")  # fmt: skip


def tell_judge(judged: dict[str, nb.Estimate], before: list[str], prompts: Dataset) -> None:
    right = {"before": correct(prompts["prompt"], before)}
    for name, result in judged.items():
        right[name] = correct(result.table["prompt"], result.table["response"])
    rates = " and ".join(f"{result:.3f} after the {name}" for name, result in judged.items())
    shares = ", ".join(f"{share:.1%} {name}" for name, share in right.items())
    say("5 Judge", f"{len(before):,} questions about facts that are in no pair, answered before "
        f"and after. Win rate by the world's reward, 0.5 for no change: {rates}. Correct "
        f"answers: {shares}.")  # fmt: skip


def correct(prompts: Iterable[str], responses: Sequence[str] | pd.Series) -> float:
    return sum(grade.correct for grade in map(world.grade, prompts, responses)) / len(responses)


def tell_luck(rows: pd.DataFrame) -> None:
    wide = rows.pivot(index="seed", columns="selection", values="win_rate")
    gains = wide["selected half"] - wide["random half"]
    gain = nb.seed_interval(gains)
    shows = {
        "above zero": "shows that the selection beats a random half, here",
        "below zero": "shows that the selection does worse than a random half, here",
    }.get(gain.verdict(), "does not show that the selection beats a random half")
    say("6 Luck?", f"One seed proves nothing: other pairs, or another order of training, move the "
        f"win rate too. Selected minus random was {gains.iloc[0]:+.3f} above; over {len(gains)} "
        f"seeds it is {gain.value:+.3f} on average, 95% interval [{gain.low:+.3f}, "
        f"{gain.high:+.3f}]. That {shows}.")  # fmt: skip
    print()


def draw(axes: np.ndarray, pairs: Dataset, scores: pd.DataFrame, rows: pd.DataFrame) -> None:
    flipped = pd.Series(pairs["flipped"], index=pairs["id"], name="wrong label")
    nb.plots.margin_plane(scores["explicit"], scores["implicit"], 1.0, 0.5, axes[0], flipped)
    nb.plots.comparison(rows, axes[1]).set_title("Was it the selection?")
