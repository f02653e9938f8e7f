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

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import pandas as pd
from datasets import Dataset

from nbkit.cache.files import as_folder, try_folder
from nbkit.cache.hashes import hash_content
from nbkit.experiments.arguments import check_names
from nbkit.experiments.selfplay.kept import alone, claim, kept_policy, kept_table
from nbkit.experiments.selfplay.steps import (
    PAIR,
    answer,
    best_and_worst,
    evolve,
    highest,
    most_promising,
    select_pairs,
    with_ids,
)
from nbkit.inputs import Prompts, as_count, as_number, as_pairs, as_policy
from nbkit.judges import Judge
from nbkit.models.policy import Policy
from nbkit.sampling import TEMPERATURE, TOP_P
from nbkit.train.dpo import settings_in_effect
from nbkit.train.settings import Training

# what it gives to `train_dpo` itself
OWN = {"keep", "reference", "copy_model"}


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

    Example:
        >>> import nbkit as nb
        >>> policy, prompts = nb.load_policy("world/small"), nb.world.prompts(4, part="train")
        >>> how = dict(rounds=1, max_new_tokens=8, max_steps=1, progress=False)
        >>> first = next(nb.selfplay.self_play(policy, prompts, nb.world.reward, "play", **how))
        >>> first.pairs.columns[-4:].tolist()
        ['explicit_margin', 'implicit_margin', 'alignment_potential', 'selected']
    """

    number: int
    policy: Policy
    prompts: pd.DataFrame
    answers: pd.DataFrame
    pairs: pd.DataFrame
    base: Dataset


def self_play(
    policy: Policy,
    prompts: Prompts,
    judge: Judge,
    folder: str | Path,
    *,
    rounds: int = 2,
    rewrite: Callable[[list, int], list] | None = None,
    select: Callable[[pd.DataFrame], list[str]] | None = None,
    base: Dataset | None = None,
    k: int = 5,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    max_new_tokens: int | None = None,
    evolve_share: float = 0.25,
    weight: float = 2.5,
    longest_ratio: float = 5.0,
    seed: int = 0,
    progress: bool = True,
    **training: Unpack[Training],
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
        rounds: how many.
        rewrite: `rewrite(prompts, seed)` -> as many new prompts, such as `nbkit.world.rewrite`, or
            `policy_rewriter(policy)` for a real model. None: nothing is evolved.
        select: `select(pairs)` -> ids to keep, from the round's pairs (`Round.pairs`, indexed by
            id); default `highest`: the 40% with the most alignment potential.
        base: pairs to begin the base set with.
        k: responses sampled to each prompt.
        temperature, top_p, max_new_tokens: of the answers, see `nbkit.sample`; the released code
            samples at temperature 0.8 and top-p 0.95.
        evolve_share: share of the prompts to evolve, most alignment potential first.
        weight: of the implicit margin in the alignment potential; 2.5 in the released code.
        longest_ratio: an evolved prompt longer or shorter than its parent by more than this factor
            (in characters) is left out; 5 in the released code.
        seed: of sampling, rewriting and training.
        progress: show progress bars.
        **training: for `nbkit.train_dpo`.

    Returns:
        Iterator of Rounds: a round is played when it is asked for.

    Raises:
        ValueError: fewer than two responses a prompt; a folder that holds another self-play;
            later, nothing to learn from, because the judge found all answers to each prompt alike.
        OSError: nothing can be kept in `folder`. Found before anything is sampled.

    Example:
        >>> import tempfile
        >>> import nbkit as nb
        >>> policy, prompts = nb.load_policy("world/small"), nb.world.prompts(4, part="train")
        >>> how = dict(rounds=1, max_new_tokens=8, max_steps=1, progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     play = nb.selfplay.self_play(policy, prompts, nb.world.reward, folder, **how)
        ...     rounds = list(play)
        >>> len(rounds), len(rounds[0].answers)
        (1, 20)
    """
    check_names(self_play, training, OWN, "self-play")
    policy, folder = as_policy(policy), as_folder(folder, "folder")
    rounds = as_count(rounds, "rounds")
    if as_count(k, "k") < 2:
        raise ValueError(f"k={k}; a best and a worst need 2 or more responses to a prompt.")
    as_number(evolve_share, "evolve_share", above=0, most=1)
    as_number(longest_ratio, "longest_ratio", least=1)
    as_number(weight, "weight")
    functions: dict[str, Any] = dict(judge=judge, select=select or highest, rewrite=rewrite)
    for name, function in functions.items():
        if not callable(function) and (name, function) != ("rewrite", None):
            raise TypeError(f"{name}: expected a function, got {function!r:.60}.")
    asked = with_ids(prompts)
    base = None if base is None else as_pairs(base, "base")
    how: dict[str, Any] = dict(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    rules: dict[str, Any] = dict(
        how=how, k=k, seed=seed, evolve_share=evolve_share, weight=weight,
        longest_ratio=longest_ratio,
    )  # fmt: skip
    told = dict(
        rules, asked=asked[["id", "prompt"]].to_dict("records"), base=base,
        training=settings_in_effect(policy, training),
        functions={name: _name(policy, f) for name, f in functions.items() if f is not None},
        tokenizer=policy.tokenizer, generation=policy.causal_lm.generation_config.to_dict(),
    )  # fmt: skip
    try_folder(folder, "folder")
    with alone(folder):
        claim(folder, hash_content(policy, policy, told))
    how["progress"] = progress
    return _rounds(policy, asked, base, folder, rounds, _Rules(**functions, **rules), training)


class _Rules(NamedTuple):
    """How a self-play is played."""

    judge: Callable
    select: Callable
    rewrite: Callable | None
    how: dict[str, Any]  # to sample
    k: int
    seed: int
    evolve_share: float
    weight: float
    longest_ratio: float


def _rounds(
    policy: Policy, asked: pd.DataFrame, base: Dataset | None, folder: Path, rounds: int,
    rules: _Rules, training: Mapping[str, Any],
) -> Iterator[Round]:  # fmt: skip
    player, progress = policy, rules.how["progress"]
    for number in range(1, rounds + 1):
        here = folder / f"round-{number}"
        with alone(folder):
            answers, evolved, pairs = _gathered(player, asked, here, number, rules)
            how = player, pairs, rules.weight, rules.select
            pairs = kept_table(here / "pairs", select_pairs, *how)
            base = _joined(base, pairs.loc[pairs.selected, PAIR])
            settings = dict(training, seed=rules.seed + number)
            player = kept_policy(here / "policy", policy, base, progress, **settings)
        prompts = pd.concat([asked, evolved], ignore_index=True)
        yield Round(number, player, prompts, answers, pairs, base)
        asked = pd.concat([asked, evolved[evolved.left_out == ""]], ignore_index=True)


def _gathered(
    player: Policy, asked: pd.DataFrame, here: Path, number: int, rules: _Rules
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What is gathered in a round before its selection: the answers, the evolved prompts and the
    pairs, each kept in the folder `here`."""
    luck, prefix = 1000 * rules.seed + 10 * number, f"r{number}-"

    def answered(file: str, prompts: pd.DataFrame, seed: int) -> pd.DataFrame:
        return kept_table(here / file, answer, player, prompts, rules.judge, rules.k, seed=seed,
                          **rules.how)  # fmt: skip

    answers = answered("answers", asked, luck)
    pairs = best_and_worst(answers, prefix).assign(evolved=False)
    evolved = asked.iloc[:0]
    if rules.rewrite is not None and len(pairs):
        parents = most_promising(player, pairs, asked, rules.evolve_share, rules.weight)
        evolved = kept_table(
            here / "evolved", evolve, parents, rules.rewrite, asked.prompt, rules.longest_ratio,
            seed=luck + 1, suffix=f".{number}",
        )  # fmt: skip
    fresh = evolved[evolved.left_out == ""]
    if len(fresh):
        to_evolved = answered("evolved_answers", fresh, luck + 2)
        more = best_and_worst(to_evolved, prefix).assign(evolved=True)
        pairs = pd.concat([pairs, more], ignore_index=True)
        answers = pd.concat([answers, to_evolved], ignore_index=True)
    if pairs.empty:
        raise ValueError(
            f"Round {number}: to each of the {len(asked)} prompts all {rules.k} answers had the "
            "same reward, so there is no best and worst. Sample at a higher temperature, "
            "or more answers, or take a judge that tells answers apart."
        )
    return answers, evolved, pairs


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


def _name(policy: Policy, function: Callable) -> str:
    """What can be told of a function without looking into it."""
    try:
        return hash_content(policy, function)
    except TypeError:
        return getattr(function, "__qualname__", type(function).__qualname__)
