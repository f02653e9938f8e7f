"""Policies: what loads, what is refused and how it is said."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import tiny
import torch
import transformers as tf
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from nbkit.logprobs.table import response_logprobs
from nbkit.models.finding import WORLD_WEIGHTS
from nbkit.models.lora import add_lora
from nbkit.models.policy import Policy, load_policy

TEXT = "hello small dog"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tiny.save(tiny.policy(), tmp_path_factory.mktemp("saved"))


@pytest.fixture
def copied(saved, tmp_path):
    """A saved model that a test may break."""
    return shutil.copytree(saved, tmp_path / "model")


def change(file, **settings):
    """Change a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def logits(policy):
    ids = policy.tokenizer(TEXT, return_tensors="pt")["input_ids"].to(policy.device)
    with torch.no_grad():
        return policy.model(ids).logits.float()


def fake_lora(policy, **lora):
    """A LoRA policy whose adapter acts."""
    policy = add_lora(policy, 2, lora)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return policy


# --- what loads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("as_path", [True, False])
def test_a_saved_folder_loads(saved, as_path):
    policy = load_policy(saved if as_path else str(saved), device="cpu")
    assert torch.equal(logits(policy), logits(tiny.policy()))
    assert policy.name == str(saved) and policy.dtype == torch.float32
    assert policy.device.type == "cpu" and policy.max_length == 256
    assert not any(m.training for m in policy.model.modules()) and not policy.has_adapter
    millions = sum(p.numel() for p in policy.model.parameters()) / 1e6
    assert f"{millions:.3g}M parameters, float32 on cpu" in repr(policy)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss", "bloom"])
def test_families_with_and_without_sdpa_load_and_score_the_same(tmp_path, family):
    policy, pairs = tiny.policy(family), tiny.text_pairs(3)
    again = load_policy(tiny.save(policy, tmp_path), device="cpu")
    supported = "sdpa" if family == "llama" else "eager"
    assert again.model.config._attn_implementation == supported
    table = response_logprobs(again, pairs, progress=False)
    assert (table - response_logprobs(policy, pairs, progress=False)).abs().max(axis=None) < 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_the_dtype_is_as_asked(saved, dtype):
    policy = load_policy(saved, device="cpu", dtype=dtype)
    assert policy.dtype == torch.bfloat16
    assert {p.dtype for p in policy.model.parameters()} == {torch.bfloat16}


def test_the_attention_is_as_asked(saved):
    config = load_policy(saved, device="cpu", attn_implementation="eager").model.config
    assert config._attn_implementation == "eager"


def test_a_policy_is_in_eval_mode_and_has_a_pad_token():
    model = tiny.model().train()
    policy = Policy(model, tiny.tokenizer(pad_token=None))
    assert not model.training and policy.tokenizer.pad_token == "</s>"
    assert Policy(model, tiny.tokenizer()).tokenizer.pad_token == "<pad>"
    neither = Policy(model, tiny.tokenizer(pad_token=None, eos_token=None))
    assert neither.tokenizer.pad_token is None


def test_a_pad_id_is_always_a_row_of_the_embedding():
    assert tiny.policy().pad_id == 0
    assert Policy(tiny.model(), tiny.tokenizer(pad_token=None)).pad_id == 3
    assert Policy(tiny.model(), tiny.tokenizer(pad_token=None, eos_token=None)).pad_id == 0
    beyond = tiny.tokenizer(pad_token=None, eos_token=None)
    beyond.add_tokens([f"<{n}>" for n in range(tiny.VOCABULARY - len(beyond))])
    beyond.add_special_tokens({"pad_token": "<beyond>"})
    beyond.eos_token = "</s>"
    assert beyond.pad_token_id == tiny.VOCABULARY
    assert Policy(tiny.model(), beyond).pad_id == 3


def test_a_tokenizer_without_pad_token_scores_the_same(saved, copied):
    settings = json.loads((copied / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (copied / "tokenizer_config.json").write_text(json.dumps(settings))
    policy, pairs = load_policy(copied, device="cpu"), tiny.text_pairs(6)
    assert policy.tokenizer.pad_token == "</s>"
    for path in ("packed", "padded"):
        table = response_logprobs(policy, pairs, path=path, progress=False)
        expected = response_logprobs(load_policy(saved), pairs, path=path, progress=False)
        assert table.equals(expected)


@pytest.mark.parametrize("size", sorted(p.name for p in WORLD_WEIGHTS.iterdir()))
def test_the_shipped_models_load(size):
    policy = load_policy(f"world/{size}", device="cpu")
    assert policy.name == f"world/{size}" and torch.isfinite(logits(policy)).all()


HUB_SCRIPT = """
import sys, torch
from nbkit.models.policy import load_policy
for revision in sys.argv[1:]:
    policy = load_policy("some/model", revision=None if revision == "none" else revision)
    weight = policy.causal_lm.get_input_embeddings().weight
    print(policy.name, round(weight.double().sum().item(), 4))
"""


def hub_cache(home, **revisions):
    """The hub's cache as a download leaves it: refs/NAME -> snapshots/COMMIT."""
    repository = home / "hub" / "models--some--model"
    for n, (name, policy) in enumerate(revisions.items()):
        commit = f"{n:040x}"
        tiny.save(policy, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / name).write_text(commit)
    return repository


def test_a_hub_id_loads_from_the_cache_at_its_revision(tmp_path):
    policies = dict(main=tiny.policy(seed=0), old=tiny.policy(seed=1))
    hub_cache(tmp_path, **policies)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", HUB_SCRIPT, "none", "old", "main", f"{1:040x}", "newest"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    weights = {
        name: p.model.get_input_embeddings().weight.double().sum().item()
        for name, p in policies.items()
    }
    expected = [f"some/model {weights[n]:.4f}" for n in ("main", "old", "main", "old")]
    lines = [line for line in done.stdout.splitlines() if line]
    assert [f"{n} {float(w):.4f}" for n, w in map(str.split, lines)] == expected, done.stderr
    assert done.returncode and "FileNotFoundError: 'some/model' is neither" in done.stderr


# --- adapters -----------------------------------------------------------------------------------


def test_an_adapter_folder_loads_with_its_base(saved, tmp_path):
    policy = fake_lora(load_policy(saved, device="cpu"))
    tiny.save(policy, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    again = load_policy(tmp_path / "adapter", device="cpu")
    assert again.has_adapter and again.adapter_enabled and "adapter on" in repr(again)
    assert torch.equal(logits(again), logits(policy))
    reference = again.without_adapter()
    assert "adapter off" in repr(reference) and reference.model is again.model
    with reference.ready():
        assert torch.equal(logits(again), logits(tiny.policy()))
    assert torch.equal(logits(again), logits(policy)), "the adapter is on again"
    assert not torch.equal(logits(policy), logits(tiny.policy()))


def test_an_adapter_folder_without_a_tokenizer_takes_its_bases(saved, tmp_path):
    policy = fake_lora(load_policy(saved, device="cpu"))
    policy.model.save_pretrained(tmp_path)
    again = load_policy(tmp_path, device="cpu")
    assert torch.equal(logits(again), logits(policy))


def test_a_fresh_adapter_changes_nothing_and_a_second_is_refused():
    policy = add_lora(tiny.policy(), rank=2)
    assert torch.equal(logits(policy), logits(tiny.policy())) and policy.name == "llama + LoRA"
    assert policy.model.peft_config["default"].lora_alpha == 4
    with pytest.raises(ValueError, match="'llama [+] LoRA' already has an adapter"):
        add_lora(policy)


def test_a_policy_whose_layers_were_given_an_adapter_says_which_to_use():
    base = tiny.policy()
    add_lora(base, rank=2)
    with pytest.raises(ValueError, match="Use the policy that `nb.add_lora` returned"):
        _ = base.causal_lm
    with pytest.raises(ValueError, match="put into this model's own layers"):
        Policy(base.model, base.tokenizer)


def test_without_an_adapter_there_is_none_to_switch_off():
    with pytest.raises(ValueError, match="'llama' has no adapter to switch off.*started from"):
        tiny.policy().without_adapter()


def test_a_prompt_learning_adapter_is_refused():
    """Its virtual tokens live outside the layers, so it would be scored as if it were absent."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = get_peft_model(tiny.model(), config)
    with pytest.raises(ValueError, match="'tuned' has a prompt-learning adapter.*such as LoRA"):
        Policy(model, tiny.tokenizer(), "tuned")


def test_an_adapter_with_whole_modules_is_scored_with_them():
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    model = get_peft_model(tiny.model(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    policy, pairs = Policy(model, tiny.tokenizer()), tiny.text_pairs(4)
    assert policy.dtype == torch.float32 and policy.device.type == "cpu"
    base = response_logprobs(tiny.policy(), pairs, progress=False)
    reference = response_logprobs(policy.without_adapter(), pairs, progress=False)
    table = response_logprobs(policy, pairs, progress=False)
    assert (table - base)["chosen_logp"].abs().min() > 0.1
    assert (reference - base)["chosen_logp"].abs().max() < 1e-4


# --- what is refused ----------------------------------------------------------------------------


def test_an_unknown_world_size_lists_the_sizes():
    sizes = ", ".join(sorted(f"world/{p.name}" for p in WORLD_WEIGHTS.iterdir()))
    with pytest.raises(FileNotFoundError) as error:
        load_policy("world/huge")
    assert str(error.value) == f"There is no world model 'world/huge'. Shipped: {sizes}."


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model", "no/such/folder"])
def test_what_cannot_be_reached_is_said_clearly(name):
    with pytest.raises(FileNotFoundError) as error:
        load_policy(name)
    assert str(error.value).startswith(
        f"{name!r} is neither a folder here nor a hub model that can be reached (offline, "
        "misspelt, or gated?). To work offline, pass a folder written by `model.save_pretrained`"
    )


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_weights_are_refused_by_name(copied, tmp_path):
    (copied / "model.safetensors").unlink()
    torch.save({"weight": Bomb(tmp_path / "bang")}, copied / "pytorch_model.bin")
    with pytest.raises(ValueError, match="has no safetensors weights.*does not unpickle") as error:
        load_policy(copied)
    assert repr(str(copied)) in str(error.value) and not (tmp_path / "bang").exists()


def test_a_pickled_adapter_is_refused_by_name(saved, tmp_path):
    tiny.save(fake_lora(load_policy(saved, device="cpu")), tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(ValueError, match="has no safetensors weights.*does not unpickle"):
        load_policy(tmp_path / "adapter")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused_and_not_run(copied, tmp_path, file):
    code = f"open({str(tmp_path / 'bang')!r}, 'w')\nclass Config: pass\nclass Model: pass\n"
    (copied / "code.py").write_text(code)
    settings = json.loads((copied / file).read_text())
    if file == "config.json":
        settings["model_type"] = "homemade"
        settings["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    else:
        settings["tokenizer_class"] = "Homemade"
        settings["auto_map"] = {"AutoTokenizer": ["code.Model", None]}
    (copied / file).write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="needs Python code from its repository.*does not run"):
        load_policy(copied)
    assert not (tmp_path / "bang").exists()


def test_a_known_model_with_remote_code_besides_runs_transformers_own(copied):
    config = json.loads((copied / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (copied / "config.json").write_text(json.dumps(config))
    policy = load_policy(copied, device="cpu")
    assert type(policy.model).__module__.startswith("transformers.models.llama")
    assert torch.equal(logits(policy), logits(tiny.policy()))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_an_incomplete_folder_is_named(copied, missing):
    (copied / missing).unlink()
    with pytest.raises(ValueError, match="is no complete saved model") as error:
        load_policy(copied)
    assert repr(str(copied)) in str(error.value)


def test_weights_that_are_missing_are_not_made_up(copied, tmp_path):
    """transformers fills them at random, with no more than a log line: a reward model's folder
    would be scored by a random head."""
    config = tf.AutoConfig.from_pretrained(copied)
    tf.AutoModelForSequenceClassification.from_config(config).save_pretrained(copied)
    change(copied / "config.json", architectures=None)
    with pytest.raises(ValueError, match=r"lack 1 tensors \(first: lm_head.weight\)") as error:
        load_policy(copied)
    assert str(error.value).startswith(f"The folder {str(copied)!r} is no complete saved model")


def test_a_tied_head_is_not_missing(tmp_path):
    policy = tiny.policy("qwen2")
    assert torch.equal(logits(load_policy(tiny.save(policy, tmp_path))), logits(policy))


def test_an_adapter_that_names_no_base_is_refused(tmp_path):
    tiny.save(fake_lora(tiny.policy()), tmp_path)
    with pytest.raises(ValueError, match="names no base model"):
        load_policy(tmp_path)


def test_damaged_weights_are_named(copied):
    whole = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is no complete saved model") as error:
        load_policy(copied)
    assert repr(str(copied)) in str(error.value)
