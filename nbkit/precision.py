"""How far from exact a log-prob is that was made in a given precision."""

from __future__ import annotations

import numpy as np
import torch

# Rms error of one token's log-prob, nats: what rounding does in the forward pass of a model, of
# given weights, against the same pass in float64. Errors of tokens are nearly independent. Measured
# on the world's and on random models; larger models stay within a factor of 3.
NOISE = {
    torch.float64: 1e-14,
    torch.float32: 2e-6,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}


def scoring_noise(dtype: torch.dtype | str, tokens):
    """Rough rms error, in nats, of a log-prob summed over `tokens` response tokens (a number, or an
    array of them) that a model in `dtype` (torch's, or its name) computed.

    Differences below it, between two log-probs, say nothing.
    """
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype.removeprefix("torch."))
    noise = NOISE[dtype] * np.sqrt(tokens)
    return float(noise) if np.ndim(noise) == 0 else noise
