# %% [markdown]
# So far somebody else wrote the responses, and a judge or a crowd said which are better. In
# **self-play** the policy writes them itself: it answers, a judge picks its best and its worst
# answer, it is trained on that pair, and answers again. Prompts and a judge are needed, nothing
# else, and even the prompts it can multiply. The paper of lesson 06 closes this circle with its
# selection, as *evolve-then-select* (Huang et al., ICML 2025,
# [2503.01864](https://arxiv.org/abs/2503.01864)). We do one round by hand, then dozens by the
# library; and we look long at **what goes wrong**, with a wrong judge and with the right one.
#
# **You will be able to**
# - do every step of a round yourself: sample, judge, pair, score, evolve, select;
# - run self-play that survives an interruption, and measure it round by round;
# - say what rounds, the number of prompts and the selection contribute, against controls;
# - recognise reward hacking, broken answers, length creep and loss of diversity in a table, before
#   they are in a product.
#
# **Needs** [lesson 06](06_alignment_potential.ipynb): alignment potential. **On a GPU** nothing
# changes here: the models are tiny. For a real model, a reward model is the judge and
# `selfplay.policy_rewriter(policy)` evolves the prompts.

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import nbkit as nb
from nbkit import selfplay, world

p = nb.course.profile()

# %% [markdown]
# ## 1 · One round by hand
# Eight prompts, and a policy that has seen demonstrations but never a preference. It answers each
# prompt five times, at temperature 0.8 and top-p 0.95, as the authors do [R]. ([P]: the paper's
# text. [R]: the released code. [?]: our reading.)

# %%
import torch

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
size = p.pick(quick="small", full="medium")
policy = nb.load_policy(f"world/{size}", device="cpu")
eight = world.prompts(8, seed=3, part="train")["prompt"][:]

# %%
asked = [prompt for prompt in eight for _ in range(5)]
how = dict(temperature=0.8, top_p=0.95, max_new_tokens=16, progress=False)
said = nb.sample(policy, asked, seed=10, **how)  # the library's seed for round 1 of seed 0
answers = pd.DataFrame({"prompt": asked, "response": said})
answers.head(5)

# %% [markdown]
# Now the judge. Ours is `world.reward`: 2 for the right animal, -0.7 to +0.7 for tone and manner.
# It is never wrong, which no judge of yours will be. So whatever goes wrong while it is the judge
# is not the judge's fault. **Predict**: the five answers to one prompt came from one policy. How
# far apart will its best and its worst be? As far as a right and a wrong answer (2)?

# %%
answers["reward"] = [world.reward(*row) for row in zip(asked, said)]
spread = answers.groupby("prompt", sort=False).reward.agg(["min", "max", "nunique"])
display(spread)
apart = spread["max"] - spread["min"]
print(f"2 or more apart: {(apart >= 2).sum()} of {len(apart)} prompts; median {apart.median():.2f}")

# %% [markdown]
# Best against worst: that is the pair. If all five are equally good, there is none.

# %%
def pairs_of(answers):
    """One row a prompt: its best answer is chosen, its worst rejected."""
    rows = []
    for prompt, five in answers.groupby("prompt", sort=False):
        best, worst = five.loc[five.reward.idxmax()], five.loc[five.reward.idxmin()]
        if best.reward > worst.reward:
            rows.append((prompt, best.response, worst.response, best.reward - worst.reward))
    return pd.DataFrame(rows, columns=["prompt", "chosen", "rejected", "explicit"])


pairs = pairs_of(answers)

# %% [markdown]
# The explicit margin is never negative here: the judge itself made the labels. What does the policy
# think of these pairs? Its implicit margin is its mean log-prob per token of the chosen response,
# minus that of the rejected (nats per token).

# %%
def with_implicit(pairs):
    named = pairs.assign(id=[f"{number:03d}" for number in range(len(pairs))])
    logps = nb.response_logprobs(policy, nb.load_pairs(named), progress=False).loc[named.id]
    chosen = logps.chosen_logp / logps.chosen_tokens
    rejected = logps.rejected_logp / logps.rejected_tokens
    return pairs.assign(implicit=(chosen - rejected).to_numpy())


pairs = with_implicit(pairs)
pairs.round(2)

# %% [markdown]
# Which of them can still teach the policy something? Lesson 06 says: those on which the judge is
# sure and the policy is not. In self-play the implicit margin has weight 2.5 [R]:
#
# $$M_{AP} = z(\Delta r) - 2.5\; z(|\Delta \hat r|)$$
#
# | symbol | meaning | unit |
# |---|---|---|
# | $\Delta r$ | explicit margin: best minus worst reward | reward units |
# | $\Delta \hat r$ | implicit margin of the policy, per token | nats per token |
# | $z$ | minus the mean, over the standard deviation, of the round's pairs | none |
#
# **Predict** from the table above: two of the eight prompts will be evolved. Which?

# %%
def z(values):
    return (values - values.mean()) / values.std(ddof=0)


def potential(pairs):
    return z(pairs.explicit) - 2.5 * z(pairs.implicit.abs())


scored = pairs.assign(M_AP=potential(pairs)).sort_values("M_AP", ascending=False)
scored[["prompt", "explicit", "implicit", "M_AP"]].round(2)

# %% [markdown]
# The top quarter of the prompts is **evolved**: rewritten into new ones of the same kind. In the
# released code the policy itself does that [R]; ours speaks 137 words and cannot, so
# `world.rewrite` asks about a neighbour: the same topic, or the same name. A model asked to rewrite
# likes to chat, so a child is left out if it is more than five times longer or shorter than its
# parent [R]; we also leave out what is empty or was asked before [?].

# %%
parents = scored.prompt.head(2).tolist()
children = world.rewrite(parents, seed=11)
chatty = [children[0], parents[0], f"Sure! Here is a new task for you: {children[0] * 4}"]
tried = pd.DataFrame({"id": ["a", "b", "c"], "prompt": [parents[0]] * 3})
checked = selfplay.evolve(tried, lambda prompts, seed: chatty, known=eight)
checked[["prompt", "left_out"]]

# %% [markdown]
# The new prompts are answered and judged in the same way, all pairs of the round are scored again
# (`z` depends on the pool), and the best 40% join the set that the policy is trained on.

# %%
fresh = [child for child in children if child not in eight]
again = [prompt for prompt in fresh for _ in range(5)]
more = pd.DataFrame({"prompt": again, "response": nb.sample(policy, again, seed=12, **how)})
more["reward"] = [world.reward(*row) for row in zip(again, more.response)]
by_hand = pd.concat([pairs, with_implicit(pairs_of(more))], ignore_index=True)
by_hand["M_AP"] = potential(by_hand)
keep = by_hand.nlargest(round(0.4 * len(by_hand)), "M_AP").prompt

# %% [markdown]
# The library does all of this in `selfplay.self_play`, a generator of rounds. **Does it do the
# same?**

# %%
import tempfile

folder = tempfile.TemporaryDirectory()
settings = dict(world.DPO[size], epochs=4)  # in a round there are few pairs
small = dict(rewrite=world.rewrite, temperature=0.8, top_p=0.95, max_new_tokens=16, **settings)
where = f"{folder.name}/eight"
first = next(selfplay.self_play(policy, eight, world.reward, where, progress=False, **small))

texts = ["prompt", "chosen", "rejected"]
assert by_hand[texts].to_numpy().tolist() == first.pairs[texts].to_numpy().tolist()
assert np.allclose(by_hand.M_AP, first.pairs.alignment_potential, atol=1e-3)
assert set(keep) == set(first.base["prompt"])
first.pairs[[*texts, "evolved", "alignment_potential", "selected"]].round(2)

# %% [markdown]
# After each round a copy of the *first* policy is trained on everything selected so far. (That this
# set grows is [R]; that training starts anew each time is our reading [?].)
#
# ## 2 · Self-play that is interrupted
# Self-play on a real model takes hours, and machines stop. Everything a round makes is kept in its
# folder, step by step. Above we took one round from the generator and dropped it, like a kernel
# that dies between rounds. **Predict**: if the same call is made again, for two rounds, what is
# done again?

# %%
from pathlib import Path

before = {file: file.stat().st_mtime_ns for file in Path(where).rglob("*.*")}
list(selfplay.self_play(policy, eight, world.reward, where, rounds=2, progress=False, **small))
after = {file: file.stat().st_mtime_ns for file in Path(where).rglob("*.*")}
assert {file: after[file] for file in before} == before  # not one file was written again
new = sorted({file.relative_to(where).parts[0] for file in after.keys() - before.keys()})
print(f"kept: {len(before)} files; made now: {new}")

# %% [markdown]
# Nothing. (The package's tests kill the process in the middle of a round, too.)
#
# ## 3 · Does it grow?
# Now for real. `selfplay.compare_plays` runs several self-plays and lets the policy answer test
# prompts after each round: questions about facts that are in no training prompt, each asked three
# times (once in the quick profile). Who wins against the first policy's answers? A tie counts one
# half. (Round 0 is the first policy against itself with other luck, so not exactly one half: we
# look at changes since round 0.)
#
# Three numbers of starting prompts; and a **control**: the same loop with a judge that rolls dice.
# Each self-play is repeated with fresh prompts and seeds. (On seeds 0 to 3 we tried one and four
# epochs and two learning rates, and took four epochs at the world's usual rate; the seeds here are
# others.) **Predict**: does the second round add as much as the first? Do eight times the prompts
# give eight times the gain?

# %%
seeds = p.pick(quick=[10, 11], full=[10, 11, 12, 13, 14])
rounds, many = p.pick(quick=2, full=3), p.pick(quick=12, full=96)
test = world.prompts(p.pick(quick=24, full=576))["prompt"][:]
measures = {"correct": lambda prompt, said: world.grade(prompt, said).correct,
            "tone": lambda prompt, said: world.grade(prompt, said).tone}  # fmt: skip

# %%
played = {}  # (name, seed) -> what was asked of each self-play


def pool(count, seed):
    return dict(prompts=world.prompts(count, seed=seed, part="train")["prompt"][:])


def play(kinds):
    """`kinds(seed)`: name -> what differs from the default, for the self-plays of one seed."""
    plays = {(name, seed): {**pool(many, seed), **more}
             for seed in seeds for name, more in kinds(seed).items()}  # fmt: skip
    played.update(plays)
    return selfplay.compare_plays(
        policy, plays, test, world.reward, folder.name, measures=measures, workers=p.workers,
        max_new_tokens=24, common=dict(small, rounds=rounds),
    )  # fmt: skip

# %%
few, mid, lots = (f"{count} prompts" for count in (many // 4, many, many * 2))


def sizes(seed):
    dice = world.Judge(0, 0, 0, noise=1, seed=seed)
    return {few: pool(many // 4, seed), mid: {}, lots: pool(many * 2, seed),
            "dice as the judge": dict(judge=dice)}  # fmt: skip


grown = play(sizes)
grown[(grown.seed == seeds[0]) & (grown.play == mid)].round(3)

# %%
import matplotlib.pyplot as plt
import seaborn as sns


def over_rounds(table, metrics, title):
    """Changes since round 0: mean over seeds in its 95% t-interval; metrics: column -> label."""
    fig, axes = plt.subplots(1, len(metrics), figsize=(4.6 * len(metrics), 4), layout="constrained")
    moved = table.groupby(["play", "seed"])[list(metrics)].transform(lambda one: one - one.iloc[0])
    for ax, (metric, label) in zip(axes, metrics.items()):
        sns.lineplot(table.assign(**moved), x="round", y=metric, hue="play", style="play", ax=ax,
                     markers=True, errorbar=lambda some: [*nb.seed_interval(some)][1:])  # fmt: skip
        ax.set(xlabel="round (0: before)", ylabel=f"change in {label}", xticks=range(rounds + 1))
        ax.axhline(0, color="0.6", linewidth=1, zorder=0)
        ax.get_legend().remove()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    fig.suptitle(f"{title} ({table.seed.nunique()} seeds, 95%)")


labels = {"win_rate": "win rate", "correct": "share correct", "tone": "tone"}
over_rounds(grown, labels, "Self-play, judged by the truth and by dice")

# %% [markdown]
# The same in numbers. All differences are taken within a seed, and the interval is over seeds.

# %%
def at(table, name, metric, number):
    chosen = table[(table.play == name) & (table["round"] == number)]
    return chosen.set_index("seed")[metric]


def gained(table, name, start=0, end=rounds):
    return at(table, name, "win_rate", end) - at(table, name, "win_rate", start)


def growth(table, name, metric="win_rate", start=0, end=rounds):
    return nb.paired_gain(at(table, name, metric, end), at(table, name, metric, start))


def versus(table, one, other, metric="win_rate"):
    return nb.paired_gain(at(table, one, metric, rounds), at(table, other, metric, rounds))

# %%
def growths(table, names, metrics):
    """Changes since round 0: a row a self-play, a column a metric (column: label)."""
    return pd.DataFrame({label: {name: growth(table, name, metric) for name in names}
                         for metric, label in metrics.items()})  # fmt: skip


def gaps(table, pairs, metrics):
    """Differences after the last round: a row a pair of self-plays, a column a metric."""
    return pd.DataFrame({label: {f"{one} − {two}": versus(table, one, two, metric)
                                 for one, two in pairs}
                         for metric, label in metrics.items()})  # fmt: skip


growths(grown, sizes(0), labels)

# %%
grew, facts, tone = (growth(grown, mid, metric) for metric in labels)
taught = versus(grown, mid, "dice as the judge")
steps = [growth(grown, mid, start=number - 1, end=number) for number in range(1, rounds + 1)]
second = nb.paired_gain(gained(grown, mid, 1, 2), gained(grown, mid, 0, 1))
eightfold = nb.paired_gain(gained(grown, lots), 8 * gained(grown, few))
Markdown(f"""
**The judge.** {mid} over dice: {taught}. {"So what is gained is the judge's knowledge, not an "
"effect of training as such." if taught.low > 0 else "That the judge teaches is not shown."}

**Rounds.** {mid}, round by round: {"; ".join(map(str, steps))}. Second minus first: {second}.

**Prompts.** {lots} over {few}: {versus(grown, lots, few)}. The gain of {lots}, minus eight times
that of {few}: {eightfold}. {"It is less than eightfold." if eightfold.high < 0 else "It is more "
"than eightfold." if eightfold.low > 0 else "Eightfold is not ruled out."}

**What grew?** Tone {tone}. Correct answers {facts}. {"It says more kindly what it knew; that it "
"learned facts that nobody asked about is not shown." if tone.low > 0 and not facts.low > 0
else "Look at both: the win rate counts them together."} {p.note}""")

# %% [markdown]
# ### Rounds, or only more pairs?
# Each round adds pairs. So is it the circle that helps, a better policy that writes better answers?
# Or would the first policy's answers have done as well? **Control**: all questions that were asked
# in all rounds, as often as they were asked (the evolved ones, too), go to the *first* policy at
# once, and $M_{AP}$ selects 40% of its pairs. As many pairs, no circle. **Predict**: which policy
# is better?

# %%
def rounds_of(name, seed):
    """The rounds of a finished self-play, from its folder: nothing is played again."""
    told = {"judge": world.reward, "rounds": rounds, **small, **played[name, seed]}
    where = f"{folder.name}/{name} {seed}"
    return list(selfplay.self_play(policy, folder=where, seed=seed, progress=False, **told))


def no_circle(seed):
    asked = [prompt for done in rounds_of(mid, seed)
             for prompt in done.prompts.prompt[done.prompts.left_out == ""]]  # fmt: skip
    return {"no circle": dict(prompts=asked, rewrite=None, rounds=1)}


at_once = play(no_circle)

# %%
def circle(metric):
    """The circle's last round minus the one round without it."""
    return nb.paired_gain(at(grown, mid, metric, rounds), at(at_once, "no circle", metric, 1))


Markdown(f"""
Trained on: {at(grown, mid, "trained_on", rounds).mean():.0f} pairs with the circle,
{at(at_once, "no circle", "trained_on", 1).mean():.0f} without (means over seeds).

Circle − no circle: win rate {circle("win_rate")}; tone {circle("tone")}; correct
{circle("correct")}. {"Its own better answers teach more than the first policy's."
if circle("win_rate").low > 0 else "The first policy's answers teach more." if
circle("win_rate").high < 0 else "That rounds are worth more than their pairs is not shown."}
{p.note}""")

# %% [markdown]
# ## 4 · Does the selection matter?
# Same prompts, same seeds, other rules for what joins the base set:
#
# - **M_AP**: the best 40% (as above);
# - **random**: 40% by lot;
# - **explicit only**: the 40% with the largest reward margin, equals by lot;
# - **all**: every pair, four epochs like the others: so 2.5 times the examples and the updates;
# - **all, equal updates**: every pair, but as many updates as the others (1.6 epochs).
#
# The first three train on equally many pairs. (Which prompts are evolved is decided by $M_{AP}$ in
# all of them.) In lesson 06 the selection could also throw out wrong labels, and this judge makes
# none. So two more self-plays have a **noisy judge**: the truth with an error of the size that the
# labels of `world.pairs` have. **Predict**: the order. Will $M_{AP}$ do more for the noisy judge?

# %%
from functools import partial


def rules(seed):
    by_lot = dict(select=partial(selfplay.at_random, seed=seed))
    everything = dict(select=partial(selfplay.highest, share=1.0))
    noisy = dict(judge=world.Judge(noise=world.NOISE, seed=seed))
    return {
        "random": by_lot,
        "explicit only": dict(select=partial(selfplay.highest, by="explicit_margin", seed=seed)),
        "all": everything,
        "all, equal updates": dict(everything, epochs=0.4 * settings["epochs"]),
        "M_AP for a noisy judge": noisy,
        "random for a noisy judge": {**noisy, **by_lot},
    }


selected = pd.concat([grown[grown.play == mid].assign(play="M_AP"), play(rules)])
shown = ["win_rate", "reward", "correct", "distinct", "length"]
by_play = selected.groupby(["play", "seed"], sort=False)[shown]
change = by_play.last() - by_play.first()  # rounds are in order

# %%
labels = {"win_rate": "win rate", "correct": "share correct", "length": "length (tokens)"}
drawn = change.reset_index(names=["selection", "seed"])
fig, axes = plt.subplots(1, 3, figsize=(13, 3.6), sharey=True, layout="constrained")
for ax, (metric, label) in zip(axes, labels.items()):
    nb.plots.comparison(drawn, ax, metric=metric, xlabel=f"change in {label}")
    ax.axvline(0, color="0.6", linewidth=1, zorder=0)
fig.suptitle(f"After {rounds} rounds: which pairs should join?");

# %%
rivals = ["random", "explicit only", "all", "all, equal updates"]
rows = [("M_AP", other) for other in rivals]
rows += [("M_AP for a noisy judge", "random for a noisy judge")]
found = gaps(selected, rows, labels)
found

# %%
noisy = [done.pairs for seed in seeds for done in rounds_of("random for a noisy judge", seed)]
share = np.mean([world.reward(prompt, chosen) < world.reward(prompt, rejected)
                 for prompt, chosen, rejected in pd.concat(noisy)[texts].to_numpy()])  # fmt: skip
given = world.pairs(p.pick(quick=96, full=3200))["flipped"]
over_random, for_noisy = found["win rate"].iloc[[0, -1]]
better = {"above zero": "does better", "below zero": "does worse"}.get(
    over_random.verdict(), "no difference is shown")
last = selected[selected["round"] == rounds].pivot(index="seed", columns="play", values="win_rate")
true_gain, noisy_gain = (last[one] - last[two] for one, two in (rows[0], rows[-1]))
in_06 = 0.03  # M_AP − random, win rate at equal examples, about
clear = [f"{row} ({label})" for label in ("win rate", "share correct")
         for row, gain in found[label].items() if "not" not in gain.verdict()]
Markdown(f"""
**M_AP against random pairs**, win rate: {better}.
A gain like lesson 06's (about {in_06:+}) is {"ruled out" if over_random.high < in_06 else
"not ruled out"} here. With the noisy judge, M_AP − random: {for_noisy}. Of that judge's pairs
{share:.1%} have a wrong label (random's self-play); of `world.pairs`, with the same noise,
{np.mean(given):.1%}. More for the noisy judge than for the truth? By
{nb.paired_gain(noisy_gain, true_gain)}.

**Clear of zero**, length apart: {"; ".join(clear) or "none"}. (Of {found.size} such intervals about
{found.size / 20:.0f} would miss zero by chance alone.)

**Length**, M_AP − random: {found["length (tokens)"].iloc[0]}. A rule that reads log-probs per token
may have an opinion on length: look for it in your data, too. {p.note}""")

# %% [markdown]
# ## 5 · What goes wrong when it goes wrong
# ### With the right judge: answers that break
# Look at *all* in the picture above, seed by seed. **Predict**: where the win rate rises, is every
# policy better?

# %%
fell = change[(change.win_rate > 0) & (change.correct < -0.05)].reset_index().play
broken = {name: (fell == name).sum() for name in ["M_AP", *rules(0)]}
display(change.loc["all"].round(3))
worst = (at(grown, lots, "correct", rounds) - at(grown, lots, "correct", 0)).min()
Markdown("Seeds whose win rate rose while correctness fell by more than .05: " + "; ".join(
    f"{name} {count} of {len(seeds)}" for name, count in broken.items())
    + f". Worst change in correctness of a seed with {lots} (section 3): {worst:+.3f}.")

# %% [markdown]
# (The .05 was chosen after seeing them.) The column `reward` weighs each answer by how good it is:
# compare it with the win rate. What does the policy say that lost most?

# %%
lost_most = int(change.correct["all"].idxmin())
who = {"before": policy, "after": rounds_of("all", lost_most)[-1].policy}
ask = list(dict.fromkeys(test))  # each fact once
heard = pd.DataFrame({when: nb.sample(one, ask, seed=5, temperature=0.7, max_new_tokens=24,
                                      progress=False) for when, one in who.items()})  # fmt: skip
right = heard.apply(lambda said: [world.grade(*row).correct for row in zip(ask, said)])
lost = heard.assign(prompt=ask)[right.before & ~right.after].set_index("prompt")
display(lost.head(5))
truth = dict(zip(world.facts().prompt, world.facts().answer))
named = [truth[prompt] in said.split() for prompt, said in lost.after.items()]
print(f"right before, wrong after: {len(lost)} of {len(ask)}; still with the animal: {sum(named)}")

# %% [markdown]
# An answer that still names the animal counts as wrong when something else broke: the truth knows
# the phrase "sure thing .", but not "sure sure thing .". And a win rate counts *how often* an
# answer is better, not *by how much*: many small wins in tone can pay for answers that broke. The
# mean reward weighs them, and the texts show them. Look at both.
#
# ### With a wrong judge
# A policy that learns from a judge finds what the judge pays for, not what you meant. Three judges
# that are not the truth, in the same loop ($M_{AP}$ selects) with the same prompts:
#
# - **kind tone only**: pays for tone and manner, and does not know the facts;
# - **learned**: a reward model, trained on noisy pairs as in lesson 05, for each seed another one;
# - **counts words**: the more, the better.
#
# Each policy is scored twice after each round: by its own judge, and by the truth. **Predict**, for
# each: will its own reward rise? Will the true one? Which of them would the win rate have caught?

# %%
learning = dict(learning_rate=1e-3, epochs=3, progress=False)
labelled = {seed: world.pairs(p.pick(quick=96, full=800), seed=500 + seed) for seed in seeds}
jobs = {seed: partial(nb.train_reward_model, policy, labelled[seed], seed=seed, **learning)
        for seed in seeds}  # fmt: skip
models = {seed: run.reward_model for seed, run in nb.at_once(jobs, p.workers).items()}


def judges(seed):
    return {
        "kind tone only": dict(judge=world.Judge(correct=0)),
        "learned": dict(judge=models[seed]),
        "counts words": dict(judge=world.Judge(0, 0, 0, per_word=1)),
    }


judged = pd.concat([grown[grown.play == mid].assign(play="the truth"), play(judges)])

# %% [markdown]
# Each judge has its own units, and so has each seed's reward model. To draw them together, what a
# judge says is divided by the standard deviation (sd) of what it says of the first policy's
# answers.

# %%
answers = nb.sample(policy, test, seed=1, temperature=0.7, max_new_tokens=24, progress=False)


def scale(name, seed):
    judge = world.reward if name == "the truth" else judges(seed)[name]["judge"]
    return np.std([judge(prompt, answer) for prompt, answer in zip(test, answers)])


names = ["the truth", *judges(seeds[0])]
scales = {(name, seed): scale(name, seed) for name in names for seed in seeds}
judged["own"] = judged.judged / [scales[key] for key in zip(judged.play, judged.seed)]
judged["true"] = judged.reward / scales["the truth", seeds[0]]

# %% tags=["picture"]
views = {"own": "reward by its own judge (sd)", "true": "reward by the truth (sd)",
         "correct": "share correct"}  # fmt: skip
over_rounds(judged, views, "Self-play believes its judge")

# %% [markdown]
# The left panel is all that a circle sees of itself. A judge whose own reward rises while the truth
# falls was **hacked**: not a fault of the policy, which does what it is paid for. First the changes
# since round 0, then each wrong judge against the truth as judge.

# %%
wrong, views = names[1:], {**views, "win_rate": "win rate"}
display(growths(judged, names, views))
del views["own"]  # each in its own units: no difference between judges
display(gaps(judged, [(name, "the truth") for name in wrong], views))
rise = {name: growth(judged, name, "own") for name in names}
hacked = [name for name in wrong if rise[name].low > 0 > growth(judged, name, "true").high]
caught = [name for name in hacked if growth(judged, name).high < 0]
fastest = max(rise, key=lambda name: rise[name].value)
kind = versus(judged, "kind tone only", "the truth")
Markdown(f"""
**Hacked**, clear of zero: {", ".join(hacked) or "none"}. Of these the win rate by the truth fell
too: {", ".join(caught) or "none"}. The judge whose own reward rose fastest: {fastest}.

**Without facts.** {"The judge that knows no facts gave a *higher* win rate than the truth. All "
"its pairs teach tone, which may be why; we did not test it." if kind.low > 0 else "That the judge "
"without facts gives a higher win rate than the truth is not shown."} In mean reward, by how much
rather than how often: {versus(judged, "kind tone only", "the truth", "true")}.
{p.note}""")

# %% [markdown]
# Can one hear what a judge pays for? Answers to the *training* prompts, one seed: the share with
# the kindest opening, and with the rudest, which has the most words.

# %%
openings = {"kindest": "happy to help !", "rudest": "ugh , go away ."}
heard = {}
for name in (mid, "kind tone only", "counts words"):
    for done in rounds_of(name, seeds[0]):
        said, when = done.answers.response.str, f"after round {done.number - 1}"
        for how, text in openings.items():
            heard.setdefault((name, how), {})[when] = said.startswith(text).mean()
pd.DataFrame(heard).T.rename({mid: "the truth"}).map("{:.0%}".format)

# %% [markdown]
# ### Length, and fewer different answers
# Two more things are often watched. **Length**: answers that creep longer (or shorter) although
# nobody asked. **Mode collapse**: a policy that learns from its own favourites says fewer and fewer
# different things, until all five answers are alike and give no pair. `distinct` is the share of
# test answers that do not repeat another one to the same prompt. **Predict**: do they ring for the
# wrong judges only?

# %%
others = [grown[grown.play == "dice as the judge"],
          selected[selected.play == "random"].assign(play="the truth, random pairs")]  # fmt: skip
watched = pd.concat([judged, *others])
watch = {"length": "length (tokens)", "distinct": "distinct answers"}
rows = watched.play.unique()
display(growths(watched, rows, watch))
gaps(watched, [(name, "the truth") for name in rows[1:]], watch)

# %%
shorter, less = (growth(watched, "the truth", metric) for metric in watch)
by_lot = growth(watched, "the truth, random pairs", "length")
less_than_dice = versus(watched, "the truth", "dice as the judge", "distinct")
final = watched[watched["round"] == rounds].groupby("play")[["pairs", "asked"]].sum()
dry = (1 - final.pairs / final.asked).max()
apart = [name for name in wrong if versus(watched, name, "the truth", "distinct").verdict()
         in ("above zero", "below zero")]  # fmt: skip
Markdown(f"""
**Length.** With the truth: {shorter}; with the truth and random pairs: {by_lot}.
{"So under the true judge it is the selection by M_AP that shortens." if shorter.high < 0 and
not by_lot.high < 0 else ""} All judges here select by M_AP: compare with the truth, not with zero.

**Different answers.** With the truth: {less}; the truth minus dice: {less_than_dice}.
{"A right reward is no protection: learning from one's favourites costs variety, more than dice "
"do." if less.high < 0 and less_than_dice.high < 0 else "More than dice lose is not shown."}
Wrong judges whose variety differs from the truth's: {", ".join(apart) or "none"}. Is it a collapse?
In the last round at most {dry:.1%} of the prompts gave no pair (largest of the rows above).
{p.note}""")

# %% [markdown]
# ## 6 · When this misleads
# - **The judge is the trap.** Keep one measure that it never sees, and read texts. But know what
#   your measure hides: a win rate hides by how much, correctness hides tone.
# - **A test by the judge that trained it** shows the left panel only.
# - **Growing is not learning facts**: the test asks about facts that no prompt asked for.
# - **More rounds are more pairs and more updates.** Compare with one round of the same size before
#   you credit the circle.
# - **What is held fixed?** "All" has 2.5 times the updates of the others, or as many and fewer
#   epochs; these are two different questions.
# - **No control here** for evolving the prompts, nor for choosing by $M_{AP}$ which ones: all
#   self-plays in the loop do both.
# - **Intervals are over seeds** (starting prompts, sampling, training). Test facts, starting
#   weights and world are the same in all. And where runs fall into two groups, sound and broken, a
#   mean with an interval describes neither.
#
# ## 7 · Exercises
# Write the body of each function, then run the check below it.
#
# ### Exercise 1 · Pairs from answers
# *5 minutes · easy · you can make preference pairs from any sampled answers*
#
# `rewards` is an array [prompts, k]: the judge's rewards of k answers to each prompt. Return the
# explicit margins of the pairs, in order; a prompt that gives no pair gives no margin.
#
# <details><summary>Hint</summary>
# <code>rewards.max(axis=1)</code> is the best of each prompt. Which margins are no pair?
# </details>

# %%
def my_best_against_worst(rewards):
    """Explicit margins of the pairs, an array."""
    ### BEGIN SOLUTION
    margins = rewards.max(axis=1) - rewards.min(axis=1)
    return margins[margins > 0]
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_best_against_worst(my_best_against_worst)

# %% [markdown]
# ### Exercise 2 · Which evolved prompts are asked?
# *10 minutes · medium · you can keep a rewriting model's chatter out of the data*
#
# `children[i]` was rewritten from `parents[i]`. Ask a child if it is not among `known`, if no
# earlier child is the same text, and if neither text has more than `longest_ratio` times the
# characters of the other. Return a bool for each child.
#
# <details><summary>Hint</summary>
# Go through the children in order and keep a set of what was seen.
# <code>max(a, b) / min(a, b)</code> does not mind which one is longer.
# </details>

# %%
def my_worth_asking(parents, children, known, longest_ratio):
    """A list of bools, one a child."""
    ### BEGIN SOLUTION
    asked, seen = [], set(known)
    for parent, child in zip(parents, children):
        lengths = len(parent), len(child)
        asked.append(child not in seen and max(lengths) / min(lengths) <= longest_ratio)
        seen.add(child)
    return asked
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_worth_asking(my_worth_asking)

# %% [markdown]
# ### Exercise 3 · When was it hacked?
# *8 minutes · medium · you can find the round at which to stop*
#
# Two lists with one number a round, from round 0 on: the mean reward by the judge in the loop, and
# by the truth. Return the first round in which the judge's rose and the truth's fell **since the
# round before**; 0 if there is none.
#
# <details><summary>Hint</summary>
# <code>np.diff</code> gives the steps; its first belongs to round 1.
# </details>

# %%
def my_hacked_round(judged, true):
    """The round, an int; 0 for never."""
    ### BEGIN SOLUTION
    for number in range(1, len(judged)):
        if judged[number] > judged[number - 1] and true[number] < true[number - 1]:
            return number
    return 0
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_hacked_round(my_hacked_round)

# %% [markdown]
# ## 8 · The paper said, we measured
# Win rates unless another measure is named; differences within seeds after the last round, 95%
# interval. The paper's claims are those of its abstract; "offline" means on given pairs, as in
# lesson 06.

# %%
Markdown(f"""
| the paper said | we measured ({len(seeds)} seeds, {rounds} rounds) |
|---|---|
| self-play improves with iterations [P] | {grew}; last round {steps[-1]} |
| *not asked*: dice as the judge | {growth(grown, "dice as the judge")} |
| *not asked*: the same pairs without the circle | circle − no circle {circle("win_rate")} |
| improves with more data [P] | {lots} − {few}: {versus(grown, lots, few)} |
| $M_{{AP}}$ beats the other metrics [P, offline]: reward margin | \
{versus(selected, "M_AP", "explicit only")} |
| ... random pairs [?] | {over_random} |
| *not asked*: $M_{{AP}}$ − all, equal epochs | {versus(selected, "M_AP", "all")} |
| *not asked*: $M_{{AP}}$ − all, equal updates | {versus(selected, "M_AP", "all, equal updates")} |
| *not asked*: broken answers with the right judge | "all": {broken["all"]} of {len(seeds)} \
seeds; M_AP: {broken["M_AP"]} |
| *not asked*: hacked judges | {", ".join(hacked) or "none"} |
| *not asked*: different answers | distinct, true judge {less} |

{p.note}""")

# %% [markdown]
# **Differences from the paper.** There a reward model judges free text [R]; here the truth can be
# looked up, so that judge and test can be told apart. There the policy rewrites the prompts itself
# [R]; ours cannot, and the world has few facts to ask for, so a large pool has few neighbours left
# to evolve. The implicit margin is SimPO's, without a reference [R]; training here is DPO, four
# epochs, from the first policy in every round [?].
#
# ## In this lesson we saw
# - a round of evolve-then-select, every step by hand and equal to the library's;
# - self-play against three controls: dice as the judge, random pairs, and the same questions
#   without the circle;
# - that a win rate can rise while answers break, or while the judge knows no facts: look at a
#   second measure and at the texts;
# - that its own reward does not tell a wrong judge from a right one, and that length and variety
#   can move with the right judge, too: compare with a control, not with zero.
#
# **Next**: your own data and model, where the judge is a reward model and a round takes hours.
#
# **References.** Evolve-then-select: Huang et al., *Larger or Smaller Reward Margins to Select
# Preferences for LLM Alignment?*, ICML 2025,
# [2503.01864](https://arxiv.org/abs/2503.01864), code at
# [Hesse73/Alignment-Potential-Metric](https://github.com/Hesse73/Alignment-Potential-Metric).
# Reward over-optimisation: Gao et al., [2210.10760](https://arxiv.org/abs/2210.10760).
# Self-rewarding language models: Yuan et al., [2401.10020](https://arxiv.org/abs/2401.10020).
# Length in preference training: Singhal et al., [2310.03716](https://arxiv.org/abs/2310.03716).

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
