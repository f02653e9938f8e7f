"""nbkit: which preference pairs should a language model be trained on?

    import nbkit as nb

    pairs = nb.world.pairs(1600)                       # or nb.load_pairs("my_prefs.jsonl")
    policy = nb.load_policy("world/medium")            # or a folder, or a hub id
    table = nb.response_logprobs(policy, pairs)        # what every score is made from
    run = nb.train_dpo(policy, pairs, **nb.world.DPO["medium"])

Names are loaded when they are first used, so that `import nbkit` is instant.
"""

from importlib import import_module

__version__ = "0.2.0"

# public name -> the module that defines it (a module stands for itself)
_HOME = {
    "load_pairs": "nbkit.pairs",
    "BadPairs": "nbkit.pairs",
    "coin_labels": "nbkit.pairs",
    "flip_labels": "nbkit.pairs",
    "Policy": "nbkit.models",
    "load_policy": "nbkit.models",
    "add_lora": "nbkit.models",
    "tokenize_pairs": "nbkit.tokens",
    "response_logprobs": "nbkit.logprobs",
    "token_logprobs": "nbkit.logprobs",
    "train_dpo": "nbkit.train",
    "train_reward_model": "nbkit.train",
    "sample": "nbkit.sampling",
    "win_rate": "nbkit.evaluate",
    "wins": "nbkit.evaluate",
    "preference_accuracy": "nbkit.evaluate",
    "mean_interval": "nbkit.intervals",
    "seed_interval": "nbkit.intervals",
    "correlation_interval": "nbkit.intervals",
    "paired_gain": "nbkit.intervals",
    "parabola_peak": "nbkit.intervals",
    "rank_correlation": "nbkit.agreement",
    "jaccard": "nbkit.agreement",
    "overlap": "nbkit.agreement",
    "RewardModel": "nbkit.rewards",
    "load_reward_model": "nbkit.rewards",
    "reward_scores": "nbkit.rewards",
    "compare": "nbkit.experiments",
    "gain": "nbkit.experiments",
    "at_once": "nbkit.workers",
    "profile": "nbkit.profiles",
    "readiness": "nbkit.machine",
}
_MODULES = ("exercises", "plots", "scores", "select", "selfplay", "widgets", "world")

__all__ = [*_HOME, *_MODULES]


def __getattr__(name):
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = import_module(f"nbkit.{name}")
    else:
        raise AttributeError(f"nbkit has no {name!r}; it has {', '.join(sorted(__all__))}")
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
