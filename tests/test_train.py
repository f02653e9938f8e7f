"""Training: the same updates as TRL and as a loop by hand, in the order that was asked for."""

import contextlib
import copy
import inspect
import random
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import torch.nn.functional as F
from trl import DPOTrainer

import nbkit as nb
from nbkit import world
from nbkit.experiments.arguments import seed_list
from nbkit.left_out import LeftOut
from nbkit.train.callbacks import LogLastStep
from nbkit.train.dpo import settings_in_effect
from nbkit.train.fitting import pairs_that_fit
from nbkit.train.settings import Training, updates


def trl(**options):
    return dict(trl_options=options)


STEPS = dict(beta=0.5, learning_rate=1e-3, batch_size=4, log_every=1, progress=False, epochs=1)


@pytest.fixture(scope="module")
def policy():
    return nb.load_policy("world/small", device="cpu")


@pytest.fixture(scope="module")
def pairs():
    return world.pairs(24, seed=5)


def final_logps(policy, pairs):
    return nb.response_logprobs(policy, pairs, progress=False)[["chosen_logp", "rejected_logp"]]


def by_hand(policy, pairs, ids, loss_of, *, batch_size=4, learning_rate=1e-3):
    """A bare torch loop over `ids` in that order: (losses, trained model)."""
    tokens = {p.id: p for p in nb.tokenize_pairs(policy.tokenizer, pairs)}
    reference, model = policy.model, copy.deepcopy(policy.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    losses = []
    steps = -(-len(ids) // batch_size)
    for step in range(steps):
        batch = [tokens[i] for i in ids[step * batch_size : (step + 1) * batch_size]]
        loss = torch.stack([loss_of(model, reference, pair) for pair in batch]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate * (steps - step) / steps  # linear decay
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, model


def response_logp(model, prompt, response):
    ids = torch.tensor([prompt + response])
    logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return logps[len(prompt) - 1 :].sum()


def log_ratio_difference(model, reference, pair, per_token=False):
    out = []
    for response in (pair.chosen, pair.rejected):
        with torch.no_grad():
            before = response_logp(reference, pair.prompt, response)
        ratio = response_logp(model, pair.prompt, response) - before
        out.append(ratio / len(response) if per_token else ratio)
    return out[0] - out[1]


def dpo(model, reference, pair, beta=0.5):
    return -F.logsigmoid(beta * log_ratio_difference(model, reference, pair))


def hinge(model, reference, pair, beta=0.5):
    return torch.relu(1 - beta * log_ratio_difference(model, reference, pair))


def ipo(model, reference, pair, beta=0.5):
    return (log_ratio_difference(model, reference, pair, per_token=True) - 1 / (2 * beta)) ** 2


def simpo(model, reference, pair, beta=0.5, gamma=0.5):
    per_token = [
        response_logp(model, pair.prompt, y) / len(y) for y in (pair.chosen, pair.rejected)
    ]
    return -F.logsigmoid(beta * (per_token[0] - per_token[1]) - gamma)


@pytest.mark.parametrize(
    ("loss", "loss_of"),
    [("sigmoid", dpo), ("hinge", hinge), ("slic", hinge), ("ipo", ipo), ("simpo", simpo)],
)
def test_steps_equal_a_loop_by_hand_in_the_given_order(policy, pairs, loss, loss_of):
    order = sorted(pairs["id"], key=lambda id_: id_[::-1])  # neither sorted nor as loaded
    losses, model = by_hand(policy, pairs, order, loss_of)
    run = nb.train_dpo(policy, pairs, keep=order, loss=loss, order="given", **STEPS)
    assert run.trained_on == order
    assert run.history.loss.tolist() == pytest.approx(losses, abs=2e-5)
    expected = final_logps(nb.Policy(model, policy.tokenizer), pairs)
    pd.testing.assert_frame_equal(final_logps(run.policy, pairs), expected, atol=2e-3, rtol=0)


def test_another_order_gives_other_steps(policy, pairs):
    ids = list(pairs["id"])
    given, turned, shuffled = (
        nb.train_dpo(policy, pairs, keep=keep, order=order, seed=3, **STEPS).history.loss.tolist()
        for keep, order in ((ids, "given"), (ids[::-1], "given"), (ids, "shuffled"))
    )
    assert given != pytest.approx(turned, abs=1e-3)
    assert given != pytest.approx(shuffled, abs=1e-3)


@pytest.mark.parametrize(
    "how",
    [
        dict(),
        dict(batch_size=5),
        dict(epochs=1.5),
        dict(batch_size=5, trl_options=dict(gradient_accumulation_steps=2), epochs=2),
        dict(max_steps=3),
    ],
)
def test_the_number_of_updates_is_known_before(policy, pairs, how):
    settings = {**STEPS, **how}
    run = nb.train_dpo(policy, pairs, **settings)
    expected = updates(len(pairs), settings_in_effect(policy, settings))
    assert expected == run.history.step.max() == updates(len(pairs), run.settings)


def test_pairs_that_fit_are_those_that_are_trained_on(policy, pairs):
    lengths = [p.longest for p in nb.tokenize_pairs(policy.tokenizer, pairs)]
    limit = sorted(lengths)[len(lengths) // 2]
    with pytest.warns(UserWarning, match="left out"):
        fit = pairs_that_fit(policy, pairs, limit)["id"][:]
    assert fit == [id_ for id_, length in zip(pairs["id"], lengths) if length <= limit]
    with pytest.warns(UserWarning, match="left out"):
        run = nb.train_dpo(policy, pairs, max_length=limit, max_steps=1, **STEPS)
    assert run.trained_on == fit


def test_a_policy_with_its_adapter_off_is_not_trained(pairs):
    off = nb.add_lora(nb.load_policy("world/small", device="cpu"), 2).without_adapter()
    with pytest.raises(ValueError, match="has its adapter switched off"):
        nb.train_dpo(off, pairs, max_steps=1, **STEPS)


def test_seeds_are_a_number_or_a_list():
    assert seed_list(3) == [0, 1, 2] and seed_list((4, 2)) == [4, 2]
    for seeds in (0, [], [1, 1]):
        with pytest.raises(ValueError, match="expected a number, 1 or more, or distinct seeds"):
            seed_list(seeds)
    for seeds in (3.5, True, None, "12"):
        with pytest.raises(TypeError, match=f"seeds={seeds!r}; expected a number, 1 or more, or"):
            seed_list(seeds)
    with pytest.raises(TypeError, match="seeds=0.5; expected a whole number"):
        seed_list([0.5])


def test_given_order_holds_in_every_epoch(policy, pairs):
    """Twice over the data in the given order is once over it, written down twice, by hand."""
    ids = list(pairs["id"])[:8]
    losses, _ = by_hand(policy, pairs, ids + ids, dpo)
    run = nb.train_dpo(policy, pairs, keep=ids, order="given", **{**STEPS, "epochs": 2})
    assert run.history.loss.tolist() == pytest.approx(losses, abs=2e-5)


def test_ten_steps_equal_trl_as_it_comes(policy, pairs, tmp_path):
    """TRL with its own tokenisation, its own collator, head and reference precomputation."""
    config = tiny.plain_config(
        tmp_path, beta=0.5, learning_rate=1e-3, per_device_train_batch_size=2,
        max_steps=10, logging_steps=1, lr_scheduler_type="linear", weight_decay=0.0,
        train_sampling_strategy="sequential", precompute_ref_log_probs=True, save_strategy="no",
    )  # fmt: skip
    trainer = DPOTrainer(
        copy.deepcopy(policy.model), args=config, train_dataset=pairs,
        processing_class=policy.tokenizer,
    )  # fmt: skip
    trainer.train()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    ours = nb.train_dpo(
        policy, pairs, order="given", max_steps=10, **{**STEPS, "batch_size": 2}
    ).history
    for ours_name, trl_name in (
        ("loss", "loss"), ("margin", "rewards/margins"), ("accuracy", "rewards/accuracies"),
        ("chosen_logp", "logps/chosen"), ("rejected_logp", "logps/rejected"),
        ("grad_norm", "grad_norm"), ("learning_rate", "learning_rate"),
    ):  # fmt: skip
        # at the first step every margin is 0 up to rounding, and its sign (the accuracy) is chance
        first = 1 if ours_name == "accuracy" else 0
        expected = [row[trl_name] for row in logged][first:]
        logged_by_us = ours[ours_name].tolist()[first:]
        assert logged_by_us == pytest.approx(expected, rel=1e-4, abs=1e-4), ours_name


def test_seeds_decide_the_shuffling(policy, pairs):
    one, same, other = (
        nb.train_dpo(policy, pairs, seed=seed, **STEPS).history.loss.tolist() for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_known_start_and_the_policy_stays_as_it_was(policy, pairs):
    before = final_logps(policy, pairs)
    run = nb.train_dpo(policy, pairs, trace=pairs, trace_every=2, **STEPS)
    pd.testing.assert_frame_equal(final_logps(policy, pairs), before)
    assert run.history.loss[0] == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-5)
    assert run.trace.query("step == 0").margin.abs().max() < 1e-4


def test_trace_follows_each_pair(policy, pairs):
    held_out = world.pairs(10, seed=1, part="validation")
    run = nb.train_dpo(policy, pairs, trace=held_out, trace_every=4, **STEPS)
    assert sorted(run.trace.step.unique()) == [0, 4, 6]  # 24 pairs, 4 a step; the end is in it
    assert list(run.trace.query("step == 4").id) == list(held_out["id"])
    last = run.trace.query("step == 6").set_index("id")
    after = nb.response_logprobs(run.policy, held_out, progress=False)
    reference = nb.response_logprobs(policy, held_out, progress=False)
    margin = nb.scores.implicit_margin(after, reference, beta=0.5)
    pd.testing.assert_series_equal(last.margin, margin, check_names=False, atol=1e-5)
    assert margin.abs().max() > 0.01


def test_history_ends_with_the_last_step(policy, pairs):
    for log_every, steps in ((4, [4, 6]), (3, [3, 6]), (100, [6])):
        history = nb.train_dpo(policy, pairs, **{**STEPS, "log_every": log_every}).history
        assert history.step.tolist() == steps


def test_reference_may_be_a_policy_or_a_table(policy, pairs):
    other = nb.load_policy("world/medium", device="cpu")
    table = nb.response_logprobs(other, pairs, progress=False)
    runs = [nb.train_dpo(policy, pairs, reference=r, **STEPS) for r in (other, table)]
    assert runs[0].history.loss.tolist() == runs[1].history.loss.tolist()
    assert runs[0].history.margin[0] != pytest.approx(0, abs=1e-3)


def test_a_reference_table_may_cover_kept_and_followed_pairs(policy, pairs):
    held_out = world.pairs(10, seed=1, part="validation")
    tables = [nb.response_logprobs(policy, p, progress=False) for p in (pairs, held_out)]
    both = pd.concat(tables).sample(frac=1, random_state=0)
    how = dict(STEPS, trace=held_out, trace_every=3)
    run = nb.train_dpo(policy, pairs, reference=both, **how)
    pd.testing.assert_frame_equal(run.trace, nb.train_dpo(policy, pairs, **how).trace, atol=1e-5)
    with pytest.raises(ValueError, match="table 'reference' lacks 10 of 10 pairs"):
        nb.train_dpo(policy, pairs, reference=tables[0], **how)


def test_lora_trains_the_adapter_only(policy, pairs):
    before = final_logps(policy, pairs)
    run = nb.train_dpo(policy, pairs, lora=4, **{**STEPS, "learning_rate": 1e-2})
    pd.testing.assert_frame_equal(final_logps(policy, pairs), before)
    pd.testing.assert_frame_equal(final_logps(run.policy.without_adapter(), pairs), before)
    assert (final_logps(run.policy, pairs) - before).abs().to_numpy().max() > 0.05
    assert run.history.loss[0] == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-5)


def test_a_trained_adapter_starts_from_itself_or_from_a_reference_that_is_named(policy, pairs):
    trained = nb.train_dpo(policy, pairs, lora=4, **{**STEPS, "learning_rate": 1e-2}).policy
    base = trained.without_adapter()
    against_base = nb.train_dpo(trained, pairs, reference=base, trace=pairs, **STEPS)
    assert against_base.history.margin[0] != pytest.approx(0, abs=1e-3)
    margin = nb.scores.implicit_margin(*(
        nb.response_logprobs(p, pairs, progress=False) for p in (trained, base)
    ), 0.5)  # fmt: skip
    start = against_base.trace.query("step == 0").set_index("id").margin
    pd.testing.assert_series_equal(start, margin, check_names=False, atol=1e-5)

    again = nb.train_dpo(trained, pairs, copy_model=False, trace=pairs, **STEPS)
    assert again.policy.model is trained.model
    assert list(again.policy.model.peft_config) == ["default"]
    assert again.history.loss[0] == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-5)
    assert again.trace.query("step == 0").margin.abs().max() < 1e-4

    with pytest.raises(ValueError, match="has an adapter already, and lora=4 asks for another"):
        nb.train_dpo(trained, pairs, lora=4, **STEPS)


def test_an_adapter_from_a_folder_goes_on_training(policy, pairs, tmp_path):
    how = dict(STEPS, learning_rate=1e-2)
    trained = nb.train_dpo(policy, pairs, lora=4, **how).policy
    trained.save(tmp_path / "adapter")
    loaded = nb.load_policy(tmp_path / "adapter", device="cpu")
    runs = [nb.train_dpo(p, pairs, **how) for p in (trained, loaded)]
    assert runs[0].history.loss.tolist() == pytest.approx(runs[1].history.loss.tolist(), abs=1e-5)
    before = final_logps(loaded, pairs)
    assert (final_logps(runs[1].policy, pairs) - before).abs().to_numpy().max() > 0.05


def test_lora_starts_by_the_seed(policy, pairs):
    one, same, other = (
        nb.train_dpo(policy, pairs, lora=4, order="given", seed=seed, **STEPS).history.loss.tolist()
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_bfloat16_policy_trains_its_adapter(pairs):
    half = nb.load_policy("world/small", device="cpu", dtype="bfloat16")
    run = nb.train_dpo(half, pairs, lora=4, **{**STEPS, "learning_rate": 1e-2})
    assert run.policy.dtype == torch.bfloat16
    assert run.history.loss[0] == pytest.approx(0.693, abs=0.05)  # two roundings of bfloat16
    after = nb.preference_accuracy(run.policy, run.policy.without_adapter(), pairs, beta=0.5)
    assert after.loc["loss", "value"] < 0.65


KILLED_RUN = """
import os, signal, sys
import nbkit as nb
from nbkit.train import callbacks

record = callbacks.Tracer.record
def record_then_die(self, step):
    record(self, step)
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
callbacks.Tracer.record = record_then_die
pairs = nb.world.pairs(24, seed=5)
nb.train_dpo(nb.load_policy("world/small", device="cpu"), pairs, checkpoints=sys.argv[1],
             checkpoint_every=2, trace=pairs, trace_every=1, seed=4, beta=0.5, learning_rate=1e-3,
             batch_size=4, log_every=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_goes_on_to_the_same_result(policy, pairs, tmp_path):
    """Six steps; killed for real after the fifth, saved at the second and fourth."""
    killed = subprocess.run([sys.executable, "-c", KILLED_RUN, tmp_path], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    how = dict(STEPS, trace=pairs, trace_every=1, seed=4, checkpoint_every=2)
    whole = nb.train_dpo(policy, pairs, **how)
    seen = []
    with watch_steps(seen):
        resumed = nb.train_dpo(policy, pairs, checkpoints=tmp_path, **how)
        assert seen == [5, 6]
        again = nb.train_dpo(policy, pairs, checkpoints=tmp_path, **how)
        assert seen == [5, 6]  # finished before: nothing is trained anew
        other = nb.train_dpo(policy, pairs, checkpoints=tmp_path, **{**how, "seed": 5})
        assert seen == [5, 6, 1, 2, 3, 4, 5, 6]
    for run in (resumed, again):
        pd.testing.assert_frame_equal(run.history, whole.history, atol=1e-6)
        pd.testing.assert_frame_equal(run.trace, whole.trace, atol=1e-5)
        pd.testing.assert_frame_equal(
            final_logps(run.policy, pairs), final_logps(whole.policy, pairs), atol=1e-5
        )
    assert other.history.loss.tolist() != whole.history.loss.tolist()


@contextlib.contextmanager
def watch_steps(seen):
    """Notes the number of every optimizer step."""
    on_step_end = LogLastStep.on_step_end

    def noted(self, args, state, control, **kwargs):
        seen.append(state.global_step)
        on_step_end(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogLastStep, "on_step_end", noted)
        yield


def test_copy_model_false_trains_in_place(pairs):
    own = nb.load_policy("world/small", device="cpu")
    before = final_logps(own, pairs)
    run = nb.train_dpo(own, pairs, copy_model=False, **STEPS)
    assert run.policy.model is own.model
    assert (final_logps(own, pairs) - before).abs().to_numpy().max() > 0.05


def test_the_trained_model_is_a_plain_one_again(policy, pairs):
    trained = nb.train_dpo(policy, pairs, **STEPS).policy
    assert not trained.model.training
    assert "forward" not in trained.model.__dict__
    twin = nb.Policy(copy.deepcopy(trained.model), trained.tokenizer)
    with torch.no_grad():
        twin.model.get_input_embeddings().weight.zero_()
    assert not final_logps(trained, pairs).equals(final_logps(twin, pairs))
    assert len(nb.sample(trained, ["pet of mia ?"], max_new_tokens=4)) == 1


def test_conversations_train_as_their_plain_text_does(policy, pairs):
    def say(role, text):
        return [{"role": role, "content": text}]

    chats = pairs.map(
        lambda row: dict(
            prompt=say("user", row["prompt"]), chosen=say("assistant", row["chosen"]),
            rejected=say("assistant", row["rejected"]),
        ),
        remove_columns=["prompt", "chosen", "rejected"],
    )  # fmt: skip
    losses = [
        nb.train_dpo(policy, rows, order="given", **STEPS).history.loss.tolist()
        for rows in (pairs, chats)
    ]
    assert losses[0] == losses[1]


def test_pairs_that_do_not_fit_are_named(policy, pairs):
    longest = {p.id: p.longest for p in nb.tokenize_pairs(policy.tokenizer, pairs)}
    limit = max(longest.values()) - 1
    with pytest.warns(UserWarning, match="of 24 pairs are left out: .*All are in `run.left_out`"):
        run = nb.train_dpo(policy, pairs, max_length=limit, **STEPS)
    too_long = {id_ for id_, n in longest.items() if n > limit}
    assert set(run.left_out) == too_long
    assert set(run.trained_on) == set(longest) - too_long


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(loss="dpo"), "loss='dpo'; expected one of sigmoid, ipo"),
        (dict(order="sorted"), "order='sorted'; expected 'shuffled' or 'given'"),
        (dict(keep=["nobody"]), "1 of the 1 ids to keep are not in the pairs .first: 'nobody'"),
        (dict(keep=[]), "keep is empty: there is no pair to work on"),
    ],
)
def test_bad_arguments_are_named(policy, pairs, options, message):
    with pytest.raises(ValueError, match=message):
        nb.train_dpo(policy, pairs, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(beta=0), ValueError, "beta=0; expected a number above 0"),
        (dict(beta=-1), ValueError, "beta=-1"),
        (dict(beta=float("nan")), ValueError, "beta=nan"),
        (dict(beta=float("inf")), ValueError, "beta=inf"),
        (dict(beta="0.1"), TypeError, "beta='0.1'; expected a number above 0, got the text"),
        (dict(learning_rate=-1e-3), ValueError, "learning_rate=-0.001; expected a number, 0 or"),
        (dict(learning_rate=float("nan")), ValueError, "learning_rate=nan"),
        (dict(epochs=0), ValueError, "epochs=0"),
        (dict(epochs=-1), ValueError, "epochs=-1"),
        (dict(max_steps=0), ValueError, "max_steps=0; expected a whole number, 1 or more"),
        (dict(batch_size=0), ValueError, "batch_size=0"),
        (dict(trace_every=0), ValueError, "trace_every=0"),
        (dict(log_every=0), ValueError, "log_every=0"),
        (dict(checkpoint_every=0), ValueError, "checkpoint_every=0"),
        (trl(gradient_accumulation_steps=0), ValueError, "gradient_accumulation_steps=0"),
        (dict(max_length=0), ValueError, "max_length=0"),
        (dict(lora=0), ValueError, "lora=0"),
        (dict(lora=2.5), TypeError, "lora=2.5"),
        (dict(warmup_steps=-1), ValueError, "warmup_steps=-1"),
        (dict(schedule="wavy"), ValueError, "schedule='wavy'; expected one of linear, cosine"),
        (dict(learning_rates=1e-3), TypeError, "unexpected keyword argument 'learning_rates'"),
        (trl(learning_rates=1e-3), TypeError, "learning_rates is no field of TRL's DPOConfig. Did"),
        (dict(trl_options=3), TypeError, "trl_options=3; expected a dict, name -> value"),
        (trl(seed=3), ValueError, "seed: use train_dpo's own argument seed"),
        (trl(dataloader_drop_last=True), ValueError, "dataloader_drop_last drops the pairs of an"),
        (dict(learning_rate=True), TypeError, "learning_rate=True; expected a number, 0 or more"),
        (trl(ld_alpha=0.5), ValueError, "ld_alpha needs the reference's log-probs token by token"),
        (trl(num_train_epochs=2), ValueError, "num_train_epochs: use train_dpo's"),
        (dict(reference="world/small"), TypeError, "reference: expected a policy, got the text"),
    ],
    ids=str,
)
def test_nonsense_is_refused_before_the_work(policy, pairs, options, error, message, monkeypatch):
    from nbkit.train import dpo

    monkeypatch.setattr(dpo, "make_trainer", None)
    with pytest.raises(error, match=message):
        nb.train_dpo(policy, pairs, **{"progress": False, **options})


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        (dict(batch_size=0), ValueError, "batch_size=0"),
        (dict(epochs=0), ValueError, "epochs=0"),
        (dict(beta=0.1), TypeError, "unexpected keyword argument 'beta'"),
        (trl(beta=0.1), TypeError, "trl_options: beta is no field of TRL's RewardConfig"),
        (trl(seed=3), ValueError, "seed: use train_reward_model's own argument seed"),
        (dict(learning_rate=None), TypeError, "learning_rate=None; expected a number, 0 or more"),
        (dict(schedule="wavy"), ValueError, "schedule='wavy'; expected one of linear, cosine"),
        (dict(keep=[]), ValueError, "keep is empty"),
    ],
)
def test_a_reward_model_is_not_trained_on_nonsense(policy, pairs, how, error, message):
    with pytest.raises(error, match=message):
        nb.train_reward_model(policy, pairs, progress=False, **how)


def test_updates_are_counted_of_sane_numbers_only(policy):
    settings = settings_in_effect(policy, {})
    assert updates(0, settings) == 0
    for how in (dict(batch_size=0), dict(epochs=0), dict(max_steps=0), dict(max_steps=-2)):
        with pytest.raises(ValueError, match=f"{next(iter(how))}="):
            settings_in_effect(policy, how)
    with pytest.raises(TypeError, match="pairs=1.5"):
        updates(1.5, settings)


def test_experiments_hand_on_every_setting_but_what_they_have_or_set_themselves():
    """Training names the arguments of train_dpo, so that editors know them."""
    arguments = inspect.signature(nb.train_dpo).parameters
    own = {"reference", "trace", "trace_every", "seed", "copy_model", "progress"}
    settings = {name for name, one in arguments.items() if one.kind is one.KEYWORD_ONLY} - own
    assert set(Training.__annotations__) == settings
    for name, kind in Training.__annotations__.items():
        assert kind.__forward_arg__ == arguments[name].annotation


def test_reference_tables_that_would_train_nonsense_are_refused(policy, pairs):
    table = nb.response_logprobs(policy, pairs, progress=False)
    first, ids = pairs["id"][0], pairs["id"][:]

    def refused(table, message):
        with pytest.raises(ValueError, match=message):
            nb.train_dpo(policy, pairs, reference=table, **STEPS)

    holes = table.copy()
    holes.loc[ids[2], "rejected_logp"] = float("nan")
    refused(holes, f"log-probs that are not finite: pair '{ids[2]}'")
    refused(pd.concat([table, table.iloc[:1]]), f"holds pair '{first}' more than once")
    other = pairs.map(lambda row: {"chosen": row["rejected"], "rejected": row["chosen"]})
    stale = nb.response_logprobs(policy, other, progress=False)
    refused(stale, f"holds other texts under the ids of 24 pairs .first: '{first}'")
    more = nb.response_logprobs(policy, world.pairs(40, seed=5), progress=False)
    extra = pd.concat([table, more[~more.index.isin(ids)]])
    extra.loc[ids[:2], "tokens_hash"] = float("nan")  # of an older table, put together with this
    run = nb.train_dpo(policy, pairs, reference=extra, **STEPS)  # a table may hold more
    expected = nb.train_dpo(policy, pairs, **STEPS)
    assert run.history.loss.tolist() == pytest.approx(expected.history.loss.tolist(), abs=1e-6)


def test_weights_that_are_no_numbers_are_refused_by_name(pairs):
    broken = nb.load_policy("world/small", device="cpu")
    with torch.no_grad():
        broken.model.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    for loss in ("sigmoid", "simpo"):
        with pytest.raises(ValueError, match="weight model.layers.1.mlp.up_proj.weight holds NaN"):
            nb.train_dpo(broken, pairs, loss=loss, **STEPS)


def test_a_training_that_runs_away_stops_and_names_the_step(policy, pairs):
    states = torch.get_rng_state()
    how = dict(STEPS, learning_rate=1e38, max_grad_norm=0)
    with pytest.raises(FloatingPointError, match="The loss of step 2 is nan: the training has run"):
        nb.train_dpo(policy, pairs, **how)
    with pytest.raises(FloatingPointError, match="The training has run away.* holds NaN or infini"):
        nb.train_dpo(policy, pairs, **how, max_steps=1)
    assert torch.equal(torch.get_rng_state(), states)


def test_frozen_weights_cannot_be_trained(pairs):
    frozen = nb.load_policy("world/small", device="cpu")
    frozen.model.requires_grad_(False)
    with pytest.raises(ValueError, match="All weights of policy 'world/small' are frozen"):
        nb.train_dpo(frozen, pairs, **STEPS)
    assert nb.train_dpo(frozen, pairs, lora=2, **STEPS).policy.has_adapter


@pytest.mark.parametrize("train", [nb.train_dpo, nb.train_reward_model])
def test_random_states_stay_as_they_were(policy, pairs, train):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    before = states()
    train(policy, pairs, batch_size=8, progress=False)
    assert states() == before
    if train is nb.train_dpo:
        train(policy, pairs, lora=2, progress=False, batch_size=8)
        assert states() == before


@pytest.mark.parametrize("train", [nb.train_dpo, nb.train_reward_model])
def test_long_pairs_are_left_out_with_one_warning_and_short_messages(policy, train, recwarn):
    long = [dict(prompt=f"pet of {n} ?", chosen="sure thing . " * 40, rejected="no idea") for n in
            range(1000)]  # fmt: skip
    with pytest.raises(ValueError, match="is left to train on, of 1000 given: 1000 such") as error:
        train(policy, nb.load_pairs(long), progress=False)
    assert len(str(error.value)) < 300
    short = world.pairs(16, seed=3).select_columns(["prompt", "chosen", "rejected"])
    some = nb.load_pairs([*long[:5], *short.to_list()])
    options = [dict(loss="simpo"), dict()] if train is nb.train_dpo else [dict()]
    for how in options:
        recwarn.clear()
        run = train(policy, some, learning_rate=1e-3, progress=False, **how)
        assert type(run.left_out) is LeftOut and len(run.left_out) == 5
        said = [str(w.message) for w in recwarn if "left out" in str(w.message)]
        assert len(said) == 1 and said[0].startswith("5 of 21 pairs are left out: 5 such as")


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
@pytest.mark.parametrize("options", [dict(), dict(router_aux_loss_coef=0.0)], ids=str)
def test_mixtures_of_experts_train_as_in_plain_trl(family, options, tmp_path):
    moe, pairs = experts(family), tiny.text_pairs(8)
    expected = plain_trl(moe, pairs, tmp_path, **options)
    run = nb.train_dpo(moe, pairs, order="given", trl_options=options, **{**STEPS, "batch_size": 2})
    assert run.history.loss.tolist() == pytest.approx(expected, abs=1e-4)
    start = torch.log(torch.tensor(2.0)).item()
    assert (run.history.loss[0] > start + 1e-4) == (not options)  # the load-balancing loss is in it


@pytest.mark.parametrize(
    "options",
    [
        dict(use_weighting=True),
        dict(label_smoothing=0.1),
        dict(f_divergence_type="js_divergence"),
        dict(loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5]),
        dict(loss_type="sigmoid_norm"),
        dict(loss_type="aot"),
    ],
    ids=str,
)
def test_options_of_trl_give_trls_losses(policy, pairs, options, tmp_path):
    few = pairs.select(range(8))
    expected = plain_trl(policy, few, tmp_path, **options)
    run = nb.train_dpo(
        policy, few, order="given", trl_options=options, **{**STEPS, "batch_size": 2}
    )
    assert run.history.loss.tolist() == pytest.approx(expected, abs=1e-5)


def experts(family):
    """A tiny mixture of experts whose router's loss is not small."""
    import transformers as tf

    moe = dict(num_experts_per_tok=2, router_aux_loss_coef=0.1)
    config = {
        "mixtral": lambda: tf.MixtralConfig(**tiny.GROUPED, num_local_experts=4, **moe),
        "qwen2_moe": lambda: tf.Qwen2MoeConfig(
            **tiny.GROUPED, num_experts=4, moe_intermediate_size=32, **moe,
            shared_expert_intermediate_size=32,
        ),
    }[family]()  # fmt: skip
    torch.manual_seed(0)
    return nb.Policy(tf.AutoModelForCausalLM.from_config(config), tiny.tokenizer(), family)


def plain_trl(policy, pairs, folder, **options):
    """The losses of TRL's own trainer, step by step."""
    config = tiny.plain_config(
        folder, **{"loss_type": "sigmoid", **options}, beta=0.5,
        learning_rate=1e-3, per_device_train_batch_size=2, logging_steps=1, weight_decay=0.0,
        num_train_epochs=1, lr_scheduler_type="linear", train_sampling_strategy="sequential",
        precompute_ref_log_probs=True, save_strategy="no",
    )  # fmt: skip
    trainer = DPOTrainer(
        copy.deepcopy(policy.model), args=config, train_dataset=pairs,
        processing_class=policy.tokenizer,
    )  # fmt: skip
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_doubled_ids_and_a_short_reference_table_are_refused(policy, pairs):
    id_ = pairs["id"][0]
    with pytest.raises(ValueError, match=f"`keep` names '{id_}' more than once"):
        nb.train_dpo(policy, pairs, keep=[id_, id_])
    table = nb.response_logprobs(policy, pairs, progress=False).iloc[1:]
    with pytest.raises(ValueError, match="table 'reference' lacks 1 of 24 pairs"):
        nb.train_dpo(policy, pairs, reference=table)
