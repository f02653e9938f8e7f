"""Selections compared by what they are for: train on each, and judge what came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import pandas as pd
from datasets import Dataset

from nbkit.cache.files import as_folder
from nbkit.cache.hashes import hash_content, hash_pairs
from nbkit.evaluate import wins
from nbkit.experiments.arguments import check_names, seed_list
from nbkit.experiments.jobs import check_workers
from nbkit.experiments.judging import judge_answers, try_judge, verdict
from nbkit.experiments.kept import read_kept, run_kept
from nbkit.experiments.trials import Key, Trial, plan
from nbkit.inputs import Prompts, as_ids, as_pairs, as_policy, as_prompts
from nbkit.judges import Judge
from nbkit.logprobs.rows import rows_of_tokens
from nbkit.logprobs.table import response_logprobs
from nbkit.models.policy import Policy
from nbkit.pairs.sources import Pairs
from nbkit.sampling import TEMPERATURE, TOP_P, sample
from nbkit.scores.margins import log_ratios
from nbkit.tokens.ids import tokenize_pairs, tokenize_prompts
from nbkit.train.dpo import settings_in_effect, train_dpo
from nbkit.train.fitting import pairs_that_fit
from nbkit.train.learned import said_once
from nbkit.train.reference import reference_table
from nbkit.train.settings import Training

BUDGETS = ("examples", "updates")
# what it gives to `train_dpo` itself
OWN = {"seed", "order", "keep", "trace", "trace_every", "checkpoints", "copy_model"}


def compare(
    policy: Policy,
    pairs: Dataset,
    selections: Mapping[str, list[str] | Dataset | pd.DataFrame],
    prompts: Prompts,
    judge: Judge,
    *,
    seeds: int | Iterable[int] = 5,
    budgets: str | Iterable[str] = BUDGETS,
    in_order: str | Iterable[str] = (),
    held_out: Pairs | None = None,
    measures: Mapping[str, Judge] | None = None,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    max_new_tokens: int | None = None,
    reference: Policy | pd.DataFrame | None = None,
    cache: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
    **training: Unpack[Training],
) -> pd.DataFrame:
    """Train on each selection, on full data and on random controls, and judge the policies.

    Two budgets, since a selection has fewer pairs than full data. "examples": every chosen pair
    is seen equally often, so the smaller set makes fewer updates. "updates": every run makes as
    many updates as full data does, so a smaller set is repeated. A selection and its random
    control have the same number of pairs and of updates in both.

    Args:
        policy: where every run starts, and whose answers are the baseline of the win rate.
        pairs: Dataset with `id, prompt, chosen, rejected`: full data.
        selections: name -> ids of `pairs` (see `nbkit.select`), or edited pairs (a Dataset or
            DataFrame).
        prompts: to answer after training: list, or Dataset or DataFrame with a `prompt` column.
        judge: `judge(prompt, response)` -> reward; higher is better.
        seeds: number of seeds, or the seeds: of the training order, of the random controls and of
            the sampled answers.
        budgets: "examples", "updates" or both.
        in_order: name, or names, of the selections to train on in their order (a curriculum); all
            else is shuffled by the seed.
        held_out: pairs on which `accuracy` and the shifts of log-probs are measured.
        measures: name -> function of (prompt, response), averaged into a column of that name.
        temperature, top_p, max_new_tokens: of the answers, see `nbkit.sample`.
        reference: DPO's reference; default the policy itself, as it is before training. A
            log-prob table over `pairs` and `held_out` will do, unless there are edited pairs.
        cache: folder in which every finished run is kept by content, settings and versions; the
            same call after an interruption trains only what is missing. The judge's verdicts are
            not kept: another judge needs no new training.
        workers: processes that train at once (see `nbkit.at_once`).
        progress: show a bar over the runs.
        **training: for `nbkit.train_dpo`: beta, learning_rate, epochs, lora, ...

    Returns:
        Tidy DataFrame, one row a (selection, seed, budget). Beside the selections it has the
        rows "before" (the policy itself, no training), "full", and "random N" for each size N of
        a selection. Columns: `pairs` trained on, `updates`; `win_rate` against the policy's own
        answers (ties one half), `reward` (mean), `length` (mean, tokens of an answer), the
        measures; with `held_out`: `accuracy` (share of pairs with implicit margin > 0; zero
        counts one half), `chosen_shift` and `rejected_shift` (mean log-prob under the policy
        minus that under the reference, nats, summed over response tokens).

    Raises:
        ValueError: a selection that is empty, holds ids that are not in `pairs` or do not fit the
            model, or has the name of a control; an unknown budget or name in `in_order`; a reward
            that is no finite number; and what `train_dpo` and `sample` refuse.
        TypeError: selections without names; a judge or measure that is no function.
        OSError: nothing can be kept in `cache`. Found before anything is trained.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(8)
        >>> how = dict(seeds=1, budgets="examples", max_steps=1, learning_rate=1e-3, progress=False)
        >>> sets, prompts = {"first": pairs["id"][:4]}, nb.world.prompts(4)
        >>> nb.compare(policy, pairs, sets, prompts, nb.world.reward, **how).selection.tolist()
        ['before', 'full', 'first', 'random 4']
    """
    check_names(compare, training, OWN, "comparison")
    policy, pairs, prompts = as_policy(policy), as_pairs(pairs), as_prompts(prompts)
    check_workers(policy, workers)
    seeds, budgets, in_order = seed_list(seeds), _names(budgets), _names(in_order)
    measures = measures or {}
    _check(selections, budgets, in_order, judge, measures)
    settings = settings_in_effect(policy, training)  # refuses what cannot be trained with
    chosen = _chosen(selections, pairs, reference)
    length = settings["max_length"]
    sets = _fitting(policy, pairs, chosen, held_out, length)
    how = dict(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    rows, trials = plan(
        {**chosen, **sets.edited}, sets.full, settings, seeds=seeds, budgets=budgets,
        in_order=in_order,
    )  # fmt: skip
    files = {}
    if cache is not None:
        files = _files(as_folder(cache), policy, trials, sets, reference, prompts, how)
    kept = read_kept(files)
    try_judge(policy, prompts, judge, measures, how)
    judged = {
        key: judge_answers(said, prompts, judge, measures, policy) for key, said in kept.items()
    }
    if missing := {key: trial for key, trial in trials.items() if key not in kept}:
        table, edited, watched = _tables(policy, reference, sets, length, progress)
        jobs = {
            key: (policy, trial, edited.get(trial.selection, table), prompts, how, watched, length)
            for key, trial in missing.items()
        }
        options: dict[str, Any] = dict(workers=workers, progress=progress, desc="comparing, runs")
        with said_once():
            for key, said in run_kept(_train_and_answer, jobs, files, **options):
                judged[key] = judge_answers(said, prompts, judge, measures, policy)
    return pd.DataFrame([{**row, **verdict(judged, key)} for row, key in rows])


class _Sets(NamedTuple):
    """The pairs of a comparison that fit the model."""

    full: Dataset
    edited: dict[str, Dataset]  # by the selection's name
    held_out: Dataset | None


def _fitting(
    policy: Policy,
    pairs: Dataset,
    chosen: Mapping[str, list[str] | Dataset],
    held_out: Any,
    max_length: int | None,
) -> _Sets:
    full = pairs_that_fit(policy, pairs, max_length)
    edited = {
        name: pairs_that_fit(policy, some, max_length, f"pairs of selection {name!r}")
        for name, some in chosen.items()
        if isinstance(some, Dataset)
    }
    if held_out is not None:
        held_out = as_pairs(held_out, "held_out")
        held_out = pairs_that_fit(policy, held_out, max_length, "held-out pairs")
    return _Sets(full, edited, held_out)


def _tables(
    policy: Policy,
    reference: Policy | pd.DataFrame | None,
    sets: _Sets,
    max_length: int | None,
    progress: bool,
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], tuple[Dataset, pd.DataFrame] | None]:
    """The reference's log-prob tables: of full data, of edited pairs by the selection's name, and
    of the held-out pairs, with these."""

    def table_of(some: Dataset) -> pd.DataFrame:
        table = reference_table(policy, reference, some, max_length, progress)
        return rows_of_tokens(table, tokenize_pairs(policy.tokenizer, some))

    full, edited = table_of(sets.full), {name: table_of(some) for name, some in sets.edited.items()}
    return full, edited, None if sets.held_out is None else (sets.held_out, table_of(sets.held_out))


def _files(
    folder: Path,
    policy: Policy,
    trials: Mapping[Key, Trial],
    sets: _Sets,
    reference: Policy | pd.DataFrame | None,
    prompts: list[Any],
    how: Mapping[str, Any],
) -> dict[Key, Path]:
    """Where the answers of each trial are kept: named after all that decides them."""
    asked = tokenize_prompts(policy.tokenizer, prompts), policy.tokenizer.eos_token_id
    generation = policy.causal_lm.generation_config.to_dict()
    common = hash_content(policy, policy, reference, asked, generation, how, sets.held_out)
    prints = hash_pairs(policy, sets.full)
    edited_prints = {name: hash_pairs(policy, some) for name, some in sets.edited.items()}
    files = {}
    for key, trial in trials.items():
        of = edited_prints.get(trial.selection, prints)
        told = None if trial.pairs is None else [(id_, of[id_]) for id_ in trial.pairs["id"]]
        content = hash_content(policy, common, told, trial.settings, trial.answer_seed)
        files[key] = folder / f"{content}.parquet"
    return files


def _train_and_answer(
    policy: Policy,
    trial: Trial,
    table: pd.DataFrame | None,
    prompts: list[Any],
    how: Mapping[str, Any],
    watched: Any,
    length: int | None,
) -> pd.DataFrame:
    """Column `response` [prompts], and what was measured on held-out pairs in every row."""
    if trial.pairs is not None:
        settings = dict(trial.settings, reference=table, progress=False)
        policy = train_dpo(policy, trial.pairs, **settings).policy
    responses = sample(policy, prompts, seed=trial.answer_seed, progress=False, **how)
    answers = pd.DataFrame({"response": responses})
    if watched is not None:
        held_out, held_table = watched
        logps = response_logprobs(policy, held_out, max_length=length, progress=False)
        d = log_ratios(logps, held_table.loc[logps.index])
        answers = answers.assign(
            accuracy=wins(d.chosen, d.rejected).mean(),
            chosen_shift=d.chosen.mean(),
            rejected_shift=d.rejected.mean(),
        )
    return answers


def _names(given: str | Iterable[str]) -> list[str]:
    """A list of names, of which one may come alone."""
    return [given] if isinstance(given, str) else list(given)


def _check(
    selections: Any, budgets: Any, in_order: Any, judge: Judge, measures: Mapping[str, Judge]
) -> None:
    for what, given in (("selections", selections), ("measures", measures)):
        if not isinstance(given, Mapping):
            raise TypeError(
                f"{what}: expected a dict, name -> {'ids' if what == 'selections' else 'function'}"
                f", got {type(given).__name__}. Give each a name, as in {{'mine': ...}}."
            )
    for name, function in {"judge": judge, **measures}.items():
        if not callable(function):
            raise TypeError(
                f"{name}: expected a function of (prompt, response), got {function!r:.60}."
            )
    for name in selections:
        if name in ("before", "full", "baseline") or str(name).startswith("random "):
            raise ValueError(f"A selection is named {name!r}, which is the name of a control.")
    if not budgets or set(budgets) - set(BUDGETS):
        raise ValueError(f"budgets={budgets!r}; expected some of {', '.join(BUDGETS)}.")
    if unknown := set(in_order) - set(selections):
        raise ValueError(
            f"in_order names {sorted(unknown)}, not among the selections ({', '.join(selections)})."
        )


def _chosen(
    selections: Any, pairs: Dataset, reference: Policy | pd.DataFrame | None
) -> dict[str, list[str] | Dataset]:
    """The selections as lists of ids or as edited pairs."""
    chosen = {}
    for name, selection in selections.items():
        if hasattr(selection, "__len__") and not len(selection):
            raise ValueError(f"Selection {name!r} is empty: there is nothing to train on.")
        if not isinstance(selection, (Dataset, pd.DataFrame)):
            chosen[name] = as_ids(selection, pairs["id"], f"selections[{name!r}]")
        elif isinstance(reference, pd.DataFrame):
            raise ValueError(
                f"Selection {name!r} is a data set of edited pairs, and the reference is a table "
                "of the pairs as they were. Give the reference as a policy (or leave it out)."
            )
        else:
            chosen[name] = as_pairs(selection, f"selections[{name!r}]")
    return chosen
