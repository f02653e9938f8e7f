# %% [markdown]
# Lesson 03 gave every pair a difficulty, the *validation loss*. Selective DPO (Gao et al.,
# [2502.09650](https://arxiv.org/abs/2502.09650)) draws a daring conclusion: **leave the hard pairs
# out**. Not because their labels are wrong, but because they are beyond the model. Less data,
# better model? We train both ways, with the controls that such a claim needs, and then ask the
# world, where the truth is known, *why* it comes out as it does.
#
# **You will be able to**
# - select pairs by difficulty, and say what the selection keeps and what it drops;
# - compare selections fairly: with random pairs of equal size, at equal examples and equal updates,
#   over data sets, with intervals;
# - tell exclusion from order, and from a noise filter, each by an experiment of its own;
# - find the best share to keep, with its uncertainty, for models of three capacities;
# - see what a win rate hides: correctness, tone, answers that fell apart.
#
# **Needs** [lesson 03](03_difficulty.ipynb): validation loss, and why folds are split by fact.
# **On a GPU** nothing changes here: the models are tiny. Lesson 11 makes the same calls with a
# real one.

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.course.profile()

# %% [markdown]
# ## 1 · What is kept, what is dropped?
# **The rule.** Rank the pairs by validation loss, keep the lowest $\tau$ per cent, and train with
# DPO on those, easiest first, once [P, section 4].
#
# $$S_\tau = \{\, d : \text{rank}\,\text{VL}(d) \le \tau n \,\}, \qquad
# \text{VL}(d) = \frac{1}{|K_d|} \sum_{k \in K_d} -\log \sigma\big(m_k(d)\big)$$
#
# | symbol | meaning | shape, unit |
# |---|---|---|
# | $d,\ n$ | a pair, and the number of pairs | |
# | $K_d$ | the reference models that were trained without $d$ (and without its fact) | models |
# | $m_k(d)$ | implicit margin of $d$ under model $k$ (lesson 01) | β × nats |
# | $\text{VL}(d)$ | validation loss: lower is easier | nats |
# | $\tau$ | share kept | 0 to 1 |
#
# Whatever we find must not hang on one lucky draw. So everything below is done on several **data
# sets**: fresh pairs from the same writers and judge, each with a training seed of its own.

# %%
import torch

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
size = p.pick(quick="small", full="medium")
policy = nb.load_policy(f"world/{size}", device="cpu")
seeds = p.pick(quick=[0, 1], full=[0, 1, 2, 3, 4])
few = seeds[:3]  # for side questions, and where trainings take long
data = {seed: world.pairs(p.pick(quick=96, full=1600), seed=seed) for seed in seeds}
held_out = world.pairs(p.pick(quick=48, full=300), part="validation")

# %%
import tempfile
from functools import cache

from tqdm.auto import tqdm

settings = world.DPO[size]
folder = tempfile.TemporaryDirectory()  # finished runs: what two figures share is trained once
jobs = dict(cache=folder.name, workers=p.workers, progress=False)
policies = {size: policy}


@cache
def reference(size, seed):
    """Log-probs before training, of a data set and the held-out pairs: scored once, used often."""
    parts = data[seed], held_out
    return pd.concat([nb.response_logprobs(policies[size], part, progress=False) for part in parts])


def difficulty(size=size, seeds=seeds):
    """Validation loss of each pair (nats), for each data set: seed -> Series by pair id."""
    how = dict(seeds=2, groups="fact", **jobs, **settings)  # two splits: four reference models
    return {seed: nb.validation_loss(policies[size], data[seed],
                                            reference=reference(size, seed), **how)
            for seed in tqdm(seeds, desc=size)}  # fmt: skip

# %%
loss = difficulty()


def around(place, count=3):
    """ids of some pairs at a place (0 easiest, 1 hardest) of the ranking."""
    ranked = nb.select.easiest(loss[0], 1.0)
    start = round(place * (len(ranked) - count))
    return ranked[start : start + count]

# %% [markdown]
# Here are pairs of one data set: from near either end of the ranking, and from its middle. **Read
# them aloud**: what makes a pair easy?

# %%
text = data[0].to_pandas().set_index("id").join(loss[0])
shown = ["prompt", "answer", "chosen", "rejected", "flipped", "validation_loss"]
places = {"easy": 0.02, "middle": 0.5, "hard": 0.98}
examples = {name: text.loc[around(place), shown] for name, place in places.items()}
pd.concat(examples).droplevel(1).round(2)

# %% [markdown]
# (`flipped`: the judge got this label wrong. We know it, the method does not.) Impressions from
# nine pairs prove nothing: count. What does the label of a pair teach, on average: chosen minus
# rejected, in rightness and tone? Lesson 03 has the whole table; here is what we need below.

# %%
def grades(frame, side):
    return pd.DataFrame(map(world.grade, frame.prompt, frame[side]), frame.index).astype(float)


def lesson(seed):
    """What each pair of a data set teaches, and whether its label is wrong."""
    frame = data[seed].to_pandas().set_index("id")
    teaches = grades(frame, "chosen") - grades(frame, "rejected")
    conflict = (teaches.correct > 0) & (teaches.tone < 0)  # the right answer is the ruder one
    return teaches.assign(conflict=conflict, rung=frame.rung, flipped=frame.flipped)


lessons = {seed: lesson(seed) for seed in seeds}

# %%
def kept_minus_dropped(what):
    """A column of `lessons`: mean of the easiest half minus mean of the hardest."""
    easy, hard = (pd.Series({seed: lessons[seed].loc[select(loss[seed], 0.5), what].mean()
                             for seed in seeds})
                  for select in (nb.select.easiest, nb.select.hardest))  # fmt: skip
    return nb.paired_gain(easy, hard)


def clear(gain):
    """Whether the interval leaves out zero."""
    return gain.verdict() in ("above zero", "below zero")

# %%
columns = {"wrong labels": "flipped", "the long tail": "rung", "conflicts": "conflict",
           "kindness": "tone"}  # fmt: skip
counted = {name: kept_minus_dropped(column) for name, column in columns.items()}
part_of_it = [name for name, gain in counted.items() if clear(gain)]
Markdown(f"""Kept minus dropped, so that we know what we are about to leave out ({len(seeds)} data
sets, mean and 95% interval):

- **wrong labels** (share): {counted["wrong labels"]}
- **the long tail** (rung: 1 often told, 6 the long tail): {counted["the long tail"]}
- **conflicts** (share of pairs whose right answer is the ruder one): {counted["conflicts"]}
- **kindness** of the chosen over the rejected (units of reward): {counted["kindness"]}

Clear of zero, and so part of what "hard" means here: {", ".join(part_of_it) or "none"}. Section 5
takes them apart. {p.note}""")

# %% [markdown]
# ## 2 · Full, random, easiest, hardest
# Four ways to spend the same pairs. A selection has fewer of them, so there are two fair ways to
# compare it with full data, and each favours somebody:
#
# - **equal examples**: one epoch each. Full data makes twice as many updates as a half.
# - **equal updates**: the half is repeated until it has made as many updates as full data.
#
# Against a *random* half both are fair. `nb.compare` trains everything, adds full data and the
# random control by itself, lets each policy answer questions about facts that are in no pair, and
# has the answers judged. **We also measure what the judge does not tell apart**: is the answer
# right, how kind is it, and is it a sentence of this world at all?

# %%
from itertools import product

phrases = product(world.OPENINGS, world.ANIMALS, world.CLOSINGS)
sentences = {world.compose(*phrase) for phrase in phrases}

# %%
measures = {
    "correct": lambda prompt, response: world.grade(prompt, response).correct,
    "tone": lambda prompt, response: world.grade(prompt, response).tone,
    "a sentence": lambda prompt, response: response in sentences,
}
prompts = world.prompts(p.pick(quick=48, full=384))  # 192 questions; in full, twice each
sampling = dict(temperature=0.7, max_new_tokens=16)
judged = dict(measures=measures, held_out=held_out, **sampling, **jobs)

# %%
def compare(select, size=size, seeds=seeds, **options):
    """`nb.compare` on each data set; `select(seed)` gives its selections: name -> ids."""
    how = {"budgets": ["examples"], **judged, **settings, **options}
    tables = []
    for seed in tqdm(seeds, desc=size):
        known = {"reference": reference(size, seed), "seeds": [seed], **how}
        tables.append(nb.compare(policies[size], data[seed], select(seed), prompts, world.reward,
                                 **known))  # fmt: skip
    return pd.concat(tables, ignore_index=True)

# %%
def easiest_and_hardest(seed):
    return {"easiest 50%": nb.select.easiest(loss[seed], 0.5),
            "hardest 50%": nb.select.hardest(loss[seed], 0.5)}  # fmt: skip

# %% [markdown]
# **Predict** before you run the next cell: the win rates (against the policy before training) of
# full data, random half, easiest half and hardest half. In which order? Is the hardest half above
# ½? And will the share of *correct* answers have the same order?

# %%
results = compare(easiest_and_hardest, budgets=["examples", "updates"])
half = len(data[0]) // 2
random_half = f"random {half}"
columns = ["pairs", "updates", "win_rate", "correct", "tone", "a sentence", "accuracy"]
results.groupby(["budget", "selection"], sort=False)[columns].mean().round(3)

# %% [markdown]
# `accuracy`: share of the held-out pairs (other facts) that the trained policy has on the judge's
# side.
#
# One row of this by hand, so that nothing is hidden: train, let both policies answer, judge.

# %%
keep = nb.select.easiest(loss[0], 0.5)
run = nb.train_dpo(policy, data[0], keep, seed=0, progress=False, **settings)
how = dict(sampling, progress=False)
before = nb.sample(policy, prompts, seed=1, **how)
after = nb.sample(run.policy, prompts, seed=0, **how)
pay = [[world.reward(*said) for said in zip(prompts["prompt"], who)] for who in (after, before)]
by_hand = np.mean([(new > old) + 0.5 * (new == old) for new, old in zip(*pay)])

row = results.query("selection == 'easiest 50%' and budget == 'examples' and seed == 0").iloc[0]
assert abs(by_hand - row.win_rate) < 1e-9
Markdown(f"By hand {by_hand:.4f}, in the table {row.win_rate:.4f}.")

# %% [markdown]
# **A trap**: look at `before`, the policy against itself. In each data set it meets another draw of
# its own answers, and so do all runs of that data set (lesson 02: the luck of the draw). How large
# is that luck beside what we look for?

# %%
def by_seed(results, name, metric="win_rate", budget="examples"):
    """One measured column of a selection: Series by data set."""
    rows = results[(results.selection == name) & (results.budget == budget)]
    return rows.set_index("seed")[metric]


luck = by_seed(results, "before")
Markdown(f"""`before` in the {len(luck)} data sets: {", ".join(f"{value:.3f}" for value in luck)};
standard deviation {luck.std():.3f}. The easiest half over full data, within each data set:
{nb.gain(results, "easiest 50%", over="full")}. {p.note}""")

# %% [markdown]
# So we subtract what a data set's runs share: every run **minus full data of the same data set**.

# %%
def minus_full(results):
    """Every measured column, minus that of full data in the same data set and budget."""
    measured = results.columns.drop(["selection", "seed", "budget", "pairs", "updates"])
    full = results[results.selection == "full"].set_index(["seed", "budget"])[measured]
    runs = pd.MultiIndex.from_frame(results[["seed", "budget"]])
    return results.assign(**results[measured] - full.loc[runs].to_numpy())

# %% tags=["picture"]
import matplotlib.pyplot as plt


def show(results, title, metrics=("win_rate", "correct")):
    """Metrics side by side, minus full data (the line at 0)."""
    width = 5 + 3.5 * len(metrics)
    fig, axes = plt.subplots(1, len(metrics), figsize=(width, 4.5), sharey=True, squeeze=False,
                             layout="constrained")  # fmt: skip
    for ax, metric in zip(axes[0], metrics):
        label = {"win_rate": "win rate", "correct": "share correct"}.get(metric, metric)
        label = f"{label}, minus full data"
        nb.plots.comparison(minus_full(results), ax, metric=metric, xlabel=label)
        ax.axvline(0, color="0.2", linewidth=1, zorder=0)
    fig.suptitle(title)


show(results, "Who wins (left), and who is right (right)? Dashed: before training")

# %%
budgets = ["examples", "updates"]


def says(name, over, metric="win_rate", budget="examples"):
    return nb.gain(results, name, over=over, metric=metric, budget=budget)

# %%
table = []
for budget in budgets:
    for metric in ("win_rate", "correct", "a sentence", "tone", "accuracy"):
        over = [str(says("easiest 50%", other, metric, budget)) for other in ("full", "random")]
        table.append(" | ".join(["", budget, metric, *over, ""]))
Markdown("\n".join(["The easiest half, mean difference within data sets and 95% interval:", "",
    "| equal | | minus full | minus random half |", "|---|---|---|---|", *table]))  # fmt: skip

# %%
def of_sentences(name):
    """Share right among the answers that are sentences, by data set (equal updates)."""
    right, whole = (by_seed(results, name, what, "updates") for what in ("correct", "a sentence"))
    return right / whole


easy, full = of_sentences("easiest 50%"), of_sentences("full")
whole = {name: by_seed(results, name, "a sentence", "updates").mean()
         for name in ("easiest 50%", "full")}  # fmt: skip
Markdown(f"""Read the rows together; of many 95% intervals one in twenty misses by chance: trust
patterns over single rows. At equal updates {whole["easiest 50%"]:.1%} of the easiest half's answers
are sentences of this world at all (full: {whole["full"]:.1%}). Of those that are, {easy.mean():.1%}
are right (full: {full.mean():.1%}; paired: {nb.paired_gain(easy, full)}). The rest of the change in
correctness is answers that are no sentence: phrases that break (lesson 02 shows one way [?]).
{p.note}""")

# %% [markdown]
# Where `accuracy` falls while the win rate rises: our reading, untested [?], is that the held-out
# pairs have conflicts and wrong labels, as all pairs have, and that a policy which was spared them
# goes for tone.
#
# ## 3 · Is it the exclusion, or the order?
# Selective DPO also trains easy to hard, a *curriculum*. Above, everything was shuffled. Two more
# runs: the same easiest half, sorted; and **all** pairs, sorted. **Predict**: does sorting help?
# And if all pairs are used, can the order replace the exclusion?

# %%
def in_some_order(seed):
    easy_first = nb.select.easiest(loss[seed], 1.0)
    return {"easiest 50%": easy_first[:half], "easiest 50%, sorted": easy_first[:half],
            "all, sorted": easy_first}  # fmt: skip

# %%
in_order = ["easiest 50%, sorted", "all, sorted"]
ordered = compare(in_some_order, in_order=in_order, budgets=budgets)
show(ordered[ordered.selection != "before"], "The same pairs in another order", ["win_rate"])

# %%
def of_order(name, over):
    return {budget: nb.gain(ordered, name, over=over, budget=budget) for budget in budgets}


def no_difference(gains):
    """Whether no gain is clear of zero, and how far from zero they could still be."""
    reach = max(abs(end) for gain in gains for end in (gain.low, gain.high))
    if any(map(clear, gains)):
        return "does not agree with"
    return f"agrees, within ±{reach:.3f} of zero, with"


by_sorting = of_order("easiest 50%, sorted", "easiest 50%")
exclusion = of_order("easiest 50%", "all, sorted")
curriculum = of_order("all, sorted", "full")["examples"]
order_matters_not = no_difference(by_sorting.values())
Markdown(f"""**Order.** The same half, sorted minus shuffled: {by_sorting["examples"]} (equal
examples); {by_sorting["updates"]} (equal updates). That {order_matters_not} the paper's own
ablation, in which shuffled easy pairs do as well as sorted ones [P]. All pairs, sorted minus
shuffled: {curriculum}.

**Exclusion.** Leaving the hard half out, rather than putting it last: {exclusion["examples"]}
(equal examples: it makes half the updates), {exclusion["updates"]} (equal updates). {p.note}""")

# %% [markdown]
# ## 4 · How much to keep, and does it depend on capacity?
# A larger model should stand harder pairs. The paper finds the best share at 63.7%, 71.2% and 81.3%
# for models of 3, 7 and 14 billion parameters [P], as the peak of a parabola through ten runs each.
# Our three policies are far smaller; each measures its own difficulty and is trained on its own
# easiest pairs. (The large one costs most: it has the first three data sets only.)
#
# Mind the budget: at equal examples, a smaller share also means **fewer updates**, and for that
# reason alone a small share does worse. The dashed line, random pairs of the same number, says how
# much.
#
# **Predict**: which way will the peak move?

# %%
shares = [0.3, 0.5, 0.75]  # and full data
policies = {name: nb.load_policy(f"world/{name}", device="cpu") for name in
            p.pick(quick=["small"], full=["small", "medium", "large"])}  # fmt: skip
own = {size: loss}
for name in policies.keys() - {size}:
    own[name] = difficulty(name, few if name == "large" else seeds)
{name: f"{policy.model.num_parameters():,} parameters" for name, policy in policies.items()}

# %%
def share_results(name):
    """Easiest shares under the policy's own difficulty, full data, and random controls."""
    def select(seed):
        return {f"easiest {share:.0%}": nb.select.easiest(own[name][seed], share)
                for share in shares}  # fmt: skip

    table = compare(select, name, seeds=list(own[name]))
    return table.assign(share=(table.pairs / len(data[0])).round(2))


by_policy = {name: share_results(name) for name in policies}
differences = pd.concat({name: minus_full(table.drop(columns="share")).assign(share=table.share)
                         for name, table in by_policy.items()}, names=["policy"])  # fmt: skip
differences = differences.reset_index("policy")
kind = differences.selection.str.split().str[0]

# %%
import seaborn as sns

fig, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
for ax, metric in zip(axes, ["win_rate", "correct"]):
    nb.plots.share_curve(differences[kind.isin(["easiest", "full"])], ax, metric=metric,
                         hue="policy", parabola=metric == "win_rate")  # fmt: skip
    sns.lineplot(differences[kind.isin(["random", "full"])], x="share", y=metric, hue="policy",
                 palette="colorblind", errorbar=None, linestyle="--", legend=False,
                 ax=ax)  # fmt: skip
    ax.set_ylabel(f"{metric.replace('_', ' ')}, minus full data")
    ax.axhline(0, color="0.2", linewidth=1, zorder=0)
    ax.get_legend().remove()
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
fig.suptitle("The easiest share (solid) and as many random pairs (dashed)");

# %%
def curve(name):
    """The win rates of a policy's easiest shares and full data: columns `share, seed, win_rate`."""
    table = by_policy[name]
    return table[~table.selection.str.startswith(("before", "random"))]


def places(name):
    """Win rates: a row for each data set, a column for each share."""
    return curve(name).pivot(index="seed", columns="share", values="win_rate")


peaks = {name: nb.parabola_peak(places(name)) for name in policies}
most = f"easiest {shares[-1]:.0%}"
rows = {}
for name, table in by_policy.items():
    rows[name] = {"data sets": table.seed.nunique(), "best share": peaks[name],
                  "best share, 30% left out": nb.parabola_peak(places(name).iloc[:, 1:]),
                  f"win rate, {most} − full": nb.gain(table, most, over="full"),
                  f"win rate, {most} − random": nb.gain(table, most, over="random"),
                  f"correct, {most} − full": nb.gain(table, most, over="full",
                                                     metric="correct")}  # fmt: skip
pd.DataFrame(rows).T

# %% [markdown]
# Does the peak move? Those intervals are bootstraps over data sets: too narrow for so few. So we
# pair, as everywhere: the peak of each single data set, largest policy minus smallest.

# %%
def vertex(name):
    """Place of the peak in each single data set."""
    table = places(name)
    return pd.Series({seed: nb.parabola_peak(table.loc[[seed]]).value for seed in table.index})


def won(name):
    """Win rate over full data in each data set."""
    return by_seed(by_policy[name], most) - by_seed(by_policy[name], "full")


def with_capacity(measured):
    """Largest policy minus smallest, on the data sets that both have."""
    smallest, largest = (measured(list(policies)[place]) for place in (0, -1))
    both = smallest.index.intersection(largest.index)
    return nb.paired_gain(largest[both], smallest[both])

# %%
moved, grown = with_capacity(vertex), with_capacity(won)
ways = {"above zero": "rises with capacity", "below zero": "falls with capacity"}
moves = ways.get(moved.verdict(), "is not shown to move with capacity")
Markdown(f"""**The place of the peak** {moves}; in the paper it rises. Largest minus smallest policy
(share of pairs, {moved.n} data sets): {moved}. This takes the parabola for the truth; how much
hangs on that, the table shows: the same fit without the smallest share.

**The size of the gain** over full data {ways.get(grown.verdict(), "is not shown to move")}: largest
minus smallest {grown}. {p.note}""")

# %% [markdown]
# What does the cut remove? A suspect, our reading, untested [?]: if the wrong labels set the best
# share, it has no reason to rise, for they are the same pairs for all three policies, and a better
# model only puts them further back. How far back can be counted.

# %%
def cell(values):
    return f"{nb.seed_interval(values):.2f}"


rows = []
for name, losses in own.items():
    for seed, scores in losses.items():
        wrong = lessons[seed].flipped
        last_30 = nb.select.hardest(scores, 0.3)
        rows.append({"policy": name, "seed": seed,
                     "wrong labels found in the hardest 30%": wrong[last_30].sum() / wrong.sum(),
                     "mean rung there": lessons[seed].rung[last_30].mean()})  # fmt: skip
found = pd.DataFrame(rows).drop(columns="seed")
found.groupby("policy").agg(cell).reindex(list(policies))

# %% [markdown]
# (A random 30% would hold 30% of them, at mean rung 3.5.) If the second column falls towards 3.5
# with capacity, then what a larger policy leaves out is no longer the long tail.
#
# ## 5 · Why does it win?
# Section 1 left suspects: wrong labels, tone, and what is hard for other reasons. We know the
# truth, so each gets its own half, all of (nearly) equal size:
#
# - **right labels, random**: drawn from the correctly labelled pairs. If this does as well as the
#   easiest half, difficulty is a noise filter.
# - **right labels, easiest** and **right labels, hardest** of the correctly labelled. What is left
#   of difficulty when no label is wrong? Do hard pairs hurt then?
# - **right and kinder, random**: correctly labelled *and* the chosen answer has the better tone. It
#   knows nothing about difficulty. (Kinder pairs have fewer wrong labels: without "right" we would
#   measure both at once.) Compare it with "right labels, random".
#
# **Predict**: which half comes out on top? Is the hardest half without wrong labels below `before`?

# %%
def suspects(seed):
    right = loss[seed][~lessons[seed].flipped]
    kinder = right[lessons[seed].tone[right.index] > 0]
    enough = range(min(half, len(kinder)))  # they may fall short of a half
    return {
        "easiest 50%": nb.select.easiest(loss[seed], half),
        "right labels, random": nb.select.random(range(half), right, seed),
        "right labels, easiest": nb.select.easiest(right, half),
        "right labels, hardest": nb.select.hardest(right, half),
        "right and kinder, random": nb.select.random(enough, kinder, seed),
    }

# %%
why = compare(suspects)
shown = ["full", random_half, *suspects(0)]
show(why[why.selection.isin(shown)], "Halves of equal size (equal examples)")

# %%
def part(name, over, metric="win_rate"):
    return nb.gain(why, name, over=over, metric=metric)


rest = part("right labels, easiest", "right labels, random")
kinder = part("right and kinder, random", "right labels, random")
Markdown(f"""The easiest half gains over random pairs: {part("easiest 50%", random_half)}. Apart:

- **right labels**, nothing else, over random pairs: {part("right labels, random", random_half)};
- **tone**, where no label is wrong: {kinder};
- **difficulty**, where no label is wrong: {rest}. So it is
  {"more than" if rest.low > 0 else "not shown to be more than"} a noise filter;
- the easiest half over right and kinder pairs: {part("easiest 50%", "right and kinder, random")};
  in correct answers {part("easiest 50%", "right and kinder, random", "correct")}.

(These overlap, and do not add up.) {p.note}""")

# %%
hurt = {"hardest 50%": says("hardest 50%", "before"),
        "right labels, hardest": part("right labels, hardest", "before")}  # fmt: skip
words = {"below zero": "hurts", "above zero": "still helps"}
does = {name: words.get(gain.verdict(), "is not shown to hurt") for name, gain in hurt.items()}
less_than_random = part("right labels, hardest", "right labels, random")
Markdown(f"""**Do hard pairs hurt?** Against `before`, no training at all, the hardest half
{does["hardest 50%"]} (equal examples): {hurt["hardest 50%"]}. Where no label is wrong it
{does["right labels, hardest"]}: {hurt["right labels, hardest"]}; there, over random pairs of
right labels: {less_than_random}. {p.note}""")

# %% [markdown]
# If hard pairs hurt because their labels are wrong, one could **exchange** chosen and rejected in
# the hardest 40%, and train on all. The paper tries this, and it does not help [P]. An edited data
# set can stand where ids do. **Predict**: against full data? Against leaving them out?

# %%
def exchanged(seed):
    hard = nb.select.hardest(loss[seed], 0.4)
    return {"hardest 40% exchanged": nb.flip_labels(data[seed], hard)}


how = dict(budgets=["updates"], reference=None)  # new pairs: score them anew
edited = compare(exchanged, seeds=few, **how)
edited = edited[edited.selection == "hardest 40% exchanged"]
flips = pd.concat([edited, results[results.budget == "updates"]])
swap = {over: nb.gain(flips, "hardest 40% exchanged", over=over, budget="updates")
        for over in ("full", "easiest 50%")}  # fmt: skip
hard_wrong = np.mean([lessons[s].flipped[nb.select.hardest(loss[s], 0.4)].mean() for s in few])
tone, right = (nb.gain(flips, "hardest 40% exchanged", over="full", metric=what, budget="updates")
               for what in ("tone", "correct"))  # fmt: skip
Markdown(f"""Exchanged, win rate over full data ({len(few)} data sets): {swap["full"]}; correct
answers: {right}; tone: {tone}. Over the easiest half (all at equal updates):
{swap["easiest 50%"]}.

Of the exchanged labels {hard_wrong:.0%} were wrong: all the others are wrong now. Where such data
*win* all the same, our reading, untested [?]: an exchanged conflict teaches that the kinder answer
is the better one, whether or not it is right. {p.note}""")

# %% [markdown]
# ## 6 · Another model's difficulty, and a length control
# Four or six reference models cost more than the training itself. Could a small model's ranking
# serve a larger one? The paper says that another model's curriculum helps less than one's own [P].
# And are the *selected* pairs of another length than the rest? Then a control must have the same
# lengths.

# %%
tokens = {seed: reference(size, seed).chosen_tokens[list(data[seed]["id"])] for seed in few}


def others(seed):
    mine = nb.select.easiest(loss[seed], half)
    matched = nb.select.random_matched(mine, tokens[seed], seed)
    return {"easiest 50%": mine, "random, same lengths": matched,
            "easiest 50% for small": nb.select.easiest(small[seed], half)}  # fmt: skip

# %%
small = own.get("small", loss)
borrowed = compare(others, seeds=few)
show(borrowed[borrowed.selection != "before"], "Whose difficulty? And is it length?", ["win_rate"])

# %%
agree = [small[seed].corr(loss[seed], method="spearman") for seed in few]
mine, theirs = (nb.gain(borrowed, name) for name in ("easiest 50%", "easiest 50% for small"))
less = nb.gain(borrowed, "easiest 50% for small", over="easiest 50%")
same_lengths = nb.gain(borrowed, "easiest 50%", over="random, same lengths")
longer = nb.gain(borrowed, "easiest 50%", over="full", metric="length")
Markdown(f"""**Whose difficulty?** The two models' rankings agree with Spearman
{np.mean(agree):.2f} ({len(few)} data sets). Over random pairs, the small model's easiest half:
{theirs}. The policy's own: {mine}. Borrowed minus own: {less}.

**Length.** Over random pairs of the same lengths: {same_lengths}. Answers of the trained policy,
tokens more than after full data: {longer}. {p.note}""")

# %% [markdown]
# ## 7 · Does the schedule matter?
# All runs above have a constant learning rate. Usual recipes let it decay to zero (the paper's is a
# cosine). The same comparison with a linear decay, again on the first data sets only.
# **Predict**: will the gain over full data be larger or smaller?

# %%
decayed = compare(lambda seed: {"easiest 50%": nb.select.easiest(loss[seed], half)},
                  seeds=few, schedule="linear")  # fmt: skip
both = {"constant": results[results.seed.isin(few) & (results.budget == "examples")],
        "linear decay": decayed}  # fmt: skip

# %%
fig, axes = plt.subplots(1, 2, figsize=(12, 2.6), sharex=True, layout="constrained")
for ax, (name, table) in zip(axes, both.items()):
    shown = minus_full(table).query("selection not in ['before', 'hardest 50%']")
    nb.plots.comparison(shown, ax, xlabel="win rate, minus full data")
    ax.axvline(0, color="0.2", linewidth=1, zorder=0)
    ax.set_title(name)

# %%
steady, fading = (by_seed(table, "easiest 50%") - by_seed(table, "full") for table in both.values())
change = nb.paired_gain(fading, steady)
words = {"above zero": "larger", "below zero": "smaller"}
differs = words.get(change.verdict(), "not shown to differ")
intact = {name: by_seed(table, "easiest 50%", "a sentence").mean() for name, table in both.items()}
Markdown(f"""Easiest half over full data ({change.n} data sets): {steady.mean():+.3f} at a
constant rate, {fading.mean():+.3f} with the decay. That is {differs}; decay minus constant, paired:
{change}. Answers that are sentences: {intact["constant"]:.1%} and {intact["linear decay"]:.1%}.

The decay also halves the summed rate, so the model goes less far: which of the two does it is not
separated here. Report a selection together with its schedule. {p.note}""")

# %% [markdown]
# ## 8 · Move the cut yourself
# One data set: what a share keeps and drops, its wrong labels, and where that share lies on the
# curve of section 4 (without the luck of section 2: minus `before`, plus ½). First the picture,
# then with a handle (it needs a running kernel; its right axis means the same).

# %%
flipped = lessons[0].flipped.astype(bool).rename("wrong labels")
levels = curve(size)
levels = levels.assign(win_rate=levels.win_rate - levels.seed.map(luck) + 0.5)
axes = nb.plots.kept_and_dropped(loss[0], shares[-1], curve=levels, marks=flipped)
axes[1].set_ylabel("win rate, minus `before`, plus ½");

# %%
nb.widgets.share_slider(loss[0], data[0], curve=levels, marks=flipped)

# %% [markdown]
# **Try**: move the cut from 50% to 90%, and read the pairs around it. From which share on would
# *you* drop them? Watch how the wrong labels enter.
#
# ## 9 · When this misleads
# - **A win rate pays for what its judge rewards.** Here that is tone as well as knowledge. Look at
#   correctness, at broken answers, at samples. With a real judge nobody hands you these columns.
# - **No control, no finding.** Always ask what a random half would have done, and a cleaned one.
# - **A mean hides single runs.** Look at the faint dots: where correctness has a wide interval, it
#   may be one run that broke its phrases.
# - **Easy is not good.** The pairs that a model finds easy are those that agree with most others.
#   A minority's taste, a rare skill, a fact against the common habit are *hard* in this sense.
# - **A share tuned on the test flatters.** The paper's headline uses τ = 50 throughout [P]; its
#   peaks are read off curves of an AlpacaEval-type judge [?]. Here the settings `world.DPO` were
#   searched on other data seeds but on these same questions (`nbkit/world/README.md`).
# - **Intervals here are over data and training seeds**: questions, starting weights and world are
#   the same in all. They say nothing about other worlds.
# - **Two splits, not three**: our losses are noisier than with the paper's six models.
#
# ## 10 · Exercises
# Write the body of each function, then run the check below it.

# %% tags=["setup"]
import math

from scipy import stats

# %% [markdown]
# ### Exercise 1 · Equal updates
# *5 minutes · easy · you can compare a small selection with full data at the same training effort*
#
# Training on all pairs takes `epochs` epochs. How many times is each kept pair seen, on average,
# when training on the kept pairs makes just as many optimizer updates? The last batch of an epoch
# may be smaller than the others; it is an update, too.
#
# <details><summary>Hint</summary>
# Updates of an epoch: <code>math.ceil(pairs / batch_size)</code>. How many does one pass over the
# kept pairs make?
# </details>

# %%
def my_passes(pairs_full, pairs_kept, batch_size, epochs):
    """Passes over the kept pairs, a float."""
    ### BEGIN SOLUTION
    updates = epochs * math.ceil(pairs_full / batch_size)
    return updates / math.ceil(pairs_kept / batch_size)
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_equal_updates(my_passes)

# %% [markdown]
# ### Exercise 2 · Is it a gain?
# *10 minutes · medium · you can say how sure a difference between a few runs is*
#
# `a` and `b` are win rates by training seed, in any order. What a seed does to both runs cancels in
# their difference. Return the mean gain of a over b, and the ends of its 95% interval by Student's
# t.
#
# <details><summary>Hint</summary>
# pandas subtracts Series by their index. The half-width is
# <code>stats.t.ppf(0.975, n - 1)</code> times the standard error, the standard deviation
# (<code>ddof=1</code>) divided by √n.
# </details>

# %%
def my_paired_gain(a, b):
    """(value, low, high) of the gain a - b; two Series of win rates indexed by seed."""
    ### BEGIN SOLUTION
    gains = a - b
    error = gains.std(ddof=1) / len(gains) ** 0.5
    half = stats.t.ppf(0.975, len(gains) - 1) * error
    return gains.mean(), gains.mean() - half, gains.mean() + half
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_paired_gain(my_paired_gain)

# %% [markdown]
# ### Exercise 3 · The best share to keep
# *5 minutes · easy · you can find the peak of a noisy curve as the paper does*
#
# Fit a parabola to the win rates by least squares, and return the share at which it is highest.
#
# <details><summary>Hint</summary>
# <code>np.polyfit(shares, win_rates, 2)</code> returns a, b, c of a x² + b x + c. Where is the
# derivative zero?
# </details>

# %%
def my_best_share(shares, win_rates):
    """Share at the maximum of the fitted parabola; two arrays [runs]."""
    ### BEGIN SOLUTION
    a, b, _ = np.polyfit(shares, win_rates, 2)
    return -b / (2 * a)
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_parabola_peak(my_best_share)

# %% [markdown]
# ## 11 · The paper said, we measured
# [P]: from the paper's text. [R]: its released code. [?]: our reading. All gains are in win rate,
# within each data set, mean and 95% interval. Of many 95% intervals one in twenty misses by chance:
# trust patterns over single rows.

# %%
def claim(gain, sign=1):
    """A gain, and whether its sign is the one that the paper found."""
    agrees, opposite = ("above zero", "below zero")[::sign]
    words = {agrees: "agrees", opposite: "opposite"}
    return f"{gain}: {words.get(gain.verdict(), 'not shown')}"


def in_both(over, metric="win_rate"):
    """Selective DPO, sorted as the paper's is, at equal examples and at equal updates."""
    return [nb.gain(ordered, "easiest 50%, sorted", over=over, metric=metric, budget=budget)
            for budget in budgets]  # fmt: skip


over_full, over_random, left_out = (" · ".join(map(claim, gains)) for gains in
                                    (in_both("full"), in_both("random"), exclusion.values()))
correct = " · ".join(map(str, in_both("full", "correct")))
at_peak = ", ".join(f"{name} {peak}" for name, peak in peaks.items())

# %%
Markdown(f"""
| the paper said | we measured |
|---|---|
| Easiest 50%, sorted, beats full data [P]: AlpacaEval 2 LC/WR, Mistral-7B 15.1/12.5 → 27.1/28.9, \
Llama-3-8B 18.2/15.5 → 24.9/25.3 | {over_full} |
| ... *(our control: random pairs of equal size)* | {over_random} |
| *(not asked: correct answers, over full data)* | {correct} |
| Hard pairs hurt [P] | hardest half over random {claim(says("hardest 50%", "random"), -1)}; over \
`before` {claim(hurt["hardest 50%"], -1)}; *without wrong labels* over `before` \
{claim(hurt["right labels, hardest"], -1)} |
| Order does not matter [P] | sorted over shuffled half {by_sorting["examples"]} · \
{by_sorting["updates"]}: {order_matters_not} the paper |
| ... but exclusion does [P] | leaving out over putting last {left_out} |
| The best share rises with capacity: 63.7, 71.2, 81.3% [P] | largest minus smallest policy \
{claim(moved)} ({at_peak}) |
| Exchanging the hardest 40% does not help [P] | over full data {claim(swap["full"], -1)}; over \
the easiest half {claim(swap["easiest 50%"], -1)} |
| Another model's curriculum helps less [P] | borrowed minus own {claim(less, -1)} |

Two values: equal examples · equal updates. The large policy, exchange and another model:
{len(few)} data sets, else {len(seeds)}. {p.note}""")

# %% [markdown]
# **Where it does not replicate, why?** Our reading, untested [?]: our questions are about other
# facts than the pairs, so what a policy can win here is tone, and saying more surely what it knows.
# No selection can teach it the answers. Wrong labels and conflicts are part of the difficulty
# (sections 1 and 4), and they do not go away with capacity. Our responses are a few words long:
# exchange a pair, and the new chosen one is still a good sentence. And how hard the settings train
# may decide which effects can be seen at all. Whether the wins on AlpacaEval are of the same kind,
# a world like this cannot say.
#
# **Differences from the paper.** Six reference models there, four here (two splits instead of
# three); our folds are split by fact, not at random. β 0.01 and a cosine schedule there, β 2 and a
# constant rate here. Our runs are shuffled except in section 3 and
# the table's first rows. Judge: the world's true reward,
# without noise, against the policy before training; there GPT-4 against a fixed model's answers.
# The released code averages the loss over five evaluation points (`points=5` does), joins the pairs
# by prompt, so that duplicates get lost, and has the share 0.5 hard-wired [R].
#
# ## In this lesson we saw
# - what a selection by difficulty keeps and drops, counted, before any training;
# - that "better than full data" needs two budgets, a random control, and differences within data
#   sets, since all its runs share the luck of a draw;
# - how order, label noise, tone, length, another model and the schedule each get an experiment of
#   their own;
# - that "wins more often" and "is right more often" are two questions;
# - which of the paper's findings hold in this world, and which do not (section 11).
#
# **Next**: difficulty asks only the model. A reward model has an opinion about each pair as well.
# Where do the two disagree?
#
# **References.** Selective DPO: Gao et al., [2502.09650](https://arxiv.org/abs/2502.09650). DPO:
# Rafailov et al., [2305.18290](https://arxiv.org/abs/2305.18290). Curriculum learning: Bengio et
# al., ICML 2009. Likelihood displacement: Razin et al.,
# [2410.08847](https://arxiv.org/abs/2410.08847).

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
