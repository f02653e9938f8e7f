"""The embedded world: its language, its labels, its weights, and that they come out the same."""

import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from nbkit import load_pairs, world
from nbkit.world import pool, sft
from nbkit.world.preferences import _pair as make_pair
from nbkit.world.tokenizer import build_tokenizer

ANSWERS = [
    world.compose(opening, answer, closing)
    for opening, answer, closing in itertools.product(world.OPENINGS, world.ANIMALS, world.CLOSINGS)
]


@pytest.fixture(scope="module", params=["built", *world.SIZES])
def tokenizer(request):
    """The tokenizer that the code builds, and the one in each shipped folder."""
    if request.param == "built":
        return build_tokenizer()
    return AutoTokenizer.from_pretrained(world.WEIGHTS / request.param)


@pytest.fixture(scope="module")
def rows():
    return world.pairs(3200, seed=0).to_pandas()


# The facts


def test_the_facts_are_768_in_six_rungs_and_three_disjoint_parts():
    table = world.facts()
    assert len(table) == 768 == table.prompt.nunique() == table.index.nunique()
    counts = table.groupby(["rung", "part"]).size().unstack()
    assert counts.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert (counts == [32, 64, 32]).all().all()  # test, train, validation
    assert table.answer.isin(world.ANIMALS).all()
    # The answer of a fact must not be guessed from its topic or its name.
    assert table.groupby("topic").answer.nunique().min() > 8


def test_training_validation_and_test_rows_share_no_fact(rows):
    part = world.facts().part
    validation = world.pairs(600, part="validation").to_pandas()
    test = world.prompts(192).to_pandas()
    for frame, name in ((rows, "train"), (validation, "validation"), (test, "test")):
        assert (part[frame.fact] == name).all()
    assert test.fact.is_unique  # 192 facts: none is asked twice before all were asked


# The tokenizer


def test_prompt_ids_are_the_prefix_of_every_prompt_and_response(tokenizer):
    prompts = [world.FACTS[0].prompt, world.FACTS[-1].prompt]
    for prompt, space in itertools.product(prompts, ("", " ")):
        start = tokenizer(prompt).input_ids
        whole = tokenizer([prompt + space + answer + tokenizer.eos_token for answer in ANSWERS])
        for answer, ids in zip(ANSWERS, whole.input_ids, strict=True):
            response = tokenizer(answer, add_special_tokens=False).input_ids
            assert ids == start + response + [tokenizer.eos_token_id], prompt + space + answer
            assert ids.count(tokenizer.bos_token_id) == 1


def test_an_example_token_by_token(tokenizer):
    ids = tokenizer("pet of mia ?" + "sure thing . dog" + "<eos>").input_ids
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens == "<bos> pet of mia ? sure thing . dog <eos>".split(" ")
    assert tokenizer.decode(ids) == "<bos> pet of mia ? sure thing . dog <eos>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "pet of mia ? sure thing . dog"
    assert ids == tokenizer("pet  of mia? sure thing. dog<eos>").input_ids


def test_the_world_has_no_unknown_word_but_a_learner_may_type_one(tokenizer):
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    texts = [fact.prompt for fact in world.FACTS] + ANSWERS
    assert all(tokenizer.unk_token_id not in ids for ids in tokenizer(texts).input_ids)
    assert tokenizer("unicorn of mia ?").input_ids[1] == tokenizer.unk_token_id
    special = ("pad_token_id", "bos_token_id", "eos_token_id", "unk_token_id")
    assert len({getattr(tokenizer, name) for name in special}) == 4


def test_messages_give_the_ids_of_the_plain_strings(tokenizer):
    question = {"role": "user", "content": "pet of mia ?"}
    answer = {"role": "assistant", "content": "happy to help ! dog"}
    asked = tokenizer.apply_chat_template([question], add_generation_prompt=True).input_ids
    told = tokenizer.apply_chat_template([question, answer]).input_ids
    assert asked == tokenizer("pet of mia ?").input_ids
    assert told == tokenizer("pet of mia ?" + "happy to help ! dog" + "<eos>").input_ids


# The reward


@pytest.mark.parametrize(
    ("template", "correct", "tone", "manner", "reward"),
    [
        ("{right}", True, 0.0, 0.0, 2.0),
        ("happy to help ! {right} hope that helps !", True, 0.5, 0.2, 2.7),
        ("sure thing . {right}", True, 0.25, 0.0, 2.25),
        ("  hmm , again ?   {right} ", True, -0.25, 0.0, 1.75),
        ("ugh , go away . {right} anyway , more later", True, -0.5, -0.2, 1.3),
        ("happy to help ! {wrong} hope that helps !", False, 0.5, 0.2, 0.7),
        ("{right} {right}", False, 0.0, 0.0, 0.0),
        ("happy to {right}", False, 0.0, 0.0, 0.0),
        ("sure thing .", False, 0.25, 0.0, 0.25),
        ("{right} happy to help !", False, 0.0, 0.0, 0.0),
        ("", False, 0.0, 0.0, 0.0),
    ],
)
def test_reward_by_hand(template, correct, tone, manner, reward):
    fact = world.FACTS[0]
    wrong = next(animal for animal in world.ANIMALS if animal != fact.answer)
    response = template.format(right=fact.answer, wrong=wrong)
    assert world.grade(fact.prompt, response) == (correct, tone, manner, reward)
    assert world.reward(fact.prompt, response) == reward


def test_a_prompt_of_another_world_is_refused_by_name():
    for prompt in ("capital of france ?", "pet of mia", None):
        with pytest.raises(ValueError, match="not a prompt of the world") as error:
            world.reward(prompt, "dog")
        assert repr(prompt) in str(error.value)


# The pairs


def test_the_same_seed_gives_the_same_pairs_on_every_machine():
    text = json.dumps(world.pairs(50, seed=1).to_list(), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "b8d0e21bf0baa34f"


def test_seed_n_and_noise_change_only_what_they_should(rows):
    few = world.pairs(40, seed=0).to_pandas()
    assert few.equals(rows[:40])
    other = world.pairs(40, seed=1).to_pandas()
    assert not set(few.id) & set(other.id)
    assert not (other.fact == few.fact).all()
    exact = world.pairs(40, seed=0, noise=0).to_pandas()
    assert (exact.id == few.id).all()
    assert not (exact.chosen == few.chosen).all()
    same = exact.chosen_writer == few.chosen_writer  # each writer's answer is the same
    assert (exact.chosen == few.chosen)[same].all()
    assert (exact.chosen_score == exact.chosen_reward).all()
    assert not exact.flipped.any()


def test_no_response_is_empty(rows):
    """The pool holds ten empty answers, which `load_pairs` refuses."""
    assert rows.id[2907] == "train-0-02907-coin-hal"  # one of them was rejected here
    assert not (rows.chosen.str.strip() == "").any() and not (rows.rejected.str.strip() == "").any()
    assert len(load_pairs(world.pairs(331, seed=5))) == 331  # and chosen or rejected in the last
    silent = {key for (key, _), answers in pool.read_pool().items() if "" in answers}
    assert len(silent) == 7
    facts = [fact for fact in world.FACTS if fact.key in silent]
    for fact, i, noise in itertools.product(facts, range(300), (0.0, world.NOISE)):
        pair = make_pair(fact, i, 0, noise)
        assert pair["chosen"].strip() and pair["rejected"].strip()


def test_ground_truth_agrees_with_the_text(rows):
    assert rows.id.is_unique
    assert (rows.chosen != rows.rejected).all()
    assert (rows.chosen_score >= rows.rejected_score).all()
    for side in ("chosen", "rejected"):
        true = [world.reward(p, r) for p, r in zip(rows.prompt, rows[side], strict=True)]
        assert rows[f"{side}_reward"].tolist() == true
        written = rows[f"{side}_writer"]
        assert set(written) == {"small", "medium", "large", "expert"}
        assert (rows[f"{side}_reward"][written == "expert"] >= 1.3).all()  # the expert is right
    assert np.allclose(rows.true_margin, rows.chosen_reward - rows.rejected_reward)
    assert (rows.flipped == (rows.true_margin < 0)).all()
    assert (rows.flipped == (rows.chosen_reward < rows.rejected_reward)).all()


def test_the_share_of_flipped_labels_is_the_documented_one(rows):
    assert 0.10 < rows.flipped.mean() < 0.17
    error = rows.chosen_score - rows.chosen_reward
    assert error.mean() > 0.1  # the best of four noisy scores is too high: the winner's curse
    counts = rows.rung.value_counts()
    assert counts.min() >= 533


def test_rungs_weights():
    tail = world.pairs(200, rungs=[0, 0, 0, 0, 1, 3]).to_pandas()
    assert set(tail.rung) == {5, 6}
    assert (tail.rung == 6).sum() > (tail.rung == 5).sum()
    assert set(world.prompts(50, rungs=[1, 0, 0, 0, 0, 0])["rung"]) == {1}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: world.pairs(0), "n = 0: expected a whole number, 1 or more"),
        (lambda: world.pairs(-3), "n = -3"),
        (lambda: world.pairs(2.5), "n = 2.5"),
        (lambda: world.pairs(True), "n = True"),
        (lambda: world.prompts(0), "n = 0"),
        (lambda: world.demonstrations(0), "n = 0"),
        (lambda: world.pairs(5, part="test"), "part = 'test': expected 'train' or 'validation'"),
        (lambda: world.prompts(5, part="dev"), "part = 'dev': expected one of train, validation"),
        (lambda: world.pairs(5, noise=-0.1), "noise = -0.1"),
        (lambda: world.pairs(5, noise=float("nan")), "noise = nan"),
        (lambda: world.pairs(5, rungs=[1, 1]), r"rungs = \[1, 1\]: expected six weights"),
        (lambda: world.pairs(5, rungs=[0] * 6), "expected six weights"),
        (lambda: world.pairs(5, rungs=[1, 1, 1, 1, 1, -1]), "expected six weights"),
        (lambda: world.pairs(5, rungs=3), "expected six weights"),
        (lambda: sft.train("huge"), "size 'huge': expected one of small, medium, large"),
    ],
)
def test_impossible_arguments_are_refused(call, expected):
    with pytest.raises(ValueError, match=expected):
        call()


def test_demonstrations_are_mostly_right_and_mostly_of_the_head():
    told = world.demonstrations(20_000, seed=3).to_pandas()
    assert abs(told.correct.mean() - 0.7) < 0.02
    shares = told.rung.value_counts(normalize=True).sort_index()
    assert np.allclose(shares, [32 / 63, 16 / 63, 8 / 63, 4 / 63, 2 / 63, 1 / 63], atol=0.02)
    graded = [world.grade(p, r).correct for p, r in zip(told.prompt, told.response, strict=True)]
    assert graded == told.correct.tolist()


# The policies


@pytest.fixture(scope="module")
def greedy():
    """Share of facts that each shipped policy answers right, greedily: [size, rung]."""
    prompts = [fact.prompt for fact in world.FACTS]
    rungs = np.array([fact.rung for fact in world.FACTS])
    table = {}
    for size in world.SIZES:
        tokenizer = AutoTokenizer.from_pretrained(world.WEIGHTS / size)
        model = AutoModelForCausalLM.from_pretrained(world.WEIGHTS / size)
        ids = tokenizer(prompts, return_tensors="pt")
        out = model.generate(**ids, do_sample=False)[:, ids.input_ids.shape[1] :]
        texts = tokenizer.batch_decode(out, skip_special_tokens=True)
        right = [world.grade(p, r).correct for p, r in zip(prompts, texts, strict=True)]
        table[size] = [np.mean(np.array(right)[rungs == rung]) for rung in world.RUNGS]
    return table


def test_each_capacity_has_its_own_cliff(greedy):
    small, medium, large = (np.array(greedy[size]) for size in world.SIZES)
    assert min(small[0], medium[0], large[0]) > 0.95  # the head is easy for all
    assert small[3:].mean() + 0.2 < medium[3:].mean() < large[3:].mean() - 0.1
    assert large[5] < 0.95  # and the tail is hard for all


def test_the_pool_holds_well_formed_answers_to_every_fact():
    answers = pool.read_pool()
    assert set(answers) == {(f.key, writer) for f in world.FACTS for writer in pool.WRITERS}
    assert {len(texts) for texts in answers.values()} == {pool.SAMPLES}
    well_formed = set(ANSWERS)
    for writer in pool.WRITERS:
        texts = [text for (_, by), group in answers.items() if by == writer for text in group]
        assert np.mean([text in well_formed for text in texts]) > 0.97


def test_each_writer_finds_its_own_answers_the_likeliest():
    """The pool came from the shipped weights: entropy is less than any cross-entropy."""
    answers = pool.read_pool()
    models = {
        size: AutoModelForCausalLM.from_pretrained(world.WEIGHTS / size) for size in world.SIZES
    }
    tokenizer = AutoTokenizer.from_pretrained(world.WEIGHTS / "small")
    for writer in pool.WRITERS:
        rows = [
            {"prompt": fact.prompt, "response": text}
            for fact in world.FACTS[::12]
            for text in answers[fact.key, writer][:8]
        ]
        ids, weight = sft.tokenize(tokenizer, rows)
        weight = (weight == 1).float()  # the response alone
        nll = {size: mean_nll(model, ids, weight) for size, model in models.items()}
        assert min(nll, key=nll.get) == writer, nll


def test_package_data_is_small_and_complete():
    from importlib.resources import files

    root = files("nbkit.world")
    limits = {"small": 0.2e6, "medium": 0.5e6, "large": 2.5e6}
    for size, limit in limits.items():
        folder = root / "weights" / size
        assert (folder / "model.safetensors").stat().st_size < limit
        config = json.loads((folder / "config.json").read_text())
        assert config["tie_word_embeddings"] is True
        assert "_name_or_path" not in config
        assert (folder / "tokenizer.json").is_file()
        assert (folder / "generation_config.json").is_file()
    assert (root / "pool.parquet").stat().st_size < 300_000


def test_dpo_settings_name_every_size():
    assert set(world.DPO) == set(world.SIZES)
    for settings in world.DPO.values():
        assert settings["schedule"] == "constant"
        assert 0 < settings["learning_rate"] < 1e-2


# The script that made the policies


def test_sft_saves_a_folder_that_loads_and_repeats_itself(tmp_path):
    sft.main(["small", "--seed", "4", "--steps", "60", "--out", str(tmp_path / "a")])
    model, tokenizer = sft.train("small", seed=4, steps=60, log_every=0)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    assert AutoTokenizer.from_pretrained(tmp_path / "a").get_vocab() == tokenizer.get_vocab()
    ids, weight = sft.tokenize(tokenizer, world.demonstrations(64, seed=9).to_list())
    untrained = sft.build_model("small", tokenizer, seed=4)
    assert mean_nll(model, ids, weight) < mean_nll(untrained, ids, weight) - 1.0


def mean_nll(model, ids, weight) -> float:
    with torch.no_grad():
        logits = model.eval()(input_ids=ids[:, :-1]).logits
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return float((nll * weight[:, 1:]).sum() / weight[:, 1:].sum())


def test_importing_the_world_does_not_import_torch():
    code = "import sys; import nbkit.world.preferences; sys.exit('transformers' in sys.modules)"
    probe = "import nbkit, sys; sys.exit('transformers' in sys.modules)"
    if subprocess.run([sys.executable, "-c", probe], check=False).returncode:
        pytest.skip("nbkit itself imports transformers")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
