# %% [markdown]
# A reward model says: these two responses are far apart, this pair is worth learning from. The
# policy says: I find one of them much likelier already, this pair teaches me nothing. Chapter 05
# showed how often the two disagree. *Alignment potential*, $M_{AP}$ (Huang et al., ICML 2025,
# [2503.01864](https://arxiv.org/abs/2503.01864)), makes one number of both: **how far the policy's
# margin still is from the margin it should have**. We look at it as geometry, take it at its word
# in training, and then look at two bars in its formula, and at its weight.
#
# **You will be able to**
# - compute alignment potential by hand, and draw what its weight does;
# - say what it selects, and compare it with full data, random pairs and each margin alone, at equal
#   examples and at equal updates;
# - tell when it may be used with labels that are not the reward model's own;
# - judge a sweep of its weight, and a way to choose it without a sweep;
# - avoid four traps: beta, policy = reference, the pool, the warm-up.
#
# **Needs** [chapter 05](05_reward_margins.ipynb): explicit and implicit margins. **On a GPU**
# nothing changes here: the models are tiny. Chapter 11 makes the same calls with a real one.

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.profile()

# %% [markdown]
# ## 1 · Two margins, one plane
# Five **data sets**: fresh pairs, a fresh training seed, and a fresh reward model. The reward model
# is *learned*, from other pairs: its margins are estimates, with errors, as yours will be.

# %%
import torch

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
size = p.pick(quick="small", full="medium")
policy = nb.load_policy(f"world/{size}", device="cpu")
seeds = p.pick(quick=[0, 1], full=[0, 1, 2, 3, 4])
count = p.pick(quick=96, full=1600)
data = {seed: world.pairs(count, seed=seed) for seed in seeds}

# %%
from tqdm.auto import tqdm


def margins(seed):
    """(explicit, implicit) margins of a data set: reward units, nats per token."""
    how = dict(learning_rate=1e-3, epochs=3, seed=seed, progress=False)
    judge = nb.train_reward_model(policy, world.pairs(count, seed=500 + seed), **how).reward_model
    scored = nb.reward_scores(judge, data[seed], progress=False)
    logps = nb.response_logprobs(policy, data[seed], progress=False)
    return nb.scores.explicit_margin(scored), nb.scores.length_normalized_margin(logps)


both = {seed: margins(seed) for seed in tqdm(seeds, unit=" data sets")}
explicit, implicit = both[0]
text = data[0].to_pandas().set_index("id")
text = text.assign(explicit=explicit, implicit=implicit)

# %% [markdown]
# The **explicit** margin is r(chosen) − r(rejected), in the reward model's units. The **implicit**
# one is the policy's mean log-prob per token of the chosen response, minus that of the rejected,
# in nats per token. Four pairs, one from each corner. **Read them aloud, and predict**: which one
# can still teach this policy most?

# %%
sure, decided = explicit.abs().rank(pct=True), implicit.abs().rank(pct=True)
corners = {"judge sure, policy undecided": sure - decided, "both sure": sure + decided,
           "both undecided": -sure - decided, "judge unsure, policy decided": decided - sure}
four = [place[explicit > 0].idxmax() for place in corners.values()]
shown = ["prompt", "chosen", "rejected", "explicit", "implicit"]
text.loc[four, shown].set_axis(corners.keys()).round(2)

# %% [markdown]
# By the idea of the paper, the first: there is something to learn (the judge is sure), and it has
# not been learned (the policy is not). The gap, and the rule of the authors' script:
#
# $$\underbrace{|\Delta r| - w\,|\Delta \hat r|}_{\text{the gap [P]}} \qquad\qquad
# \underbrace{z(\Delta r) - w\, z(|\Delta \hat r|)}_{\text{the script [R]}}, \quad
# z(x) = \frac{x - \text{mean}}{\text{sd}}$$
#
# | symbol | meaning | unit |
# |---|---|---|
# | $\Delta r$ | explicit margin, $r(y_w) - r(y_l)$: the target | reward units |
# | $\Delta \hat r$ | implicit margin: where the policy is now. DPO's, β × log-ratios [P], or the \
# policy's own, per token [R] | β × nats; nats per token |
# | $z$ | standardised over the pool: how unusual, instead of how large | standard deviations |
# | $w$ | price of an implicit margin: 1 for selecting, 2.5 in self-play [R] | none (under $z$) |
#
# The two margins have different units: subtracting them needs an exchange rate, and $z$ is one. The
# script has no bars around $\Delta r$: hold that thought until section 3. ([P]: the paper's text.
# [R]: the released code. [?]: our reading.) The script's rule by hand, for these four pairs as if
# they were all there is:

# %%
target, reached = list(explicit[four]), [abs(x) for x in implicit[four]]


def z(values):
    mean = sum(values) / len(values)
    deviation = (sum((x - mean) ** 2 for x in values) / len(values)) ** 0.5
    return [(x - mean) / deviation for x in values]


by_hand = [a - 1.0 * b for a, b in zip(z(target), z(reached))]
library = nb.scores.alignment_potential(explicit[four], implicit[four], weight=1.0)
assert np.allclose(by_hand, library)
columns = {"z(Δr)": z(target), "z(|Δr̂|)": z(reached), "M_AP": by_hand}
pd.DataFrame(columns, corners.keys()).round(2)

# %% [markdown]
# Now all pairs of one data set. On a dotted line, $M_{AP}$ is the same everywhere; the solid one
# cuts off the best 40%, the authors' share [R]. **Predict**: what does $w = 0$ select? And which
# way does the line turn as $w$ grows? Below the figure is the same with a handle (it needs a
# running kernel): turn it from 0 to 1 to 4, and ask of the pairs that come in: is the judge sure?

# %% tags=["picture"]
import matplotlib.pyplot as plt

wrong = text.flipped.rename("wrong labels")
fig, axes = plt.subplots(1, 3, figsize=(14, 5), sharey=True, layout="constrained")
for ax, weight in zip(axes, [0, 1, 4]):
    nb.plots.margin_plane(explicit, implicit, weight, ax=ax, marks=wrong)
fig.suptitle("The weight turns the line: from 'the judge is sure' to 'the policy is undecided'");

# %%
nb.widgets.weight_slider(explicit, implicit, data[0], marks=wrong)

# %% [markdown]
# ## 2 · Does it select better pairs?
# Before any training, count what each rule keeps. (A random selection holds what all pairs hold.)
# **Predict**: which has the fewest wrong labels?

# %%
def map_top(seed, weight=1.0):
    return nb.select.top(nb.scores.alignment_potential(*both[seed], weight), 0.4)


def three_rules(seed):
    explicit, implicit = both[seed]
    return {"M_AP": map_top(seed), "explicit only": nb.select.top(explicit, 0.4),
            "implicit only": nb.select.easiest(implicit.abs(), 0.4)}  # fmt: skip

# %%
def contents(seed, selections):
    """What the selections of a data set hold: shares of pairs, and means."""
    frame = data[seed].to_pandas().set_index("id")
    tone = {side: [world.grade(*row).tone for row in zip(frame.prompt, frame[side])]
            for side in ("chosen", "rejected")}  # fmt: skip
    facts = pd.DataFrame({
        "wrong labels": frame.flipped, "reward model contradicts": both[seed][0] < 0,
        "chosen kinder": np.greater(tone["chosen"], tone["rejected"]), "mean rung": frame.rung,
        "mean tokens": frame.chosen.str.split().map(len)})  # fmt: skip
    return pd.DataFrame({name: facts.loc[ids].mean() for name, ids in selections.items()})


def count_all(rules):
    tables = [contents(seed, {**rules(seed), "all pairs": both[seed][0].index}) for seed in seeds]
    return (sum(tables) / len(tables)).T.round(3)


count_all(three_rules)

# %% [markdown]
# The first two columns belong together: what the reward model is sure of is seldom mislabelled. The
# implicit margin knows nothing of that: the smaller the share it has in a rule, the cleaner the
# pairs. So is it worth its price? Only training can tell.
#
# Train, on each and on the controls: full data, and random pairs of equal size. At **equal
# examples** (one epoch each; full data makes 2.5 times as many updates) and at **equal updates**.
# **Predict**: the order of the selections. And does any of them beat full data?

# %%
import tempfile

settings = world.DPO[size]
folder = tempfile.TemporaryDirectory()  # finished runs: what two figures share is trained once
prompts = world.prompts(p.pick(quick=48, full=576))  # 192 questions; in full, 3 times each
budgets = ["examples", "updates"]
judged = dict(
    measures={"correct": lambda prompt, said: world.grade(prompt, said).correct,
              "tone": lambda prompt, said: world.grade(prompt, said).tone},
    sampling=dict(temperature=0.7, max_new_tokens=16), budgets=["examples"],
    cache=folder.name, workers=p.workers, progress=False,
)  # fmt: skip

# %%
def compare(select, seeds=seeds, **options):
    """`nb.compare` on each data set; `select(seed)` gives its selections: name -> ids."""
    how = {**judged, **settings, **options}
    return pd.concat([
        nb.compare(policy, data[seed], select(seed), prompts, world.reward, seeds=[seed], **how)
        for seed in tqdm(seeds, unit=" data sets")
    ])  # fmt: skip


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
results = compare(three_rules, budgets=budgets)
show(results, "Best 40% by each rule: who wins (left), and who is right (right)?")

# %%
def gains(results, name, others, metrics=("win_rate", "correct"), budgets=budgets):
    """Rows of a table: mean difference within data sets, 95% interval, and the verdict."""
    rows = [[f"{name} − {other}", metric.replace("_", " "),
             *(nb.gain(results, name, over=other, metric=metric, budget=b) for b in budgets)]
            for metric in metrics for other in others]  # fmt: skip
    return "\n".join(" | ".join(["", *map(str, row), ""]) for row in rows)


head = "| | | equal examples | equal updates |\n|---|---|---|---|\n"
others = ["random", "explicit only", "implicit only", "full"]
kind = {over: nb.gain(results, "M_AP", over=over, metric="tone", budget="updates")
        for over in ("full", "implicit only")}  # fmt: skip
Markdown(f"""{head}{gains(results, "M_AP", others)}
{gains(results, "explicit only", ["random", "full"])}

Mean difference within {len(seeds)} data sets, with its 95% interval: what a draw of pairs, or of
answers, does to all runs cancels. Over *random*: is it better than no rule? Over *explicit only*
and *implicit only*: does it need both margins? Over *full*: should 60% be thrown away? Read both
budgets: a small set that is repeated is not a small set that is seen once.

**What it wins with.** Tone of its answers (reward units, equal updates), over full data:
{kind["full"]}; over "implicit only": {kind["implicit only"]}. A reward model that learned from
answers of a few words reads tone more easily than facts, and a selection inherits the taste of its
judge. So read the rows of *correct*, too, and the faint dots: a mean hides single runs. {p.note}
""")

# %% [markdown]
# ## 3 · Two bars, and who labels
# The paper writes $|\Delta r|$, the script $\Delta r$. Take a coin for every pair, and exchange
# chosen and rejected where it shows heads: both margins change their sign. **Predict**: what does
# the score *with bars* do?

# %%
def with_bars(explicit, implicit, weight=1.0):
    return nb.scores.alignment_potential(explicit.abs(), implicit, weight)


def bars_top(seed):
    return nb.select.top(with_bars(*both[seed]), 0.4)

# %%
coin = pd.Series(np.random.default_rng(0).choice([-1, 1], count), explicit.index)
assert np.allclose(with_bars(coin * explicit, coin * implicit), with_bars(explicit, implicit))
against = [id_ for id_ in bars_top(0) if explicit[id_] < 0]
text.loc[against[:4], [*shown, "answer", "flipped"]].round(2)

# %%
kept = pd.concat([data[s].to_pandas().set_index("id").assign(against=both[s][0] < 0)
                  .loc[bars_top(s)] for s in seeds])  # fmt: skip
wrong_share = kept.flipped.groupby(kept.against).mean()
Markdown(f"""**Nothing: with bars it does not read the label.** It asks *how far apart* the
responses are, not *which way*. Above: pairs with a high score whose label the reward model firmly
contradicts. Such pairs are {kept.against.mean():.0%} of its selection. Of their labels
{wrong_share.get(True, np.nan):.0%} are wrong, of the others'
{wrong_share.get(False, np.nan):.0%}. "Much to learn" can mean "much to unlearn".

In the paper this cannot happen. There the reward model makes the pairs itself, its best response
against its worst [R]: $\\Delta r$ is never negative, and bars or none are the same. They begin to
matter when the labels are somebody else's: people's, or, as here, another judge's. {p.note}""")

# %% [markdown]
# So there are three things to try. **No bars**, as the script has it: contradicted pairs come last.
# **Bars**, and our labels. Or the paper's setting: **the reward model labels**, so we exchange the
# pairs that it contradicts. (It labels worse than our judge.) **Predict**: in which order do they
# come out? And will correctness follow the win rate?

# %%
def relabelled(seed):
    explicit, implicit = both[seed]
    pairs = nb.flip_labels(data[seed], explicit.index[explicit < 0])
    row = {id_: number for number, id_ in enumerate(pairs["id"])}
    keep, drawn = bars_top(seed), nb.select.random_like(bars_top(seed), pairs, seed)
    return {"M_AP, relabelled": pairs.select([row[id_] for id_ in keep]),
            "random, relabelled": pairs.select([row[id_] for id_ in drawn]),
            "all, relabelled": pairs}  # fmt: skip


def labels(seed):
    return {"M_AP": map_top(seed), "M_AP, with bars": bars_top(seed), **relabelled(seed)}


labelled = compare(labels, budgets=budgets)
show(labelled, "Bars, no bars, and the reward model's own labels")

# %%
rows = [gains(labelled, "M_AP", ["M_AP, with bars"]),
        gains(labelled, "M_AP, with bars", ["random", "full"]),
        gains(labelled, "M_AP, relabelled", ["random, relabelled", "all, relabelled", "full"]),
        gains(labelled, "all, relabelled", ["full"])]  # fmt: skip
wrong_now = [data[s].to_pandas().set_index("id").flipped ^ (both[s][0] < 0) for s in seeds]
worse_labels = nb.gain(labelled, "all, relabelled", over="full")
taught = ("more wrong labels, and a higher win rate. They teach the reward model's taste, and "
          "taste is part of what the test pays for." if worse_labels.low > 0 else
          "more wrong labels do not raise the win rate.")  # fmt: skip
Markdown(head + "\n".join(rows) + f"""

If the reward model labels, {np.mean(wrong_now):.1%} of all labels are wrong, and
{np.mean([wrong[bars_top(s)].mean() for s, wrong in zip(seeds, wrong_now)]):.1%} of those that
$M_{{AP}}$ keeps: where it is sure, it errs less. Look at the last row: {taught} {p.note}""")

# %% [markdown]
# ## 4 · How much should the policy's opinion weigh?
# The paper leaves the choice of $w$ open. A sweep costs a training run for each value. Ours costs
# none [?]: the $w$ that makes the score uncorrelated with the size of the implicit margin, which is
# the slope of the line from that to the explicit one (`nb.scores.residual_weight`). And a
# neighbour, **BeeS** ([2502.14560](https://arxiv.org/abs/2502.14560)), reads the same two margins
# *the other way*: as two witnesses for the label, so that a large implicit margin speaks **for** a
# pair.
#
# **Predict**: where is the best $w$? And who is right about the implicit margin?

# %%
weights = [0, 0.25, 0.5, 1, 2, 4]


def sweep(seed):
    automatic = nb.scores.residual_weight(*both[seed])
    return {**{f"w = {weight:g}": map_top(seed, weight) for weight in weights},
            "w automatic": map_top(seed, automatic),
            "BeeS": nb.select.top(nb.scores.bees(*both[seed]), 0.4)}  # fmt: skip


swept = compare(sweep)
show(swept, "The weight, chosen by hand and by itself; and BeeS (equal examples)")

# %%
def shared(name):
    return np.mean([nb.overlap(sweep(seed)[name], map_top(seed)) for seed in seeds])


names = [*sweep(0)]
rows = {name: {"over random": nb.gain(swept, name), "shared with w = 1": f"{shared(name):.0%}",
               "correct, over random": nb.gain(swept, name, metric="correct")} for name in names}
pd.DataFrame(rows).T

# %%
versus_one = {name: nb.gain(swept, name, "w = 1") for name in names if name != "w = 1"}
w_names = [name for name in versus_one if name.startswith("w")]
better = [name for name in w_names if versus_one[name].low > 0]
worse = [name for name in w_names if versus_one[name].high < 0]
found = [nb.scores.residual_weight(*both[seed]) for seed in seeds]
unrelated = "have next to nothing to do with each other" if max(found) < 0.1 else "are related"
Markdown(f"""**{"Better than w = 1: " + ", ".join(better) if better else "None beats w = 1"}**;
clearly worse: {", ".join(worse) or "none"}. (Six comparisons; by chance alone one in twenty would
be clear of zero.)

**The automatic weight** came out as {", ".join(f"{weight:.2f}" for weight in found)}: the explicit
margin and the size of the implicit one {unrelated} here. (At 0.00 it *is* the explicit margin
alone.) Over w = 1 it gains {versus_one["w automatic"]}. A flat sweep is no surprise where the
selections are nearly the same: with w = 1, w = 0 shares {shared("w = 0"):.0%} of its pairs.

**BeeS** over w = 1: {versus_one["BeeS"]}; over the explicit margin alone:
{nb.gain(swept, "BeeS", "w = 0")}. So whichever way the implicit margin is read, the question is
whether reading it adds anything. {p.note}""")

# %% [markdown]
# ## 5 · Four traps
# **Beta is no knob.** Under $z$ a factor cancels: whichever β you give the implicit margin, the
# score is the same. In the plain gap it decides everything.

# %%
def scored(beta, standardize=True):
    return nb.scores.alignment_potential(explicit, beta * implicit, standardize=standardize)


assert np.allclose(scored(0.01), scored(2.0))
plain = [nb.select.top(scored(beta, standardize=False), 0.4) for beta in (0.01, 2.0)]
print(f"plain gap, beta 0.01 and 2: {nb.overlap(*plain):.0%} of the kept pairs are the same")

# %% [markdown]
# **Policy = reference.** DPO's implicit margin is zero for all pairs before training. What is left
# is the explicit margin, and the library says so.

# %%
import warnings

logps = nb.response_logprobs(policy, data[0], progress=False)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    fallback = nb.scores.alignment_potential(explicit, nb.scores.implicit_margin(logps, logps))
assert nb.select.top(fallback, 0.4) == nb.select.top(explicit, 0.4)
print(said[0].message)

# %% [markdown]
# **The pool.** $z$ compares a pair with its neighbours. Leave a twentieth of the pairs out, those
# that the policy is most decided on, hardly any of which was selected, and score again.
# **Predict**: how many of the selected pairs change?

# %%
potential = nb.scores.alignment_potential(explicit, implicit)
rest = nb.select.easiest(implicit.abs(), 0.95)
again = nb.scores.alignment_potential(explicit[rest], implicit[rest])
keeps = [nb.select.top(score, 0.4) for score in (potential[rest], again)]
moved = (again - potential[rest]).abs().idxmax()
rates = [implicit[ids].abs().std() / explicit[ids].std() for ids in (text.index, rest)]
Markdown(f"""Of the best 40% of these pairs, {1 - nb.overlap(*keeps):.1%} are replaced by others,
though no pair has changed. The largest move: from {potential[moved]:+.2f} to {again[moved]:+.2f}.
What $z$ sets is an exchange rate: one reward unit was worth {rates[0]:.2f} nats per token, and now
{rates[1]:.2f}, as if the weight had gone from 1 to {rates[0] / rates[1]:.2f}. A few extreme margins
set it. And scores of two pools cannot be merged: merge the margins, then score. {p.note}""")

# %% [markdown]
# **The warm-up.** One way around policy = reference: train a little first (here one epoch on all
# pairs), take DPO's margin *then*, and select with it for a fresh run. **Predict**: better than the
# per-token margin of the untrained policy? (Three data sets, as in section 6.)

# %%
some = seeds[: p.pick(quick=1, full=3)]


def warmed(seed):
    before = nb.response_logprobs(policy, data[seed], progress=False)
    how = dict(settings, reference=before, seed=seed, progress=False)
    warm = nb.response_logprobs(nb.train_dpo(policy, data[seed], **how).policy, data[seed],
                                progress=False)  # fmt: skip
    margin = nb.scores.implicit_margin(warm, before, settings["beta"])
    potential = nb.scores.alignment_potential(both[seed][0], margin)
    return {"M_AP": map_top(seed), "warmed up": nb.select.top(potential, 0.4)}


warm = compare(warmed, some)
Markdown(f"""After a warm-up, over random: {nb.gain(warm, "warmed up")}; over $M_{{AP}}$ of the
untrained policy: {nb.gain(warm, "warmed up", over="M_AP")} ({len(some)} data sets).

It costs a training run, which it has to earn. And it is another question: after one epoch a *small*
margin means "trained on it, and still undecided", which chapter 03 calls hard. {p.note}""")

# %% [markdown]
# ## 6 · Under other objectives
# The paper's second open question: does the selection depend on the loss that trains on it? The
# same selections, under four losses. (Settings that differ from `world.DPO` were found on data seed
# 100, by the win rate that 640 random pairs bring: SimPO learning rate 3e-4, γ 0.5; IPO β 1; SLiC
# as DPO. On full data they were not tried.) For SimPO the per-token margin is its own reward [P].
# **Predict**: will one of them change the verdict on $M_{AP}$ against random pairs? (Three data
# sets: where a verdict is "not clear of zero", that says little.)

# %%
losses = {"SimPO": dict(loss="simpo", learning_rate=3e-4, simpo_gamma=0.5),
          "IPO": dict(loss="ipo", beta=1.0), "SLiC": dict(loss="hinge")}  # fmt: skip


def two_rules(seed):
    rules = three_rules(seed)
    return {name: rules[name] for name in ("M_AP", "explicit only")}


by_loss = {"DPO": results[(results.budget == "examples") & results.seed.isin(some)]}
by_loss |= {name: compare(two_rules, some, **loss) for name, loss in losses.items()}

# %%
def row(table):
    full = table[table.selection == "full"]
    return {"full: wins, right": f"{full.win_rate.mean():.3f}, {full.correct.mean():.3f}",
            "M_AP − random": nb.gain(table, "M_AP"),
            "M_AP − explicit only": nb.gain(table, "M_AP", over="explicit only"),
            "M_AP − full": nb.gain(table, "M_AP", over="full"),
            "correct, M_AP − random": nb.gain(table, "M_AP", metric="correct")}  # fmt: skip


clear = [name for name, table in by_loss.items() if nb.gain(table, "M_AP").low > 0]
print(f"M_AP above random under {len(clear)} of 4 losses: {', '.join(clear) or 'none'}. {p.note}")
pd.DataFrame({name: row(table) for name, table in by_loss.items()}).T

# %% [markdown]
# ## 7 · When this misleads
# - **Somebody else's labels.** Count how often the reward model contradicts a label in what you are
#   about to keep, `(explicit.loc[keep] < 0).mean()`. With bars such pairs rank high.
# - **The judge's taste.** The selection prefers what the reward model sees clearly. Ours sees tone.
# - **40% seen once is not 40% seen as long.** Say which budget a "better than full data" is at.
# - **Undecided is not ignorant.** A small implicit margin can mean that both responses are good, or
#   that both are gibberish to the policy.
# - **Intervals are over data and training seeds**; questions, starting weights and world are the
#   same in all.
#
# ## 8 · Exercises
# Write the body of each function, then run the check below it.
#
# ### Exercise 1 · Alignment potential
# *8 minutes · medium · you can compute the score from any two margins*
#
# `explicit` and `implicit` are arrays of margins of the same pairs, with signs. Return $M_{AP}$ of
# each by the script's rule (standard deviation over all pairs, divided by n).
#
# <details><summary>Hint</summary>
# Of the implicit margin first the size, <code>np.abs</code>, then the mean and <code>.std()</code>
# of the sizes.
# </details>

# %%
def my_potential(explicit, implicit, weight):
    """M_AP of each pair, an array."""
    ### BEGIN SOLUTION
    target, reached = explicit, np.abs(implicit)
    target, reached = ((x - x.mean()) / x.std() for x in (target, reached))
    return target - weight * reached
    ### END SOLUTION


# %% tags=["check"]
nb.exercises.check_alignment_potential(my_potential)

# %% [markdown]
# ### Exercise 2 · Where two pairs change places
# *8 minutes · medium · you can read a weight off the plane*
#
# Two pairs as points of the plane, (z(|implicit|), z(explicit)). The judge is surer of the first,
# but the policy is more decided on it. At which weight do they have the same potential?
#
# <details><summary>Hint</summary>
# They lie on one line of equal potential. What is the slope of such a line?
# </details>

# %%
def my_tie_weight(first, second):
    """The weight, a float; two points (x, y)."""
    ### BEGIN SOLUTION
    return (first[1] - second[1]) / (first[0] - second[0])
    ### END SOLUTION


# %% tags=["check"]
nb.exercises.check_tie_weight(my_tie_weight)

# %% [markdown]
# ### Exercise 3 · A weight without a sweep
# *8 minutes · medium · you can tell how much the two margins have to do with each other*
#
# The automatic weight of section 4: the slope of the least-squares line from
# $z(|\Delta \hat r|)$ to $z(\Delta r)$, and 0 if that is negative. `explicit` and `implicit` are
# arrays, with signs.
#
# <details><summary>Hint</summary>
# Between z-scores, the least-squares slope is Pearson's correlation: <code>np.corrcoef</code>.
# </details>

# %%
def my_residual_weight(explicit, implicit):
    """The weight, a float, 0 or more."""
    ### BEGIN SOLUTION
    slope = np.corrcoef(explicit, np.abs(implicit))[0, 1]
    return max(0.0, slope)
    ### END SOLUTION


# %% tags=["check"]
nb.exercises.check_residual_weight(my_residual_weight)

# %% [markdown]
# ## 9 · The paper said, we measured
# Gains in win rate, mean within data sets and 95% interval; where there are two, equal examples ·
# equal updates.

# %%
def claim(results, name, over, budgets=budgets):
    found = [nb.gain(results, name, over=over, budget=budget) for budget in budgets]
    return " · ".join(map(str, found))


Markdown(f"""
| the paper said | we measured |
|---|---|
| $M_{{AP}}$ beats random pairs [P] | {claim(results, "M_AP", "random")} |
| ... the explicit margin [P] | {claim(results, "M_AP", "explicit only")} |
| ... the implicit margin [P] | {claim(results, "M_AP", "implicit only")} |
| *the same with the reward model's labels, as there:* over random | \
{claim(labelled, "M_AP, relabelled", "random, relabelled")} |
| the best 40% serve as well as all [?] | {claim(results, "M_AP", "full")} |
| ... with the reward model's labels | {claim(labelled, "M_AP, relabelled", "all, relabelled")} |
| it works across objectives [P] | above random under {len(clear)} of {len(by_loss)}; \
three data sets, equal examples |
| *open*: how to choose w | {"better than w = 1: " + ", ".join(better) if better else
"none beats w = 1"} |
| *not asked*: bars, with somebody else's labels | bars − none: \
{claim(labelled, "M_AP, with bars", "M_AP")} |

{p.note}""")

# %% [markdown]
# **Differences from the paper.** Pairs there are the reward model's best against its worst of
# several responses; ours come from four writers and another judge, so bars or none differ here, and
# agree there. Its reward model has billions of parameters; ours has as many as the policy, and
# contradicts many labels (section 2). The script takes the policy's per-token margin for every
# objective [R]; so do we. There training follows SimPO's recipe [R], with a decaying rate, and
# language models judge [?]; here the rate is constant, and the judge the world's true reward,
# against the policy before training.
#
# ## In this chapter we saw
# - alignment potential as a line in the plane of two margins, that turns with the weight;
# - that it beats random pairs under four losses, and does as well as full data with 40% of the
#   examples; here the explicit margin alone does, too;
# - that with bars it does not read the label: harmless in the paper's setting, not in others;
# - a flat sweep of the weight, and an automatic one that drops the implicit margin at no loss;
# - that z-scores hide an exchange rate, which a few extreme pairs set.
#
# **Next**: both margins are guesses at what training on a pair would do. That can be computed.
#
# **References.** Alignment potential: Huang et al., ICML 2025,
# [2503.01864](https://arxiv.org/abs/2503.01864), code at
# [Hesse73/Alignment-Potential-Metric](https://github.com/Hesse73/Alignment-Potential-Metric). BeeS:
# [2502.14560](https://arxiv.org/abs/2502.14560). SimPO: Meng et al.,
# [2405.14734](https://arxiv.org/abs/2405.14734). IPO: Azar et al.,
# [2310.12036](https://arxiv.org/abs/2310.12036). SLiC: Zhao et al.,
# [2305.10425](https://arxiv.org/abs/2305.10425).

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
