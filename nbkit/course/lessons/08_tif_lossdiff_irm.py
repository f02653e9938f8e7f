# %% [markdown]
# Lesson 07 computed what one training pair does to a validation loss: its influence. Which pairs
# should one keep, then? The obvious answer: those with the highest. The paper of this lesson
# (ICLR 2026, [2510.13212](https://arxiv.org/abs/2510.13212)) says: those in the **middle**. The
# lowest are noise, and a few steps overfit the highest [N]. It adds two proxies, LossDiff and IRM,
# that are to find the middle in minutes instead of hours (a 1B model: 5 minutes against 10 hours
# [N]). We test each of these claims, in a world where it is known which labels are wrong.
#
# **You will be able to**
# - truncate influence at two percentiles, and say what the middle consists of;
# - train low, middle and high groups, and read their curves;
# - tell what separates LossDiff from influence, and repair it;
# - say how much of an overlap is chance;
# - test whether "good data" is a property of the data or of the model.
#
# **Needs** [lesson 07](07_influence.ipynb): influence as a derivative. **On a GPU** nothing
# changes here: the models are tiny. Lesson 11 makes the same calls with a real one.
#
# Marks: [N] from others' notes on the paper (most of what we know of it), [?] our reading.

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.course.profile()

# %% [markdown]
# ## 1 · What is in the middle?
# The pipeline [N]: **all pairs → θ → a score for each pair → select → train again, from the
# start**. Here θ, the *warmed-up* policy, comes from one epoch of DPO on all pairs. The score is
# influence at θ on the loss of a validation set. Truncated, it says keep or not:
#
# $$\text{IF}(d) = \langle \nabla \bar\ell_{\text{val}}(\theta), \nabla \ell_d(\theta) \rangle,
# \qquad \text{TIF}(d) = \mathbb{1}[\delta_{\text{small}} < \text{IF}(d) < \delta_{\text{large}}]$$
#
# | symbol | meaning | unit |
# |---|---|---|
# | $\ell_d,\ \bar\ell_{\text{val}}$ | DPO loss of pair $d$; mean over the validation set | nats |
# | $\text{IF}(d)$ | positive: a step on $d$ lowers the validation loss | (nats per unit)² |
# | $\delta$ | thresholds, given as percentiles of IF over all pairs | as IF |
#
# We do it on several **data sets**: fresh pairs, and a training seed each. They share the
# validation pairs, whose facts are in no training pair.

# %%
import torch

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
size, other = p.pick(quick=("small", "medium"), full=("medium", "small"))
settings = world.DPO[size]  # the same for both sizes
policy = nb.load_policy(f"world/{size}", device="cpu")
seeds = p.pick(quick=[0, 1], full=[0, 1, 2, 3, 4])
data = {seed: world.pairs(p.pick(quick=96, full=1440), seed=seed) for seed in seeds}
validation = world.pairs(p.pick(quick=48, full=300), part="validation")
watched = world.pairs(len(validation) // 2, seed=1, part="validation")  # about the same facts

# %%
from functools import partial

from datasets import concatenate_datasets

at_once = partial(nb.at_once, workers=p.workers, progress=False)


def tables(policies, sets):
    """Log-prob table of each policy on its set, under the same keys."""
    return at_once({key: partial(nb.response_logprobs, policies[key], some, progress=False)
                    for key, some in sets.items()})  # fmt: skip


scored = {seed: concatenate_datasets([data[seed], validation, watched]) for seed in seeds}
reference = tables(dict.fromkeys(seeds, policy), scored)  # before training

# %%
def train(policies, sets, reference=reference, shift=0, **changes):
    """A DPO run from each policy on its set, by seed: the policies that come out."""
    how = {**settings, "progress": False, **changes}
    runs = at_once({seed: partial(nb.train_dpo, policies[seed], some, seed=seed + shift,
                                  reference=reference[seed], **how)
                    for seed, some in sets.items()})  # fmt: skip
    return {seed: run.policy for seed, run in runs.items()}


def influences(theta, reference, beta=settings["beta"]):
    """Exact influence of every pair, and its ingredients, for each data set."""
    return at_once({seed: partial(nb.scores.influence_table, theta[seed], reference[seed],
                                  data[seed], validation, beta=beta, progress=False)
                    for seed in seeds})  # fmt: skip

# %%
theta = train(dict.fromkeys(seeds, policy), data)
theta_logps = tables(theta, data)
found = influences(theta, reference)
influence = {seed: table.influence for seed, table in found.items()}
text = {seed: data[seed].to_pandas().set_index("id").join(found[seed]) for seed in seeds}

# %% [markdown]
# Pairs of the first data set: the two lowest, two from the middle, the two highest. **Read them
# aloud, and predict**: where are the wrong labels? And which pairs are in the middle: those that
# teach a little, or those that have been learned?

# %%
ranked = nb.select.easiest(influence[0], 1.0)
half = len(ranked) // 2
places = {"lowest": ranked[:2], "middle": ranked[half - 1 : half + 1], "highest": ranked[-2:]}
six = pd.concat({name: text[0].loc[ids] for name, ids in places.items()}).droplevel(1)
six[["prompt", "answer", "chosen", "rejected"]]

# %%
six[["prompt", "flipped", "margin", "influence"]].round(2)

# %% [markdown]
# (`flipped`: the label is wrong by the true reward. `margin`: the implicit margin at θ.) Six pairs
# prove nothing. Count, by tenths of influence, in all data sets. (Here and below: mean over data
# sets and its 95% interval, unless it says otherwise.)

# %%
def by_tenth(seed):
    """Means over the tenths of influence, 1 the lowest."""
    tenth = pd.qcut(influence[seed], 10, labels=range(1, 11)).astype(int).rename("tenth")
    return text[seed].groupby(tenth).mean(numeric_only=True)


tenths = pd.concat({seed: by_tenth(seed) for seed in seeds}, names=["seed"]).reset_index()

# %%
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
words = {"flipped": "share of wrong labels", "margin": "implicit margin at θ (β × nats)"}
for ax, (column, label) in zip(axes, words.items()):
    means = tenths.groupby("tenth")[column].mean()
    ax.scatter(tenths.tenth, tenths[column], s=12, color="0.6", label="single data sets")
    ax.plot(means.index, means, color=nb.plots.COLORS["margin"], marker="o", label="their mean")
    ax.axhline(means.mean(), ls="--", color="0.45", label="all pairs (or random ones)")
    ax.set(xlabel="tenth of influence (1: lowest)", ylabel=label,
           ylim=(min(0, 1.05 * tenths[column].min()), None))  # fmt: skip
axes[0].legend(frameon=False)
fig.suptitle("By tenths of influence: wrong labels, and how far a pair has been learned");

# %%
def over_seeds(function, form="+.2f"):
    """A number of each data set: mean and 95% interval, as text."""
    return f"{nb.seed_interval([function(seed) for seed in seeds]):{form}}"


def told(interval, above, below, neither):
    """The words for an interval that lies above zero, below it, or on both sides."""
    return {"above zero": above, "below zero": below}.get(interval.verdict(), neither)

# %%
flips = tenths.pivot(index="seed", columns="tenth", values="flipped")
low, high, ends = (
    over_seeds(lambda s: flips.loc[s, at].mean() - flips.loc[s].drop(at).mean())  # noqa: B023
    for at in ([1], [10], [1, 2, 9, 10]))  # fmt: skip
Markdown(f"""**Is low influence noise?** Wrong labels, share minus that of all other pairs: lowest
tenth {low}; highest tenth {high}; both outer fifths together {ends}. {p.note}""")

# %% [markdown]
# A mean over data sets hides what they are. One look at each, θ's own loss included:

# %%
each = pd.DataFrame({"loss at θ": {s: text[s].loss.mean() for s in seeds},
                     "mean size of influence": {s: influence[s].abs().mean() for s in seeds},
                     "wrong labels, lowest tenth": flips[1]})  # fmt: skip
scale = each["mean size of influence"]
odd = scale.idxmax()  # section 6 looks at it again
each.round(2)

# %% [markdown]
# If influence is many times larger in one data set than in the others, look at its loss: θ may have
# been caught in a *spike* of training, a place so steep that the validation gradient points along
# it, whatever the pairs say [?]. A warm-up whose rate falls to zero may avoid it [?]. Here the rate
# is constant, and we keep every data set: it is what one run can give you.
#
# And the middle? The loss reads a pair through its margin alone, so by the chain rule
#
# $$\text{IF}(d) = \underbrace{\sigma(-m_d)}_{\text{pull}} \cdot
# \underbrace{-\langle \nabla \bar\ell_{\text{val}}, \nabla m_d \rangle}_{-\text{slope}}$$
#
# The pull is small for a pair that θ has learned. The slope is small, of either sign, for a pair
# that stands *across* the validation gradient: to the validation set it is of no concern. Either
# makes influence small, and the middle tenths are where it is small. **Predict**: which of the two
# does more?

# %%
for frame in text.values():
    frame["pull"] = 1 / (1 + np.exp(frame.margin))
    assert np.allclose(frame.influence, -frame.pull * frame.margin_slope)
    frame["−slope"] = -frame.margin_slope / frame.margin_slope.abs().mean()  # one unit for all
    frame["|slope|"] = frame["−slope"].abs()
parts = pd.concat([by_tenth(seed) for seed in seeds]).groupby("tenth").mean()
parts[["pull", "−slope", "|slope|"]].round(2).T

# %%
def with_size(column):
    """Rank correlation with the size of influence, whatever its sign."""
    return over_seeds(lambda s: text[s][column].corr(influence[s].abs(), "spearman"))


Markdown(f"""Rank correlation of the *size* of influence with the pull: {with_size("pull")}; with
the size of the slope: {with_size("|slope|")}. {p.note}""")

# %% [markdown]
# As far as both are above zero, the middle holds two kinds of pairs: those **already learned**, and
# those **across** the validation gradient. An influence near zero says "nothing more to learn
# here", or "nothing to do with your validation set"; it does not say "steady teacher".

# %% [markdown]
# ## 2 · Low, middle, high: trained and watched
# Four groups of equal size from each data set, each trained from the start (the reference) for the
# paper's two epochs [N]. We follow the loss on the group itself, and loss and margin on pairs that
# nobody has used: other pairs about the validation facts. By the paper [N]: low is noise, the
# evaluation loss rises; high overfits, a few pairs run to extreme margins; the middle is steady.
# **Predict**: which group lowers the evaluation loss most?

# %%
def groups(seed, share=0.2):
    scores = influence[seed]
    centre = nb.select.central(scores, share=share)
    return {"low": nb.select.easiest(scores, share), "middle": centre,
            "high": nb.select.top(scores, share),
            "random": nb.select.random(centre, scores, seed)}  # fmt: skip

# %%
def follow(seed, ids):
    """A run on the group, traced on the group and on the watched pairs."""
    wanted = set(ids)
    own = data[seed].select([n for n, id_ in enumerate(data[seed]["id"]) if id_ in wanted])
    traced = concatenate_datasets([own, watched])
    every = max(1, len(own) // 32)  # twice an epoch
    return partial(nb.train_dpo, policy, own, reference=reference[seed], seed=seed, trace=traced,
                   trace_every=every, progress=False, **{**settings, "epochs": 2})


group_of = {(seed, name): ids for seed in seeds for name, ids in groups(seed).items()}
runs = at_once({key: follow(key[0], ids) for key, ids in group_of.items()})

# %%
def curves(key):
    """Per step: loss on the group; loss and margins on the watched pairs."""
    trace = runs[key].trace.assign(loss=lambda rows: np.logaddexp(0, -rows.margin))
    mine = trace.id.isin(group_of[key])
    own, held_out = trace[mine].groupby("step"), trace[~mine].groupby("step")
    return pd.DataFrame({
        "train loss": own.loss.mean(), "eval loss": held_out.loss.mean(),
        "eval margin": held_out.margin.mean(),
        "spread of eval margins": held_out.margin.std()}).reset_index()  # fmt: skip


watch = pd.concat({key: curves(key) for key in runs}, names=["seed", "group"]).reset_index()
assert np.allclose(watch[watch.step == 0]["eval loss"], np.log(2), atol=1e-4)  # policy = reference
last = watch[watch.step == watch.step.max()].set_index(["group", "seed"])
last["gap"] = last["eval loss"] - last["train loss"]

# %% tags=["picture"]
colors = {"low": nb.plots.COLORS["rejected"], "middle": nb.plots.COLORS["margin"],
          "high": nb.plots.COLORS["chosen"], "random": "0.5"}  # fmt: skip
fig, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
for ax, column in zip(axes, watch.columns[-4:]):
    for name, color in colors.items():
        rows = watch[watch.group == name]
        means = rows.groupby("step")[column].mean()
        ax.plot(means.index, means, color=color, marker="o", label=name)
        ax.scatter(rows.step, rows[column], s=8, color=color, alpha=0.5)
    if "loss" in column:
        ax.axhline(np.log(2), color="0.2", lw=1, ls=":", zorder=0)  # before training
    ax.set(xlabel="training step (updates)", title=column)
axes[0].set_ylabel("nats (margins: β × nats)")
axes[0].legend(title=f"20% each\n({len(seeds)} data sets)")
axes[1].text(watch.step.max(), np.log(2), "ln 2", ha="right", va="bottom")
fig.suptitle("Trained on a fifth of the pairs: by influence, and at random");

# %% [markdown]
# At the end of the two epochs, minus random pairs of the same data set (`gap`: evaluation loss
# minus the group's own; `spread`: standard deviation over pairs):

# %%
def against_random(name, column="eval loss"):
    return nb.paired_gain(last.loc[name, column], last.loc["random", column])


pd.DataFrame({column: {name: against_random(name, column) for name in ("low", "middle", "high")}
              for column in ["eval loss", "gap", "spread of eval margins"]})  # fmt: skip

# %%
rise = {name: nb.seed_interval(last.loc[name, "eval loss"] - np.log(2)) for name in colors}
moves = {name: f"{told(change, 'rises', 'falls', 'is not shown to move')} ({change:+.2f})"
         for name, change in rise.items()}  # fmt: skip
lines = [f"- **{name}**: from ln 2 the evaluation loss {moves[name]}; "
         f"gap {nb.seed_interval(last.loc[name, 'gap']):.2f}." for name in colors]  # fmt: skip
Markdown("\n".join([*lines, "", p.note]))

# %% [markdown]
# The gap is part overfitting, part shift, since a group cut out of a ranking is no sample of the
# evaluation pairs. Even the random group has some shift: the watched pairs are about other facts.
# The spread of margins is our reading of "a few pairs run to extreme margins" [?].
#
# How could pairs that *lower* the validation loss do harm? Influence speaks of one small step at θ,
# and there lesson 07 found it right. A group that is trained alone, from the start and for two
# epochs, leaves the place where that was measured [?]. And mind the random line before you praise
# the middle.

# %% [markdown]
# ## 3 · LossDiff: is it a step too large?
# The paper's proxy needs no gradient. Train one more epoch, on the validation set, and see whose
# loss falls: $\text{LossDiff}(d) = \ell_d(\theta) - \ell_d(\theta_{\text{val}})$ [N]. We start that
# epoch at θ; where the paper starts it, the notes do not say [?]. So read, LossDiff is a finite
# difference of the loss, with one large step from θ to $\theta_{\text{val}}$. The other proxy,
# $\text{IRM}(d) = m_d(\theta)$, the implicit margin, needs no validation set at all [N].
#
# Three log-prob tables serve for both. By hand for one data set, then by nbkit for all:

# %%
on_validation = dict.fromkeys(seeds, validation)
val_logps, beta = tables(train(theta, on_validation), data), settings["beta"]
margins = []
for after in (theta_logps[0], val_logps[0]):
    ratio = after - reference[0].loc[after.index]
    margins.append(beta * (ratio.chosen_logp - ratio.rejected_logp))
by_hand = np.logaddexp(0, -margins[0]) - np.logaddexp(0, -margins[1])
before = {seed: reference[seed].loc[theta_logps[seed].index] for seed in seeds}


def loss_difference(after):
    return {seed: nb.scores.loss_difference(theta_logps[seed], logps, before[seed], beta)
            for seed, logps in after.items()}  # fmt: skip


irm = {seed: nb.scores.irm(theta_logps[seed], before[seed], beta) for seed in seeds}
proxies = {"LossDiff": loss_difference(val_logps), "IRM": irm}
assert np.allclose(by_hand, proxies["LossDiff"][0]) and np.allclose(margins[0], irm[0])

# %% [markdown]
# **Predict**: the correlation of LossDiff with exact influence. And if we shrink the step, walking
# only a part $t$ of the way from θ to $\theta_{\text{val}}$: does it go to 1?
#
# There are other ways to a smaller step: a lower rate; all validation pairs in one batch, hence
# **one step**; and plain gradient descent instead of AdamW. One plain step with the whole set goes
# exactly along $-\nabla \bar\ell_{\text{val}}$. With rate η it lowers the loss of $d$ by
# η · IF(d), to first order; so we can choose the rate with which it goes as far as LossDiff.

# %%
rate = {s: proxies["LossDiff"][s].abs().mean() / influence[s].abs().mean() for s in seeds}
plain = dict(trl_options={"optim": "sgd"}, warmup_steps=0, max_grad_norm=0.0)
one_batch = dict(batch_size=len(validation), warmup_steps=0, max_grad_norm=0.0)
ways = {"an epoch of AdamW": ({}, [settings["learning_rate"], 1e-5, 3e-6]),
        "one step of AdamW": (one_batch, [1e-4, 1e-5]),
        "an epoch of plain steps": (plain, [5e-4, 5e-5]),
        "one plain step": (plain | one_batch, [3 * rate[0], rate[0], rate[0] / 10, rate[0] / 1000])}
again = partial(nb.train_dpo, theta[0], validation, reference=reference[0], seed=0, progress=False)
jobs = {(way, at): partial(again, **settings | how | {"learning_rate": at})
        for way, (how, rates) in ways.items() for at in rates}  # fmt: skip
trained = {key: run.policy for key, run in at_once(jobs).items()}
stepped = tables(trained, dict.fromkeys(trained, data[0]))

# %%
from nbkit.derivatives.differences import shifted

start, end = (dict(run.model.named_parameters())
              for run in (theta[0], trained["an epoch of AdamW", settings["learning_rate"]]))
way = {name: (end[name] - start[name]).detach() for name in start}
for t in (0.3, 0.1, 0.03):
    with shifted(start, way, t):
        stepped["part of the way", t] = nb.response_logprobs(theta[0], data[0], progress=False)

# %%
def agreement(after):
    """How far the losses moved (nats, mean size), and Pearson's r with exact influence."""
    score = loss_difference({0: after})[0]
    return score.abs().mean(), score.corr(influence[0])


points = {key: agreement(after) for key, after in stepped.items()}
first = points["an epoch of AdamW", settings["learning_rate"]]
assert np.allclose(first, agreement(val_logps[0]))  # that one is LossDiff
fig, ax = plt.subplots(figsize=(9.5, 4.2), layout="constrained")
for label, marker in zip(dict.fromkeys(way for way, _ in points), "s^vDo"):
    line = [first] * label.startswith("part") + [points[key] for key in points if key[0] == label]
    ax.plot(*zip(*line), marker=marker, label=label)
ax.plot(*first, "k*", markersize=14, label="LossDiff, as the paper has it")
ax.set(xscale="log", xlabel="how far the step moved the losses (nats, mean size)",
       ylabel="Pearson's r with exact influence", ylim=(None, 1.02))
ax.invert_xaxis()
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
ax.set_title("Is it the size of the step, or its direction?");

# %%
nearest = points["part of the way", 0.03]
epoch, adam = points["an epoch of plain steps", 5e-4], points["one step of AdamW", 1e-4]
updates = -(-len(validation) // settings["batch_size"])
Markdown(f"""The *same way, a smaller step*: r goes from {first[1]:.2f} to {nearest[1]:.2f} at
{nearest[0] / first[0]:.0%} of the movement. *Other ways*: an epoch of plain steps in small batches
has r = {epoch[1]:.2f}, one step of AdamW with all pairs in one batch {adam[1]:.2f}. AdamW divides
each parameter's gradient by its usual size, and that is another direction. One plain step that
moves the losses by {points["one plain step", rate[0]][0]:.3f} nats (LossDiff: {first[0]:.3f}) has
r = **{points["one plain step", rate[0]][1]:.3f}**.

(An epoch on the validation set makes {updates} updates.) {p.note}""")

# %% [markdown]
# The repair costs no more: the same pass over the validation set, forward and backward; one update
# instead of an epoch's; no optimizer state. That *is* the forward difference of lesson 07. (To the
# right the step shrinks; much too small, and float32 rounding eats the difference.)
#
# That was one data set. Now all of them, with the one plain step, and with `from the reference`:
# the other place where the epoch on the validation set may start [?]. **Predict** IRM's row: what
# was the pull, a function of the margin, related to in section 1?

# %%
one_step = {s: train({s: theta[s]}, {s: validation}, learning_rate=rate[s], **plain | one_batch)[s]
            for s in seeds}  # fmt: skip
fresh = train(dict.fromkeys(seeds, policy), on_validation)
scores = {**proxies, "one plain step": loss_difference(tables(one_step, data)),
          "from the reference": loss_difference(tables(fresh, data))}  # fmt: skip


def correlations(score, method="pearson", target=pd.Series.copy):
    """With influence, one for each data set."""
    return pd.Series({s: score[s].corr(target(influence[s]), method) for s in seeds})


columns = {"Pearson": ("pearson",), "Spearman": ("spearman",), "Spearman, |IF|": ("spearman", abs)}
shown = pd.DataFrame({
    label: {name: f"{nb.correlation_interval(correlations(score, *how)):.2f}"
            for name, score in scores.items()} for label, how in columns.items()})  # fmt: skip
shown["mean size"] = [over_seeds(lambda s: score[s].abs().mean(), ".3f")  # noqa: B023
                      for score in scores.values()]  # fmt: skip
shown

# %%
r = {name: nb.correlation_interval(correlations(score)) for name, score in scores.items()}
paper = {"LossDiff": 0.77, "IRM": 0.67}
inside = {name: "inside" if r[name].low <= said <= r[name].high else "outside"
          for name, said in paper.items()}  # fmt: skip
repair = nb.paired_gain(correlations(scores["one plain step"]), correlations(scores["LossDiff"]))
nearer = min(["LossDiff", "from the reference"], key=lambda name: abs(r[name].value - 0.77))
place = {"LossDiff": "at θ", "from the reference": "at the reference"}[nearer]
few = nb.rank_correlation(proxies["LossDiff"][0], influence[0])
many = nb.correlation_interval(correlations(proxies["LossDiff"], "spearman"))
wider = (many.high - many.low) / (few.high - few.low)
Markdown(f"""**LossDiff**: Pearson {r["LossDiff"]:.2f}; the paper's .77 [N] is {inside["LossDiff"]}
that interval. One plain step of the same size − LossDiff: {repair}. The start that comes
nearer to .77 is {place}.

**IRM**: {r["IRM"]:.2f}; its .67 [N] is {inside["IRM"]}. A margin tells how much pull is left, not
which way it goes: look at the column of |IF|. To know the sign, small margins would have to gather
at one end of influence.

**Pairs are not data sets.** Resampling the pairs of the first data set, LossDiff's rank correlation
is {few:.2f}; over data sets {many:.2f}, an interval
{wider:.1f} times as wide. The first says nothing of the next data set. {p.note}""")

# %% [markdown]
# ## 4 · Two bands, and what they share by chance
# **LossDiff-IRM** keeps pairs in a middle band of both [N]. It is to find what TIF finds: the paper
# reports an overlap with TIF of .73-.78, against .66-.70 (LossDiff alone) and .60-.70 (IRM alone)
# [N]. An overlap coefficient divides the shared pairs by the smaller selection. **Predict**: two
# bands of the middle 70%, of two scores that have *nothing* to do with each other. What is their
# overlap?

# %%
def in_bands(seed, low):
    """Share kept by both bands, and overlaps with TIF, for bands of one width."""
    tif, difference, margin = (nb.select.middle(score[seed], low, 1 - low)
                               for score in (influence, *proxies.values()))  # fmt: skip
    both = nb.select.both(difference, margin)
    with_tif = {"LossDiff": difference, "IRM": margin, "LossDiff-IRM": both}
    return {"kept by both": len(both) / len(influence[seed]), "chance": 1 - 2 * low,
            **{name: nb.overlap(tif, ids) for name, ids in with_tif.items()}}


bands = {f"{low:.0%} to {1 - low:.0%}": pd.DataFrame([in_bands(seed, low) for seed in seeds])
         for low in (0.1, 0.15, 0.2, 0.25)}  # fmt: skip
pd.DataFrame({width: {name: f"{nb.seed_interval(values):.2f}" for name, values in rows.items()}
              for width, rows in bands.items()}).T.assign(
    chance=[f"{rows.chance[0]:.2f}" for rows in bands.values()])  # fmt: skip

# %%
like = [min(bands, key=lambda width: abs(bands[width]["kept by both"].mean() - kept))  # noqa: B023
        for kept in (0.5, 0.64)]  # fmt: skip
chance = [bands[width].chance[0] for width in like]
reported = {"IRM": (0.60, 0.70), "LossDiff": (0.66, 0.70), "both together": (0.73, 0.78)}
beside = {name: "above neither" if most <= min(chance) else "above both" if least > max(chance)
          else "above the lower one at most" for name, (least, most) in reported.items()}
Markdown(f"""By chance a pair of the smaller selection is in the larger one as often as any pair is:
the overlap to expect is the **larger** selection's share.

The paper's two bands together keep 50-64% of the pairs [N]. Here the widths that come nearest to
50% and 64% are {like[0]} and {like[1]}, where chance is {chance[0]:.2f} and {chance[1]:.2f}. If the
paper's bands, and its TIF, were as wide as these [?], what it reports would be, beside these two:
{"; ".join(f"{name} {words}" for name, words in beside.items())}. {p.note}""")

# %% [markdown]
# So compare at equal size: half of the pairs each, by bands as wide as that takes
# (`nb.select.central`). Chance is then one half. And one rule more, which needs one table less:
# keep the *highest* margins, which are the lowest losses at θ (Selective DPO's rule, without its
# cross-fitting).

# %%
central = partial(nb.select.central, share=0.5)


def rules(seed):
    difference, margin = (score[seed] for score in proxies.values())
    return {"TIF": central(influence[seed]), "LossDiff-IRM": central(difference, margin),
            "LossDiff": central(difference), "IRM": central(margin),
            "highest IRM": nb.select.top(margin, 0.5),
            "lowest IF": nb.select.easiest(influence[seed], 0.5),
            "highest IF": nb.select.top(influence[seed], 0.5)}  # fmt: skip


tif = nb.scores.truncated(influence[0], 0.25, 0.75)  # 1 or 0 for each pair
assert sorted(rules(0)["TIF"]) == sorted(tif.index[tif == 1])
selected = {seed: rules(seed) for seed in seeds}

# %%
def shared(name):
    return pd.Series({s: nb.overlap(selected[s]["TIF"], selected[s][name]) for s in seeds})


kept = pd.DataFrame({name: {
    "overlap with TIF": f"{nb.seed_interval(shared(name)):.2f}",
    "− chance": nb.paired_gain(shared(name), pd.Series(0.5, seeds)),
    "wrong labels": over_seeds(lambda s: text[s].flipped[selected[s][name]].mean(), ".1%")}  # noqa: B023
    for name in selected[0] if name != "TIF"}).T  # fmt: skip
kept.loc["random (expected)"] = ["0.50", "", over_seeds(lambda s: text[s].flipped.mean(), ".1%")]
kept

# %%
both_or_one = nb.paired_gain(shared("LossDiff-IRM"), shared("LossDiff"))
Markdown(f"""Overlap with TIF, LossDiff-IRM − LossDiff alone: {both_or_one}. In the paper both
together share the most [N]. {p.note}""")

# %% [markdown]
# What is learned is in the middle of influence, but at the *top* of the margin. The upper end of
# IRM's band cuts such pairs off. (The lowest and the highest half of influence share one half with
# TIF by construction.)

# %%
first, second = proxies["LossDiff"][0].rename("LossDiff (nats)"), irm[0].rename("IRM (β × nats)")
flipped = text[0].flipped.rename("wrong labels")
fig, axes = plt.subplots(1, 2, figsize=(11.5, 5.6), sharey=True, layout="constrained")
for ax, marks in zip(axes, (flipped, (tif == 0).rename("not in TIF"))):
    nb.plots.band_plane(first, second, (0.15, 0.85), (0.15, 0.85), ax, marks=marks)
fig.suptitle("Two bands: what they keep, wrong labels (left), and what TIF drops (right)");

# %% [markdown]
# The same with handles (it needs a running kernel). Pull IRM's upper end to 100%: what comes in,
# and what does that do to the wrong labels? Then narrow LossDiff.

# %%
nb.widgets.band_sliders(first, second, data[0], low=0.15, high=0.85, marks=flipped)

# %% [markdown]
# ## 5 · Does the middle train better?
# Train from the start on each half, and judge by win rate against the untrained policy. The
# controls: random halves (the mean of two draws) and full data. At **equal examples** every run
# makes one epoch, so full data sees twice the pairs and makes twice the updates. **Predict** the
# order. Is "highest IF" better or worse than TIF?

# %%
import tempfile

folder = tempfile.TemporaryDirectory()  # finished runs: what two figures share is trained once
prompts = world.prompts(p.pick(quick=48, full=384))  # 192 questions; in full, twice each
judged = dict(measures={"correct": lambda prompt, said: world.grade(prompt, said).correct},
              temperature=0.7, max_new_tokens=16, cache=folder.name,
              workers=p.workers, progress=False)  # fmt: skip


def compare(select, policy=policy, reference=reference, budgets=("examples",)):
    """`nb.compare` on each data set with one more random half; "random" is the mean of the two."""
    found = []
    for seed in seeds:
        sets = select(seed)
        half = next(iter(sets.values()))
        sets["another"] = nb.select.random(half, data[seed], seed + 100)
        found.append(nb.compare(policy, data[seed], sets, prompts, world.reward, seeds=[seed],
                                reference=reference[seed], budgets=budgets, **judged, **settings))
    runs = pd.concat(found)
    runs["selection"] = runs.selection.str.replace("^(random|another).*", "random", regex=True)
    by = ["selection", "seed", "budget"]
    return runs.groupby(by, sort=False).mean(numeric_only=True).reset_index()

# %%
def show(results, title):
    """Win rates, minus that of full data in the same data set and budget."""
    runs = results[results.selection != "before"].set_index(["seed", "budget"])
    full = runs[runs.selection == "full"].win_rate.loc[runs.index]
    fig, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
    less = runs.assign(win_rate=runs.win_rate - full).reset_index()
    nb.plots.comparison(less, ax, xlabel="win rate against the untrained policy, minus full data's")
    ax.axvline(0, color="0.2", linewidth=1, zorder=0)
    ax.set_title(title)


trained_on = ["TIF", "LossDiff-IRM", "highest IRM", "highest IF", "lowest IF"]
results = compare(lambda seed: {name: selected[seed][name] for name in trained_on})
show(results, "Half of the pairs by each rule, one epoch each")

# %% [markdown]
# Differences within data sets. The rows share data sets, and random halves, so they are not as many
# findings as rows. The second column has wider intervals: with them, all rows *together* have a
# chance of at most 5% to miss (Bonferroni). Read them as questions. Is the middle better than no
# rule? Must the lowest go, and the highest? Does it take LossDiff, or will the highest margins do?
# (The rules by influence and LossDiff had help that the others had not: the labels of the
# validation set.)

# %%
def gain(name, over, results=results, tests=1, metric="win_rate", budget="examples"):
    """Mean difference within data sets, with an interval for one of so many tests."""
    at = results[results.budget == budget]
    wide = at.pivot(index="seed", columns="selection", values=metric)
    return nb.paired_gain(wide[name], wide[over], confidence=1 - 0.05 / tests)


def gains(rows, **how):
    """One row each: alone, and as one of all the rows."""
    return pd.DataFrame({f"{a} − {b}": {"95%, this row": gain(a, b, **how),
                                        "95%, all rows": gain(a, b, tests=len(rows), **how)}
                         for a, b in rows}).T  # fmt: skip


rows = [(name, "random") for name in trained_on]
rows += [("TIF", "full"), ("LossDiff-IRM", "full")]
rows += [("highest IF", "TIF"), ("highest IRM", "LossDiff-IRM")]
gains(rows)

# %%
clear = [row for row in rows if "not" not in gain(*row, metric="correct").verdict()]
all_rows = gain("TIF", "random", tests=len(rows))
Markdown(f"""TIF − random, the paper's rule beside the fair control: {gain("TIF", "random")}; as one
of {len(rows)} rows: {all_rows}. In the share of *correct* answers, {len(clear)} of the {len(rows)}
differences are clear of zero. {p.note}""")

# %% [markdown]
# At **equal updates** a half is repeated until it has made as many updates as full data. This is
# where a group that overfits should fall back. (Without the highest IRM and the lowest IF, to save
# time.) **Predict**: does "highest IF" now lose to TIF?

# %%
repeated = trained_on[:2] + ["highest IF"]
longer = compare(lambda s: {name: selected[s][name] for name in repeated}, budgets=("updates",))
show(longer, "Half of the pairs by each rule, as many updates as full data")
rows_2 = [(name, over) for name in repeated for over in ("random", "full")]
rows_2.append(("highest IF", "TIF"))
later = partial(gain, results=longer, budget="updates")
gains(rows_2, results=longer, budget="updates")

# %% [markdown]
# ## 6 · Is quality a property of the model?
# The paper's strongest claim [N]: a pair that is good for one model harms another. So: the same
# pairs, two capacities, TIF for each. Which pairs change sides? Some do by luck alone. The control
# is the *same* capacity, warmed up once more on the same pairs in another order. **Predict**: how
# many change sides between two orders, and how many between two capacities?

# %%
capacity = nb.load_policy(f"world/{other}", device="cpu")
other_reference = tables(dict.fromkeys(seeds, capacity), scored)


def warmed_up(policy, reference, shift):
    return influences(train(dict.fromkeys(seeds, policy), data, reference, shift), reference)


by_policy = {size: found, f"{size}, again": warmed_up(policy, reference, 100),
             other: warmed_up(capacity, other_reference, 0),
             f"{other}, again": warmed_up(capacity, other_reference, 100)}  # fmt: skip
tif_of = {name: {s: central(of[s].influence) for s in seeds} for name, of in by_policy.items()}

# %%
def unlike(a, b):
    """How two policies differ over the same pairs, by data set."""
    rows = {}
    for s in seeds:
        one, two = (by_policy[name][s].influence.loc[data[s]["id"]] for name in (a, b))
        rows[s] = {"change sides": len(set(tif_of[a][s]) ^ set(tif_of[b][s])) / len(data[s]),
                   "opposite sign": (one * two < 0).mean(), "r": one.corr(two)}
    return pd.DataFrame(rows).T


apart = {"two capacities": unlike(size, other),
         **{f"two orders, {name}": unlike(name, f"{name}, again") for name in (size, other)}}
pd.DataFrame({label: {
    **{name: f"{nb.seed_interval(rows[name]):.0%}" for name in ("change sides", "opposite sign")},
    "Pearson's r": f"{nb.correlation_interval(rows.r):.2f}",
    "single data sets": ", ".join(f"{one:.2f}" for one in rows.r)}
    for label, rows in apart.items()}).T  # fmt: skip

# %%
by_size, *orders = apart.values()
by_order = sum(orders) / len(orders)
beyond = {name: nb.paired_gain(by_size[name], by_order[name]) for name in by_size.columns[:2]}
Markdown(f"""Two capacities minus two orders: change of sides {beyond["change sides"]}; opposite
sign {beyond["opposite sign"]}. In data set {odd}, where influence is largest, two orders have
r = {orders[0].r[odd]:.2f} for the {size} policy. {p.note}""")

# %% [markdown]
# (Two coins would change 50% of the sides, and of the signs.) Where two *orders* have an r far
# below 1, exact influence belongs to a run. It is not even a property of the model and its data,
# since another order of the same warm-up can give another ranking.
#
# Who changes sides? A pair gets into the middle because the policy has learned it, or because it
# stands across. **Predict**: which of the two makes a pair the larger policy's, and not the
# smaller one's? (Margins and slopes as percentiles within each policy, since their units differ;
# `animal at stake`: one answer has the right animal, the other not.)

# %%
def regions(seed):
    """Means over the pairs in the bands of both policies, of one, of neither."""
    frame, ids = text[seed], text[seed].index
    right = [[world.grade(*row).correct for row in zip(frame.prompt, frame[side])]
             for side in ("chosen", "rejected")]  # fmt: skip
    facts = pd.DataFrame({"animal at stake": np.not_equal(*right), "wrong labels": frame.flipped},
                         ids, dtype=float)  # fmt: skip
    for name in (size, other):
        of = by_policy[name][seed].loc[ids]
        facts[f"margin, {name}"] = of.margin.rank(pct=True)
        facts[f"|slope|, {name}"] = of.margin_slope.abs().rank(pct=True)
    mine, theirs = (ids.isin(tif_of[name][seed]) for name in (size, other))
    region = np.select([mine & theirs, mine, theirs],
                       ["both", f"{size} only", f"{other} only"], "neither")  # fmt: skip
    return facts.groupby(region).mean()


who = pd.concat({seed: regions(seed) for seed in seeds})
who.groupby(level=1).mean().round(2)

# %%
def only(column):
    """Of the pairs that only `size` keeps, minus of those that only `other` keeps."""
    mine, theirs = (who.xs(f"{name} only", level=1)[column] for name in (size, other))
    return nb.paired_gain(mine, theirs)


def reasons(name, sign):
    """What sets apart, in the eyes of this policy, the pairs that it alone keeps."""
    words = ("higher", "lower")[::sign]
    margin, slope = (told(only(f"{column}, {name}"), *words, "not shown to differ")
                     for column in ("margin", "|slope|"))  # fmt: skip
    return f"for the {name} policy their margin is {margin}, and the size of their slope {slope}"


differences = "\n".join(f"- {column}: {only(column)}" for column in who)
Markdown(f"""Pairs that only the {size} policy keeps, minus those that only the {other} one keeps:

{differences}

So, of the pairs that one policy alone keeps: {reasons(size, 1)}; {reasons(other, -1)}. A higher
margin is "learned", a smaller slope "across": to be in a policy's band is not always to be learned
by it. (To get an animal right takes memory, style does not: a reason why capacity counts where the
animal is at stake [?].) {p.note}""")

# %% [markdown]
# And does it matter? Each policy is trained on its own band and on the other's. "Good for one,
# harmful to another" is an **interaction**: own − other's, averaged over both policies. A band that
# is simply better for everybody cancels. And the control once more: its own band by *another order*
# owes nothing to the luck of the first.

# %%
def bands_for(mine, theirs):
    return lambda s: {"own": tif_of[mine][s], "own, again": tif_of[f"{mine}, again"][s],
                      "other's": tif_of[theirs][s]}  # fmt: skip

# %%
trained = {size: compare(bands_for(size, other)),
           other: compare(bands_for(other, size), capacity, other_reference)}  # fmt: skip
rows_3 = [("own", "other's"), ("own, again", "other's"), ("own", "own, again"), ("own", "random")]
pd.concat({name: gains(rows_3, results=runs) for name, runs in trained.items()})

# %%
def edge(results, mine):
    """Win rate with this band, minus that with the other's."""
    wide = results.pivot(index="seed", columns="selection", values="win_rate")
    return wide[mine] - wide["other's"]


crossing = {mine: nb.seed_interval(sum(edge(runs, mine) for runs in trained.values()) / 2)
            for mine in ("own", "own, again")}  # fmt: skip
reach = (crossing["own"].high - crossing["own"].low) / 2
worth = sum(gain("own", "random", results=runs).value for runs in trained.values()) / 2
verdict = {name: told(found, "is better with its own", "is better with the other's",
                      "is not shown to prefer either") for name, found in crossing.items()}
Markdown(f"""Own band − other's, mean of both capacities: **{crossing["own"]:+.3f}**; with the own
band of another order: **{crossing["own, again"]:+.3f}**. By the first, a policy {verdict["own"]};
by the second, it {verdict["own, again"]}.

If the other's band were worth no more than random pairs, own − other's would be what own − random
is: {worth:+.3f} in the mean. The interval reaches {reach:.3f} to either side: an effect smaller
than that cannot be seen here, and is not denied. {p.note}""")

# %% [markdown]
# That two policies *rank* pairs differently is one thing, that it matters to training another.
#
# ## 7 · A neighbour: CHES
# Influence asks what a pair does to *other* pairs. CHES
# ([2410.08847](https://arxiv.org/abs/2410.08847)) asks what it does to its own chosen response:
# where both responses look alike to the model, training lowers both (lesson 02). It needs one pass
# of the untrained policy, and neither reference nor validation set. Is it the same once more? An r
# near 1 or −1 would say so.

# %%
ches = at_once({s: partial(nb.scores.ches, policy, data[s], normalized=True, progress=False)
                for s in seeds})  # fmt: skip
beside = {"IF": influence, "|IF|": {s: influence[s].abs() for s in seeds}, "IRM": irm,
          "wrong label": {s: text[s].flipped.astype(float) for s in seeds}}  # fmt: skip
related = {name: nb.correlation_interval([ches[s].corr(of[s], "spearman") for s in seeds])
           for name, of in beside.items()}  # fmt: skip
pd.DataFrame({"Spearman with CHES": {name: f"{found:.2f}" for name, found in related.items()}})

# %% [markdown]
# ## 8 · When this misleads
# - **"Medium" is two things.** Pairs that are learned, and pairs that stand across the validation
#   gradient. Look at margin and slope of what a band keeps before you call it steady.
# - **An overlap without its chance level.** It is the larger selection's share. Ask for the bands.
# - **LossDiff inherits the optimizer.** Another rate, batch or number of epochs: another direction.
# - **In-sample.** θ has trained on the pairs that it scores. A memorised wrong label has a large
#   margin, and sits in the middle. Lesson 03 cross-fits for that reason.
# - **The validation set** has wrong labels, too, and spends labels that random pairs do without.
# - **Which θ?** After a longer warm-up more is learned, and the middle may be larger [?]. Another
#   order of the same warm-up can have another middle (section 6).
# - **Many comparisons.** One in twenty intervals misses by chance, and rows that share a control
#   miss together.
# - **Intervals are over data and training seeds**; questions, starting weights, validation pairs
#   and world are the same in all.
#
# ## 9 · Exercises
# Write the body of each function, then run the check below it.
#
# ### Exercise 1 · Truncation
# *5 minutes · easy · you can cut a score at two percentiles*
#
# `influence` is an array without ties; the lowest share `low` goes, and so does what lies above the
# lowest share `high`. Return a mask.
#
# <details><summary>Hint</summary>
# <code>np.quantile</code>, or ranks: <code>argsort</code> of <code>argsort</code>.
# </details>

# %%
def my_truncation(influence, low, high):
    """True for each pair in the band."""
    ### BEGIN SOLUTION
    start, end = np.quantile(influence, [low, high])
    return (influence > start) & (influence < end)
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_truncation(my_truncation)

# %% [markdown]
# ### Exercise 2 · LossDiff from three tables
# *8 minutes · medium · you can make every score of this lesson from log-probs*
#
# `theta`, `val` and `ref` are arrays [pairs, 2] of log-probs, chosen and rejected.
#
# <details><summary>Hint</summary>
# Margin first, then the loss, <code>np.logaddexp(0, -margin)</code>, then the difference.
# </details>

# %%
def my_loss_difference(theta, val, ref, beta):
    """LossDiff of each pair, in nats."""
    ### BEGIN SOLUTION
    def loss(logps):
        ratios = logps - ref
        return np.logaddexp(0, -beta * (ratios[:, 0] - ratios[:, 1]))

    return loss(theta) - loss(val)
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_loss_difference(my_loss_difference)

# %% [markdown]
# ### Exercise 3 · Overlap by chance
# *6 minutes · medium · you can tell an overlap from luck*
#
# Two selections of sizes `first` and `second`, drawn at random from `n` pairs: which overlap
# coefficient do you expect?
#
# <details><summary>Hint</summary>
# Take one pair of the smaller selection. How likely is it in the larger one?
# </details>

# %%
def my_overlap_by_chance(n, first, second):
    """Expected overlap coefficient, 0 to 1."""
    ### BEGIN SOLUTION
    return max(first, second) / n
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_overlap_by_chance(my_overlap_by_chance)

# %% [markdown]
# ### Exercise 4 · Who changes sides, beyond luck
# *6 minutes · medium · you can put a control beside a comparison of models*
#
# Three boolean arrays: whether each pair is in the band of the small policy, of the large one, and
# of the large one after another run.
#
# <details><summary>Hint</summary>
# For boolean arrays <code>a ^ b</code> is "one of them, not both". Subtract the control.
# </details>

# %%
def my_change_of_sides(small, large, large_again):
    """Share that changes sides by capacity, minus the share that does by luck."""
    ### BEGIN SOLUTION
    return (small ^ large).mean() - (large ^ large_again).mean()
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_change_of_sides(my_change_of_sides)

# %% [markdown]
# ## 10 · The paper said, we measured

# %%
level = results.groupby("selection").win_rate.mean()
Markdown(f"""
| the paper said [N] | we measured |
|---|---|
| low influence: the evaluation loss rises | it {moves["low"]} |
| ... it is noise | wrong labels, lowest tenth − rest: {low} |
| high influence overfits, to extreme margins | evaluation loss − random's: \
{against_random("high")}; spread of margins {against_random("high", "spread of eval margins")} |
| the middle is steady | evaluation loss − random's: {against_random("middle")}; spread of \
margins {against_random("middle", "spread of eval margins")} |
| LossDiff and IF: Pearson .77 | {r["LossDiff"]:.2f}; one plain step: {r["one plain step"]:.2f} |
| IRM and IF: Pearson .67 | {r["IRM"]:.2f} |
| overlap with TIF .66-.70, .60-.70, together .73-.78 | {", ".join(f"{shared(name).mean():.2f}" for
 name in ("LossDiff", "IRM"))}, together {shared("LossDiff-IRM").mean():.2f}; chance .50 |
| LossDiff-IRM (64% kept) beats full data: 77.61 → 83.97 (UltraFeedback), 78.41 → 87.08 \
(AlpacaEval), 73.75 → 86.88 (Vicuna), 81.39 → 88.40 (Arena-Hard) | {100 * level["full"]:.2f} → \
{100 * level["LossDiff-IRM"]:.2f} (50%), difference {gain("LossDiff-IRM", "full")}, with half the \
updates; equal updates {later("LossDiff-IRM", "full")} |
| *not asked:* random pairs of the same number | TIF − random {gain("TIF", "random")}; \
LossDiff-IRM − random {gain("LossDiff-IRM", "random")} |
| *not asked:* the highest margins instead | over random {gain("highest IRM", "random")} |
| a property of the model: pairs change sides | beyond two orders: {beyond["change sides"]} |
| a pair good for one model harms another | own − other's band: {crossing["own"]:+.3f} |

{p.note}""")

# %% [markdown]
# **Differences from the paper.** Its models have billions of parameters, and benchmarks judge them
# [N]; ours are tiny, and the judge is the world's true reward. It trains two epochs on what it
# keeps [N]; for the win rates we train one, or as many updates as full data. We do not know its
# thresholds, and keep half, by bands as wide as that takes; nor whether it applies an inverse
# Hessian [?], which we do not (lesson 07 shows both).
#
# ## In this lesson we saw
# - that influence is pull times slope, so that its middle holds what is learned and what stands
#   across;
# - that a finite difference can fail by its direction and not by its step, and that a margin alone
#   does not know a sign;
# - that an overlap is read beside its chance level, a selection beside random pairs of its size, a
#   change of sides beside another run of the same model;
# - and, in numbers:

# %%
Markdown(f"""- **Trained alone**, evaluation loss minus that of random pairs: low
  {against_random("low")}; high {against_random("high")}; middle {against_random("middle")}. The
  spread of the middle's margins, minus that of random pairs':
  {against_random("middle", "spread of eval margins")}.
- **Selection.** TIF − random: {gain("TIF", "random")} at equal examples,
  {later("TIF", "random")} at equal updates. LossDiff-IRM − random:
  {gain("LossDiff-IRM", "random")}; {later("LossDiff-IRM", "random")}. Lowest IF − random, equal
  examples: {gain("lowest IF", "random")}. Highest IF − TIF: {gain("highest IF", "TIF")}.
- **Proxies.** One plain gradient step − LossDiff, in r: {repair}.
- **Property of the model.** Two capacities − two orders, in pairs that change sides:
  {beyond["change sides"]}. Trained on, a policy {verdict["own"]}. {p.note}""")

# %% [markdown]
# **Next**: many selectors by now. Side by side, and where their rules contradict each other.
#
# **References.** TIF, LossDiff, IRM: ICLR 2026, [2510.13212](https://arxiv.org/abs/2510.13212).
# CHES: Razin et al., [2410.08847](https://arxiv.org/abs/2410.08847). DPO: Rafailov et al.,
# [2305.18290](https://arxiv.org/abs/2305.18290). Influence functions: Koh and Liang,
# [1703.04730](https://arxiv.org/abs/1703.04730). AdamW: Loshchilov and Hutter,
# [1711.05101](https://arxiv.org/abs/1711.05101).

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
