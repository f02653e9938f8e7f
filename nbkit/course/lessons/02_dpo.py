# %% [markdown]
# Lesson 01 ended with a number, the implicit margin. **Direct Preference Optimization** (DPO) is
# gradient descent on one function of that number. In this lesson you write the function, train
# with it by hand, get the same steps from TRL, and then look closely at what the training did to
# the model: not always what the name promises.
#
# **You will be able to**
# - derive the DPO loss in three steps, and code it in five lines;
# - check a DPO implementation with two answers that are known before any training;
# - see *likelihood displacement* in a training trace, and say why the loss allows it;
# - choose β and the learning rate by looking at reward *and* drift;
# - report a win rate with an interval, a control, and what it hides.
#
# **Needs** [lesson 01](01_pairs_and_margins.ipynb): log-probs, summed over response tokens, and
# margins. **On a GPU** nothing changes here: the models are so small that the CPU is the right
# place. Lesson 11 makes the same calls with a real model.

# %% tags=["setup"]
import pandas as pd
import torch
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.course.profile()

# %% [markdown]
# ## 1 · What does the model answer before any DPO?
# Our policy has been taught by examples only (supervised fine-tuning, SFT). We ask it about facts
# that are in no training pair, let it answer at temperature 1, which is the policy as it is, and
# grade each answer with the world's true reward: 2 for the right animal, up to 0.5 more or less for
# the tone, up to 0.2 for the manner. `win` compares with another answer of the SFT policy.

# %%
from functools import cache

torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
policy = nb.load_policy("world/" + p.pick(quick="small", full="medium"), device="cpu")
prompts = world.prompts(p.pick(quick=48, full=1920))  # 192 questions; in full, 10 times each
how = dict(temperature=1, max_new_tokens=48, progress=False)


@cache
def sft_answers(seed):
    return nb.sample(policy, prompts, seed=10 * seed + 1, **how)


def judged(trained, seed=0):
    """One row a prompt: a sampled answer, its grade, and its win over one of the SFT policy."""
    baseline = sft_answers(seed)
    table = nb.win_rate(trained, baseline, prompts, world.reward, seed=10 * seed, **how).table
    grades = pd.DataFrame([world.grade(*answer) for answer in zip(table.prompt, table.response)])
    table["win"] = nb.wins(table.reward, table.baseline_reward)  # 1, 0, or a half for a tie
    return table.assign(rung=prompts["rung"][:]).join(grades.iloc[:, :3].astype(float))

# %%
sft = judged(policy)
sft.groupby("rung").head(1)[["rung", "prompt", "response", "correct", "tone", "manner", "reward"]]

# %%
import seaborn as sns


def interval(table, column):
    """Mean, low, high (95%). One value a question: answers to the same question go together."""
    return nb.mean_interval(table.groupby("prompt")[column].mean())


by_question = sft.groupby(["rung", "prompt"], as_index=False).correct.mean()
ax = sns.barplot(by_question, x="rung", y="correct", color="0.7", seed=0)
ax.set_title("The SFT policy, before DPO (bars: 95% over questions)")
ax.set(xlabel="rung (1: often told, 6: the long tail)", ylabel="share correct");

# %% [markdown]
# So there is something to gain in two places: the animal (the policy knows many, and still says
# another one too often) and the tone (it is kind and unkind at random). What we have to gain it
# with are pairs from writers of all sorts, and a noisy judge's choice between them.

# %%
pairs = world.pairs(p.pick(quick=160, full=1600))
held_out = world.pairs(p.pick(quick=96, full=300), part="validation")  # about other facts
seen = ["prompt", "chosen", "rejected", "chosen_reward", "rejected_reward", "flipped"]
pairs.to_pandas()[seen].head(5)

# %% [markdown]
# ## 2 · The loss, in three steps
# **Step 1: preferences come from rewards.** Bradley and Terry's model (paper, eq. 1): if the
# responses have rewards $r(x, y_w)$ and $r(x, y_l)$, the first is preferred with probability
# $\sigma\big(r(x, y_w) - r(x, y_l)\big)$, where $\sigma(z) = 1 / (1 + e^{-z})$.
#
# **Step 2: a policy is a reward.** The Kullback-Leibler divergence (KL) of a policy from the
# reference is the mean of the log-ratio $\log (\pi / \pi_{\text{ref}})$ over the policy's own
# answers: 0 if they agree, else above 0. The policy that earns the most reward less β times that
# KL is (eq. 4)
# $\pi^*(y \mid x) = \pi_{\text{ref}}(y \mid x)\, e^{r(x, y)/\beta} / Z(x)$, where
# $Z(x) = \sum_y \pi_{\text{ref}}(y \mid x)\, e^{r(x, y)/\beta}$ makes it add up to 1. For, with
# $r = \beta \log (\pi^* / \pi_{\text{ref}}) + \beta \log Z$ put in, any policy earns
#
# $$\mathbb{E}_{\pi}[r] - \beta\, \text{KL}(\pi \| \pi_{\text{ref}})
# = \beta \log Z(x) - \beta\, \text{KL}(\pi \| \pi^*),$$
#
# and a KL is smallest, 0, at $\pi = \pi^*$. So a policy that is best for some reward tells it:
#
# $$r(x, y) = \beta \log \frac{\pi^*(y \mid x)}{\pi_{\text{ref}}(y \mid x)} + \beta \log Z(x)$$
#
# **Step 3: put it in.** $Z$ depends on the prompt alone, so it cancels in the difference: what is
# left is the implicit margin $m$ of lesson 01. DPO maximises the likelihood of the labels (eq. 7):
#
# $$\mathcal{L} = -\log \sigma(m), \qquad
# m = \beta\,(d_w - d_l), \qquad
# d = \log \pi_\theta(y \mid x) - \log \pi_{\text{ref}}(y \mid x)$$
#
# | symbol | meaning | shape, unit |
# |---|---|---|
# | $x,\ y_w,\ y_l$ | prompt, chosen and rejected response | token ids |
# | $d_w,\ d_l$ | log-ratios | [pairs], nats, summed over response tokens |
# | $\beta$ | price of leaving the reference: reward for each nat | one number, above 0 |
# | $m$ | implicit margin | [pairs], β × nats |
# | $\mathcal{L}$ | DPO loss; the batch takes the mean over pairs | [pairs], nats |
#
# Its derivative is $\partial \mathcal{L} / \partial m = -\sigma(-m)$, so on the parameters
#
# $$\nabla_\theta \mathcal{L} = -\beta\; \underbrace{\sigma(-m)}_{\text{weight}}\;
# \big[\nabla_\theta \log \pi_\theta(y_w \mid x) - \nabla_\theta \log \pi_\theta(y_l \mid x)\big]$$
#
# **Predict**: how large is the loss before any training, and how large is the weight then?

# %%
import torch.nn.functional as F

m = torch.linspace(-6, 6, 121, requires_grad=True)
loss = -F.logsigmoid(m)
loss.sum().backward()
weight = torch.sigmoid(-m.detach())
gradient_error = (-m.grad - weight).abs().max().item()
assert gradient_error < 1e-6  # autograd agrees with the formula
ax = sns.lineplot(x=m.detach(), y=loss.detach(), label="loss (nats)")
sns.lineplot(x=m.detach(), y=weight, label="weight of the pair in the gradient", ax=ax)
ax.plot(0, F.softplus(torch.tensor(0.0)), "o", color="0.3", label="before training")
ax.set(xlabel="implicit margin m (β × nats)", ylabel="")
ax.legend(frameon=False);

# %% [markdown]
# A pair that the policy has on the wrong side pulls with weight near 1, however hopeless it is; a
# pair learned well stops pulling. And at the start policy and reference are the same, so $m = 0$
# for **every** pair. That is a known answer: the cheapest test of a DPO implementation there is. To
# make it a real one, the two sides come from two code paths: padded rows as in lesson 01, and
# nbkit's default, which packs many pairs into one row without padding.

# %%
import math

settings = world.DPO[policy.name.removeprefix("world/")]
beta = settings["beta"]
reference = nb.response_logprobs(policy, pairs, progress=False)
again = nb.response_logprobs(policy, pairs, path="padded", progress=False)
start = nb.scores.dpo_loss(again, reference, beta)
assert nb.scores.implicit_margin(again, reference, beta).abs().max() < 1e-3
assert (start - math.log(2)).abs().max() < 1e-3
Markdown(f"""Before training: loss **{start.mean():.6f}**, and ln 2 is {math.log(2):.6f}. The weight
is σ(0) = ½ for every pair: the first step treats all pairs alike.""")

# %% [markdown]
# ## 3 · By hand, then with TRL
# The log-prob is that of lesson 01, here for one response at a time, without padding: slow, and
# with nothing to get wrong. The loss is the formula.

# %%
def response_logp(model, prompt, response):
    """log p(response | prompt), shape [], nats, summed over the response tokens and `<eos>`."""
    tokenizer = policy.tokenizer
    ids = tokenizer(prompt + response + tokenizer.eos_token, return_tensors="pt").input_ids
    logp = model(ids).logits[:, :-1].log_softmax(-1)  # [1, tokens - 1, vocabulary]
    label_logp = logp.gather(2, ids[:, 1:, None])[0, :, 0]  # [tokens - 1]
    return label_logp[len(tokenizer(prompt).input_ids) - 1 :].sum()


def pair_loss(model, pair):
    ref = reference.loc[pair["id"]]
    d_w = response_logp(model, pair["prompt"], pair["chosen"]) - ref.chosen_logp
    d_l = response_logp(model, pair["prompt"], pair["rejected"]) - ref.rejected_logp
    return -F.logsigmoid(beta * (d_w - d_l))


[round(pair_loss(policy.model, pair).item(), 6) for pair in pairs.select(range(4))]

# %% [markdown]
# Four times ln 2. Now ten optimizer steps on 16 pairs each. All that TRL does besides: AdamW, a
# learning rate that warms up over five steps (in step 1 it is **0**, so nothing moves yet), and a
# gradient whose norm is clipped at 1. **Predict** the losses of steps 1 and 2.

# %%
import copy

mine = copy.deepcopy(policy.model)  # the policy; the original stays as the reference
adam = dict(lr=settings["learning_rate"], betas=(0.9, settings["adam_beta2"]), weight_decay=0)
optimizer = torch.optim.AdamW(mine.parameters(), **adam)
warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, step / 5))

# %%
my_losses = []
for step in range(10):
    batch = pairs.select(range(16 * step, 16 * step + 16))
    loss = torch.stack([pair_loss(mine, pair) for pair in batch]).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(mine.parameters(), settings["max_grad_norm"])
    optimizer.step()
    warmup.step()
    my_losses.append(loss.item())

# %% [markdown]
# The same ten steps through `nb.train_dpo`, which hands pairs and reference log-probs to TRL's
# `DPOTrainer`: the same start, the same order, the same settings.

# %%
ten = nb.train_dpo(
    policy, pairs, reference=reference, order="given", max_steps=10, log_every=1, progress=False,
    **settings,
)  # fmt: skip
steps = ten.history[["step", "learning_rate", "loss", "margin", "accuracy"]].copy()
steps.insert(3, "loss by hand", my_losses)
steps.round({"loss": 6, "loss by hand": 6, "margin": 3, "accuracy": 2})

# %%
by_hand = nb.response_logprobs(nb.Policy(mine, policy.tokenizer), pairs, progress=False)
by_trl = nb.response_logprobs(ten.policy, pairs, progress=False)
loss_error = (steps["loss"] - steps["loss by hand"]).abs().max()
logp_error, moved = ((by_trl - other).abs().max().max() for other in (by_hand, reference))
assert loss_error < 1e-5 and logp_error < 1e-2 * moved
Markdown(f"""Losses differ by at most {loss_error:.0e}, log-probs after ten steps by
{logp_error:.0e} nats; training moved them by up to {moved:.2f}. The rest is float32 rounding.""")

# %% [markdown]
# ## 4 · A real run, and what happens to the chosen responses
# Read the gradient again: it sees the *difference* of two log-probs. Nothing in it says that the
# chosen response must become likelier. We train twice on the same pairs. **Short leash**: the
# world's settings. **Long leash**: the small β = 0.1 that is usual with large models, and three
# times the learning rate (two changes at once: section 5 takes them apart). Both runs are followed
# on held-out pairs, about facts that are in no training pair.
#
# **Predict**: where will the chosen log-probs go, up or down?

# %%
def train(beta=settings["beta"], learning_rate=settings["learning_rate"], **options):
    leash = dict(beta=beta, learning_rate=learning_rate, reference=reference, progress=False)
    return nb.train_dpo(policy, pairs, **{**settings, **leash, **options})


held_out_reference = nb.response_logprobs(policy, held_out, progress=False)
both_tables = pd.concat([reference, held_out_reference])  # of the kept and the followed pairs
follow = dict(trace=held_out, reference=both_tables, log_every=20)
runs = {"short leash": train(**follow), "long leash": train(0.1, 3e-4, **follow)}
pd.concat({name: run.history for name, run in runs.items()}).iloc[:, [0, 2, 3, 4, 5, 6]].round(3)

# %% tags=["picture"]
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, (name, run) in zip(axes, runs.items()):
    nb.plots.training_trace(run.trace, ax)
    used = run.settings
    ax.set_title(f"{name}: β = {used['beta']:g}, learning rate {used['learning_rate']:.0e}")
axes[1].set_ylabel("nats, summed (note the other scale)");

# %% [markdown]
# Now pair by pair: on the pairs trained on, and on held-out ones. With a **control**: the short
# leash again, on the same pairs, with every label decided by a coin.

# %%
import numpy as np


def coin_labels(seed):
    """The pairs, in half of them (at random) chosen and rejected exchanged."""
    frame = pairs.select_columns(["id", "prompt", "chosen", "rejected"]).to_pandas()
    heads = np.random.default_rng(seed).random(len(frame)) < 0.5
    frame.loc[heads, ["chosen", "rejected"]] = frame.loc[heads, ["rejected", "chosen"]].to_numpy()
    return nb.load_pairs(frame)


coin_pairs = coin_labels(0)
coin = nb.train_dpo(policy, coin_pairs, progress=False, **settings)

# %%
def ratios(run, on):
    """d_w and d_l of the pairs, nats: columns `chosen, rejected`."""
    after, before = (nb.response_logprobs(who, on, progress=False) for who in (run.policy, policy))
    return nb.scores.log_ratios(after, before)


def displacement(run, on):
    d = ratios(run, on)
    grew, fell = d.chosen > d.rejected, d.chosen < -0.1  # by more than 0.1 nat
    share, low, high = nb.mean_interval(grew & fell)
    return {"mean d_w": d.chosen.mean(), "mean d_l": d.rejected.mean(), "margin grew": grew.mean(),
            "chosen rose": (d.chosen > 0.1).mean(), "chosen fell": fell.mean(),
            "rejected fell": (d.rejected < -0.1).mean(),
            "displaced": share, "low": low, "high": high}  # fmt: skip

# %%
rows = {}
for name, run, trained_on in [*((*item, pairs) for item in runs.items()),
                              ("coin labels", coin, coin_pairs)]:  # fmt: skip
    rows[name, "training"] = displacement(run, trained_on)
    rows[name, "held-out"] = displacement(run, held_out)
displaced = pd.DataFrame(rows).T
displaced.round(2)  # d in nats; the others are shares of the pairs

# %% [markdown]
# `displaced` (`low`, `high`: 95% over pairs) is **likelihood displacement** (Razin et al., who look
# at trained pairs): the margin grows while the chosen response becomes *less* likely. Rises and
# falls count here from 0.1 nat. On the long leash displacement is common, on trained and held-out
# pairs, and the mean falls too. On the short leash it is rare, and on training pairs little above
# the coin's: any training moves log-probs. Probabilities add up to 1, so the lost mass went to
# something else. To what? We let both policies answer, and count the answers that are a sentence
# of this world at all: known opening, one animal, known closing.

# %%
sentences = {
    world.compose(opening, animal, closing)
    for opening in world.OPENINGS for animal in world.ANIMALS for closing in world.CLOSINGS
}  # fmt: skip
answers = {"SFT": sft} | {name: judged(run.policy) for name, run in runs.items()}
for table in answers.values():
    table["a sentence"] = table.response.isin(sentences).astype(float)
pd.DataFrame({"prompt": sft.prompt} | {who: t.response for who, t in answers.items()}).head(6)

# %%
columns = ["a sentence", "correct", "tone", "win"]
pd.DataFrame({name: table[columns].mean() for name, table in answers.items()}).T.round(2)

# %% [markdown]
# SFT's own `win` is not exactly ½: that is the luck of two draws (section 6).
#
# Why does the loss let this happen? Take the **training** pair whose chosen response fell the most
# on the long leash while its margin grew. Colour is each token's log-ratio.

# %%
d = ratios(runs["long leash"], pairs)
worst = d.chosen.where(d.chosen > d.rejected).idxmin()
one = pairs.select([pairs["id"].index(worst)])
after = nb.token_logprobs(runs["long leash"].policy, one)
before = nb.token_logprobs(policy, one)
nb.plots.token_view(after, before, worst)

# %%
def by_side(after):
    change = after.assign(change=after.logp - before.logp)
    return change.pivot(index="position", columns="side", values=["token", "change"])


token, change = by_side(after).token, by_side(after).change
same = (token.chosen == token.rejected).cummin()  # until they first differ
lost = change.chosen.idxmin()
word = token.chosen[0]
starts = pairs.to_pandas()[["chosen", "rejected"]].apply(lambda text: text.str.startswith(word))
up, down = (starts.chosen > starts.rejected).sum(), (starts.rejected > starts.chosen).sum()
without = train(0.1, 3e-4, keep=[name for name in pairs["id"] if name != worst])
still = by_side(nb.token_logprobs(without.policy, one)).change.chosen[same].sum()

# %%
Markdown(f"""The two responses begin alike, for {same.sum()} tokens. There both have the same
log-ratio, which **cancels in the margin**. Of the {d.chosen[worst]:+.1f} nats of the chosen
response, {change.chosen[same].sum():+.1f} are on these tokens, and
{change.chosen[lost] / d.chosen[worst]:.0%} of the fall is on a single one, "{token.chosen[lost]}"
at position {lost}. The pair's own loss is blind to it, so it does not protect it: it only sees
that the rejected response fell further ({d.rejected[worst]:+.1f}). What moved these tokens is
**other pairs**: trained without this one, they still move by {still:+.1f} nats. "{word} ..." opens
only the rejected response in {down} pairs and only the chosen one in {up}; there such words stand
on one side only, and the loss does see them. What holds a shared part in place is the leash: β,
small steps, few of them.
{p.note}""")

# %% [markdown]
# ## 5 · β and the learning rate
# β is the price of leaving the reference, the learning rate the speed of leaving. DPO's authors
# judge an optimizer by what it earns for how far it goes (paper, figure 2): **reward** against
# **KL from the reference**. With answers sampled from the policy itself the KL is a plain mean,
# $\text{KL}(\pi_\theta \| \pi_{\text{ref}}) = \mathbb{E}_{y \sim \pi_\theta}
# \big[\log \pi_\theta(y \mid x) - \log \pi_{\text{ref}}(y \mid x)\big]$: once more the log-ratio
# of lesson 01. We have the true reward, so we can draw the figure.
#
# **Predict**: which corner of the grid, large or small β, high or low rate, earns the most?

# %%
def gain(table, column, over):
    """Mean and 95% interval of the difference from another policy, question by question."""
    ours, theirs = (rows.groupby("prompt")[column].mean() for rows in (table, over))
    return nb.mean_interval(ours - theirs)

# %%
from datasets import Dataset


def kl(trained, table):
    """KL, nats a response: mean log-ratio of the policy's own answers. And the share cut off."""
    columns = {"id": [str(i) for i in table.index], "prompt": table.prompt,
               "chosen": table.response, "rejected": table.response + " ?"}  # only `chosen` is read
    said = Dataset.from_dict({name: list(column) for name, column in columns.items()})
    new, old = (nb.response_logprobs(who, said, progress=False) for who in (trained, policy))
    cut = new.chosen_tokens > how["max_new_tokens"]  # no <eos> sampled: the one scored is ours
    return {"KL": nb.scores.log_ratios(new, old).chosen.mean(), "cut": cut.mean()}

# %%
grid = []
for b in p.pick(quick=[0.1, 2.0], full=[0.1, 0.5, 2.0]):
    for rate in p.pick(quick=[1e-4, 3e-4], full=[1e-4, 3e-4, 1e-3]):
        run = train(b, rate)
        table = judged(run.policy)
        row = {"β": b, "learning rate": f"{rate:.0e}"} | kl(run.policy, table)
        row |= {name: gain(table, name, over=sft) for name in ("reward", "correct", "win")}
        grid.append(row | displacement(run, held_out))
grid = pd.DataFrame(grid)

# %%
def parts(estimates):
    return pd.DataFrame([[*one] for one in estimates], columns=["value", "low", "high"])


fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, score in zip(axes, ["reward", "correct"]):
    found = parts(grid[score])
    reach = [found.value - found.low, found.high - found.value]
    ax.errorbar(grid.KL, found.value, reach, fmt="none", ecolor="0.75", zorder=0)
    sns.scatterplot(grid, x="KL", y=found.value, hue="β", style="learning rate", s=80,
                    palette="colorblind", ax=ax, legend=ax is axes[1])  # fmt: skip
    ax.axhline(0, color="0.45", linestyle="--")
    ax.set_xscale("symlog", linthresh=0.1)
    ax.set(xlim=(-0.02, 2 * grid.KL.max()), ylabel=f"{score}, minus SFT (95% over questions)",
           xlabel="KL from the reference (nats a response)")  # fmt: skip
sns.move_legend(axes[1], "upper left", bbox_to_anchor=(1, 1), frameon=False)

# %%
def verdict(found):
    return "above" if found.low > 0 else "below" if found.high < 0 else "not distinguishable from"


win, reward, correct = (parts(grid[name]) for name in ("win", "reward", "correct"))
best, far = reward.value.idxmax(), grid.KL.idxmax()
styled = (win.low > 0) & (correct.high < 0)
steps = grid.pivot(index="β", columns="learning rate", values="KL").diff().dropna().stack()
held = f"{(steps < 0).sum()} of {len(steps)} steps to a larger β at the same learning rate"
at = grid.assign(reward=reward.value, correct=correct.value).set_index(["learning rate", "β"])
slow, fast = at.loc["1e-04"], at.loc[at.index[-1][0]]
at[["KL", "reward", "correct"]].unstack(sort=False).round(2)  # reward and share correct: minus SFT

# %%
Markdown(f"""
**Reward against drift.** The best of the {len(grid)} runs has KL {grid.KL[best]:.2f}
(β = {grid["β"][best]:g}, rate {grid["learning rate"][best]}): reward {reward.value[best]:+.2f} on
SFT. The farthest has KL {grid.KL[far]:.1f}: reward {reward.value[far]:+.2f}, share correct
{correct.value[far]:+.2f}, log-probs of held-out chosen responses {grid["mean d_w"][far]:+.1f}
nats. (Answers cut off before their end would make a KL approximate: at most {grid.cut.max():.1%} of
a run's answers are.)

**β or rate?** A larger β holds the policy closer in {held}. At the lowest rate β hardly matters:
reward {slow.reward.min():+.2f} to {slow.reward.max():+.2f}. At the highest a small β loses the
answers: share correct {fast.correct.iloc[0]:+.2f} with β = {fast.index[0]:g},
{fast.correct.iloc[-1]:+.2f} with {fast.index[-1]:g}. The long leash changed both, and the rate
matters as much: KL {at.KL["1e-04", 2.0]:.2f} on the short leash, {at.KL["1e-04", 0.1]:.2f} with
β = 0.1 alone, {at.KL["3e-04", 2.0]:.2f} with rate 3e-4 alone, {at.KL["3e-04", 0.1]:.2f} with both.

**Winning is not knowing**: in {styled.sum()} of the {len(grid)} runs the policy wins more than SFT
(interval of the difference above 0) and is right *less* often (interval below 0).

One seed each, so the best of {len(grid)} is partly luck. The course's own setting (β = {beta:g},
rate {settings["learning_rate"]:.0e}) is cautious: with a smaller β, training sometimes broke the
set phrases (`nbkit/world/README.md`). {p.note}
""")

# %% [markdown]
# ## 6 · Did it help?
# One win rate proves little: it has the luck of the samples and of the order of the data. So, for
# the short leash: several seeds; the SFT policy **against itself**, which must come out near ½ (a
# 95% interval misses one time in twenty); and the **coin labels** of section 4, which must not win.
# One more confession: the world's settings were searched on other pairs, but
# on these questions.

# %%
trained = {"SFT against itself": [], "coin labels": [], "DPO": []}
for seed in p.seeds:
    run = train(seed=seed)
    coin = nb.train_dpo(policy, coin_labels(seed), seed=seed, progress=False, **settings)
    for name, who in zip(trained, (policy, coin.policy, run.policy)):
        trained[name].append(judged(who, seed))
pooled = {name: pd.concat(tables) for name, tables in trained.items()}

# %%
rows = {f"{name}, {len(p.seeds)} seed(s)": table for name, table in pooled.items()}
rows |= {f"DPO, seed {seed}": table for seed, table in zip(p.seeds, trained["DPO"])}
rows |= {"long leash, seed 0": answers["long leash"]}
summary = pd.DataFrame([(name, *interval(table, "win")) for name, table in rows.items()],
                       columns=["name", "win_rate", "low", "high"])  # fmt: skip
fig, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
nb.plots.win_rates(summary, axes[0], xlabel="win rate against SFT (a tie counts ½)")
base, dpo = pooled["SFT against itself"], pooled["DPO"]
shown = {"SFT": base, "DPO": dpo, "long leash": answers["long leash"]}
by_rung = pd.concat(
    table.groupby(["rung", "prompt"], as_index=False).correct.mean().assign(policy=name)
    for name, table in shown.items()
)
sns.lineplot(by_rung, x="rung", y="correct", hue="policy", style="policy", markers=True, seed=0,
             palette="colorblind", ax=axes[1])  # fmt: skip
axes[1].set(ylabel="share correct", xlabel="rung (1: often told, 6: the long tail)")
axes[1].legend(title="bands: 95% over questions", frameon=False);

# %%
lines = []
for name, table in pooled.items():
    lines.append(f"- **{name}**: {interval(table, 'win'):.3f}")
for name in ("coin labels", "DPO"):  # compared with the same SFT answers, so their luck cancels
    found = gain(pooled[name], "win", over=base)
    lines.append(f"- **{name} minus SFT against itself**: {found:+.3f}, {verdict(found)} zero")
paired = [ours.win.mean() - theirs.win.mean()
          for ours, theirs in zip(trained["DPO"], trained["SFT against itself"])]  # fmt: skip
found = nb.seed_interval(paired)
lines.append("- DPO minus SFT against itself, over training seeds (Student's t): "
             f"{found:+.3f}, {verdict(found)} zero")  # fmt: skip
Markdown("\n".join(["Win rates, 95% intervals over questions:", "", *lines, "", p.note]))

# %% [markdown]
# The first row says how lucky this draw of SFT answers was, so a gain is the distance **to that
# row**. Without it, that luck would pass for an effect, or hide one.
#
# What is the win made of? A right animal is worth 2 points of reward, tone and manner less. And is
# the model *better informed*, or just surer? Temperature 1 rewards a policy for being surer; the
# greedy answer (temperature 0) cannot profit from that.

# %%
greedy = {}
for name, who in {"SFT": policy, "DPO": run.policy}.items():  # run: the last seed
    said = nb.sample(who, sft.prompt.unique(), **{**how, "temperature": 0})
    greedy[name] = [world.grade(*answer).correct for answer in zip(sft.prompt.unique(), said)]
known = nb.mean_interval(np.subtract(greedy["DPO"], greedy["SFT"], dtype=float))
lines = []
for part in ("correct", "tone", "manner"):
    found = gain(dpo, part, over=base)
    lines.append(f"- **{part}**: {found:+.3f}, {verdict(found)} zero")
Markdown("\n".join(["DPO minus SFT, answers at temperature 1:", "", *lines, "", f"""
Greedy answers: {np.mean(greedy["SFT"]):.0%} right before, {np.mean(greedy["DPO"]):.0%} after:
{known:+.3f}, {verdict(known)} zero. {p.note}"""]))

# %% [markdown]
# Where sampled answers improve and greedy ones do not, DPO has **sharpened** the policy: it says
# more often what it held likeliest anyway. That is worth having, but it is not knowledge, and no
# pair told it about these facts. What falls in the greedy answers is a cost of the drift.
#
# ## 7 · Other losses on the same margin
# - **IPO** (Azar et al.): $\big(d_w - d_l - \tfrac{1}{2\beta}\big)^2$: pulls the margin to a
#   target and no further. TRL takes the mean over tokens here, not the sum.
# - **hinge**, after SLiC (Zhao et al., there without a reference): $\max(0, 1 - m)$: full weight
#   up to margin 1, then none.
# - **SimPO** (Meng et al.): no reference; log-probs per token, and a target margin γ.
#
# The same pairs, seeds and settings for all, β included. They were chosen for DPO, so the table
# says how alike these losses are, and not which is best: for that, each would need its own search.

# %%
losses = {"sigmoid (DPO)": dpo}
for loss in ("ipo", "hinge", "simpo"):
    losses[loss] = pd.concat(judged(train(loss=loss, seed=s).policy, s) for s in p.seeds)

# %%
columns = pd.MultiIndex.from_product([["win rate", "minus DPO"], ["mean", "low", "high"]])
over_dpo = [gain(table, "win", over=dpo) for table in losses.values()]
rows = [[*interval(table, "win"), *found] for table, found in zip(losses.values(), over_dpo)]
compared = pd.DataFrame(rows, index=list(losses), columns=columns)
compared["minus DPO", "is"] = [f"{verdict(found)} zero" for found in over_dpo]
for part in ("correct", "tone"):
    compared["answers", part] = [table[part].mean() for table in losses.values()]
compared.round(3)

# %% [markdown]
# ## 8 · When this misleads
# - **A falling loss or a growing margin is no proof of progress.** On the long leash both were
#   fine while the answers broke. Log chosen and rejected log-probs apart, and read samples.
# - **A win rate adds up what should be looked at apart.** Look again at the long leash in section
#   6: what its right answers and its win rate did. With a real judge you do not even have the
#   parts: look at length, at samples, and at a second judge.
# - **An interval over questions is not one over training runs**: three seeds say little about the
#   spread of seeds. And questions repeated often are not new questions: we averaged them first.
# - **β has no meaning alone.** Its unit is reward a nat, so it depends on how long responses are
#   and how far the learning rate goes. Do not carry 2.0 from here to a large model.
# - **Held-out pairs are from the same writers and judge**: shares of pairs whose margin grew count
#   the judge's errors as truth. The answers were graded by the world's true reward, which you will
#   not have.
#
# ## 9 · Exercises
# Write the body of each function, then run the check below it.
#
# ### Exercise 1 · The loss
# *5 minutes · easy · you can write the DPO loss from memory, and it stays finite*
#
# <details><summary>Hint</summary>
# β times (policy minus reference of the chosen, minus the same of the rejected); then
# <code>torch.nn.functional.logsigmoid</code>, which does not overflow; minus; mean.
# </details>

# %%
def my_dpo_loss(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta):
    """Mean loss over the pairs, shape []; four tensors [pairs] of summed log-probs (nats)."""
    ### BEGIN SOLUTION
    margin = beta * ((chosen_logp - ref_chosen_logp) - (rejected_logp - ref_rejected_logp))
    return -torch.nn.functional.logsigmoid(margin).mean()
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_dpo_loss(my_dpo_loss)

# %% [markdown]
# ### Exercise 2 · Who pulls hardest?
# *5 minutes · easy · you can say which pairs DPO works on, and which it has finished with*
#
# <details><summary>Hint</summary>
# Section 2: minus the derivative of the loss with respect to the margin.
# </details>

# %%
def my_gradient_weight(margin):
    """Weight of each pair in the gradient, [pairs], 0 to 1; `margin` is a tensor [pairs]."""
    ### BEGIN SOLUTION
    return torch.sigmoid(-margin)
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_dpo_gradient_weight(my_gradient_weight)

# %% [markdown]
# ### Exercise 3 · Displaced pairs
# *10 minutes · medium · you can detect likelihood displacement in any training trace*
#
# `trace` has one row for each step and pair, in any order: `step, id, chosen_logp, rejected_logp,
# margin`. Which share of the pairs has a chosen log-prob that fell and a margin that grew, from the
# first step to the last?
#
# <details><summary>Hint</summary>
# <code>trace.pivot(index="id", columns="step", values="margin")</code> puts the steps side by side.
# </details>

# %%
def my_displacement(trace):
    """Share of displaced pairs, 0 to 1."""
    ### BEGIN SOLUTION
    first, last = trace["step"].min(), trace["step"].max()
    by_step = trace.set_index(["step", "id"])
    change = by_step.loc[last] - by_step.loc[first]
    return ((change["chosen_logp"] < 0) & (change["margin"] > 0)).mean()
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_displacement(my_displacement)

# %% [markdown]
# ## 10 · The paper said, we measured
# [P]: from a paper's text. [?]: our reading of it.

# %%
short, long, by_coin = (displaced.loc[name, "training"] for name in (*runs, "coin labels"))
won = gain(dpo, "win", over=base)
Markdown(f"""
| the paper said | we measured |
|---|---|
| At policy = reference the loss is ln 2 [?, from eq. 7] | {start.mean():.6f} |
| A pair's gradient is weighted by σ(−m) [P, section 4] | autograd agrees to {gradient_error:.0e} |
| The update raises chosen, lowers rejected responses [P, section 4] | on training pairs (by more \
than 0.1 nat) chosen rose on {short["chosen rose"]:.0%} and rejected fell on \
{short["rejected fell"]:.0%} (short leash), {long["chosen rose"]:.0%} and \
{long["rejected fell"]:.0%} (long) |
| The chosen can fall while the margin grows [P, Razin et al.] | on {short["displaced"]:.0%} \
(short leash), {long["displaced"]:.0%} (long), {by_coin["displaced"]:.0%} (coin) of the \
training pairs |
| A larger β stays closer to the reference [P, section 3] | in {held} |
| DPO improves on the SFT policy [P, section 6] | win rate, minus SFT \
against itself: {won:+.3f} |

{p.note}""")

# %% [markdown]
# Nothing here was run at the paper's scale: its models have up to six billion parameters, ours has
# under a hundred thousand, one style of text, and a judge whose error we know.
#
# ## In this lesson we saw
# - that the DPO loss is $-\log \sigma$ of the implicit margin, ln 2 and margin 0 before training,
#   and that ten steps by hand are TRL's ten steps;
# - that the loss sees differences only, so that chosen responses can become less likely, and what
#   both responses share is held by β and small steps alone;
# - that too far from the reference reward and correctness fall;
# - that a win rate needs an interval, a control, and correctness beside it.
#
# **Next**: DPO learns some pairs early and some never. Which ones, and should we leave them out?
#
# **References.** DPO: Rafailov et al., [2305.18290](https://arxiv.org/abs/2305.18290).
# Likelihood displacement: Razin et al., [2410.08847](https://arxiv.org/abs/2410.08847).
# IPO: Azar et al., [2310.12036](https://arxiv.org/abs/2310.12036). SimPO: Meng et al.,
# [2405.14734](https://arxiv.org/abs/2405.14734). SLiC: Zhao et al.,
# [2305.10425](https://arxiv.org/abs/2305.10425).

# %%
from importlib.metadata import version

print(" · ".join(f"{name} {version(name)}" for name in ("nbkit", "torch", "transformers", "trl")))
