# The public surface of nbkit: every name, and the module that defines it. Editors and type checkers
# read this file, and so does `__init__.py`.

from . import course, plots, scores, select, widgets, world
from .agreement import jaccard, overlap, rank_correlation
from .estimates import (
    Estimate,
    correlation_interval,
    mean_interval,
    paired_gain,
    parabola_peak,
    seed_interval,
)
from .evaluate import preference_accuracy, win_rate, wins
from .experiments import selfplay
from .experiments.comparison import compare
from .experiments.crossfit import cross_fitted_losses, folds, validation_loss
from .experiments.gains import gain
from .experiments.jobs import at_once
from .judges import RewardModel, load_reward_model, reward_scores
from .logprobs.table import response_logprobs, token_logprobs
from .models.lora import add_lora
from .models.policy import Policy, load_policy
from .pairs.checks import BadPairs
from .pairs.labels import coin_labels, flip_labels
from .pairs.load import load_pairs
from .sampling import sample
from .tokens.ids import tokenize_pairs
from .train.dpo import train_dpo
from .train.reward import train_reward_model

__version__: str
__all__ = [
    "BadPairs",
    "Estimate",
    "Policy",
    "RewardModel",
    "add_lora",
    "at_once",
    "coin_labels",
    "compare",
    "correlation_interval",
    "course",
    "cross_fitted_losses",
    "flip_labels",
    "folds",
    "gain",
    "jaccard",
    "load_pairs",
    "load_policy",
    "load_reward_model",
    "mean_interval",
    "overlap",
    "paired_gain",
    "parabola_peak",
    "plots",
    "preference_accuracy",
    "rank_correlation",
    "response_logprobs",
    "reward_scores",
    "sample",
    "scores",
    "seed_interval",
    "select",
    "selfplay",
    "token_logprobs",
    "tokenize_pairs",
    "train_dpo",
    "train_reward_model",
    "validation_loss",
    "widgets",
    "win_rate",
    "wins",
    "world",
]
