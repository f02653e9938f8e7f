"""Self-play: a policy makes its own preference pairs, and a selection decides which to learn from.

Evolve, then select (arXiv 2503.01864; the order of the steps is that of the authors' released
code). One round:

    prompts -> k sampled responses each -> the judge's best against its worst = pairs
    -> the prompts whose pairs have the most alignment potential are evolved (rewritten)
    -> the evolved prompts are answered and judged, too
    -> of all pairs of the round a selection joins the base set -> train on the base set

Every step is a function of its own; `self_play` strings them together and keeps what each made.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers.utils import logging

from nbkit.cache.files import as_folder, keep_table, set_aside, try_folder, warn_unkept
from nbkit.cache.hashes import hash_content, versions
from nbkit.experiments.arguments import refuse
from nbkit.experiments.selfplay.steps import (
    PAIR,
    SAMPLING,
    answer,
    best_and_worst,
    evolve,
    highest,
    most_promising,
    select_pairs,
    with_ids,
)
from nbkit.inputs import as_count, as_number, as_pairs, as_policy
from nbkit.models.policy import Policy, load_policy
from nbkit.train.dpo import settings_in_effect, train_dpo
from nbkit.warning import warn


@dataclass(frozen=True)
class Round:
    """What one round of self-play has made.

    Attributes:
        number: 1, 2, ...
        policy: trained on the base set as it is after this round.
        prompts: `id, prompt, parent, left_out`: what was asked, and what was evolved from it
            (`parent` is the id it came from; `left_out` says why it was not asked, else empty).
        answers: all answers of the round, `prompt_id, prompt, response, reward`: those of the
            policy as it was before the round.
        pairs: all pairs of the round: `id, prompt_id, prompt, chosen, rejected, chosen_score,
            rejected_score, evolved, explicit_margin, implicit_margin, alignment_potential,
            selected`.
        base: Dataset of all pairs selected so far: what the policy was trained on.
    """

    number: int
    policy: Policy
    prompts: pd.DataFrame
    answers: pd.DataFrame
    pairs: pd.DataFrame
    base: Dataset


def self_play(
    policy: Policy,
    prompts,
    judge: Callable[[object, str], float],
    folder: str | Path,
    *,
    rounds: int = 2,
    rewrite: Callable[[list, int], list] | None = None,
    select: Callable[[pd.DataFrame], list[str]] | None = None,
    base: Dataset | None = None,
    k: int = 5,
    sampling: Mapping | None = None,
    evolve_share: float = 0.25,
    weight: float = 2.5,
    longest_ratio: float = 5.0,
    seed: int = 0,
    progress: bool = True,
    **training,
) -> Iterator[Round]:
    """Play rounds of evolve-then-select; each is yielded when it is finished.

    Args:
        policy: where it starts. After every round a copy of *this* policy is trained on the whole
            base set, with this policy as the reference.
        prompts: to begin with: list, or Dataset or DataFrame with a `prompt` column. Later rounds
            also ask what was evolved before them.
        judge: `judge(prompt, response)` -> reward, or a `nbkit.RewardModel`.
        folder: where everything is kept. The same call goes on after an interruption where it
            stopped, inside a round too. The judge, `rewrite` and `select` are known by their
            names, and their code is not looked into: give a changed function a folder of its own.
            One process at a time works in a folder; a second waits, and goes on from there.
        rewrite: `rewrite(prompts, seed)` -> as many new prompts, such as `nbkit.world.rewrite`, or
            `policy_rewriter(policy)` for a real model. None: nothing is evolved.
        select: `select(pairs)` -> ids to keep, from the round's pairs (`Round.pairs`, indexed by
            id); default `highest`: the 40% with the most alignment potential.
        base: pairs to begin the base set with.
        k: responses sampled to each prompt.
        sampling: `temperature, top_p, max_new_tokens`; default 0.8, 0.95, `sample`'s.
        evolve_share: share of the prompts to evolve, most alignment potential first.
        weight: of the implicit margin in the alignment potential; 2.5 in the released code.
        longest_ratio: an evolved prompt longer or shorter than its parent by more than this factor
            (in characters) is left out; 5 in the released code.
        seed: of sampling, rewriting and training.
        progress: show progress bars.
        **training: for `nbkit.train_dpo`.

    Yields:
        Round.

    Raises:
        ValueError: fewer than two responses a prompt; a folder that holds another self-play;
            nothing to learn from, because the judge found all answers to each prompt alike.
        OSError: nothing can be kept in `folder`. Found before anything is sampled.
    """
    policy, folder = as_policy(policy), as_folder(folder, "folder")
    refuse(training, {"seed", "keep", "copy_model", "reference"}, "self-play")
    rounds = as_count(rounds, "rounds")
    if as_count(k, "k") < 2:
        raise ValueError(f"k={k}; a best and a worst need 2 or more responses to a prompt.")
    as_number(evolve_share, "evolve_share", above=0, most=1)
    as_number(longest_ratio, "longest_ratio", least=1)
    as_number(weight, "weight")
    select = select or highest
    functions = dict(judge=judge, select=select, **({"rewrite": rewrite} if rewrite else {}))
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name}: expected a function, got {function!r:.60}.")
    asked = with_ids(prompts)
    base = None if base is None else as_pairs(base, "base")
    how = {**SAMPLING, **(sampling or {})}
    told = dict(
        asked=asked[["id", "prompt"]].to_dict("records"), base=base, how=how, k=k, seed=seed,
        evolve_share=evolve_share, weight=weight, longest_ratio=longest_ratio,
        training=settings_in_effect(policy, **training),
        functions={name: _name(policy, function) for name, function in functions.items()},
        tokenizer=policy.tokenizer, generation=policy.causal_lm.generation_config.to_dict(),
    )  # fmt: skip
    try_folder(folder, "folder")
    with _alone(folder):
        _claim(folder, hash_content(policy, policy, told))
    how["progress"] = progress

    player = policy
    for number in range(1, rounds + 1):
        here, luck, prefix = folder / f"round-{number}", 1000 * seed + 10 * number, f"r{number}-"
        with _alone(folder):
            answers = _kept(here / "answers", answer, player, asked, judge, k, seed=luck, **how)
            pairs = best_and_worst(answers, prefix).assign(evolved=False)
            evolved = asked.iloc[:0]
            if rewrite is not None and len(pairs):
                parents = most_promising(player, pairs, asked, evolve_share, weight)
                evolved = _kept(here / "evolved", evolve, parents, rewrite, asked.prompt,
                                longest_ratio, seed=luck + 1, suffix=f".{number}")  # fmt: skip
            fresh = evolved[evolved.left_out == ""]
            if len(fresh):
                to_evolved = _kept(
                    here / "evolved_answers", answer, player, fresh, judge, k, seed=luck + 2, **how
                )
                more = best_and_worst(to_evolved, prefix).assign(evolved=True)
                pairs = pd.concat([pairs, more], ignore_index=True)
                answers = pd.concat([answers, to_evolved], ignore_index=True)
            if pairs.empty:
                raise ValueError(
                    f"Round {number}: to each of the {len(asked)} prompts all {k} answers had the "
                    "same reward, so there is no best and worst. Sample at a higher temperature, "
                    "or more answers, or take a judge that tells answers apart."
                )
            pairs = _kept(here / "pairs", select_pairs, player, pairs, weight, select)
            base = _joined(base, pairs.loc[pairs.selected, PAIR])
            player = _trained(here / "policy", policy, base, seed=seed + number,
                              progress=progress, **training)  # fmt: skip
        prompts = pd.concat([asked, evolved], ignore_index=True)
        yield Round(number, player, prompts, answers, pairs, base)
        asked = pd.concat([asked, fresh], ignore_index=True)


def _joined(base: Dataset | None, selected: pd.DataFrame) -> Dataset:
    """The base set with the selected pairs added, in the columns that both have."""
    rows = [] if base is None else base.to_list()
    shared = PAIR if base is None else [name for name in PAIR if name in base.column_names]
    rows += selected.to_dict("records")
    if not rows:
        raise ValueError("No pair was selected, and there is no base set: nothing to train on.")
    if clash := [id_ for id_, count in Counter(r["id"] for r in rows).items() if count > 1]:
        raise ValueError(
            f"{len(clash)} ids of the base set are those of this self-play's own pairs (one: "
            f"{min(clash)!r}). Rename the ids of `base`, for example with a prefix."
        )
    return Dataset.from_list([{name: row[name] for name in shared} for row in rows])


# --- what is kept on disk -----------------------------------------------------------------------


@contextlib.contextmanager
def _alone(folder: Path):
    """One process at a time works in a folder; another waits for the end of the round."""
    lock = FileLock(folder / "self_play.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        warn(
            f"Another process plays in {folder}. This one waits until its round is finished, and "
            "takes over what was made."
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _claim(folder: Path, key: str) -> None:
    """Refuse a folder in which another self-play was kept."""
    note, now = folder / "self_play.json", {"key": key, **versions()}
    before = {}
    try:
        before = dict(json.loads(note.read_text("utf-8")))
    except FileNotFoundError:
        pass
    except (ValueError, TypeError) as error:
        set_aside(note, error)
    if before.get("key") == key:
        return
    if "key" in before:
        other = [f"{n} {before[n]}" for n in versions() if before.get(n, now[n]) != now[n]]
        of = f" ({', '.join(other)})" if other else ""
        raise ValueError(
            f"The folder {folder} holds a self-play with another policy, other prompts, other "
            f"functions, settings or versions{of}. Give this one a folder of its own, or delete "
            "that one."
        )
    for path in sorted(folder.glob("round-*[0-9]")):
        set_aside(path, f"{note.name} does not say which self-play it belongs to")
    unfinished = note.with_suffix(".tmp")
    unfinished.write_text(json.dumps(now), "utf-8")
    os.replace(unfinished, note)


def _name(policy: Policy, function) -> str:
    """What can be told of a function without looking into it."""
    try:
        return hash_content(policy, function)
    except TypeError:
        return getattr(function, "__qualname__", type(function).__qualname__)


def _kept(file: Path, make: Callable, *args, **kwargs) -> pd.DataFrame:
    """The table in `file`.parquet, or what `make` returns, which is then kept there."""
    return keep_table(file.with_suffix(".parquet"), make, *args, **kwargs).map(_plain)


def _plain(value):
    """Messages come out of a parquet file as arrays."""
    return [dict(turn) for turn in value] if isinstance(value, np.ndarray) else value


def _trained(folder: Path, policy: Policy, base: Dataset, **training) -> Policy:
    """The policy trained on the base set, from `folder` if it is there."""
    kept = _loaded(folder, policy, training["progress"])
    if kept is None:
        run = train_dpo(policy, base, **training)
        model = run.policy.model.merge_and_unload() if run.policy.has_adapter else run.policy.model
        unfinished = folder.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            with _library_bars(training["progress"]):
                model.save_pretrained(unfinished)
            policy.tokenizer.save_pretrained(unfinished)
            os.replace(unfinished, folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            warn_unkept(folder.parent, error)
        kept = _loaded(folder, policy, training["progress"]) or Policy(model, policy.tokenizer)
    return Policy(kept.model, policy.tokenizer, f"{policy.name}, {folder.parent.name}")


def _loaded(folder: Path, policy: Policy, progress: bool) -> Policy | None:
    """The policy in `folder`; None if there is none, or a damaged one, which is set aside."""
    if not folder.exists():
        return None
    try:
        with _library_bars(progress):
            return load_policy(folder, device=policy.device, dtype=policy.dtype)
    except (OSError, ValueError) as error:
        set_aside(folder, error)
        return None


@contextlib.contextmanager
def _library_bars(shown: bool):
    """transformers' own bars, over the files of a model, only where bars are wanted."""
    before = logging.is_progress_bar_enabled()
    if not shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()
