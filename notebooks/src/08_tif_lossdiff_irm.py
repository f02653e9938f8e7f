# %% [markdown]
# Chapter 07 computed what one training pair does to a validation loss: its influence. Which pairs
# should one keep, then? The obvious answer: those with the highest. The paper of this chapter
# (ICLR 2026, [2510.13212](https://arxiv.org/abs/2510.13212)) says: **those in the middle**. The
# lowest are noise, and a few steps overfit the highest. It adds two proxies, LossDiff and IRM, that
# are to find the middle in minutes instead of hours. We test each of these claims, in a world where
# it is known which labels are wrong.
#
# **You will be able to**
# - truncate influence at two percentiles, and say what the middle consists of;
# - train low, middle and high groups, and read their curves;
# - tell what separates LossDiff from influence, and repair it;
# - say how much of an overlap is chance;
# - measure whether "good data" is a property of the data or of the model.
#
# **Needs** [chapter 07](07_influence.ipynb): influence as a derivative. **On a GPU** nothing
# changes here: the models are tiny. Chapter 11 makes the same calls with a real one.

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.profile()

# %% [markdown]
# ## 1 · What is in the middle?
# The pipeline [N]: DPO on all pairs for one epoch gives $\theta$, the *warmed-up* policy. There,
# every pair gets its influence on the loss of a validation set. Truncated, it says keep or not:
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
# Marks: [N] from others' notes on the paper (most of what we know of it), [?] our reading. Five
# **data sets**: fresh pairs, and a training seed each. They share the validation pairs, whose facts
# are in no training pair.

# %%
import torch

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
size, other = p.pick(quick=("small", "medium"), full=("medium", "small"))
settings = world.DPO[size]  # the same for both sizes
policy = nb.load_policy(f"world/{size}", device="cpu")
seeds = p.pick(quick=[0, 1], full=[0, 1, 2, 3, 4])
data = {seed: world.pairs(p.pick(quick=96, full=1600), seed=seed) for seed in seeds}
validation = world.pairs(p.pick(quick=48, full=300), part="validation")
watched = world.pairs(len(validation) // 2, seed=1, part="validation")  # about the same facts

# %%
from functools import partial
from operator import call

from nbkit.workers import run_jobs


def at_once(jobs):
    """Results of the jobs (functions without arguments), under their keys."""
    done = dict(run_jobs(call, [(job,) for job in jobs.values()], p.workers, progress=False))
    return {key: done[number] for number, key in enumerate(jobs)}

# %%
from datasets import concatenate_datasets


def tables(policies, sets):
    """Log-prob table of each policy on its set, by seed."""
    return at_once({seed: partial(nb.response_logprobs, policies[seed], some, progress=False)
                    for seed, some in sets.items()})  # fmt: skip


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


theta = train(dict.fromkeys(seeds, policy), data)
theta_logps = tables(theta, data)

# %%
def influences(theta, reference, beta=settings["beta"]):
    """Exact influence of every pair, and its ingredients, for each data set."""
    return at_once({seed: partial(nb.scores.influence_table, theta[seed], reference[seed],
                                  data[seed], validation, beta=beta, progress=False)
                    for seed in seeds})  # fmt: skip


found = influences(theta, reference)
influence = {seed: table.influence for seed, table in found.items()}
text = {seed: data[seed].to_pandas().set_index("id").join(found[seed]) for seed in seeds}

# %% [markdown]
# Pairs of the first data set: the two lowest, two from the middle, the two highest. **Read them
# aloud, and predict**: where are the wrong labels (`flipped`)? And which pairs are in the middle:
# those that teach a little, or those that have been learned?

# %%
ranked = nb.select.easiest(influence[0], 1.0)
half = len(ranked) // 2
places = {"lowest": ranked[:2], "middle": ranked[half - 1 : half + 1], "highest": ranked[-2:]}
shown = ["prompt", "answer", "chosen", "rejected", "flipped", "margin", "influence"]
pd.concat({name: text[0].loc[ids, shown] for name, ids in places.items()}).droplevel(1).round(2)

# %% [markdown]
# Six pairs prove nothing. Count, by tenths of influence, in all data sets:

# %%
def by_tenth(seed, frame):
    """Means over the tenths of influence, 1 the lowest."""
    tenth = pd.qcut(influence[seed], 10, labels=range(1, 11)).astype(int).rename("tenth")
    return frame.groupby(tenth).mean(numeric_only=True)


tenths = pd.concat({seed: by_tenth(seed, text[seed]) for seed in seeds}, names=["seed"])
tenths = tenths.reset_index()

# %%
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
words = {"flipped": "share of wrong labels", "margin": "implicit margin at θ (β × nats)"}
for ax, (column, label) in zip(axes, words.items()):
    means = tenths.groupby("tenth")[column].mean()
    ax.scatter(tenths.tenth, tenths[column], s=12, color="0.6")
    ax.plot(means.index, means, color=nb.plots.COLORS["margin"], marker="o")
    ax.set(xlabel="tenth of influence (1: lowest)", ylabel=label, ylim=(min(0, means.min()), None))
fig.suptitle("By tenths of influence: wrong labels, and how far a pair has been learned");

# %%
def wrong_at(places, seed):
    """Share of wrong labels in these tenths, minus that in all the others."""
    rows = tenths[tenths.seed == seed]
    there = rows.tenth.isin(places)
    return rows[there].flipped.mean() - rows[~there].flipped.mean()


# %%
def over_seeds(function, form="+.2f"):
    """A number of each data set: mean and 95% interval, as text."""
    return f"{nb.seed_interval([function(seed) for seed in seeds]):{form}}"


low, high, ends = (over_seeds(partial(wrong_at, places)) for places in ([1], [10], [1, 2, 9, 10]))
single = ", ".join(f"{share:.0%}" for share in tenths[tenths.tenth == 1].flipped)
related = over_seeds(lambda s: text[s].margin.corr(influence[s].abs(), "spearman"))
sign = over_seeds(lambda s: text[s].margin.corr(influence[s], "spearman"))
Markdown(f"""**Is low influence noise?** Wrong labels, share minus that of all other pairs: lowest
tenth {low}, highest tenth {high}, both outer fifths together {ends}. In the lowest tenth of the
single data sets: {single}. To which end they go is for θ to decide.

**Who is in the middle?** Rank correlation of the margin with the *size* of influence: {related};
with influence itself: {sign}. (Mean and 95% interval over {len(seeds)} data sets, here and below.)
{p.note}""")

# %% [markdown]
# Why must it be so? The loss reads a pair through its margin alone, so by the chain rule
#
# $$\text{IF}(d) = -\underbrace{\sigma(-m_d)}_{\text{pull}} \cdot
# \underbrace{\langle \nabla \bar\ell_{\text{val}}, \nabla m_d \rangle}_{\text{slope}}$$
#
# The pull is near 0 for a pair that $\theta$ has learned, whatever its slope: so it ends up in the
# middle. So does a pair that stands across the validation gradient. An influence near zero says
# "nothing more to learn here", or "nothing to do with your validation set"; not "steady teacher".

# %%
table = found[0]
pull = 1 / (1 + np.exp(table.margin))
assert np.allclose(table.influence, -pull * table.margin_slope)
by_tenth(0, pd.DataFrame({"pull": pull, "slope": -table.margin_slope})).round(2).T

# %% [markdown]
# ## 2 · Low, middle, high: trained and watched
# Four groups of equal size from each data set, each trained *from the start* (from the reference,
# as in the paper's last step), for its two epochs [N]. We follow the loss on the group itself, and
# loss and margin on pairs that nobody has used: other pairs about the validation facts. By the
# paper [N]: low, and the evaluation loss rises; high overfits, a few pairs run to extreme margins;
# the middle is steady. **Predict**: which group lowers the evaluation loss most?

# %%
def groups(seed, share=0.2):
    scores = influence[seed]
    centre = nb.select.central(scores, keep=share)
    return {"low": nb.select.easiest(scores, share), "middle": centre,
            "high": nb.select.top(scores, share),
            "random": nb.select.random_like(centre, scores, seed)}  # fmt: skip


def follow(seed, ids):
    """A run on the group, traced on the group and on the watched pairs."""
    wanted = set(ids)
    own = data[seed].select([n for n, id_ in enumerate(data[seed]["id"]) if id_ in wanted])
    traced = concatenate_datasets([own, watched])
    every = max(1, len(own) // 32)  # twice an epoch
    return partial(nb.train_dpo, policy, own, reference=reference[seed], seed=seed, trace=traced,
                   trace_every=every, progress=False, **{**settings, "epochs": 2})

# %%
group_of = {(seed, name): ids for seed in seeds for name, ids in groups(seed).items()}
runs = at_once({key: follow(key[0], ids) for key, ids in group_of.items()})


def curves(key):
    """Per step: loss on the group; loss and margins on the watched pairs."""
    trace = runs[key].trace.assign(loss=lambda rows: np.logaddexp(0, -rows.margin))
    mine = trace.id.isin(group_of[key])
    parts = {"train": trace[mine].groupby("step"), "eval": trace[~mine].groupby("step")}
    return pd.DataFrame({
        "train loss": parts["train"].loss.mean(), "eval loss": parts["eval"].loss.mean(),
        "eval margin": parts["eval"].margin.mean(),
        "spread of eval margins": parts["eval"].margin.std()}).reset_index()  # fmt: skip


watch = pd.concat({key: curves(key) for key in runs}, names=["seed", "group"]).reset_index()
assert np.allclose(watch[watch.step == 0]["eval loss"], np.log(2), atol=1e-4)  # policy = reference

# %% tags=["picture"]
colors = {"low": nb.plots.COLORS["rejected"], "middle": nb.plots.COLORS["margin"],
          "high": nb.plots.COLORS["chosen"], "random": "0.5"}  # fmt: skip
fig, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
for ax, column in zip(axes, watch.columns[-4:]):
    for name, color in colors.items():
        rows = watch[watch.group == name]
        ax.plot(*rows.groupby("step")[column].mean().reset_index().to_numpy().T, color=color,
                marker="o", label=name)
        ax.scatter(rows.step, rows[column], s=8, color=color, alpha=0.5)
    ax.set(xlabel="training step (updates)", title=column)
axes[0].set_ylabel("nats (margins: β × nats)")
axes[0].legend(title=f"20% each\n({len(seeds)} data sets)")
fig.suptitle("Trained on a fifth of the pairs: by influence, and at random");

# %%
last = watch[watch.step == watch.step.max()].set_index(["group", "seed"])
ways = {"above": "rises", "below": "falls", "not clear of": "is not shown to move"}


def against_random(name, column="eval loss"):
    return nb.paired_gain(last.loc[name, column], last.loc["random", column])


pd.DataFrame({column: {name: against_random(name, column) for name in ("low", "middle", "high")}
              for column in ["eval loss", "eval margin", "spread of eval margins"]})  # fmt: skip

# %%
def at_end(name, less):
    """Evaluation loss at the end, less something: mean and interval."""
    return nb.seed_interval(last.loc[name, "eval loss"] - less)


rise = {name: at_end(name, np.log(2)) for name in colors}
moves = {name: f"{ways[move.verdict()]} ({move:+.2f})" for name, move in rise.items()}
gap = {name: f"{at_end(name, last.loc[name, 'train loss']):.2f}" for name in colors}

# %%
Markdown(f"""The evaluation loss, from ln 2 to the end of two epochs:

- **low** {moves["low"]}; against random {against_random("low")}.
- **high** {moves["high"]}; against random {against_random("high")}.
- **middle** {moves["middle"]}; against random {against_random("middle")}.
- **random** {moves["random"]}.

*Overfitting* is the evaluation loss minus the group's own: low {gap["low"]}, middle
{gap["middle"]}, high {gap["high"]}, random {gap["random"]}. {p.note}""")

# %% [markdown]
# How can pairs that *lower* the validation loss do harm? Influence speaks of one small step at θ,
# and chapter 07 found it right about that. A group trained alone, from the start and for two
# epochs, is another matter. And mind the random line before you praise the middle.

# %% [markdown]
# ## 3 · LossDiff: is it a step too large?
# The paper's proxy needs no gradient. Train $\theta$ for one more epoch, on the validation set, and
# see whose loss falls: $\text{LossDiff}(d) = \ell_d(\theta) - \ell_d(\theta_{\text{val}})$ [N].
# That is a finite difference of the loss, with one large step from $\theta$ to
# $\theta_{\text{val}}$. The other proxy, $\text{IRM}(d) = m_d(\theta)$, the implicit margin, needs
# no validation set at all [N].
#
# Three log-prob tables serve for both. By hand for one data set:

# %%
theta_val = train(theta, dict.fromkeys(seeds, validation))
val_logps, beta = tables(theta_val, data), settings["beta"]
margins = []
for after in (theta_logps[0], val_logps[0]):
    ratio = after - reference[0].loc[after.index]
    margins.append(beta * (ratio.chosen_logp - ratio.rejected_logp))
by_hand = np.logaddexp(0, -margins[0]) - np.logaddexp(0, -margins[1])

# %%
before = {seed: reference[seed].loc[theta_logps[seed].index] for seed in seeds}


def loss_difference(after, seeds=seeds):
    return {seed: nb.scores.loss_difference(theta_logps[seed], after[seed], before[seed], beta)
            for seed in seeds}  # fmt: skip


irm = {seed: nb.scores.irm(theta_logps[seed], before[seed], beta) for seed in seeds}
proxies = {"LossDiff": loss_difference(val_logps), "IRM": irm}
assert np.allclose(by_hand, proxies["LossDiff"][0]) and np.allclose(margins[0], irm[0])

# %% [markdown]
# **Predict**: the correlation of LossDiff with exact influence. And if we shrink the step, walking
# only a part $t$ of the way from $\theta$ to $\theta_{\text{val}}$: does it go to 1?

# %%
from nbkit.derivatives.finite import shifted

start, end = (dict(run[0].model.named_parameters()) for run in (theta, theta_val))
way = {name: (end[name] - start[name]).detach() for name in start}

# %%
def part_of_the_way(t):
    with shifted(start, way, t):
        return nb.response_logprobs(theta[0], data[0], progress=False)


def agreement(after):
    """How far the losses moved (nats, mean size), and Pearson's r with exact influence."""
    score = loss_difference({0: after}, [0])[0]
    return score.abs().mean(), score.corr(influence[0])


chord = [agreement(part_of_the_way(t)) for t in (1, 0.3, 0.1, 0.03)]

# %% [markdown]
# The other way to a smaller step: train on the validation set with a lower rate. And a third: **one
# step of plain gradient descent, with the whole validation set as one batch**. (It starts at
# $\theta$, so it goes exactly along $-\nabla \bar\ell_{\text{val}}$.) Between the two lie an epoch
# of plain steps in small batches, and one step of AdamW with the whole set.

# %%
one_batch = dict(batch_size=len(validation), warmup_steps=0, max_grad_norm=0.0)
plain = dict(optim="sgd", **one_batch)


def after_training(**changes):
    return tables(train({0: theta[0]}, {0: validation}, **changes), {0: data[0]})[0]


def at_rates(*rates, **changes):
    return [agreement(after_training(learning_rate=rate, **changes)) for rate in rates]

# %%
slower = [agreement(val_logps[0]), *at_rates(1e-5, 3e-6)]
one_adam = at_rates(1e-4, 1e-5, **one_batch)
epoch = at_rates(5e-4, 5e-5, **{**plain, "batch_size": settings["batch_size"]})
one_step = at_rates(3e-2, 1e-2, 1e-3, 1e-4, 1e-5, **plain)

# %%
fig, ax = plt.subplots(figsize=(9.5, 4.2), layout="constrained")
lines = {"along the way to θ_val": chord, "an epoch of AdamW, lower rates": slower,
         "one step of AdamW, one batch": one_adam, "an epoch of plain steps": epoch,
         "one plain step, one batch": one_step}  # fmt: skip
for (label, points), marker in zip(lines.items(), "os^vD"):
    ax.plot(*zip(*points), marker=marker, label=label)
ax.plot(*slower[0], "k*", markersize=14, label="LossDiff, as the paper has it")
ax.set(xscale="log", xlabel="how far the step moved the losses (nats, mean size)",
       ylabel="Pearson's r with exact influence", ylim=(None, 1.02))
ax.invert_xaxis()
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
ax.set_title("Is it the size of the step, or its direction?");

# %%
as_far = min(one_step, key=lambda point: abs(np.log(point[0] / slower[0][0])))
Markdown(f"""Along the way to θ_val, r goes from {chord[0][1]:.2f} (the whole way) to
{chord[-1][1]:.2f} ({chord[-1][0] / chord[0][0]:.0%} of the movement). One plain gradient step that
moves the losses by {as_far[0]:.3f} nats (LossDiff: {slower[0][0]:.3f}) has r = {as_far[1]:.3f}:
what is lost is lost by the **direction**. Whose fault is it? An epoch of plain steps in small
batches has r = {epoch[0][1]:.2f}; a single step of AdamW, with all pairs in one batch,
{one_adam[0][1]:.2f}. (One data set.) {p.note}""")

# %% [markdown]
# AdamW divides each parameter's gradient by its usual size: another direction. So the repair costs
# less than the proxy: one full-batch gradient instead of an epoch, then the same three tables. That
# *is* the forward difference of chapter 07. (To the right the step shrinks; if it is much too
# small, float32 rounding eats the difference.)

# %% [markdown]
# Now all data sets, with two variants: `from the reference`, another reading of "a model trained on
# the validation set" [?], in which θ_val never saw the training pairs; and the single plain step.
# **Predict** IRM's row: what was the margin related to in section 1?

# %%
on_validation = dict.fromkeys(seeds, validation)
fresh = tables(train(dict.fromkeys(seeds, policy), on_validation), data)
stepped = tables(train(theta, on_validation, learning_rate=1e-3, **plain), data)
scores = {**proxies, "LossDiff, from the reference": loss_difference(fresh),
          "LossDiff, one plain step": loss_difference(stepped)}  # fmt: skip

# %%
from nbkit.intervals import Interval


def correlation(score, method="pearson", target=pd.Series.copy):
    """Over data sets, by Fisher's z, so that no interval goes beyond 1."""
    found = [score[seed].corr(target(influence[seed]), method) for seed in seeds]
    return Interval(*np.tanh(nb.seed_interval(np.arctanh(found))))


columns = {"Pearson": ("pearson",), "Spearman": ("spearman",), "Spearman, |IF|": ("spearman", abs)}
pd.DataFrame({label: {name: f"{correlation(score, *how):.2f}" for name, score in scores.items()}
              for label, how in columns.items()})  # fmt: skip

# %%
within = {name: nb.rank_correlation(score[0], influence[0]) for name, score in proxies.items()}
spoken = {name: f"{c.value:.2f} [{c.low:.2f}, {c.high:.2f}]" for name, c in within.items()}
r = {name: f"{correlation(score):.2f}" for name, score in scores.items()}
paper = {"LossDiff": 0.77, "IRM": 0.67}
inside = {name: "inside" if low <= paper[name] <= high else "outside"
          for name, score in proxies.items() for _, low, high in [correlation(score)]}  # fmt: skip
size_of = f"{correlation(irm, 'spearman', abs):.2f}"
fresh_start = scores["LossDiff, from the reference"]
like_irm = over_seeds(lambda s: fresh_start[s].corr(irm[s]), ".2f")
Markdown(f"""**LossDiff**: Pearson {r["LossDiff"]}; the paper's .77 [N] is {inside["LossDiff"]} that
interval. **IRM**: {r["IRM"]}; its .67 [N] is {inside["IRM"]}. **From the reference**:
{r["LossDiff, from the reference"]}; a model that never saw the pairs differs from θ most on what θ
has learned, so that this reading measures the margin once more (Pearson with IRM: {like_irm}).

Data sets are few, and each has only so many pairs. In the first one, resampling pairs: LossDiff
{spoken["LossDiff"]}, IRM {spoken["IRM"]} (Spearman). {p.note}""")

# %% [markdown]
# Look at the last column: IRM says how much pull is left, not which way it goes. It knows the
# *size* of influence. To know the sign, small margins would have to gather at one of its ends.

# %% [markdown]
# ## 4 · Two bands, and what they share by chance
# **LossDiff-IRM** keeps pairs in a middle band of both [N]. It is to find what TIF finds: the paper
# reports an overlap with TIF of .73-.78, against .66-.70 (LossDiff alone) and .60-.70 (IRM alone)
# [N]. An overlap coefficient divides the shared pairs by the smaller selection. **Predict**: two
# bands of the middle 70%, of two scores that have *nothing* to do with each other. What is their
# overlap?

# %%
def in_bands(seed, low, high):
    """Share kept by both bands, and overlaps with TIF, for bands of one width."""
    tif, difference, margin = (nb.select.middle(score[seed], low, high)
                               for score in (influence, *proxies.values()))  # fmt: skip
    both = nb.select.both(difference, margin)
    with_tif = {"LossDiff": difference, "IRM": margin, "LossDiff-IRM": both}
    return {"kept by both": len(both) / len(influence[seed]), "chance": high - low,
            **{name: nb.overlap(tif, ids) for name, ids in with_tif.items()}}


bands = {f"{low:.0%} to {1 - low:.0%}": pd.DataFrame([in_bands(s, low, 1 - low) for s in seeds])
         for low in (0.1, 0.15, 0.2, 0.25)}  # fmt: skip
pd.DataFrame({width: rows.mean() for width, rows in bands.items()}).T.round(2)

# %%
seventy = bands["15% to 85%"].mean()
Markdown(f"""The overlap to expect by chance is the share that the *larger* selection keeps: here
{seventy["chance"]:.0%}. So figures such as .60-.70 say little unless one knows the bands, which we
do not [?]. With this one, IRM has {seventy["IRM"]:.2f}. And an intersection is smaller than either
band, so that its overlap divides by less. {p.note}""")

# %% [markdown]
# So compare at equal size: half of the pairs each, by bands as wide as that takes
# (`nb.select.central`). Chance is then one half. And one rule more, which needs one table less:
# keep the *highest* margins, which are the lowest losses at θ (Selective DPO's rule, without its
# cross-fitting).

# %%
central = partial(nb.select.central, keep=0.5)


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
    return nb.seed_interval([nb.overlap(sets["TIF"], sets[name]) for sets in selected.values()])


def wrong(name):
    return nb.seed_interval([text[s].flipped[selected[s][name]].mean() for s in seeds])


pd.DataFrame({"overlap with TIF": {name: f"{shared(name):.2f}" for name in selected[0]},
              "wrong labels": {name: f"{wrong(name):.1%}" for name in selected[0]}})

# %%
first, second = (score[0].rename(name) for name, score in proxies.items())
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

# %%
chance = {"above": "more than chance", "below": "less than chance"}
said = {name: chance.get(shared(name).verdict(0.5), "no more than chance") for name in selected[0]}
Markdown(f"""Overlap with TIF at equal size (chance: .5): LossDiff {shared("LossDiff"):.2f}
({said["LossDiff"]}), IRM {shared("IRM"):.2f} ({said["IRM"]}), their intersection
{shared("LossDiff-IRM"):.2f}, the highest IRM {shared("highest IRM"):.2f}
({said["highest IRM"]}). {p.note}""")

# %% [markdown]
# What is learned is in the middle of influence, and at the *top* of the margin: the upper end of
# IRM's band cuts off pairs that TIF keeps.

# %% [markdown]
# ## 5 · Does the middle train better?
# Train from the start on each half, and on the controls: random halves, and full data. **Equal
# examples**: one epoch each. **Predict**: the order. Is "highest IF" better or worse than TIF?

# %%
import tempfile

folder = tempfile.TemporaryDirectory()  # finished runs: what two figures share is trained once
prompts = world.prompts(p.pick(quick=48, full=384))  # 192 questions; in full, twice each
judged = dict(measures={"correct": lambda prompt, said: world.grade(prompt, said).correct},
              sampling=dict(temperature=0.7, max_new_tokens=16), cache=folder.name,
              workers=p.workers, progress=False)  # fmt: skip

# %%
def compare(select, policy=policy, reference=reference, budgets=("examples",)):
    """`nb.compare` on each data set; `select(seed)` gives its selections: name -> ids."""
    return pd.concat([
        nb.compare(policy, data[seed], select(seed), prompts, world.reward, seeds=[seed],
                   reference=reference[seed], budgets=budgets, **judged, **settings)
        for seed in seeds])  # fmt: skip

# %%
def show(results, title):
    """Win rate and correctness, minus those of full data in the same data set and budget."""
    runs = results[results.selection != "before"].set_index(["seed", "budget"])
    full = runs[runs.selection == "full"]
    fig, axes = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True, layout="constrained")
    for ax, metric in zip(axes, ["win_rate", "correct"]):
        less = runs.assign(**{metric: runs[metric] - full[metric].loc[runs.index]}).reset_index()
        label = {"win_rate": "win rate", "correct": "share correct"}[metric]
        nb.plots.comparison(less, ax, metric=metric, xlabel=f"{label}, minus full data")
        ax.axvline(0, color="0.2", linewidth=1, zorder=0)
    fig.suptitle(title)

# %%
results = compare(selected.get)
show(results, "Half of the pairs by each rule: who wins (left), and who is right (right)?")

# %%
def gains(results, rows, metrics=("win_rate", "correct"), budget="examples"):
    """(name, over): mean difference within data sets, 95% interval, and the verdict."""
    return pd.DataFrame({metric: {f"{name} − {over}": nb.gain(results, name, over, metric=metric,
                                                              budget=budget)
                                  for name, over in rows} for metric in metrics})  # fmt: skip


versus = [(name, "random") for name in selected[0]]
versus += [(name, "full") for name in ("TIF", "LossDiff-IRM")]
versus += [("highest IF", "TIF"), ("highest IRM", "LossDiff-IRM")]
gains(results, versus)

# %%
def verdict(name, over, metric="win_rate", results=results, budget="examples"):
    return nb.gain(results, name, over, metric=metric, budget=budget)


# %%
top = verdict("highest IF", "TIF")
cut = {"above zero": "it costs wins to cut the top off", "below zero": "cutting the top off pays"}
Markdown(f"""- *Is the middle better than no rule?* TIF − random: {verdict("TIF", "random")};
  LossDiff-IRM − random: {verdict("LossDiff-IRM", "random")}.
- *Must the lowest go?* lowest IF − random: {verdict("lowest IF", "random")}.
- *Must the highest go?* highest IF − TIF: {top}. So
  {cut.get(top.verdict, "these data sets do not show whether cutting the top pays")}.
- *... and in correctness?* {verdict("highest IF", "TIF", "correct")}.
- *Does it take LossDiff?* highest IRM − LossDiff-IRM: {verdict("highest IRM", "LossDiff-IRM")}.

Random pairs are the fair control, full data is not an even one: all halves but those by IRM alone
have seen the validation pairs, through their scores. {p.note}""")

# %% [markdown]
# At **equal updates** a half is repeated until it has made as many updates as full data: this is
# where a group that overfits should fall back. **Predict**: does "highest IF" now lose to TIF?

# %%
names = ["TIF", "LossDiff-IRM", "highest IRM", "highest IF"]
some = {seed: {name: selected[seed][name] for name in names} for seed in seeds}
longer = compare(some.get, budgets=("updates",))
rows = [(name, over) for name in names for over in ("random", "full")]
rows += [("highest IF", "TIF"), ("highest IRM", "LossDiff-IRM")]
repeated = dict(results=longer, budget="updates")
gains(rows=rows, **repeated)

# %%
later = verdict("highest IF", "TIF", **repeated)
full = [verdict("LossDiff-IRM", "full", **how) for how in ({}, repeated)]
Markdown(f"""*Highest IF − TIF*: equal examples {top}; equal updates {later}.

*LossDiff-IRM − full data*: equal examples {full[0]}; equal updates {full[1]}.

*Highest IRM − LossDiff-IRM*: equal examples {verdict("highest IRM", "LossDiff-IRM")}; equal updates
{verdict("highest IRM", "LossDiff-IRM", **repeated)}. {p.note}""")

# %% [markdown]
# ## 6 · Is quality a property of the model?
# The paper's strongest claim [N]: a pair that is good for one model harms another. The same pairs,
# two capacities. TIF for each; which pairs change sides? Some do for no reason but luck: so the
# control is the *same* capacity, warmed up once more in another order. **Predict**: how many change
# sides between two orders, and how many between two capacities?

# %%
capacity = nb.load_policy(f"world/{other}", device="cpu")
other_reference = tables(dict.fromkeys(seeds, capacity), scored)
other_theta = train(dict.fromkeys(seeds, capacity), data, other_reference)
other_found = influences(other_theta, other_reference)
again_found = influences(train(dict.fromkeys(seeds, policy), data, shift=100), reference)

# %%
again = f"{size}, again"
by_policy = {size: found, again: again_found, other: other_found}
tif_of = {name: {s: central(of[s].influence) for s in seeds} for name, of in by_policy.items()}


def changes(a, b):
    """Share of all pairs that are in the band of one and not of the other, by data set."""
    return pd.Series({s: len(set(tif_of[a][s]) ^ set(tif_of[b][s])) / len(data[s]) for s in seeds})


# %%
def alike(name):
    """Pearson's r of its influences with ours."""
    return f"{correlation({s: by_policy[name][s].influence for s in seeds}):.2f}"


by_size, by_order = changes(size, other), changes(size, again)
beyond = nb.paired_gain(by_size, by_order)
Markdown(f"""Pairs that change sides: between two capacities {nb.seed_interval(by_size):.0%},
between two orders {nb.seed_interval(by_order):.0%}; bands by coin toss would change 50%. Capacities
minus orders: {beyond}. Pearson's r of the influences: two capacities {alike(other)}, two orders
{alike(again)}. {p.note}""")

# %% [markdown]
# Who are they? **Predict**: does the larger policy keep (has it learned) more of the long tail
# (rung 6), the smaller more of the head (rung 1)?

# %%
def lesson(seed):
    """The truth about each pair: rung, wrong label, whether the right animal is at stake."""
    frame = text[seed]
    right = [[world.grade(*row).correct for row in zip(frame.prompt, frame[side])]
             for side in ("chosen", "rejected")]  # fmt: skip
    return pd.DataFrame({"rung": frame.rung, "wrong labels": frame.flipped.astype(float),
                         "animal at stake": np.not_equal(*right).astype(float)}, frame.index)

# %%
def sides(seed):
    """Which of the two bands a pair is in."""
    ids = text[seed].index
    mine, theirs = (ids.isin(tif_of[name][seed]) for name in (size, other))
    words = {(True, True): "both", (True, False): f"{size} only",
             (False, True): f"{other} only", (False, False): "neither"}  # fmt: skip
    return pd.Series([words[pair] for pair in zip(mine, theirs)], ids)


who = pd.concat({seed: lesson(seed).groupby(sides(seed)).mean() for seed in seeds})
who.groupby(level=1).mean().round(3)

# %%
def only(column):
    """Of the pairs that only this policy keeps, minus of those that only the other keeps."""
    mine, theirs = (who.xs(f"{name} only", level=1)[column] for name in (size, other))
    return nb.paired_gain(mine, theirs)


Markdown(f"""Pairs that only the {size} policy keeps, minus those that only the {other} one keeps:

- **rung**: {only("rung")}
- **wrong labels**: {only("wrong labels")}
- **animal at stake** (one answer right, the other not): {only("animal at stake")} {p.note}""")

# %% [markdown]
# And does it matter? Each policy is trained on its own band and on the other's. The claim says that
# its own is better, for both.

# %%
mine = compare(lambda s: {"own": tif_of[size][s], "other's": tif_of[other][s]})
theirs = compare(lambda s: {"own": tif_of[other][s], "other's": tif_of[size][s]},
                 capacity, other_reference)  # fmt: skip
rows = [("own", "other's"), ("own", "random"), ("other's", "random")]
pd.concat({name: gains(table, rows) for name, table in {size: mine, other: theirs}.items()})

# %%
own = {size: nb.gain(mine, "own", "other's"), other: nb.gain(theirs, "own", "other's")}
in_words = "; ".join(f"{name} {gain}" for name, gain in own.items())
better = [name for name, gain in own.items() if gain.low > 0]
worse = [name for name, gain in own.items() if gain.high < 0]
Markdown(f"""Own − other's band, in win rate: {in_words}. Better off with its own band:
**{", ".join(better) or "neither is shown to be"}**; worse off: {", ".join(worse) or "neither"}.
That two policies *rank* pairs differently (above) is one thing, that the difference matters to
training another. {p.note}""")

# %% [markdown]
# ## 7 · A neighbour: CHES
# Influence asks what a pair does to *other* pairs. CHES
# ([2410.08847](https://arxiv.org/abs/2410.08847)) asks what it does to its own chosen response:
# where both responses look alike to the model, training lowers both (chapter 02). It needs one
# pass, and neither reference nor validation set. Is it the same thing once more?

# %%
def neighbour(seed):
    score = nb.scores.ches(policy, data[seed], normalized=True, progress=False)
    others = {"IF": influence[seed], "|IF|": influence[seed].abs(), "IRM": irm[seed],
              "wrong label": text[seed].flipped.astype(float)}  # fmt: skip
    return {name: score.corr(values, "spearman") for name, values in others.items()}


related = pd.DataFrame({seed: neighbour(seed) for seed in seeds})
pd.DataFrame({"Spearman with CHES": {name: f"{nb.seed_interval(row):.2f}"
                                     for name, row in related.iterrows()}})  # fmt: skip

# %% [markdown]
# ## 8 · When this misleads
# - **"Medium" is two things.** Pairs that are learned, and pairs that stand across the validation
#   gradient. Look at the margin of what a band keeps before you call it steady.
# - **An overlap without its chance level.** It is the larger selection's share. Ask for the bands.
# - **LossDiff inherits the optimizer.** Another rate, batch or number of epochs: another direction.
# - **In-sample.** θ has trained on the pairs that it scores. A memorised wrong label has a large
#   margin, and sits in the middle. Chapter 03 cross-fits for that reason.
# - **The validation set** has wrong labels, too, and spends labels that random pairs do without.
# - **Which θ?** After a longer warm-up more is learned, and the middle is larger.
# - **Many comparisons.** Of twenty intervals, one is clear of zero by chance.
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
nb.exercises.check_truncation(my_truncation)

# %% [markdown]
# ### Exercise 2 · LossDiff from three tables
# *8 minutes · medium · you can make every score of this chapter from log-probs*
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
nb.exercises.check_loss_difference(my_loss_difference)

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
nb.exercises.check_overlap_by_chance(my_overlap_by_chance)

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
nb.exercises.check_change_of_sides(my_change_of_sides)

# %% [markdown]
# ## 10 · The paper said, we measured

# %%
Markdown(f"""
| the paper said [N] | we measured |
|---|---|
| low influence: the evaluation loss rises | it {moves["low"]} |
| ... it is noise | wrong labels, lowest tenth − rest {low} |
| high influence overfits, with extreme margins | evaluation loss − random's: \
{against_random("high")}; spread of margins {against_random("high", "spread of eval margins")} |
| the middle is steady | evaluation loss − random's: {against_random("middle")} |
| ... and best to train on | TIF − random, win rate: {verdict("TIF", "random")}; highest IF − TIF: \
{top}; at equal updates {later} |
| LossDiff and IF: Pearson .77 | {r["LossDiff"]}; one plain step instead: \
{r["LossDiff, one plain step"]} |
| IRM and IF: Pearson .67 | {r["IRM"]}; with the size of IF (Spearman) {size_of} |
| overlap with TIF .66-.70, .60-.70, together .73-.78 | {shared("LossDiff"):.2f}, \
{shared("IRM"):.2f}, together {shared("LossDiff-IRM"):.2f}; chance .50 |
| LossDiff-IRM beats full data | {full[0]} · equal updates {full[1]} |
| *not asked:* random pairs of the same number | LossDiff-IRM − random \
{verdict("LossDiff-IRM", "random")} |
| *not asked:* the highest margins instead | over random {verdict("highest IRM", "random")} |
| quality is a property of the model | change of sides, beyond the seed's: {beyond} |
| ... so that a pair good for one harms another | own − other's band: {in_words} |

{p.note}""")

# %% [markdown]
# **Differences from the paper.** Its models have billions of parameters, and benchmarks judge them
# [N]; ours are tiny, and the judge is the world's true reward. It trains two epochs on what it
# keeps [N]; for the win rates we train one, or as many updates as full data. We do not know its
# thresholds, and keep half, by bands as wide as that takes; nor whether it applies an inverse
# Hessian [?], which we do not (chapter 07 shows both).
#
# ## In this chapter we saw
# - that the middle of influence holds what the policy has learned, and that wrong labels gather at
#   its ends, not always at the low one;
# - that low and high groups, trained alone, overfit as the paper says; the middle does not, and
#   random pairs do not either;
# - that the middle half wins more often than a random half, and the lowest half less; that the
#   highest must go was not shown; nor that the highest margins, from one table less, win less;
# - that LossDiff differs from influence by its direction, not by its large step, and that one plain
#   gradient step repairs it; that a margin knows the size of influence and not its sign;
# - that an overlap is read beside its chance level, and a change of sides beside another run's;
# - that two capacities agree on the band no better than two coins, and yet neither is shown to be
#   worse off with the other's.
#
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
