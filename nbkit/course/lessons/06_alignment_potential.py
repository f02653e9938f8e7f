# %% [markdown]
# A reward model says: these two responses are far apart, this pair is worth learning from. The
# policy says: I find one of them much likelier already, this pair teaches me nothing. Lesson 05
# showed how often the two disagree. *Alignment potential*, $M_{AP}$ (Huang et al., ICML 2025,
# [2503.01864](https://arxiv.org/abs/2503.01864)), makes one number of both: **how far the policy's
# margin still is from the margin it should have**. We look at it as geometry, take it at its word
# in training, and then look at its bars, its labels and its weight.
#
# **You will be able to**
# - compute alignment potential by hand, and draw what its weight does;
# - say what it selects, and compare it with full data, random pairs and each margin alone, at equal
#   examples and at equal updates;
# - tell when it may be used with labels that are not the reward model's own;
# - judge a sweep of its weight, and a way to choose it without a sweep;
# - avoid four traps: beta, policy = reference, the pool, the warm-up.
#
# **Needs** [lesson 05](05_reward_margins.ipynb): explicit and implicit margins. **On a GPU**
# nothing changes here: the models are tiny. Lesson 11 makes the same calls with a real one.

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.course.profile()

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
from functools import partial

how = dict(learning_rate=1e-3, epochs=3, progress=False)  # as in lesson 05
others = {seed: world.pairs(count, seed=500 + seed) for seed in seeds}
jobs = {seed: partial(nb.train_reward_model, policy, others[seed], seed=seed, **how)
        for seed in seeds}  # fmt: skip
runs = nb.at_once(jobs, p.workers, desc="reward models")  # in `p.workers` processes
judges = {seed: run.reward_model for seed, run in runs.items()}

# %%
before = {seed: nb.response_logprobs(policy, data[seed], progress=False) for seed in seeds}


def margins(seed):
    """(explicit, implicit) margins of a data set: reward units, nats per token."""
    scored = nb.reward_scores(judges[seed], data[seed], progress=False)
    return nb.scores.explicit_margin(scored), nb.scores.length_normalized_margin(before[seed])


both = {seed: margins(seed) for seed in seeds}
explicit, implicit = both[0]
text = data[0].to_pandas().set_index("id").assign(explicit=explicit, implicit=implicit)

# %% [markdown]
# The **explicit** margin is r(chosen) − r(rejected), in the reward model's units. The **implicit**
# one is the policy's mean log-prob per token of the chosen response, minus that of the rejected,
# in nats per token. Four pairs, one from each corner, of those whose label the reward model is for.
# **Read them aloud, and predict**: which one can still teach this policy most?

# %%
sure, decided = explicit.abs().rank(pct=True), implicit.abs().rank(pct=True)
corners = {"judge sure, policy undecided": sure - decided, "both sure": sure + decided,
           "both undecided": -sure - decided, "judge unsure, policy decided": decided - sure}
four = [place[explicit > 0].idxmax() for place in corners.values()]
shown = ["prompt", "chosen", "rejected", "explicit", "implicit"]
text.loc[four, shown].set_axis(corners.keys()).round(2)

# %% [markdown]
# By the idea of the paper, the first: there is something to learn (the judge is sure), and it has
# not been learned (the policy is not). "The gap from the current implicit margin to the target
# explicit margin", says its abstract [P]. As a formula [?], and as the authors' script has it [R]:
#
# $$\underbrace{|\Delta r| - w\,|\Delta \hat r|}_{\text{the gap}} \qquad\qquad
# \underbrace{z(\Delta r) - w\, z(|\Delta \hat r|)}_{\text{the script}}, \quad
# z(x) = \frac{x - \text{mean}}{\text{sd}}$$
#
# | symbol | meaning | unit |
# |---|---|---|
# | $\Delta r$ | explicit margin, $r(y_w) - r(y_l)$: the target | reward units |
# | $\Delta \hat r$ | implicit margin, of the policy alone [R]: where it is now | nats per token |
# | $z$ | standardised over the pool: how unusual, instead of how large | standard deviations |
# | $w$ | price of an implicit margin: 1 for selecting, 2.5 in self-play [R] | none (under $z$) |
#
# The two margins have different units: subtracting them needs an exchange rate, and $z$ is one. The
# script has no bars around $\Delta r$: hold that thought until section 3. (DPO's own implicit
# margin, β × log-ratios, could stand for $\Delta \hat r$, too: section 5.) [P]: the paper's text.
# [R]: the released code. [?]: our reading.
#
# The script's rule by hand, for these four pairs as if they were all there is:

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
# Look at "both sure" again: the judge and the policy are sure of *opposite* responses. The score
# asks only how decided the policy is, not for which response, and counts that pair as learned. In
# section 4 we give it the sign.
#
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
def at_stake(seed):
    """Pairs in which one response has the right animal and the other has not."""
    frame = data[seed].to_pandas().set_index("id")
    right = [[world.grade(*row).correct for row in zip(frame.prompt, frame[side])]
             for side in ("chosen", "rejected")]  # fmt: skip
    return pd.Series(np.not_equal(*right), frame.index)

# %%
def contents(seed, selections):
    """What the selections of a data set hold: shares of pairs, and means."""
    frame = data[seed].to_pandas().set_index("id")
    tone = {side: [world.grade(*row).tone for row in zip(frame.prompt, frame[side])]
            for side in ("chosen", "rejected")}  # fmt: skip
    facts = pd.DataFrame({
        "wrong labels": frame.flipped, "reward model contradicts": both[seed][0] < 0,
        "chosen kinder": np.greater(tone["chosen"], tone["rejected"]),
        "animal at stake": at_stake(seed)})  # fmt: skip
    return pd.DataFrame({name: facts.loc[ids].mean() for name, ids in selections.items()})


def count_all(rules):
    tables = [contents(seed, {**rules(seed), "all pairs": both[seed][0].index}) for seed in seeds]
    return (sum(tables) / len(tables)).T.round(3)


count_all(three_rules)

# %%
stake = pd.concat([at_stake(s) for s in seeds])
wrong_label = pd.concat([data[s].to_pandas().set_index("id").flipped for s in seeds])
Markdown(f"""The first two columns belong together: what the reward model is sure of is seldom
mislabelled. The small implicit margin prefers wrong labels, if anything, and the last column says
why. In this world {wrong_label[stake].mean():.1%} of the labels are wrong where the animal is at
stake, and {wrong_label[~stake].mean():.0%} elsewhere: there, style decides, and the judge who made
the labels errs more. Where both animals are right or both wrong, the policy is often undecided. So
is the implicit margin worth its price? Only training can tell. {p.note}""")

# %% [markdown]
# Train, on each and on the controls: full data, and random pairs of equal size. At **equal
# examples** (one epoch each; full data makes 2.5 times as many updates) and at **equal updates**.
# **Predict**: the order of the selections. And does any of them beat full data?

# %%
import tempfile

from tqdm.auto import tqdm

settings = world.DPO[size]
folder = tempfile.TemporaryDirectory()  # finished runs: what two figures share is trained once
prompts = world.prompts(p.pick(quick=48, full=576))  # 192 questions; in full, 3 times each
budgets = ["examples", "updates"]
judged = dict(
    measures={"correct": lambda prompt, said: world.grade(prompt, said).correct,
              "tone": lambda prompt, said: world.grade(prompt, said).tone},
    temperature=0.7, max_new_tokens=16, budgets=["examples"],
    cache=folder.name, workers=p.workers, progress=False,
)  # fmt: skip

# %%
def compare(select, data=data, reference=before, seeds=seeds, **options):
    """`nb.compare` on each data set; `select(seed)` gives its selections: name -> ids."""
    how = {**judged, **settings, **options}
    return pd.concat([
        nb.compare(policy, data[seed], select(seed), prompts, world.reward, seeds=[seed],
                   reference=reference.get(seed), **how)
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
def gains(results, rows, metric="win_rate", budgets=budgets):
    """(name, over): mean difference within data sets, 95% interval, and the verdict."""
    return pd.DataFrame({
        f"equal {budget}": {f"{name} − {over}": nb.gain(results, name, over, metric=metric,
                                                        budget=budget) for name, over in rows}
        for budget in budgets})  # fmt: skip


rows = [("M_AP", over) for over in ("random", "explicit only", "implicit only", "full")]
rows += [("explicit only", over) for over in ("random", "full")]
gains(results, rows)

# %%
def answer(name, over):
    """The verdicts at both budgets, in words."""
    first, second = (nb.gain(results, name, over, budget=budget).verdict() for budget in budgets)
    if first == second:
        return f"{first} at both budgets"
    return f"{first} at equal examples, {second} at equal updates"


Markdown(f"""Differences are within {len(seeds)} data sets: what a draw of pairs, or of answers,
does to all runs cancels. So what does the table say?

- *Is it better than no rule?* $M_{{AP}}$ − random: {answer("M_AP", "random")}.
- *Does it need both margins?* − explicit only: {answer("M_AP", "explicit only")}; − implicit only:
  {answer("M_AP", "implicit only")}.
- *Should 60% be thrown away?* − full: {answer("M_AP", "full")}.

"Not clear of zero" is not "equal": as much may hide as the interval is wide. And a small set that
is repeated is not a small set that is seen once: at equal updates, each of its pairs is seen 2.5
times. {p.note}""")

# %% [markdown]
# **Predict**: what do the winners win with: kinder answers, or more right ones?

# %%
rows = [("M_AP", "random"), ("M_AP", "full"), ("M_AP", "explicit only"), ("explicit only", "full")]
pd.concat({metric: gains(results, rows, metric) for metric in ("tone", "correct")})

# %% [markdown]
# (Tone in units of reward, correct as a share of the answers.) A reward model that learned from
# answers of a few words reads tone more easily than facts (lesson 05), the labels that it helps to
# avoid are wrong about style, and a selection inherits the taste of its judge. So never read a win
# rate alone; and read the faint dots in the figure, too: a mean hides single runs.

# %% [markdown]
# ## 3 · Two bars, and who labels
# The gap has bars around $\Delta r$, the script has none. It needs none: its margin is the highest
# minus the lowest score that the reward model gave to any of the sampled responses, and those two
# are the pair [R]. That is never negative. Our reward model reads *somebody else's* labels, and
# may be against them. So put the bars in, $z(|\Delta r|)$, and take a coin for every pair: where it
# shows heads, exchange chosen and rejected. Both margins change their sign. **Predict**: what does
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

In the paper's setting this cannot happen: bars or none are the same there. They begin to matter
when the labels are somebody else's: people's, or, as here, another judge's. {p.note}""")

# %% [markdown]
# So there are three things to try. **No bars**: contradicted pairs come last. **Bars**, and our
# labels (equal examples only). Or the paper's setting: **the reward model labels**, so we exchange
# the pairs that it contradicts. It labels worse than our judge. **Predict**: in which order do they
# come out? And will correctness follow the win rate?

# %%
bars = compare(lambda seed: {"M_AP, with bars": bars_top(seed)})
own = {seed: nb.flip_labels(data[seed], margin.index[margin < 0])
       for seed, (margin, _) in both.items()}  # fmt: skip
relabelled = compare(lambda seed: {"M_AP": bars_top(seed)}, own, reference={}, budgets=budgets)

# %%
control = f"random {len(bars_top(0))}"
names = {"full": "all, relabelled", "M_AP": "M_AP, relabelled", control: "random, relabelled"}
labelled = pd.concat([results[results.selection.isin(names)],
                      bars[bars.selection == "M_AP, with bars"],
                      relabelled[relabelled.selection.isin(names)].replace(names)])  # fmt: skip
show(labelled, "Bars, no bars, and the reward model's own labels")

# %%
own_rows = [("M_AP, relabelled", "random, relabelled"), ("M_AP, relabelled", "all, relabelled"),
            ("all, relabelled", "full")]  # fmt: skip
rows = [("M_AP, with bars", over) for over in ("M_AP", "random", "full")]
pd.concat([gains(labelled, rows, budgets=["examples"]), gains(labelled, own_rows)]).fillna("")

# %%
wrong_now = [data[s].to_pandas().set_index("id").flipped ^ (both[s][0] < 0) for s in seeds]
taste = nb.gain(labelled, "all, relabelled", over="full")
right = nb.gain(labelled, "all, relabelled", over="full", metric="correct")
taught = ("more wrong labels, and a higher win rate. They teach the reward model's taste, and "
          "taste is part of what the test pays for" if taste.low > 0 else
          "more wrong labels do not raise the win rate")  # fmt: skip
Markdown(f"""If the reward model labels, {np.mean(wrong_now):.1%} of all labels are wrong, and
{np.mean([wrong[bars_top(s)].mean() for s, wrong in zip(seeds, wrong_now)]):.1%} of those that
$M_{{AP}}$ keeps: where it is sure, it errs less. Look at the last row: {taught}. (Share correct,
same row: {right}.) {p.note}""")

# %% [markdown]
# ## 4 · How much should the policy's opinion weigh?
# The paper leaves the choice of $w$ open [P]. A sweep costs a training run for each value. Our
# answer costs none: the $w$ that makes the score uncorrelated with the size of the implicit margin,
# which is the slope of the line from that to the explicit one, and 0 where the line falls
# (`nb.scores.residual_weight`).
#
# And is it read rightly at all? Two others read the implicit margin *with its sign*, in opposite
# ways. **Signed**, ours: a policy that is decided against the label has most to learn,
# $z(\Delta r) - z(\Delta \hat r)$. **BeeS** ([2502.14560](https://arxiv.org/abs/2502.14560)): both
# margins are witnesses for the label, so that a large implicit one speaks *for* a pair.
#
# **Predict**: where is the best $w$? And who is right about the implicit margin?

# %%
weights = [0, 0.5, 1, 2, 4]


def sweep(seed):
    explicit, implicit = both[seed]
    automatic = nb.scores.residual_weight(explicit, implicit)
    signed = explicit / explicit.std() - implicit / implicit.std()  # a mean moves no rank
    return {**{f"w = {weight:g}": map_top(seed, weight) for weight in weights},
            "w automatic": map_top(seed, automatic),
            "signed": nb.select.top(signed, 0.4),
            "BeeS": nb.select.top(nb.scores.bees(explicit, implicit), 0.4)}  # fmt: skip


swept = compare(sweep)
show(swept, "The weight, chosen by hand and by itself; and two other readings (equal examples)")

# %%
def shared(name):
    return np.mean([nb.overlap(sweep(seed)[name], map_top(seed)) for seed in seeds])


names = [*sweep(0)]
rows = {name: {"over random": nb.gain(swept, name), "shared with w = 1": f"{shared(name):.0%}",
               "correct, over random": nb.gain(swept, name, metric="correct")} for name in names}
pd.DataFrame(rows).T.join(count_all(sweep)["wrong labels"])

# %%
versus_one = {name: nb.gain(swept, name, "w = 1") for name in names if name != "w = 1"}
better = [name for name, gain in versus_one.items() if gain.verdict() == "above zero"]
worse = [name for name, gain in versus_one.items() if gain.verdict() == "below zero"]
related = pd.Series({seed: a.corr(b.abs()) for seed, (a, b) in both.items()})
Markdown(f"""**{"Better than w = 1: " + ", ".join(better) if better else "None beats w = 1"}**;
clearly worse: {", ".join(worse) or "none"}. (Seven comparisons; by chance alone one in twenty would
be clear of zero.) A flat sweep is no surprise where selections are nearly the same: with w = 1,
w = 0 shares {shared("w = 0"):.0%} of its pairs.

**The automatic weight** is the correlation of the explicit margin with the size of the implicit
one, or 0 if that is negative. Here the correlation is
{", ".join(f"{value:+.2f}" for value in related)}. At 0 the score *is* the explicit margin alone.
Over w = 1 it gains {versus_one["w automatic"]}; in correctness
{nb.gain(swept, "w automatic", "w = 1", metric="correct")}.

**With its sign**, over the explicit margin alone: signed {nb.gain(swept, "signed", "w = 0")}; BeeS
{nb.gain(swept, "BeeS", "w = 0")}. The two want opposite pairs, and share
{np.mean([nb.overlap(sweep(s)["signed"], sweep(s)["BeeS"]) for s in seeds]):.0%} of their
selections. Look at the wrong labels in the table: a policy that is decided against a label may be
right. {p.note}""")

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

logps = before[0]
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
# per-token margin of the policy before training? (Three data sets.)

# %%
some = seeds[: p.pick(quick=1, full=3)]
jobs = {seed: partial(nb.train_dpo, policy, data[seed], reference=before[seed], seed=seed,
                      progress=False, **settings) for seed in some}  # fmt: skip
warm = nb.at_once(jobs, p.workers)


def warmed(seed):
    after = nb.response_logprobs(warm[seed].policy, data[seed], progress=False)
    margin = nb.scores.implicit_margin(after, before[seed], settings["beta"])
    potential = nb.scores.alignment_potential(both[seed][0], margin)
    return {"M_AP": map_top(seed), "warmed up": nb.select.top(potential, 0.4)}

# %%
warm = compare(warmed, seeds=some)
Markdown(f"""After a warm-up, over random: {nb.gain(warm, "warmed up")}; over $M_{{AP}}$ by the
per-token margin: {nb.gain(warm, "warmed up", over="M_AP")} ({len(some)} data sets).

It costs a training run, which it has to earn. And it is another question: after one epoch a *small*
margin means "trained on it, and still undecided", which lesson 03 calls hard. {p.note}""")

# %% [markdown]
# ## 6 · Under other objectives
# The paper's second open question: does the selection depend on the loss that trains on it? The
# same selections, under four losses. (Settings that differ from `world.DPO` were found on data seed
# 100, by the win rate that 640 random pairs bring: SimPO learning rate 3e-4, γ 0.5; IPO β 1; SLiC
# as DPO.) For SimPO the per-token margin is, times β, its own reward. **Predict**: will one of them
# change the verdict on $M_{AP}$ against random pairs? Or on the explicit margin alone?

# %%
losses = {"SimPO": dict(loss="simpo", learning_rate=3e-4, simpo_gamma=0.5),
          "IPO": dict(loss="ipo", beta=1.0), "SLiC": dict(loss="hinge")}  # fmt: skip


def two_rules(seed):
    rules = three_rules(seed)
    return {name: rules[name] for name in ("M_AP", "explicit only")}


by_loss = {"DPO": results[results.budget == "examples"]}
by_loss |= {name: compare(two_rules, **loss) for name, loss in losses.items()}

# %%
def row(table):
    full = table[table.selection == "full"]
    return {"full: wins, right": f"{full.win_rate.mean():.3f}, {full.correct.mean():.3f}",
            "M_AP − random": nb.gain(table, "M_AP"),
            "M_AP − explicit only": nb.gain(table, "M_AP", over="explicit only"),
            "M_AP − full": nb.gain(table, "M_AP", over="full"),
            "correct, M_AP − random": nb.gain(table, "M_AP", metric="correct")}  # fmt: skip


pd.DataFrame({name: row(table) for name, table in by_loss.items()}).T

# %%
def clear(over):
    """Losses under which M_AP is above something, and under which it is below."""
    found = {name: nb.gain(table, "M_AP", over=over).verdict() for name, table in by_loss.items()}
    above = [name for name, verdict in found.items() if verdict == "above zero"]
    below = [name for name, verdict in found.items() if verdict == "below zero"]
    return f"above under {', '.join(above) or 'none'}; below under {', '.join(below) or 'none'}"


Markdown(f"""$M_{{AP}}$ against random pairs: {clear("random")}. Against the explicit margin alone:
{clear("explicit only")}. (Of {len(by_loss)} losses. What only one of them says, say with care.)

Do not read the column "M_AP − full" as a verdict on full data. It makes 2.5 times as many updates,
with settings that were found for 640 pairs: where it falls behind (look at its "right", too), it
may be overtrained. {p.note}""")

# %% [markdown]
# ## 7 · When this misleads
# - **Somebody else's labels.** Count how often the reward model contradicts a label in what you are
#   about to keep, `(explicit.loc[keep] < 0).mean()`. With bars such pairs rank high.
# - **The judge's taste.** The selection prefers what the reward model sees clearly. Ours sees tone.
# - **40% seen once is not 40% seen as long.** Say which budget a "better than full data" is at.
# - **The judge has read more.** Our reward model learned from as many labelled pairs again, which
#   random pairs and full data never saw. A public one has read far more. What training on those
#   pairs would bring is not in the comparison.
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
nb.course.exercises.check_alignment_potential(my_potential)

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
nb.course.exercises.check_tie_weight(my_tie_weight)

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
nb.course.exercises.check_residual_weight(my_residual_weight)

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
| $M_{{AP}}$ beats the existing metrics [P, abstract]: the explicit margin | \
{claim(results, "M_AP", "explicit only")} |
| ... the implicit margin | {claim(results, "M_AP", "implicit only")} |
| ... and random pairs, in the script's list [R] | {claim(results, "M_AP", "random")} |
| ... across objectives [P, abstract] | over random: {clear("random")}. Over explicit only: \
{clear("explicit only")}. (Equal examples) |
| *the same with the reward model's labels, as there:* over random | \
{claim(labelled, "M_AP, relabelled", "random, relabelled")} |
| the best 40% serve as well as all [?] | {claim(results, "M_AP", "full")} |
| ... with the reward model's labels | {claim(labelled, "M_AP, relabelled", "all, relabelled")} |
| *open* [P]: how to choose w | {"better than w = 1: " + ", ".join(better) if better else
"none beats w = 1"} |
| *not asked*: bars, with somebody else's labels | bars − none: \
{claim(labelled, "M_AP, with bars", "M_AP", ["examples"])} |

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
# ## In this lesson we saw
# - alignment potential as a line in the plane of two margins, that turns with the weight;
# - that it beats random pairs under four losses, and under DPO wins as often as full data with 40%
#   of the examples; here the explicit margin alone does both, and only under SimPO less;
# - that with bars it does not read the label: harmless in the paper's setting, not in others;
# - a flat sweep of the weight, and an automatic one that drops the implicit margin, with no loss of
#   win rate that five data sets could show;
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
