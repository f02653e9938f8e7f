"""Packed pairs: one row `[prompt | chosen | rejected]` a pair, many pairs to a row, no padding.

The prompt is read once for both responses. Position ids of both responses start where the prompt
ends, and the attention (attending.py) lets each response see the prompt and itself only, so every
hidden state is what a separate `prompt + response` sequence would give. (`prompt` may be any common
prefix, and a pair may have any number of responses.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch

from nbkit.tokens.ids import TokenPair


@dataclass(frozen=True)
class Segment:
    """Where one pair lies in a packed row: `prompt` tokens from `start`, then each response."""

    start: int
    prompt: int
    responses: tuple[int, ...]

    def response_slices(self) -> list[slice]:
        ends = list(accumulate(self.responses, initial=self.start + self.prompt))
        return [slice(a, b) for a, b in zip(ends, ends[1:])]


@dataclass(frozen=True)
class PackedRow:
    """One forward pass.

    Attributes:
        input_ids, position_ids: long tensors [1, T].
        segments: where each pair lies in the row.
        predictors: long [S], the row positions whose hidden state predicts a scored token.
        targets: long [S], the scored token ids.
        owners: long [S], 2 * (index of the pair in the call) + (0 chosen, 1 rejected).
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: tuple[Segment, ...]
    predictors: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor


def plan_rows(token_pairs: list[TokenPair], budget: int) -> list[list[int]]:
    """Group pairs, in order, into rows of at most `budget` tokens (a longer pair gets its own)."""
    rows: list[list[int]] = []
    tokens = 0
    for i, pair in enumerate(token_pairs):
        if rows and tokens + pair.tokens <= budget:
            rows[-1].append(i)
            tokens += pair.tokens
        else:
            rows.append([i])
            tokens = pair.tokens
    return rows


def pack_row(
    token_pairs: list[TokenPair], indices: list[int], device: str | torch.device = "cpu"
) -> PackedRow:
    """Lay the pairs `indices` out in one row."""
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    predictors: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for i in indices:
        pair = token_pairs[i]
        responses = (pair.chosen, pair.rejected)
        start, prompt = len(ids), len(pair.prompt)
        segment = Segment(start, prompt, tuple(len(r) for r in responses))
        ids += pair.prompt
        positions += range(prompt)
        for side, (response, where) in enumerate(
            zip(responses, segment.response_slices(), strict=True)
        ):
            ids += response
            positions += range(prompt, prompt + len(response))
            # y[0] is predicted by the last prompt token, y[t] by y[t-1]. Without any prompt token
            # nothing predicts y[0], and it is not scored (TRL does the same).
            before = [start + prompt - 1] if prompt else []
            predictors += before + list(range(where.start, where.stop - 1))
            scored = response if prompt else response[1:]
            targets += scored
            owners += [2 * i + side] * len(scored)
        segments.append(segment)

    def row(x: list) -> torch.Tensor:
        return torch.tensor(x, dtype=torch.long, device=device)

    return PackedRow(
        row([ids]), row([positions]), tuple(segments), row(predictors), row(targets), row(owners)
    )
