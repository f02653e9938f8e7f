"""Checks of what learners write: `check_x(my_function)` says passed, not attempted, or a hint.

Files::

    checking.py   how a function is run on fresh cases and a usual mistake is recognised
    tour.py       lesson 00: selecting the easiest half, win rate
    logprobs.py   lesson 01: response mask, log-prob of a response, implicit margin
    dpo.py        lesson 02: DPO loss, its gradient weight, likelihood displacement
    difficulty.py lesson 03: learned step, Jaccard index by chance
    crossfit.py   lesson 03: the leak of a split, validation loss
    selective.py  lesson 04: equal updates, paired gain, peak of the parabola
    margins.py    lesson 05: Bradley-Terry loss, margin per token, contradictions
    potential.py  lesson 06: alignment potential, tie weight, residual weight
    influence.py  lesson 07: slope of a loss, central difference, flipped label, LDS
    truncation.py lesson 08: truncation, LossDiff, overlap by chance, change of sides
    selfplay.py   lesson 10: best against worst, evolved prompts worth asking, hacked round
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
