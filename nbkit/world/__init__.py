"""The embedded world: 768 facts, a reward, four writers, a noisy judge, three tiny policies.

    pairs = world.pairs(3200)            # preference pairs, with the truth beside them
    prompts = world.prompts(192)         # to evaluate on: facts that are in no pair
    world.reward("pet of mia ?", "sure thing . dog")
    world.facts()                        # everything there is to know, as a DataFrame

The policies are `load_policy("world/small")`, `"world/medium"`, `"world/large"`. How all of it was
made, what was searched for and what does not hold is in this folder's README.md.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
