"""Scores of pairs. Each returns a pandas Series named after the method and indexed by pair id.

Files::

    same_pairs.py   tables over the same pairs, scores of the same pairs
    margins.py      margins and losses, from log-prob tables
    difficulty.py   learned step and data map, from a training trace; perplexity, length
    potential.py    alignment potential and BeeS, from an explicit and an implicit margin
    influences.py   influence on a validation loss
    truncation.py   influence truncated, and what stands in for it: LossDiff and IRM
    displacement.py CHES, from hidden states

None of them trains a model: `nbkit.validation_loss`, the score that does, is an experiment.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
