# %% [markdown]
# Margins guess at what training on a pair would do. That can be *computed*: the pair's gradient
# says where a step on it goes, the validation set's gradient says where it should go, and their
# inner product is the **influence** of the pair. The method of this chapter's paper (TIF,
# [2510.13212](https://arxiv.org/abs/2510.13212)) is said to need hours for it, and minutes for its
# stand-ins [N]. We find that all influences lie along **one** direction, and get them, exactly, for
# two scoring passes. Then we ask what the paper's number is worth: we train, and compare.
#
# **You will be able to**
# - say what a gradient of one pair tells about a validation set, with its sign and its unit;
# - compute influence by hand, and then for all pairs at once along one direction;
# - choose a step between rounding and curvature, and check that it was a good one;
# - test influence against the truth: real steps, groups of pairs, retraining from scratch;
# - tell what it does *not* say about a pair.
#
# **Needs** [chapter 02](02_dpo.ipynb): the DPO loss and its gradient. **On a GPU** nothing changes
# here; with a large policy in bfloat16 `method="auto"` takes exact ways instead of differences.
#
# Marks: [P] from a paper's text, [N] from third-party notes on it, [?] our reading. Most of what we
# know of this paper's influence is [N].

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.profile()

# %% [markdown]
# ## 1 · One step on one pair
# Influence is asked of a policy that knows a little already: here **θ**, after one epoch of DPO on
# the pairs. The **validation set** is about other facts: what it gains, it cannot have read. And
# `fresh` is another one like it, for a question at the end.

# %%
import torch
from datasets import concatenate_datasets

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
size = p.pick(quick="small", full="medium")
start = nb.load_policy(f"world/{size}", device="cpu")

# %%
pairs = world.pairs(p.pick(quick=200, full=1600))
validation = world.pairs(p.pick(quick=48, full=300), part="validation")
fresh = world.pairs(len(validation), seed=1, part="validation")
everything = concatenate_datasets([pairs, validation, fresh])
reference = nb.response_logprobs(start, everything, progress=False)

# %%
settings = world.DPO[size]
beta = settings["beta"]
theta = nb.train_dpo(start, pairs, reference=reference, progress=False, **settings).policy
on = dict(beta=beta, progress=False)
influence = nb.scores.influence(theta, reference, pairs, validation, **on)

# %% [markdown]
# The last line is what this chapter takes apart. First, two pairs. **Read them, and predict**: a
# gradient step on one of them makes the validation loss fall, on the other it makes it rise. Which?

# %%
text = pairs.to_pandas().set_index("id")
two = sorted([influence.idxmin(), influence.idxmax()])
text.loc[two, ["prompt", "chosen", "rejected", "answer"]]

# %% [markdown]
# A step on pair $d$ with rate $\eta$ moves the parameters by $-\eta\,\nabla\ell_d$. To first order
# any function changes by its gradient times the move, so the validation loss changes by
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
# | $\text{IF}(d)$ | influence [N]: **positive: a step on d lowers the validation loss** | [pairs] |
#
# (This is TracIn's sign. Koh and Liang's is the opposite: look before you compare.)
#
# By hand, as in chapter 02: the whole log-softmax, one response at a time, and autograd.

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

rate, row_of = 1e-5, {id_: n for n, id_ in enumerate(pairs["id"])}
before, rows = losses(theta, validation).mean(), {}
for id_ in two:
    stepped = at(here - rate * gradient(theta, pairs[row_of[id_]]))
    after = losses(stepped, validation).mean()
    rows[id_] = {"influence": influence[id_], "−η · influence": -rate * influence[id_],
                 "validation loss, change": after - before}  # fmt: skip
steps = pd.DataFrame(rows).T
display(steps.map("{:+.3g}".format))

low = text.loc[influence.idxmin()]
right = "wrong" if low.flipped else "right"
Markdown(f"""Sign and size are as predicted. The pair that harms most prefers "{low.chosen}" to
"{low.rejected}", and the answer is {low.answer}: by the world's true reward its label is
**{right}**. Is a negative influence the mark of a wrong label, then? It asks something else:
whether a step on the pair goes where the validation set wants to go. Section 4 counts.
{p.note}""")

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

Markdown(f"""What did that cost? For each pair two responses, forward and backward, and a gradient
of **{len(goal):,} numbers**, of which an inner product keeps one. For {len(pairs):,} pairs that is
{2 * len(pairs):,} backward passes, one response at a time. With a billion parameters each gradient
is 4 GB. This is why influence has the name of being expensive, and why people compress gradients
(LESS, TRAK) or look for proxies (chapter 08).""")

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
# A walk uphill in validation loss, for $t > 0$. Six pairs; points are measured losses, lines are
# not fitted: they have the influence of section 1 as their slope. **Predict**: what does a pair of
# influence zero do? And will the points stay on the lines?

# %% tags=["picture"]
import matplotlib.pyplot as plt
import seaborn as sns

ranked = influence.sort_values().index
some = [ranked[round(q * (len(ranked) - 1))] for q in (0, 0.1, 0.35, 0.65, 0.9, 1)]
few = pairs.select([row_of[id_] for id_ in some])
reach = 1 / influence[some].abs().max()  # so far that the steepest line changes by a nat
ts = np.linspace(-reach, reach, 9)
walk = pd.DataFrame({t: losses(at(here + float(t) * goal), few) for t in ts})
fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
for id_, color in zip(some, sns.color_palette("coolwarm_r", len(some))):
    change = walk.loc[id_] - walk.loc[id_, ts[4]]
    ax.plot(ts, influence[id_] * ts, color=color, label=f"{influence[id_]:+.1f}")
    ax.plot(ts, change, "o", color=color)
ax.axvline(0, color="0.45", linestyle="--", zorder=0)
ax.set(xlabel="t: how far along g (dashed line: θ)", ylabel="loss of a pair, minus at θ (nats)",
       title="One walk along g, and every pair's influence is its slope")  # fmt: skip
ax.legend(title="influence", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5));

# %% [markdown]
# So: a small step ahead, a small step back, score all pairs at both places, subtract. No gradient
# of any pair is made.

# %%
h = 0.002 / influence.std()  # a loss changes by about 0.002 nats
ahead = losses(at(here + h * goal), pairs)
behind = losses(at(here - h * goal), pairs)
along = (ahead - behind) / (2 * h)

mine = along[loop.index]
assert np.allclose(mine, by_hand, rtol=0.02, atol=0.02 * influence.std())
assert along.corr(influence) > 0.9999
display(pd.DataFrame({"gradients": by_hand, "two passes": mine}).round(3))

Markdown(f"""**All {len(pairs):,} influences, from two scoring passes**: what it costs to compute
the margins of a policy twice. Correlation with the library: {along.corr(influence):.6f}. To that
comes $g$ itself, one backward pass over the validation set, whatever the number of pairs.""")

# %% [markdown]
# It is even a little better than that. Scoring gives log-probs; the loss follows from them, and so
# does its slope, by the chain rule: with $\dot w,\, \dot l$ the slopes of the chosen and rejected
# log-probs along $g$,
#
# $$\text{IF}(d) = -\sigma(-m)\;\beta\,(\dot w - \dot l)$$
#
# `nb.scores.influence_table` shows the parts: how much the pair still pulls ($\sigma(-m)$, chapter
# 02), and which of its responses the walk moves.

# %%
table = nb.scores.influence_table(theta, reference, pairs, validation, **on)
weight = 1 / (1 + np.exp(table.margin))
parts = -weight * beta * (table.chosen_slope - table.rejected_slope)
assert np.allclose(parts, table.influence)
assert np.allclose(table.influence, influence)
table.loc[some].assign(weight=weight[some]).round(2)

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
# | ghost | forward + backward, packed | none |

# %%
from nbkit.derivatives.finite import finite_difference, logp_sums
from nbkit.derivatives.forward import forward_mode
from nbkit.derivatives.ghost import ghost
from nbkit.derivatives.reference import pair_by_pair

clocked = pairs.select(range(p.pick(quick=24, full=200)))
tokens = nb.tokenize_pairs(theta.tokenizer, clocked)
named = dict(theta.model.named_parameters())
blocks = goal.split([part.numel() for part in named.values()])
direction = {name: block.view_as(named[name]) for name, block in zip(named, blocks)}
scored = logp_sums(theta, tokens)
ways = {"scoring pass": lambda *_: (scored, logp_sums(theta, tokens)),
        "forward": lambda *of: finite_difference(*of, h, scored),
        "central": lambda *of: finite_difference(*of, h),
        "ghost": ghost, "jvp": forward_mode, "loop": pair_by_pair}  # fmt: skip

# %%
import time


def clock(way, repeats):
    """Fastest CPU time, seconds; and the slopes."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        _, slopes = way(theta, tokens, direction)
        taken.append(time.process_time() - began)
    return min(taken), slopes


clocks = {name: clock(way, 1 if name == "loop" else 3) for name, way in ways.items()}
seconds = pd.Series({name: taken for name, (taken, _) in clocks.items()})
costs = pd.DataFrame({"ms a pair": 1e3 * seconds / len(tokens),
                      "scoring passes": seconds / seconds["scoring pass"],
                      "times faster than the loop": seconds["loop"] / seconds})  # fmt: skip
costs.round(2)

# %%
scale = -(weight * beta)[clocked["id"]].to_numpy()  # of the loss, by the margin in log-probs


def as_influence(slopes):
    along_g = slopes if slopes.dim() == 1 else slopes[:, 0] - slopes[:, 1]
    return scale * along_g.numpy()


found = {name: as_influence(slopes) for name, (_, slopes) in clocks.items() if "pass" not in name}
truth = found.pop("loop")
fig, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
for (name, values), marker in zip(found.items(), "ox+1"):
    axes[0].scatter(truth, values, marker=marker, s=40, alpha=0.7, label=name)
    off = pd.Series(np.abs(values - truth) / truth.std()).sort_values(ignore_index=True)
    axes[1].plot(off.clip(lower=1e-9), (off.index + 1) / len(off), label=name)
axes[0].set(xlabel="influence by the loop", ylabel="influence by one direction")
axes[1].set(xscale="log", xlabel="difference from the loop (standard deviations of the influence)",
            ylabel="share of pairs that are closer")  # fmt: skip
for ax in axes:
    ax.legend(frameon=False)

# %%
closest = {name: np.corrcoef(values, truth)[0, 1] for name, values in found.items()}
assert min(closest.values()) > 0.999
faster = costs["times faster than the loop"]
Markdown(f"""On the left they cannot be told apart: Pearson's r with the loop is at least
{min(closest.values()):.5f}. In CPU time, central takes {costs["scoring passes"]["central"]:.1f}
scoring passes and is {faster["central"]:.0f} times as fast as the loop; ghost
{faster["ghost"]:.0f}, jvp {faster["jvp"]:.0f}, forward {faster["forward"]:.0f} times.""")

# %% [markdown]
# (Part of that is packing: the loop takes one short response at a time. On longer texts the factors
# are smaller; `tests/benchmarks/influence.py` measures them, and other libraries beside them.)

# %% [markdown]
# ### The step
# Subtracting two numbers that are nearly the same loses digits: log-probs in float32 have about
# seven. A longer step loses fewer, but the losses bend. **Predict** the shape of error against step
# for the central and for the forward difference, on logarithmic axes. The step is counted in nats:
# by how much it changes log-probs (root mean square).

# %%
exact = clocks["jvp"][1]  # [pairs, 2], nats per unit along g
pace = exact.square().mean().sqrt().item()
rows = []
for nats in np.logspace(-6, 0.5, p.pick(quick=7, full=14)):
    for name, known in {"central": None, "forward": scored}.items():
        _, slopes = finite_difference(theta, tokens, direction, nats / pace, known)
        rows.append({"nats": nats, "way": name,
                     "error": ((slopes - exact).norm() / exact.norm()).item()})  # fmt: skip
u_curve = pd.DataFrame(rows)
ax = sns.lineplot(u_curve, x="nats", y="error", hue="way", marker="o", palette="colorblind")
ax.axvline(table.attrs["step"], color="0.45", linestyle="--", label="chosen by auto")
ax.axhline(0.01, color="0.45", linestyle=":", label="what auto demands")
ax.set(xscale="log", yscale="log", xlabel="step: change of the log-probs (nats)",
       ylabel="relative error of the slopes")  # fmt: skip
ax.set_title("Left: rounding. Right: the losses bend")
ax.legend(frameon=False);

# %%
best = u_curve.loc[u_curve.groupby("way").error.idxmin()].set_index("way")
Markdown(f"""Rounding falls as 1/step, curvature rises with the step (forward) or its square
(central). So the central difference has its best place further right ({best.nats["central"]:.0e}
against {best.nats["forward"]:.0e} nats), and lower: error {best.error["central"]:.0e} against
{best.error["forward"]:.0e}.

**`auto` does not trust its own choice.** It took *{table.attrs["method"]}* with a step of
{table.attrs["step"]:.1e} nats, computed the slopes of {table.attrs["checked"]} pairs of different
lengths also by the loop, and found an error of {table.attrs["error"]:.1e} (in `.attrs`). Above 1%
it would have tried other steps, then ghost and jvp, and in the end raised an error. In bfloat16,
which has two or three digits, it begins with ghost. {p.note}""")

# %% [markdown]
# ## 4 · Which pairs help, and which harm?
# Three data sets, each with a policy of its own. The world knows what nobody knows of real pairs:
# whether a label is wrong, which response has the right animal, and which is kinder. **Predict**:
# of the pairs with a wrong label, how many have a negative influence?

# %%
from functools import partial
from operator import call

from nbkit.workers import run_jobs

seeds = p.pick(quick=[0], full=[0, 1, 2])
data = {seed: world.pairs(len(pairs), seed=seed) for seed in seeds}
logps = {seed: nb.response_logprobs(start, data[seed], progress=False) for seed in seeds}
refs = {seed: pd.concat([logps[seed], reference.loc[validation["id"]]]) for seed in seeds}
jobs = [(partial(nb.train_dpo, start, data[seed], reference=refs[seed], seed=seed, progress=False,
                 **settings),) for seed in seeds]  # fmt: skip
trained = {seeds[n]: run.policy for n, run in run_jobs(call, jobs, p.workers, desc="warm-up")}

# %%
def truth_table(seed):
    """Facts about each pair of a data set, and its influence."""
    frame = data[seed].to_pandas()
    grades = {side: pd.DataFrame([world.grade(*row) for row in zip(frame.prompt, frame[side])])
              for side in ("chosen", "rejected")}  # fmt: skip
    for what in ("correct", "tone"):
        sides = grades["chosen"][what].astype(float) - grades["rejected"][what].astype(float)
        frame[what] = np.sign(sides).astype(int)
    frame = frame.set_index("id")[["flipped", "rung", "correct", "tone"]].assign(seed=seed)
    found = nb.scores.influence_table(trained[seed], refs[seed], data[seed], validation, **on)
    return frame.join(found)


facts = pd.concat([truth_table(seed) for seed in seeds])

# %%
words = {-1: "the rejected one", 0: "neither", 1: "the chosen one"}
shown = facts.assign(tone=facts.tone.map(words), correct=facts.correct.map(words),
                     label=np.where(facts.flipped, "wrong label", "right label"))  # fmt: skip
wide = facts.influence.quantile([0.01, 0.99])
fig, axes = plt.subplots(1, 3, figsize=(14, 4), sharey=True, layout="constrained")
titles = {"label": "The label", "correct": "Right animal, the other wrong",
          "tone": "Kinder than the other"}  # fmt: skip
for ax, (what, title) in zip(axes, titles.items()):
    order = [*words.values()] if what != "label" else ["right label", "wrong label"]
    sns.boxplot(shown, x=what, y="influence", order=order, color="0.85", showfliers=False, ax=ax)
    ax.set_xticks(range(len(order)), [f"{kind}\n{(shown[what] == kind).sum()}" for kind in order])
    ax.axhline(0, color="0.45", linestyle="--", zorder=0)
    ax.set(title=title, xlabel="", ylim=1.5 * wide, ylabel="influence");

# %%
def share(rows):
    return f"{nb.mean_interval(rows):.0%}" if len(rows) else "none"


harmful = facts.influence < 0
Markdown(f"""Of the wrong labels {share(harmful[facts.flipped])} have a negative influence, of the
right ones {share(harmful[~facts.flipped])} (95% over pairs). So a negative influence is a hint, not
a verdict: of the pairs that harm, {share(facts.flipped[harmful])} are mislabelled, of all pairs
{share(facts.flipped)}.

The other panels say what the validation gradient is about. Where the chosen response is the kinder
one, {share(harmful[facts.tone == 1])} harm; where the rejected one is,
{share(harmful[facts.tone == -1])}. Where the chosen one alone has the right animal, it is
{share(harmful[facts.correct == 1])}; of all pairs {share(harmful)}. Tone is the same question for
all prompts, so it carries over to other facts; "the pet of mia is a dog" does not. **Influence on a
validation set rewards what carries over to it**, and truth need not. {p.note}""")

# %% [markdown]
# How good a detector of wrong labels is it? The chance that a right label has a higher influence
# than a wrong one (AUC; ½ is a coin). In comparison: the pair's own loss, which needs no validation
# set; and two **controls**: the influences, shuffled over the pairs; and the influence on the
# *same* validation pairs, each labelled by a coin. **Predict** the last.

# %%
def auc(score):
    """Mean over wrong labels of the share of right ones that score higher, within data sets."""
    places = []
    for _, rows in facts.groupby("seed"):
        right = np.sort(score[rows.index[~rows.flipped]])
        wrong = score[rows.index[rows.flipped]]
        places += list(1 - np.searchsorted(right, wrong) / len(right))
    return nb.mean_interval(places)


def coin_influence(seed):
    coin = nb.coin_labels(validation, seed=seed)
    new = nb.response_logprobs(start, coin, progress=False)
    refs_coin = pd.concat([logps[seed], new])
    return nb.scores.influence(trained[seed], refs_coin, data[seed], coin, **on)


facts["coin"] = pd.concat([coin_influence(seed) for seed in seeds])
rng = np.random.default_rng(0)
facts["any"] = rng.permutation(facts.influence)
detectors = {"influence": facts.influence, "−loss": -facts.loss, "shuffled": facts["any"],
             "validation by coin": facts.coin}  # fmt: skip
aucs = {name: auc(score) for name, score in detectors.items()}
pd.Series({name: f"{value:.2f}" for name, value in aucs.items()}, name="AUC").to_frame()

# %%
coin_auc, helpful = aucs["validation by coin"], facts.coin > 0
better = max(["influence", "−loss"], key=lambda name: aucs[name].value)
Markdown(f"""The better detector of wrong labels is {better}: AUC {aucs["−loss"]:.2f} for the pair's
own loss, {aucs["influence"]:.2f} for its influence, which asks something else.

And labels by a coin are not "no influence". Their AUC is {coin_auc:.2f}, which is
{coin_auc.verdict(0.5)} a half. A policy that is sure of anything is punished by such labels, so
their gradient says *be less sure* [?], and a step on a wrong label obeys:
{share(helpful[facts.flipped])} of the wrong labels have a positive influence there, and
{share(helpful[~facts.flipped])} of the right ones. Influence takes the validation set at its word.
{p.note}""")

# %% [markdown]
# One more thing comes for free. Exchange chosen and rejected of a pair: its margin turns its sign,
# its slope turns its sign, and its weight goes from $\sigma(-m)$ to $\sigma(m)$. So at the same θ
# the influence of the pair **with the other label** is $-e^{m}\, \text{IF}(d)$: no pass at all.

# %%
turned = nb.flip_labels(four, four["id"])
turned_logps = nb.response_logprobs(start, turned, progress=False)
turned_ref = pd.concat([turned_logps, reference.loc[validation["id"]]])
other = nb.scores.influence(theta, turned_ref, turned, validation, method="jvp", **on)
rule = -np.exp(table.margin[other.index]) * table.influence[other.index]
assert np.allclose(other, rule, rtol=0.02, atol=0.02 * influence.std())
pd.DataFrame({"as labelled": influence[other.index], "flipped": other, "rule": rule}).round(2)

# %% [markdown]
# ## 5 · Is it true?
# Influence is a promise about an infinitely small step. Training takes hundreds of steps that are
# not small, with Adam, which is not even a gradient step. So we test the promise, from easy to
# hard.
#
# **One step, longer and longer.** For pairs of all influences: predicted change, $-\eta\,
# \text{IF}(d)$, against the real one. **Predict**: at which rate does it break, and which way?

# %%
spread = [ranked[n] for n in np.linspace(0, len(ranked) - 1, p.pick(quick=4, full=18)).astype(int)]
gradients = {id_: gradient(theta, pairs[row_of[id_]]) for id_ in spread}
rows = []
for rate in [1e-5, 1e-4, 1e-3, 1e-2]:
    for id_, own in gradients.items():
        fall = before - losses(at(here - rate * own), validation).mean()
        rows.append({"rate": rate, "predicted": rate * influence[id_], "fall": fall})
single = pd.DataFrame(rows)

# %%
grid = sns.FacetGrid(single, col="rate", sharex=False, sharey=False, height=3)
grid.map_dataframe(sns.scatterplot, x="predicted", y="fall")
for ax in grid.axes.flat:
    ax.axline((0, 0), slope=1, color="0.45", linestyle="--", zorder=0)
grid.set_titles("one step, rate {col_name:g}")
grid.set_axis_labels("predicted fall (nats)", "fall of the validation loss");

# %%
def agreement(rows):
    ranks = nb.rank_correlation(rows.predicted, rows.fall, confidence=None).value
    short = (rows.fall < rows.predicted).mean()
    return pd.Series({"rank correlation": ranks, "fell less than predicted": short})


by_rate = single.groupby("rate")[["predicted", "fall"]].apply(agreement)
by_rate.round(3)

# %% [markdown]
# Small steps are as promised. Longer ones fall *short* of the promise nearly always: the validation
# loss bends upwards in most directions, so that every long step on a single pair costs something
# that its gradient did not mention.
#
# **Groups of pairs.** Nobody trains on one pair. Take random groups, train on each, and compare
# the summed influence of the group with the real fall of the validation loss; the rank correlation
# is the **linear datamodeling score** (LDS, [2303.14186](https://arxiv.org/abs/2303.14186) [P]).
# Four kinds of training, each further from a single small step:
#
# - from θ, plain gradient descent (SGD) with a small rate, and with ten times that;
# - from θ, with Adam, as θ itself was trained;
# - **from scratch**, the question one really has: random halves of the data, one epoch of Adam from
#   the policy that θ came from.
#
# With it, the **classical influence function** (Koh and Liang): not where one step leads, but where
# training would *end up*. For that, $g$ is multiplied by an inverse Hessian, here that of
# Gauss-Newton with damping λ: $(H + \lambda I)^{-1} g$, by conjugate gradients; then the same two
# passes along the new direction. Whether the paper applies it is not known to us [N].

# %%
curved = nb.scores.influence(
    theta, reference, pairs, validation, curvature="gauss-newton",
    curvature_pairs=p.pick(quick=24, full=128), **on,
)  # fmt: skip
shuffled = influence.sample(frac=1, random_state=0).set_axis(influence.index)  # the control
candidates = {"first order": influence, "with curvature": curved, "shuffled (control)": shuffled}
nb.rank_correlation(influence, curved).round(2)

# %%
def trained_on(begin, groups, seed=0, **changed):
    """A policy for each group of ids."""
    how = dict(reference=reference, seed=seed, progress=False, **{**settings, **changed})
    jobs = [(partial(nb.train_dpo, begin, pairs, ids, **how),) for ids in groups]
    runs = dict(run_jobs(call, jobs, p.workers, desc="groups"))
    return [runs[n].policy for n in range(len(groups))]


def falls(begin, policies, of=validation):
    """By how much the mean loss of some pairs is lower than before training, nats."""
    return pd.Series([losses(begin, of).mean() - losses(end, of).mean() for end in policies])


rng = np.random.default_rng(1)
many, part = p.pick(quick=4, full=32), len(pairs) // 10
groups = [list(rng.choice(pairs["id"], part, replace=False)) for _ in range(many)]
halves = [list(rng.choice(pairs["id"], 5 * part, replace=False)) for _ in range(many)]

# %%
sgd = dict(optim="sgd", warmup_steps=0, max_grad_norm=1e9)  # no warm-up, no clipping
slow = falls(theta, trained_on(theta, groups, learning_rate=1e-4, **sgd))
fast = falls(theta, trained_on(theta, groups, learning_rate=1e-3, **sgd))
adam = falls(theta, trained_on(theta, groups))
from_start = trained_on(start, halves)
trainings = {
    "SGD, rate 1e-4": (groups, slow), "SGD, rate 1e-3": (groups, fast), "Adam": (groups, adam),
    "from scratch": (halves, falls(start, from_start)),
    "from scratch, fresh": (halves, falls(start, from_start, fresh)),
}  # fmt: skip

# %%
def predicted(score, chosen):
    return pd.Series([score[ids].sum() for ids in chosen])


def lds(score, chosen, fall):
    found = nb.rank_correlation(predicted(score, chosen), fall)
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"

# %%
scores = {name: {who: lds(score, *training) for who, score in candidates.items()}
          for name, training in trainings.items()}  # fmt: skip
pd.DataFrame(scores).T

# %%
fig, axes = plt.subplots(1, 5, figsize=(17, 3.6), layout="constrained")
for ax, (name, (chosen, fall)) in zip(axes, trainings.items()):
    x = predicted(influence, chosen)
    if "SGD" in name:  # one step of the mean loss for every 16 pairs: the size is predicted, too
        x = float(name.split()[-1]) / 16 * x
        ax.axline((0, 0), slope=1, color="0.45", linestyle="--", zorder=0)
    sns.scatterplot(x=x, y=fall, ax=ax)
    ax.locator_params(nbins=4)
    ax.set(title=name, xlabel="predicted fall (nats)" if "SGD" in name else "sum of influences",
           ylabel="fall of the validation loss (nats)" if ax is axes[0] else "")  # fmt: skip

# %%
def size_of(name):
    """Slope of the falls by the predicted falls: 1 if the size is as predicted."""
    chosen, fall = trainings[name]
    return np.polyfit(float(name.split()[-1]) / 16 * predicted(influence, chosen), fall, 1)[0]


def curvature_gain(name):
    """LDS with curvature minus first order, and its interval: bootstrap over groups."""
    (chosen, fall), resamples = trainings[name], p.pick(quick=20, full=500)
    table = pd.DataFrame({"a": predicted(curved, chosen), "b": predicted(influence, chosen),
                          "fall": fall})  # fmt: skip
    draws = [table] + [table.sample(frac=1, replace=True, random_state=n) for n in range(resamples)]
    gains = [np.subtract(*t.rank().corr().loc[["a", "b"], "fall"]) for t in draws]
    low, high = np.quantile(gains[1:], [0.025, 0.975])
    return f"{gains[0]:+.2f} [{low:+.2f}, {high:+.2f}]"


first = {name: row["first order"] for name, row in scores.items()}
luck = [row["shuffled (control)"] for row in scores.values()]

# %%
Markdown(f"""**Where it works**: short steps of the kind that it is about. With SGD and the small
rate the LDS is {first["SGD, rate 1e-4"]}, and the falls are {size_of("SGD, rate 1e-4"):.2f} times
what was predicted (dashed line: 1, no fit). At ten times the rate, {first["SGD, rate 1e-3"]}, and
{size_of("SGD, rate 1e-3"):.2f} times: the curvature of the last figure, again.

**Where it fades**: Adam divides every entry of the gradient by its running size, so it goes another
way: {first["Adam"]}. From scratch the question is another one, too: the halves shape the very θ at
which the influence was computed. {first["from scratch"]}; and judged by *other* validation pairs of
the same kind, {first["from scratch, fresh"]}. The control says what luck gives: {luck[2]} with
Adam, {luck[3]} from scratch.

**Curvature**, minus first order: {curvature_gain("SGD, rate 1e-4")} with SGD's small steps, which
are not what it is about; {curvature_gain("Adam")} with Adam; {curvature_gain("from scratch")} from
scratch, {curvature_gain("from scratch, fresh")} on fresh pairs.

(Intervals: 95% over {many} groups; one data set, one θ, one order of training.) {p.note}""")

# %% [markdown]
# Random groups differ little: each holds a mix. How about **sorted** groups? Ten tenths of the
# pairs, from the lowest to the highest influence, and, as the control, random tenths. Each is
# trained on from θ, and each is *left out* from scratch. **Predict** both curves.

# %%
shuffle, tenths = shuffled.sort_values().index, {}
for kind, order, places in [("sorted", ranked, p.pick(quick=[0, 5, 9], full=range(10))),
                            ("random (control)", shuffle, range(p.pick(quick=2, full=5)))]:
    tenths[kind] = [list(order[n * part : (n + 1) * part]) for n in places]
rows = []
for kind, tens in tenths.items():
    rest = [[id_ for id_ in pairs["id"] if id_ not in set(ids)] for ids in tens]
    without = trained_on(start, rest)
    rows.append(pd.DataFrame({
        "tenths": kind, "mean influence": [influence[ids].mean() for ids in tens],
        "trained on it, from θ": falls(theta, trained_on(theta, tens)),
        "left out, from scratch": falls(start, without),
        "left out, on fresh pairs": falls(start, without, fresh)}))  # fmt: skip
by_tenth = pd.concat(rows)

# %%
fig, axes = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
for ax, what in zip(axes, by_tenth.columns[2:]):
    for (kind, points), line in zip(by_tenth.groupby("tenths", sort=False), ["o-", "o"]):
        ax.plot(points["mean influence"], points[what], line, label=kind)
    ax.set(title=what, xlabel="mean influence of the tenth",
           ylabel="fall of the validation loss (nats)")  # fmt: skip
    ax.legend(frameon=False, title="")

# %%
def along_tenths(kind, what):
    rows = by_tenth[by_tenth.tenths == kind]
    return np.corrcoef(rows["mean influence"].rank(), rows[what].rank())[0, 1]


def over_random(what, end):
    """Three tenths from one end of the order, against the random tenths: mean, nats."""
    falls_of = by_tenth.groupby("tenths")[what]
    chosen = falls_of.get_group("sorted").iloc[end]
    return f"{chosen.mean() - falls_of.get_group('random (control)').mean():+.3f}"


on_it, out, out_fresh = by_tenth.columns[2:]
spread_of = by_tenth.groupby("tenths")[[out, out_fresh]].agg(np.ptp)
tens = by_tenth[by_tenth.tenths == "sorted"][on_it]
lowest, highest = slice(0, 3), slice(-3, None)

# %%
Markdown(f"""Left out, from scratch: the final loss differs by {spread_of[out]["sorted"]:.3f} nats
between sorted tenths and by {spread_of[out]["random (control)"]:.3f} between random ones, in the
order of the influence (rank correlation {along_tenths("sorted", out):.2f}). On fresh validation
pairs: {spread_of[out_fresh]["sorted"]:.3f} against {spread_of[out_fresh]["random (control)"]:.3f},
{along_tenths("sorted", out_fresh):.2f}. So where random groups hardly differ, sorting finds groups
that matter.

**The two ends are not alike.** Without one of the three highest tenths, instead of a random one,
the fall of the loss changes by {over_random(out, highest)} nats, on fresh pairs by
{over_random(out_fresh, highest)}. Without one of the three lowest: {over_random(out, lowest)}, on
fresh pairs {over_random(out_fresh, lowest)}. What helps this validation set helps its likes; what
harms it may harm *it* alone.

Trained on, from θ: {along_tenths("sorted", on_it):.2f}. The best tenth to train on is number
{tens.argmax() + 1} ({tens.max():+.3f} nats); the last brings {tens.iloc[-1]:+.3f}. The paper says
that the highest influences overfit [N]: chapter 08 follows them. (One run each.) {p.note}""")

# %% [markdown]
# **Leave one out.** The oldest test there is: train from scratch with all pairs, and again without
# one. For the pairs with the lowest and the highest influence. Order and seed are the same; but
# without the pair, every later batch shifts by one. So, as a cleaner version, the pair also goes to
# the **very end**, where nothing comes after it. In comparison: the same training with other seeds.

# %%
ids = list(pairs["id"])
extreme = [*ranked[: p.pick(quick=1, full=3)], *ranked[-p.pick(quick=1, full=3) :]]
without = [[id_ for id_ in ids if id_ != one] for one in extreme]
last = [[*rest, one] for rest, one in zip(without, extreme)]
given = falls(start, trained_on(start, [ids, *without, *last], order="given"))

# %%
full, out, at_end = given[0], given[1 : len(extreme) + 1], given[len(extreme) + 1 :]
loo = pd.DataFrame({"influence": influence[extreme].to_numpy(),
                    "in its place": full - out.to_numpy(),
                    "at the very end": at_end.to_numpy() - out.to_numpy()}, extreme)  # fmt: skip
reseeded = [trained_on(start, [ids], seed=seed)[0] for seed in p.pick(quick=[1], full=[1, 2, 3])]
noise = falls(start, [theta, *reseeded])  # θ itself is seed 0
loo.map("{:+.2g}".format)

# %%
agree = {name: (np.sign(loo[name]) == np.sign(loo.influence)).sum() for name in loo.columns[1:]}
Markdown(f"""The fall of the validation loss that the pair brings has the predicted sign in
{agree["in its place"]} of {len(loo)} cases in its place, and in {agree["at the very end"]} of
{len(loo)} at the very end. Another seed, with nothing left out, moves the loss by
{noise.std():.1e} (standard deviation), a pair at the end by at most
{loo["at the very end"].abs().max():.1e}. **One pair in {len(pairs):,} is lost in the noise of the
order**, so leave-one-out by retraining cannot judge any score here, whoever runs it once; groups
can. {p.note}""")

# %% [markdown]
# ## 6 · Influence of what, on what?
# Three choices are hidden in "the influence of a pair", and each gives another ranking: **which
# validation pairs**, **which θ**, and **which parameters**. The last is done for cost with large
# models: only the last layer, or a LoRA adapter. (A fresh adapter leaves the policy as it is, and
# its gradients are the policy's, seen through a random matrix of low rank.) **Predict**: which
# choice changes the ranking most?

# %%
def influence_at(policy=theta, of=validation, **choice):
    return nb.scores.influence(policy, reference, pairs, of, **on, **choice)


def fresh_lora(seed):
    torch.manual_seed(seed)
    return influence_at(nb.add_lora(at(here), rank=8))


layer = f"layers.{theta.model.config.num_hidden_layers - 1}."
choices = {
    "other validation pairs": influence_at(of=fresh),
    "another warm-up (seed 1)": influence_at(reseeded[0]),
    "before the warm-up": influence_at(start),
    "last layer only": influence_at(parameters=lambda name: layer in name),
    "a fresh LoRA adapter, rank 8": fresh_lora(0), "another one": fresh_lora(1),
    "with curvature": curved, "shuffled (control)": shuffled,
}  # fmt: skip

# %%
kept = {name: nb.rank_correlation(influence, score) for name, score in choices.items()}
stable = pd.DataFrame(kept).T
fig, ax = plt.subplots(figsize=(8, 3.5), layout="constrained")
sns.scatterplot(x=stable.value, y=stable.index, s=60, ax=ax)
ax.hlines(stable.index, stable.low, stable.high)
ax.axvline(0, color="0.45", linestyle="--", zorder=0)
ax.set(xlabel="rank correlation with the influence of this chapter (95% over pairs)", ylabel="");

# %%
def words_of(name):
    return f"{stable.value[name]:.2f} [{stable.low[name]:.2f}, {stable.high[name]:.2f}]"

# %%
Markdown(f"""Other validation pairs from the same source: {words_of("other validation pairs")}.
Another order of the same warm-up: {words_of("another warm-up (seed 1)")}. Before the warm-up:
{words_of("before the warm-up")}. Only the last layer: {words_of("last layer only")}; through a
fresh adapter: {words_of("a fresh LoRA adapter, rank 8")}, and through another
{words_of("another one")}. Say all three choices when you report an
influence: it is no property of the pair. (Chapter 08 asks what follows for selecting.)
{p.note}""")

# %% [markdown]
# ## 7 · When this misleads
# - **Exact is not true.** The methods of section 3 agree to many digits on the first-order answer.
#   Section 5 says how far that answer is from the outcome of a training.
# - **Negative is not wrong.** Many rightly labelled pairs have a negative influence, because the
#   validation gradient is about what most pairs have in common.
# - **The validation set decides.** Its labels, its taste and its size are in every score: with a
#   few pairs you rank by their noise. Look at the first row of section 6's figure.
# - **Large is loud.** Long responses and pairs on the wrong side have large gradients, so they have
#   large influences of either sign.
# - **A difference needs its check.** In float32 with a step of your own, or in bfloat16, compare a
#   few pairs with gradients, as `auto` does, before you believe a ranking.
# - **Optimizers.** Influence is about gradient descent; you train with Adam, clipping and warm-up.
#
# ## 8 · Exercises
# Write the body of each function, then run the check below it.
#
# ### Exercise 1 · From log-probs to the loss
# *6 minutes · easy · you can turn the slopes of two log-probs into the slope of a loss*
#
# Arrays [pairs]: slopes of the chosen and rejected log-probs along some direction, and the implicit
# margins (β is in them). Return the slope of each pair's DPO loss along that direction.
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
nb.exercises.check_loss_slope(my_loss_slope)

# %% [markdown]
# ### Exercise 2 · All pairs at once
# *6 minutes · easy · you can compute every influence with two passes*
#
# `losses(theta)` scores all pairs at parameters `theta`. Return the derivative of each loss along
# `direction` by a central difference. With the validation gradient as direction, that is influence.
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
nb.exercises.check_central_difference(my_central_difference)

# %% [markdown]
# ### Exercise 3 · The other label
# *10 minutes · hard · you can tell, without a pass, what flipping a label would do*
#
# From arrays of influences and margins, return what the influences would be with chosen and
# rejected exchanged, at the same parameters.
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
nb.exercises.check_flipped_influence(my_flipped_influence)

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
nb.exercises.check_datamodeling_score(my_datamodeling_score)

# %% [markdown]
# ## 9 · The paper said, we measured

# %%
Markdown(f"""
| the paper said | we measured |
|---|---|
| influence is the inner product of a pair's and the validation gradient at the warmed-up θ [N] | \
its sign and size hold for single steps: rank correlation \
{by_rate["rank correlation"].iloc[0]:.3f} at rate {by_rate.index[0]:g}, \
{by_rate["rank correlation"].iloc[-1]:.2f} at {by_rate.index[-1]:g} |
| it takes some 10 hours, its proxies 5 minutes, on a 1B model [N] | on a tiny model and CPU time: \
exact influence in {costs["scoring passes"]["central"]:.1f} scoring passes, \
{faster["central"]:.0f} times faster than the loop, r {closest["central"]:.5f} |
| pairs of low influence are noise [N] | AUC for wrong labels {aucs["influence"]:.2f}; by the \
pair's own loss {aucs["−loss"]:.2f}; validation labels by a coin {aucs["validation by coin"]:.2f} |
| *not known to us*: an inverse Hessian | LDS, Adam from θ: first order {first["Adam"]}; \
curvature adds {curvature_gain("Adam")}; from scratch it adds {curvature_gain("from scratch")} |
| *not asked*: does it predict a training from scratch? | LDS on random halves: \
{first["from scratch"]}, on fresh validation pairs {first["from scratch, fresh"]}; \
control {luck[3]} |

{p.note}""")

# %% [markdown]
# **Differences from the paper.** What we know of its influence comes from notes by others [N]:
# whether it applies an inverse Hessian, over which parameters, on which layers or projections, and
# how the ten hours came about, is not known to us; the default here is first order and all
# parameters. Its policies have 1B parameters and more, and real preferences; ours are tiny, and
# validation and training pairs share a writer pool and a judge, but no fact. Thresholds on the
# influence, and the proxies, are chapter 08's.
#
# ## In this chapter we saw
# - influence as the slope of a pair's loss along one direction, the validation gradient: all pairs
#   in two scoring passes, exactly;
# - a step between rounding and curvature, and a method that checks its own answer by gradients;
# - that the validation set rewards what carries over (here tone), and that negative is not wrong;
# - a promise that holds for short steps and plain gradient descent, and fades with Adam and from
#   scratch, where curvature helps; that groups can test it, and leaving one pair out cannot;
# - that a ranking by influence belongs to its validation pairs, its θ and its parameters.
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
