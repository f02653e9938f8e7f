"""Right and wrong solutions of the exercises of lessons 03 and 04, for test_exercises.py."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from scipy import special, stats

from nbkit import estimates, scores
from nbkit.course.exercises import crossfit, difficulty, selective
from nbkit.experiments.crossfit import folds
from nbkit.train.settings import updates

# Right solutions, written differently ------------------------------------------------------------


def step_with_a_loop(margins, threshold):
    steps = {}
    for pair_id, column in margins.items():
        learned = margins.index[0]
        for step, margin in column.items():
            if not margin > threshold:
                learned = step
        steps[pair_id] = learned if margin > threshold else math.inf
    return steps


def step_by_definition(margins, threshold):
    """min { t0 : m_t > threshold for all t > t0 }, in the order of the columns."""
    steps, values = margins.index.tolist(), margins.to_numpy()
    found = []
    for pair in range(values.shape[1]):
        after = [(values[position + 1 :, pair] > threshold).all() for position in range(len(steps))]
        lost = values[-1, pair] <= threshold
        found.append(float("inf") if lost else steps[after.index(True)])
    return found


def step_with_numpy(margins, threshold):
    steps, above = margins.index.to_numpy(), margins.to_numpy() > threshold
    last = len(steps) - 1 - (~above)[::-1].argmax(0)
    return np.where(above[-1], np.where(above.all(0), steps[0], steps[last]), np.inf)


def step_with_pandas(margins, threshold):
    tidy = margins.rename_axis("step").melt(ignore_index=False, var_name="id").reset_index()
    last = tidy[tidy["value"] <= threshold].groupby("id")["step"].max()
    last = last.reindex(margins.columns, fill_value=margins.index[0]).astype(float)
    last[margins.iloc[-1] <= threshold] = np.inf
    return last.sample(frac=1, random_state=0)  # a Series knows its pairs in any order


def step_in_torch(margins, threshold):
    return torch.tensor(step_by_definition(margins, threshold))


def leak_with_sets(folds, groups):
    in_other = {"A": set(groups[folds == "B"]), "B": set(groups[folds == "A"])}
    return sum(groups[pair_id] in in_other[half] for pair_id, half in folds.items()) / len(folds)


def leak_with_isin(folds, groups):
    first, second = groups[folds == "A"], groups[folds == "B"]
    return np.concatenate([first.isin(second), second.isin(first)]).mean()


def leak_with_crosstab(folds, groups):
    table = pd.crosstab(groups, folds)
    return table[(table > 0).all(axis=1)].to_numpy().sum() / len(folds)


def loss_with_a_masked_array(margins, seen):
    return np.ma.masked_array(np.logaddexp(0, -margins), mask=seen).mean(axis=0).data


def loss_with_nanmean(margins, seen):
    return pd.Series(np.nanmean(np.where(seen, np.nan, -special.log_expit(margins)), axis=0))


def loss_with_a_loop(margins, seen):
    losses = -F.logsigmoid(torch.tensor(margins))
    return [losses[~seen[:, pair], pair].mean().item() for pair in range(margins.shape[1])]


def updates_with_steps(pairs_full, pairs_kept, batch_size, epochs):
    updates = sum(1 for _ in range(epochs) for _ in range(0, pairs_full, batch_size))
    return updates / len(range(0, pairs_kept, batch_size))


def updates_with_ceil(pairs_full, pairs_kept, batch_size, epochs):
    full, kept = np.ceil(pairs_full / batch_size), np.ceil(pairs_kept / batch_size)
    return epochs * full / kept


def gain_with_scipy(a, b):
    test = stats.ttest_rel(a.sort_index(), b.sort_index())
    interval = test.confidence_interval(0.95)
    return (a - b).mean(), interval.low, interval.high


def gain_with_a_loop(a, b):
    gains = [a[seed] - b[seed] for seed in a.index]
    value = sum(gains) / len(gains)
    error = math.sqrt(sum((gain - value) ** 2 for gain in gains) / (len(gains) - 1) / len(gains))
    half = stats.t(len(gains) - 1).ppf(0.975) * error
    return [value, value - half, value + half]


def gain_as_series(a, b):
    gains = a - b
    low, high = stats.t.interval(0.95, len(gains) - 1, gains.mean(), gains.sem())
    return pd.Series({"value": gains.mean(), "low": low, "high": high})


def peak_with_derivative(shares, win_rates):
    fitted = np.polynomial.Polynomial.fit(shares, win_rates, 2)
    return fitted.deriv().roots()[0]


def peak_with_least_squares(shares, win_rates):
    columns = np.stack([np.ones_like(shares), shares, shares**2], axis=1)
    _, linear, square = np.linalg.lstsq(columns, win_rates)[0]
    return torch.tensor(-linear / square / 2)


RIGHT = {
    "check_learned_step": [
        step_with_a_loop,
        step_by_definition,
        step_with_numpy,
        step_with_pandas,
        step_in_torch,
        lambda *case: step_with_pandas(*case).astype(object),
        lambda *case: dict(sorted(step_with_a_loop(*case).items(), reverse=True)),
    ],
    "check_leak": [leak_with_sets, leak_with_isin, leak_with_crosstab],
    "check_validation_loss": [loss_with_a_masked_array, loss_with_nanmean, loss_with_a_loop],
    "check_jaccard_by_chance": [
        lambda share: share / (2 - share),
        lambda share: share**2 / (1 - (1 - share) ** 2),
        lambda share: 1 / (2 / share - 1),
    ],
    "check_equal_updates": [updates_with_steps, updates_with_ceil],
    "check_paired_gain": [gain_with_scipy, gain_with_a_loop, gain_as_series],
    "check_parabola_peak": [peak_with_derivative, peak_with_least_squares],
}


# Usual mistakes ----------------------------------------------------------------------------------


def steps_or_inf(margins, threshold, found):
    """`found` for pairs that are learned in the end, infinite for the others."""
    return pd.Series(found, margins.columns).where(margins.iloc[-1] > threshold, np.inf)


def first_above(margins, threshold):
    return (margins > threshold).idxmax()


def observed_before_first(margins, threshold):
    steps = margins.index.tolist()
    return [steps[max(steps.index(step) - 1, 0)] for step in first_above(margins, threshold)]


def first_of_the_rest(margins, threshold):
    """The first step from which on the margin is above; NaN if there is none."""
    stays = (margins > threshold)[::-1].cummin()[::-1]
    return stays.idxmax().where(stays.any())


def last_not_above(margins, threshold, not_above=np.less_equal):
    """NaN where no margin is below: as plain code gives it, without a thought for such pairs."""
    below = not_above(margins, threshold)
    return below[::-1].idxmax().where(below.any())


def never(value):
    """The right steps, with `value(margins)` in place of infinity."""

    def solution(margins, threshold):
        return [
            value(margins) if step == math.inf else step
            for step in step_by_definition(margins, threshold)
        ]

    return solution


def positions(margins, threshold):
    return step_with_numpy(margins.reset_index(drop=True), threshold)


def crosses(folds, groups):
    return groups.isin(set(groups[folds == "A"]) & set(groups[folds == "B"]))


def losses(margins):
    return np.logaddexp(0, -margins)


def unseen_mean(values, seen):
    return np.nanmean(np.where(seen, np.nan, values), axis=0)


def naive_loss(margins):
    with np.errstate(all="ignore"):
        return -np.log(1 / (1 + np.exp(-margins)))


def drawn_jaccard(share):
    rng, pool = np.random.default_rng(0), 20_000
    one, other = (set(rng.permutation(pool)[: int(share * pool)].tolist()) for _ in range(2))
    return len(one & other) / len(one | other)


def interval(gains, critical, spread):
    return gains.mean(), gains.mean() - critical * spread, gains.mean() + critical * spread


def t(gains, level=0.975, lost=1):
    return stats.t.ppf(level, len(gains) - lost)


def gain_wrongly(critical, spread):
    return lambda a, b: interval(a - b, critical(a - b), spread(a - b))


def unpaired(a, b, equal_var=False):
    low, high = stats.ttest_ind(a, b, equal_var=equal_var).confidence_interval()
    return a.mean() - b.mean(), low, high


def by_position(a, b):
    return gain_with_scipy(a.reset_index(drop=True), b.reset_index(drop=True))


def fit(shares, win_rates):
    return np.polyfit(shares, win_rates, 2)


def on_a_grid(shares, win_rates):
    grid = np.linspace(0, 1, 101)
    return grid[np.polyval(fit(shares, win_rates), grid).argmax()]


def order_of_polyfit(shares, win_rates):
    a, b, c = np.polynomial.polynomial.polyfit(shares, win_rates, 2)
    return -b / (2 * a)


SPECIAL = ("not finite at", "above the threshold at every")
WRONG = {
    "check_learned_step": [
        (first_above, "first time that the margin rises"),
        (lambda *case: steps_or_inf(*case, first_above(*case)), "first time that the margin rises"),
        (observed_before_first, "first time that the margin rises"),
        (first_of_the_rest, "One step late"),
        (lambda *case: first_of_the_rest(*case).fillna(np.inf), "One step late"),
        (lambda *case: first_of_the_rest(*case).fillna(case[0].index[-1]), "One step late"),
        (positions, "position of the step"),
        (lambda *case: positions(*case).clip(max=len(case[0])), "position of the step"),
        (lambda *case: steps_or_inf(*case, last_not_above(*case, np.less)), "equals the threshold"),
        (lambda *case: last_not_above(*case, np.less), "equals the threshold"),
        (lambda margins, threshold: step_with_numpy(margins, 0), "compared with 0"),
        (lambda *case: last_not_above(*case, np.greater), "look for the last one at which"),
        (never(lambda margins: math.nan), "NaN for pairs that are never learned"),
        (never(lambda margins: None), "float('inf') if it is never learned"),
        (never(lambda margins: margins.index[-1]), "is infinite, not the last step"),
        (last_not_above, "is infinite, not the last step"),
        (never(lambda margins: -1), "got a finite step"),
        (never(lambda margins: margins.index[0]), "got a finite step"),
        (never(lambda margins: margins.index[-1] + 1), "got a finite step"),
        (lambda *case: steps_or_inf(*case, last_not_above(*case)), "above the threshold at every"),
        (lambda margins, threshold: (margins > threshold).sum(axis=1), "a value for each step"),
        (lambda margins, threshold: margins.mean() > threshold, "Wrong in 3 of 3 cases"),
        (lambda *case: [str(step) for step in step_with_numpy(*case)], "float('inf') if it is"),
        (lambda margins, threshold: margins > threshold, "one step for each pair"),
        (lambda *case: step_with_numpy(*case).max(), "one step for each pair"),
        (lambda *case: step_with_numpy(*case)[1:], "your answer has shape"),
    ],
    "check_leak": [
        (lambda f, g: (f.groupby(g).nunique() > 1).mean(), "This is the share of groups"),
        (lambda f, g: g.map(g.value_counts()).gt(1).mean(), "Every pair with a repeated group"),
        (lambda f, g: (g + f).duplicated(keep=False).mean(), "in their own half"),
        (lambda f, g: g.duplicated().mean(), "leaves out the first pair of each group"),
        (lambda f, g: (crosses(f, g) & (f == "A")).mean(), "Only the pairs of one half"),
        (lambda f, g: g[f == "B"].isin(g[f == "A"]).sum() / len(g), "Only the pairs of one half"),
        (lambda f, g: (~crosses(f, g)).mean(), "the share of pairs without a leak"),
        (lambda f, g: crosses(f, g).sum(), "the number of pairs"),
        (lambda f, g: 100 * crosses(f, g).mean(), "in per cent"),
        (lambda f, g: 0.0, "Wrong in 3 of 3 cases"),
        (crosses, "expected one number from 0 to 1"),
        (lambda f, g: crosses(f, g).any(), "expected one number from 0 to 1"),
        (lambda f, g: set(g[crosses(f, g)]), "expected one number from 0 to 1"),
    ],
    "check_validation_loss": [
        (lambda m, s: unseen_mean(naive_loss(m), s), "not finite at a margin of -1000"),
        (lambda m, s: np.nanmean(np.where(s, np.nan, naive_loss(m)), 0), "not finite at a margin"),
        (lambda m, s: np.where(s, np.nan, losses(m)).mean(0), "np.nanmean leaves NaN out"),
        (lambda m, s: losses(m).mean(0), "The mean is over all models"),
        (lambda m, s: unseen_mean(losses(m), ~s), "models that were trained on the pair"),
        (lambda m, s: losses(unseen_mean(m, s)), "averaged before the loss"),
        (lambda m, s: -np.log(unseen_mean(special.expit(m), s)), "averaged before the log"),
        (lambda m, s: unseen_mean(losses(-m), s), "sign of the margin"),
        (lambda m, s: unseen_mean(special.log_expit(m), s), "sign of the loss"),
        (lambda m, s: unseen_mean(m, s), "This is the mean margin"),
        (lambda m, s: np.where(s, 0, losses(m)).sum(0), "the sum over the models"),
        (lambda m, s: np.where(s, 0, losses(m)).mean(0), "divided by the number of all models"),
        (lambda m, s: losses(m[~s]).reshape(len(m) // 2, -1).mean(0), "The pairs are mixed up"),
        (lambda m, s: losses(m).mean(1), "a value for each model"),
        (lambda m, s: losses(m), "one loss for each pair"),
        (lambda m, s: unseen_mean(losses(m), s).mean(), "one loss for each pair"),
        (lambda m, s: losses(m[~s]), "expected ["),
        (lambda m, s: losses(np.median(m, 0)), "Wrong in 3 of 3 cases"),
    ],
    "check_jaccard_by_chance": [
        (lambda share: share * share, "share of the pool that is in both"),
        (lambda share: share, "share of one selection"),
        (lambda share: 1 - (1 - share) ** 2, "share of the pool that is in either"),
        (lambda share: share**2 / (2 * share), "counted twice in the denominator"),
        (lambda share: (2 - 2 * share) / (2 - share), "the Jaccard distance"),
        (lambda share: 100 * share / (2 - share), "in per cent"),
        (lambda share: 0.5 / 1.5, "for halves only"),
        (drawn_jaccard, "Close, as by drawing"),
        (lambda share: 0.5, "Wrong in 3 of 3 cases"),
        (lambda share: [share / (2 - share)], "returned shape [1]"),
    ],
    "check_equal_updates": [
        (lambda full, kept, size, epochs: epochs * full / kept, "the ratio of the pairs"),
        (lambda full, kept, size, epochs: epochs * (full // size) / (kept // size), "is left out"),
        (
            lambda full, kept, size, epochs: epochs * -(-full // size) * size / kept,
            "those of the kept pairs are not",
        ),
        (
            lambda full, kept, size, epochs: epochs * full / size / -(-kept // size),
            "those of all pairs are not",
        ),
        (
            lambda full, kept, size, epochs: -(-epochs * full // size) / -(-kept // size),
            "Rounded up once for all epochs",
        ),
        (lambda *case: 1 / updates_with_ceil(*case), "Upside down"),
        (lambda full, kept, *rest: updates_with_ceil(kept, full, *rest), "Upside down"),
        (lambda full, kept, size, epochs: epochs * -(-full // size), "This is the number of"),
        (lambda full, kept, size, epochs: updates_with_ceil(full, kept, size, 1), "epochs are mis"),
        (lambda full, kept, size, epochs: epochs * -(-full // size) / kept, "by their batches"),
        (lambda *case: round(updates_with_ceil(*case)), "Rounded to whole passes"),
        (lambda *case: math.ceil(updates_with_ceil(*case)), "Rounded to whole passes"),
        (lambda *case: int(updates_with_ceil(*case)), "Rounded to whole passes"),
        (lambda full, kept, size, epochs: full / size / epochs, "Wrong in 3 of 3 cases"),
        (lambda *case: [updates_with_ceil(*case)], "expected one number: the passes"),
    ],
    "check_paired_gain": [
        (by_position, "Subtracted by position"),
        (unpaired, "treats a and b as unrelated"),
        (lambda a, b: unpaired(a, b, equal_var=True), "treats a and b as unrelated"),
        (gain_wrongly(lambda g: 1.96, lambda g: g.sem()), "1.96 is the normal"),
        (gain_wrongly(lambda g: stats.norm.ppf(0.975), lambda g: g.sem()), "1.96 is the normal"),
        (gain_wrongly(lambda g: t(g, lost=0), lambda g: g.sem()), "are n - 1, not n"),
        (gain_wrongly(lambda g: t(g, 0.95), lambda g: g.sem()), "a 90% interval"),
        (gain_wrongly(t, lambda g: g.sem(ddof=0)), "of a population"),
        (gain_wrongly(t, lambda g: np.std(g) / len(g) ** 0.5), "of a population"),
        (gain_wrongly(t, lambda g: g.std()), "The root of n is missing"),
        (gain_wrongly(lambda g: 1, lambda g: g.sem()), "one standard error on each side"),
        (gain_wrongly(lambda g: 1, lambda g: g.std()), "one standard deviation on each side"),
        (lambda a, b: gain_with_scipy(b, a), "The sign is turned"),
        (lambda a, b: np.array(gain_with_scipy(a, b))[[1, 0, 2]], "right numbers in another order"),
        (lambda a, b: gain_with_scipy(a, b)[1:], "your answer has shape [2]; expected [3]"),
        (lambda a, b: (a - b).mean(), "expected three numbers"),
        (lambda a, b: ((a - b).mean(), (0.0, 1.0)), "expected three numbers"),
        (lambda a, b: (a.mean(), b.min(), b.max()), "Wrong in 3 of 3 cases"),
    ],
    "check_parabola_peak": [
        (lambda x, y: x[np.argmax(y)], "best by luck"),
        (lambda x, y: x[np.polyval(fit(x, y), x).argmax()], "best fitted win rate"),
        (lambda x, y: fit(x, y)[1] / fit(x, y)[0] / 2, "The sign is turned"),
        (lambda x, y: -fit(x, y)[1] / fit(x, y)[0], "The 2 is missing"),
        (lambda x, y: -fit(x, y)[1] / 2 * fit(x, y)[0], "in brackets"),
        (lambda x, y: np.polyval(fit(x, y), peak_with_derivative(x, y)), "win rate at the maximum"),
        (lambda x, y: max(y), "the best observed win rate"),
        (lambda x, y: int(np.argmax(y)), "position of the best run"),
        (order_of_polyfit, "in another order"),
        (lambda x, y: 100 * peak_with_derivative(x, y), "in per cent"),
        (on_a_grid, "Close, as by looking on a grid"),
        (lambda x, y: x.mean() / 9, "Wrong in 3 of 3 cases"),
        (fit, "expected one number: the share"),
    ],
}


# The cases have what the exercise is about -------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_margins_hold_every_kind_of_pair(seed):
    cases = difficulty.LEARNED_STEP.draw(np.random.default_rng(seed))
    for margins, threshold in cases:
        above = margins > threshold
        changes = above.astype(int).diff().abs().sum()
        assert margins.index.is_monotonic_increasing and margins.index.is_unique
        assert (above.iloc[-1] & (changes == 1)).any()  # learned once and for all
        assert (above.iloc[-1] & (changes == 3)).any()  # learned, forgotten, learned
        assert (~above.iloc[-1] & above.any()).any() and (~above.any()).any()  # lost; never
        assert (margins == threshold).any().sum() == 2
        assert above.all().any() == (margins.index[0] > 0)
        assert margins.shape[0] > margins.shape[1]
    assert {margins.index[0] > 0 for margins, _ in cases} == {False, True}


@pytest.mark.parametrize("seed", range(3))
def test_each_reference_model_has_seen_half_of_the_pairs(seed):
    for margins, seen in crossfit.VALIDATION_LOSS.draw(np.random.default_rng(seed)):
        assert margins.shape == seen.shape and seen.dtype == bool
        assert (seen.mean(1) == 0.5).all() and (seen.mean(0) == 0.5).all()


@pytest.mark.parametrize("seed", range(3))
def test_seeds_come_in_another_order_and_curves_open_downward(seed):
    for a, b in selective.PAIRED_GAIN.draw(np.random.default_rng(seed)):
        assert set(a.index) == set(b.index) and list(a.index) != list(b.index)
    curves = selective.PARABOLA_PEAK.draw(np.random.default_rng(seed))
    for shares, win_rates in curves:
        peak = peak_with_derivative(shares, win_rates)
        assert fit(shares, win_rates)[0] < 0 and shares.min() < peak < shares.max()
    assert [len(set(shares)) < len(shares) for shares, _ in curves] == [False, True, False]


@pytest.mark.parametrize("seed", range(3))
def test_the_right_solutions_are_nbkits(seed):
    for margins, threshold in difficulty.LEARNED_STEP.draw(np.random.default_rng(seed)):
        trace = margins.melt(ignore_index=False, var_name="id", value_name="margin").reset_index()
        steps = scores.learned_step(trace, threshold)
        assert steps.equals(difficulty.learned_step(margins, threshold)[steps.index])
    for a, b in selective.PAIRED_GAIN.draw(np.random.default_rng(seed)):
        gain = estimates.paired_gain(a, b)
        assert selective.paired_gain(a, b) == pytest.approx((gain.value, gain.low, gain.high))
    shares, win_rates = selective.PARABOLA_PEAK.draw(np.random.default_rng(seed))[0]
    peak = estimates.parabola_peak(pd.DataFrame([win_rates], columns=shares))
    assert selective.parabola_peak(shares, win_rates) == pytest.approx(peak.value)
    for full, kept, batch_size, epochs in selective.EQUAL_UPDATES.draw(np.random.default_rng(seed)):
        passes = selective.equal_updates(full, kept, batch_size, epochs)
        settings = dict(batch_size=batch_size, epochs=epochs, max_steps=-1, trl_options={})
        assert passes * updates(kept, dict(settings, epochs=1)) == pytest.approx(
            updates(full, settings)
        )


def test_halves_that_keep_groups_together_leak_nothing():
    groups = [f"fact {number // 3}" for number in range(30)]
    pairs = Dataset.from_dict(
        {
            "id": [str(number) for number in range(30)],
            "fact": groups,
            "prompt": [f"prompt {number}" for number in range(30)],
        }
    )
    facts = pd.Series(groups, pairs["id"][:])
    assert crossfit.leak(folds(pairs, groups="fact"), facts) == 0
    assert crossfit.leak(folds(pairs, groups="prompt"), facts) > 0.5


def test_the_right_solutions_on_numbers_by_hand():
    margins = pd.DataFrame(
        {"a": [0.0, 0.5, 0.3, 0.6], "b": [0.0, 0.5, 0.6, 0.4], "c": [0.5] * 4}, [0, 10, 30, 40]
    )
    assert difficulty.learned_step(margins, 0.4).to_dict() == {"a": 30, "b": math.inf, "c": 0}
    # "x" is in both halves (three pairs), "y" twice in one, "z" once.
    folds, groups = pd.Series(list("ABBAAB")), pd.Series(list("xxxyyz"))
    assert crossfit.leak(folds, groups) == 0.5
    seen = np.array([[True, False], [False, True]])
    loss = crossfit.validation_loss(np.array([[9.0, 0.0], [math.log(3), 9.0]]), seen)
    assert loss == pytest.approx([math.log(4 / 3), math.log(2)])
    assert difficulty.jaccard_by_chance(0.5) == pytest.approx(1 / 3)
    # 3 epochs of 7 batches, over 4 batches a pass
    assert selective.equal_updates(100, 50, 16, 3) == 21 / 4
    # Differences 1, 2, 3: standard error 1 / sqrt(3), Student's t with 2 degrees of freedom 4.3027
    gain = selective.paired_gain(pd.Series([1.0, 2, 3]), pd.Series([0.0, 0, 0], [2, 0, 1]))
    assert gain == pytest.approx((2, 2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)
    shares = np.array([0.2, 0.4, 0.9])
    assert selective.parabola_peak(shares, 0.6 - (shares - 0.7) ** 2) == pytest.approx(0.7)
