"""Selections: ordered lists of pair ids, made from scores.

A score is a pandas Series of numbers indexed by pair id; `share` is a fraction (a float in (0, 1])
or a count (an int): 1.0 keeps all pairs, 1 keeps one. Pairs whose score is NaN are never selected,
infinite ones are ranked like any other. Ties are broken by `ties`, another score,
and then by id, so that a selection does not depend on the order of the data set. A score with many
ties, such as a learned step of which half is infinite, needs `ties`: cut by id, two selections that
have nothing in common look alike. The first id of a selection is the one that fits it
best: `order="given"` in `nbkit.train_dpo` trains in that order.

Files::

    ranked.py     by rank: easiest, hardest, top, middle, central, both
    controls.py   by chance: random, random_matched
    series.py     scores as they come
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
