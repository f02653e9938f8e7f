"""The steps of a round of self-play. Each is a plain function over tables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from nbkit.inputs import Prompts, as_count, as_policy, as_prompts
from nbkit.judges import Judge, rewards
from nbkit.logprobs.table import response_logprobs
from nbkit.models.policy import Policy
from nbkit.sampling import TEMPERATURE, TOP_P, sample
from nbkit.scores.margins import explicit_margin, length_normalized_margin
from nbkit.scores.potential import alignment_potential
from nbkit.select.ranked import top
from nbkit.tokens.texts import answer_to, plain_text

PAIR = ["id", "prompt", "chosen", "rejected", "chosen_score", "rejected_score"]
INSTRUCTION = (
    "Rewrite this task into another one of the same kind and about the same length, which asks for "
    "something new. Answer with the new task only.\n\n{prompt}"
)


def answer(
    policy: Policy,
    prompts: Prompts,
    judge: Judge,
    k: int = 5,
    *,
    seed: int = 0,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    max_new_tokens: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Sample `k` responses to each prompt and judge them.

    Args:
        policy: the policy that answers.
        prompts: as for `nbkit.sample`; a DataFrame may bring the column `id`.
        judge: `judge(prompt, response)` -> reward; higher is better.
        k: responses to each prompt.
        seed, temperature, top_p, max_new_tokens, progress: see `nbkit.sample`.

    Returns:
        Tidy DataFrame `prompt_id, prompt, response, reward`, k rows a prompt.

    Example:
        >>> import nbkit as nb
        >>> policy, prompts = nb.load_policy("world/small"), nb.world.prompts(4)
        >>> how = dict(k=2, max_new_tokens=4, progress=False)
        >>> nb.selfplay.answer(policy, prompts, nb.world.reward, **how).shape
        (8, 4)
    """
    policy, asked = as_policy(policy), with_ids(prompts)
    asked = asked.loc[asked.index.repeat(as_count(k, "k"))].reset_index(drop=True)
    responses = sample(
        policy, asked.prompt.tolist(), seed=seed, temperature=temperature, top_p=top_p,
        max_new_tokens=max_new_tokens, progress=progress,
    )  # fmt: skip
    return pd.DataFrame(
        dict(prompt_id=asked.id, prompt=asked.prompt, response=responses,
             reward=rewards(judge, asked.prompt.tolist(), responses))
    )  # fmt: skip


def best_and_worst(answers: pd.DataFrame, prefix: str = "") -> pd.DataFrame:
    """Preference pairs from judged answers: to each prompt the best against the worst (the first
    of equals). A prompt whose answers all have the same reward gives no pair.

    Args:
        answers: from `answer`: `prompt_id, prompt, response, reward`.
        prefix: of the pairs' ids.

    Returns:
        DataFrame `id, prompt_id, prompt, chosen, rejected, chosen_score, rejected_score`; the id
        is `prefix` and the prompt's. Answers to conversations are wrapped into messages.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> rows = [("p0", "pet of mia ?", "dog", 1.0), ("p0", "pet of mia ?", "cat", 0.0)]
        >>> answers = pd.DataFrame(rows, columns=["prompt_id", "prompt", "response", "reward"])
        >>> nb.selfplay.best_and_worst(answers)[["chosen", "rejected"]].values.tolist()
        [['dog', 'cat']]
    """
    rows = []
    groups: Any = answers.groupby("prompt_id", sort=False)
    for prompt_id, group in groups:
        best, worst = group.loc[group.reward.idxmax()], group.loc[group.reward.idxmin()]
        if best.reward > worst.reward:
            chosen, rejected = (answer_to(best.prompt, row.response) for row in (best, worst))
            rows.append((prefix + prompt_id, prompt_id, best.prompt, chosen, rejected,
                         best.reward, worst.reward))  # fmt: skip
    return pd.DataFrame(rows, columns=["id", "prompt_id", *PAIR[1:]])


def evolve(
    parents: pd.DataFrame,
    rewrite: Callable[[list, int], list],
    known: Iterable[Any] = (),
    longest_ratio: float = 5.0,
    *,
    seed: int = 0,
    suffix: str = ".1",
) -> pd.DataFrame:
    """New prompts from old ones.

    Args:
        parents: DataFrame `id, prompt`.
        rewrite: `rewrite(prompts, seed)` -> as many prompts.
        known: prompts that were asked before; they, and repetitions, are not asked again.
        longest_ratio: largest factor between the lengths (characters) of parent and child.
        seed: handed to `rewrite`.
        suffix: of the new ids.

    Returns:
        DataFrame `id, prompt, parent, left_out`; `left_out` is the reason, or empty.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> parents = pd.DataFrame(dict(id=["p0"], prompt=["pet of mia ?"]))
        >>> children = nb.selfplay.evolve(parents, nb.world.rewrite)
        >>> children[["id", "parent", "left_out"]].values.tolist()
        [['p0.1', 'p0', '']]
    """
    prompts = rewrite(parents.prompt.tolist(), seed)
    if len(prompts) != len(parents):
        raise ValueError(
            f"rewrite returned {len(prompts)} prompts for {len(parents)}; expected one for each."
        )
    seen, reasons = {plain_text(prompt) for prompt in known}, []
    for parent, child in zip(parents.prompt, prompts, strict=True):
        sizes = sorted((len(plain_text(parent)), len(plain_text(child))))
        if not plain_text(child).strip():
            reasons.append("empty")
        elif plain_text(child) in seen:
            reasons.append("asked before")
        elif sizes[1] > longest_ratio * sizes[0]:
            reasons.append(f"{sizes[1] / sizes[0]:.1f} times longer or shorter than its parent")
        else:
            reasons.append("")
        seen.add(plain_text(child))
    return pd.DataFrame(
        dict(id=[f"{id_}{suffix}" for id_ in parents.id], prompt=prompts, parent=list(parents.id),
             left_out=reasons)
    )  # fmt: skip


def policy_rewriter(
    policy: Policy,
    instruction: str = INSTRUCTION,
    *,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    max_new_tokens: int | None = None,
    progress: bool = True,
) -> Callable[[list, int], list]:
    """A `rewrite` in which a policy evolves prompts itself, as in the released pipeline.

    Args:
        policy: an instruction-tuned policy.
        instruction: what it is told, with `{prompt}` in it. Conversations: their last message is
            rewritten, and the instruction is sent as a message of the user.
        temperature, top_p, max_new_tokens, progress: see `nbkit.sample`.

    Returns:
        `rewrite(prompts, seed)`, for `self_play`.

    Example:
        >>> import nbkit as nb
        >>> how = dict(max_new_tokens=4, progress=False)
        >>> rewrite = nb.selfplay.policy_rewriter(nb.load_policy("world/small"), "{prompt}", **how)
        >>> len(rewrite(["pet of mia ?", "toy of leo ?"], seed=0))
        2
    """
    policy = as_policy(policy)
    how: dict[str, Any] = dict(
        temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, progress=progress
    )

    def rewrite(prompts: list, seed: int) -> list:
        talks = bool(prompts) and not isinstance(prompts[0], str)
        asked = [prompt[-1:] if talks else prompt for prompt in prompts]  # the last message
        orders = [instruction.format(prompt=plain_text(said)) for said in asked]
        if talks:
            orders = [[{"role": "user", "content": order}] for order in orders]
        said = [text.strip() for text in sample(policy, orders, seed=seed, **how)]
        if not talks:
            return said
        return [[*p[:-1], {**p[-1], "content": text}] for p, text in zip(prompts, said)]

    return rewrite


def highest(
    pairs: pd.DataFrame, by: str = "alignment_potential", share: float = 0.4, seed: int = 0
) -> list[str]:
    """A selection: the share of a round's pairs with the highest value of a column.

    Args:
        pairs: `Round.pairs`, indexed by id.
        by: alignment_potential, explicit_margin or implicit_margin (with its sign).
        share: above 0, to 1; the paper's is 0.4.
        seed: of the order of equals: a judge that counts has many, and in the order of their ids
            the same prompts would win every round.

    Returns:
        ids of the pairs, highest first.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> pairs = pd.DataFrame({"alignment_potential": [0.1, 0.9, 0.5, 0.2]}, list("abcd"))
        >>> nb.selfplay.highest(pairs, share=0.5)
        ['b', 'c']
    """
    return top(pairs[by], share, ties=_lots(pairs, seed))


def at_random(pairs: pd.DataFrame, share: float = 0.4, seed: int = 0) -> list[str]:
    """A selection that looks at nothing: the control of the same size. Pairs without scores (too
    long for the policy) are never drawn, as `highest` never keeps them.

    Args:
        pairs: `Round.pairs`, indexed by id.
        share: above 0, to 1.
        seed: of the draw; another round draws anew.

    Returns:
        ids of the pairs.

    Example:
        >>> import nbkit as nb
        >>> import pandas as pd
        >>> pairs = pd.DataFrame({"alignment_potential": [0.1, 0.9, 0.5, 0.2]}, list("abcd"))
        >>> len(nb.selfplay.at_random(pairs, share=0.5))
        2
    """
    lots = _lots(pairs, seed)
    return top(lots[pairs.alignment_potential.notna()], share)


def _lots(pairs: pd.DataFrame, seed: int) -> pd.Series:
    """A random number for each pair; other pairs, so another round, get others."""
    told = f"{seed} {sorted(pairs.index)}".encode()
    draw = np.random.default_rng(list(hashlib.sha256(told).digest()))
    return pd.Series(draw.random(len(pairs)), pairs.index)


def score_pairs(policy: Policy, pairs: pd.DataFrame, weight: float) -> pd.DataFrame:
    """The pairs with both margins and the alignment potential."""
    data = Dataset.from_list(pairs[PAIR].to_dict("records"))
    logps = response_logprobs(policy, data, progress=False)
    explicit = explicit_margin(data)
    implicit = length_normalized_margin(logps).reindex(explicit.index)
    potential = alignment_potential(explicit, implicit, weight)
    scores = pd.concat([explicit, implicit.rename("implicit_margin"), potential], axis=1)
    return pairs.join(scores, on="id")


def select_pairs(
    policy: Policy, pairs: pd.DataFrame, weight: float, select: Callable[[pd.DataFrame], list[str]]
) -> pd.DataFrame:
    scored = score_pairs(policy, pairs, weight)
    keep = set(select(scored.set_index("id", drop=False)))
    if unknown := keep - set(scored.id):
        raise ValueError(f"select returned ids that are not of this round: {sorted(unknown)[:3]}.")
    return scored.assign(selected=scored.id.isin(keep))


def most_promising(
    policy: Policy, pairs: pd.DataFrame, asked: pd.DataFrame, share: float, weight: float
) -> pd.DataFrame:
    """The prompts to evolve: the share of those asked whose pairs have the most potential."""
    scored = score_pairs(policy, pairs, weight).set_index("prompt_id")
    known = int(scored.alignment_potential.notna().sum())  # a pair too long has no score
    count = min(known, max(1, round(share * len(asked))))
    if not count:
        return asked.iloc[:0]
    return asked.set_index("id").loc[top(scored.alignment_potential, count)].reset_index()


def with_ids(prompts: Prompts) -> pd.DataFrame:
    listed = as_prompts(prompts)
    asked: Any = prompts
    columns = getattr(asked, "column_names", None) or getattr(asked, "columns", [])
    ids = [f"p{number:05d}" for number in range(len(listed))]
    if "id" in columns:
        ids = [str(id_) for id_ in asked["id"]]
    if len(set(ids)) < len(ids):
        raise ValueError("The prompts hold an id more than once; expected each id once.")
    return pd.DataFrame(dict(id=list(ids), prompt=listed, parent="", left_out=""))
