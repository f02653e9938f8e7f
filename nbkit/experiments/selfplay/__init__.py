"""Self-play: a policy makes its own preference pairs, and a selection decides which to learn from.

Files::

    steps.py   the steps of a round as plain functions: answer, best_and_worst, evolve, ...
    loop.py    `self_play`: rounds of them, resumed after an interruption
    kept.py    what it keeps on disk
    plays.py   `compare_plays`: several self-plays, judged after each round, as one tidy table
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
