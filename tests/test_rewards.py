"""Reward models: scores equal to one unpadded row at a time, TRL's tokens, TRL's training."""

import copy
import json

import pandas as pd
import pytest
import tiny
import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

import nbkit as nb
from nbkit import judges, world
from nbkit.left_out import LeftOut
from nbkit.train.reward import _classifier

FAMILIES = ["llama", "qwen2", "gpt2"]
QUIET = dict(progress=False)
ONE = dict(trl_options=dict(max_steps=1))


def reward_model(family="llama", **options):
    policy = tiny.policy(family, **options)
    model = _classifier(policy, seed=0)
    model.score.weight.data.normal_(0, 1, generator=torch.Generator().manual_seed(1))
    return nb.RewardModel(model, policy.tokenizer, f"{family} judge")


def one_at_a_time(judge, sequences):
    """In float64 and without padding: the head on the last token's hidden state."""
    model = copy.deepcopy(judge.model).double()
    with torch.no_grad():
        rows = [torch.tensor([ids]) for ids in sequences]
        return [model.score(model.base_model(ids)[0][0, -1]).item() for ids in rows]


def trl_ids(judge, pairs, tmp_path):
    """Token ids of prompt + response as TRL's RewardTrainer makes them."""
    args = RewardConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none",
                        max_length=None)  # fmt: skip
    columns = pairs.select_columns(["prompt", "chosen", "rejected"])
    trainer = RewardTrainer(
        copy.deepcopy(judge.model), args=args, train_dataset=columns,
        processing_class=judge.tokenizer,
    )  # fmt: skip
    data = trainer.train_dataset
    return data["chosen_ids"][:], data["rejected_ids"][:]


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_single_rows_of_trls_tokens(family, tmp_path):
    judge, pairs = reward_model(family), tiny.text_pairs()
    chosen, rejected = trl_ids(judge, pairs, tmp_path)
    assert len({len(ids) for ids in chosen}) > 3
    scores = nb.reward_scores(judge, pairs, **QUIET)
    assert scores.index.tolist() == pairs["id"][:]
    assert scores.chosen_score.to_numpy() == pytest.approx(one_at_a_time(judge, chosen), abs=1e-4)
    assert scores.rejected_score.to_numpy() == pytest.approx(
        one_at_a_time(judge, rejected), abs=1e-4
    )
    assert scores.chosen_score.std() > 0.01


def test_conversations_go_through_the_chat_template(tmp_path):
    judge = reward_model(tokens=tiny.tokenizer(chat_template=tiny.CHAT_TEMPLATE))
    pairs = nb.load_pairs(tiny.text_pairs().to_list(), chat=True)
    chosen, rejected = trl_ids(judge, pairs, tmp_path)
    scores = nb.reward_scores(judge, pairs, **QUIET)
    assert scores.chosen_score.to_numpy() == pytest.approx(one_at_a_time(judge, chosen), abs=1e-4)
    answer = pairs[2]["rejected"][0]["content"]
    expected = pytest.approx(scores.rejected_score.iloc[2], abs=1e-4)
    assert judge(pairs[2]["prompt"], answer) == expected


def test_batches_do_not_change_a_score(monkeypatch):
    judge, pairs = reward_model(), tiny.text_pairs()
    together = nb.reward_scores(judge, pairs, **QUIET)
    monkeypatch.setitem(judges.BUDGET, "cpu", 1)
    pd.testing.assert_frame_equal(nb.reward_scores(judge, pairs, **QUIET), together, atol=1e-5)


def test_dropout_is_off():
    judge = reward_model("gpt2", attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5)
    pairs = tiny.text_pairs()
    pd.testing.assert_frame_equal(*(nb.reward_scores(judge, pairs, **QUIET) for _ in range(2)))


def test_pairs_too_long_are_left_out_with_a_warning():
    judge, pairs = reward_model(), tiny.text_pairs()
    lengths = {p.id: p.longest for p in nb.tokenize_pairs(judge.tokenizer, pairs)}
    limit = sorted(lengths.values())[-2]
    with pytest.warns(UserWarning, match=f"1 of {len(pairs)} pairs .* more than {limit}"):
        scores = nb.reward_scores(judge, pairs, max_length=limit, **QUIET)
    longest = max(lengths, key=lengths.get)
    assert set(lengths) - set(scores.index) == {longest}
    left_out = scores.attrs["left_out"]
    assert isinstance(left_out, LeftOut) and f"more than {limit}" in left_out[longest]
    assert nb.reward_scores(judge, pairs, **QUIET).attrs["left_out"] == LeftOut()
    for bad in (0, 2.5, "9"):
        with pytest.raises((TypeError, ValueError), match="max_length=.*a whole number, 1 or more"):
            nb.reward_scores(judge, pairs, max_length=bad, **QUIET)


def test_pairs_come_through_the_door():
    judge, pairs = reward_model(), tiny.text_pairs()
    table = nb.reward_scores(judge, pairs, **QUIET)
    pd.testing.assert_frame_equal(nb.reward_scores(judge, pairs.to_pandas(), **QUIET), table)
    pd.testing.assert_frame_equal(nb.reward_scores(judge, pairs.to_list(), **QUIET), table)
    by_length = nb.reward_scores(lambda prompt, text: len(text), pairs.to_list())
    assert by_length.index.tolist() == pairs["id"][:] and by_length.attrs["left_out"] == {}
    twice = pairs.select([0, 0])
    for given, error in ((twice, "ids occur more than once"), (None, "got None"), (7, "an int")):
        for scorer in (judge, lambda prompt, text: 0.0):
            with pytest.raises((TypeError, ValueError), match=error):
                nb.reward_scores(scorer, given)


def test_a_function_is_a_judge_too():
    pairs = world.pairs(50, seed=1)
    scores = nb.reward_scores(world.reward, pairs, **QUIET)
    assert scores.chosen_score.tolist() == pairs["chosen_reward"][:]
    assert nb.scores.explicit_margin(scores).to_numpy() == pytest.approx(pairs["true_margin"][:])
    talks = nb.load_pairs(tiny.text_pairs().to_list(), chat=True)
    by_length = nb.reward_scores(lambda prompt, text: len(text), talks)
    assert by_length.chosen_score.tolist() == [len(c) for c in tiny.text_pairs()["chosen"]]
    with pytest.raises(ValueError, match="judge gave nan"):
        nb.reward_scores(lambda p, r: float("nan"), pairs)


def test_a_reward_model_judges_win_rates_as_a_function_would():
    policy, prompts = nb.load_policy("world/small", device="cpu"), world.prompts(12)
    judge = nb.RewardModel(_classifier(policy, 3), policy.tokenizer)
    how = dict(max_new_tokens=8, **QUIET)
    batched = nb.win_rate(policy, ["dog"] * 12, prompts, judge, **how).table
    single = nb.win_rate(policy, ["dog"] * 12, prompts, lambda p, r: judge(p, r), **how).table
    pd.testing.assert_frame_equal(batched, single, atol=1e-5)


# --- loading ------------------------------------------------------------------------------------


def test_saved_reward_models_are_loaded(tmp_path):
    judge, pairs = reward_model(), tiny.text_pairs()
    judge.model.save_pretrained(tmp_path)
    judge.tokenizer.save_pretrained(tmp_path)
    again = nb.load_reward_model(tmp_path, device="cpu")
    pd.testing.assert_frame_equal(
        nb.reward_scores(again, pairs, **QUIET), nb.reward_scores(judge, pairs, **QUIET)
    )


def test_what_is_no_reward_model_is_refused(tmp_path):
    tiny.save(tiny.policy(), tmp_path)
    with pytest.raises(ValueError, match="is a LlamaForCausalLM, no reward model.*load_policy"):
        nb.load_reward_model(tmp_path, device="cpu")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": None}))
    with pytest.raises(ValueError, match="weights lack 1 tensors .first: score.weight"):
        nb.load_reward_model(tmp_path, device="cpu")
    with pytest.raises(FileNotFoundError, match="neither a folder here nor a hub model"):
        nb.load_reward_model("nobody/no-such-judge", device="cpu")
    config = copy.deepcopy(tiny.policy().model.config)
    config.num_labels = 2
    with pytest.raises(ValueError, match="has 2 labels; expected a reward model with one"):
        nb.RewardModel(AutoModelForSequenceClassification.from_config(config), tiny.tokenizer())
    nb.add_lora(tiny.policy()).save(tmp_path / "adapter")
    for name, problem in {
        "world/small": "'world/small' is a LlamaForCausalLM, no reward model",
        tmp_path / "adapter": "adapter' is an adapter. Load it with peft, merge it",
    }.items():
        with pytest.raises(ValueError, match=problem):
            nb.load_reward_model(name, device="cpu")
    with pytest.raises(TypeError, match="nb.load_reward_model takes.*nb.RewardModel"):
        nb.load_reward_model(tiny.model())


def test_a_classifier_of_other_labels_or_of_nan_is_refused(tmp_path):
    model = reward_model().model
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 3] = float("nan")
    tiny.save(nb.RewardModel(model, tiny.tokenizer()), tmp_path / "nan")
    with pytest.raises(ValueError, match="weight model.layers.1.mlp.up_proj.weight holds NaN"):
        nb.load_reward_model(tmp_path / "nan", device="cpu")
    config = copy.deepcopy(model.config)
    config.num_labels = 5
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "five")
    tiny.tokenizer().save_pretrained(tmp_path / "five")
    with pytest.raises(ValueError, match=r"score.weight, \[5, 48\] instead of \[1, 48\]"):
        nb.load_reward_model(tmp_path / "five", device="cpu")


def test_a_tokenizer_without_pad_and_eos_cannot_end_a_row():
    bare = tiny.tokenizer(pad_token=None, eos_token=None)
    with pytest.raises(ValueError, match="neither a pad nor an end-of-sequence token"):
        nb.RewardModel(reward_model().model, bare)


# --- training -----------------------------------------------------------------------------------


def test_the_first_steps_are_bradley_terrys():
    policy, pairs = nb.load_policy("world/small", device="cpu"), world.pairs(24, seed=2)
    start = _classifier(policy, seed=5)
    scores = nb.reward_scores(nb.RewardModel(start, policy.tokenizer), pairs, **QUIET)
    margin = torch.tensor(nb.scores.explicit_margin(scores).to_numpy())
    how = dict(seed=5, batch_size=24, log_every=1, **ONE, **QUIET)
    run = nb.train_reward_model(policy, pairs, **how)
    assert run.history.loss[0] == pytest.approx(-F.logsigmoid(margin).mean().item(), abs=1e-5)
    assert run.history.accuracy[0] == pytest.approx((margin > 0).double().mean().item())
    other = nb.train_reward_model(policy, pairs, **dict(how, seed=6))
    assert other.history.loss[0] != pytest.approx(run.history.loss[0], abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reward_model_starts_with_the_policys_body(family):
    policy = tiny.policy(family)
    body = policy.model.base_model.state_dict()
    start = _classifier(policy, seed=0).base_model.state_dict()
    assert body.keys() == start.keys() and all(torch.equal(body[k], start[k]) for k in body)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reward_model_learns_its_pairs_and_leaves_the_policy_alone(family):
    policy, pairs = tiny.policy(family), tiny.text_pairs()
    before = {k: v.clone() for k, v in policy.model.state_dict().items()}
    how = dict(learning_rate=3e-3, epochs=20, batch_size=4, **QUIET)
    run = nb.train_reward_model(policy, pairs, **how)
    margin = nb.scores.explicit_margin(nb.reward_scores(run.reward_model, pairs, **QUIET))
    assert (margin > 0).mean() > 0.9
    assert all(torch.equal(v, before[k]) for k, v in policy.model.state_dict().items())
    assert run.trained_on == pairs["id"][:] and run.left_out == {}
    assert not run.reward_model.model.training


def test_on_the_worlds_pairs_it_agrees_with_the_truth_on_unseen_facts():
    policy = nb.load_policy("world/small", device="cpu")
    run = nb.train_reward_model(
        policy, world.pairs(800, seed=4), learning_rate=1e-3, log_every=50, **QUIET
    )
    held_out = world.pairs(300, part="validation", noise=0)
    margin = nb.scores.explicit_margin(nb.reward_scores(run.reward_model, held_out, **QUIET))
    truth = pd.Series(held_out["true_margin"][:], index=held_out["id"][:])
    assert nb.rank_correlation(margin, truth).low > 0


def test_keep_and_what_is_refused():
    policy, pairs = nb.load_policy("world/small", device="cpu"), world.pairs(8)
    ids = pairs["id"][2:5]
    assert nb.train_reward_model(policy, pairs, ids, **ONE, **QUIET).trained_on == ids
    with pytest.raises(ValueError, match="1 of the 1 ids to keep are not in the pairs"):
        nb.train_reward_model(policy, pairs, ["x"], **QUIET)
    with pytest.raises(ValueError, match="No pair is left to train on, of 8"):
        nb.train_reward_model(policy, pairs, max_length=3, **QUIET)
    with pytest.raises(ValueError, match="has an adapter; a reward model starts from plain"):
        nb.train_reward_model(nb.add_lora(policy, 2), pairs, **QUIET)


def test_training_is_quiet(capfd):
    policy, pairs = nb.load_policy("world/small", device="cpu"), world.pairs(8)
    capfd.readouterr()
    nb.train_reward_model(policy, pairs, **ONE, **QUIET)
    assert capfd.readouterr() == ("", "")
