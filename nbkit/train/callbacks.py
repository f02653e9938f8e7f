"""What happens beside the updates: the progress bar, the log's last row, the per-pair trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nbkit.cache.files import keep, read_whole
from nbkit.logprobs.table import logprob_table
from nbkit.models.policy import Policy
from nbkit.scores.margins import implicit_margin, length_normalized_margin
from nbkit.tokens.ids import TokenPair


class LogLastStep(TrainerCallback):
    """The history ends with the last step, however few there are."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == state.max_steps:
            control.should_log = True


class Progress(TrainerCallback):
    """One bar over the optimizer steps, with the last logged loss."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        done = state.global_step  # above 0 when a run goes on from a checkpoint
        self.bar = tqdm(
            total=state.max_steps, initial=done, unit=" steps", desc="training", delay=1
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.update(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.close()


class Tracer(TrainerCallback):
    """Scores the followed pairs before training, every so many steps and at the end, with the
    weights rounded as they would be returned. With a folder, what is recorded is kept there, and a
    resumed run begins with it."""

    def __init__(
        self,
        learner: Policy,
        weights: Any,
        token_pairs: list[TokenPair],
        reference: pd.DataFrame | None,
        beta: float,
        every: int,
        folder: Path | None = None,
    ) -> None:
        self.learner, self.weights, self.token_pairs = learner, weights, token_pairs
        self.reference, self.beta, self.every = reference, beta, every
        self.folder = folder
        self.tables: dict[int, pd.DataFrame] = {}

    def record(self, step: int) -> None:
        if step in self.tables:
            return
        with self.weights.rounded():
            table = logprob_table(self.learner, self.token_pairs, progress=False)
        if self.reference is None:
            margin = length_normalized_margin(table, self.beta)
        else:
            margin = implicit_margin(table, self.reference, self.beta)
        self.tables[step] = table[["chosen_logp", "rejected_logp"]].assign(margin=margin)
        if self.folder:
            keep(self.tables[step], self._file(step))

    def resume(self, step: int) -> bool:
        """Take up what was recorded until `step`; False if something of it is lost."""
        for done in range(0, step + 1, self.every):
            table = read_whole(self._file(done))
            if table is None:
                self.tables = {}
                return False
            self.tables[done] = table
        return True

    def _file(self, step: int) -> Path:
        assert self.folder is not None
        return self.folder / f"trace-{step}.parquet"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:
            self.record(0)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self.every == 0:
            self.record(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.record(state.global_step)

    def frame(self) -> pd.DataFrame:
        return pd.concat(self.tables, names=["step", "id"]).reset_index()
