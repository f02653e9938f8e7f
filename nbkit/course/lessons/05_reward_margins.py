# %% [markdown]
# The third paper of this course selects pairs on which two opinions are far apart: a **reward
# model** is sure which response is better, and the **policy** is not yet (lesson 06). Before one
# number is subtracted from another, we ask what each of them sees. So here a reward model is
# trained in the open, it and the policy read the same pairs, and both are taken apart by changing
# one thing at a time in a response.
#
# **You will be able to**
# - get an explicit margin from scores in the data, from a function, and from a reward model that
#   you trained yourself, and compute its loss by hand;
# - say how good such a reward model is, against chance, against the truth, and against a judge that
#   is blind to what matters;
# - read the plane of explicit and implicit margin, with signs, and say what each would select;
# - recognise five traps that come with comparing two margins.
#
# **Needs** [lesson 01](01_pairs_and_margins.ipynb) (margins) and [02](02_dpo.ipynb) (DPO). **On a
# GPU** nothing changes here: the models are tiny. `nb.load_reward_model("name on the hub")` gives
# a real reward model, and every call below takes it.

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.course.profile()

# %% [markdown]
# ## 1 · Two readers of one pair
# The first reader is a reward model. It starts as a copy of the policy, gets a fresh head that
# gives one number, the *reward*, instead of the next token, and learns from **other** pairs of the
# same kind (`others`). Section 2 opens it; here we only let it read. (Later we repeat everything on
# several data sets, so there are several of each.)
#
# The second reader is the policy itself, untouched: it says which response it would rather have
# written, per token. Both opinions are **margins**, chosen minus rejected. Above 0: for the label.

# %%
import torch

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
size = p.pick(quick="small", full="medium")
policy = nb.load_policy(f"world/{size}", device="cpu")
n, seeds = p.pick(quick=128, full=1600), p.pick(quick=[0, 1], full=list(range(5)))
pairs = {seed: world.pairs(n, seed=seed) for seed in seeds}
others = {seed: world.pairs(n, seed=500 + seed) for seed in seeds}

# %%
settings = dict(learning_rate=1e-3, epochs=3, progress=False)
reward_model = nb.train_reward_model(policy, others[0], **settings).reward_model
scores = nb.reward_scores(reward_model, pairs[0], progress=False)
logps = nb.response_logprobs(policy, pairs[0], progress=False)
both = pd.DataFrame({"explicit": nb.scores.explicit_margin(scores),  # reward model, its own units
                     "implicit": nb.scores.length_normalized_margin(logps)})  # nats per token
both.head(3).round(2)

# %% [markdown]
# Here are the four pairs on which they contradict each other most strongly: two where the reward
# model is for the label, two where the policy is. `answer` is the right animal.
#
# **Predict, before any formula**: what does the reward model look at, what the policy? Two words
# for each. Do not ask yet who is right.

# %%
text = pairs[0].to_pandas().set_index("id")
product = (both / both.std()).prod(axis=1).sort_values()  # far below 0: they contradict each other
against = product.groupby(both.explicit > 0).head(2).index
prefers = (both.loc[against] > 0).replace({True: "chosen", False: "rejected"})
prefers.columns = ["reward model prefers", "policy prefers"]
text.loc[against, ["prompt", "answer", "chosen", "rejected"]].join(prefers).reset_index(drop=True)

# %% [markdown]
# ## 2 · Where an explicit margin comes from
# Somebody outside the policy scores both responses. There are three kinds of somebody:
# **columns** of the data (here those of the judge who made the labels), **a function** that knows
# the rules (a test, a verifier; here the true reward, which no method gets to see), and a
# **learned** reward model. **Predict**: which of the three can be negative?

# %%
judge = {seed: nb.scores.explicit_margin(pairs[seed]) for seed in seeds}
truth = nb.scores.explicit_margin(nb.reward_scores(world.reward, pairs[0]))
three = {"columns (the judge)": judge[0], "function (the truth)": truth, "learned": both.explicit}
pd.DataFrame(three).agg(["min", "median", "max"]).round(2)

# %% [markdown]
# The first cannot, whatever the truth is: **a judge does not contradict the labels it made**. Now
# the learned one. Bradley and Terry said in 1952 how scores should give preferences: if $r$ is the
# reward, the chosen response wins with probability
#
# $$P(\text{chosen wins}) = \sigma\big(r(\text{chosen}) - r(\text{rejected})\big),
# \qquad \text{loss of a pair} = -\log P, \qquad \sigma(m) = \frac{1}{1 + e^{-m}}$$
#
# | symbol | meaning | unit |
# |---|---|---|
# | $r$ | reward of a response to its prompt | none of its own; any constant can be added |
# | $m$ | margin, the difference of the two | log-odds of the label |
#
# It is DPO's loss with a reward where DPO has β times a log-ratio. By hand, on four pairs: each
# response goes through the model, one by one.

# %%
four = pairs[0].select(range(4))
tokens, sides = nb.tokenize_pairs(reward_model.tokenizer, four), ["chosen", "rejected"]
with torch.no_grad():
    rewards = pd.DataFrame(
        [[reward_model.model(torch.tensor([t.prompt + getattr(t, side)])).logits.item()
          for side in sides] for t in tokens], columns=sides)  # fmt: skip
assert np.allclose(rewards, scores.iloc[:4], atol=1e-4)  # nbkit says the same

# %%
rewards["margin"] = rewards.chosen - rewards.rejected
rewards["P(chosen wins)"] = 1 / (1 + np.exp(-rewards.margin))
rewards["loss"] = -np.log(rewards["P(chosen wins)"])
rewards.round(2)

# %%
# Is that the loss which TRL's RewardTrainer minimises? A training that may not move tells. Its head
# is fresh and has no opinion yet, so the loss must also be near ln 2.
still = nb.train_reward_model(policy, four, learning_rate=0.0, batch_size=4, progress=False)
margin = nb.scores.explicit_margin(nb.reward_scores(still.reward_model, four))
by_hand = np.logaddexp(0, -margin).mean()  # -log sigmoid(m), and finite at any margin
assert np.isclose(by_hand, still.history.loss.iloc[0], atol=1e-4)
print(f"by hand {by_hand:.4f}, TRL {still.history.loss.iloc[0]:.4f}, ln 2 = {np.log(2):.4f}")

# %% [markdown]
# ### How good is it?
# Its settings are the best of nine (three learning rates, each for 1, 3 and 6 epochs) by the labels
# of a further data set, one run each; by the truth, all nine were right on 67% to 73% of it.
#
# Judges are known by their controls. Beside the reward model stand
# - **coin labels**: the same training on labels decided by a coin, what noise alone gives;
# - **style only**: a function that knows what every opening and closing is worth and is **blind to
#   the animal**, the largest part of the reward;
# - the policy, per token; and **the policy after DPO** on the same pairs that the reward model
#   learned from, whose implicit margin is a judge, too (lesson 02).
#
# A reward model that has read other pairs about the same facts may know some by heart, so it is
# also tried on facts that are in no pair it read. **Predict**: on which share of the pairs will it
# prefer the truly better response? One in eight of the labels it learned from is wrong.

# %%
def style_only(prompt, response):
    grade = world.grade(prompt, response)
    return grade.tone + grade.manner


STYLE, LEARNED, COIN = "style only", "reward model", "reward model, coin labels"
BEFORE, AFTER = "policy, per token", "policy after DPO"
dpo = dict(world.DPO[size], progress=False)

def readers_of(seed):
    """Who reads pairs, trained on others[seed]: judges by name, and a policy."""
    coin = nb.coin_labels(others[seed], seed=seed)
    learned = nb.train_reward_model(policy, others[seed], seed=seed, **settings)
    control = nb.train_reward_model(policy, coin, seed=seed, **settings)
    after = nb.train_dpo(policy, others[seed], seed=seed, **dpo)
    judges = {"truth": world.reward, STYLE: style_only, LEARNED: learned.reward_model,
              COIN: control.reward_model}  # fmt: skip
    return judges, after.policy

# %%
def margins(readers, pairs):
    """Everyone's margin of every pair, [pairs, readers], each in its own units."""
    judges, after = readers
    scores = {name: nb.reward_scores(judge, pairs, progress=False)
              for name, judge in judges.items()}  # fmt: skip
    table = pd.DataFrame({name: nb.scores.explicit_margin(of) for name, of in scores.items()})
    old, new = (nb.response_logprobs(who, pairs, progress=False) for who in (policy, after))
    implicit = {BEFORE: nb.scores.length_normalized_margin(old),
                AFTER: nb.scores.implicit_margin(new, old, dpo["beta"])}  # fmt: skip
    return table.assign(**implicit)

# %%
from tqdm.auto import tqdm

readers = {seed: readers_of(seed) for seed in tqdm(seeds, unit=" data sets")}
table = {seed: margins(readers[seed], pairs[seed]) for seed in seeds}
fresh = {seed: world.pairs(n // 2, seed=seed, part="validation") for seed in seeds}
unseen = {seed: margins(readers[seed], fresh[seed]) for seed in seeds}

# %%
def each(measure):
    """A column for each data set."""
    return pd.DataFrame({seed: measure(seed) for seed in seeds})


def agreement(table, preference):
    """Share of pairs, by reader, that it decides like `preference`; undecided is one half."""
    same = np.sign(table.mul(preference, axis=0))[preference != 0]
    return (same.mean() + 1) / 2


everyone = {s: table[s].assign(**{"judge of the labels": judge[s]}) for s in seeds}
right = each(lambda s: agreement(everyone[s], table[s].truth)).drop(index="truth")
on_unseen = each(lambda s: agreement(unseen[s], unseen[s].truth))
on_labels = each(lambda s: agreement(table[s], pd.Series(1, table[s].index)))

# %%
import matplotlib.pyplot as plt


def draw(wide, ax, xlabel, guide):
    """Means over data sets with intervals; `wide` is [readers, data sets]."""
    rows = wide.rename_axis("selection").melt(ignore_index=False, var_name="seed")
    nb.plots.comparison(rows.reset_index(), ax, metric="value", xlabel=xlabel)
    ax.axvline(guide, color="0.45", linestyle="--", linewidth=1)


renamed = on_unseen.loc[[LEARNED, AFTER]].rename(index="{}, unseen facts".format)
rows = pd.concat([right, renamed])
rows = rows.loc[rows.mean(axis=1).sort_values(ascending=False).index]
fig, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
draw(rows, ax, "share of pairs", guide=0.5)
ax.set_title("Whose margin prefers the truly better response? (dashed: a coin)");

# %%
def said(values, form=".2f"):
    return format(nb.seed_interval(values), form)  # mean over data sets, 95% interval


by_heart = nb.paired_gain(right.loc[LEARNED], on_unseen.loc[LEARNED])
blind = nb.paired_gain(right.loc[LEARNED], right.loc[STYLE])
Markdown(f"""The reward model agrees with the **label** on {said(on_labels.loc[LEARNED])} of the
pairs and with the **truth** on {said(right.loc[LEARNED])} (coin labels: {said(right.loc[COIN])}).
Truth minus label: {nb.paired_gain(right.loc[LEARNED], on_labels.loc[LEARNED])}. A wrong label
counts against a reader who sees that it is wrong.

Two warnings. Seen minus unseen facts: {by_heart}. And a judge that is **blind to the animal** is
right on {said(right.loc[STYLE])}; the reward model minus that judge: {blind}. {p.note}""")

# %% [markdown]
# ### Does it know how sure it is?
# By Bradley and Terry a margin is a log-odds: of the pairs with $\sigma(|m|) = 0.9$, nine in ten
# should go the way it says. **Predict**: will a model that learned from noisy labels be too sure,
# or not sure enough? Of what: the labels, or the truth?

# %%
def reliability(margin, preference):
    """How sure the reader is, and how often right, in five groups from the least sure on."""
    sure = 1 / (1 + np.exp(-margin.abs()))
    hit = (margin * preference > 0).astype(float).where(preference != 0)
    groups = pd.qcut(sure, 5, labels=False)
    return pd.DataFrame({"sure": sure, "right": hit}).groupby(groups).mean()


label = {seed: pd.Series(1, table[seed].index) for seed in seeds}  # every label says: chosen
calibration = {
    f"{LEARNED}, about the label": [reliability(table[s][LEARNED], label[s]) for s in seeds],
    f"{LEARNED}, about the truth": [reliability(table[s][LEARNED], table[s].truth) for s in seeds],
    f"{COIN}, about the label": [reliability(table[s][COIN], label[s]) for s in seeds],
}

# %%
fig, ax = plt.subplots(figsize=(6, 4.4), layout="constrained")
ax.plot([0.5, 1], [0.5, 1], color="0.45", linestyle="--", label="calibrated")
for name, found in calibration.items():
    by_group = pd.concat(found).groupby(level=0)
    mean, low, high = np.array([[*nb.seed_interval(right)] for _, right in by_group.right]).T
    ax.errorbar(by_group.sure.mean(), mean, [mean - low, high - mean], marker="o", capsize=3,
                label=name)  # fmt: skip
ax.set(xlabel="σ(|margin|): how sure it is", ylabel="share of pairs it is right on")
ax.legend(frameon=False)
ax.set_title(f"Is a margin a log-odds? ({len(seeds)} data sets, 95%)");

# %%
surest = {name: pd.DataFrame([f.iloc[-1] for f in found]).reset_index(drop=True)
          for name, found in calibration.items()}  # fmt: skip
rows = [f"- {name}: {nb.paired_gain(of.right, of.sure)}" for name, of in surest.items()]
Markdown("\n".join(["Right minus sure, in the surest fifth of the pairs:", "", *rows, "", p.note]))

# %% [markdown]
# Below the dashed line is "too sure". Where the model is little sure, it is right about the truth
# more often than it says: it learned from labels that are noisier than the truth. Where it is
# surest, it overstates both. And the coin is the lesson: a reward model that learned from noise
# alone is sure of itself, too. A margin says how sure its owner is; whether that is earned, only
# other labels can say.
#
# ## 3 · What do they look at?
# A margin is about everything in which two responses differ. To see what a reader pays for, change
# **one thing** and hold the rest. For every fact that is in no training pair we write
# - the *right animal* against another one, in the same phrases;
# - the *kindest opening* against the rudest, with the same animal;
# - an opening of three or four *more words* against none. There is a mildly kind one and a mildly
#   grumpy one, worth +¼ and −¼: over both, length alone is left;
# - and a *clash*: rude and right against kind and wrong.
#
# Readers have different units, so each effect is in **standard deviations of that reader's margins
# over the pairs** of section 2. **Predict**: the policy knows most of these animals. The reward
# model began as a copy of it. Will it know them, too?

# %%
from datasets import Dataset

rng = np.random.default_rng(0)


def probes(fact):
    """Pairs that differ in one thing; the better, or the longer, response is first."""
    kind, mild, none, grumpy, rude = world.OPENINGS  # from kindest to rudest
    opening, closing = rng.choice(list(world.OPENINGS)), rng.choice(list(world.CLOSINGS))
    right, wrong = fact.answer, rng.choice([a for a in world.ANIMALS if a != fact.answer])
    texts = [
        ("right animal", (opening, right), (opening, wrong)),
        ("kindest opening", (kind, right), (rude, right)),
        ("more words", (mild, right), (none, right)),
        ("more words", (grumpy, right), (none, right)),
        ("clash", (rude, right), (kind, wrong)),
    ]
    return [(change, *(world.compose(*parts, closing) for parts in two)) for change, *two in texts]

# %%
facts = world.facts().query("part == 'validation'").iloc[:: p.pick(quick=8, full=1)]
rows = [(fact.rung, fact.prompt, *probe) for fact in facts.itertuples() for probe in probes(fact)]
probe = pd.DataFrame(rows, columns=["rung", "prompt", "change", "chosen", "rejected"])
probe.index = probe.index.astype(str).rename("id")
asked = Dataset.from_pandas(probe.reset_index())
found = {seed: margins(readers[seed], asked) for seed in seeds}
probe.head(5)

# %%
def mean_effect(what):
    ids = probe.index[probe.change == what]
    return each(lambda s: found[s].loc[ids].mean() / table[s].std())


effect = {what: mean_effect(what) for what in ["right animal", "kindest opening", "more words"]}
fig, axes = plt.subplots(2, 2, figsize=(11, 6.4), layout="constrained", sharey=True)
for ax, what in zip(axes.flat, effect):
    draw(effect[what], ax, "effect (standard deviations)", guide=0)
    ax.set_title(what)
clash = probe.index[probe.change == "clash"]
won = each(lambda s: agreement(found[s].loc[clash], pd.Series(1, clash)))
draw(won, axes[1, 1], "share of clashes", guide=0.5)
axes[1, 1].set_title("clash: rude and right is preferred (dashed: a coin)");

# %%
zero = pd.Series(0.0, seeds)
rows = [f"- **{who}**: " + "; ".join(f"{what} {nb.paired_gain(wide.loc[who], zero)}"
        for what, wide in effect.items()) + f"; clashes won by the right one {said(won.loc[who])}."
        for who in (LEARNED, BEFORE, AFTER)]  # fmt: skip
Markdown("\n".join([*rows, "", p.note]))

# %% [markdown]
# **Were your two words right?** The labels follow the whole reward, of which the animal is the
# largest part. What the reward model learned of it is what is easy to read off one vector at the
# end of a text: how it sounds. The policy has the facts, and DPO, which trains the likelihood of
# the very tokens, keeps most of them. That this is *why* is our reading [?]. We tried, once each
# and not shown, the large model, a smaller learning rate, more epochs, twice the pairs, and labels
# without noise: the right animal moved the reward little or not at all there, too.
#
# Where does the policy know the animal? By rung, from the head of the facts to the tail:

# %%
import seaborn as sns

animal = probe.index[probe.change == "right animal"]
rung = probe.rung[animal]
by_rung = pd.concat([(found[s].loc[animal, [BEFORE, AFTER, LEARNED, COIN]] > 0).groupby(rung).mean()
                     for s in seeds])  # fmt: skip
lines = by_rung.melt(ignore_index=False, var_name="reader", value_name="share").reset_index()
fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
sns.lineplot(lines, x="rung", y="share", hue="reader", style="reader", markers=True, ax=ax,
             errorbar=lambda shares: [*nb.seed_interval(shares)][1:])  # fmt: skip
ax.axhline(0.5, color="0.45", linestyle="--", linewidth=1)
ax.set(ylabel="share of facts", xlabel="rung (1: head, 6: tail)")
ax.set_title("The right animal is preferred, all else equal (bands: 95% over data sets)")
ax.legend(title=None, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5));

# %% [markdown]
# ## 4 · The plane of two margins
# Every pair is a point: to the right, the reward model is for the label; to the top, the policy is.
# Each margin is divided by its standard deviation; the mean is **not** subtracted, which would move
# the zero. **Predict**: in which corner do the wrong labels lie?

# %% tags=["picture"]
flipped = {seed: pairs[seed].to_pandas().set_index("id").flipped for seed in seeds}
scaled = (table[0] / table[0].std()).clip(-4, 4)
scaled["label"] = flipped[0].map({True: "wrong", False: "right"})
fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
look = {"hue": "label", "style": "label", "alpha": 0.6, "s": 14}
for ax, who in zip(axes, [BEFORE, AFTER]):
    sns.scatterplot(scaled.sort_values("label"), x=LEARNED, y=who, ax=ax, **look)
    ax.axhline(0, color="0.45", linewidth=1)
    ax.axvline(0, color="0.45", linewidth=1)
    ax.set(title=who, xlabel="explicit: reward model (sd)", ylabel="implicit: policy (sd)")
fig.suptitle("Top right: both are for the label. Bottom left: both are against it.");

# %%
# One pair of each corner read aloud, the one farthest out, and one that leaves both undecided.
x, y = scaled[LEARNED], scaled[BEFORE]
corner = (x > 0).map({True: "reward model for", False: "reward model against"})
corner += (y > 0).map({True: ", policy for", False: ", policy against"})
example = np.minimum(x.abs(), y.abs()).groupby(corner).idxmax()
example["both undecided"] = np.maximum(x.abs(), y.abs()).idxmin()
read = text.loc[example, ["answer", "chosen", "rejected", "true_margin"]]
read.assign(reward_model=x, policy=y).set_axis(list(example.index)).round(2)

# %%
def corners(seed, who):
    """Shares of the pairs and of wrong labels, by whether the reader and the policy are for it."""
    signs = (table[seed][[LEARNED, who]] > 0).replace({True: "for", False: "against"})
    by_corner = flipped[seed].groupby([signs[LEARNED].rename(LEARNED), signs[who].rename("policy")])
    return by_corner.agg(pairs=lambda labels: len(labels) / n, wrong="mean")


over_data_sets = {
    who: pd.concat([corners(s, who) for s in seeds]).groupby(level=[0, 1]).agg(said, ".0%")
    for who in (BEFORE, AFTER)
}
pd.concat(over_data_sets, axis=1)

# %%
def apart(one, other):
    return [((table[s][one] > 0) != (table[s][other] > 0)).mean() for s in seeds]


def if_unrelated(one, other):
    a, b = ([(table[s][who] > 0).mean() for s in seeds] for who in (one, other))
    return np.mean([x * (1 - y) + y * (1 - x) for x, y in zip(a, b)])


sizes = [table[s][LEARNED].abs().corr(table[s][BEFORE].abs(), method="spearman") for s in seeds]
Markdown(f"""**They contradict each other** on {said(apart(LEARNED, BEFORE), ".0%")} of the pairs;
if they had nothing to do with each other it would be {if_unrelated(LEARNED, BEFORE):.0%}. After DPO
it is {said(apart(LEARNED, AFTER), ".0%")}, with {if_unrelated(LEARNED, AFTER):.0%} by chance. The
*sizes* of their margins have a rank correlation of {said(sizes)}.

{p.note}""")

# %%
wrong_if = {who: said([flipped[s][table[s][who] < 0].mean() for s in seeds], ".0%")
            for who in (LEARNED, BEFORE, AFTER)}  # fmt: skip
found_by = {who: said([(table[s][who] < 0)[flipped[s]].mean() for s in seeds], ".0%")
            for who in (LEARNED, BEFORE, AFTER)}  # fmt: skip
noise = said([flipped[s].mean() for s in seeds], ".0%")
Markdown(f"""**Who contradicts a label has a point**, more or less. Of all labels {noise} are wrong.

| reader | of the labels it contradicts, wrong | of the wrong labels, contradicted |
|---|---|---|
| {LEARNED} | {wrong_if[LEARNED]} | {found_by[LEARNED]} |
| {BEFORE} | {wrong_if[BEFORE]} | {found_by[BEFORE]} |
| {AFTER} | {wrong_if[AFTER]} | {found_by[AFTER]} |

{p.note}""")

# %% [markdown]
# ## 5 · What would each margin select?
# Keep 40%, as the released code does [R]. An explicit margin can be read in two ways: keep the
# **largest**, or those of the largest **size**, $|r(y_w) - r(y_l)|$. In the paper's setting these
# are the same: its pairs are the reward model's own best of five responses against its worst, and
# the margin in the code is the highest score minus the lowest [R], which is never negative. Our
# labels come from another judge, as in most public data, and the two part. **Predict**: does it
# matter? And which implicit rule keeps the most wrong labels?

# %%
def selections(seed):
    """40% of the pairs, by one margin each."""
    t, top, smallest = table[seed], nb.select.top, nb.select.easiest
    picked = {
        "judge of the labels, largest": top(judge[seed], 0.4),
        "reward model, largest": top(t[LEARNED], 0.4),
        "reward model, largest size": top(t[LEARNED].abs(), 0.4),
        "policy per token, smallest size": smallest(t[BEFORE].abs(), 0.4),
        "after DPO, smallest size": smallest(t[AFTER].abs(), 0.4),
        "after DPO, smallest": smallest(t[AFTER], 0.4),
    }
    return picked | {"random": nb.select.random(picked["reward model, largest"], t, seed)}


picked = {seed: selections(seed) for seed in seeds}
names = list(picked[0])

# %%
from textwrap import fill

wrong = each(lambda s: pd.Series({name: flipped[s][ids].mean() for name, ids in picked[s].items()}))
shared = [[[nb.overlap(picked[s][a], picked[s][b]) for b in names] for a in names] for s in seeds]
shared = pd.DataFrame(np.mean(shared, axis=0), names, names).iloc[1:, :-1]
fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
draw(wrong, ax, "wrong labels among the kept (dashed: random)", wrong.loc["random"].mean())

# %%
fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
sns.heatmap(shared, mask=np.triu(np.ones_like(shared, bool), 1), annot=True, fmt=".0%",
            cmap="vlag", center=0.4, cbar=False, ax=ax)  # fmt: skip
ax.set_xticklabels([fill(name, 18) for name in shared], rotation=0, fontsize=8)
ax.set_title("Pairs in common (two random selections share 40%: white)", loc="right");

# %% [markdown]
# And what is in them? `animal at stake` is the share of pairs in which one response has the right
# animal and the other has not.

# %%
def at_stake(frame):
    """Whether one response has the right animal and the other has not, [pairs]."""
    right = [[g.correct for g in map(world.grade, frame.prompt, frame[side])] for side in sides]
    return pd.Series(np.not_equal(*right), frame.index)


def contents(seed, name):
    kept = pairs[seed].to_pandas().set_index("id").loc[picked[seed][name]]
    words = [kept[side].str.split().str.len() for side in sides]
    return pd.Series({"words of chosen": words[0].mean(), "more than rejected":
                      (words[0] - words[1]).mean(), "rung": kept.rung.mean(),
                      "animal at stake": at_stake(kept).mean()})  # fmt: skip


inside = {name: pd.DataFrame([contents(s, name) for s in seeds]).agg(said) for name in names}
pd.DataFrame(inside).T

# %%
def more_wrong(a, b):
    return nb.paired_gain(wrong.loc[a], wrong.loc[b])


worst = wrong.mean(axis=1).idxmax()
everything = pd.concat([pairs[seed].to_pandas() for seed in seeds])
by_stake = everything.flipped.groupby(at_stake(everything).to_numpy()).mean()
Markdown(f"""**Signs matter.** Wrong labels by the largest *size* of the reward model's margin minus
by the largest margin: {more_wrong("reward model, largest size", "reward model, largest")}. A reward
model that is sure of the *other* response counts as sure. If your labels are not your reward
model's own, keep the sign, or drop the pairs it contradicts first.

**“Small” means two things.** Minus random: the smallest margins after DPO
{more_wrong("after DPO, smallest", "random")}; the smallest sizes
{more_wrong("after DPO, smallest size", "random")}. A policy that has learned from such labels is
*against* many wrong ones, and the lowest margins collect them; the smallest sizes are pairs it is
undecided on. The most wrong labels are in “{worst}”: {said(wrong.loc[worst], ".0%")}.

Where the policy is undecided, the animal is seldom at stake (table above). Then style decides, the
smaller part of the reward, and there the judge who made the labels errs more: {by_stake[False]:.0%}
of such labels are wrong, and {by_stake[True]:.1%} of the others.

**The two explicit ones**, reward model minus judge:
{more_wrong("reward model, largest", "judge of the labels, largest")}. What clean labels are worth
to the policy is lesson 06's question: no label share says what it knows already. {p.note}""")

# %% [markdown]
# ## 6 · Five traps
# 1. **Policy = reference.** DPO's implicit margin is then 0 for every pair, and what uses it ranks
#    by the explicit margin alone. Warm up, or use the margin per token.
# 2. **z-scores move the zero.** They make units comparable, as the paper's released code does [R],
#    but "above 0" then means above average. First the size, where it is wanted, then the z-score.
# 3. **Sum or mean.** The same log-probs prefer different responses, summed or per token. In this
#    world the mean is length to a good part, since the words of a set phrase are nearly free.
# 4. **Units.** Rewards are log-odds if the model is calibrated, the judge's points are the judge's,
#    implicit margins are nats times β. Never subtract one from another as they are.
# 5. **The judge that made the labels cannot check them.** A second opinion can, if it is not blind
#    in the same eye: try yours on probes before you trust its margins.
#
# Where to see them below: 2 in the third column (share of pairs whose sign the z-score turns), 3 in
# the last (policy per token against summed), 4 in the first, 5 in the second (the judge of the
# labels is for every one of them).

# %%
assert (nb.scores.implicit_margin(logps, logps, beta=dpo["beta"]) == 0).all()  # trap 1


def properties(seed):
    lp = nb.response_logprobs(policy, pairs[seed], progress=False)
    margin = table[seed].drop(columns=STYLE)
    margin["policy, summed"] = lp.chosen_logp - lp.rejected_logp
    margin["judge of the labels"] = judge[seed]
    turned = ((margin > 0) != (margin > margin.mean())).mean()
    length = margin.corrwith(lp.chosen_tokens - lp.rejected_tokens)
    return pd.DataFrame({"standard deviation (own units)": margin.std(),
                         "share above 0": (margin > 0).mean(), "signs turned by a z-score": turned,
                         "correlation with length": length})  # fmt: skip


traps = pd.concat([properties(s) for s in seeds]).groupby(level=0, sort=False).agg(said)
traps

# %% [markdown]
# ## 7 · Exercises
# Write the body of each function, then run the check below it. Nothing breaks if you skip one.
#
# ### Exercise 1 · The loss of a reward model
# *5 minutes · easy · you can write the loss that every reward model is trained with*
#
# Two arrays with the rewards of chosen and rejected responses. Return the mean loss.
#
# <details><summary>Hint</summary>
# The margin first. <code>np.logaddexp(0, -margin)</code> is -log σ(m), and finite at any margin.
# </details>

# %%
def my_bradley_terry(chosen_rewards, rejected_rewards):
    """Mean Bradley-Terry loss, nats; two arrays [pairs] of rewards."""
    ### BEGIN SOLUTION
    margin = chosen_rewards - rejected_rewards
    return np.logaddexp(0, -margin).mean()
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_bradley_terry(my_bradley_terry)

# %% [markdown]
# ### Exercise 2 · The margin per token
# *5 minutes · easy · you can tell the usual wrong ones from the right one*
#
# From summed log-probs and token counts. It is **not** the difference of the sums over a length:
# there are two lengths.
#
# <details><summary>Hint</summary>
# The mean log-prob per token of one response, minus that of the other.
# </details>

# %%
def my_margin_per_token(chosen_logp, rejected_logp, chosen_tokens, rejected_tokens):
    """Length-normalised margins [pairs], nats per token; four arrays [pairs]."""
    ### BEGIN SOLUTION
    return chosen_logp / chosen_tokens - rejected_logp / rejected_tokens
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_margin_per_token(my_margin_per_token)

# %% [markdown]
# ### Exercise 3 · How often do they contradict each other?
# *10 minutes · medium · you can compare two margins without the traps of sign and order*
#
# Two Series by pair id, of the same pairs **in different orders**. On which share of the pairs do
# they prefer different responses? A margin of exactly 0 prefers neither, and contradicts nobody.
#
# <details><summary>Hint</summary>
# Two numbers have different signs when their product is negative. pandas multiplies two Series by
# their index, whatever their order.
# </details>

# %%
def my_contradictions(explicit, implicit):
    """Share of pairs, 0 to 1; two Series by pair id."""
    ### BEGIN SOLUTION
    return (explicit * implicit < 0).mean()
    ### END SOLUTION

# %% tags=["check"]
nb.course.exercises.check_contradictions(my_contradictions)

# %% [markdown]
# ## 8 · The paper said, we measured
# [P]: from the paper's text. [R]: from the authors' released code. [?]: our reading.

# %%
on_truth, kept = right.T.agg(said, form=".0%"), wrong.T.agg(said, form=".0%")
length = traps["correlation with length"]
Markdown(f"""
| the paper said | we measured ({len(seeds)} data sets, 95%) |
|---|---|
| The explicit margin is the target that the policy should reach [P, abstract] | a learned one is \
right on {on_truth[LEARNED]}; a judge blind to the animal on {on_truth[STYLE]} |
| Best minus worst of the reward model's own scores, never negative [R] | with another judge's \
labels it has a sign. Wrong labels by size {kept["reward model, largest size"]}, by the signed \
margin {kept["reward model, largest"]}, random {kept["random"]} |
| A small implicit margin: much is left to learn [P, abstract; R] | wrong labels there: per token \
{kept["policy per token, smallest size"]}, after DPO {kept["after DPO, smallest size"]} |
| The two margins tell different things, or one could not be subtracted [?] | rank correlation \
of their sizes {said(sizes)} |
| The implicit margin is per token, of the policy alone [R] | its correlation with the difference \
in length is {length[BEFORE]}, summed {length["policy, summed"]} |

{p.note}""")

# %% [markdown]
# **Differences from the paper.** Its reward model is a large one that labels the pairs itself [R];
# ours is as small as the policy, learned from 1,600 noisy pairs, and reads labels of another
# judge. Its texts are free, and length and quality are tied there. That DPO's implicit reward is
# the better judge here is a property of this world, where a few exact tokens decide: on real data,
# explicit reward models are reported to generalise better
# ([2409.03650](https://arxiv.org/abs/2409.03650), [2507.07981](https://arxiv.org/abs/2507.07981)).
#
# ## In this lesson we saw
# - that an explicit margin can come from columns, a function or a learned model, and that only a
#   judge who did not make the labels can contradict them;
# - that three quarters right is what a judge without any idea of the facts gets, so that a reward
#   model needs probes, not only an accuracy;
# - that the reward model reads tone, and the policy before DPO facts and length: they disagree
#   because they look at different things;
# - that sign and size select different pairs, and each rule its own share of wrong labels.
#
# **Next**: lesson 06 puts the two margins into one score, and trains on what it keeps.
#
# **References.** Alignment potential: [2503.01864](https://arxiv.org/abs/2503.01864). Bradley and
# Terry, *Rank analysis of incomplete block designs*, Biometrika 1952. DPO:
# [2305.18290](https://arxiv.org/abs/2305.18290). SimPO, the margin per token:
# [2405.14734](https://arxiv.org/abs/2405.14734).

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
