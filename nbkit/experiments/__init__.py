"""Experiments: many models are trained, and compared.

Files::

    jobs.py         independent trainings in several processes
    crossfit.py     validation loss: each pair scored by models that were not trained on it
    comparison.py   `compare`: train on each selection, and judge what came out
    trials.py       what `compare` trains, on which pairs
    gains.py        `gain`: how much better a selection did than another
    judging.py      what `compare` finds a run's answers to be
    arguments.py    arguments that they share
    kept.py         runs that are kept on disk
    selfplay/       a policy makes its own preference pairs, and a selection decides
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["selfplay"])
