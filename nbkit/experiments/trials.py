"""The trials of a comparison: what is trained, on which pairs, with which settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from datasets import Dataset

from nbkit.experiments.gains import control_name
from nbkit.select.controls import random
from nbkit.train.settings import updates

Key = tuple[str, int, int]  # selection, seed, updates


class Trial(NamedTuple):
    """One training (or none), whose policy then answers."""

    selection: str
    seed: int
    pairs: Dataset | None  # None: the policy as it is
    settings: dict[str, Any]  # of the training
    answer_seed: int

    @property
    def key(self) -> Key:
        return self.selection, self.seed, self.settings.get("max_steps", 0)


def plan(
    selections: Mapping[str, list[str] | Dataset], fit: Dataset, settings: Mapping[str, Any], *,
    seeds: Iterable[int], budgets: Iterable[str], in_order: Iterable[str],
) -> tuple[list[tuple[dict[str, Any], Key]], dict[Key, Trial]]:  # fmt: skip
    """Rows of the result, each with the key of its trial; and the trials by key. A trial may serve
    two rows: full data makes the same updates in both budgets."""
    rows, trials = [], {}
    most = updates(len(fit), settings)
    for seed in seeds:
        baseline = Trial("baseline", seed, None, {}, answer_seed=2 * seed + 1)
        trials[baseline.key] = baseline
        for name, subset in _subsets(selections, fit, seed).items():
            size = 0 if subset is None else len(subset)
            for budget in budgets:
                own = {}
                if size:
                    steps = most if budget == "updates" else updates(size, settings)
                    order = "given" if name in in_order else "shuffled"
                    own = dict(settings, max_steps=steps, order=order, seed=seed)
                trial = Trial(name, seed, subset, own, answer_seed=2 * seed)
                trials[trial.key] = trial
                row = dict(selection=name, seed=seed, budget=budget, pairs=size)
                rows.append((dict(row, updates=trial.key[2]), trial.key))
    return rows, trials


def _subsets(selections: Mapping[str, Any], fit: Dataset, seed: int) -> dict[str, Dataset | None]:
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
        subsets[control_name(size)] = fit.select([row_of[id_] for id_ in ids])
    return subsets
