"""Explicit rewards: scores of responses by a reward model, or by any function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from nbkit.inputs import Prompt, as_count, as_pairs
from nbkit.left_out import LeftOut
from nbkit.models.checks import check_finite
from nbkit.models.devices import where_and_how
from nbkit.models.finding import find_adapter, world_folder
from nbkit.models.loading import as_name
from nbkit.models.parts import load_complete, load_config, load_tokenizer
from nbkit.pairs.sources import Pairs
from nbkit.tokens.ids import split_unscored, tokenize_pairs
from nbkit.tokens.texts import answer_to, plain_text

# What rewards a response: (prompt, response) -> a number, higher is better.
Judge: TypeAlias = Callable[[Any, str], float]

SIDES = ("chosen", "rejected")

# Tokens, padding included, in one forward pass.
BUDGET = {"cpu": 4096, "cuda": 65536, "mps": 16384}


@dataclass(frozen=True)
class RewardModel:
    """A transformers sequence classifier with one label: a number for (prompt, response).

    It is a judge: `reward_model(prompt, response)` is a float, so it can be given to
    `nbkit.win_rate` and `nbkit.compare`, which pass it many responses at a time.

    Attributes:
        model: sequence-classification model with `num_labels=1`, in eval mode.
        tokenizer: its tokenizer; its chat template renders conversations.
        name: how tables call it.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(320)
        >>> judge = nb.train_reward_model(policy, pairs, learning_rate=0.01).reward_model
        >>> judge("pet of mia ?", "happy to help ! bat") > judge("pet of mia ?", "bat")
        True
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    name: str = "reward model"

    def __post_init__(self) -> None:
        labels = getattr(self.model.config, "num_labels", None)
        if labels != 1:
            raise ValueError(
                f"{self.name!r} has {labels} labels; expected a reward model with one: a "
                "sequence classifier loaded with num_labels=1."
            )
        self.model.eval()
        check_pad_token(self.tokenizer, self.name)
        if self.model.config.pad_token_id is None:  # the classifier finds a row's end by it
            self.model.config.pad_token_id = self.tokenizer.pad_token_id

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def __call__(self, prompt: Prompt, response: str) -> float:
        return float(self.many([prompt], [response])[0])

    def many(
        self, prompts: Iterable[Prompt], responses: Iterable[str], progress: bool = True
    ) -> np.ndarray:
        """Rewards of many responses, each to its prompt: numpy array [n], in the model's units;
        higher: better.

        Args:
            prompts: n strings, or n message lists.
            responses: n strings.
            progress: show a progress bar for work of more than a second.

        Example:
            >>> import nbkit as nb
            >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(320)
            >>> judge = nb.train_reward_model(policy, pairs, learning_rate=0.01).reward_model
            >>> judge.many(["pet of mia ?"] * 2, ["happy to help ! bat", "bat"]).argmax()
            np.int64(0)
        """
        prompts = list(prompts)
        answers = [answer_to(*said) for said in zip(prompts, responses, strict=True)]
        ids = [str(number) for number in range(len(prompts))]
        rows = dict(id=ids, prompt=prompts, chosen=answers, rejected=answers)
        token_pairs = tokenize_pairs(self.tokenizer, Dataset.from_dict(rows))
        return self._score_ids([pair.prompt + pair.chosen for pair in token_pairs], progress)

    def _score_ids(self, sequences: list[list[int]], progress: bool = True) -> np.ndarray:
        """Rewards [n] of token sequences, scored longest first in batches of equal length or so."""
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]), reverse=True)
        budget = BUDGET.get(self.device.type, BUDGET["cuda"])
        scores = np.empty(len(sequences))
        with (
            torch.inference_mode(),
            tqdm(total=len(order), unit=" responses", desc=f"rewards, {self.name}", delay=1,
                 disable=not progress) as bar,
        ):  # fmt: skip
            while order:
                size = max(1, budget // max(1, len(sequences[order[0]])))
                batch, order = order[:size], order[size:]
                scores[batch] = self._forward([sequences[i] for i in batch])
                bar.update(len(batch))
        return scores

    def _forward(self, sequences: list[list[int]]) -> np.ndarray:
        rows = [torch.tensor(ids) for ids in sequences]
        lengths = torch.tensor([len(ids) for ids in sequences])
        pad = self.model.config.pad_token_id
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
        real = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        out = self.model(input_ids=ids.to(self.device), attention_mask=real.to(self.device))
        return out.logits[:, 0].double().cpu().numpy()


def check_pad_token(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Give a tokenizer without a pad token its end-of-sequence token for one.

    Raises:
        ValueError: it has neither.
    """
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ValueError(
            f"The tokenizer of {name!r} has neither a pad nor an end-of-sequence token; the "
            "classifier finds the end of a row by it. Set tokenizer.pad_token."
        )


def load_reward_model(
    name: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
) -> RewardModel:
    """Load a reward model: a sequence classifier with one label, in eval mode.

    Args:
        name: a folder with a saved one, or a hub id such as "Skywork/Skywork-Reward-V2-Qwen3-0.6B".
        device: as of `nbkit.load_policy`.
        dtype: as of `nbkit.load_policy`.
        revision: branch, tag or commit of a hub id, to pin what is loaded.

    Raises:
        ValueError: no reward model, or an adapter; otherwise as of `nbkit.load_policy`.

    Example:
        >>> import nbkit as nb
        >>> policy = nb.load_policy("world/small")
        >>> trained = nb.train_reward_model(policy, nb.world.pairs(32)).reward_model
        >>> trained.model.save_pretrained("judge")
        >>> files = trained.tokenizer.save_pretrained("judge")
        >>> nb.load_reward_model("judge").name
        'judge'
    """
    name = as_name(name, "load_reward_model", "nb.RewardModel(model, tokenizer)")
    device, dtype = where_and_how(device, dtype)
    source = world_folder(name) if name.startswith("world/") else name
    if find_adapter(name, source, revision) is not None:
        raise ValueError(
            f"{name!r} is an adapter. Load it with peft, merge it (`model.merge_and_unload()`), "
            "and pass `nb.RewardModel(model, tokenizer)`."
        )
    config = load_config(name, source, revision, num_labels=1)
    if config.architectures and "Classification" not in config.architectures[0]:
        raise ValueError(
            f"{name!r} is a {config.architectures[0]}, no reward model: expected a sequence "
            "classifier with one label. A policy is loaded by nb.load_policy."
        )
    tokenizer = load_tokenizer(name, source, revision)
    model = load_complete(
        AutoModelForSequenceClassification, name, source, config, revision=revision, dtype=dtype
    )
    model = model.to(device)
    check_finite(name, model)
    return RewardModel(model, tokenizer, name=name)


def reward_scores(
    judge: Judge,
    pairs: Pairs,
    *,
    max_length: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Score both responses of every pair.

    Args:
        judge: a RewardModel, which reads prompt and response as TRL's RewardTrainer does (through
            the chat template, or with the end-of-sequence token); or any function
            `judge(prompt, response)` -> reward.
        pairs: Dataset with `id, prompt, chosen, rejected`.
        max_length: longest prompt + response in tokens; default what the model was made for.
            Longer pairs are left out: `table.attrs["left_out"]` (id -> reason) names them, and a
            warning says how many (reward models only).
        progress: show a progress bar for work of more than a second.

    Returns:
        DataFrame `chosen_score, rejected_score` by pair id, in the judge's units; higher: better.
        `nbkit.scores.explicit_margin` of it is the explicit margin: below zero where the judge
        contradicts the label.

    Raises:
        ValueError: a reward that is no finite number; what the tokenizer cannot serve.

    Example:
        >>> import nbkit as nb
        >>> nb.reward_scores(nb.world.reward, nb.world.pairs(2))
                                   chosen_score  rejected_score
        id
        train-0-00000-coin-ray             2.00             2.3
        train-0-00001-drawing-hal          1.95             0.0
    """
    pairs = as_pairs(pairs)
    longest = None if max_length is None else as_count(max_length, "max_length")
    if not isinstance(judge, RewardModel):
        return _by_function(judge, pairs)
    longest = longest or getattr(judge.model.config, "max_position_embeddings", None)
    token_pairs, left_out = split_unscored(tokenize_pairs(judge.tokenizer, pairs), longest)
    left_out.warn(len(pairs), where=".attrs['left_out']")
    sequences = [p.prompt + p.chosen for p in token_pairs]
    sequences += [p.prompt + p.rejected for p in token_pairs]
    scores = judge._score_ids(sequences, progress).reshape(2, -1)
    return _table([p.id for p in token_pairs], scores[0], scores[1], left_out)


def _by_function(judge: Judge, pairs: Dataset) -> pd.DataFrame:
    chosen, rejected = (
        rewards(judge, pairs["prompt"], map(plain_text, pairs[side])) for side in SIDES
    )
    return _table(pairs["id"][:], chosen, rejected, LeftOut())


def _table(
    ids: list[str], chosen: np.ndarray, rejected: np.ndarray, left_out: LeftOut
) -> pd.DataFrame:
    columns = {"chosen_score": chosen, "rejected_score": rejected}
    table = pd.DataFrame(columns, index=pd.Index(ids, name="id"))
    table.attrs["left_out"] = left_out
    return table


def rewards(judge: Judge, prompts: Sequence[Any], responses: Iterable[str]) -> np.ndarray:
    """The judge's reward of each response to its prompt.

    Raises:
        ValueError: what is no finite number, with the number of the prompt. An error of the judge
            itself goes on, with a note that names the prompt.
    """
    responses = list(responses)
    if hasattr(judge, "many"):  # a reward model scores a batch at a time
        values = judge.many(prompts, responses, progress=False)
    else:
        values = []
        for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            try:
                values.append(judge(prompt, response))
            except Exception as error:  # the judge is the user's own program
                error.add_note(
                    f"The judge failed for response {response!r:.60} to prompt {number} "
                    f"({prompt!r:.60})."
                )
                raise
    finite = [_finite(value) for value in values]
    if bad := [number for number, value in enumerate(finite) if value is None]:
        raise ValueError(
            f"The judge gave {values[bad[0]]!r:.60} for response {responses[bad[0]]!r:.60} to "
            f"prompt {bad[0]} ({prompts[bad[0]]!r:.60}); {len(bad)} such of {len(finite)}; "
            "expected a finite number."
        )
    return np.array(finite, dtype=float)


def _finite(value: Any) -> float | None:
    """The value as a finite number, if it is one."""
    try:
        number = float("nan" if isinstance(value, (str, bytes)) else value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return number if np.isfinite(number) else None
