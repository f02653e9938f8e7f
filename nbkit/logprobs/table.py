"""The one table: log-probs of the chosen and rejected responses under a policy."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbkit.cache.files import try_folder
from nbkit.cache.hashes import hash_pair
from nbkit.inputs import as_limit, as_policy
from nbkit.logprobs.engine import Scored, score_tokens
from nbkit.logprobs.finite import check_finite
from nbkit.logprobs.fitting import tokenize
from nbkit.logprobs.rows import LOGPS
from nbkit.logprobs.store import LogprobCache
from nbkit.models.policy import Policy
from nbkit.pairs.sources import Pairs
from nbkit.tokens.ids import TokenPair
from nbkit.tokens.texts import token_pieces

COUNTS = ["chosen_tokens", "rejected_tokens"]
COLUMNS = [*LOGPS, *COUNTS, "tokens_hash"]
SECONDS_BETWEEN_PARTS = 20.0


def response_logprobs(
    policy: Policy,
    pairs: Pairs,
    *,
    max_length: int | None = None,
    path: str = "auto",
    budget: int | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Log-probs of both responses of every pair: log p(response | prompt).

    Summed over the response tokens, the end-of-sequence token included, the prompt excluded; the
    tokens are exactly those TRL trains on (see `nbkit.tokens.ids`).

    Args:
        policy: the policy that scores.
        pairs: Dataset with `id, prompt, chosen, rejected`, or whatever `nbkit.load_pairs` reads.
            Conversations go through the chat template; plain text is read as it is, with a warning
            where the tokenizer has a template (`policy.tokenizer.chat_template = None` says that
            raw text is meant). What else may surprise about the tokens is warned of, too.
        max_length: longest prompt + response, in tokens; default what the model was made for.
            Longer pairs are left out, never truncated: `table.attrs["left_out"]` (id ->
            reason) names them, and a warning says how many.
        path: "auto", "packed" or "padded" (see `nbkit.logprobs.engine`); the numbers are the same.
        budget: most tokens in a forward pass; default by device.
        cache: folder in which finished pairs are kept by content. Run the same call again after
            an interruption, and only what is missing is scored.
        progress: show a progress bar for work of more than a second.

    Returns:
        DataFrame indexed by pair `id`, in the order of `pairs`: `chosen_logp, rejected_logp`
        (nats, summed, float64; accumulated in float64), `chosen_tokens, rejected_tokens`
        (scored tokens) and `tokens_hash`, which tells the tokens that were scored from others
        under the same id. `table.attrs["policy"]` and `["dtype"]` say what scored.

    Raises:
        ValueError: no pairs; an id twice; a tokenizer that does not fit; a chat template that
            refuses a pair; a path that the model cannot take; a model that computes no numbers
            (NaN weights, overflow in float16). What was scored before stays in the cache.
        OSError: nothing can be kept in `cache`. Found before anything is scored.

    Example:
        >>> import nbkit as nb
        >>> policy, pairs = nb.load_policy("world/small"), nb.world.pairs(2)
        >>> table = nb.response_logprobs(policy, pairs)
        >>> table[["chosen_logp", "rejected_logp", "chosen_tokens"]].round(2)
                                   chosen_logp  rejected_logp  chosen_tokens
        id
        train-0-00000-coin-ray           -4.33          -3.64              2
        train-0-00001-drawing-hal        -3.19          -6.41             10
    """
    policy, budget = as_policy(policy), as_limit(budget, "budget")
    token_pairs, left_out = tokenize(policy, pairs, max_length)
    table = logprob_table(
        policy, token_pairs, path=path, budget=budget, cache=cache, try_cache=True,
        progress=progress,
    )  # fmt: skip
    table.attrs.update(policy=policy.name, dtype=str(policy.dtype), left_out=left_out)
    return table


def logprob_table(
    policy: Policy,
    token_pairs: list[TokenPair],
    *,
    path: str = "auto",
    budget: int | None = None,
    cache: str | Path | None = None,
    try_cache: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """The table of `response_logprobs`, for pairs that are token ids already (`tokenize`). With
    `try_cache` a cache that cannot be written is refused, if there is anything to score; without,
    as one pass among others, it is a warning and the pass goes on."""
    store = LogprobCache(cache, policy) if cache is not None else None
    sums = _Sums(policy, token_pairs, store)
    todo = np.array(sums.missing(), dtype=int)
    if cache is not None and try_cache and len(todo):
        try_folder(cache)
    try:
        with tqdm(
            total=len(token_pairs), initial=len(token_pairs) - len(todo), unit=" pairs",
            desc=f"log-probs, {policy.name}", delay=1, disable=not progress,
        ) as bar:  # fmt: skip
            for scored in score_tokens(
                policy, [token_pairs[i] for i in todo], path=path, budget=budget
            ):
                sums.add(scored, todo)
                bar.update(len(scored.pairs))
    finally:
        sums.flush()
    return sums.table()


def token_logprobs(policy: Policy, pairs: Pairs, *, max_length: int | None = None) -> pd.DataFrame:
    """Log-prob of each response token: what `response_logprobs` sums.

    Args:
        policy: the policy that scores.
        pairs: as of `response_logprobs`.
        max_length: longest prompt + response, in tokens; as of `response_logprobs`.

    Returns:
        tidy DataFrame with columns `id, side ("chosen" or "rejected"), position (0 is the first
        response token), token (its text), token_id, logp` (nats), in the order of `pairs`.

    Raises:
        ValueError: as of `response_logprobs`.

    Example:
        >>> import nbkit as nb
        >>> tokens = nb.token_logprobs(nb.load_policy("world/small"), nb.world.pairs(1))
        >>> tokens[["side", "position", "token", "logp"]].head(4).round(2)
               side  position  token  logp
        0    chosen         0   ibis -3.28
        1    chosen         1  <eos> -1.05
        2  rejected         0  happy -1.65
        3  rejected         1     to -0.00
    """
    policy = as_policy(policy)
    token_pairs, _ = tokenize(policy, pairs, max_length)
    frames = {}
    for scored in score_tokens(policy, token_pairs):
        check_finite(policy, token_pairs, scored)
        for i in scored.pairs:
            pair = token_pairs[i]
            for n, (side, ids) in enumerate((("chosen", pair.chosen), ("rejected", pair.rejected))):
                first = pair.first_scored
                frames[2 * i + n] = pd.DataFrame(
                    dict(
                        id=pair.id,
                        side=side,
                        position=range(first, len(ids)),
                        token=token_pieces(policy.tokenizer, ids[first:]),
                        token_id=ids[first:],
                        logp=scored.logps[scored.owners == 2 * i + n].double().numpy(),
                    )
                )
    if not frames:  # every pair was left out
        return pd.DataFrame(columns=["id", "side", "position", "token", "token_id", "logp"])
    return pd.concat([frames[i] for i in sorted(frames)], ignore_index=True)


class _Sums:
    """The table as it grows: sums and counts by pair, and the parts that go to the cache."""

    def __init__(
        self, policy: Policy, token_pairs: list[TokenPair], store: LogprobCache | None
    ) -> None:
        self.policy, self.pairs = policy, token_pairs
        self.logp = np.zeros((len(token_pairs), 2))
        self.tokens = np.zeros((len(token_pairs), 2), int)
        self.store, self.written_at = store, time.monotonic()
        self.unwritten: list[int] = []
        self.keys = [hash_pair(p) for p in token_pairs] if store else []

    def missing(self) -> list[int]:
        """Pairs to score; those found in the cache are filled in."""
        known = self.store.load() if self.store else pd.DataFrame()
        if not len(known):
            return list(range(len(self.pairs)))
        rows = known.index.get_indexer(pd.Index(self.keys))
        self.logp[rows >= 0] = known[LOGPS].to_numpy()[rows[rows >= 0]]
        self.tokens[rows >= 0] = known[COUNTS].to_numpy()[rows[rows >= 0]]
        return np.flatnonzero(rows < 0).tolist()

    def add(self, scored: Scored, positions: np.ndarray) -> None:
        """Add one forward pass; `positions` maps its pair numbers to rows of the table."""
        check_finite(self.policy, self.pairs, scored, positions)
        owners = scored.owners.numpy()
        row, side = positions[owners // 2], owners % 2
        np.add.at(self.logp, (row, side), scored.logps.double().numpy())
        np.add.at(self.tokens, (row, side), 1)
        if self.store:
            self.unwritten += [positions[i] for i in scored.pairs]
            if time.monotonic() - self.written_at > SECONDS_BETWEEN_PARTS:
                self.flush()

    def flush(self) -> None:
        if self.store and self.unwritten:
            keys = [self.keys[i] for i in self.unwritten]
            self.store.write(self._numbers().iloc[self.unwritten].set_axis(keys))
            self.unwritten, self.written_at = [], time.monotonic()

    def table(self) -> pd.DataFrame:
        hashes = np.array([p.tokens_hash for p in self.pairs], dtype=np.int64)
        ids = pd.Index([p.id for p in self.pairs], name="id")
        return self._numbers().assign(tokens_hash=hashes).set_axis(ids)

    def _numbers(self) -> pd.DataFrame:
        columns = zip([*LOGPS, *COUNTS], [*self.logp.T, *self.tokens.T], strict=True)
        return pd.DataFrame(dict(columns))
