"""A forward pass over a packed row: each response attends to its prompt and to itself only."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface

from nbkit.logprobs.packing import PackedRow

ATTENTION = "nbkit_packed"
# What models hand to their attention that changes its result (gpt-oss: sinks; Gemma 2: softcap).
CHANGES_ATTENTION = ("s_aux", "softcap", "position_bias")
_current = threading.local()


def packed_states(
    model: Any,
    row: PackedRow,
    *,
    inputs: dict | None = None,
    backbone: Any = None,
    fused: bool = True,
) -> torch.Tensor:
    """Last hidden states that predict the scored tokens of a packed row: [S, d].

    Args:
        model: a transformers causal LM.
        row: on the model's device.
        inputs: of the backbone, instead of `input_ids`.
        backbone: what is called instead of `model.base_model`.
        fused: False computes attention from single operations only: slower, and differentiable in
            forward mode too.
    """
    inputs = inputs or dict(input_ids=row.input_ids)
    with packed_attention(model, row, fused):
        hidden = (backbone or model.base_model)(
            position_ids=row.position_ids, use_cache=False, **inputs
        ).last_hidden_state[0]
    return hidden[row.predictors]


@contextlib.contextmanager
def packed_attention(model: Any, row: PackedRow, fused: bool = True) -> Iterator[None]:
    """Inside the block, `model` (a transformers model) attends as `row` is packed."""
    _current.row, _current.layout, _current.fused = row, None, fused
    try:
        with attention(model, ATTENTION):
            with contextlib.nullcontext() if fused else sdpa_kernel(SDPBackend.MATH):
                yield
    finally:
        _current.row = _current.layout = None


@contextlib.contextmanager
def attention(model: Any, name: str) -> Iterator[None]:
    """Inside the block, `model` takes the attention that transformers knows by this name."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


def attend_packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface over a packed row.

    query [1, heads, T, d], key and value [1, kv heads, T, d] -> output [1, T, heads, d], None.
    """
    if unknown := sorted(name for name in CHANGES_ATTENTION if kwargs.get(name) is not None):
        raise NotImplementedError(f"packed attention knows no {', '.join(unknown)}")
    row = _current.row
    if _current.fused and _has_varlen(query):
        if _current.layout is None:  # made at the first layer, used by all
            _current.layout = varlen_layout(row)
        return _attend_varlen(_current.layout, query, key, value, scaling), None
    gqa = query.shape[1] != key.shape[1]
    pieces = []  # [1, rows, heads, d], in the order of the row
    for segment in row.segments:
        prompt = slice(segment.start, segment.start + segment.prompt)
        for n, own in enumerate(segment.response_slices()):
            attended = _prompt_and_response if n == 0 or _shorter(prompt, own) else _response_only
            y = attended(query, key, value, prompt, own, scale=scaling, enable_gqa=gqa)
            rows = own.stop - own.start + (segment.prompt if n == 0 else 0)
            pieces.append(y[:, :, -rows:].transpose(1, 2))
    return torch.cat(pieces, dim=1), None


AttentionInterface.register(ATTENTION, attend_packed)


def varlen_serves(device: str, dtype: torch.dtype, capability: tuple[int, int]) -> bool:
    """Whether variable-length attention has a kernel: in half precision, on CUDA devices since
    Ampere (a T4 has none)."""
    half = dtype in (torch.float16, torch.bfloat16)
    return device == "cuda" and half and capability >= (8, 0)


def _has_varlen(query: torch.Tensor) -> bool:
    capability = torch.cuda.get_device_capability(query.device) if query.is_cuda else (0, 0)
    return varlen_serves(query.device.type, query.dtype, capability)


@dataclass(frozen=True)
class VarlenLayout:
    """A packed row as variable-length attention wants it. Queries are the row as it lies: prompt +
    first response, then each later response. Keys are gathered (`keys`, long), so that each query
    sequence has prompt + its own response, aligned at the last token."""

    keys: torch.Tensor
    query_ends: torch.Tensor
    key_ends: torch.Tensor
    longest_query: int
    longest_key: int


def varlen_layout(row: PackedRow) -> VarlenLayout:
    """The variable-length layout of `row`; ends are int32 cumulative lengths from 0."""
    keys, query_lengths, key_lengths = [], [], []
    for segment in row.segments:
        prompt = range(segment.start, segment.start + segment.prompt)
        for n, own in enumerate(segment.response_slices()):
            length = own.stop - own.start
            keys += [*prompt, *range(own.start, own.stop)]
            query_lengths.append(length + (segment.prompt if n == 0 else 0))
            key_lengths.append(length + segment.prompt)
    device = row.input_ids.device

    def ends(lengths: list[int]) -> torch.Tensor:
        cumulative = list(accumulate(lengths, initial=0))
        return torch.tensor(cumulative, dtype=torch.int32, device=device)

    return VarlenLayout(
        torch.tensor(keys, device=device), ends(query_lengths), ends(key_lengths),
        max(query_lengths), max(key_lengths),
    )  # fmt: skip


def _attend_varlen(
    layout: VarlenLayout,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
) -> torch.Tensor:
    """One flash-attention call for the whole row, where `varlen_serves`."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, heads, d]
    key, value = key[layout.keys], value[layout.keys]
    options: dict[str, Any] = dict(scale=scaling, window_size=(-1, 0))
    if (groups := query.shape[1] // key.shape[1]) > 1:
        if _takes_groups(varlen_attn):
            options["enable_gqa"] = True
        else:
            key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    out: Any = varlen_attn(
        query.contiguous(), key, value,
        layout.query_ends, layout.key_ends, layout.longest_query, layout.longest_key, **options,
    )  # fmt: skip
    return out[None]


@functools.cache
def _takes_groups(varlen_attn: Callable) -> bool:
    """Whether it takes fewer key heads than query heads: from torch 2.12 on."""
    return "enable_gqa" in inspect.signature(varlen_attn).parameters


def _shorter(a: slice, b: slice) -> bool:
    return a.stop - a.start < b.stop - b.start


def _rows(x: torch.Tensor, prompt: slice, own: slice) -> torch.Tensor:
    """Rows `prompt` and `own` of [1, heads, T, d], one after the other."""
    if own.start == prompt.stop:
        return x[:, :, prompt.start : own.stop]
    return torch.cat([x[:, :, prompt], x[:, :, own]], dim=2)


def _prompt_and_response(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    prompt: slice,
    own: slice,
    **options: Any,
) -> torch.Tensor:
    """Causal attention over prompt + response. For a later response the prompt's own rows are
    computed once more: with a short prompt that costs less than a masked square."""
    q, k, v = (_rows(x, prompt, own) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, **options)


def _response_only(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    prompt: slice,
    own: slice,
    **options: Any,
) -> torch.Tensor:
    """Attention of the response's rows over prompt + response."""
    k, v = (_rows(x, prompt, own) for x in (key, value))
    rows, columns = own.stop - own.start, k.shape[2]
    mask = torch.ones(rows, columns, dtype=torch.bool, device=query.device).tril(columns - rows)
    return F.scaled_dot_product_attention(query[:, :, own], k, v, attn_mask=mask, **options)
