# %% [markdown]
# Lesson 02 trained on all pairs alike. But while a model learns, some pairs come at once, some
# late, and some never. If the same pairs are hard for every run, then **difficulty** is something
# that can be measured once, before the real training, and used to leave pairs out (lesson 04).
# Selective DPO (Gao et al., [2502.09650](https://arxiv.org/abs/2502.09650)) says that the order is
# consistent, and that the hard pairs exceed the model's capacity. We test the first, and look
# whether the second is all there is to it.
#
# **You will be able to**
# - watch the order in which a model learns pairs, and put it into a number, the *learned step*;
# - tell whether a ranking belongs to the pairs or to the run, with a chance level for "agree";
# - compute a *validation loss* by cross-fitting, and keep a leak out of it;
# - say what a difficulty score follows, and what it does not, with intervals over data sets.
#
# **Needs** [lesson 02](02_dpo.ipynb): the DPO loss, the implicit margin, held-out pairs. **On a
# GPU** nothing changes here: the models are tiny. Lesson 11 makes the same calls with a real one.

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.course.profile()

# %% [markdown]
# ## 1 · Two pairs, one training run
# The policy is one model of the world (`size` says which); it trains with the settings of lesson
# 02 (the short leash). We follow **held-out** pairs, about facts that are in no training pair:
# whatever happens to them, the model has not memorised them.

# %%
import torch

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
size = p.pick(quick="small", full="medium")
policy = nb.load_policy(f"world/{size}", device="cpu")
settings = dict(world.DPO[size], learning_rate=p.pick(quick=1e-3, full=1e-4), progress=False)
pairs = world.pairs(p.pick(quick=160, full=1600), seed=0)
held_out = world.pairs(p.pick(quick=40, full=300), part="validation")

# %%
run = nb.train_dpo(policy, pairs, trace=held_out, trace_every=1, **settings)
run.trace.query("step in (0, 1, step.max())").groupby("step").head(2).round(3)

# %% [markdown]
# `run.trace` has a row for each held-out pair after each update. Here are two of the pairs, with
# the right `answer`. **Predict**: which one is the model going to learn, that is, give a margin
# well above 0?

# %%
text = held_out.to_pandas().set_index("id")
ranked = run.trace.groupby("id").margin.mean().sort_values()
A, B = sorted(ranked.index[[2, -1]])  # one from either end
two = text.loc[[A, B], ["prompt", "answer", "chosen", "rejected"]].set_axis(["A", "B"])
two

# %%
import seaborn as sns

lines = run.trace[run.trace.id.isin([A, B])].replace({A: "A", B: "B"})
ax = sns.lineplot(lines, x="step", y="margin", hue="id", hue_order=["A", "B"], palette="colorblind")
ax.axhline(0, color="0.45", linewidth=1)
ax.set(xlabel="training step (updates)", ylabel="implicit margin m (β × nats)")
ax.legend(title="held-out pair", frameon=False);

# %% [markdown]
# These are from the two ends. At step 0 policy and reference are the same, so every margin is 0;
# then one goes up and the other down, **although one judge labelled both, and neither was trained
# on**. Now all of them, one row each: blue is a margin above 0, orange below.

# %% tags=["picture"]
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
nb.plots.learning_order(run.trace, ax)
ax.set_title(f"{len(held_out)} held-out pairs during one DPO run");

# %% [markdown]
# The rows are sorted by the number of the next section. From top to bottom: pairs that turn blue
# within a few updates, pairs that need the whole epoch, and at the bottom pairs that turn *orange*:
# the more the model trains, the surer it is of the other response.
#
# ## 2 · The learned step
# When was a pair learned for good? Let $m_t(d)$ be the implicit margin of pair $d$ after update
# $t$. The paper's answer (section 3) [P]:
#
# $$\text{LS}(d) = \min \{\, t_0 : m_t(d) > \delta \ \text{ for all } t > t_0 \,\}$$
#
# | symbol | meaning | unit |
# |---|---|---|
# | $t$ | optimizer updates made so far | 0 .. last step |
# | $m_t(d)$ | implicit margin of a held-out pair, β included | β × nats, summed over tokens |
# | $\delta$ | threshold, 0.4 in the paper [P] | β × nats |
# | $\text{LS}(d)$ | learned step; ∞ if the pair is not above δ at the end | updates; low: easy |
#
# For a learned pair this is the *last step that is not above* δ. ∞ says that the run's last step is
# itself not above δ, so that no step has only steps above δ after it. Four pairs, as lines:

# %%
delta = 0.4
learned = nb.scores.learned_step(run.trace, threshold=delta)
margins = run.trace.pivot(index="step", columns="id", values="margin")
finite, never = (learned.index[pick] for pick in (np.isfinite(learned), np.isinf(learned)))
crossed = (margins > delta).idxmax()  # the first step above
four = {
    "forgotten": margins[never].max().idxmax(), "early": learned[finite].idxmin(),
    "hopeless": margins.iloc[-1].idxmin(), "relearned": (learned - crossed)[finite].idxmax(),
}  # fmt: skip

# %%
ax = sns.lineplot(margins[list(four.values())].set_axis(list("1234"), axis=1),
                  palette="colorblind", dashes=False)  # fmt: skip
ax.axhline(delta, color="0.45", linestyle=":")
ax.set(xlabel="training step (updates)", ylabel="implicit margin m (β × nats)")
ax.legend(title="pair (dotted:\nthreshold)", bbox_to_anchor=(1, 1), frameon=False);

# %% [markdown]
# **Predict** from the picture: which of the four have a learned step, which of these is the
# smallest, and which is *not* where the line first crosses 0.4?

# %%
for name in ("early", "relearned"):
    not_above = margins[four[name]].loc[lambda m: m <= delta]
    assert not_above.index[-1] == learned[four[name]]
ids = list(four.values())
pd.DataFrame({"pair": list(four), "first above": crossed[ids].to_numpy(),
              "learned step": learned[ids].to_numpy()}, index=list("1234"))  # fmt: skip

# %% [markdown]
# **What is 0.4?** A margin is the policy's log-odds for the label (Bradley and Terry, lesson 02),
# so the threshold is a probability. What would another one have done to the ranking?

# %%
def spearman(a, b):
    """Spearman's rank correlation over the shared ids; ∞ ranks last, ties share a rank."""
    return nb.rank_correlation(a, b, confidence=None).value


beta = settings["beta"]
half, twice = (nb.scores.learned_step(run.trace, threshold) for threshold in (delta / 2, 2 * delta))
forgotten = (margins[never].max() > delta).mean()
Markdown(f"""A pair counts as learned when the policy gives its label a probability above
**{1 / (1 + np.exp(-delta)):.2f}**. With our β = {beta:g} that takes {delta / beta:g} nats between
the two log-ratios; with the paper's β = 0.01 [P] it would take {delta / 0.01:g}. The threshold
decides how much is "never learned": {np.isinf(learned).mean():.0%} of the pairs at {delta}, but
{np.isinf(half).mean():.0%} at half of it and {np.isinf(twice).mean():.0%} at twice. The ranking
changes, too: Spearman with ours {spearman(half, learned):.2f} and {spearman(twice, learned):.2f}.

"For all later steps" matters as well: {forgotten:.0%} of the never-learned pairs had been above
{delta} at some time. {p.note}""")

# %% [markdown]
# ## 3 · Does the order belong to the pairs, or to the run?
# One run has one order of data, one training set, one model. If another run learns the same pairs
# late, difficulty is a property of the pairs. So we train again, with the same held-out pairs
# followed:
#
# | run | training pairs | order | model |
# |---|---|---|---|
# | base | a fresh draw for each seed | by the seed | ours |
# | other order | the same as base | another | ours |
# | a model's name | the same as base | by the seed | that of another size |
# | **coin** | the same, every label decided by a **coin** | by the seed | ours |
#
# The coin is the control: there is nothing to learn in it, so runs must *not* agree. If they did,
# agreement would come from something else than the labels.
#
# **Predict**: which change shuffles the order of learning most, the data's order, the training
# pairs, or the size of the model?

# %%
from functools import partial


def training(policy, pairs, seed, follow=held_out, **options):
    """A training run, prepared but not yet started."""
    options = dict(trace=follow, trace_every=10, seed=seed) | options
    return partial(nb.train_dpo, policy, pairs, **settings, **options)


def run_all(jobs):
    """Their traces by name, in `p.workers` processes."""
    runs = nb.at_once(jobs, p.workers, desc="training, runs")
    return {name: run.trace for name, run in runs.items()}

# %%
seeds = range(p.pick(quick=2, full=5))
data = {seed: world.pairs(len(pairs), seed=seed) for seed in seeds}
held_reference = nb.response_logprobs(policy, held_out, progress=False)
references = {seed: pd.concat([nb.response_logprobs(policy, data[seed], progress=False),
                               held_reference]) for seed in seeds}  # fmt: skip

# %%
others = {name: nb.load_policy(f"world/{name}", device="cpu")
          for name in p.pick(quick=["medium"], full=["small", "large"])}  # fmt: skip
jobs = {}
for seed in seeds:
    table = {"reference": references[seed]}
    jobs["base", seed] = training(policy, data[seed], seed, **table)
    jobs["other order", seed] = training(policy, data[seed], 100 + seed, **table)
    for name, other in others.items():
        jobs[name, seed] = training(other, data[seed], seed)
    jobs["coin", seed] = training(policy, nb.coin_labels(data[seed], seed), seed)
traces = run_all(jobs)

# %%
kinds, n = ["base", "other order", *others, "coin"], len(seeds)
steps = pd.DataFrame({name: nb.scores.learned_step(trace) for name, trace in traces.items()})
steps = steps[kinds].rename_axis(columns=["run", "seed"])
matrix = steps.rank().corr()  # Pearson of ranks is Spearman; corr() by itself leaves out ∞
fig, ax = plt.subplots(figsize=(7.5, 6), layout="constrained")
sns.heatmap(matrix, vmin=0, vmax=1, cmap="viridis", square=True, ax=ax,
            cbar_kws={"label": "Spearman, learned steps"})  # fmt: skip
ax.set_xticks(np.arange(len(kinds)) * n + n / 2, kinds, rotation=0)
ax.set_yticks(np.arange(len(kinds)) * n + n / 2, kinds)
for edge in range(n, len(matrix), n):
    ax.axhline(edge, color="white")
    ax.axvline(edge, color="white")
ax.set(xlabel="", ylabel="")
ax.set_title(f"{len(matrix)} runs, {n} a kind, {len(steps)} pairs (below 0 is drawn as 0)");

# %% [markdown]
# Each small square compares two runs (learned steps are known to 10 updates here). Next, the
# numbers with intervals. A run of seed $s$ is compared with *one* run of the other kind: of the
# same seed (the same training pairs) or of the next (fresh pairs). So a comparison uses each run
# once; but with fresh pairs it uses each data set twice, and those intervals are a little too
# narrow.
#
# Selection does not use ranks but sets, so we also compare the **hardest halves**, with the
# Jaccard index: pairs in both, divided by pairs in either. **Predict** the index of two *random*
# halves. (It is not ½, and not 0; exercise 4 has the formula.)
#
# One trap first. A learned step has ties: all never-learned pairs share ∞. Whoever cuts such a
# ranking in half cuts through the ties, by whatever comes next: `nb.select` takes `ties`, another
# score, or else the id.

# %%
final = pd.DataFrame({name: trace[trace.step == trace.step.max()].set_index("id").margin
                      for name, trace in traces.items()})  # fmt: skip


def hardest_half(name):
    """Latest learned first; never-learned pairs by their last margin, lowest first."""
    return nb.select.hardest(steps[name], 0.5, ties=-final[name])

# %%
coins = ("coin", 0), ("coin", 1)
by_id = nb.jaccard(*(nb.select.hardest(steps[name], 0.5) for name in coins))
by_margin = nb.jaccard(*map(hardest_half, coins))
Markdown(f"""Two runs on noise have hardest halves with a Jaccard index of **{by_id:.2f}** if ties
are cut by id, {by_margin:.2f} if by the last margin, as we do from here on. {p.note}""")

# %%
comparisons = {"same pairs, other order": ("base", "other order", 0),
               "other pairs": ("base", "other order", 1)}  # fmt: skip
comparisons |= {f"other pairs, {name} model": ("base", name, 1) for name in others}
comparisons |= {"coin labels": ("base", "coin", 1), "coin against coin": ("coin", "coin", 1)}
rows = []
for name, (one, other, shift) in comparisons.items():
    for seed in seeds:
        two = (one, seed), (other, (seed + shift) % n)
        agree = {"Spearman": matrix.loc[two], "Jaccard": nb.jaccard(*map(hardest_half, two))}
        rows.append({"comparison": name, "seed": seed} | agree)
agreement = pd.DataFrame(rows)

# %%
def t95(values):
    """Student-t interval over seeds, for seaborn's `errorbar`."""
    return [*nb.seed_interval(values)][1:]


def interval(values, form=".2f"):
    return format(nb.seed_interval(values), form)


def clear_of(values, *chance):
    return nb.seed_interval(values).verdict(*chance)

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True, layout="constrained")
for ax, measure, chance in zip(axes, ["Spearman", "Jaccard"], [0, 1 / 3]):
    sns.stripplot(agreement, x=measure, y="comparison", color="0.7", size=4, ax=ax)
    sns.pointplot(agreement, x=measure, y="comparison", errorbar=t95, linestyle="none", ax=ax)
    ax.axvline(chance, color="0.45", linestyle="--")
    ax.set(xlim=(chance - 0.35, 1), ylabel="")
axes[0].set_xlabel("Spearman of learned steps (chance: 0)")
axes[1].set_xlabel("Jaccard of hardest halves (chance: 1/3)")
fig.suptitle(f"Do two runs agree? (dots: {n} seeds; bars: 95% intervals; dashed: chance)");

# %%
by = agreement.groupby("comparison", sort=False)
lines = [f"- **{name}**: Spearman {interval(rows.Spearman)}, {clear_of(rows.Spearman, 0, '0')}; "
         f"Jaccard {interval(rows.Jaccard)}, {clear_of(rows.Jaccard, 1 / 3, '1/3')}"
         for name, rows in by]  # fmt: skip
means = by.Spearman.mean()
real = means.drop(["coin labels", "coin against coin"])
spread = agreement.pivot(index="seed", columns="comparison", values="Spearman")
costs = {name: nb.paired_gain(spread[f"other pairs, {name} model"], spread["other pairs"])
         for name in others}  # fmt: skip
lines += ["", "What another model costs, beside other pairs (Spearman, difference):", ""]
lines += [f"- {name} for {size}: {cost}" for name, cost in costs.items()]

# %%
weaker = all(cost.verdict() == "below zero" for cost in costs.values())
depends = ("So difficulty is a property of pair **and model**." if weaker
           else "That it depends on the model is not shown for every size.")  # fmt: skip
Markdown("\n".join([*lines, "", f"""The order changes most with *{real.idxmin()}*, least with
*{real.idxmax()}*. {depends} ({2 * len(by)} intervals are read here; one that just misses its chance
level is no finding. In "coin against coin" each run is used twice, which narrows its interval.)
{p.note}"""]))

# %% [markdown]
# The coin rows stand for a worry, that agreement is built into the method: then they would be as
# far from the dashed line as the rest. But agreement may still have a plain cause; section 7 asks.
#
# ## 4 · A validation loss for every training pair
# The learned step needs held-out pairs and a score of them after every update. To select training
# data, we need a number for the **training pairs themselves**, and the model that is trained on a
# pair cannot judge it: it remembers. **Cross-fitting** solves that: split the pairs into halves A
# and B, train one model on each, and let each score the half that it has *not* seen.
#
# The **validation loss** of a pair is the mean of its DPO loss over three such splits [P]: six
# models, of which three score each pair.

# %%
from nbkit import folds

plan = pd.DataFrame({seed: folds(pairs, seed, groups="fact") for seed in range(3)})
plan = plan.add_prefix("split ").assign(fact=pairs["fact"][:]).sort_values("fact")
plan.head(7)  # the half that each pair is in

# %% [markdown]
# Pairs about the same fact are always in the same half (`groups="fact"`); section 5 shows why.
# **By hand**, the first split: train on A and score B, then the reverse.

# %%
half, reference = plan["split 0"], references[0]
parts = {name: pairs.select(np.flatnonzero(half[pairs["id"][:]] == name)) for name in "AB"}
scored_by = {}
for learn, score in ("AB", "BA"):
    trained = nb.train_dpo(policy, parts[learn], reference=reference, seed=0, **settings).policy
    after = nb.response_logprobs(trained, parts[score], progress=False)
    scored_by[learn] = nb.scores.dpo_loss(after, reference.loc[after.index], beta)

# %% [markdown]
# The same with nbkit, for three splits, and, since we want intervals, for each data set.

# %%
cross_fit = partial(nb.cross_fitted_losses, policy, workers=p.workers, **settings)
losses = {seed: cross_fit(data[seed], seeds=3, groups="fact", reference=references[seed])
          for seed in seeds}  # fmt: skip
for learn, by_us in scored_by.items():
    assert (losses[0][0, learn].dropna() - by_us).abs().max() < 1e-4
losses[0].head(5).round(3)  # (split, half that the model was trained on); NaN: it saw the pair

# %%
difficulty = {seed: table.mean(axis=1).rename("validation loss") for seed, table in losses.items()}
one_split = {seed: table.T.groupby("split").mean().T for seed, table in losses.items()}
one_split[0].corr("spearman").round(2)  # data set 0: does one split rank the pairs as another?

# %%
split_agreement = [spearman(table[0], table[1]) for table in one_split.values()]
worse = [(loss > np.log(2)).mean() for loss in difficulty.values()]
Markdown(f"""Two splits share no model, and each model saw another half of the pairs. Their losses
rank the pairs with a Spearman correlation of {interval(split_agreement)}, over {n} data sets (95%).

Before training every loss is ln 2 = {np.log(2):.3f}. For {np.mean(worse):.0%} of the pairs the mean
validation loss is *above* that: training on other pairs made the model less sure of their label.
{p.note}""")

# %% [markdown]
# `nb.validation_loss(policy, pairs, seeds=3, groups="fact")` is the mean of the columns:
# what you will call in lesson 04. With a `cache` folder an interrupted run goes on.
#
# ## 5 · The leak
# Several pairs may ask about one fact, as a real data set has near-duplicate prompts. Split **at
# random**, the model that judges a pair may have seen *other pairs about the same fact*, right
# answer included. **Predict**: where will that make the largest difference, on rung 1 (facts that
# the SFT data told often) or on rung 6 (the long tail, told seldom)?

# %%
leaky = {seed: cross_fit(data[seed], seeds=1, groups="id", reference=references[seed])
         .mean(axis=1) for seed in seeds}  # fmt: skip
known, asked = [], []
for seed in seeds:
    fact = pd.Series(data[seed]["fact"], data[seed]["id"])
    at_random = folds(data[seed], 0, groups="id")
    in_a, in_b = (set(fact[at_random == name]) for name in "AB")
    known.append(fact.isin(in_a & in_b).mean())
    asked.append(len(fact) / fact.nunique())

# %%
rung = {seed: pd.Series(data[seed]["rung"], data[seed]["id"], name="rung") for seed in seeds}
by_rung = {
    "by fact": pd.DataFrame({s: one_split[s][0].groupby(rung[s]).mean() for s in seeds}),
    "at random": pd.DataFrame({s: leaky[s].groupby(rung[s]).mean() for s in seeds}),
}
long = pd.concat(by_rung, names=["split"]).rename_axis(columns="seed").stack().rename("loss")
ax = sns.pointplot(long.reset_index(), x="rung", y="loss", hue="split", errorbar=t95, dodge=0.25,
                   markers=["o", "X"], linestyles=["-", "--"], palette="colorblind")  # fmt: skip
ax.axhline(np.log(2), color="0.45", linestyle=":")
ax.set(xlabel="rung (1: often told, 6: the long tail)", ylabel="validation loss (nats; one split)")
ax.legend(title=f"{n} data sets, 95%\n(dotted: ln 2)", bbox_to_anchor=(1, 1), frameon=False);

# %%
def tail_rise(means):
    """Loss on rung 6 minus loss on rung 1, for each run; mean losses [rungs, runs]."""
    means = means.reindex([1, 6])  # NaN where no pair is on the rung
    return means.loc[6] - means.loc[1]


clean, leaked = tail_rise(by_rung["by fact"]), tail_rise(by_rung["at random"])
hidden = nb.paired_gain(clean, leaked)
across = [spearman(one_split[seed][0], leaky[seed]) for seed in seeds]
within = [spearman(one_split[seed][0], one_split[seed][1]) for seed in seeds]
loss_of_agreement = nb.paired_gain(pd.Series(across), pd.Series(within))
reshuffles = ("it also reshuffles the ranking a little" if loss_of_agreement.high < 0
              else "a change of the ranking is not shown")  # fmt: skip

# %%
Markdown(f"""A fact is asked about by {np.mean(asked):.1f} pairs, on average. At random,
**{np.mean(known):.0%}** of the pairs are judged by a model that has seen their fact; by fact, none.
What the long tail costs (loss on rung 6 minus rung 1, nats):

- split by fact: {interval(clean, "+.3f")}, {clear_of(clean)};
- split at random: {interval(leaked, "+.3f")}, {clear_of(leaked)};
- the leak hides: {hidden}.

The last is the verdict: bars of two splits may overlap, but they are of the same data sets, and
this is the difference, data set by data set.

Does it change the ranking? A leaky and a clean split agree with Spearman {interval(across)}; two
clean splits do with {interval(within)}. Difference: {loss_of_agreement}. So the leak
{"hides" if hidden.low > 0 else "is not shown to hide"} what the long tail costs, and {reshuffles}.
How large this is elsewhere depends on how alike the prompts are. {p.note}""")

# %% [markdown]
# ## 6 · Does the validation loss agree with the learned step?
# The learned step watches one training run, the validation loss asks six finished models. The paper
# uses the second as a cheap stand-in for the first, and reports the Spearman correlation of their
# means, one for each of four models: .923 to .934 [P].
#
# We take one more split of each data set, train on each half, and follow some pairs of the other:
# their learned steps, from models that share nothing with the six but the data.

# %%
jobs = {}
for seed in seeds:
    half = folds(data[seed], 100 + seed, groups="fact").to_numpy()
    for name in "AB":
        learn = data[seed].select(np.flatnonzero(half == name))
        follow = data[seed].select(np.flatnonzero(half != name)[: len(held_out)])
        options = dict(reference=references[seed], trace_every=5)
        jobs[seed, name] = training(policy, learn, seed, follow, **options)
done = run_all(jobs)

# %%
def from_both(score, seed):
    """A score of the two traces of a data set: each pair is in one of them."""
    return pd.concat([score(done[seed, name]) for name in "AB"])


learned = {seed: from_both(nb.scores.learned_step, seed) for seed in seeds}

# %%
both = pd.concat([learned[0], difficulty[0]], axis=1, join="inner")
never, end = np.isinf(both.learned_step), done[0, "A"].step.max()
jitter = end * np.random.default_rng(0).uniform(-0.04, 0.04, len(both))
x = both.learned_step.where(~never, 1.15 * end) + jitter

# %%
ax = sns.scatterplot(x=x, y=both["validation loss"], hue=never.map({True: "never", False: "yes"}),
                     palette="colorblind", s=18, alpha=0.6)  # fmt: skip
ax.axhline(np.log(2), color="0.45", linestyle=":")
ax.set(xlabel="learned step (updates; ∞ at the right; jittered)", ylabel="validation loss (nats)")
ax.set_title(f"{len(both)} pairs of data set 0: one run's learned step, six models' loss")
ax.legend(title="learned?", frameon=False);

# %% [markdown]
# A learned step is one noisy number from one run. Averaging should help, so, like the paper, we
# average, on the held-out pairs of section 3: the *ranks* of learned steps over some runs, the loss
# at the end over others. Runs on the same training pairs share their luck, so the fair rows are
# those on other data sets. (Whether the paper's two means share training pairs, we do not know
# [?].)

# %%
from itertools import combinations, product

ranks = steps[["base", "other order"]].rank()
loss_at_end = np.logaddexp(0, -final)


def means_agree(some, rest):
    """Spearman of the mean rank over runs on some data sets and the mean loss over the rest."""
    of_some = ranks.loc[:, (slice(None), some)].mean(axis=1)
    return spearman(of_some, loss_at_end.loc[:, (["base", "other order"], rest)].mean(axis=1))
disjoint = [means_agree(list(some), [seed for seed in seeds if seed not in some])
            for some in combinations(seeds, n // 2)]  # fmt: skip
single = [spearman(learned[seed], difficulty[seed]) for seed in seeds]
pairwise = [spearman(steps["base", seed], loss_at_end["base", (seed + 1) % n]) for seed in seeds]
averaged = nb.rank_correlation(ranks["base"].mean(axis=1), loss_at_end["other order"].mean(axis=1))

# %%
Markdown(f"""
| learned step of | loss of | Spearman |
|---|---|---|
| 1 run | 6 cross-fitted models | {interval(single)}, {n} data sets, 95% |
| 1 run | 1 run on other pairs | {interval(pairwise)}, {n} seeds, 95% |
| {n // 2 * 2} runs on {n // 2} data set(s) | {(n - n // 2) * 2} runs on the others | \
{np.mean(disjoint):.2f}, mean of all {len(disjoint)} ways to choose |
| {n} runs | {n} runs on the *same* pairs, other order | {averaged:.2f}, 95% over held-out pairs |

Averaging takes the correlation from {np.mean(pairwise):.2f} to {np.mean(disjoint):.2f}; the
difference is the noise of single runs. The paper's .923 to .934 are between means of many runs, and
should be held against the last two rows. (Rows 2 to 4 take the loss at the end of runs on full data
sets, and not the cross-fitted validation loss.) {p.note}""")

# %% [markdown]
# ## 7 · What difficulty is not, and what it is
# Is it length? The judge's doubt? Odd wording? If a cheap number ranked the pairs in the same way,
# nobody would train six models. The paper says that length and reward margins do *not* predict the
# validation loss [P]. And in our world we can also ask the truth: rung, wrong labels, what the
# label really prefers.
#
# The candidates. *No training*: the lengths (tokens), the judge's margin (score of chosen −
# rejected), the perplexity of chosen (exp of its mean loss per token under the reference), the
# reference's gap (its log-prob per token, chosen − rejected). *A training trace*: the learned step,
# the data map's confidence (mean over the steps of the label's probability σ(m)). *The truth*:
# rung, wrong label, true margin, and right animal, tone and manner, each chosen − rejected.
# **Predict** the three with the largest correlation.

# %%
def label_says(frame):
    """Chosen minus rejected: right animal (-1, 0, 1), tone and manner (reward units)."""
    grades = {side: pd.DataFrame(list(map(world.grade, frame.prompt, frame[side])), frame.index)
              for side in ("chosen", "rejected")}  # fmt: skip
    chosen, rejected = (table.astype(float) for table in grades.values())
    return (chosen - rejected)[["correct", "tone", "manner"]]

# %%
def cheap_scores(seed):
    """What needs no training: group -> name -> Series."""
    chosen, rejected = (nb.scores.response_length(references[seed], side)
                        for side in ("chosen", "rejected"))  # fmt: skip
    gap = nb.scores.length_normalized_margin(references[seed])
    random = pd.Series(np.random.default_rng(seed).random(len(gap)), gap.index)
    return {
        "chance": {"a random number": random},
        "no training": {
            "length of chosen": chosen, "length, chosen − rejected": chosen - rejected,
            "judge's margin (explicit)": nb.scores.explicit_margin(data[seed]),
            "perplexity of chosen": nb.scores.perplexity(references[seed]),
            "reference's gap, per token": gap,
        },
    }  # fmt: skip

# %%
def all_scores(seed):
    truth = data[seed].to_pandas().set_index("id")
    says = label_says(truth)
    return cheap_scores(seed) | {
        "training trace": {
            "learned step": learned[seed],
            "data map: confidence": from_both(nb.scores.confidence, seed),
        },
        "the truth": {
            "rung": truth.rung, "wrong label": truth.flipped.astype(float),
            "true margin": truth.true_margin, "right animal": says.correct,
            "tone": says.tone, "manner": says.manner,
        },
    }  # fmt: skip

# %%
scores = {seed: all_scores(seed) for seed in seeds}
rows = []
for seed in seeds:
    loss, wrong = difficulty[seed], pd.Series(data[seed]["flipped"], data[seed]["id"])
    for needs, named in scores[seed].items():
        for name, score in named.items():
            row = dict(seed=seed, needs=needs, score=name)
            rows.append(row | {"pairs": "all pairs", "rho": spearman(score, loss)})
            if name != "wrong label":
                rho = spearman(score, loss[~wrong])
                rows.append(row | {"pairs": "correctly labelled pairs", "rho": rho})
correlations = pd.DataFrame(rows)

# %%
grid = sns.FacetGrid(correlations, col="pairs", height=5, aspect=1)
grid.map_dataframe(sns.pointplot, x="rho", y="score", hue="needs", errorbar=t95, dodge=False,
                   linestyle="none", palette="colorblind", markersize=5)  # fmt: skip
grid.refline(x=0)
grid.set(xlim=(-1, 1), xticks=[-0.5, 0, 0.5], ylabel="",
         xlabel="Spearman with the validation loss")  # fmt: skip
grid.set_titles("{col_name}")
grid.add_legend(title=f"{n} data sets, 95%");

# %%
rho = correlations.set_index(["pairs", "score", "seed"]).rho.sort_index()


def said(score, pairs="all pairs"):
    return f"{interval(rho[pairs, score], '+.2f')}, {clear_of(rho[pairs, score])}"


def predicts(score, reach=0.2):
    """What the whole interval says; that less than ±0.2 is "hardly" is our choice."""
    found = nb.seed_interval(rho["all pairs", score])
    if -reach < found.low and found.high < reach:
        return f"{found:+.2f}, hardly predicts it"
    clear = found.low > reach or found.high < -reach
    return f"{found:+.2f}, {'predicts it' if clear else 'unclear'}"

# %%
free = correlations[correlations.needs == "no training"].score.unique()
Markdown("\n".join(["What needs no training, against the validation loss (Spearman, 95%):", "",
                    *(f"- {name}: {predicts(name)}" for name in free), "", f"""
*Hardly*: the whole interval lies within ±0.2; *predicts*: wholly outside; else *unclear*. The
paper's claim is about the lengths and the reward margin. (Our judge is the truth plus noise: where
its margin is small, its label is more often wrong. A reward model may be wrong in other places.)
{p.note}"""]))

# %% [markdown]
# Positive: a larger value goes with harder pairs.
#
# **How much of "hard" is simply wrong?** Look at `wrong label`, and count.

# %%
shares = []
for seed in seeds:
    wrong = pd.Series(data[seed]["flipped"], data[seed]["id"])
    halves = {"hardest half": nb.select.hardest(difficulty[seed], 0.5),
              "easiest half": nb.select.easiest(difficulty[seed], 0.5)}  # fmt: skip
    halves["random half"] = nb.select.random(halves["hardest half"], data[seed], seed)
    shares.append({name: wrong[ids].mean() for name, ids in halves.items()}
                  | {"found": wrong[halves["hardest half"]].sum() / wrong.sum()})  # fmt: skip
shares = pd.DataFrame(shares)
noise = nb.paired_gain(shares["hardest half"], shares["random half"])
Markdown(f"""Share of pairs whose label is wrong ({n} data sets, 95%):

- hardest half **{interval(shares["hardest half"], ".1%")}**
- easiest half **{interval(shares["easiest half"], ".1%")}**
- random half {interval(shares["random half"], ".1%")}

Of all wrong labels, {interval(shares.found, ".0%")} are in the hardest half. Hardest minus random,
data set by data set: {noise}. So leaving hard pairs out {"is" if noise.low > 0 else "may be"}
in part a *noise filter*; but {1 - shares["hardest half"].mean():.0%} of the hardest half are
labelled correctly. {p.note}""")

# %% [markdown]
# **And the other hard pairs?** Take the correctly labelled ones apart by what decides them: in some
# only the chosen response has the right animal, in the others both are right or both wrong, and the
# style decides. **Predict** for each kind: does the loss rise with the rung?

# %%
by_kind = {}
for seed in seeds:
    truth = pd.DataFrame(scores[seed]["the truth"]).assign(loss=difficulty[seed])
    truth = truth[truth["wrong label"] == 0]
    kind = truth["right animal"].map({1: "the right animal", 0: "style alone"})
    by_kind[seed] = truth.loss.groupby([kind.rename("decided by"), truth.rung]).mean()
by_kind = pd.DataFrame(by_kind)
long = by_kind.rename_axis(columns="seed").stack().rename("loss").reset_index()
ax = sns.pointplot(long, x="rung", y="loss", hue="decided by", errorbar=t95, dodge=0.25,
                   markers=["o", "X"], linestyles=["-", "--"], palette="colorblind")  # fmt: skip
ax.axhline(np.log(2), color="0.45", linestyle=":")
ax.set(xlabel="rung (1: often told, 6: the long tail)", ylabel="validation loss (nats)")
ax.legend(title=f"label decided by\n({n} data sets, 95%)", bbox_to_anchor=(1, 1), frameon=False);

# %% [markdown]
# A rung says how often the *SFT data* told a fact, and so, for one model, exposure. If the rise to
# the tail were a matter of **capacity**, a larger model with the same exposure should have less of
# it. Section 3 has runs of models of several sizes: their loss on the held-out pairs whose correct
# label the animal decides, at the end of the run.

# %%
info = text.loc[final.index]
fact_rung = info.rung[~info.flipped & (label_says(info).correct > 0)]
at_end = loss_at_end.loc[fact_rung.index].groupby(fact_rung).mean()
kind_of = {size: "base"} | {name: name for name in others}
sizes = [name for name in ("small", "medium", "large") if name in kind_of]
tail = {name: tail_rise(at_end[kind_of[name]]) for name in sizes}
gains = {name: nb.paired_gain(tail[name], tail[sizes[-1]]) for name in sizes[:-1]}
less = " and ".join(name for name, gain in gains.items() if gain.low > 0) or "no other size"
capacity = (f"That {sizes[-1]} pays less for the tail, as capacity would have it, is shown "
            f"against {less}.")  # fmt: skip
by_size = "; ".join([*(f"{name} {interval(tail[name], '+.2f')}" for name in sizes),
                     *(f"{name} − {sizes[-1]} {gain}" for name, gain in gains.items())])

# %%
two_ends = at_end.reindex([1, 6])
Markdown("\n".join([
    f"| model | loss, rung 1 (nats, {n} runs, 95%) | rung 6 | rise |", "|---|---|---|---|",
    *(f"| {name} | {interval(two_ends[kind_of[name]].loc[1])} | "
      f"{interval(two_ends[kind_of[name]].loc[6])} | {interval(tail[name], '+.2f')} |"
      for name in sizes), "", "Difference of the rises, seed by seed:", "",
    *(f"- {name} − {sizes[-1]}: {gain}" for name, gain in gains.items()), "", f"""{capacity} But a
model that has learned neither end has no rise either: read it beside the two losses. (Intervals are
over runs; {(fact_rung == 1).sum()} pairs on rung 1 and {(fact_rung == 6).sum()} on rung 6, the same
for all models.) {p.note}"""]))

# %%
rise = {kind: tail_rise(by_kind.loc[kind]) for kind in ("the right animal", "style alone")}
right = "correctly labelled pairs"
Markdown(f"""
- **The tail**, data set by data set. Where the animal decides, the loss rises from rung 1 to 6 by
  {interval(rise["the right animal"], "+.2f")} ({clear_of(rise["the right animal"])}); where
  style does, by {interval(rise["style alone"], "+.2f")} ({clear_of(rise["style alone"])}).
- **The grain.** Among correctly labelled pairs the loss has Spearman {said("tone", right)} with the
  tone that the label prefers, and {said("manner", right)} with its manner. (Below zero: a pair is
  easier if its label prefers the kinder opening or the better closing, as the true reward does.)
- **Is it all wrong labels?** Learned step and validation loss agree with Spearman
  {interval(rho[right, "learned step"])} among correctly labelled pairs, among all with
  {interval(single)}.

{p.note}""")

# %% [markdown]
# ## 8 · Read them aloud
# Numbers hide what pairs are. Here are eight of data set 0, mixed: three of the easiest, three of
# the hardest with a correct label, two of the hardest with a wrong one, without the writers' slips
# (such as two openings). **Guess** which is which; then look below.

# %%
truth = data[0].to_pandas().set_index("id").assign(loss=difficulty[0])
whole = {world.compose(*parts) for parts in
         product(world.OPENINGS, world.ANIMALS, world.CLOSINGS)}  # fmt: skip
truth = truth[truth.chosen.isin(whole) & truth.rejected.isin(whole)]
loss, wrong = truth.loss, truth.flipped
chosen = [*nb.select.easiest(loss[~wrong], 3), *nb.select.hardest(loss[~wrong], 3),
          *nb.select.hardest(loss[wrong], 2)]  # fmt: skip
mixed = truth.loc[chosen].sample(frac=1, random_state=3)
mixed[["prompt", "chosen", "rejected"]].set_axis(range(1, len(mixed) + 1))

# %%
shown = mixed[["prompt", "answer", "chosen", "rejected", "loss", "true_margin", "flipped", "rung"]]
shown.set_axis(range(1, len(mixed) + 1)).round(2)

# %% [markdown]
# ## 9 · When this misleads
# - **"Too hard" can mean "wrongly labelled".** With real data you have no `flipped` column. Read
#   the hardest pairs before you say anything about the capacity of a model.
# - **It can also mean "against the grain"**: a correctly labelled pair that prefers a blunt right
#   answer to a friendly wrong one. What leaving such pairs out does to a model's tone, and what to
#   its facts, lesson 04 measures.
# - **A leak makes pairs look easy.** Split by what pairs are *about*, not by row.
# - **Ties are not agreement**: never-learned pairs, and any score with few values.
# - **The threshold has a unit.** 0.4 is a probability of 0.6 at any β, but how many updates that
#   takes depends on β and the learning rate.
# - **Six models cost six half trainings**, about three times the training itself. The learned step
#   costs one training, and a pass over the followed pairs after each update.
# - **A rung is exposure at one size.** Before you blame capacity, look at another size.
# - **Our intervals cover data sets and training seeds**, with the same policies, held-out pairs
#   and small world. Elsewhere the mixture will be another.
#
# ## 10 · Exercises
# Write the body of each function, then run the check below it.
#
# ### Exercise 1 · Learned for good
# *10 minutes · medium · you can read the learned step off any training trace*
#
# `margins` has a row for each training step, ascending, and a column for each pair. The learned
# step of a pair is the first step after which its margin is above the threshold at every later one.
# A pair may rise above it, be forgotten, and rise again; one that is not above it at the end was
# never learned: its step is infinite.
#
# <details><summary>Hint</summary>
# It is the <b>last</b> step at which the margin is not above the threshold, or the first step if
# there is none. <code>(margins &gt; threshold)</code> is a table of True and False;
# <code>float("inf")</code> is infinite.
# </details>

# %%
def my_learned_step(margins, threshold):
    """Learned step of each pair, Series by pair id; `margins` is a DataFrame [steps, pairs]."""
    ### BEGIN SOLUTION
    steps = {}
    for pair_id, margin in margins.items():
        not_above = margins.index[~(margin > threshold)]
        steps[pair_id] = not_above[-1] if len(not_above) else margins.index[0]
        if not margin.iloc[-1] > threshold:
            steps[pair_id] = float("inf")
    return pd.Series(steps)
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_learned_step(my_learned_step)

# %% [markdown]
# ### Exercise 2 · Who has seen the answer?
# *5 minutes · easy · you can find the leak in any split*
#
# Each pair is scored by a model that was trained on the other half. `folds` says which half a pair
# is in, `groups` which fact it asks about. Which share of the pairs is scored by a model that has
# seen their fact?
#
# <details><summary>Hint</summary>
# <code>folds.groupby(groups).transform("nunique")</code> gives each pair the number of halves that
# its group is in.
# </details>

# %%
def my_leak(folds, groups):
    """Share of pairs, 0 to 1; two Series by pair id: "A" or "B", and the name of a group."""
    ### BEGIN SOLUTION
    halves = folds.groupby(groups).transform("nunique")
    return (halves == 2).mean()
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_leak(my_leak)

# %% [markdown]
# ### Exercise 3 · Validation loss
# *10 minutes · medium · you can score pairs by models that have not seen them*
#
# `margins[k, i]` is the implicit margin of pair i under reference model k, and `seen[k, i]` says
# whether that model was trained on it.
#
# <details><summary>Hint</summary>
# First the loss of every cell: <code>np.logaddexp(0, -margins)</code> is -log σ(m), and finite at
# any margin. Then the mean over the models, of the cells with <code>~seen</code> only.
# </details>

# %%
def my_validation_loss(margins, seen):
    """Mean DPO loss of each pair, [pairs], nats; arrays [models, pairs] of float and bool."""
    ### BEGIN SOLUTION
    losses = np.logaddexp(0, -margins)
    return np.where(seen, 0, losses).sum(axis=0) / (~seen).sum(axis=0)
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_validation_loss(my_validation_loss)

# %% [markdown]
# ### Exercise 4 · How high is high?
# *10 minutes · medium · you know which Jaccard index two selections reach by chance*
#
# Two runs select the hardest `share` of the same large pool. If they had nothing in common, each
# would be a random selection. Which Jaccard index, pairs in both / pairs in either, would you see?
#
# <details><summary>Hint</summary>
# A pair is in the first selection with probability share, and in the second with the same,
# independently. With which probability is it in both? In at least one?
# </details>

# %%
def my_jaccard_by_chance(share):
    """Expected Jaccard index, 0 to 1, of two independent random selections of the same share."""
    ### BEGIN SOLUTION
    both = share * share
    either = share + share - both
    return both / either
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_jaccard_by_chance(my_jaccard_by_chance)

# %% [markdown]
# ## 11 · The paper said, we measured
# [P]: from the paper's text. [R]: from the authors' released code. [N]: from others' notes on the
# paper. [?]: our reading.

# %%
Markdown(f"""
| the paper said | we measured ({n} data sets or seeds, 95%) |
|---|---|
| The order of learning is consistent across runs [P] | Spearman \
{interval(by.get_group("other pairs").Spearman)} between runs on different pairs; coin labels \
{means["coin labels"]:.2f} |
| Hardest halves overlap across runs: Jaccard "consistently high" [P, a figure] | \
{interval(by.get_group("other pairs").Jaccard)}; chance 1/3 |
| Difficulty depends on the model [P: another model's ranking helps less] | Spearman, beside other \
pairs alone: {"; ".join(f"{name} for {size} {cost}" for name, cost in costs.items())} |
| Mean learned step and mean validation loss: .923 to .934, one for each of four models [P]; its \
Fig. 2 has 40 runs, 10 subsets a model [P/N] | {np.mean(disjoint):.2f} between disjoint data \
sets, {averaged:.2f} on the same (both: loss at the end of runs on full data sets); one run \
{interval(single)} |
| Length does not predict it [P] | of chosen: {predicts("length of chosen")}; chosen − rejected: \
{predicts("length, chosen − rejected")} |
| Reward margins do not predict it [P] | judge's margin: {predicts("judge's margin (explicit)")} |
| Hard pairs exceed the model's capacity [P] | where the animal decides, the loss rises from \
rung 1 to 6 by {interval(rise["the right animal"], "+.2f")}; by size, held out: {by_size}. \
{capacity} |
| Flipping the hardest 40% does not help [P], so they are not just wrong labels [?] | \
{interval(shares["hardest half"], ".0%")} of the hardest half are wrong, \
{interval(shares["easiest half"], ".0%")} of the easiest |

{p.note}""")

# %% [markdown]
# **Differences from the paper.** Its models have billions of parameters, its pairs are free text,
# and its judge's errors are unknown. Our judge *is* the truth plus noise, so its margin has to tell
# something about wrong labels; a reward model with errors of its own (lesson 05) need not. The
# paper's splits are random halves [P]; ours keep a fact together. Its released code averages the
# loss over five evaluation points during training [R]; we take the end (`points=5` does the other).
# We follow section 3's runs every 5 updates, where the paper evaluates after each.
#
# ## In this lesson we saw
# - that a model learns held-out pairs in an order, and the learned step puts it into a number;
# - how far the order comes back in other runs, on other pairs and in models of another size, beside
#   what chance gives;
# - that cross-fitting gives every training pair a validation loss, how far it ranks pairs as the
#   learned step does, and what a split hides that does not keep together what belongs together;
# - that "hard" can be taken apart: wrong labels, right labels against the grain, and facts that the
#   SFT data told seldom. Whether these last are a matter of capacity, models of other sizes tell.
#
# **Next**: if hard pairs are there to be found, is a model better off without them?
#
# **References.** Selective DPO: Gao et al., [2502.09650](https://arxiv.org/abs/2502.09650). Data
# maps: Swayamdipta et al., [2009.10795](https://arxiv.org/abs/2009.10795). DPO: Rafailov et al.,
# [2305.18290](https://arxiv.org/abs/2305.18290).

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
