"""compare and gain: every number from the public calls by hand, controls, budgets, resumption."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

import nbkit as nb
from nbkit import world

TRAIN = dict(beta=0.5, learning_rate=1e-3, batch_size=8)
HOW = dict(temperature=0.9, max_new_tokens=8)


def correct(prompt, response):
    return world.grade(prompt, response).correct


@pytest.fixture(scope="module")
def policy():
    return nb.load_policy("world/small", device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return world.pairs(40, seed=5)


@pytest.fixture(scope="module")
def prompts():
    return world.prompts(24, seed=0)


@pytest.fixture(scope="module")
def held_out():
    return world.pairs(30, part="validation")


@pytest.fixture(scope="module")
def selections(pairs):
    return {"first": pairs["id"][:20], "turned": pairs["id"][19::-1], "few": pairs["id"][:9]}


@pytest.fixture(scope="module")
def results(policy, pairs, selections, prompts, held_out):
    return nb.compare(
        policy, pairs, selections, prompts, world.reward, seeds=[0, 3], in_order=["turned"],
        held_out=held_out, measures={"correct": correct}, **HOW, progress=False, **TRAIN,
    )  # fmt: skip


def row(results, selection, seed=3, budget="examples"):
    found = results.query("selection == @selection and seed == @seed and budget == @budget")
    assert len(found) == 1
    return found.iloc[0]


def test_rows_are_selections_and_their_controls(results):
    names = ["before", "full", "first", "turned", "few", "random 9", "random 20"]
    assert results.selection.unique().tolist() == names
    assert len(results) == len(names) * 2 * 2
    assert not results.duplicated(["selection", "seed", "budget"]).any()
    assert list(results.columns) == [
        "selection", "seed", "budget", "pairs", "updates", "win_rate", "reward", "length",
        "correct", "accuracy", "chosen_shift", "rejected_shift",
    ]  # fmt: skip
    sizes = results.drop_duplicates("selection").set_index("selection").pairs
    assert sizes[names].tolist() == [0, 40, 20, 20, 9, 9, 20]


def test_budgets(results):
    made = results[results.seed == 0].pivot(index="selection", columns="budget", values="updates")
    assert made.examples[["full", "first", "few", "random 9"]].tolist() == [5, 3, 2, 2]
    assert (made.updates.drop("before") == 5).all() and (made.loc["before"] == 0).all()
    same = ["before", "full"]
    assert all(
        row(results, name).win_rate == row(results, name, budget="updates").win_rate
        for name in same
    )


@pytest.mark.parametrize(
    ("name", "budget", "order"),
    [
        ("full", "examples", "shuffled"),
        ("first", "examples", "shuffled"),
        ("few", "updates", "shuffled"),
        ("turned", "updates", "given"),
    ],
)
def test_a_cell_is_what_the_public_calls_give(
    results, policy, pairs, selections, prompts, held_out, name, budget, order
):
    keep = selections.get(name)
    steps = 5 if budget == "updates" else -1
    run = nb.train_dpo(
        policy, pairs, keep, order=order, seed=3, max_steps=steps, progress=False, **TRAIN
    )
    baseline = nb.sample(policy, prompts, seed=7, progress=False, **HOW)
    won = nb.win_rate(run.policy, baseline, prompts, world.reward, seed=6, progress=False, **HOW)
    got = row(results, name, 3, budget)
    assert got.win_rate == pytest.approx(won.value)
    assert got.reward == pytest.approx(won.table.reward.mean())
    right = [correct(*answer) for answer in zip(won.table.prompt, won.table.response)]
    assert got.correct == pytest.approx(np.mean(right))
    words = [len(policy.tokenizer.tokenize(text)) for text in won.table.response]
    assert got.length == pytest.approx(np.mean(words))
    after = nb.response_logprobs(run.policy, held_out, progress=False)
    before = nb.response_logprobs(policy, held_out, progress=False)
    judged = nb.preference_accuracy(run.policy, policy, held_out, beta=TRAIN["beta"])
    assert got.accuracy == pytest.approx(judged.value["accuracy"])
    for side in ("chosen", "rejected"):
        shift = (after - before)[f"{side}_logp"].mean()
        assert got[f"{side}_shift"] == pytest.approx(shift, abs=1e-3)


def test_before_is_the_policy_against_itself(results, policy, prompts):
    answers, baseline = (
        nb.sample(policy, prompts, seed=seed, progress=False, **HOW) for seed in (6, 7)
    )
    assert answers != baseline
    mine, theirs = (
        [world.reward(*x) for x in zip(prompts["prompt"], texts)] for texts in (answers, baseline)
    )
    got = row(results, "before")
    assert got.win_rate == pytest.approx(nb.wins(mine, theirs).mean())
    assert (got.accuracy, got.chosen_shift) == pytest.approx((0.5, 0), abs=1e-4)


def test_random_controls_are_select_random_of_the_seed(results, policy, pairs, selections, prompts):
    ids = nb.select.random(selections["first"], pairs, seed=3)
    run = nb.train_dpo(policy, pairs, ids, seed=3, progress=False, **TRAIN)
    baseline = nb.sample(policy, prompts, seed=7, progress=False, **HOW)
    won = nb.win_rate(run.policy, baseline, prompts, world.reward, seed=6, progress=False, **HOW)
    assert row(results, "random 20").win_rate == pytest.approx(won.value)
    assert row(results, "random 20", 0).reward != row(results, "random 20", 3).reward


def test_edited_pairs_are_a_selection(policy, pairs, prompts):
    """All labels exchanged: what is chosen falls, and the reference is that of the edited rows."""
    frame = pairs.to_pandas()
    frame[["chosen", "rejected"]] = frame[["rejected", "chosen"]]
    turned = Dataset.from_pandas(frame)
    result = nb.compare(
        policy, pairs, {"turned labels": turned}, prompts, world.reward, seeds=1, held_out=pairs,
        budgets=["examples"], **HOW, progress=False, **TRAIN,
    )  # fmt: skip
    assert result.selection.tolist() == ["before", "full", "turned labels"]  # control: full
    full, edited = (row(result, name, 0) for name in ("full", "turned labels"))
    assert full.accuracy > 0.6 > 0.4 > edited.accuracy
    run = nb.train_dpo(policy, turned, seed=0, progress=False, **TRAIN)
    expected = nb.preference_accuracy(run.policy, policy, pairs).value["accuracy"]
    assert edited.accuracy == pytest.approx(expected)
    after, before = (nb.response_logprobs(p, pairs, progress=False) for p in (run.policy, policy))
    shift = (after - before).chosen_logp.mean()
    assert edited.chosen_shift == pytest.approx(shift, abs=1e-3)
    assert nb.gain(result, "turned labels", metric="reward").value == pytest.approx(
        edited.reward - full.reward
    )


def test_another_reference_and_other_objectives(policy, pairs, prompts):
    other = nb.load_policy("world/medium", device="cpu")
    how = dict(seeds=1, held_out=pairs, **HOW, progress=False, budgets=["examples"], **TRAIN)
    given = nb.compare(policy, pairs, {}, prompts, world.reward, reference=other, **how)
    run = nb.train_dpo(policy, pairs, reference=other, seed=0, progress=False, **TRAIN)
    expected = nb.preference_accuracy(run.policy, other, pairs).value["accuracy"]
    assert row(given, "full", 0).accuracy == pytest.approx(expected)
    simpo = nb.compare(policy, pairs, {}, prompts, world.reward, loss="simpo", **how)
    assert row(simpo, "full", 0).chosen_shift != row(given, "full", 0).chosen_shift


def test_a_reference_table_serves_all_but_edited_pairs(policy, pairs, prompts, held_out):
    given = dict(seeds=1, held_out=held_out, **HOW, progress=False, max_steps=2, **TRAIN)
    tables = [nb.response_logprobs(policy, some, progress=False) for some in (pairs, held_out)]
    by_table, by_policy = (
        nb.compare(policy, pairs, {}, prompts, world.reward, reference=reference, **given)
        for reference in (pd.concat(tables), None)
    )
    pd.testing.assert_frame_equal(by_table, by_policy)
    with pytest.raises(ValueError, match="'edited' is a data set of edited pairs"):
        nb.compare(policy, pairs, {"edited": nb.coin_labels(pairs)}, prompts, world.reward,
                   reference=tables[0], **given)  # fmt: skip


def test_without_held_out_pairs_and_measures_the_columns_are_not_there(policy, pairs, prompts):
    result = nb.compare(
        policy, pairs, {}, prompts["prompt"][:4], world.reward, seeds=1, max_steps=1,
        **HOW, progress=False, **TRAIN,
    )  # fmt: skip
    assert result.columns[-1] == "length" and len(result) == 4
    assert (result.query("selection == 'full'").updates == 1).all()


def test_pairs_too_long_are_left_out_of_full_and_of_the_controls(policy, pairs, prompts):
    rows = pairs.to_list()
    rows[0]["chosen"] = " ".join(["sure thing ."] * 10)
    longer, how = Dataset.from_list(rows), dict(seeds=1, **HOW, progress=False, **TRAIN)
    with pytest.warns(UserWarning, match="1 of 40 pairs are left out: 1 such as .*more than 20"):
        result = nb.compare(
            policy, longer, {"few": pairs["id"][1:9]}, prompts, world.reward, max_length=20, **how
        )
    assert row(result, "full", 0).pairs == 39
    assert row(result, "random 8", 0).pairs == 8  # drawn among those that fit
    refused = "'few': 1 of its 8 ids are not among the 39 pairs.*would be trained on 7"
    with pytest.raises(ValueError, match=refused):
        nb.compare(
            policy, longer, {"few": pairs["id"][:8]}, prompts, world.reward, max_length=20, **how
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(selections={"full": ["x"]}), "named 'full', which is the name of a control"),
        (dict(selections={"random 20": ["x"]}), "named 'random 20'"),
        (dict(selections={"none": []}), "'none' is empty: there is nothing to train on"),
        (dict(selections={"odd": ["x", "y"]}), "2 of the 2 ids to selections.'odd'. are not in"),
        (dict(selections=[["x"]]), "selections: expected a dict, name -> ids, got list"),
        (dict(selections=None), "selections: expected a dict, name -> ids, got NoneType"),
        (dict(selections=pd.Series({"p": 0.5})), "selections: expected a dict.*got Series"),
        (dict(selections={"half": 0.5}), "selections.'half'.=0.5: expected a list of pair ids"),
        (dict(selections={"one": "abc"}), "selections.'one'.='abc': expected a list of pair ids"),
        (dict(selections={"none": None}), "selections.'none'.=None: expected a list of pair ids"),
        (dict(selections={"scores": pd.Series({"p": 0.5})}), "'scores'.: ids are text, got 0.5"),
        (dict(in_order="odd"), "in_order names .'odd'., not among the selections .few."),
        (dict(budgets="epochs"), "budgets=.'epochs'.; expected some of"),
        (dict(judge="world"), "judge: expected a function of .prompt, response., got 'world'"),
        (dict(measures=[len]), "measures: expected a dict, name -> function, got list"),
        (dict(measures={"words": 3}), "words: expected a function of .prompt, response., got 3"),
        (dict(top_k=3), "compare has no argument 'top_k'. Did you mean top_p?"),
        (dict(worker=2), "compare has no argument 'worker'. Did you mean workers?"),
        (dict(learning_rates=1), "no argument 'learning_rates'. Did you mean learning_rate. Furt"),
        (dict(temperature=-1), "temperature=-1; expected a number, 0 or more"),
        (dict(workers=0), "workers=0; expected a whole number"),
        (dict(beta=-1), "beta=-1; expected a number above 0"),
        (dict(budgets=["epochs"]), "budgets=.'epochs'.; expected some of examples, updates"),
        (dict(budgets=[]), "expected some of"),
        (dict(in_order=["few", "easy"]), "in_order names .'easy'., not among the selections"),
        (dict(seeds=[]), "expected a number, 1 or more"),
        (dict(prompts=[]), "no prompts"),
        (dict(judge=lambda p, r: math.nan), "The judge gave nan"),
        (dict(loss="dpop"), "loss='dpop'; expected one of"),
        (dict(copy_model=False), "copy_model: set by the comparison itself"),
        (dict(order="given", seed=9), "order, seed: set by the comparison itself"),
        (dict(trl_options=dict(per_device_train_batch_size=4)), "batch_size: use train_dpo's"),
    ],
)
def test_bad_arguments_are_named(policy, pairs, selections, prompts, change, message):
    given = dict(selections={"few": selections["few"]}, prompts=prompts["prompt"][:2],
                 judge=world.reward, seeds=1, **HOW, progress=False, max_steps=1,
                 **TRAIN)  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=message):
        nb.compare(policy, pairs, **{**given, **change})


def test_a_pair_counts_once(policy, pairs, prompts):
    with pytest.raises(ValueError, match="selections.'twice'.` names .* more than once"):
        nb.compare(policy, pairs, {"twice": pairs["id"][:4] * 2}, prompts, world.reward, **TRAIN)


def test_pairs_come_through_the_door(policy, pairs, selections, prompts, results):
    """Whole numbers as ids are made text; a frame of pairs, one name of an order, one prompt."""
    frame = pairs.to_pandas().assign(id=range(40))
    few = [str(number) for number in range(9)]
    how = dict(seeds=[3], budgets="examples", **HOW, progress=False, **TRAIN)
    got = nb.compare(policy, frame, {"few": few}, prompts, world.reward, in_order="few", **how)
    want = nb.compare(
        policy, pairs, {"few": selections["few"]}, prompts, world.reward, in_order=["few"], **how
    )
    of = ["before", "full", "few"]
    columns = ["reward", "win_rate", "updates"]
    assert got[got.selection.isin(of)][columns].equals(want[want.selection.isin(of)][columns])
    one = nb.compare(policy, frame, {}, "pet of mia ?", world.reward, **how)
    assert one.selection.tolist() == ["before", "full"]


def test_nothing_is_scored_or_trained_before_a_refusal(policy, pairs, prompts, monkeypatch):
    """Whatever is refused is refused before any pair is scored."""
    from nbkit.experiments import comparison as module

    for costly in ("reference_table", "sample", "train_dpo"):
        monkeypatch.setattr(module, costly, lambda *args, **kwargs: pytest.fail("begun"))
    given = dict(selections={"few": pairs["id"][:9]}, prompts=prompts, judge=world.reward,
                 progress=False, **TRAIN)  # fmt: skip
    refused = [dict(judge=None), dict(loss="dpop"), dict(no_option=1), dict(epochs=0),
               dict(held_out=3), dict(selections={"odd": ["x"]}), dict(in_order="odd"),
               dict(workers=1.5), dict(seeds=[]), dict(budgets="all"), dict(cache=3)]  # fmt: skip
    for change in refused:
        with pytest.raises((TypeError, ValueError)):
            nb.compare(policy, pairs, **{**given, **change})


def test_a_bad_judge_is_found_before_any_training(policy, pairs, prompts, tmp_path):
    with pytest.raises(ZeroDivisionError):
        nb.compare(policy, pairs, {}, prompts, lambda p, r: 1 / 0, cache=tmp_path, **TRAIN)
    with pytest.raises(ValueError, match="judge gave nan"):
        nb.compare(policy, pairs, {}, prompts, world.reward, cache=tmp_path,
                   measures={"odd": lambda p, r: float("nan")}, **TRAIN)  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_the_limit_holds_for_held_out_and_edited_pairs_too(
    policy, pairs, prompts, held_out, monkeypatch
):
    lengths = [p.longest for p in nb.tokenize_pairs(policy.tokenizer, pairs)]
    limit = sorted(lengths)[len(lengths) // 2]
    fits = sum(length <= limit for length in lengths)
    turned = nb.flip_labels(pairs, pairs["id"])
    result = nb.compare(
        policy, pairs, {"turned": turned}, prompts, world.reward, held_out=held_out, seeds=1,
        max_length=limit, max_steps=1, budgets=["examples"], **HOW, progress=False, **TRAIN,
    )  # fmt: skip
    assert row(result, "turned", 0).pairs == row(result, "full", 0).pairs == fits < 40
    table = nb.response_logprobs(policy, pairs, progress=False)
    from nbkit.experiments import comparison as module

    monkeypatch.setattr(module, "train_dpo", lambda *args, **kwargs: pytest.fail("begun"))
    with pytest.raises(ValueError, match="'reference' lacks 30 of 30 pairs"):
        nb.compare(policy, pairs, {}, prompts, world.reward, held_out=held_out, reference=table,
                   seeds=1, max_steps=1, **HOW, progress=False, **TRAIN)  # fmt: skip


# --- interruption -------------------------------------------------------------------------------


def test_an_interrupted_comparison_trains_only_what_is_missing(
    policy, pairs, selections, prompts, tmp_path, monkeypatch
):
    from nbkit.experiments import comparison as module

    trained, allowed = [], [4]
    real = module.train_dpo

    def stop(*args, **kwargs):
        if len(trained) == allowed[0]:
            raise KeyboardInterrupt
        trained.append(kwargs["max_steps"])
        return real(*args, **kwargs)

    given = dict(seeds=1, **HOW, progress=False, **TRAIN)
    where = policy, pairs, {"few": selections["few"]}, prompts
    monkeypatch.setattr(module, "train_dpo", stop)
    with pytest.raises(KeyboardInterrupt):
        nb.compare(*where, world.reward, cache=tmp_path, **given)
    allowed[0] = 5  # one more, and a sixth would be an interrupt again
    again = nb.compare(*where, world.reward, cache=tmp_path, **given)
    assert len(trained) == 5  # full, and few and its control at two budgets: each once
    renamed = nb.compare(*where[:2], {"some": selections["few"]}, prompts, world.reward,
                         cache=tmp_path, **given)  # fmt: skip
    assert renamed.win_rate.tolist() == again.win_rate.tolist()
    judged = nb.compare(*where, lambda p, r: -world.reward(p, r), cache=tmp_path, **given)
    assert judged.reward.tolist() == (-again.reward).tolist()  # another judge, nothing trained
    assert len(trained) == 5
    monkeypatch.setattr(module, "reference_table", None)  # of what is kept nothing is scored
    nb.compare(*where, world.reward, cache=tmp_path, **given)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(again, nb.compare(*where, world.reward, **given))


def test_that_the_trainings_taught_nothing_is_said_once(policy, pairs, prompts, recwarn):
    how = dict(TRAIN, learning_rate=1e-9, seeds=2, progress=False, max_new_tokens=2)
    nb.compare(policy, pairs, {}, prompts["prompt"][:2], world.reward, **how)
    shown = warnings.showwarning
    assert len([one for one in recwarn if "taught nothing" in str(one.message)]) == 1
    nb.compare(policy, pairs, {}, prompts["prompt"][:2], world.reward, **how)  # of each call
    assert len([one for one in recwarn if "taught nothing" in str(one.message)]) == 2
    assert warnings.showwarning is shown


@pytest.mark.parametrize(
    "what", ["learning_rate", "temperature", "prompts", "held_out", "in_order", "reference"]
)
def test_what_changes_a_run_changes_what_is_kept(
    policy, pairs, selections, prompts, held_out, tmp_path, what
):
    given = dict(pairs=pairs, selections={"few": selections["few"][::-1]}, seeds=1,
                 prompts=prompts["prompt"][:8], judge=world.reward, **HOW, held_out=held_out,
                 budgets=["updates"], progress=False, **TRAIN)  # fmt: skip
    nb.compare(policy, cache=tmp_path, **given)
    kept = len(list(tmp_path.glob("*.parquet")))
    changes = dict(learning_rate=3e-3, temperature=0.3, in_order=["few"],
                   prompts=prompts["prompt"][8:16], held_out=held_out.select(range(9)),
                   reference=nb.load_policy("world/medium", device="cpu"))  # fmt: skip
    given[what] = changes[what]
    by_cache, fresh = (nb.compare(policy, cache=c, **given) for c in (tmp_path, None))
    pd.testing.assert_frame_equal(by_cache, fresh)
    assert len(list(tmp_path.glob("*.parquet"))) > kept


def test_workers_give_the_same_rows(policy, pairs, selections, prompts, held_out, results):
    """Two processes; the judge may be a function of this file, since it runs here."""
    parallel = nb.compare(
        policy, pairs, selections, prompts, world.reward, seeds=[0, 3], in_order=["turned"],
        held_out=held_out, measures={"correct": correct}, **HOW, progress=False, workers=2,
        **TRAIN,
    )  # fmt: skip
    pd.testing.assert_frame_equal(parallel, results, atol=1e-6)


# --- gain ---------------------------------------------------------------------------------------


def made_up():
    rows = [("easy", 20, [0.6, 0.7]), ("few", 9, [0.4, 0.4]), ("random 20", 20, [0.5, 0.5]),
            ("random 9", 9, [0.45, 0.55]), ("full", 40, [0.55, 0.7])]  # fmt: skip
    return pd.DataFrame(
        [
            dict(selection=name, seed=seed, budget=budget, pairs=size,
                 win_rate=value + (0.1 if budget == "updates" and name == "easy" else 0),
                 correct=1 - value)
            for name, size, values in rows
            for seed, value in enumerate(values)
            for budget in ("examples", "updates")
        ]
    )  # fmt: skip


def test_gain_pairs_by_seed_and_finds_the_control():
    table = made_up().sample(frac=1, random_state=0)
    assert nb.gain(table, "easy").value == pytest.approx(0.15)
    assert nb.gain(table, "easy", budget="updates").value == pytest.approx(0.25)
    assert nb.gain(table, "few").value == pytest.approx(-0.1)
    assert nb.gain(table, "easy", over="full").value == pytest.approx(0.025)
    assert nb.gain(table, "easy", over="few", metric="correct").value == pytest.approx(-0.25)
    assert nb.gain(table, "easy", over="full").verdict() == "not clear of zero"


def test_the_control_of_all_pairs_is_full_data():
    table = made_up().replace({"selection": {"easy": "flipped"}})
    table.loc[table.selection == "flipped", "pairs"] = 40
    assert nb.gain(table, "flipped").value == pytest.approx(0.025)


def test_a_missing_control_is_said_and_not_replaced():
    with pytest.raises(ValueError, match="'easy' has no control 'random 20'"):
        nb.gain(made_up().query("selection != 'random 20'"), "easy")


def test_each_seed_has_the_control_of_its_size():
    table = made_up()
    table.loc[(table.selection == "easy") & (table.seed == 1), "pairs"] = 9
    assert nb.gain(table, "easy").value == pytest.approx((0.6 - 0.5 + 0.7 - 0.55) / 2)


def test_gain_names_what_is_not_there():
    with pytest.raises(ValueError, match="budget 'examples' is named .'hard'.; there are"):
        nb.gain(made_up(), "hard")
    with pytest.raises(ValueError, match="named .'best'."):
        nb.gain(made_up(), "easy", over="best")
    with pytest.raises(ValueError, match="budget 'epochs'"):
        nb.gain(made_up(), "easy", budget="epochs")
