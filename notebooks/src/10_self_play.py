# %% [markdown]
# So far somebody else wrote the responses, and a judge or a crowd said which are better. In
# **self-play** the policy writes them itself: it answers, a judge picks its best and its worst
# answer, it is trained on that pair, and answers again. Only prompts are needed, and even those it
# can multiply. The paper of chapter 06 closes this circle with its selection, as
# *evolve-then-select* (Huang et al., ICML 2025, [2503.01864](https://arxiv.org/abs/2503.01864)). We
# do one round by hand, then dozens by the library; and since a circle has nobody outside, we look
# long at **what it does with a wrong judge**.
#
# **You will be able to**
# - do every step of a round yourself: sample, judge, pair, score, evolve, select;
# - run self-play that survives an interruption, and measure it round by round;
# - say what rounds, the number of prompts and the selection contribute, against controls;
# - recognise reward hacking, length creep and mode collapse in a table, before they are in a
#   product.
#
# **Needs** [chapter 06](06_alignment_potential.ipynb): alignment potential. **On a GPU** nothing
# changes here: the models are tiny. For a real model, a reward model is the judge and
# `selfplay.policy_rewriter(policy)` evolves the prompts.

# %% tags=["setup"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

import nbkit as nb
from nbkit import selfplay, world

p = nb.profile()

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
said = nb.sample(policy, asked, seed=10, **how)
answers = pd.DataFrame({"prompt": asked, "response": said})
answers.head(5)

# %% [markdown]
# Now the judge. Ours is `world.reward`: 2 for the right animal, up to 0.7 for tone and manner. It
# is never wrong, which no judge of yours will be: **what follows in sections 1 to 4 is an upper
# bound.** **Predict**: the five answers to one prompt came from one policy. How far apart will its
# best and its worst be? As far as a right and a wrong answer (2)?

# %%
answers["reward"] = [world.reward(*row) for row in zip(asked, said)]
answers.groupby("prompt", sort=False).reward.agg(["min", "max", "nunique"])

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
pairs

# %% [markdown]
# The explicit margin is never negative here: the judge itself made the labels. Which of these pairs
# can still teach the policy something? Chapter 06 says: those on which the judge is sure and the
# policy is not. The implicit margin is the policy's mean log-prob per token of the chosen response,
# minus that of the rejected; and in self-play its weight is 2.5 [R]:
#
# $$M_{AP} = z(\Delta r) - 2.5\; z(|\Delta \hat r|)$$
#
# | symbol | meaning | unit |
# |---|---|---|
# | $\Delta r$ | explicit margin: best minus worst reward | reward units |
# | $\Delta \hat r$ | implicit margin of the policy, per token | nats per token |
# | $z$ | minus the mean, over the standard deviation, of the round's pairs | none |
#
# **Predict**: two prompts of these will be evolved. Which?

# %%
def z(values):
    return (values - values.mean()) / values.std(ddof=0)


def with_potential(pairs):
    named = pairs.assign(id=[f"{number:03d}" for number in range(len(pairs))])
    logps = nb.response_logprobs(policy, nb.load_pairs(named), progress=False)
    per_token = {side: logps[f"{side}_logp"] / logps[f"{side}_tokens"]
                 for side in ("chosen", "rejected")}  # fmt: skip
    implicit = (per_token["chosen"] - per_token["rejected"]).loc[named.id].to_numpy()
    potential = z(pairs.explicit) - 2.5 * z(np.abs(implicit))
    return pairs.assign(implicit=implicit, M_AP=potential)


scored = with_potential(pairs).sort_values("M_AP", ascending=False)
scored.round(2)

# %% [markdown]
# The top quarter of the prompts is **evolved**: rewritten into new ones of the same kind. In the
# released code the policy itself does that [R]; ours speaks 137 words and cannot, so
# `world.rewrite` asks about a neighbour: the same topic, or the same name. Three checks follow: a
# child is left out if it is empty, if it was asked before, or if it is more than five times longer
# or shorter than its parent [R], since a model asked to rewrite likes to chat.

# %%
parents = scored.prompt.head(2).tolist()
children = world.rewrite(parents, seed=11)
chatty = [children[0], parents[0], f"Sure! Here is a new task for you: {children[0] * 4}"]
tried = pd.DataFrame({"id": ["a", "b", "c"], "prompt": [parents[0]] * 3})
checked = selfplay.evolve(tried, lambda prompts, seed: chatty, known=eight)
checked[["prompt", "left_out"]]

# %% [markdown]
# The new prompts are answered and judged in the same way, all pairs of the round are scored again
# (`z` depends on the pool), and the best 40% join the set that the policy is trained on. The
# library does all of this in `selfplay.self_play`, a generator of rounds. **Does it do the same?**

# %%
import tempfile

folder = tempfile.TemporaryDirectory()
settings = dict(world.DPO[size], epochs=4)  # in a round there are few pairs
small = dict(rewrite=world.rewrite, sampling=dict(max_new_tokens=16), **settings)
where = f"{folder.name}/eight"
first = next(selfplay.self_play(policy, eight, world.reward, where, progress=False, **small))

# %%
# The evolved prompts by hand, and all pairs of the round scored together.
fresh = [child for child in children if child not in eight]
again = [prompt for prompt in fresh for _ in range(5)]
more = pd.DataFrame({"prompt": again, "response": nb.sample(policy, again, seed=12, **how)})
more["reward"] = [world.reward(*row) for row in zip(again, more.response)]
by_hand = with_potential(pd.concat([pairs, pairs_of(more)], ignore_index=True))

# %%
shown = ["prompt", "chosen", "rejected"]
assert by_hand[shown].to_numpy().tolist() == first.pairs[shown].to_numpy().tolist()
assert np.allclose(by_hand.M_AP, first.pairs.alignment_potential, atol=1e-3)
keep = by_hand.nlargest(round(0.4 * len(by_hand)), "M_AP").prompt
assert set(keep) == set(first.base["prompt"])
first.pairs[[*shown, "evolved", "alignment_potential", "selected"]].round(2)

# %% [markdown]
# ## 2 · A round that is interrupted
# Self-play on a real model takes hours, and machines stop. Everything a round makes is kept in its
# folder, step by step. Above we took one round from the generator and dropped it; a kernel that
# dies does the same. **Predict**: if the same call is made again, for two rounds, what is done
# again?

# %%
from pathlib import Path

before = {file: file.stat().st_mtime_ns for file in Path(where).rglob("*.*")}
again = selfplay.self_play(policy, eight, world.reward, where, rounds=2, progress=False, **small)
both = list(again)
after = {file: file.stat().st_mtime_ns for file in Path(where).rglob("*.*")}
assert {file: after[file] for file in before} == before  # not one file was written again
assert both[0].base["id"][:] == first.base["id"][:]
new = sorted({file.relative_to(where).parts[0] for file in after.keys() - before.keys()})
print(f"kept: {len(before)} files; made now: {new}")

# %% [markdown]
# Nothing. (The tests kill the process in the middle of a round, too.) The second round asked the
# evolved prompts as well, and added its pairs to the first round's:

# %%
counts = {done.number: {"prompts asked": (done.prompts.left_out == "").sum(),
                        "pairs": len(done.pairs), "selected": done.pairs.selected.sum(),
                        "trained on": len(done.base)} for done in both}  # fmt: skip
pd.DataFrame(counts).T.rename_axis("round")

# %% [markdown]
# After each round a copy of the *first* policy is trained on everything selected so far [R: the
# base set grows; ?: that training starts anew].
#
# ## 3 · Does it grow?
# Now for real. `selfplay.compare_plays` runs several self-plays and lets the policy answer test
# prompts after each round: 192 questions about facts that are in no training prompt, each asked
# three times. Who wins against the policy's own first answers? A tie counts one half.
#
# Three numbers of starting prompts; and a **control**: the same loop with a judge that rolls dice.
# Every self-play is repeated with fresh prompts and seeds. (What was searched: four epochs, after
# trying one, and twice the learning rate, on seeds 0 to 3; these are fresh ones.) **Predict**: does
# the second round add as much as the first? Do eight times the prompts give eight times the gain?

# %%
seeds = p.pick(quick=[10, 11], full=[10, 11, 12, 13, 14])
rounds, many = p.pick(quick=2, full=3), p.pick(quick=16, full=96)
test = world.prompts(p.pick(quick=48, full=576))["prompt"][:]
middle, dice = f"{many} prompts", world.Judge(0, 0, 0, noise=1)


def pool(count, seed):
    return dict(prompts=world.prompts(count, seed=seed, part="train")["prompt"][:])

# %%
measures = {"correct": lambda prompt, said: world.grade(prompt, said).correct,
            "tone": lambda prompt, said: world.grade(prompt, said).tone}  # fmt: skip


def play(kinds, seeds=seeds):
    """`kinds(seed)`: name -> what differs, for the self-plays of one seed."""
    plays = {(name, seed): {**pool(many, seed), **more}
             for seed in seeds for name, more in kinds(seed).items()}  # fmt: skip
    return selfplay.compare_plays(
        policy, plays, test, world.reward, folder.name, measures=measures, workers=p.workers,
        test_sampling=dict(max_new_tokens=24), **dict(small, rounds=rounds),
    )  # fmt: skip

# %%
def sizes(seed):
    few, lots = many // 4, many * 2
    return {f"{few} prompts": pool(few, seed), middle: {},
            f"{lots} prompts": pool(lots, seed), "dice as the judge": dict(judge=dice)}  # fmt: skip


grown = play(sizes)
grown[grown.seed == seeds[0]].iloc[: rounds + 1].round(3)

# %%
import matplotlib.pyplot as plt
import seaborn as sns


def over_rounds(table, metrics, title):
    """Means over seeds in a band, the 95% t-interval; one panel a metric (column: label)."""
    fig, axes = plt.subplots(1, len(metrics), figsize=(4.6 * len(metrics), 4), layout="constrained")
    for ax, (metric, label) in zip(np.atleast_1d(axes), metrics.items()):
        sns.lineplot(table, x="round", y=metric, hue="play", style="play", markers=True, ax=ax,
                     errorbar=lambda values: nb.seed_interval(values)[1:])  # fmt: skip
        ax.set(xlabel="round (0: before)", ylabel=label, xticks=range(rounds + 1))
        ax.get_legend().remove()
    axes = np.atleast_1d(axes)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    fig.suptitle(f"{title} ({table.seed.nunique()} seeds, 95%)")


labels = {"win_rate": "win rate against round 0", "correct": "share correct", "tone": "tone"}
over_rounds(grown, labels, "Self-play with a judge that is never wrong")

# %%
def at(table, name, number, metric):
    chosen = table[(table.play == name) & (table["round"] == number)]
    return chosen.set_index("seed")[metric]


def growth(table, name, metric="win_rate", start=0, end=rounds):
    return nb.paired_gain(at(table, name, end, metric), at(table, name, start, metric))


def versus(table, one, other, metric="win_rate", number=rounds):
    return nb.paired_gain(at(table, one, number, metric), at(table, other, number, metric))


rows = [f"| {name} | {growth(grown, name)} | {growth(grown, name, start=rounds - 1)} | "
        f"{growth(grown, name, 'correct')} |" for name in sizes(0)]  # fmt: skip
table = "\n".join(["| | win rate, all rounds | ... last round alone | correct, all rounds |",
                   "|---|---|---|---|", *rows])  # fmt: skip

# %%
few, mid, lots, _ = sizes(0)
still = growth(grown, mid, start=rounds - 1).low > 0
what = {name: growth(grown, mid, name) for name in ("correct", "tone")}
tone_won = what["tone"].low > 0 and not what["correct"].low > 0
Markdown(f"""{table}

**Rounds.** With {mid} the win rate after {rounds} rounds is
{nb.seed_interval(at(grown, mid, rounds, "win_rate")):.3f}; the last round
{"still adds" if still else "adds nothing that is clear of zero"}. By dice it does
{"not " if not growth(grown, "dice as the judge").low > 0 else ""}grow: the gain is the judge's
knowledge, not the training's noise. {mid} over dice: {versus(grown, mid, "dice as the judge")}.

**Prompts.** {lots} over {mid}: {versus(grown, lots, mid)}; {mid} over {few}:
{versus(grown, mid, few)}. More prompts are also more pairs and more updates.

**What grew?** Tone {what["tone"]}; correct {what["correct"]}. {"The policy learned to say more "
"kindly what it knows; facts that nobody asked about in training, self-play did not teach."
if tone_won else "Look at both: the win rate counts them together."} {p.note}""")

# %% [markdown]
# Is it the circle that helps, a better policy that writes better pairs? Or are more rounds only
# more pairs? Each round adds some, so both grow together. But a large pool has as many pairs after
# one round as a small one after two. The same win rates, drawn over **what was trained on**.
# **Predict**: if the circle is what helps, which line lies higher: that of few prompts or of many?

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
means = grown[grown["round"] > 0].groupby(["play", "round"], sort=False).mean().reset_index()
sns.lineplot(means, x="trained_on", y="win_rate", hue="play", style="play", markers=True, ax=ax)
ax.set(xlabel="pairs in the base set (a dot is a round)", ylabel="win rate against round 0")
ax.axhline(0.5, color="0.45", linestyle="--", linewidth=1)
ax.legend(title=None, frameon=False)
ax.set_title(f"Rounds, or pairs? (means of {len(seeds)} seeds)");

# %%
def at_equal_pairs(seed):
    """Win rate of the large pool where it had as many pairs as the middle one after all rounds."""
    many_pairs = grown[(grown.play == lots) & (grown.seed == seed)]
    pairs = at(grown, mid, rounds, "trained_on")[seed]
    return np.interp(pairs, many_pairs.trained_on, many_pairs.win_rate)


early = pd.Series({seed: at_equal_pairs(seed) for seed in seeds})
circle = nb.paired_gain(at(grown, mid, rounds, "win_rate"), early)
Markdown(f"""At equal pairs (between two rounds of {lots}, interpolated), {mid} after {rounds}
rounds over {lots} after fewer: {circle}. {"More rounds are worth something beyond their pairs."
if circle.low > 0 else "That rounds are worth more than the pairs they bring is not shown."}
{p.note}""")

# %% [markdown]
# ## 4 · Does the selection matter?
# Same prompts, same seeds, other rules for what joins the base set:
#
# - **M_AP**: the best 40% (as above);
# - **random**: 40% by lot;
# - **explicit only**: the 40% with the largest reward margin, equals by lot;
# - **all**: every pair, four epochs: 2.5 times the examples and the updates;
# - **all, equal updates**: every pair, but as many updates as the others (1.6 epochs).
#
# At **equal examples** the first three train on 40% of each round's pairs, four times each. (Which
# prompts are evolved is decided by $M_{AP}$ in all of them.) **Predict**: the order. In chapter 06
# the selection also threw out wrong labels. How many wrong labels are there here?

# %%
from functools import partial


def rules(seed):
    everything = partial(selfplay.highest, share=1.0)
    return {
        "random": dict(select=partial(selfplay.at_random, seed=seed)),
        "explicit only": dict(select=partial(selfplay.highest, by="explicit_margin", seed=seed)),
        "all": dict(select=everything),
        "all, equal updates": dict(select=everything, epochs=0.4 * settings["epochs"]),
    }


played = grown[grown.play == middle]  # with M_AP: section 3
selected = pd.concat([played.assign(play="M_AP"), play(rules)])

# %%
fig, axes = plt.subplots(1, 3, figsize=(13, 3.4), sharey=True, layout="constrained")
final = selected[selected["round"] == rounds].rename(columns={"play": "selection"})
more = {"win_rate": "win rate", "correct": "share correct", "length": "length (tokens)"}
for ax, (metric, label) in zip(axes, more.items()):
    nb.plots.comparison(final, ax, metric=metric, xlabel=label)
fig.suptitle(f"After {rounds} rounds: which pairs should join?");

# %%
rivals = ["random", "explicit only", "all", "all, equal updates"]
rows = [" | ".join(["", f"M_AP − {other}", *(str(versus(selected, "M_AP", other, metric))
                                             for metric in more), ""]).strip() for other in rivals]
over_random = versus(selected, "M_AP", "random")
verdict = ("it does better" if over_random.low > 0 else "it does worse" if over_random.high < 0
           else "no difference is shown")  # fmt: skip
longer = versus(selected, "M_AP", "random", "length")
opinion = "A rule that reads log-probs per token has an opinion on length, wanted or not."
opinion = opinion if longer.low * longer.high > 0 else ""
head = ["| | win rate | correct | length (tokens) |", "|---|---|---|---|"]
Markdown("\n".join([*head, *rows]) + f"""

$M_{{AP}}$ against random pairs of equal size: **{verdict}** here. A judge that is never wrong makes
no wrong label, so there is none to throw out: the first half of what a selection did in chapter 06
has no work to do. Length, $M_{{AP}}$ − random: {longer}. {opinion} {p.note}""")

# %% [markdown]
# ## 5 · What goes wrong when it goes wrong
# A policy that learns from a judge finds what the judge pays for, not what you meant. Four judges
# that are not the truth, in the same loop with the same prompts:
#
# - **noisy**: the truth with an error of the size that the labels of `world.pairs` have;
# - **kind tone only**: pays for tone and manner, and does not know the facts;
# - **learned**: a reward model, trained on 800 noisy pairs as in chapter 05;
# - **counts words**: the more, the better.
#
# Each is scored twice after each round: by itself, and by the truth. **Predict**, for each: will
# its own reward rise? Will the true one? And which of them would you have caught by looking at the
# win rate alone?

# %%
counts_words, kind = world.Judge(0, 0, 0, per_word=1), world.Judge(correct=0)
learning = dict(learning_rate=1e-3, epochs=3, progress=False)


def learned(seed):
    others = world.pairs(p.pick(quick=96, full=800), seed=500 + seed)
    return nb.train_reward_model(policy, others, seed=seed, **learning).reward_model


models = {seed: learned(seed) for seed in seeds}

# %%
def judges(seed):
    return {
        "noisy": dict(judge=world.Judge(noise=world.NOISE, seed=seed)),
        "kind tone only": dict(judge=kind),
        "learned": dict(judge=models[seed]),
        "counts words": dict(judge=counts_words),
    }


judged = pd.concat([played.assign(play="the truth"), play(judges)]).reset_index(drop=True)

# %% [markdown]
# Each judge has its own units. To draw them together, what a judge says is given as the change
# since round 0, in standard deviations of what it says of the policy's first answers.

# %%
first_answers = nb.sample(policy, test, seed=1, temperature=0.7, max_new_tokens=24, progress=False)
who = {"the truth": world.reward, **{n: more["judge"] for n, more in judges(seeds[0]).items()}}
spread = {name: nb.evaluate.rewards(of, test, first_answers).std() for name, of in who.items()}
key = ["play", "seed"]
start = judged[judged["round"] == 0].set_index(key)[["judged", "reward"]]
judged = judged.join(start.add_suffix("_before"), on=key)
judged["own"] = (judged.judged - judged.judged_before) / judged.play.map(spread)
judged["true"] = (judged.reward - judged.reward_before) / spread["the truth"]
assert np.allclose(judged.own[judged.play == "the truth"], judged.true[judged.play == "the truth"])

# %% tags=["picture"]
hacks = {"own": "rise by its own judge (sd)", "true": "rise by the truth (sd)",
         "correct": "share correct"}  # fmt: skip
over_rounds(judged, hacks, "Self-play believes its judge")

# %% [markdown]
# On the left all is well with every judge, and the left is all that a circle sees of itself. That
# is **reward hacking**: not a fault of the policy, which does what it is paid for.

# %%
names = list(judges(seeds[0]))
rows = [f"| {name} | {growth(judged, name, 'own')} | {growth(judged, name, 'true')} | "
        f"{growth(judged, name, 'win_rate')} | {growth(judged, name, 'correct')} |"
        for name in ["the truth", *names]]  # fmt: skip
head = "| judge | by itself (sd) | by the truth (sd) | win rate | correct |\n|---|---|---|---|---|"
hacked = [n for n in names if growth(judged, n, "own").low > 0 > growth(judged, n, "true").high]
blind = [n for n in names if growth(judged, n, "correct").high < 0 < growth(judged, n).low]
Markdown("\n".join([head, *rows]) + f"""

**Hacked** (its own reward rises, the truth falls): {", ".join(hacked) or "none, clear of zero"}.
**Hidden** (the win rate rises, and fewer answers are correct): {", ".join(blind) or "none, clear "
"of zero"}. Correct, kind tone only minus the truth as the judge:
{versus(judged, "kind tone only", "the truth", "correct")}; learned minus the truth:
{versus(judged, "learned", "the truth", "correct")}; noisy minus the truth:
{versus(judged, "noisy", "the truth", "correct")}. A win rate is one number for all that the truth
pays for: what it hides, a second measure shows. {p.note}""")

# %% [markdown]
# ### What it sounds like
# The same questions, before and after, with the judge that counts words:

# %%
def after(name, seed=seeds[0]):
    """The policy after the last round, from its folder: nothing is played again."""
    where, more = f"{folder.name}/{name} {seed}", {**pool(many, seed), **judges(seed).get(name, {})}
    told = {"judge": world.reward, "progress": False, **small, **more}
    return list(selfplay.self_play(policy, folder=where, rounds=rounds, seed=seed, **told))


example = test[:4]
talk = {"before": policy, **{name: after(name)[-1].policy for name in (middle, "counts words")}}
heard = {name: nb.sample(who, example, seed=5, temperature=0.7, max_new_tokens=24, progress=False)
         for name, who in talk.items()}  # fmt: skip
pd.DataFrame(heard, index=example).rename(columns={middle: "judge: the truth"})

# %% [markdown]
# ### Length, and fewer and fewer different answers
# Two more things to watch. **Length**: answers that creep longer (or shorter) round by round
# although nobody asked. **Mode collapse**: a policy that learns from its own favourites says fewer
# and fewer different things; then all five answers are alike, there is no best and no worst, and
# the data run dry. `distinct` is the share of test answers that do not repeat another one to the
# same prompt (each is asked three times). **Predict**: does the perfect judge protect from
# collapse?

# %%
watch = {"length": "length (tokens)", "distinct": "share of distinct answers"}
over_rounds(judged, watch, "Length and diversity")

# %%
def fewer(name):
    """Prompts that gave no pair, share of those asked in the last round."""
    last = judged[(judged.play == name) & (judged["round"] == rounds)]
    return 1 - last.pairs.sum() / last.asked.sum()

# %%
rows = [f"| {name} | {growth(judged, name, 'length')} | {growth(judged, name, 'distinct')} | "
        f"{fewer(name):.1%} |" for name in ["the truth", *names]]  # fmt: skip
falls = growth(judged, "the truth", "distinct").high < 0
Markdown("\n".join(["| judge | length (tokens) | distinct answers | prompts without a pair |",
                    "|---|---|---|---|", *rows]) + f"""

{"**Diversity falls with the true judge, too**: a right reward is no protection. It is what "
"learning from one's favourites does." if falls else "With the true judge no loss of diversity is "
"shown."} {p.note}""")

# %%
openings = {"kindest": "happy to help !", "rudest": "ugh , go away ."}
rows = {}
for name in (middle, "kind tone only", "counts words"):
    for done in after(name):
        said = done.answers.response.str
        rows[done.number, name] = {how: said.startswith(text).mean()
                                   for how, text in openings.items()}  # fmt: skip
table = pd.DataFrame(rows).T.unstack().rename(columns={middle: "the truth"}).rename_axis("round")
table.map("{:.0%}".format)

# %% [markdown]
# These are its answers to *training* prompts at the beginning of each round, one seed: the share
# with the kindest and with the rudest opening. The rudest one has the most words.
#
# ## 6 · When this misleads
# - **The judge is the ceiling, and the trap.** Hold one measure out of the loop that it never sees
#   (here: correctness), and stop when it falls, whatever the judge says.
# - **A test by the judge that trained it** shows the left panel only.
# - **Growing is not learning facts.** Answers get better where the policy could have given the
#   better one before: best of five already knew it.
# - **More rounds are more data and more updates.** Compare at equal pairs before you credit the
#   circle.
# - **Equal examples, equal updates**: "all" wins or loses by which of them you hold fixed.
# - **Intervals are over prompts and seeds**; test facts, starting weights and world are the same in
#   all.
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
nb.exercises.check_best_against_worst(my_best_against_worst)

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
nb.exercises.check_worth_asking(my_worth_asking)

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
nb.exercises.check_hacked_round(my_hacked_round)

# %% [markdown]
# ## 8 · The paper said, we measured
# Differences within seeds after the last round, 95% interval.

# %%
sink = [name for name in names if name in hacked or name in blind]
Markdown(f"""
| the paper said | we measured ({len(seeds)} seeds, {rounds} rounds) |
|---|---|
| self-play with it improves over rounds [P] | win rate \
{growth(grown, mid)}; last round {growth(grown, mid, start=rounds - 1)}; dice as the judge \
{growth(grown, "dice as the judge")} |
| *not asked*: are rounds more than their pairs? | at equal pairs {circle} |
| more self-made data help [P] | {lots} − {few}: \
{versus(grown, lots, few)} |
| selecting by $M_{{AP}}$ beats random pairs [P; here ?] | {versus(selected, "M_AP", "random")} |
| ... and the reward margin alone [P] | {versus(selected, "M_AP", "explicit only")} |
| the best 40% serve as well as all [?] | equal examples {versus(selected, "M_AP", "all")}; equal \
updates {versus(selected, "M_AP", "all, equal updates")} |
| *not asked*: with a wrong judge | worse in truth or correctness, clear of zero: \
{", ".join(sink) or "none"} |
| *not asked*: diversity | distinct answers, true judge {growth(judged, "the truth", "distinct")} |

{p.note}""")

# %% [markdown]
# **Differences from the paper.** There a reward model with billions of parameters judges free text,
# and language models judge the result; here the truth can be looked up, so that judge and test can
# be told apart. There the policy rewrites the prompts itself; ours cannot, and the world has only
# 384 facts to ask for, so a large pool has few neighbours left to evolve. Training follows SimPO
# there [R]; here it is DPO, four epochs, from the first policy in every round [?]. Pool sizes there
# are in the thousands.
#
# ## In this chapter we saw
# - a round of evolve-then-select, every step by hand and equal to the library's;
# - a policy that gets better at its judge's taste from nothing but its own answers, and dice that
#   teach nothing;
# - that the judge decides what is learned, while the selection decides less than one may hope;
# - that a wrong judge's reward rises like a right one's, so that only a measure from outside the
#   circle tells them apart;
# - length and diversity as two cheap alarms.
#
# **Next**: your own data and model, where the judge is a reward model and a round takes hours.
#
# **References.** Evolve-then-select: Huang et al., ICML 2025,
# [2503.01864](https://arxiv.org/abs/2503.01864), code at
# [Hesse73/Alignment-Potential-Metric](https://github.com/Hesse73/Alignment-Potential-Metric).
# Reward over-optimisation: Gao et al., [2210.10760](https://arxiv.org/abs/2210.10760).
# Self-rewarding language models: Yuan et al., [2401.10020](https://arxiv.org/abs/2401.10020).
# Length in preference training: Singhal et al., [2310.03716](https://arxiv.org/abs/2310.03716).

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
