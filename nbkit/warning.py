"""Warnings, said of the line of the user's that led to them."""

from __future__ import annotations

import sys
import warnings

PASSED_OVER = ("nbkit", "contextlib")  # a `with` block runs through contextlib


def warn(message: str) -> None:
    """Warn of the nearest line outside nbkit, so that Python says the same but once for each line,
    and the user sees which of theirs it was."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in PASSED_OVER:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
