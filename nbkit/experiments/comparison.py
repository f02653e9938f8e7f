"""Selections compared by what they are for: train on each, and judge what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset

from nbkit.cache.files import as_folder, keep_table, try_folder
from nbkit.cache.hashes import hash_content, hash_pairs, with_defaults
from nbkit.evaluate import wins
from nbkit.experiments.arguments import refuse, seed_list
from nbkit.experiments.gains import _control_name
from nbkit.experiments.jobs import check_workers, run_jobs
from nbkit.inputs import as_ids, as_pairs, as_policy, as_prompts
from nbkit.judges import rewards
from nbkit.logprobs.rows import rows_of_tokens
from nbkit.logprobs.table import response_logprobs
from nbkit.models.policy import Policy
from nbkit.sampling import sample
from nbkit.scores.margins import log_ratios
from nbkit.select.controls import random
from nbkit.tokens.ids import tokenize_pairs, tokenize_prompts
from nbkit.train.dpo import reference_table, settings_in_effect, train_dpo
from nbkit.train.planning import pairs_that_fit, updates

BUDGETS = ("examples", "updates")


# what `compare` gives to `train_dpo` itself
OWN = {"seed", "order", "keep", "trace", "trace_every", "checkpoints", "copy_model"}


SAMPLING = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": None}


def compare(
    policy: Policy,
    pairs: Dataset,
    selections: Mapping[str, list[str] | Dataset | pd.DataFrame],
    prompts,
    judge: Callable[[object, str], float],
    *,
    seeds: int | Iterable[int] = 5,
    budgets: str | Iterable[str] = BUDGETS,
    in_order: str | Iterable[str] = (),
    held_out=None,
    measures: Mapping[str, Callable[[object, str], float]] | None = None,
    sampling: Mapping | None = None,
    reference: Policy | pd.DataFrame | None = None,
    cache: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
    **training,
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
        sampling: `temperature, top_p, max_new_tokens` of the answers; default 0.7, 1, `sample`'s.
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
    """
    policy, pairs, prompts = as_policy(policy), as_pairs(pairs), as_prompts(prompts)
    check_workers(policy, workers)
    seeds, budgets, in_order = seed_list(seeds), _names(budgets), _names(in_order)
    measures, length = measures or {}, training.get("max_length")
    how = {**SAMPLING, **(sampling or {})}
    _check(selections, budgets, in_order, judge, measures, how, training)
    settings_in_effect(policy, **training)  # refuses what cannot be trained with
    chosen = _chosen(selections, pairs, reference)

    def fitting(some, what):
        return pairs_that_fit(policy, some, length, what)

    def table_of(some):
        table = reference_table(policy, reference, some, length, progress)
        return rows_of_tokens(table, tokenize_pairs(policy.tokenizer, some))

    fit = fitting(pairs, "pairs")
    edited = {
        name: fitting(some, f"pairs of selection {name!r}")
        for name, some in chosen.items()
        if isinstance(some, Dataset)
    }
    if held_out is not None:
        held_out = fitting(as_pairs(held_out, "held_out"), "held-out pairs")
    rows, runs = _plan({**chosen, **edited}, fit, seeds, budgets, set(in_order), training)
    files = dict.fromkeys(runs)
    if cache is not None:
        asked = tokenize_prompts(policy.tokenizer, prompts), policy.tokenizer.eos_token_id
        generation = policy.causal_lm.generation_config.to_dict()
        answering = with_defaults(sample, how)
        common = hash_content(policy, policy, reference, asked, generation, answering, held_out)
        prints = hash_pairs(policy, fit)
        edited_prints = {name: hash_pairs(policy, some) for name, some in edited.items()}
        for key, run in runs.items():
            of = edited_prints.get(run.selection, prints)
            told = None if run.pairs is None else [(id_, of[id_]) for id_ in run.pairs["id"]]
            settings = settings_in_effect(policy, **run.settings)
            content = hash_content(policy, common, told, settings, run.answer_seed)
            files[key] = as_folder(cache) / f"{content}.parquet"
        if not all(file.exists() for file in files.values()):
            try_folder(cache)
    _try_judge(policy, prompts, judge, measures, how)
    known, known_edited = table_of(fit), {name: table_of(some) for name, some in edited.items()}
    watched = None if held_out is None else (held_out, table_of(held_out))
    jobs = [
        (files[key], _train_and_answer, policy, run, known_edited.get(run.selection, known),
         prompts, how, watched, length)
        for key, run in runs.items()
    ]  # fmt: skip
    judged, keys = {}, list(runs)
    for number, answers in run_jobs(
        keep_table, jobs, workers, progress=progress, desc="comparing, runs"
    ):
        judged[keys[number]] = _judged(answers, prompts, judge, measures, policy.tokenizer)
    return pd.DataFrame([{**row, **_verdict(judged, key)} for row, key in rows])


class _Run(NamedTuple):
    """One training (or none) and the answers of what it left."""

    selection: str
    seed: int
    pairs: Dataset | None  # None: the policy as it is
    settings: dict  # for train_dpo
    answer_seed: int

    @property
    def key(self):
        return self.selection, self.seed, self.settings.get("max_steps", 0)


def _plan(selections, fit, seeds, budgets, in_order, training):
    """Rows of the result, each with the key of its run; and the runs by key. A run may serve two
    rows: full data makes the same updates in both budgets."""
    rows, runs = [], {}
    most = updates(len(fit), **training)
    for seed in seeds:
        baseline = _Run("baseline", seed, None, {}, answer_seed=2 * seed + 1)
        runs[baseline.key] = baseline
        for name, subset in _subsets(selections, fit, seed).items():
            size = 0 if subset is None else len(subset)
            for budget in budgets:
                settings = {}
                if size:
                    steps = most if budget == "updates" else updates(size, **training)
                    order = "given" if name in in_order else "shuffled"
                    settings = dict(training, max_steps=steps, order=order, seed=seed)
                run = _Run(name, seed, subset, settings, answer_seed=2 * seed)
                runs[run.key] = run
                row = dict(selection=name, seed=seed, budget=budget, pairs=size)
                rows.append((dict(row, updates=run.key[2]), run.key))
    return rows, runs


def _subsets(selections, fit, seed) -> dict[str, Dataset | None]:
    """What is trained on, by name: nothing, everything, the selections and their controls."""
    row_of = {id_: row for row, id_ in enumerate(fit["id"])}
    subsets = {"before": None, "full": fit}
    for name, selection in selections.items():
        if not isinstance(selection, Dataset):
            unknown = [id_ for id_ in selection if id_ not in row_of]
            if unknown:
                raise ValueError(
                    f"Selection {name!r}: {len(unknown)} of its {len(selection)} ids are not "
                    f"among the {len(fit)} pairs that fit the model (first: {unknown[0]!r}): it "
                    f"would be trained on {len(selection) - len(unknown)}. Select, and draw "
                    "controls, among the pairs of a log-prob table."
                )
            selection = fit.select([row_of[id_] for id_ in selection])
        subsets[name] = selection
    sizes = {len(subsets[name]) for name in selections}
    for size in sorted(size for size in sizes if size < len(fit)):
        ids = random(range(size), fit, seed)
        subsets[_control_name(size)] = fit.select([row_of[id_] for id_ in ids])
    return subsets


def _train_and_answer(policy, run, table, prompts, how, watched, length) -> pd.DataFrame:
    """Column `response` [prompts], and what was measured on held-out pairs in every row."""
    if run.pairs is not None:
        settings = dict(run.settings, reference=table, progress=False)
        policy = train_dpo(policy, run.pairs, **settings).policy
    responses = sample(policy, prompts, seed=run.answer_seed, progress=False, **how)
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


class _Judged(NamedTuple):
    """What a run's answers were found to be."""

    rewards: np.ndarray
    means: dict[str, float]  # column -> value, but for the win rate


def _judged(answers, prompts, judge, measures, tokenizer) -> _Judged:
    earned = rewards(judge, prompts, answers.response)
    tokens = tokenizer(answers.response.tolist(), add_special_tokens=False)["input_ids"]
    means = {
        "reward": earned.mean(),
        "length": pd.Series(tokens).map(len).mean(),
        **{name: rewards(f, prompts, answers.response).mean() for name, f in measures.items()},
        **answers.drop(columns="response").iloc[0],
    }
    return _Judged(earned, means)


def _verdict(judged: dict[tuple, _Judged], key) -> dict[str, float]:
    """The measured columns of a run."""
    baseline = judged["baseline", key[1], 0]
    return {"win_rate": wins(judged[key].rewards, baseline.rewards).mean(), **judged[key].means}


def _try_judge(policy, prompts, judge, measures, how) -> None:
    """Let the judge and the measures see one answer before hours of training."""
    answer = sample(policy, prompts[:1], seed=0, progress=False, **how)
    for function in (judge, *measures.values()):
        rewards(function, prompts[:1], answer)


def _names(given) -> list:
    """A list of names, of which one may come alone."""
    return [given] if isinstance(given, str) else list(given)


def _check(selections, budgets, in_order, judge, measures, how, training) -> None:
    refuse(training, OWN, "comparison")
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
    if unknown := set(how) - {*SAMPLING, "budget"}:
        raise ValueError(
            f"sampling: {', '.join(sorted(unknown))} is none of {', '.join(SAMPLING)}."
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


def _chosen(selections, pairs, reference) -> dict[str, list[str] | Dataset]:
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
