"""Single tokens as coloured boxes, in HTML.

Tokens come from data that others wrote, so every one is escaped before it reaches the page, and
characters that cannot be seen (newlines, spaces, controls) are made visible. Each box sets its
own text colour, so that it can be read in a light and in a dark theme.
"""

from collections.abc import Collection, Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from nbkit.inputs import as_count, as_number
from nbkit.left_out import some

TOKEN_COLUMNS = ["id", "side", "position", "token", "logp"]
VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥"}

# Less likely, equal, more likely than under the reference: purple, white, green (colour-blind
# safe, and neither the blue of chosen nor the orange of rejected).
LESS, EQUAL, MORE = (118, 42, 131), (247, 247, 247), (27, 120, 55)

BOX = "display:inline-block;margin:1px;padding:1px 4px;border-radius:3px;unicode-bidi:isolate;"
PARTS = {
    "special": "background:#fff3bf;color:#222;",
    "prompt": "background:#e4e4e4;color:#222;",
    "response": "background:#cfe8f9;color:#222;",
}
SCORED = "border:2px solid #0173b2;font-weight:bold;"
NOT_SCORED = "border:2px dashed #999;"


def token_view(
    policy_tokens: pd.DataFrame,
    reference_tokens: pd.DataFrame,
    pair_id: str,
    *,
    limit: float | None = None,
) -> HTML:
    """A pair's two responses, each token coloured by its log-ratio.

    log-ratio = log-prob under the policy minus log-prob under the reference (nats): green tokens
    became more likely, purple ones less. Pointing at a token shows its numbers.

    Args:
        policy_tokens, reference_tokens: DataFrames as `nbkit.token_logprobs` returns them, with
            columns `id, side, position, token, logp`, over the same tokens.
        pair_id: which pair to show.
        limit: log-ratio (nats) at which the colour is full; default: the largest of this pair.

    Example:
        >>> import pandas as pd
        >>> import nbkit as nb
        >>> reference = pd.DataFrame(
        ...     dict(id="a", side=["chosen", "rejected"], position=0, token=["A", "B"], logp=-1.0)
        ... )
        >>> view = nb.plots.token_view(reference.assign(logp=[-0.5, -2.0]), reference, "a")
        >>> "summed log-ratio +0.50 nats over 1 tokens" in view.data
        True
    """
    tokens = _join(policy_tokens, reference_tokens, pair_id)
    if limit is None:
        limit = max(tokens["log_ratio"].abs().max(), 1e-6)
    limit = as_number(limit, "limit", above=0)
    rows = []
    for side in ("chosen", "rejected"):
        part = tokens[tokens["side"] == side]
        boxes = "".join(_ratio_box(token, limit) for token in part.itertuples())
        total = f"{part['log_ratio'].sum():+.2f} nats over {len(part)} tokens"
        rows.append(f"<p><b>{side}</b>: summed log-ratio {total}<br>{boxes}</p>")
    return HTML(
        f"<div><p>pair <b>{escape(str(pair_id))}</b></p>{''.join(rows)}{_ratio_legend(limit)}</div>"
    )


def mask_view(
    tokens: Sequence[str],
    prompt_length: int,
    scored: Iterable[object],
    *,
    special: Collection[str] = (),
) -> HTML:
    """One row's tokens as boxes: special, prompt or response, and which ones are scored.

    Args:
        tokens: the row's tokens as text, [length]: prompt first, then response.
        prompt_length: how many of them are the prompt.
        scored: whether each token's log-prob is counted, [length]; or a mask over label positions,
            [length - 1], whose entry t belongs to token t + 1 (the one that position t predicts).
        special: tokens to draw as special, e.g. `tokenizer.all_special_tokens`.

    Example:
        >>> import nbkit as nb
        >>> view = nb.plots.mask_view(["A", "river", "?", "Nile"], 3, scored=[0, 0, 0, 1])
        >>> "1 of 4 tokens are scored" in view.data
        True
    """
    tokens, counted = list(tokens), [bool(value) for value in scored]
    if not tokens:
        raise ValueError("mask_view got no tokens.")
    if other := [token for token in tokens if not isinstance(token, str)]:
        raise TypeError(f"mask_view takes tokens as text, got {some(other)} among them.")
    if not 0 <= as_count(prompt_length, "prompt_length", least=0) <= len(tokens):
        raise ValueError(
            f"prompt_length is {prompt_length}; expected 0 to {len(tokens)}, as there are "
            f"{len(tokens)} tokens."
        )
    if len(counted) not in (len(tokens), len(tokens) - 1):
        raise ValueError(
            f"The mask has {len(counted)} entries for {len(tokens)} tokens; expected {len(tokens)} "
            f"(one a token) or {len(tokens) - 1} (one a label position)."
        )
    if len(counted) < len(tokens):
        counted = [False, *counted]
    boxes = []
    for position, (token, counts) in enumerate(zip(tokens, counted, strict=True)):
        part = "prompt" if position < prompt_length else "response"
        part = "special" if token in special else part
        says = f"position {position}, {part}, {'scored' if counts else 'not scored'}"
        boxes.append(_box(token, PARTS[part] + (SCORED if counts else NOT_SCORED), says))
    summary = f"{sum(counted)} of {len(tokens)} tokens are scored"
    return HTML(f"<div><p>{''.join(boxes)}</p><p>{_mask_legend()} {summary}</p></div>")


def _join(
    policy_tokens: pd.DataFrame, reference_tokens: pd.DataFrame, pair_id: str
) -> pd.DataFrame:
    """This pair's tokens with policy, reference (log-probs) and log_ratio, checked to match."""
    sides = []
    for name, frame in (("policy_tokens", policy_tokens), ("reference_tokens", reference_tokens)):
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(
                f"{name} is a {type(frame).__name__}; expected a DataFrame with "
                f"columns {TOKEN_COLUMNS}."
            )
        missing = [column for column in TOKEN_COLUMNS if column not in frame.columns]
        if missing:
            raise ValueError(
                f"{name} has no columns {missing}. Came: {list(frame.columns)}; "
                f"expected {TOKEN_COLUMNS}, as token_logprobs returns them."
            )
        mine = frame.loc[frame["id"] == pair_id, TOKEN_COLUMNS[1:]]
        if mine.empty:
            known = list(frame["id"].unique()[:3])
            raise ValueError(
                f"{name} has no pair {pair_id!r}; it has {frame['id'].nunique()} pairs: {known} ..."
            )
        sides.append(mine.sort_values(["side", "position"]).reset_index(drop=True))
    policy, reference = sides
    if not policy[["side", "position", "token"]].equals(reference[["side", "position", "token"]]):
        raise ValueError(
            f"The tokens of pair {pair_id!r} differ between policy ({len(policy)} tokens) and "
            f"reference ({len(reference)}); expected both to be scored with one tokenizer."
        )
    policy = policy.rename(columns={"logp": "policy"})
    policy["reference"] = reference["logp"]
    policy["log_ratio"] = policy["policy"] - policy["reference"]
    if not np.isfinite(policy["log_ratio"]).all():
        raise ValueError(f"A token of pair {pair_id!r} has a log-prob that is not finite.")
    return policy


def _ratio_box(token: Any, limit: float) -> str:
    says = (
        f"position {token.position}: policy {token.policy:.3f}, reference "
        f"{token.reference:.3f}, log-ratio {token.log_ratio:+.3f} nats"
    )
    return _box(token.token, _ratio_color(token.log_ratio, limit), says)


def _ratio_color(log_ratio: float, limit: float) -> str:
    strength = min(abs(log_ratio) / limit, 1)
    end = MORE if log_ratio > 0 else LESS
    red, green, blue = (round(a + (b - a) * strength) for a, b in zip(EQUAL, end, strict=True))
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    text = "#111" if bright else "#fff"
    return f"background:rgb({red},{green},{blue});color:{text};border:1px solid #bbb;"


def _ratio_legend(limit: float) -> str:
    less, equal, more = (f"rgb{color}" for color in (LESS, EQUAL, MORE))
    bar = (
        "display:inline-block;width:160px;height:0.9em;vertical-align:middle;"
        f"background:linear-gradient(to right,{less},{equal},{more});"
    )
    return (
        f"<p>less likely than under the reference &minus;{limit:.2f} "
        f'<span style="{bar}"></span> +{limit:.2f} nats more likely</p>'
    )


def _mask_legend() -> str:
    parts = "".join(
        _box(part, style + "border:2px solid transparent;", part) for part, style in PARTS.items()
    )
    plain = "background:#fff;color:#222;"
    scored = _box("scored", plain + SCORED, "scored")
    return parts + scored + _box("not scored", plain + NOT_SCORED, "not scored").replace("␣", " ")


def _box(token: str, style: str, says: str) -> str:
    return f'<span style="{BOX}{style}" title="{escape(says)}">{_visible(token)}</span>'


def _visible(token: str) -> str:
    """The token's text, safe in HTML, with what cannot be seen made visible."""
    if token == "":
        return "∅"
    shown = [
        VISIBLE[char]
        if char in VISIBLE
        else char
        if char.isprintable()
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in token
    ]
    return escape("".join(shown))
