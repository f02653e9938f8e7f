# %% [markdown]
# Margins guess at what training on a pair would do. This lesson computes it. Take one small step
# of gradient descent on a single pair: does the loss of *other* pairs, a validation set, fall or
# rise, and how fast? That rate is the pair's **influence**, the first method of this lesson's
# paper ([2510.13212](https://arxiv.org/abs/2510.13212)). By the paper it takes hours, and its
# stand-ins minutes [N]. But influence is a derivative along one direction, the same for all pairs:
# two scoring passes give all of them, to a small error that we measure. Then we ask what the number
# is worth: we draw the validation set again, we train, and compare.
#
# **You will be able to**
# - say what the gradient of one pair tells about a validation set, with its sign and its unit;
# - compute influence by hand, and then for all pairs at once along one direction;
# - choose a step between rounding and curvature, and check that it was a good one;
# - test influence against the truth: real steps, groups of pairs, retraining from scratch;
# - tell how much of it is the validation set's doing, and what it does *not* say about a pair.
#
# **Needs** [lesson 02](02_dpo.ipynb): the DPO loss and its gradient. **On a GPU** nothing changes
# here; with a large policy in bfloat16 `method="auto"` takes ways without a step instead of
# differences.
#
# Marks: [P] from a paper's text, [N] from third-party notes on it, [?] our reading. Most of what we
# know of this paper's influence is [N].

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.course.profile()

# %% [markdown]
# ## 1 · One step on one pair
# Influence is asked of a policy that knows a little already: here **θ**, after one epoch of DPO on
# the pairs. The **validation set** is about other facts than the pairs: what it gains, it cannot
# have read. We draw several validation sets, alike in every way (the same writers, the same judge,
# a common pool of facts), and work with the first. Section 4 asks what the others say.

# %%
import torch
from datasets import concatenate_datasets

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
size = p.pick(quick="small", full="medium")
start = nb.load_policy(f"world/{size}", device="cpu")

# %%
pairs, count = world.pairs(p.pick(quick=200, full=1600)), p.pick(quick=48, full=300)
draws = {n: world.pairs(count, seed=n, part="validation") for n in range(p.pick(quick=2, full=10))}
validation = draws[0]
everything = concatenate_datasets([pairs, *draws.values()])
reference = nb.response_logprobs(start, everything, progress=False)

# %%
settings = world.DPO[size]
beta = settings["beta"]
theta = nb.train_dpo(start, pairs, reference=reference, progress=False, **settings).policy
on = dict(beta=beta, progress=False)
influence = nb.scores.influence(theta, reference, pairs, validation, **on)
Markdown(f"""θ: {len(pairs):,} pairs, Adam with learning rate {settings["learning_rate"]:g}, batches
of {settings["batch_size"]}, β = {beta:g}. {len(draws)} validation sets of {count} pairs.""")

# %% [markdown]
# `nb.scores.influence` is what this lesson takes apart. First, the two ends of it. **Read both
# pairs, and predict**: a step on one of them makes the validation loss fall, on the other rise.
# Which?

# %%
text = pairs.to_pandas().set_index("id")
two = sorted([influence.idxmin(), influence.idxmax()])
text.loc[two, ["prompt", "chosen", "rejected", "answer"]]

# %% [markdown]
# A step on pair $d$ with learning rate $\eta$ moves the parameters by $-\eta\,\nabla\ell_d$. A
# small move changes any function by its gradient times the move ("to first order"). So the
# validation loss changes by
#
# $$L_{\text{val}}(\theta - \eta \nabla \ell_d) - L_{\text{val}}(\theta) \;\approx\; -\eta\;
# \underbrace{\big\langle \nabla L_{\text{val}}(\theta),\, \nabla \ell_d(\theta) \big\rangle}
# _{\text{IF}(d)}$$
#
# | symbol | meaning | shape, unit |
# |---|---|---|
# | $\ell_d$ | DPO loss of pair $d$ | one number, nats |
# | $L_{\text{val}}$ | mean DPO loss of the validation pairs | one number, nats |
# | $\nabla \ell_d,\ g = \nabla L_{\text{val}}$ | gradients at θ | [parameters], nats per unit |
# | $\text{IF}(d)$ | influence [N]. **Positive: a step on d lowers the validation loss** | [pairs] |
#
# The unit of influence is nats of validation loss per unit of learning rate, which is (nats per
# unit of a parameter)²: compare within one θ only. (This is TracIn's sign. Koh and Liang's is the
# opposite: look before you compare.)
#
# By hand, as in lesson 02: the whole log-softmax, one response at a time, and autograd.

# %%
import torch.nn.functional as F


def loss(policy, pair):
    """DPO loss of one pair, shape [], nats."""
    ratios = []
    for side in ("chosen", "rejected"):
        response = pair["prompt"] + pair[side] + policy.tokenizer.eos_token
        ids = policy.tokenizer(response, return_tensors="pt").input_ids  # [1, tokens]
        logp = policy.model(ids).logits[0, :-1].log_softmax(-1)  # [tokens - 1, vocabulary]
        label_logp = logp.gather(1, ids[0, 1:, None])[:, 0]
        begins = len(policy.tokenizer(pair["prompt"]).input_ids) - 1
        ratios.append(label_logp[begins:].sum() - reference.loc[pair["id"], f"{side}_logp"])
    return -F.logsigmoid(beta * (ratios[0] - ratios[1]))


def gradient(policy, pair):
    """Its gradient as one long vector, shape [parameters]."""
    parts = torch.autograd.grad(loss(policy, pair), list(policy.model.parameters()))
    return torch.cat([part.flatten() for part in parts])

# %% [markdown]
# And two tools for moving about: the policy at any place in parameter space, and the losses of many
# pairs there, by nbkit's scoring.

# %%
import copy

from torch.nn.utils import parameters_to_vector, vector_to_parameters

here = parameters_to_vector(theta.model.parameters()).detach()  # θ, [parameters]


def at(place):
    moved = copy.deepcopy(theta.model)
    vector_to_parameters(place, moved.parameters())
    return nb.Policy(moved, theta.tokenizer)


def losses(policy, of):
    logps = nb.response_logprobs(policy, of, progress=False)
    return nb.scores.dpo_loss(logps, reference.loc[logps.index], beta)

# %% [markdown]
# Now the real step, on each of the two. Was your prediction right?

# %%
from IPython.display import display

eta, row_of = 1e-5, {id_: n for n, id_ in enumerate(pairs["id"])}
before, rows = losses(theta, validation).mean(), {}
for id_ in two:
    stepped = at(here - eta * gradient(theta, pairs[row_of[id_]]))
    change = losses(stepped, validation).mean() - before
    rows[id_] = {"influence": influence[id_], "−η · influence": -eta * influence[id_],
                 "validation loss, change": change}  # fmt: skip
display(pd.DataFrame(rows).T.map("{:+.3g}".format))

lowest = text.loc[influence.idxmin()]
Markdown(f"""Sign and size are as predicted. The pair that harms most prefers "{lowest.chosen}" to
"{lowest.rejected}"; the answer is {lowest.answer}. By the world's true reward its label is
**{"wrong" if lowest.flipped else "right"}**. Is a negative influence the mark of a wrong label,
then? Section 4 counts. {p.note}""")

# %% [markdown]
# ## 2 · By hand on four pairs
# The gradient of the validation loss, then four inner products. The library's `method="loop"` does
# the same; `"auto"` does something else, and the numbers agree.

# %%
goal = sum(gradient(theta, pair) for pair in validation) / len(validation)  # g, [parameters]
four = pairs.select([row_of[two[0]], row_of[two[1]], 0, 1])
by_hand = [(goal @ gradient(theta, pair)).item() for pair in four]
loop = nb.scores.influence(theta, reference, four, validation, method="loop", **on)
assert np.allclose(by_hand, loop, rtol=1e-3, atol=1e-3)
display(pd.DataFrame({"by hand": by_hand, "loop": loop, "auto": influence[loop.index]}).round(3))

Markdown(f"""What did that cost? For each pair two responses forward, one backward pass through
both, and a gradient of **{len(goal):,} numbers**, of which an inner product keeps one. For all
pairs that is {len(pairs):,} gradients. With a billion parameters each would be 4 GB in float32.
This is why influence is called expensive, and why people compress gradients (as LESS and TRAK do,
see the references) or look for proxies (lesson 08).""")

# %% [markdown]
# ## 3 · One direction serves all pairs
# Look at the definition once more, and read the inner product the other way round. The derivative
# of *any* function along a vector $v$ is the inner product of its gradient with $v$:
#
# $$\text{IF}(d) = \big\langle g,\, \nabla \ell_d(\theta) \big\rangle
# = \frac{\partial}{\partial t}\; \ell_d(\theta + t\, g)\,\Big|_{t = 0}$$
#
# We do not need the pair's gradient. We need to know **how fast its loss changes as we walk along
# $g$**. And $g$ is the same for every pair: there is one walk, and all pairs look on.
#
# Here is that walk, uphill in validation loss for $t > 0$. Six pairs: points are measured losses;
# lines are not fitted, they have the influence of section 1 as their slope. **Predict**: what does
# a pair of influence zero do? And will the points stay on the lines?

# %% tags=["picture"]
import matplotlib.pyplot as plt
import seaborn as sns

ranked = influence.sort_values().index
some = [ranked[round(q * (len(ranked) - 1))] for q in (0, 0.1, 0.35, 0.65, 0.9, 1)]
six = pairs.select([row_of[id_] for id_ in some])
unit = (here.norm() / goal.norm()).item()  # t = unit: as far as θ is long
ts = 0.003 * unit * np.linspace(-1, 1, 9)
walk = pd.DataFrame({t: losses(at(here + float(t) * goal), six) for t in ts})
fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
for id_, color in zip(some, sns.color_palette("coolwarm_r", len(some))):
    ax.plot(ts, influence[id_] * ts, color=color, label=f"{influence[id_]:+.1f}")
    ax.plot(ts, walk.loc[id_] - walk.loc[id_, ts[4]], "o", color=color)
ax.axvline(0, color="0.45", linestyle="--", zorder=0)
ax.set(xlabel="t: how far along g (dashed line: θ)", ylabel="loss of a pair, minus at θ (nats)",
       title="One walk along g, and every pair's influence is its slope")  # fmt: skip
ax.legend(title="influence", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5));

# %% [markdown]
# So: a small step ahead, a small step back, score all pairs at both places, subtract. No gradient
# of any pair is made.

# %%
h = 1e-4 * unit  # a move of one ten-thousandth of θ's length; "The step", below, tries others
ahead = losses(at(here + h * goal), pairs)
behind = losses(at(here - h * goal), pairs)
along = (ahead - behind) / (2 * h)
display(pd.DataFrame({"gradients": by_hand, "two passes": along[loop.index]}).round(3))
assert np.allclose(along[loop.index], by_hand, rtol=0.02, atol=0.02 * influence.std())
assert along.corr(influence) > 0.9999

Markdown(f"""**All {len(pairs):,} influences from two scoring passes**: what it costs to compute
the margins of a policy twice. Correlation with the library: {along.corr(influence):.6f}. To that
comes $g$ itself, one backward pass over the validation set, whatever the number of pairs.""")

# %% [markdown]
# It is even a little better than that. Scoring gives log-probs, and the loss is a function of them.
# So the slopes of a pair's two log-probs along $g$ give the slope of its loss by the chain rule
# (exercise 1). `nb.scores.influence_table` shows these parts: which of its responses the walk
# moves, and how hard the pair still pulls (its weight $\sigma(-m)$ in the gradient, lesson 02).

# %%
table = nb.scores.influence_table(theta, reference, pairs, validation, **on)
weight = 1 / (1 + np.exp(table.margin[some]))
columns = ["influence", "margin", "chosen_slope", "rejected_slope"]
table.loc[some, columns].assign(weight=weight).round(2)

# %% [markdown]
# ### What it costs, measured
# There are three more ways to a derivative along one direction, all in `nbkit.derivatives`: one
# step only (**forward**, where the log-probs at θ are at hand); forward-mode differentiation, in
# which every number carries its own slope through the pass (**jvp**: no step to choose); and one
# backward pass that never makes a gradient of a parameter (**ghost**). Count before you measure:
#
# | | passes over the pairs | step |
# |---|---|---|
# | loop | forward + backward, one response at a time | none |
# | central difference | 2 × forward | to choose |
# | forward difference | 1 × forward, and the log-probs at θ | to choose, smaller |
# | jvp | 1 × forward, of about three times the work | none |
# | ghost | forward + backward, all responses in one long row (packed) | none |

# %%
from nbkit.derivatives.differences import finite_difference, logp_sums
from nbkit.derivatives.ghost import ghost
from nbkit.derivatives.jvp import forward_mode
from nbkit.derivatives.loop import pair_by_pair

tokens = nb.tokenize_pairs(theta.tokenizer, pairs.select(range(p.pick(quick=24, full=100))))
named = dict(theta.model.named_parameters())
blocks = goal.split([part.numel() for part in named.values()])
direction = {name: block.view_as(named[name]) for name, block in zip(named, blocks)}
scored, of = logp_sums(theta, tokens), (theta, tokens, direction)
ways = {"scoring pass": lambda: logp_sums(theta, tokens),
        "forward": lambda: finite_difference(*of, h, scored)[1],
        "central": lambda: finite_difference(*of, h)[1], "ghost": lambda: ghost(*of)[1],
        "jvp": lambda: forward_mode(*of)[1], "loop": lambda: pair_by_pair(*of)[1]}  # fmt: skip

# %% [markdown]
# CPU time, the best of three runs each; and the relative error of the slopes of
# log p(chosen) − log p(rejected), against the loop.

# %%
import time

seconds, slopes = {}, {}
for name, way in ways.items():
    for _ in range(3):
        began = time.process_time()
        found = way()
        seconds[name] = min(time.process_time() - began, seconds.get(name, np.inf))
    slopes[name] = found if found.dim() == 1 else found[:, 0] - found[:, 1]
error = pd.Series({name: ((s - slopes["loop"]).norm() / slopes["loop"].norm()).item()
                   for name, s in slopes.items() if "pass" not in name})  # fmt: skip
cost = pd.Series(seconds)
costs = pd.DataFrame({"ms a pair": 1e3 * cost / len(tokens), "scoring passes": cost / cost.iloc[0],
                      "times faster than the loop": cost["loop"] / cost})  # fmt: skip
costs.round(2).join(error.map("{:.0e}".format).rename("relative error"))

# %%
assert error.max() < 0.01
passes, faster = costs["scoring passes"], costs["times faster than the loop"]
Markdown(f"""A central difference took {passes["central"]:.1f} scoring passes and was
{faster["central"]:.0f} times as fast as the loop; its relative error is {error["central"]:.0e}. The
forward difference took {passes["forward"]:.1f} passes, with an error of {error["forward"]:.0e}.
The two ways without a step are right to rounding ({error["jvp"]:.0e}, {error["ghost"]:.0e}); jvp
took {passes["jvp"]:.1f} passes, where we counted about three, ghost {passes["ghost"]:.1f}: with a
model this small, bookkeeping is a good part of it [?]. {p.note}""")

# %% [markdown]
# (Not counted are $g$ itself and the check by `auto`. Part of the gain is packing: the loop takes
# one short response at a time. On longer texts the factors are smaller;
# `tests/benchmarks/influence.py` measures them, with other libraries beside them.)
#
# ### The step
# Subtracting two numbers that are nearly the same loses digits: log-probs in float32 have about
# seven. A longer step loses fewer, but the losses bend. **Predict** the shape of error against step
# for the central and for the forward difference, on logarithmic axes. The step is counted in nats:
# by how much it changes log-probs (root mean square).

# %%
exact = forward_mode(*of)[1]  # [pairs, 2], nats per unit along g
pace = exact.square().mean().sqrt().item()
rows = []
for nats in np.logspace(-6, 0.5, p.pick(quick=7, full=14)):
    for name, known in {"central": None, "forward": scored}.items():
        _, near = finite_difference(*of, nats / pace, known)
        rows.append({"nats": nats, "way": name,
                     "error": ((near - exact).norm() / exact.norm()).item()})  # fmt: skip
u_curve = pd.DataFrame(rows)
ax = sns.lineplot(u_curve, x="nats", y="error", hue="way", marker="o", palette="colorblind")
ax.axvline(table.attrs["step"], color="0.45", linestyle="--", label="chosen by auto")
ax.axvline(h * pace, color="0.45", linestyle="-.", label="ours, by hand")
ax.axhline(0.01, color="0.45", linestyle=":", label="what auto demands")
ax.set(xscale="log", yscale="log", xlabel="step: change of the log-probs (nats)",
       ylabel="relative error of the slopes")  # fmt: skip
ax.set_title("Left: rounding. Right: the losses bend")
ax.legend(frameon=False);

# %%
best = u_curve.loc[u_curve.groupby("way").error.idxmin()].set_index("way")
facts = table.attrs
Markdown(f"""Best: central at {best.nats["central"]:.0e} nats, with error
{best.error["central"]:.0e}; forward at {best.nats["forward"]:.0e}, {best.error["forward"]:.0e}.

**`auto` does not trust its own choice.** It took *{facts["method"]}* with a step of
{facts["step"]:.1e} nats, computed the slopes of {facts["checked"]} pairs of different lengths also
by the loop, and found an error of {facts["error"]:.1e}. {p.note}""")

# %% [markdown]
# Rounding falls as 1/step; the bend adds an error that rises with the step (forward) or with its
# square (central). Had its check found more than 1%, `auto` would have tried other steps, then
# ghost and jvp, and in the end raised an error. In bfloat16, which has two or three digits, it
# begins with ghost.

# %% [markdown]
# ## 4 · Which pairs help, and which harm?
# Before we read anything into the numbers: how much of them is the draw of the validation set? The
# same θ, the same pairs, and each of the validation sets in turn. **Predict** the rank correlation
# of the influences on two of them.

# %%
from functools import partial

jobs = {n: partial(nb.scores.influence, theta, reference, pairs, draw, **on)
        for n, draw in draws.items()}  # fmt: skip
by_draw = pd.DataFrame(nb.at_once(jobs, p.workers, desc="validation sets"))
between = by_draw.corr("spearman").to_numpy()[np.triu_indices(len(draws), 1)]
Markdown(f"""Rank correlation of the influences on two sets: {between.mean():.2f} in the mean,
{between.min():.2f} to {between.max():.2f}. **{count} validation pairs rank in good part by their
own accidents.** {p.note}""")

# %% [markdown]
# So whatever we say of influence from here on, we say over many validation sets. (Of one θ and one
# set of training pairs, though: others would need other trainings.)
#
# The world knows what nobody knows of real pairs: whether a label is wrong, whether one response
# alone has the right animal, and which is kinder. **Predict**: of the pairs with a wrong label, how
# many have a negative influence? One dot is one validation set. (The few pairs in which the
# rejected response alone has the right animal are left out.)

# %%
def grades(side):
    found = [world.grade(prompt, response) for prompt, response in zip(text.prompt, text[side])]
    return pd.DataFrame(found, text.index)[["tone", "correct"]].astype(float)


signs = np.sign(grades("chosen") - grades("rejected"))
kinder = signs.tone.map({-1: "rejected", 0: "neither", 1: "chosen"}).rename("kinder")
animal = signs.correct.map({1: "chosen alone", 0: "both or none"}).rename("right animal")

# %%
harmful = by_draw < 0
fig, axes = plt.subplots(1, 2, figsize=(12, 4), sharey=True, layout="constrained",
                         width_ratios=[2, 3])  # fmt: skip
label = text.flipped.map({True: "wrong label", False: "right label"})
by_label = harmful.groupby(label).mean().melt(ignore_index=False, value_name="share")
sns.swarmplot(by_label.reset_index(), x="flipped", y="share", color="0.3", ax=axes[0])
by_truth = harmful.groupby([kinder, animal]).mean().melt(ignore_index=False, value_name="share")
sns.swarmplot(by_truth.reset_index(), x="kinder", y="share", hue="right animal", dodge=True,
              order=["rejected", "neither", "chosen"], palette="Set2", ax=axes[1])  # fmt: skip
for ax, title in zip(axes, ["Is the label wrong?", "Which response is kinder?"]):
    ax.axhline(0.5, color="0.45", linestyle="--", zorder=0)
    ax.set(title=title, xlabel="", ylim=(0, 1), ylabel="share with negative influence")

# %%
def share(these):
    """Share of some pairs with a negative influence: mean and 95% over validation sets."""
    return f"{nb.seed_interval(harmful[these].mean()):.0%}"


wrong = [text.flipped[harmful[n]].mean() for n in draws]
tones = harmful.groupby([animal, kinder]).mean()
truth = nb.seed_interval((tones.loc["chosen alone"] - tones.loc["both or none"]).mean())
Markdown(f"""Of the wrong labels {share(text.flipped)} have a negative influence, of the right ones
{share(~text.flipped)} (mean and 95% interval over {len(draws)} validation sets). A negative
influence is a hint, not a verdict: of the pairs that harm, {nb.seed_interval(wrong):.0%} are
mislabelled; of all pairs, {text.flipped.mean():.0%}.

The right panel says what the validation gradient is about. Where the chosen response is the kinder
one, {share(kinder == "chosen")} harm; where the rejected one is, {share(kinder == "rejected")}. Now
compare the colours at equal tone: if only the chosen response has the right animal, the share that
harms changes by {truth:+.2f}, which is {truth.verdict()}. Tone is one question for all
prompts, so it carries over to other facts; "the pet of mia is a dog" does not. **Influence rewards
what carries over to the validation set**, and a true answer to another question need not [?].
{p.note}""")

# %% [markdown]
# How good a detector of wrong labels is it? A measure without a threshold is the **AUC**: the
# chance that a right label has a higher score than a wrong one (1: always, ½: a coin). In
# comparison: the pair's own loss, which needs no validation set; and, as a control, the influence
# on the *same* validation pairs, each labelled by a coin. **Predict** the last.

# %%
def auc(score):
    right, wrong = np.sort(score[~text.flipped]), score[text.flipped]
    return 1 - (np.searchsorted(right, wrong) / len(right)).mean()


def coin_job(n):
    coin = nb.coin_labels(draws[n], seed=n)
    coin_logps = nb.response_logprobs(start, coin, progress=False)
    known = pd.concat([reference.loc[pairs["id"]], coin_logps])
    return partial(nb.scores.influence, theta, known, pairs, coin, **on)


by_coin = pd.DataFrame(nb.at_once({n: coin_job(n) for n in draws}, p.workers, desc="coins"))
aucs = {"influence": by_draw.apply(auc), "validation by coin": by_coin.apply(auc)}
own_loss = auc(-table.loss)
ax = sns.swarmplot(pd.DataFrame(aucs), orient="h", color="0.3")
ax.axvline(own_loss, color="C1", label="the pair's own loss")
ax.axvline(0.5, color="0.45", linestyle="--", label="½")
ax.set(xlabel="AUC for wrong labels (a dot: one validation set)", xlim=(0, 1))
ax.legend(frameon=False);

# %%
auc_of = {name: nb.seed_interval(values) for name, values in aucs.items()}
by_coin_is = auc_of["validation by coin"].verdict(0.5, "a half")
beats = (aucs["influence"] < own_loss).sum()
helpful = (by_coin > 0).groupby(text.flipped).mean().mean(axis=1)
loud = {name: by_draw.abs().corrwith(column, method="spearman")
        for name, column in {"loss": table.loss, "tokens": reference.loc[
            text.index, ["chosen_tokens", "rejected_tokens"]].sum(axis=1)}.items()}  # fmt: skip
Markdown(f"""The AUC of influence is {auc_of["influence"]:.2f} over validation sets. The pair's own
loss has {own_loss:.2f} and beats it on {beats} of {len(draws)} sets. Influence asks something else.

Labels by a coin are not "no influence": their AUC is {auc_of["validation by coin"]:.2f}, which is
{by_coin_is}. A policy that is sure of anything is punished by
such labels, so their gradient says *be less sure* [?], and a step on a wrong label obeys:
{helpful.loc[True]:.0%} of the wrong labels help there, {helpful.loc[False]:.0%} of the right ones.
Influence takes the validation set at its word.

Which influences are large, of either sign? Rank correlation of |IF| with the pair's own loss:
{nb.correlation_interval(loud["loss"]):.2f}; with its number of tokens:
{nb.correlation_interval(loud["tokens"]):.2f}. {p.note}""")

# %% [markdown]
# ## 5 · Is it true?
# Influence is a promise about an infinitely small step. Training takes hundreds of steps that are
# not small, with Adam, which is not even a gradient step. So we test the promise, from easy to
# hard.
#
# **One step, longer and longer.** For pairs of all influences: the predicted fall of the validation
# loss, $\eta\, \text{IF}(d)$, against the real one. The median length of these steps is given as a
# share of the whole way that training went, from the start to θ. **Predict**: at which length does
# the promise break, and which way?

# %%
places = np.linspace(0, len(ranked) - 1, p.pick(quick=4, full=18)).astype(int)
gradients = {id_: gradient(theta, pairs[row_of[id_]]) for id_ in ranked[places]}
way = (here - parameters_to_vector(start.model.parameters()).detach()).norm()
rows = []
for eta in [1e-5, 1e-4, 1e-3, 1e-2]:
    for id_, own in gradients.items():
        fall = before - losses(at(here - eta * own), validation).mean()
        rows.append({"rate": eta, "predicted": eta * influence[id_], "fall": fall,
                     "length": (eta * own.norm() / way).item()})  # fmt: skip
single = pd.DataFrame(rows)

# %%
grid = sns.FacetGrid(single, col="rate", sharex=False, sharey=False, height=3)
grid.map_dataframe(sns.scatterplot, x="predicted", y="fall")
for ax in grid.axes.flat:
    ax.axline((0, 0), slope=1, color="0.45", linestyle="--", zorder=0)
grid.set_titles("one step, rate {col_name:g}")
grid.set_axis_labels("predicted fall (nats)", "fall of the validation loss");

# %%
def how_true(rows):
    ranks = nb.rank_correlation(rows.predicted, rows.fall, confidence=None).value
    lacking = (rows.predicted - rows.fall).mean() / rows.predicted.std()
    return pd.Series({"length of the step": rows.length.median(), "rank correlation": ranks,
                      "fall per predicted nat": np.polyfit(rows.predicted, rows.fall, 1)[0],
                      "mean shortfall, in spreads": lacking})  # fmt: skip


by_rate = single.groupby("rate")[["predicted", "fall", "length"]].apply(how_true)
display(by_rate.map("{:.2g}".format))

short = (single.fall < single.predicted).mean()
ranks, missing = by_rate["rank correlation"], by_rate.iloc[:, -1]
Markdown(f"""At rate {by_rate.index[0]:g} the rank correlation is {ranks.iloc[0]:.3f}. At
{by_rate.index[2]:g}, a step of {by_rate.iloc[2, 0]:.0%} of the way, it is {ranks.iloc[2]:.2f}, at
{by_rate.index[3]:g} {ranks.iloc[3]:.2f}. In {short:.0%} of all cases the loss fell less than
predicted: it bends upwards in most directions, so a step costs something that its gradient did not
mention. On average that cost is {missing.iloc[0]:.2f} times the spread of the predictions for the
shortest steps, {missing.iloc[3]:.1f} times for the longest. {p.note}""")

# %% [markdown]
# **Groups of pairs.** Nobody trains on one pair. Take random groups, train on each, and compare the
# summed influence of the group with the real fall of the validation loss. Three kinds of training,
# each further from a single small step:
#
# - from θ, plain gradient descent (SGD), a tenth of the pairs;
# - from θ, with Adam, as θ itself was trained, a tenth of the pairs;
# - **from scratch**, the question one really has: a random half of the pairs, one epoch of Adam
#   from the policy that θ came from. The rank correlation of predicted and real falls is then the
#   **linear datamodeling score** (LDS, [2303.14186](https://arxiv.org/abs/2303.14186) [P]; there
#   each fall is a mean over several trainings, here it is one).
#
# The falls are measured on several validation sets, each with influences of its own.

# %%
judges = list(draws)[: p.pick(quick=2, full=5)]
judged = concatenate_datasets([draws[n] for n in judges])


def val_losses(policies):
    """Mean loss on each validation set, shape [policies, sets], nats."""
    jobs = {n: partial(nb.response_logprobs, one, judged, progress=False)
            for n, one in enumerate(policies)}  # fmt: skip
    tables = nb.at_once(jobs, p.workers, desc="scoring").values()
    found = [nb.scores.dpo_loss(logps, reference.loc[logps.index], beta) for logps in tables]
    return np.array(found).reshape(len(found), len(judges), count).mean(axis=2)


def trained_on(begin, groups, **changed):
    """A policy for each list of ids."""
    how = dict(reference=reference, progress=False, **{**settings, **changed})
    jobs = {n: partial(nb.train_dpo, begin, pairs, ids, **how) for n, ids in enumerate(groups)}
    return [run.policy for run in nb.at_once(jobs, p.workers, desc="groups").values()]

# %%
rng, part, many = np.random.default_rng(1), len(pairs) // 10, p.pick(quick=4, full=48)
groups = [list(rng.choice(pairs["id"], part, replace=False)) for _ in range(min(many, 16))]
halves = [list(rng.choice(pairs["id"], 5 * part, replace=False)) for _ in range(many)]
sgd = dict(learning_rate=1e-4, warmup_steps=0, max_grad_norm=1e9, trl_options={"optim": "sgd"})
ends = {"SGD, from θ": (groups, theta, trained_on(theta, groups, **sgd)),
        "Adam, from θ": (groups, theta, trained_on(theta, groups)),
        "Adam, from scratch": (halves, start, trained_on(start, halves))}  # fmt: skip
falls = {kind: val_losses([begin]) - val_losses(found) for kind, (_, begin, found) in ends.items()}

# %% [markdown]
# First what it looks like, on the first validation set. With SGD the size is predicted, too: one
# step of the mean loss for every batch, so the rate divided by the batch size, times the sum of
# influences (dashed line: as predicted, no fit).

# %%
members = {kind: np.array([by_draw.index.get_indexer(ids) for ids in found])
           for kind, (found, _, _) in ends.items()}  # fmt: skip


def sums(kind, scores):
    """Summed scores of each group: shape [groups, sets] for scores of shape [pairs, sets]."""
    return scores.to_numpy()[members[kind]].sum(axis=1)


scale = {"SGD, from θ": sgd["learning_rate"] / settings["batch_size"]}
predicted = {kind: scale.get(kind, 1) * sums(kind, by_draw)[:, 0] for kind in ends}
fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for ax, kind in zip(axes, ends):
    ax.scatter(predicted[kind], falls[kind][:, 0])
    ax.locator_params(nbins=5)
    ax.set(title=kind, xlabel="predicted fall (nats)" if kind in scale else "sum of influences")
axes[0].axline((0, 0), slope=1, color="0.45", linestyle="--", zorder=0)
axes[0].set_ylabel("fall of the validation loss (nats)");

# %% [markdown]
# **Where would training end up?** Koh and Liang's influence function asks that, not where one step
# leads: a walk along a direction in which the loss bends strongly stops soon. So $g$ is replaced by
# $(H + \lambda I)^{-1} g$. The **Gauss-Newton matrix** $H$ [parameters, parameters] says how fast
# the mean loss of the pairs bends; it keeps the bend of $-\log\sigma(m)$ and takes the margin $m$
# as linear. The **damping** $\lambda$, a tenth of $H$'s largest eigenvalue, keeps directions in
# which nothing bends from being taken without limit. $H$ is never written down: the equation is
# solved by some ten products with it (conjugate gradients). Then pairs are scored along the
# new direction, as before. Whether the paper does this is not known to us.

# %%
bend = dict(curvature="gauss-newton", damping=0.1, curvature_pairs=p.pick(quick=8, full=48), **on)
jobs = {n: partial(nb.scores.influence, theta, reference, pairs, draws[n], **bend) for n in judges}
curved = pd.DataFrame(nb.at_once(jobs, p.workers, desc="curvature"))
first = by_draw[judges]
kept = [nb.rank_correlation(first[n], curved[n], confidence=None).value for n in judges]
Markdown(f"""H is made of {bend["curvature_pairs"]} pairs of all lengths. Rank correlation of the
influences with and without curvature: {nb.correlation_interval(kept):.2f} over {len(judges)}
validation sets.""")

# %% [markdown]
# Now the numbers. **own set**: influence on a validation set, falls on the same. **another set**:
# influence on one, falls on another. **luck**: influences shuffled over the pairs (95% of 200
# shuffles, own set). Intervals resample both the groups and the validation sets.

# %%
from scipy import stats


def lds(kind, scores, rows=slice(None)):
    """Rank correlations of predicted and real falls: [set of the score, set of the fall]."""
    found = stats.spearmanr(sums(kind, scores)[rows], falls[kind][rows]).statistic
    return found[: len(judges), len(judges) :]


def resampled(kind, scores, own=True):
    """Mean over validation sets; behind it, the same for resampled groups and sets."""
    rng, means, many = np.random.default_rng(0), [], len(falls[kind])
    for n in range(p.pick(quick=20, full=200) + 1):
        rows = rng.integers(many, size=many) if n else slice(None)
        sets = rng.integers(len(judges), size=len(judges)) if n else np.arange(len(judges))
        found = lds(kind, scores, rows)[np.ix_(sets, sets)]
        other = sets[:, None] != sets
        means.append(np.diag(found).mean() if own else found[other].sum() / max(other.sum(), 1))
    return np.array(means)

# %%
def interval(means):
    return nb.Estimate(means[0], *np.quantile(means[1:], [0.025, 0.975]), len(judges))


def gain(kind, own=True):
    found = interval(means[kind, own, "curved"] - means[kind, own, "first"])
    return f"{found:+.2f}, {found.verdict()}"


def luck(kind):
    null = [np.diag(lds(kind, first.sample(frac=1, random_state=n))).mean() for n in range(200)]
    return "{:+.2f} to {:+.2f}".format(*np.quantile(null, [0.025, 0.975]))

# %%
means = {(kind, own, name): resampled(kind, scores, own) for kind in ends for own in (True, False)
         for name, scores in {"first": first, "curved": curved}.items()}  # fmt: skip
said = {key: f"{interval(values):.2f}" for key, values in means.items()}
nulls = {kind: luck(kind) for kind in ends}
pd.DataFrame({kind: {"own set": said[kind, True, "first"], "luck": nulls[kind],
                     "another set": said[kind, False, "first"],
                     "own set, with curvature": said[kind, True, "curved"],
                     "another set, with curvature": said[kind, False, "curved"]}
              for kind in ends})  # fmt: skip

# %%
sgd_fit = np.polyfit(predicted["SGD, from θ"], falls["SGD, from θ"][:, 0], 1)[0]
jobs = {seed: partial(nb.train_dpo, start, pairs, reference=reference, seed=seed, progress=False,
                      **settings) for seed in p.pick(quick=[1], full=[1, 2, 3])}  # fmt: skip
reseeded = {seed: run.policy for seed, run in nb.at_once(jobs, p.workers, desc="seeds").items()}
noise = val_losses([theta, *reseeded.values()])[:, 0].std(ddof=1)  # θ itself is seed 0
apart = falls["Adam, from scratch"][:, 0].std(ddof=1)
ceiling = max(1 - (noise / apart) ** 2, 0) ** 0.5

# %%
Markdown(f"""**Where it works**: short steps of the kind that it is about. With SGD the rank
correlation is {said["SGD, from θ", True, "first"]}, and {sgd_fit:.2f} nats fell for a predicted
nat (dashed line: 1, no fit).

**Where it fades**: with Adam, {said["Adam, from θ", True, "first"]}. Adam divides every entry of
the gradient by its running size, so it goes another way; its steps are also longer, and we have not
told the two apart [?]. From scratch, {said["Adam, from scratch", True, "first"]}; luck alone gives
{nulls["Adam, from scratch"]}. There the half shapes the very θ at which influence was computed.
Another seed moves the final loss by {noise:.4f} (standard deviation), the choice of the half by
{apart:.4f}, so a perfect prediction would reach about {ceiling:.2f} [?].

**Judged by another validation set**, drawn from the same source, the same predictions reach
{said["SGD, from θ", False, "first"]} with SGD, {said["Adam, from θ", False, "first"]} with Adam and
{said["Adam, from scratch", False, "first"]} from scratch: what the draw costs.

**Curvature**, minus first order, own set: {gain("SGD, from θ")} (SGD's small steps are not what it
is about); {gain("Adam, from θ")} (Adam); {gain("Adam, from scratch")} (from scratch). On another
set, from scratch: {gain("Adam, from scratch", False)}.

({len(groups)} groups from θ, {len(halves)} halves, {len(judges)} validation sets; one set of pairs,
one θ, one order of training.) {p.note}""")

# %% [markdown]
# Random groups differ little: each holds a mix. How about **sorted** groups? Ten tenths of the
# pairs, from the lowest to the highest influence on the first validation set. Each is *left out* of
# a training from scratch; as a control, random tenths. **Predict** the curve: on the first
# validation set, and on the other ones.

# %%
shuffled = list(influence.sample(frac=1, random_state=0).index)
tenths, cuts = {}, {"sorted": (list(ranked), p.pick(quick=[0, 5, 9], full=range(10))),
                    "random": (shuffled, range(p.pick(quick=2, full=5)))}  # fmt: skip
for kind, (ids, numbers) in cuts.items():
    left_out = [ids[n * part : (n + 1) * part] for n in numbers]
    rest = [[id_ for id_ in pairs["id"] if id_ not in out] for out in map(set, left_out)]
    fell = val_losses([start]) - val_losses(trained_on(start, rest))
    tenths[kind] = pd.DataFrame(fell, [influence[out].mean() for out in left_out], judges)

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for kind, line in {"sorted": "o-", "random": "o"}.items():
    axes[0].plot(tenths[kind][0], line, label=kind)
    axes[1].plot(tenths[kind].drop(columns=0).mean(axis=1), line, label=kind)
for ax, title in zip(axes, ["the first validation set", "mean of the others"]):
    ax.set(title=title, xlabel="mean influence of the tenth that is left out")
    ax.legend(frameon=False)
axes[0].set_ylabel("fall of the validation loss (nats)");

# %%
sd = {kind: fell.std() for kind, fell in tenths.items()}
order = tenths["sorted"].apply(lambda fell: stats.spearmanr(fell.index, fell).statistic)
Markdown(f"""On the first set the falls differ by {sd["sorted"][0]:.4f} nats between sorted tenths
(standard deviation), by {sd["random"][0]:.4f} between random ones; on the others by
{sd["sorted"].drop(0).mean():.4f} and {sd["random"].drop(0).mean():.4f}: sorting finds groups that
matter, where random ones differ less. Rank correlation of fall and influence: {order[0]:.2f} on the
first set (a helpful tenth is missed: negative is right),
{nb.correlation_interval(order.drop(0)):.2f} over the others. (One run for each tenth.) {p.note}""")

# %% [markdown]
# **Leave one out.** The oldest test there is: train from scratch with all pairs, and again without
# one. Order and seed are the same. But without the pair all later pairs move up by one, and every
# later batch is another. So we also put a *spare* pair in its place, one with an influence near 0:
# then all the rest stays where it was. For the pairs with the lowest and the highest influence.

# %%
more = world.pairs(len(pairs) + 20)  # the same pairs, and 20 more
extra = more.select(range(len(pairs), len(more)))
known = pd.concat([reference, nb.response_logprobs(start, extra, progress=False)])
spare = nb.scores.influence(theta, known, extra, validation, **on).abs().idxmin()

# %%
ends_of = p.pick(quick=1, full=2)
extreme, ids = [*ranked[:ends_of], *ranked[-ends_of:]], list(pairs["id"])
lists = [ids, *([id_ for id_ in ids if id_ != one] for one in extreme),
         *([spare if id_ == one else id_ for id_ in ids] for one in extreme)]  # fmt: skip
jobs = {n: partial(nb.train_dpo, start, more, these, reference=known, order="given", progress=False,
                   **settings) for n, these in enumerate(lists)}  # fmt: skip
runs = nb.at_once(jobs, p.workers, desc="leave one out").values()
full, *without = val_losses([run.policy for run in runs])[:, 0]

# %%
loo = pd.DataFrame({"influence": influence[extreme].to_numpy(),
                    "left out": without[: len(extreme)] - full,
                    "spare pair instead": without[len(extreme) :] - full}, extreme)  # fmt: skip
display(loo.map("{:+.2g}".format))

middle = loo.iloc[:, 1:].abs().stack().median()
agree = (np.sign(loo).mul(np.sign(loo.influence), axis=0) > 0).sum()
Markdown(f"""The columns say by how much the final validation loss is higher without the pair:
positive, the pair helped. Left out, the sign is as predicted in {agree["left out"]} of {len(loo)}
cases; {(loo["left out"] > 0).sum()} of {len(loo)} are positive, as a shift of all later batches
moves the loss by itself. With the spare pair in its place, {agree["spare pair instead"]} of
{len(loo)} signs are as predicted. But half of all changes are below {middle:.1e} nats, and another
seed, with nothing left out, moves the loss by {noise:.1e}. **In an ordinary retraining one pair in
{len(pairs):,} is lost in the noise of the order**; it shows only where nothing else moves. Groups
are the better test. {p.note}""")

# %% [markdown]
# ## 6 · Influence of what, on what?
# Choices are hidden in "the influence of a pair", and each gives another ranking: **which
# validation pairs**, **which θ**, **with curvature or without**, and **which parameters**. The last
# is done for cost with large models: only the last layer, or a LoRA adapter (a few small matrices
# beside the frozen weights). A fresh adapter leaves the policy as it is, and its gradients are the
# policy's, seen through a random matrix of low rank. **Predict**: which choice changes the ranking
# most?

# %%
def influence_at(policy=theta, **choice):
    return nb.scores.influence(policy, reference, pairs, validation, **on, **choice)


def fresh_lora(seed):
    torch.manual_seed(seed)
    return influence_at(nb.add_lora(at(here), rank=8))


layer = f"layers.{theta.model.config.num_hidden_layers - 1}."
choices = {
    "another warm-up (seed 1)": influence_at(reseeded[1]),
    "before the warm-up": influence_at(start),
    "last layer only": influence_at(parameters=lambda name: layer in name),
    "a fresh LoRA adapter, rank 8": fresh_lora(0), "another fresh adapter": fresh_lora(1),
}  # fmt: skip

# %%
with_first = {name: [influence.corr(score, "spearman")] for name, score in choices.items()}
rows = {"other validation pairs": list(between), **with_first, "with curvature": kept}
stable = pd.Series(rows).explode().astype(float)
ax = sns.swarmplot(x=stable, y=stable.index, color="0.3")
ax.axvline(0, color="0.45", linestyle="--", zorder=0)
ax.set(xlabel="rank correlation of the influences, before and after the change", ylabel="")
by_choice = stable.groupby(level=0, sort=False).mean().sort_values()
Markdown("Rank correlation, mean over the dots: " + "; ".join(
    f"{name} {value:.2f}" for name, value in by_choice.items()) + f""". **The ranking changes most
with *{by_choice.index[0]}*.** Say all these choices when you report an influence: it is no property
of the pair. (Lesson 08 asks what follows for selecting.) {p.note}""")  # fmt: skip

# %% [markdown]
# ## 7 · When this misleads
# - **Exact is not true.** The ways of section 3 agree to several digits on the first-order answer.
#   Section 5 says how far that answer is from the outcome of a training.
# - **The validation set decides.** Its labels, its taste and its size are in every score: even a
#   few hundred pairs rank by their accidents. Draw it again, or split it in two, and look.
# - **Negative is not wrong.** Most pairs with a negative influence are rightly labelled.
# - **Large is loud.** Pairs with a large loss have large influences of either sign (section 4).
# - **A difference needs its check.** In float32 with a step of your own, or in bfloat16, compare a
#   few pairs with gradients, as `auto` does, before you believe a ranking.
# - **Curvature depends on the groups.** Before this run we tried fewer halves. The gain from
#   curvature was clear of zero in some trials and not in others, so we drew more of them. Read it
#   as a question.
# - **Optimizers.** Influence is about gradient descent; you train with Adam, clipping and warm-up.
#
# ## 8 · Exercises
# Write the body of each function, then run the check below it.
#
# ### Exercise 1 · From log-probs to the loss
# *6 minutes · easy · you can turn the slopes of two log-probs into the slope of a loss*
#
# Section 3 left this out. Arrays [pairs]: slopes of the chosen and rejected log-probs along some
# direction, and the implicit margins (β is in them). Return the slope of each pair's DPO loss along
# that direction.
#
# <details><summary>Hint</summary>
# The loss is −log σ(m): what is its derivative by m? And the margin's by the direction?
# </details>

# %%
def my_loss_slope(chosen_slope, rejected_slope, margin, beta):
    """Derivative of -log sigmoid(margin) along the direction, an array."""
    ### BEGIN SOLUTION
    weight = 1 / (1 + np.exp(margin))  # sigmoid(-m)
    return -weight * beta * (chosen_slope - rejected_slope)
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_loss_slope(my_loss_slope)

# %% [markdown]
# ### Exercise 2 · All pairs at once
# *6 minutes · easy · you can compute every influence with two passes*
#
# From memory: `losses(theta)` scores all pairs at parameters `theta`. Return the derivative of each
# loss along `direction` by a central difference. With the validation gradient as direction, that is
# influence.
#
# <details><summary>Hint</summary>
# How far apart are the two points, counted in directions?
# </details>

# %%
def my_central_difference(losses, theta, direction, h):
    """One derivative a pair, an array."""
    ### BEGIN SOLUTION
    ahead, behind = losses(theta + h * direction), losses(theta - h * direction)
    return (ahead - behind) / (2 * h)
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_central_difference(my_central_difference)

# %% [markdown]
# ### Exercise 3 · The other label
# *10 minutes · hard · you can tell, without a pass, what flipping a label would do*
#
# Exchange chosen and rejected of a pair, at the same θ: its margin turns its sign, its slope turns
# its sign, and its weight changes, too. From arrays of influences and margins (as labelled), return
# what the influences would be with the other label.
#
# <details><summary>Hint</summary>
# IF = −σ(−m) × the margin's slope. Both change; and σ(m) / σ(−m) is simpler than it looks.
# </details>

# %%
def my_flipped_influence(influence, margin):
    """Influence of each pair with the other label, an array."""
    ### BEGIN SOLUTION
    return -influence * np.exp(margin)
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_flipped_influence(my_flipped_influence)

# %% [markdown]
# ### Exercise 4 · The linear datamodeling score
# *8 minutes · medium · you can judge any attribution by what training really did*
#
# `influence` is an array [pairs]; `subsets` holds lists of positions in it, of different sizes;
# `falls[k]` is by how much the validation loss fell in training on subset k. Return the score.
#
# <details><summary>Hint</summary>
# What does first order predict for a whole subset? Then <code>scipy.stats.spearmanr</code>, or
# ranks and <code>np.corrcoef</code>.
# </details>

# %%
def my_datamodeling_score(influence, subsets, falls):
    """Rank correlation of predicted and real falls, a float."""
    ### BEGIN SOLUTION
    predicted = pd.Series([influence[subset].sum() for subset in subsets])
    return predicted.corr(pd.Series(falls), method="spearman")
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_datamodeling_score(my_datamodeling_score)

# %% [markdown]
# ## 9 · The paper said, we measured

# %%
scratch = "Adam, from scratch"
Markdown(f"""
| the paper said | we measured |
|---|---|
| influence is the inner product of a pair's and the validation gradient at the warmed-up θ [N] | \
its sign and size hold for single short steps: rank correlation {ranks.iloc[0]:.3f} at rate \
{by_rate.index[0]:g}, {ranks.iloc[-1]:.2f} at {by_rate.index[-1]:g} |
| it takes some 10 hours, its proxies 5 minutes, on a 1B model [N] | on a tiny model, CPU time: \
{passes["central"]:.1f} scoring passes, {faster["central"]:.0f} times as fast as the loop, \
relative error {error["central"]:.0e} |
| pairs of low influence are noise [N] | with wrong labels for "noise" [?], AUC \
{auc_of["influence"]:.2f} over validation sets; by the pair's own loss {own_loss:.2f}; validation \
labels by a coin {auc_of["validation by coin"]:.2f} |
| *not known to us*: an inverse Hessian | curvature adds {gain(scratch)} (LDS from scratch, own \
validation set); with Adam from θ {gain("Adam, from θ")} |
| *not asked*: does it predict a training from scratch? | LDS on random halves: own \
validation set {said[scratch, True, "first"]}, another {said[scratch, False, "first"]}; luck \
{nulls[scratch]} |
| *not asked*: does it depend on the validation draw? | rank correlation of two sets of \
{count}: mean {between.mean():.2f}, {between.min():.2f} to {between.max():.2f} |

{p.note}""")

# %% [markdown]
# **Differences from the paper.** What we know of its influence comes from notes by others [N]:
# whether it applies an inverse Hessian, over which parameters, on which layers or projections, and
# how the ten hours came about, is not known to us; the default here is first order and all
# parameters. Its policies have 1B parameters and more, and real preferences; ours are tiny, and
# validation and training pairs share a writer pool and a judge, but no fact. Thresholds on the
# influence (the paper's *truncated* influence, TIF), and the proxies, are lesson 08's.
#
# ## In this lesson we saw
# - influence as the slope of a pair's loss along one direction, the validation gradient: all pairs
#   in two scoring passes, with a small error that can be checked;
# - a step between rounding and curvature, and a method that checks its own answer by gradients;
# - that the draw of the validation set changes the ranking; that influence rewards what carries
#   over to it (here tone), and that negative is not wrong;
# - a promise that holds for short steps and plain gradient descent, and fades with Adam, from
#   scratch, and on another validation set, with curvature and without;
# - that groups can test it, and leaving one pair out only where nothing else moves.
#
# **Next**: which influences make good training pairs, and how far the paper's proxies come.
#
# **References.** TIF, LossDiff, IRM: [2510.13212](https://arxiv.org/abs/2510.13212). Influence
# functions: Koh and Liang 2017, [1703.04730](https://arxiv.org/abs/1703.04730). TracIn: Pruthi et
# al. 2020, [2002.08484](https://arxiv.org/abs/2002.08484). TRAK and the linear datamodeling score:
# Park et al. 2023, [2303.14186](https://arxiv.org/abs/2303.14186). LESS: Xia et al. 2024,
# [2402.04333](https://arxiv.org/abs/2402.04333).

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
