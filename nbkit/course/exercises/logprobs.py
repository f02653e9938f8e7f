"""Exercises of lesson 01: which tokens are scored, a response's log-prob, the implicit margin."""

import math
from collections.abc import Callable

import torch

from nbkit.course.exercises.checking import (
    Exercise,
    Mistake,
    Result,
    answers_like,
    check,
    mask,
    number,
    vector,
)


def check_response_mask(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: bool mask [length - 1] over label positions.

    `ids` is a LongTensor [length]: the prompt's `prompt_length` tokens, the response, padding.
    Entry t belongs to label `ids[t + 1]`, which the model predicts at position t: True where that
    label is a token of the response.

    Args:
        learner: yours, `learner(ids, prompt_length, pad_id)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_response_mask(lambda ids, prompt_length, pad_id: ...)
        check_response_mask: not attempted
    """
    return check(RESPONSE_MASK, learner, seed)


def check_sequence_logprob(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: log-prob of the response, nats, summed over tokens.

    `logits` [length, vocabulary] (row t predicts token t + 1), `ids` LongTensor [length].

    Args:
        learner: yours, `learner(logits, ids, prompt_length)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_sequence_logprob(lambda logits, ids, prompt_length: ...)
        check_sequence_logprob: not attempted
    """
    return check(SEQUENCE_LOGPROB, learner, seed)


def check_implicit_margin(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the implicit margin of each pair, [pairs].

    Four tensors [pairs] of summed log-probs (nats), under the policy and the reference; the
    margin is beta times the difference of the log-ratios, chosen minus rejected.

    Args:
        learner: yours, `learner(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp,
            beta)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_implicit_margin(
        ...     lambda chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta: ...
        ... )
        check_implicit_margin: not attempted
    """
    return check(IMPLICIT_MARGIN, learner, seed)


# Response mask -----------------------------------------------------------------------------------


def response_mask(ids, prompt_length, pad_id, *, start=0):
    """True where the label is in the response; `start` moves its beginning (for mistakes)."""
    label_position = torch.arange(1, len(ids))
    return (label_position >= prompt_length + start) & (ids[1:] != pad_id)


def _draw_rows(rng):
    cases = []
    for prompt, response, padding in ((3, 4, 2), (5, 3, 4), (4, 6, 0), (2, 1, 3)):
        prompt += int(rng.integers(20))
        pad_id = int(rng.integers(100))
        tokens = [token for token in rng.permutation(200) if token != pad_id][: prompt + response]
        cases.append((torch.tensor([*tokens, *[pad_id] * padding]), prompt, pad_id))
    return cases


def _with_padding(ids, prompt_length, pad_id):
    return torch.arange(1, len(ids)) >= prompt_length


RESPONSE_MASK = Exercise(
    name="check_response_mask",
    arguments="ids, prompt_length, pad_id",
    solve=response_mask,
    draw=_draw_rows,
    read=mask("a bool mask with one entry for each label: shape [length - 1]"),
    mistakes=[
        Mistake(
            "No shift: this mask has an entry for each token. The first token is never a label, "
            "so a mask over labels is one shorter: entry t belongs to token t + 1.",
            lambda answer, expected, ids, *_: len(answer) == len(ids),
        ),
        answers_like(
            lambda *case: ~response_mask(*case),
            "Inverted: True where the label is in the response, False for prompt and padding.",
        ),
        answers_like(
            lambda *case: ~_with_padding(*case),
            "Inverted: True where the label is in the response, False for prompt and padding.",
        ),
        answers_like(
            _with_padding,
            "Padding is counted: labels that are pad_id must be False.",
        ),
        answers_like(
            lambda *case: response_mask(*case, start=1),
            "No shift: the response's first token is missing. Entry t belongs to token t + 1, so "
            "the first True is at prompt_length - 1.",
        ),
        answers_like(
            lambda *case: response_mask(*case, start=-1),
            "Off by one: the prompt's last token is counted. Entry t belongs to token t + 1, so "
            "the first True is at prompt_length - 1.",
        ),
    ],
)


# Log-prob of a response --------------------------------------------------------------------------


def token_logprobs(logits, ids, prompt_length, *, start=0):
    """Log-prob of each response token, [response]; `start` moves the beginning (for mistakes)."""
    logps = logits[:-1].log_softmax(-1)
    per_label = logps.gather(1, ids[1:, None])[:, 0]
    return per_label[prompt_length - 1 + start :]


def sequence_logprob(logits, ids, prompt_length):
    return token_logprobs(logits, ids, prompt_length).sum()


def _draw_logits(rng):
    cases = []
    for prompt, response in ((3, 4), (4, 2), (6, 7)):
        length, vocabulary = prompt + response, int(rng.integers(9, 15))
        logits = torch.tensor(rng.normal(0.5, 2, (length, vocabulary)), dtype=torch.float32)
        cases.append((logits, torch.tensor(rng.integers(0, vocabulary, length)), prompt))
    return cases


def _no_shift(logits, ids, prompt_length):
    return logits.log_softmax(-1).gather(1, ids[:, None])[prompt_length:].sum()


def _no_softmax(logits, ids, prompt_length):
    return logits[:-1].gather(1, ids[1:, None])[prompt_length - 1 :].sum()


SEQUENCE_LOGPROB = Exercise(
    name="check_sequence_logprob",
    arguments="logits, ids, prompt_length",
    solve=sequence_logprob,
    draw=_draw_logits,
    read=number("one number: the sum over the response's tokens"),
    mistakes=[
        answers_like(
            _no_shift,
            "No shift: logits[t] predicts token t + 1, so compare logits[:-1] with ids[1:].",
        ),
        answers_like(
            lambda *case: token_logprobs(*case).mean(),
            "This is the mean over tokens: DPO uses the sum.",
        ),
        answers_like(
            lambda logits, ids, prompt_length: token_logprobs(logits, ids, 1).sum(),
            "The prompt is counted: sum over the response's tokens only.",
        ),
        answers_like(
            _no_softmax,
            "These are raw logits: make them log-probs first (log_softmax over the vocabulary).",
        ),
        answers_like(
            lambda *case: sequence_logprob(*case) / math.log(2),
            "This is in bits (log2): use the natural logarithm, for nats.",
        ),
        answers_like(
            lambda *case: -sequence_logprob(*case),
            "The sign is turned: a log-prob is negative (cross-entropy is its negative).",
        ),
        answers_like(
            lambda *case: -token_logprobs(*case).mean(),
            "This is cross-entropy's default, the negative mean: turn the sign, and sum instead.",
        ),
        answers_like(
            lambda *case: sequence_logprob(*case).exp(),
            "This is the probability: return its logarithm.",
        ),
        answers_like(
            lambda *case: token_logprobs(*case).exp().sum(),
            "This sums probabilities: sum their logarithms (log_softmax, not softmax).",
        ),
        answers_like(
            lambda *case: token_logprobs(*case, start=1).sum(),
            "Off by one: the response's first token is missing. It is predicted at position "
            "prompt_length - 1.",
        ),
        answers_like(
            lambda *case: token_logprobs(*case, start=-1).sum(),
            "Off by one: the prompt's last token is counted. The response's first token is "
            "predicted at position prompt_length - 1.",
        ),
    ],
)


# Implicit margin ---------------------------------------------------------------------------------


def implicit_margin(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta):
    return beta * ((chosen_logp - ref_chosen_logp) - (rejected_logp - ref_rejected_logp))


def draw_logps(rng, pairs=4, beta=None):
    """Arguments of `implicit_margin`, with margins of about -2 to 2 nats."""
    beta = round(float(rng.uniform(0.05, 0.6)), 3) if beta is None else beta
    reference = rng.uniform(-60, -10, (2, pairs))
    policy = reference + rng.normal(0, 1 / beta, (2, pairs))
    rows = [*policy, *reference]
    return *(torch.tensor(row, dtype=torch.float32) for row in rows), beta


IMPLICIT_MARGIN = Exercise(
    name="check_implicit_margin",
    arguments="chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta",
    solve=implicit_margin,
    draw=lambda rng: [draw_logps(rng, pairs) for pairs in (3, 5, 4)],
    read=vector("one margin for each pair: shape [pairs], neither averaged nor summed"),
    mistakes=[
        answers_like(
            lambda *case: -implicit_margin(*case),
            "The sign is turned: chosen minus rejected, policy minus reference.",
        ),
        answers_like(
            lambda *case: implicit_margin(*case) / case[4],
            "beta is missing: multiply the difference of the log-ratios by beta.",
        ),
        answers_like(
            lambda *case: implicit_margin(*case) * case[4],
            "beta is multiplied in twice: once is enough.",
        ),
        answers_like(
            lambda *case: case[4] * (case[0] - case[1]),
            "The reference is missing: subtract its log-probs from the policy's.",
        ),
        answers_like(
            lambda *case: case[4] * (case[2] - case[3]),
            "This is the reference's own margin: use the policy minus the reference.",
        ),
        answers_like(
            lambda *case: case[4] * ((case[0] - case[2]) + (case[1] - case[3])),
            "The log-ratios are added: the margin is chosen minus rejected.",
        ),
        answers_like(
            lambda *case: implicit_margin(*case) / case[4] ** 2,
            "Divided by beta: multiply by it.",
        ),
    ],
)
