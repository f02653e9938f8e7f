"""Several self-plays side by side: what each policy is worth after each round."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd
from transformers import PreTrainedTokenizerBase

from nbkit.cache.files import as_folder, keep_table, try_folder
from nbkit.cache.hashes import hash_content
from nbkit.evaluate import wins
from nbkit.experiments.arguments import check_names
from nbkit.experiments.jobs import check_workers, run_jobs
from nbkit.experiments.selfplay.loop import self_play
from nbkit.inputs import Prompts, as_policy, as_prompts
from nbkit.judges import Judge, rewards
from nbkit.models.policy import Policy
from nbkit.sampling import TEMPERATURE, TOP_P, sample

# what it gives to `self_play` itself
OWN = {"policy", "folder", "seed"}


def compare_plays(
    policy: Policy,
    plays: Mapping[tuple[str, int], Mapping[str, Any]],
    prompts: Prompts,
    judge: Judge,
    folder: str | Path,
    *,
    common: Mapping[str, Any] | None = None,
    measures: Mapping[str, Judge] | None = None,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    max_new_tokens: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Play several self-plays, and after every round have the policy answer test prompts.

    Args:
        policy: where every self-play starts, and whose answers are the baseline of the win rate.
        plays: (name, seed) -> arguments of `self_play`: prompts, select, rounds, ... A `judge` in
            them is the judge of that self-play, which may be another than the `judge` of the test.
        prompts: of the test; none of them should be played with. A prompt may be in it several
            times, which `distinct` needs.
        judge: `judge(prompt, response)` -> the reward that counts; also in the self-plays that
            bring no judge of their own.
        folder: where the self-plays are kept, each in a folder of its own with its answers in the
            test. The same call after an interruption plays and asks only what is missing.
        common: arguments of `self_play` that all self-plays share; those in `plays` go first.
        measures: name -> function of (prompt, response), averaged into a column of that name.
        temperature, top_p, max_new_tokens: of the answers in the test, see `nbkit.sample`.
        workers: processes that play at once (see `nbkit.at_once`).
        progress: show a bar over the self-plays.

    Returns:
        Tidy DataFrame, one row a (play, seed, round); round 0 is the policy they start from.
        Columns: `asked` (prompts answered in the round, those evolved in it too), `pairs` (of the
        round), `trained_on` (pairs of the base set); in the test `win_rate` against the policy's
        own answers (ties one half), `reward` (mean), `judged` (mean, by the self-play's own
        judge), `length` (mean, tokens), `distinct` (share of the answers left when each prompt's
        repetitions are taken out) and the measures.

    Raises:
        ValueError: what `self_play` refuses.
        TypeError: self-plays without (name, seed); an argument that `self_play` does not have.

    Example:
        >>> import tempfile
        >>> import nbkit as nb
        >>> policy, prompts = nb.load_policy("world/small"), nb.world.prompts(4)
        >>> plays = {("mine", 0): dict(prompts=nb.world.prompts(4, part="train"), rounds=1)}
        >>> how = dict(common=dict(max_new_tokens=8, max_steps=1), progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = nb.selfplay.compare_plays(
        ...         policy, plays, prompts, nb.world.reward, folder, max_new_tokens=8, **how)
        >>> table["round"].tolist()
        [0, 1]
    """
    policy, prompts, folder = as_policy(policy), as_prompts(prompts), as_folder(folder, "folder")
    check_workers(policy, workers)
    _check(plays, common)
    how: dict[str, Any] = dict(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    told = {key: {"judge": judge, **(common or {}), **play} for key, play in plays.items()}
    try_folder(folder, "folder")
    baseline, before = {}, {}
    for seed in dict.fromkeys(seed for _, seed in told):
        baseline[seed] = sample(policy, prompts, seed=2 * seed + 1, progress=False, **how)
        responses = sample(policy, prompts, seed=2 * seed, progress=False, **how)
        before[seed] = _Test(dict(round=0, asked=0, pairs=0, trained_on=0), responses)
    content = hash_content(policy, prompts, how)
    jobs = [
        (policy, dict(play, seed=seed), folder / _file_name(f"{name} {seed}"), prompts, how,
         f"test-{content}.parquet")
        for (name, seed), play in told.items()
    ]  # fmt: skip
    finished, keys = {}, list(told)
    for number, tests in run_jobs(_play, jobs, workers, progress=progress, desc="self-plays"):
        finished[keys[number]] = tests
    rows = []
    for key, play in told.items():
        for test in [before[key[1]], *finished[key]]:
            row = _verdict(test.responses, baseline[key[1]], prompts, judge, policy.tokenizer)
            row["judged"] = rewards(play["judge"], prompts, test.responses).mean()
            for column, measure in (measures or {}).items():
                row[column] = rewards(measure, prompts, test.responses).mean()
            rows.append({"play": key[0], "seed": key[1], **test.counts, **row})
    return pd.DataFrame(rows)


class _Test(NamedTuple):
    """After one round: what it counted, and the answers to the test prompts."""

    counts: dict[str, int]
    responses: list[str]


def _play(
    policy: Policy,
    play: Mapping[str, Any],
    folder: Path,
    prompts: list[Any],
    how: Mapping[str, Any],
    file: str,
) -> list[_Test]:
    """Each round, and the test after it, whose answers are kept beside the round's policy."""
    tests = []
    for done in self_play(policy, folder=folder, **{"progress": False, **play}):
        kept = folder / f"round-{done.number}" / file
        answers = keep_table(kept, _answers, done.policy, prompts, 2 * play["seed"], how)
        asked = int((done.prompts.left_out == "").sum())
        counts = dict(round=done.number, asked=asked, pairs=len(done.pairs))
        tests.append(_Test({**counts, "trained_on": len(done.base)}, answers.response.tolist()))
    return tests


def _answers(policy: Policy, prompts: list[Any], seed: int, how: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame({"response": sample(policy, prompts, seed=seed, progress=False, **how)})


def _verdict(
    responses: list[str],
    baseline: list[str],
    prompts: list[Any],
    judge: Judge,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, float]:
    reward = rewards(judge, prompts, responses)
    tokens = tokenizer(responses, add_special_tokens=False)["input_ids"]
    said = pd.DataFrame(dict(prompt=map(repr, prompts), response=responses))
    return {
        "win_rate": wins(reward, rewards(judge, prompts, baseline)).mean(),
        "reward": reward.mean(),
        "length": pd.Series(tokens).map(len).mean(),
        "distinct": 1 - said.duplicated().mean(),
    }


def _check(
    plays: Mapping[tuple[str, int], Mapping[str, Any]], common: Mapping[str, Any] | None
) -> None:
    if common is not None and not isinstance(common, Mapping):
        raise TypeError(f"common: expected a dict of arguments of `self_play`, got {common!r:.60}.")
    check_names(self_play, common or {}, OWN, "comparison of self-plays")
    if not isinstance(plays, Mapping):
        raise TypeError(
            f"plays: expected a dict, (name, seed) -> arguments, got {type(plays).__name__}."
        )
    for key, play in plays.items():
        if not (isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], Integral)):
            raise TypeError(f"plays: expected keys (name, seed), got {key!r:.60}.")
        if not isinstance(play, Mapping):
            raise TypeError(
                f"Self-play {key}: expected a dict of arguments of `self_play`, got {play!r:.60}."
            )
        check_names(self_play, play, OWN, "comparison of self-plays")


def _file_name(text: str) -> str:
    """A name that every file system takes, and takes for one of its own: quoted, not too long, and
    not another's but for capitals."""
    name = quote(text, safe=" ")
    if len(name) > 80 or text != text.lower():
        name = f"{name[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return name
