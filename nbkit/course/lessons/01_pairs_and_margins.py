# %% [markdown]
# A **preference pair** is one prompt with two responses, of which somebody preferred one. Methods
# such as DPO train a language model on thousands of such pairs, and methods that *select* pairs
# ask the model one question first: what do you think of this pair? The answer is a number, the
# **margin**. In this lesson you build that number from raw text, token by token.
#
# **You will be able to**
# - say which tokens of a pair are scored, and see it;
# - compute the log-prob of a response by hand, and say what is summed and what is averaged;
# - compute an explicit and an implicit margin, and say what each can and cannot tell;
# - recognise the five classic errors by the numbers that they give.
#
# **Needs** lesson 00 (everything runs here), Python, a little PyTorch. No knowledge of DPO.
#
# **Time** 45 minutes to read and predict, 20 for the exercises.
#
# **On a GPU** nothing changes: these models are so small that the CPU is the right place.

# %% tags=["setup"]
import pandas as pd
import torch
from IPython.display import Markdown

import nbkit as nb
from nbkit import world

p = nb.course.profile()

# %% [markdown]
# ## 1 · What is in a pair?
# The data come from a small world in which everything is known. People ask which animal belongs to
# a thing and a name. The facts sit on *rungs*: rung 1 is told often in the texts that the models
# learned from, each further rung half as often, down to a long tail that a small model has no room
# to remember.
#
# A pair arises as in UltraFeedback, a data set that many papers use. Four writers answer one
# prompt: three language models (small, medium, large) and an expert, who always knows the animal.
# A judge scores the four answers. The best score is *chosen*, one of the others, at random,
# *rejected*. The judge is noisy, so now and then the label is wrong.

# %%
facts = world.facts()
facts.groupby("rung").head(1).set_index("prompt")[["answer", "rung"]]

# %%
pairs = world.pairs(p.pick(quick=96, full=1200))
df = pairs.to_pandas().set_index("id")
seen = ["prompt", "chosen", "rejected", "chosen_score", "rejected_score"]
truth = ["chosen_writer", "rejected_writer", "true_margin", "flipped"]
df[seen + truth].head(3).round(2).T

# %% [markdown]
# The last four rows are the truth, which no method gets to see: who wrote what, by how much the
# chosen response is really better, and whether the label is wrong (`flipped`). The true reward is
# simple: 2 for the right animal, up to half a point more or less for the opening ("happy to help !"
# is kind, "ugh , go away ." is not), a little for the closing. Read three pairs aloud, and decide
# each time which response you would have chosen.

# %%
clear = df.index[df.true_margin > 1.5][0]
style = df.index[df.true_margin.between(0.1, 1)][0]
wrong = df.index[df.flipped][0]
kinds = {"right or wrong animal": clear, "style only": style, "mislabelled": wrong}
for kind, pair in kinds.items():
    row = df.loc[pair]
    print(f"{kind}: {row.prompt}   (it is: {row.answer})")
    for side in ("chosen", "rejected"):
        judge, true = row[f"{side}_score"], row[f"{side}_reward"]
        print(f"    {side:8}  judge {judge:5.2f}, truth {true:5.2f}   {row[side]}")

# %%
both_right = (df[["chosen_reward", "rejected_reward"]] > 1).all(axis=1)
Markdown(f"""
The judge's error has a standard deviation of {world.NOISE}, and
**{df.flipped.mean():.0%}** of these {len(df):,} labels are wrong. Right and wrong
animals are rarely confused: of the {df.flipped.sum()} wrong labels,
{(both_right & df.flipped).sum()} stand between two responses that both name the
right animal. {p.note}
""")

# %% [markdown]
# ## 2 · From text to tokens
# A model reads numbers. The tokenizer turns text into tokens, and prompt and response are
# tokenised **together**, as one text. What the prompt alone gives is then the beginning of the
# sequence; the rest is the response. The response ends with the end-of-sequence token `<eos>`,
# which is scored too: *stopping here* is something the model decides.
#
# Each box below is one token. Point at it to see its position.

# %%
torch.set_num_threads(1)  # models this small lose more to a second thread than they gain
policy = nb.load_policy("world/" + p.pick(quick="small", full="medium"), device="cpu")
tokenizer = policy.tokenizer
tokens = {pair.id: pair for pair in nb.tokenize_pairs(tokenizer, pairs)}
prompt, chosen = tokens[clear].prompt, tokens[clear].chosen  # lists of token ids
names = tokenizer.convert_ids_to_tokens(prompt + chosen)
is_scored = [False] * len(prompt) + [True] * len(chosen)
nb.plots.mask_view(names, len(prompt), is_scored, special=["<bos>", "<eos>"])

# %% [markdown]
# Why not tokenise the two parts apart and join the lists? In this world it would do no harm: one
# word is one token. The tokenizers of real models merge letters into pieces, and a merge may reach
# **across the boundary**. Here is such a tokenizer, trained on our own pairs. The prompt ends with
# a space, as prompts like `Answer: ` often do. **Predict**: will the two lines be the same?

# %%
from tokenizers import ByteLevelBPETokenizer

bpe = ByteLevelBPETokenizer()
bpe.train_from_iterator(df.prompt + " " + df.chosen, vocab_size=600, show_progress=False)
question, answer = df.prompt[wrong] + " ", df.chosen[wrong]
print("together:", bpe.encode(question + answer).tokens)
print("apart:   ", bpe.encode(question).tokens + bpe.encode(answer).tokens)

# %% [markdown]
# They are not (`Ġ` is a space). Together, the space is part of the first word of the response;
# apart, it is a token of its own, and the word falls to pieces. It is the same text, yet the model
# learned from sequences like the first and has hardly met one like the second, so its log-prob is
# that of a strange text. People who trained on prompts that end with a space have met this
# ([trl#1153](https://github.com/huggingface/trl/pull/1153)). TRL, the library that trains in this
# course, tokenises together and splits where prompt and whole diverge; `nb.tokenize_pairs` gives
# the same tokens, and warns when the split had to move.
#
# ## 3 · The log-prob of a response, by hand
# A language model gives, at each position, a probability to every token that could come next. The
# log-prob of a response $y$ to a prompt $x$ is the sum over its tokens:
#
# $$\log \pi(y \mid x) \;=\; \sum_{t=1}^{|y|} \log \pi(y_t \mid x, y_{<t})$$
#
# | symbol | meaning | shape, unit |
# |---|---|---|
# | $\pi$ | the *policy*: the language model that we ask | |
# | $y_t$ | token $t$ of the response; the last one is `<eos>` | a token id |
# | $\lvert y \rvert$ | number of response tokens, `<eos>` included | tokens |
# | $\log \pi(y \mid x)$ | log-prob of the response | one number a response; nats, never above 0 |
#
# A *nat* is the unit of the natural logarithm: a probability of 1 is 0 nats, of ½ it is $-\ln 2$.
#
# We take two pairs from above, the clear one and the mislabelled one: four responses.
# **Predict, before you go on**: the mislabelled pair has a short and a long response, with the same
# animal in both. Which one gets the higher log-prob, and why?

# %%
two = [tokens[clear], tokens[wrong]]
sequences = [pair.prompt + y for pair in two for y in (pair.chosen, pair.rejected)]
prompt_tokens = torch.tensor([len(pair.prompt) for pair in two for _ in range(2)])
rows, pad_id = [torch.tensor(s) for s in sequences], tokenizer.pad_token_id
ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
real = ids != pad_id  # False on the padding that fills up short rows
with torch.no_grad():
    logits = policy.model(ids, attention_mask=real.long()).logits
print(f"ids     [responses, tokens]              {list(ids.shape)}")
print(f"logits  [responses, tokens, vocabulary]  {list(logits.shape)}")

# %% [markdown]
# Logits become log-probs with a *log-softmax* over the vocabulary. Then the step that is most
# often forgotten: what the model says at position $t$ is about token $t + 1$. So we drop the last
# prediction and the first token, and the two line up. `gather` picks, at each position, the
# log-prob of the token that really came.

# %%
logp = logits.log_softmax(-1)  # [4, T, vocabulary]
predicted, labels = logp[:, :-1], ids[:, 1:]  # the shift: [4, T - 1, vocabulary], [4, T - 1]
label_logp = predicted.gather(2, labels[:, :, None])[:, :, 0]  # [4, T - 1]
position = torch.arange(1, ids.shape[1])  # of each label in its row
scored = real[:, 1:] & (position >= prompt_tokens[:, None])  # response only, no padding

n = len(names) - 1  # the first row, as an example
row = {"last token read": names[:-1], "label": names[1:], "scored": scored[0, :n]}
pd.DataFrame({**row, "log-prob (nats)": label_logp[0, :n].double()}).round(2)

# %% [markdown]
# Most of the response costs nothing: once a set phrase has begun, the model knows how it goes on.
# The price is paid where something is decided: which opening, which animal, which closing, or that
# the text ends. Now the sum over the scored labels; nbkit does the same for all pairs. (Its last
# column, `tokens_hash`, is a fingerprint of the tokens that were scored: tables that differ in it
# are of different texts, and nbkit refuses to subtract them.)

# %%
by_hand = (label_logp * scored).sum(1)  # [4]: chosen, rejected, chosen, rejected
table = nb.response_logprobs(policy, pairs, progress=False)
from_nbkit = table.loc[[clear, wrong], ["chosen_logp", "rejected_logp"]].to_numpy().ravel()
assert torch.allclose(by_hand.double(), torch.tensor(from_nbkit), atol=1e-4)
table.loc[[clear, wrong]].round(2)

# %%
import numpy as np

short, long = table.loc[wrong].chosen_logp, table.loc[wrong].rejected_logp
Markdown(f"""
**Your prediction.**
- “{df.chosen[wrong]}”, {table.chosen_tokens[wrong]} tokens: {short:.2f} nats
  (probability {np.exp(short):.3f})
- “{df.rejected[wrong]}”, {table.rejected_tokens[wrong]} tokens: {long:.2f} nats
  (probability {np.exp(long):.3f})

If you said “the short one, because every token costs something”: it is the
**{"long" if long > short else "short"}** one. No token can raise the sum, but how much
it costs depends on how *surprising* it is, and a set phrase surprises only where it
begins.
""")

# %% [markdown]
# ## 4 · Summed or averaged?
# DPO **sums** log-probs over the response. SimPO, a later method, **averages** them over its
# tokens, in part because sums are said to punish long responses (its other reason: the mean per
# token is what decoding follows). Do they? We compare two kinds of
# text: the responses of our pairs, with their set phrases, and the same model *rambling* (sampled
# at a high temperature), where nearly every further word is a surprise.

# %%
from datasets import Dataset

some = df.head(p.pick(quick=96, full=400)).reset_index()
some["chosen"] = nb.sample(policy, some, temperature=2.5, max_new_tokens=20, progress=False)
some["rejected"] = some["chosen"] + " ?"  # a pair needs two answers; only the first is read
rambling = nb.response_logprobs(policy, Dataset.from_pandas(some), progress=False)
some[["prompt", "chosen"]].head(4)

# %% [markdown]
# **Predict**: how will sum and mean change with length, for our pairs and for rambling?

# %%
import matplotlib.pyplot as plt
import seaborn as sns

lengths = pd.concat({"our pairs": table, "rambling": rambling}, names=["text"]).reset_index()
lengths["sum"] = lengths.chosen_logp
lengths["mean"] = lengths.chosen_logp / lengths.chosen_tokens
look = {"x": "chosen_tokens", "hue": "text", "style": "text", "markers": True, "seed": 0}
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for ax, score, unit in zip(axes, ["sum", "mean"], ["nats", "nats per token"]):
    sns.lineplot(lengths, y=score, ax=ax, **look)
    ax.set(title=f"{score} of the log-probs (with 95% intervals)", ylabel=unit)
    ax.set(xlabel="response tokens", xticks=range(0, 21, 5))
    ax.legend(title=None, frameon=False)
plt.show()

# %%
slope = {
    (text, score): np.polyfit(rows.chosen_tokens, rows[score], deg=1)[0]
    for text, rows in lengths.groupby("text")
    for score in ("sum", "mean")
}
sum_prefers_chosen = table.chosen_logp > table.rejected_logp
differ = sum_prefers_chosen != (nb.scores.length_normalized_margin(table) > 0)
Markdown(f"""
With each further token (least squares), **rambling** changes its sum by
{slope["rambling", "sum"]:+.2f} nats and its mean by {slope["rambling", "mean"]:+.2f}:
long texts pay in the sum, hardly in the mean: the effect that averaging removes.
**Our pairs** change their sum by {slope["our pairs", "sum"]:+.2f} and their mean by
{slope["our pairs", "mean"]:+.2f}: here it is the *mean* that depends on length, as the
free tokens of a set phrase dilute the few that cost. Neither is neutral: on
{differ.mean():.0%} of our pairs, sum and mean disagree on which response the model
finds likelier. {p.note}
""")

# %% [markdown]
# Real prose lies between the two. Keep two things: a log-prob without the words *summed* or
# *per token* is not a number yet, and DPO sums while SimPO averages.
#
# ## 5 · Two margins
# **Explicit margin.** Someone outside the model scored both responses; take the difference:
# $r(x, y_w) - r(x, y_l)$, with $y_w$ the chosen response (winner) and $y_l$ the rejected one
# (loser). Shape [pairs]; its unit is the judge's own.
#
# **Implicit margin.** DPO reads a reward out of the model itself: how much likelier did training
# make a response, compared with a *reference*, the model that training started from?
#
# $$m = \beta\,(d_w - d_l), \qquad
# d_w = \log\frac{\pi_\theta(y_w \mid x)}{\pi_{\text{ref}}(y_w \mid x)}, \qquad
# d_l = \log\frac{\pi_\theta(y_l \mid x)}{\pi_{\text{ref}}(y_l \mid x)}$$
#
# | symbol | meaning | shape, unit |
# |---|---|---|
# | $\pi_\theta,\ \pi_{\text{ref}}$ | the policy that is trained; the reference, which stays | |
# | $d_w,\ d_l$ | log-ratio of the chosen, of the rejected response | [pairs], nats, summed |
# | $\beta$ | DPO's scale, above 0: reward for each nat | one number |
# | $m$ | implicit margin; above 0: moved towards the chosen response | [pairs], β × nats |
#
# A known answer first: before training, policy and reference are the same, so every margin is 0.

# %%
before = nb.scores.implicit_margin(table, table, beta=0.1)
assert (before == 0).all()
margins = {"explicit": nb.scores.explicit_margin(pairs), "implicit": before}
pd.DataFrame(margins).describe().loc[["count", "mean", "std", "min", "max"]].round(2)

# %% [markdown]
# The implicit margin says something only about a policy that differs from its reference. So we
# train: one pass of DPO over our pairs (what DPO does is lesson 02), and look at *other* pairs,
# about facts that the training did not touch. As a control we train a second policy in the same
# way, with every label decided by a coin.

# %%
tossed = df.reset_index()
heads = np.random.default_rng(0).random(len(df)) < 0.5
swap = ["rejected", "chosen"]
tossed.loc[heads, ["chosen", "rejected"]] = tossed.loc[heads, swap].to_numpy()

settings = world.DPO[policy.name.removeprefix("world/")] | {"progress": False}
trained = nb.train_dpo(policy, pairs, **settings).policy
control = nb.train_dpo(policy, Dataset.from_pandas(tossed), **settings).policy

# %%
held_out = world.pairs(p.pick(quick=96, full=600), part="validation")
reference = nb.response_logprobs(policy, held_out, progress=False)
after = nb.response_logprobs(trained, held_out, progress=False)
after_tosses = nb.response_logprobs(control, held_out, progress=False)
beta = settings["beta"]
margin = nb.scores.implicit_margin(after, reference, beta)
coin_margin = nb.scores.implicit_margin(after_tosses, reference, beta)
named = {"trained on our labels": margin, "trained on coin tosses": coin_margin}
fig, ax = plt.subplots(figsize=(8, 3.6))
nb.plots.margins(named, ax, xlabel=f"implicit margin (nats × β = {beta:g})")
ax.set_title("Held-out pairs after DPO (before it, all are 0)")
plt.show()

# %%
doubled = nb.scores.implicit_margin(after, reference, 2 * beta)
assert np.allclose(doubled, 2 * margin) and (doubled.rank() == margin.rank()).all()
share, low, high = nb.mean_interval(margin > 0)
Markdown(f"""
Training moved **{share:.0%}** [{low:.0%}, {high:.0%}] of the held-out pairs towards
their chosen response, coin tosses {(coin_margin > 0).mean():.0%}. Margins spread after
*any* training, even on noise; what the labels add is the shift. (The control need not
hit one half exactly: pairs share their set phrases, so their margins move together, and
the interval, which takes pairs as independent, is too narrow.)

β only scales: twice β, twice every margin, the same order. It is {beta:g} here, chosen for
this world (lesson 02 varies it); large models are mostly trained with a much smaller one.
A margin without its β cannot be compared with anybody else's. {p.note}
""")

# %%
# Where does a margin come from? The held-out pair with the largest one, token by token.
one = held_out.filter(lambda row: row["id"] == margin.idxmax())
by_token = [nb.token_logprobs(who, one) for who in (trained, policy)]
nb.plots.token_view(*by_token, margin.idxmax())

# %% [markdown]
# Point at a token for its numbers. Colour sits on the few tokens that decide something, as the
# price did in section 3; the rest of the text is not what this margin is about.
#
# ## 6 · Do the two margins agree?
# Each dot is a held-out pair. The explicit margin is above 0 for all of them *by construction*: the
# judge's scores made the labels, so they cannot call a label wrong, only doubtful. The implicit
# margin can: below 0, the policy moved towards the rejected response.
#
# **Predict**: where will the mislabelled pairs (crosses) lie?

# %%
flipped = held_out.to_pandas().set_index("id").flipped
both = pd.DataFrame({"explicit": nb.scores.explicit_margin(held_out), "implicit": margin})
both["label"] = flipped.map({True: "mislabelled", False: "correct"})
fig, ax = plt.subplots(figsize=(8, 4.2))
look = {"hue": "label", "style": "label", "alpha": 0.6}
sns.scatterplot(both, x="explicit", y="implicit", ax=ax, **look)
ax.axhline(0, color="0.45", linewidth=1)
ax.axvline(both.explicit.median(), color="0.45", linewidth=1, linestyle="--")
ax.set(xlabel="explicit margin (judge's points; dashed: its median)")
ax.set(ylabel=f"implicit margin (nats × β = {beta:g})")
plt.show()

# %%
unsure, against = both.explicit <= both.explicit.median(), both.implicit <= 0
judge = unsure.map({False: "sure (right half)", True: "unsure (left half)"})
moved = against.map({False: "to chosen (above 0)", True: "to rejected (below 0)"})
regions = [judge.rename("judge"), moved.rename("policy moved")]
flipped.groupby(regions).agg(pairs="size", mislabelled="mean").round(2)

# %%
def wrong_labels(ids):
    share, low, high = nb.mean_interval(flipped[ids])
    return f"**{share:.0%}** [{low:.0%}, {high:.0%}]"


doubt, quarrel = flipped.index[unsure & against], flipped.index[~unsure & against]
alone = {name: nb.select.easiest(both[name], len(doubt)) for name in ("explicit", "implicit")}
Markdown(f"""
Where the judge was **sure** and the policy moved the other way ({len(quarrel)} pairs),
{wrong_labels(quarrel)} of the labels are wrong: there it is mostly the policy that errs. Where
the judge was **unsure** and the policy moved away too ({len(doubt)} pairs), it is
{wrong_labels(doubt)}, although the policy learned from labels with the same noise. As many pairs
by one number alone: {wrong_labels(alone["explicit"])} (the smallest explicit margins),
{wrong_labels(alone["implicit"])} (the smallest implicit ones). Two weak doubts together seem to
say more than either; the intervals say how sure that is. {p.note}
""")

# %% [markdown]
# The course's selection methods live in this picture: *alignment potential* is the gap between the
# sizes of the two margins, *Selective DPO* drops the pairs with the largest held-out loss (the
# lowest implicit margins), *LossDiff-IRM* keeps a middle band of them and of a loss difference.
#
# Before training, the implicit margin is 0 and tells nothing. What a reference can say by itself
# is its **length-normalised margin**, the difference of the means per token. **Predict**: on what
# share of pairs do the untrained models agree with the label, and does size help?

# %%
scores = {}
for size in world.SIZES:
    untrained = nb.load_policy(f"world/{size}", device="cpu")
    logps = nb.response_logprobs(untrained, held_out, progress=False)
    scores[f"{size}, mean per token"] = nb.scores.length_normalized_margin(logps)
scores["after DPO, implicit"] = margin
rows = [
    (f"{name}; {label}", *nb.mean_interval(score[labelled] > 0))
    for name, score in scores.items()
    for label, labelled in (("label correct", ~flipped), ("label wrong", flipped))
]
agreement = pd.DataFrame(rows, columns=["name", "win_rate", "low", "high"])
nb.plots.win_rates(agreement, xlabel="share of pairs whose label the margin agrees with")
plt.show()

# %%
shares = {name: nb.mean_interval(score > 0) for name, score in scores.items()}
rows = [f"- {name}: **{s:.0%}** [{a:.0%}, {b:.0%}]" for name, (s, a, b) in shares.items()]
Markdown("\n".join(["Agreement with the label, all held-out pairs:", "", *rows, "", p.note]))

# %% [markdown]
# **What this can tell.** A larger model remembers more animals, so it agrees with more of the
# correct labels. On wrong labels the untrained models are near a coin toss: those pairs differ in
# style, and nothing taught these models which style is liked. DPO taught it, and the trained policy
# contradicts most of the wrong labels.
#
# **What it cannot tell.** A likelihood is no judgement of quality: it also favours what the model
# itself would write, and some of these responses *are* its own samples. The average also dilutes
# the one token that carries the animal (section 4); summed, the shares would be others. And to
# agree with a label is not to be right: only knowing the truth told the two apart here.
#
# ## 7 · Five classic errors
# All five come from public issue threads: no shift
# ([LlamaFactory#1447](https://github.com/hiyouga/LlamaFactory/issues/1447)), padding counted
# ([a DPO repository](https://github.com/0xallam/Direct-Preference-Optimization/issues/4)), the
# prompt counted ([mlx-lm-lora#79](https://github.com/Goekdeniz-Guelmez/mlx-lm-lora/issues/79)), β
# twice ([tinker-cookbook#21](https://github.com/thinking-machines-lab/tinker-cookbook/issues/21)),
# and sum or mean, about which readers of code ask again and again
# ([SimPO#4](https://github.com/princeton-nlp/SimPO/issues/4),
# [trl#789](https://github.com/huggingface/trl/issues/789)). Each cell puts the wrong number beside
# the right one.

# %%
def compare(**numbers):
    index = [tokenizer.decode(y) for pair in two for y in (pair.chosen, pair.rejected)]
    columns = {name: x.double() for name, x in numbers.items()}
    return pd.DataFrame(columns, index=index).round(2)


# 1 · No shift: position t is asked about its own token, which the model has just read.
# Moral: log-probs far too low mean that labels and predictions are misaligned.
own_token = logp[:, 1:].gather(2, labels[:, :, None])[:, :, 0]
compare(right=by_hand, wrong=(own_token * scored).sum(1))

# %%
# 2 · Padding counted: only the longest rows are right; the batch decides the number.
# Moral: score a pair alone and in a batch, and compare.
with_padding = position >= prompt_tokens[:, None]
compare(right=by_hand, wrong=(label_logp * with_padding).sum(1))

# %%
# 3 · Prompt counted: chosen and rejected are off by the same amount, so the summed margin
# (and DPO's loss) stays right and hides it; means are ruined.
# Moral: test log-probs, not only margins.
with_prompt = real[:, 1:]
wrong_sum = (label_logp * with_prompt).sum(1)
right_mean, wrong_mean = by_hand / scored.sum(1), wrong_sum / with_prompt.sum(1)
compare(right=by_hand, wrong=wrong_sum, right_mean=right_mean, wrong_mean=wrong_mean)

# %%
# 4 · Mean where DPO has a sum: the margins shrink, and some change sign.
# Moral: say which reduction; a β that was tuned for one is no β for the other.
per_token = nb.scores.length_normalized_margin
averaged = beta * (per_token(after) - per_token(reference))
pd.Series({
    "right: mean size of the margins": margin.abs().mean(),
    "wrong: mean size of the margins": averaged.abs().mean(),
    "share of pairs with the other sign": (margin * averaged < 0).mean(),
}).round(3).to_frame("")

# %%
# 5 · β twice: m has it already. The accuracy (share above 0) cannot show it, nor can
# policy = reference, where all is 0.
# Moral: test against a known value, with a policy that has moved.
def summary(m):
    loss = np.logaddexp(0, -m)  # -log sigmoid(m), lesson 02
    return {"margin": m.mean(), "accuracy": (m > 0).mean(), "loss": loss.mean()}


pd.DataFrame({"right": summary(margin), "wrong": summary(beta * margin)}).round(3)

# %% [markdown]
# ## 8 · When this misleads
# - **Truncation.** A pair that is too long for the model must not be cut silently: a response
#   without tokens has log-prob 0, the best there is. `nb.response_logprobs` leaves such pairs out
#   and names them in `table.attrs["left_out"]`.
# - **Dropout left on, or the trained policy used as its own reference**: the margins are noise, or
#   all 0. "m = 0 before training" catches the first, "m is not 0 after it" the second.
# - **A growing margin is not a better chosen response.** It grows too when both log-probs fall and
#   the rejected one falls faster: *likelihood displacement*, lesson 02.
# - **This world is kind.** Set phrases, one-word answers, one judge. In real text the style, the
#   length and the content of a response cannot be told apart as here.
#
# ## 9 · Exercises
# Write the body of each function, then run the check below it. Nothing breaks if you skip one.
#
# ### Exercise 1 · Which labels are scored?
# *5 minutes · easy · you can build the mask that decides everything after it*
#
# `ids` is one row of tokens: the prompt, the response, padding. Return a bool tensor over the
# **labels** `ids[1:]`: True where the label is a token of the response.
#
# <details><summary>Hint</summary>
# Label number 0 is token 1. <code>torch.arange(1, len(ids))</code> gives each label's position.
# </details>

# %%
def my_response_mask(ids, prompt_length, pad_id):
    """Bool mask [length - 1] over label positions; `ids` is a LongTensor [length]."""
    ### BEGIN SOLUTION
    position = torch.arange(1, len(ids))
    return (position >= prompt_length) & (ids[1:] != pad_id)
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_response_mask(my_response_mask)

# %% [markdown]
# ### Exercise 2 · The log-prob of a response
# *10 minutes · medium · you can go from logits to the number that every method here starts from*
#
# One row, no padding. Sum the log-probs of the response tokens.
#
# <details><summary>Hint</summary>
# Three steps from section 3: <code>log_softmax</code> over the vocabulary, the shift,
# <code>gather</code>. Then sum from the label at position <code>prompt_length</code> on.
# </details>

# %%
def my_sequence_logprob(logits, ids, prompt_length):
    """Nats, summed; `logits` [length, vocabulary]: row t is about ids[t + 1]; `ids` [length]."""
    ### BEGIN SOLUTION
    predicted, labels = logits.log_softmax(-1)[:-1], ids[1:]
    label_logp = predicted.gather(1, labels[:, None])[:, 0]
    return label_logp[prompt_length - 1 :].sum()
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_sequence_logprob(my_sequence_logprob)

# %% [markdown]
# ### Exercise 3 · The implicit margin
# *5 minutes · easy · you can state DPO's margin without looking it up*
#
# <details><summary>Hint</summary>
# First the two log-ratios, policy minus reference; then chosen minus rejected; β once.
# </details>

# %%
def my_implicit_margin(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta):
    """Implicit margins [pairs]; four tensors [pairs] of summed log-probs (nats)."""
    ### BEGIN SOLUTION
    return beta * ((chosen_logp - ref_chosen_logp) - (rejected_logp - ref_rejected_logp))
    ### END SOLUTION


# %% tags=["check"]
nb.course.exercises.check_implicit_margin(my_implicit_margin)

# %% [markdown]
# ## In this lesson we saw
# - that prompt and response are tokenised together, and that the response and its `<eos>`, nothing
#   else, are scored;
# - that the log-prob of a response is a sum of log-probs of labels, one position after what was
#   read, and that sum and mean are different scores which can disagree on the same pair;
# - that the explicit margin comes from a judge, and the implicit one from training: it is 0 for
#   policy = reference, and β only scales it;
# - that doubts of both together point to wrong labels, while a policy that contradicts a sure judge
#   is mostly wrong itself;
# - five errors, each with the number that gives it away.
#
# **Next**: what the loss on such a margin does to a model.
#
# **References.** DPO: Rafailov et al., [2305.18290](https://arxiv.org/abs/2305.18290) (implicit
# reward, sections 4 and 5). SimPO: Meng et al., [2405.14734](https://arxiv.org/abs/2405.14734)
# (length-normalised reward, section 2). The papers of this course build on them: Selective DPO,
# [2502.09650](https://arxiv.org/abs/2502.09650) (the loss of $m$ as difficulty); alignment
# potential, [2503.01864](https://arxiv.org/abs/2503.01864) (explicit against implicit margin);
# TIF, [2510.13212](https://arxiv.org/abs/2510.13212) (the implicit margin as a proxy of influence).

# %%
from importlib.metadata import version

packages = ["nbkit", "torch", "transformers", "trl"]
print(" · ".join(f"{name} {version(name)}" for name in packages))
