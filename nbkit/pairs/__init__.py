"""Preference pairs come in here: one function, one shape out.

`load_pairs` turns a file, a hub data set, a DataFrame, a list or a `datasets.Dataset` into a
`datasets.Dataset` with the columns `id, prompt, chosen, rejected`, and where the source has them
`chosen_score, rejected_score`. Files of this package, in the order in which a row meets them:

    sources.py   reads the source into columns
    layouts.py   recognises the layout and brings every row into prompt, chosen, rejected
    checks.py    finds what is wrong with a row, and words the one error about it

And pairs with other labels, as controls: `flip_labels`, `coin_labels` (labels.py).
"""

from nbkit.pairs.checks import BadPairs
from nbkit.pairs.labels import coin_labels, flip_labels
from nbkit.pairs.layouts import UnknownLayout
from nbkit.pairs.load import content_id, load_pairs

__all__ = [
    "BadPairs",
    "UnknownLayout",
    "coin_labels",
    "content_id",
    "flip_labels",
    "load_pairs",
]
