"""Exercises of lesson 05: Bradley-Terry loss, margin per token, contradictions."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from nbkit.course.exercises.checking import (
    Exercise,
    Mistake,
    Result,
    answers_like,
    check,
    number,
    told_apart,
    vector,
)


def check_bradley_terry(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the mean Bradley-Terry loss of the pairs, nats.

    Two arrays [pairs] of rewards. The loss of a pair is -log sigmoid(r(chosen) - r(rejected));
    finite even at a margin of -1000.

    Args:
        learner: yours, `learner(chosen_rewards, rejected_rewards)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_bradley_terry(lambda chosen_rewards, rejected_rewards: ...)
        check_bradley_terry: not attempted
    """
    return check(BRADLEY_TERRY, learner, seed)


def check_margin_per_token(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the length-normalised margin of each pair, [pairs], nats per token.

    Four arrays [pairs]: log-probs summed over the response (nats), and its number of tokens.

    Args:
        learner: yours, `learner(chosen_logp, rejected_logp, chosen_tokens, rejected_tokens)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_margin_per_token(
        ...     lambda chosen_logp, rejected_logp, chosen_tokens, rejected_tokens: ...
        ... )
        check_margin_per_token: not attempted
    """
    return check(MARGIN_PER_TOKEN, learner, seed)


def check_contradictions(learner: Callable, *, seed: int | None = None) -> Result:
    """Exercise: the share of pairs, 0 to 1, on which two margins prefer different responses.

    Two Series by pair id, of the same pairs in different orders. A margin of exactly 0 prefers
    neither response, and contradicts nobody.

    Args:
        learner: yours, `learner(explicit, implicit)`.
        seed: of the cases; default: other ones each time.

    Returns:
        Result: passed, not attempted, or not yet and a hint.

    Example:
        >>> import nbkit as nb
        >>> nb.course.exercises.check_contradictions(lambda explicit, implicit: ...)
        check_contradictions: not attempted
    """
    return check(CONTRADICTIONS, learner, seed)


# Bradley-Terry loss ------------------------------------------------------------------------------


def bradley_terry(chosen_rewards, rejected_rewards):
    return float(_losses(chosen_rewards, rejected_rewards).mean())


def _losses(chosen, rejected):
    return np.logaddexp(0, rejected - chosen)


def _draw_rewards(rng):
    cases = [rng.normal([[0.6], [-0.2]], 1.5, (2, int(rng.integers(4, 9)))) for _ in range(3)]
    cases[2][0, 0] -= 1000  # so low that exp overflows
    return [tuple(cases[i]) for i in rng.permutation(3)]


BRADLEY_TERRY = Exercise(
    name="check_bradley_terry",
    arguments="chosen_rewards, rejected_rewards",
    solve=bradley_terry,
    draw=_draw_rewards,
    read=number("one number: the mean loss in nats"),
    mistakes=[
        Mistake(
            "The loss is not finite at a margin of -1000, where sigmoid is 0 and exp overflows: "
            "use np.logaddexp(0, -margin).",
            lambda answer, expected, chosen, rejected: (
                (chosen - rejected).min() < -700 and not np.isfinite(answer)
            ),
        ),
        answers_like(
            lambda chosen, rejected: _losses(rejected, chosen).mean(),
            "The margin is turned: it is chosen minus rejected, and the loss falls as it grows.",
        ),
        answers_like(
            lambda chosen, rejected: -_losses(chosen, rejected).mean(),
            "The sign of the loss is turned: it is minus log sigmoid(margin), so positive.",
        ),
        answers_like(
            lambda chosen, rejected: _losses(chosen, rejected).sum(),
            "This is the sum over the pairs: return the mean.",
        ),
        answers_like(
            lambda chosen, rejected: np.logaddexp(0, rejected.mean() - chosen.mean()),
            "The margins are averaged before the loss: average the losses instead.",
        ),
        answers_like(
            lambda chosen, rejected: -np.log(np.exp(-_losses(chosen, rejected)).mean()),
            "The probabilities sigmoid(margin) are averaged before the log: average the losses.",
        ),
        answers_like(
            lambda chosen, rejected: np.exp(-_losses(chosen, rejected)).mean(),
            "This is the mean probability of the labels: the loss is minus its log, pair by pair.",
        ),
        answers_like(
            lambda chosen, rejected: _losses(chosen, rejected).mean() / np.log(2),
            "This is in bits: take the natural logarithm, for nats.",
        ),
        answers_like(
            lambda chosen, rejected: np.maximum(0, 1 - chosen + rejected).mean(),
            "This is the hinge loss: Bradley and Terry's is -log sigmoid(margin).",
        ),
    ],
)


# Margin per token --------------------------------------------------------------------------------


def margin_per_token(chosen_logp, rejected_logp, chosen_tokens, rejected_tokens):
    return chosen_logp / chosen_tokens - rejected_logp / rejected_tokens


def _draw_logps(rng):
    return [_responses(rng, int(rng.integers(4, 9))) for _ in range(3)]


def _responses(rng, pairs):
    """Lengths of the two responses always differ, so that no wrong divisor is right by luck."""
    chosen = rng.integers(3, 12, pairs)
    rejected = chosen + rng.choice([-2, -1, 1, 2, 4], pairs)
    logps = [-tokens * rng.uniform(0.3, 2.5, pairs) for tokens in (chosen, rejected)]
    return *logps, chosen, rejected


MARGIN_PER_TOKEN = Exercise(
    name="check_margin_per_token",
    arguments="chosen_logp, rejected_logp, chosen_tokens, rejected_tokens",
    solve=margin_per_token,
    draw=_draw_logps,
    read=vector("one margin for each pair: shape [pairs]"),
    mistakes=[
        answers_like(
            lambda chosen, rejected, n, m: chosen - rejected,
            "This is the difference of the sums: divide each log-prob by its own number of tokens.",
        ),
        *(
            answers_like(
                wrong,
                "The difference of the sums is divided by one length: each response has its own, "
                "so divide first and subtract then.",
            )
            for wrong in (
                lambda chosen, rejected, n, m: (chosen - rejected) / n,
                lambda chosen, rejected, n, m: (chosen - rejected) / m,
                lambda chosen, rejected, n, m: (chosen - rejected) / (n + m),
                lambda chosen, rejected, n, m: 2 * (chosen - rejected) / (n + m),
                lambda chosen, rejected, n, m: (chosen - rejected) / np.maximum(n, m),
            )
        ),
        answers_like(
            lambda chosen, rejected, n, m: chosen / m - rejected / n,
            "The lengths are exchanged: divide each log-prob by the tokens of its own response.",
        ),
        answers_like(
            lambda chosen, rejected, n, m: rejected / m - chosen / n,
            "The sign is turned: chosen minus rejected.",
        ),
        answers_like(
            lambda *case: np.abs(margin_per_token(*case)),
            "This is the size of the margin: keep its sign, it says which response is preferred.",
        ),
        answers_like(
            lambda chosen, rejected, n, m: chosen * n - rejected * m,
            "The log-probs are multiplied by the lengths: divide.",
        ),
        answers_like(
            lambda chosen, rejected, n, m: np.exp(chosen / n) - np.exp(rejected / m),
            "These are probabilities per token: leave the log-probs as they are, in nats.",
        ),
    ],
)


# Contradictions ----------------------------------------------------------------------------------


def contradictions(explicit, implicit):
    return float((explicit * implicit < 0).mean())  # pandas aligns the two by id


def _zscore(margin):
    return (margin - margin.mean()) / margin.std()


def _above_apart(explicit, implicit):
    """Zero counted as "not above", so as preferring the rejected response."""
    return float(((explicit > 0) != (implicit.loc[explicit.index] > 0)).mean())


def _signs_apart(explicit, implicit):
    """Zero counted as a sign of its own."""
    return float((np.sign(explicit) != np.sign(implicit.loc[explicit.index])).mean())


def _margins(rng):
    pairs = int(rng.integers(24, 40))
    ids = [f"p{number:02d}" for number in range(pairs)]
    explicit, implicit = rng.normal([[0.8], [-0.3]], [[1.2], [0.4]], (2, pairs))
    explicit[:2], implicit[1:4] = 0, 0  # one of them in both
    order, other = rng.permutation(pairs), rng.permutation(pairs)
    explicit = pd.Series(explicit, ids, name="explicit_margin").iloc[order]
    return explicit, pd.Series(implicit, ids, name="implicit_margin").iloc[other]


WRONG_CONTRADICTIONS = [
    (
        lambda explicit, implicit: float((explicit.to_numpy() * implicit.to_numpy() < 0).mean()),
        "Compared by position, but the two Series hold the pairs in different orders: align them "
        "by id, as pandas does when it multiplies, or with implicit.loc[explicit.index].",
    ),
    (
        lambda explicit, implicit: contradictions(_zscore(explicit), _zscore(implicit)),
        "z-scores move the zero: after them the sign says above or below the average pair, not "
        "which response is preferred. Compare the signs of the margins themselves.",
    ),
    (
        lambda explicit, implicit: contradictions(_zscore(explicit), implicit),
        "The explicit margin is compared with its mean: its sign says which response it prefers.",
    ),
    (
        lambda explicit, implicit: float((explicit * implicit > 0).mean()),
        "This is the share of pairs on which they agree.",
    ),
    (
        lambda explicit, implicit: float((explicit * implicit <= 0).mean()),
        "Pairs with a margin of 0 are counted: it prefers neither response, so contradicts nobody.",
    ),
    (
        _above_apart,
        "A margin of 0 is counted as preferring the rejected response: it prefers neither.",
    ),
    (
        _signs_apart,
        "np.sign(0) is 0, a sign of its own: a margin of 0 contradicts nobody.",
    ),
    (
        lambda explicit, implicit: float(((explicit > 0) & (implicit < 0)[explicit.index]).mean()),
        "Only pairs are counted where the implicit margin is the negative one: count the others "
        "too.",
    ),
    (
        lambda explicit, implicit: float(((explicit < 0) & (implicit > 0)[explicit.index]).mean()),
        "Only pairs are counted where the explicit margin is the negative one: count the others "
        "too.",
    ),
    (
        lambda explicit, implicit: contradictions(explicit, implicit) * len(explicit),
        "This is the number of pairs: divide by how many there are.",
    ),
    (
        lambda explicit, implicit: 100 * contradictions(explicit, implicit),
        "This is in per cent: return a share from 0 to 1.",
    ),
]
CONTRADICTIONS = told_apart(
    name="check_contradictions",
    arguments="explicit, implicit",
    solve=contradictions,
    case=_margins,
    read=number("one number from 0 to 1: the share of pairs"),
    wrong=WRONG_CONTRADICTIONS,
)
