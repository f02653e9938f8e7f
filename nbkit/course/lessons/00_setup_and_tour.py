# %% [markdown]
# A language model that has been taught to follow instructions is often *aligned* afterwards with
# **preference pairs**: a prompt, a response that somebody chose, and one they rejected. There are
# usually more pairs than are good for the model: some are mislabelled, some teach what it knows
# already, some are beyond it. This course is about **which pairs to train on**.
#
# **You will be able to**
# - tell whether this machine is ready for the course,
# - load pairs, score them, select some, train on them with DPO, and measure whether it helped,
# - say why a selection is compared with a random one of the same size, over several seeds.
#
# **You need** Python and a little pandas. No GPU, no network, no account: the models, the data
# and the judge are in the package. **On a GPU** nothing changes here; lesson 11 points these
# cells at your own model and data.

# %% tags=["setup"]
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.course.profile()
size = p.pick(quick="small", full="medium")

# %% [markdown]
# ## Does it run here?
# A FAIL comes with its remedy. A NOTE works, and is worth knowing: on a laptop two of them (the
# device, and what would be slow) are normal.

# %%
nb.course.readiness()

# %% [markdown]
# ## The whole story in five cells
# ### 1. Load the pairs
# The data come from a small world that ships with the package: questions about 768 facts, each
# answered by four writers of different skill, and a judge who scores the answers with some noise.
# The higher score is `chosen`. Because we made the world, we also know the truth: `flipped` marks
# pairs that the judge got wrong. (Your own pairs: `nb.load_pairs("my_prefs.jsonl")`.)

# %%
pairs = world.pairs(p.pairs, seed=0)
columns = ["prompt", "chosen", "rejected", "chosen_score", "rejected_score", "flipped"]
pd.DataFrame(pairs[:6])[columns]

# %% [markdown]
# **Read the first one aloud.** Which answer would you have chosen? And what does the true reward
# pay for: the right animal, the tone, or both?

# %%
first, sides = pairs[0], ["chosen", "rejected"]
pd.DataFrame([world.grade(first["prompt"], first[side]) for side in sides], index=sides)

# %% [markdown]
# Both: 2 for the right animal, up to half a point more or less for the tone of the opening, a
# little for the closing. The judge sees this reward with an error, so its scores can lie above the
# largest reward there is, and it can choose the worse answer: this is such a pair.

# %% [markdown]
# ### 2. Score them
# One pass of the model over all pairs gives its **log-probs**: the natural logarithm of the
# probability that it would have written each response (the unit is the *nat*; 0 is certain).
# Everything else in this course is made from tables like this one. (`tokens_hash` is a fingerprint
# of the texts: it keeps tables of different texts apart.)

# %%
import torch

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
policy = nb.load_policy(f"world/{size}")
logps = nb.response_logprobs(policy, pairs)
logps.head(3)

# %% [markdown]
# Two margins follow, both "chosen minus rejected". The **explicit** one is the judge's: how sure
# is the label? The **implicit** one is the model's, per token: how much likelier does it find that
# response? A pair has **alignment potential** when the judge is sure and the model undecided: a
# large explicit margin, a small *size* of the implicit one (`abs`: a strong preference for the
# wrong side counts as decided too, and lesson 6 asks whether it should). The idea is that of
# arXiv 2503.01864; the z-scores and the per-token margin are its authors' released code, which
# keeps 40% of the pairs. We keep half.

# %%
def zscore(margin):
    return (margin - margin.mean()) / margin.std()

explicit = nb.scores.explicit_margin(pairs)
implicit = nb.scores.length_normalized_margin(logps)
potential = zscore(explicit) - zscore(implicit.abs())

# %% [markdown]
# ### 3. Select half, and draw a random half as control
# **Predict:** will the selected half hold fewer mislabelled pairs than a random half? And than the
# half with the largest explicit margins alone? No score looks at the truth.

# %%
keep = nb.select.top(potential, 0.5)
by_judge = nb.select.top(explicit, 0.5)
control = nb.select.random(keep, pairs, seed=0)

flipped = pd.Series(pairs["flipped"], index=pairs["id"])
pd.DataFrame(
    {name: {"pairs": len(ids), "mislabelled": f"{flipped[ids].mean():.1%}"}
     for name, ids in {"potential": keep, "judge alone": by_judge, "random": control}.items()}
).T

# %% [markdown]
# Most of this is the judge's own confidence: when its two scores are far apart, its error rarely
# turns them around. What the implicit part adds is another question. Below, both are trained on.

# %% [markdown]
# ### 4. Train
# DPO raises the likelihood of the chosen response against the rejected one, relative to where the
# model started (lesson 2). At work here is the trainer of TRL, Hugging Face's library for
# preference training, on the CPU.

# %%
run = nb.train_dpo(policy, pairs, keep=keep, **world.DPO[size])
run.history[["step", "loss", "margin", "accuracy"]].tail(3).round(3)

# %% [markdown]
# ### 5. Did it help?
# Old and new model answer questions about facts that no training pair mentions. The world's own
# reward says who wins; a tie counts one half. (The interval takes the prompts as independent;
# they are 192 questions, asked several times, so it is a little too narrow.)

# %%
prompts = world.prompts(p.prompts, seed=0)
result = nb.win_rate(run.policy, policy, prompts, world.reward, max_new_tokens=16)
result

# %%
result.table.head(5)

# %% [markdown]
# That is the main job, start to end. What follows asks the question that the rest of the course
# never lets go of: **was it the selection, or would any half have done?**

# %% [markdown]
# ## Was it luck?
# Four ways to spend the same pairs: all of them, the half with the most potential, the judge's
# favourite half, a random half. Each is repeated with fresh pairs and a fresh training seed. *Full*
# makes twice as many updates as the halves do: that is an advantage, and lesson 4 also compares at
# equal updates. This is the longest cell here.

# %%
before = nb.sample(
    policy, prompts, temperature=0.7, max_new_tokens=16, seed=1, progress=False
)

def trial(seed):
    """Win rate and share of correct answers of each selection, for one seed."""
    pairs = world.pairs(p.pairs, seed=seed)
    logps = nb.response_logprobs(policy, pairs)
    explicit = nb.scores.explicit_margin(pairs)
    implicit = nb.scores.length_normalized_margin(logps)
    best = nb.select.top(zscore(explicit) - zscore(implicit.abs()), 0.5)
    halves = {"potential": best, "judge alone": nb.select.top(explicit, 0.5),
              "random": nb.select.random(best, pairs, seed=seed)}
    for name, ids in {"full": None, **halves}.items():
        run = nb.train_dpo(
            policy, pairs, ids, reference=logps, seed=seed, progress=False, **world.DPO[size]
        )
        won = nb.win_rate(
            run.policy, before, prompts, world.reward, max_new_tokens=16, seed=2, progress=False
        )
        grades = map(world.grade, won.table.prompt, won.table.response)
        right = sum(grade.correct for grade in grades) / len(prompts)
        yield dict(selection=name, seed=seed, win_rate=won.value, correct=right)

# %%
from tqdm.auto import tqdm

seeds = p.pick(quick=[0, 1], full=range(5))
trials = pd.DataFrame([row for seed in tqdm(seeds, unit=" seeds") for row in trial(seed)])

# %% tags=["picture"]
import matplotlib.pyplot as plt

order = ["full", "potential", "judge alone", "random"]
by_seed = trials.pivot(index="seed", columns="selection", values="win_rate")[order]
rows = [(name, *nb.seed_interval(by_seed[name])) for name in by_seed]
table = pd.DataFrame(rows, columns=["name", "win_rate", "low", "high"]).set_index("name")
ax = nb.plots.win_rates(table.clip(0, 1).reset_index())
ax.set_title(f"Does it matter which pairs? ({len(by_seed)} seeds, 95% intervals)")
plt.show()

# %% [markdown]
# The seeds share their luck (the same pairs, the same order of training), so the fair comparison
# is within each seed. And because a win can come from a friendlier tone as well as from a right
# answer, the share of correct answers stands beside it.

# %%
def difference(column, other):
    wide = trials.pivot(index="seed", columns="selection", values=column)
    value, low, high = nb.seed_interval(wide["potential"] - wide[other])
    clear = "above" if low > 0 else "below" if high < 0 else "not clearly different from"
    return f"potential − {other}: {value:+.3f} [{low:+.3f}, {high:+.3f}], {clear} zero"

lines = [f"- {column}: {difference(column, other)}"
         for column in ("win_rate", "correct") for other in ("random", "judge alone", "full")]
right = sum(g.correct for g in map(world.grade, prompts["prompt"], before)) / len(prompts)
after = trials.groupby("selection").correct.mean()[order]
shares = ", ".join(f"{share:.1%} {name}" for name, share in after.items())
Markdown("\n".join([f"Within each of {len(by_seed)} seeds (mean, 95% interval):", "", *lines, "",
                    f"Correct answers: {right:.1%} before; after: {shares}. {p.note}"]))

# %% [markdown]
# **When this misleads.** This judge's score is close to the truth, so a large explicit margin finds
# the sound labels; a real reward model has its own errors (lesson 5). The intervals cover the luck
# of the data and training seeds only: the questions, the starting weights and the old model's
# answers are the same in all. The settings `world.DPO` were searched on other data seeds, but on
# these same questions. And a win rate says only what its judge sees: read some answers, always.

# %% [markdown]
# ## Your turn
# Write the body, run the cell, then the check. An untouched exercise says "not attempted".
#
# ### Exercise 1 · Keep the easiest (3 minutes, easy)
# Given a score of which lower means easier, return the ids of the easiest half, easiest first.
# Pairs without a score (NaN) cannot be kept.
#
# <details><summary>Hint</summary>
#
# `scores.dropna().sort_values()` puts the lowest first; its `.index` holds the ids.
# </details>

# %%
def easiest_half(scores: pd.Series) -> list:
    """ids of the lowest half of the scored pairs, lowest first"""
    ### BEGIN SOLUTION
    ranked = scores.dropna().sort_values()
    return list(ranked.index[: len(ranked) // 2])
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_easiest(easiest_half)

# %% [markdown]
# ### Exercise 2 · A win rate by hand (3 minutes, easy)
# Two lists of rewards for the same prompts: what share of prompts does the first win? A tie
# counts one half.
#
# <details><summary>Hint</summary>
#
# A comparison of two numbers is `True` or `False`, and Python counts them as 1 and 0.
# </details>

# %%
def my_win_rate(rewards: list, baseline_rewards: list) -> float:
    """share of prompts won, between 0 and 1"""
    ### BEGIN SOLUTION
    won = [(a > b) + 0.5 * (a == b) for a, b in zip(rewards, baseline_rewards)]
    return sum(won) / len(won)
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_win_rate(my_win_rate)

# %% [markdown]
# ## In this lesson we saw
# - the whole loop: load, score, select, train, judge, each one call;
# - that the margin of a fairly good judge finds most of the sound labels;
# - that a selection is worth something only against a random one of its size, over seeds.
#
# **Next** we look into the table that everything came from: what a log-prob is, which tokens
# count, and what a margin says.
#
# **References.** Alignment potential: arXiv 2503.01864. Selective DPO: arXiv 2502.09650.
# LossDiff-IRM: arXiv 2510.13212. DPO: arXiv 2305.18290.

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
