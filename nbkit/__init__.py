"""nbkit: which preference pairs should a language model be trained on?

    import nbkit as nb

    pairs = nb.world.pairs(1600)                       # or nb.load_pairs("my_prefs.jsonl")
    policy = nb.load_policy("world/medium")            # or a folder, or a hub id
    table = nb.response_logprobs(policy, pairs)        # what every score is made from
    run = nb.train_dpo(policy, pairs, **nb.world.DPO["medium"])

The public names, and where each is defined, are listed in `__init__.pyi`. They are loaded when they
are first used, so that `import nbkit` is instant.
"""

import lazy_loader

__version__ = "0.3.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
