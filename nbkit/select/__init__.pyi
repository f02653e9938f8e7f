from .controls import random, random_matched
from .ranked import both, central, easiest, hardest, middle, top

__all__ = [
    "both",
    "central",
    "easiest",
    "hardest",
    "middle",
    "random",
    "random_matched",
    "top",
]
