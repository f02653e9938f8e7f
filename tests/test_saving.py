"""Policies saved and loaded again: the same bits, whatever was in them, on whatever machine."""

import copy
import json
import os
import stat

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from test_models import fake_lora, logits

import nbkit as nb
from nbkit.models.finding import WORLD_WEIGHTS
from nbkit.models.policy import Policy, load_policy

FULL = ["llama", "qwen2", "gpt2", "bloom", "gpt_oss", "gemma3"]


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def base_of(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    return config["base_model_name_or_path"]


@pytest.mark.parametrize("family", FULL)
def test_a_full_model_comes_back_bit_by_bit(family, tmp_path):
    policy = tiny.policy(family, tokens=tiny.tokenizer(chat_template=tiny.CHAT_TEMPLATE))
    assert policy.save(tmp_path / "deep" / "saved") == tmp_path / "deep" / "saved"
    again = load_policy(tmp_path / "deep" / "saved", device="cpu")
    own, read = policy.model.state_dict(), again.model.state_dict()
    assert own.keys() == read.keys() and all(torch.equal(own[key], read[key]) for key in own)
    pairs = tiny.text_pairs(4)
    tables = [nb.response_logprobs(p, pairs, progress=False) for p in (policy, again)]
    if family == "gpt_oss":  # made with another implementation of its experts
        assert (tables[0] - tables[1]).abs().max(axis=None) < 1e-5
    else:
        assert tables[0].equals(tables[1])
    assert again.tokenizer.chat_template == tiny.CHAT_TEMPLATE
    assert os.listdir(tmp_path / "deep") == ["saved"]


def test_a_bfloat16_model_comes_back_in_its_dtype(tmp_path):
    policy = Policy(tiny.model().to(torch.bfloat16), tiny.tokenizer())
    policy.save(tmp_path / "saved")
    again = load_policy(tmp_path / "saved", device="cpu", dtype="auto")
    assert again.dtype == torch.bfloat16 and torch.equal(logits(again), logits(policy))


def test_generation_settings_that_transformers_refuses_to_save_are_no_obstacle(tmp_path):
    policy = tiny.policy()
    policy.model.generation_config.temperature = 0.6
    policy.model.generation_config.eos_token_id = [3, 7]
    policy.save(tmp_path / "saved")
    settings = load_policy(tmp_path / "saved", device="cpu").model.generation_config
    assert settings.temperature == 0.6 and settings.eos_token_id == [3, 7]
    assert not policy.model.generation_config.do_sample


def test_a_world_models_adapter_loads_on_another_machine(tmp_path):
    policy = fake_lora(load_policy("world/small", device="cpu"))
    policy.save(tmp_path / "adapter")
    assert base_of(tmp_path / "adapter") == "world/small"
    assert not any("base" in name or "model.safetensors" == name for name in files(tmp_path))
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert str(WORLD_WEIGHTS.parent) not in text, "no path of this machine"
    again = load_policy(tmp_path / "adapter", device="cpu")
    assert torch.equal(logits(again), logits(policy))
    with again.without_adapter().ready():
        assert torch.equal(logits(again), logits(load_policy("world/small", device="cpu")))


def test_an_adapter_on_a_folder_names_the_folder(tmp_path, monkeypatch):
    tiny.policy().save(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    fake_lora(load_policy("base", device="cpu")).save("adapter")
    assert base_of(tmp_path / "adapter") == str(tmp_path / "base")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = load_policy(tmp_path / "adapter", device="cpu")
    again.save("again")
    assert base_of(tmp_path / "elsewhere" / "again") == str(tmp_path / "base")


def trained_base():
    policy = load_policy("world/small", device="cpu")
    with torch.no_grad():
        policy.model.model.layers[0].mlp.up_proj.weight[2, 3] += 1e-3
    return fake_lora(policy)


def whole_modules():
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    model = get_peft_model(tiny.model(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name or "lora_B" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return Policy(model, tiny.tokenizer())


def other_name():
    model = get_peft_model(tiny.model(), LoraConfig(r=2, target_modules=["q_proj"]), "mine")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return Policy(model, tiny.tokenizer())


IN_MEMORY = {
    "made here": lambda: fake_lora(tiny.policy()),
    "trained here": trained_base,
    "tied": lambda: fake_lora(tiny.policy("qwen2")),
    "gpt2": lambda: fake_lora(tiny.policy("gpt2")),
    "whole modules": whole_modules,
    "another name": other_name,
    "a copy": lambda: copy.deepcopy(trained_base()),
}


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_a_base_that_is_nowhere_else_is_saved_too(kind, tmp_path):
    policy = IN_MEMORY[kind]()
    policy.save(tmp_path / "adapter")
    assert base_of(tmp_path / "adapter") == "./base"
    (tmp_path / "adapter").rename(tmp_path / "moved")
    again = load_policy(tmp_path / "moved", device="cpu")
    assert torch.equal(logits(again), logits(policy))
    base = load_policy(tmp_path / "moved" / "base", device="cpu")
    with policy.without_adapter().ready():
        expected = logits(policy)
    assert not torch.equal(expected, logits(policy))
    assert torch.equal(logits(base), expected)
    pairs = tiny.text_pairs(3)
    tables = [nb.response_logprobs(p, pairs, progress=False) for p in (policy, again)]
    assert tables[0].equals(tables[1])


def test_the_reference_of_an_adapter_is_saved_as_a_full_model(tmp_path):
    policy = fake_lora(tiny.policy())
    policy.without_adapter().save(tmp_path / "reference")
    reference = load_policy(tmp_path / "reference", device="cpu")
    assert not reference.has_adapter and torch.equal(logits(reference), logits(tiny.policy()))


def test_what_was_trained_comes_back(tmp_path):
    pairs = nb.world.pairs(8, seed=1)
    how = dict(max_steps=2, batch_size=4, learning_rate=1e-3, progress=False)
    for name in ("full", "lora"):
        policy = load_policy("world/small", device="cpu")
        run = nb.train_dpo(policy if name == "full" else nb.add_lora(policy), pairs, **how)
        run.policy.save(tmp_path / name)
        again = load_policy(tmp_path / name, device="cpu")
        tables = [nb.response_logprobs(p, pairs, progress=False) for p in (run.policy, again)]
        assert tables[0].equals(tables[1]), name


# --- where it cannot go ---------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already and not empty. Save to a new"):
        tiny.policy().save(tmp_path)
    with pytest.raises(FileExistsError, match="notes.txt' is there already"):
        tiny.policy().save(tmp_path / "notes.txt")
    assert files(tmp_path) == {"notes.txt"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    tiny.policy().save(tmp_path / "empty")
    assert torch.equal(logits(load_policy(tmp_path / "empty")), logits(tiny.policy()))


def test_a_place_that_cannot_be_written_is_said_and_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="The policy cannot be saved to '.*file.below'"):
        tiny.policy().save(tmp_path / "file" / "below")
    assert files(tmp_path) == {"file"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_place_is_said(tmp_path):
    tmp_path.chmod(stat.S_IREAD | stat.S_IEXEC)
    with pytest.raises(OSError, match="cannot be saved"):
        tiny.policy().save(tmp_path / "saved")


def test_a_save_that_fails_midway_leaves_nothing(tmp_path):
    """A tensor without numbers cannot be written, as on a full disk."""
    policy = tiny.policy()
    policy.model.lm_head.to("meta")
    with pytest.raises((OSError, NotImplementedError, RuntimeError, ValueError)):
        policy.save(tmp_path / "saved")
    assert os.listdir(tmp_path) == []


def test_two_active_adapters_are_refused(tmp_path):
    policy = fake_lora(tiny.policy())
    policy.model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    policy.model.base_model.set_adapter(["default", "second"])
    with pytest.raises(ValueError, match="2 active adapters .default, second."):
        policy.save(tmp_path / "saved")
    policy.model.set_adapter("default")
    policy.save(tmp_path / "saved")
    assert torch.equal(logits(load_policy(tmp_path / "saved")), logits(policy))
