"""What is refused on loading, by name and in a sentence, before it gives wrong numbers."""

import json
import shutil

import pytest
import tiny
import torch
import transformers as tf
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from test_models import change, fake_lora, logits

import nbkit as nb
from nbkit.models.devices import default_dtype
from nbkit.models.explaining import SHOWN
from nbkit.models.lora import add_lora
from nbkit.models.policy import Policy, load_policy

COMMIT = "0" * 40
VISION = dict(
    hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    image_size=28, patch_size=14,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return tiny.save(tiny.policy(), tmp_path / "model")


@pytest.fixture
def adapter(folder):
    return tiny.save(fake_lora(load_policy(folder, device="cpu")), folder.parent / "adapter")


def refusal(load, *args, kind=ValueError, **kwargs) -> str:
    with pytest.raises(kind) as error:
        load(*args, **kwargs)
    assert len(str(error.value)) < SHOWN + 300
    return str(error.value)


def rewrite(file, change):
    """Change a safetensors file by a function of its tensors."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})


def tiny_t5():
    config = tf.T5Config(
        vocab_size=tiny.VOCABULARY, d_model=48, d_kv=12, d_ff=64, num_layers=1, num_heads=4
    )
    return tf.T5ForConditionalGeneration(config)


def tiny_bert():
    config = tf.BertConfig(**{k: v for k, v in tiny.BASE.items() if k != "initializer_range"})
    return tf.BertLMHeadModel(config)


def tiny_qwen_vl():
    vision = dict(depth=1, hidden_size=32, intermediate_size=32, num_heads=2, out_hidden_size=48)
    rope = dict(rope_type="default", mrope_section=[2, 2, 2])
    config = tf.Qwen2_5_VLConfig(
        text_config=dict(tiny.GROUPED, rope_parameters=rope), vision_config=vision
    )
    return tf.Qwen2_5_VLForConditionalGeneration(config)


def classifier(family):
    return tf.AutoModelForSequenceClassification.from_config(tiny.CONFIGS[family]())


# --- arguments ------------------------------------------------------------------------------------


def test_a_model_is_no_name():
    expected = (
        "nb.load_policy takes the name of a model or the path of a folder, got a LlamaForCausalLM."
        " For a model that is already in memory, write nb.Policy(model, tokenizer)."
    )
    assert refusal(load_policy, tiny.model(), kind=TypeError) == expected
    assert "got an empty text" in refusal(load_policy, "", kind=TypeError)
    assert "got a NoneType" in refusal(load_policy, None, kind=TypeError)


@pytest.mark.parametrize("dtype", ["bf16", "int8", torch.int8, "half"])
def test_a_dtype_that_is_none(dtype):
    assert "expected one of float32, bfloat16" in refusal(load_policy, "world/small", dtype=dtype)


def test_a_device_that_is_none():
    assert "expected 'cuda', 'mps' or 'cpu'" in refusal(load_policy, "world/small", device="gpu")
    if not torch.cuda.is_available():
        assert "torch finds none" in refusal(load_policy, "world/small", device="cuda")


def test_the_dtype_is_decided_by_capability():
    expected = {
        None: torch.float32,
        (7, 5): torch.float32,
        (6, 0): torch.float32,
        (8, 0): torch.bfloat16,
        (9, 0): torch.bfloat16,
        (12, 0): torch.bfloat16,
    }
    assert {capability: default_dtype(capability) for capability in expected} == expected


def test_attention_from_the_hub_is_code(folder):
    message = refusal(load_policy, folder, attn_implementation="kernels-community/flash-attn")
    assert "is code from the hub, which nbkit does not run" in message


@pytest.mark.parametrize("asked", ["kernels-community/flash-attn", "flash_attention_2"])
def test_attention_that_config_json_asks_for_is_not_taken(folder, asked):
    change(folder / "config.json", attn_implementation=asked)
    policy = load_policy(folder, device="cpu")
    assert policy.model.config._attn_implementation == "sdpa"
    assert torch.equal(logits(policy), logits(tiny.policy()))


def test_a_file_is_no_folder(folder):
    assert "is a file" in refusal(load_policy, folder / "config.json")
    assert "There is no file" in refusal(load_policy, "no/such.gguf", kind=FileNotFoundError)


# --- kinds of models ------------------------------------------------------------------------------

KINDS = {
    "t5": (tiny_t5, "an encoder-decoder model .T5ForConditionalGeneration.; nbkit scores"),
    "bert": (tiny_bert, "a Bert.*, which reads both ways"),
    "llama classifier": (lambda: classifier("llama"), "a sequence classifier .*load_reward_model"),
    "qwen2 classifier": (lambda: classifier("qwen2"), "a sequence classifier .*load_reward_model"),
    "token classifier": (
        lambda: tf.AutoModelForTokenClassification.from_config(tiny.CONFIGS["qwen2"]()),
        "a Qwen2ForTokenClassification, not a causal language model",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_causal_language_model_is_refused_by_name(kind, tmp_path):
    make, expected = KINDS[kind]
    model = make()
    with pytest.raises(ValueError, match=f"'mine' is {expected}"):
        Policy(model, tiny.tokenizer(), "mine")
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"is {expected}"):
        load_policy(tmp_path, device="cpu")


def test_a_model_without_a_head_is_refused():
    body = tiny.model().model
    assert "a LlamaModel without a language-model head" in refusal(Policy, body, tiny.tokenizer())


def test_what_is_no_model_or_tokenizer_is_refused():
    model, tokenizer = tiny.model(), tiny.tokenizer()
    assert "got a TokenizersBackend" in refusal(Policy, tokenizer, model, kind=TypeError)
    assert "tokenizer, got a NoneType" in refusal(Policy, model, None, kind=TypeError)


def test_a_model_of_images_that_has_no_text_model_is_refused_by_name(tmp_path):
    tiny_qwen_vl().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    message = refusal(load_policy, tmp_path, device="cpu")
    assert "is of the kind 'qwen2_5_vl'" in message and "text-only model" in message


def test_a_model_of_images_and_text_scores_text(tmp_path):
    text = tiny.CONFIGS["gemma3"]()
    config = tf.Gemma3Config(
        text_config=text.to_dict(), vision_config=tf.SiglipVisionConfig(**VISION).to_dict(),
        mm_tokens_per_image=4,
    )  # fmt: skip
    model = tf.Gemma3ForConditionalGeneration(config)
    alone = tf.Gemma3ForCausalLM(text)
    alone.model.load_state_dict(model.model.language_model.state_dict())
    alone.lm_head.load_state_dict(model.lm_head.state_dict())
    tiny.save(Policy(model, tiny.tokenizer()), tmp_path)
    tables = [
        nb.response_logprobs(policy, tiny.text_pairs(4), progress=False)
        for policy in (load_policy(tmp_path, device="cpu"), Policy(alone, tiny.tokenizer()))
    ]
    assert (tables[0] - tables[1]).abs().max(axis=None) < 1e-4


def test_meta_weights_are_refused():
    with torch.device("meta"):
        model = tf.LlamaForCausalLM(tiny.CONFIGS["llama"]())
    assert "weights on the meta device" in refusal(Policy, model, tiny.tokenizer())


# --- tokenizers -----------------------------------------------------------------------------------


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    there = tiny.save(tiny.policy(vocab_size=400), tmp_path)
    message = refusal(load_policy, there, device="cpu")
    assert "its tokenizer has 404 tokens, its model's embedding 400 rows, none for " in message


@pytest.mark.parametrize("needed", [False, True])
def test_added_tokens_may_lie_beyond_the_model_if_no_text_needs_them(needed, tmp_path):
    """Gemma 3 of 1B: an image token in the tokenizer, none in the model."""
    template = tiny.CHAT_TEMPLATE.replace("</s>", "<turn>") if needed else tiny.CHAT_TEMPLATE
    tokenizer = tiny.tokenizer(chat_template=template)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<turn>"]})
    policy = tiny.policy(tokens=tokenizer, vocab_size=len(tokenizer) - 2)
    tiny.save(policy, tmp_path)
    if needed:
        assert "none for '<turn>'" in refusal(load_policy, tmp_path, device="cpu")
    else:
        assert torch.equal(logits(load_policy(tmp_path, device="cpu")), logits(policy))


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_refused(folder, value):
    def spoil(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"][5, 7] = value

    rewrite(folder / "model.safetensors", spoil)
    message = refusal(load_policy, folder, device="cpu")
    assert "its weight model.layers.1.mlp.up_proj.weight holds NaN or infinity." in message


def test_a_weight_too_large_for_float16_is_refused(folder):
    def grow(tensors):
        tensors["lm_head.weight"][5, 7] = 1e5

    rewrite(folder / "model.safetensors", grow)
    load_policy(folder, device="cpu")
    message = refusal(load_policy, folder, device="cpu", dtype="float16")
    assert "lm_head.weight holds NaN or infinity. float16 ends at 65504" in message


def test_weights_of_another_shape_than_the_configuration_are_refused(folder):
    change(folder / "config.json", intermediate_size=80)
    message = refusal(load_policy, folder, device="cpu")
    assert "6 of its weights have other shapes than its configuration says" in message
    assert "[48, 64] instead of [48, 80]" in message


def test_a_missing_shard_is_named(folder):
    tiny.model().save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    assert len(shards) > 2
    assert torch.equal(logits(load_policy(folder, device="cpu")), logits(tiny.policy()))
    shards[1].unlink()
    message = refusal(load_policy, folder, device="cpu")
    assert f"lacks 1 of the {len(shards)} files" in message and shards[1].name in message


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_said_shortly(folder, file):
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    assert "is no complete saved model" in refusal(load_policy, folder, device="cpu")


def test_a_package_that_is_missing_is_named(folder):
    change(folder / "config.json", quantization_config={"quant_method": "fp_quant"})
    message = refusal(load_policy, folder, device="cpu", kind=(ImportError, ValueError))
    assert repr(str(folder)) in message


# --- adapters -------------------------------------------------------------------------------------


def test_an_adapter_from_a_folder_can_be_trained_on(adapter):
    policy = load_policy(adapter, device="cpu")
    trainable = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert trainable and all("lora_" in name for name in trainable)
    pairs = tiny.text_pairs(4)
    before = logits(policy)
    run = nb.train_dpo(policy, pairs, max_steps=2, learning_rate=1e-3, progress=False)
    assert not torch.equal(logits(run.policy), before)


def test_a_second_adapter_is_refused_with_a_remedy(adapter):
    policy = load_policy(adapter, device="cpu")
    message = refusal(add_lora, policy)
    assert "Train it on as it is" in message and "merge_and_unload()" in message
    expected = logits(policy)
    merged = add_lora(Policy(policy.model.merge_and_unload(), policy.tokenizer), rank=2)
    assert torch.allclose(logits(merged), expected, atol=1e-5)


def test_an_adapter_whose_base_lacks_a_tensor_is_refused(folder, adapter):
    rewrite(folder / "model.safetensors", lambda t: t.pop("model.layers.1.mlp.up_proj.weight"))
    message = refusal(load_policy, adapter, device="cpu")
    assert message.startswith(f"The adapter {str(adapter)!r} stands on {str(folder)!r}.")
    assert "its weights lack 1 tensors (first: model.layers.1.mlp.up_proj.weight)" in message


def test_an_adapter_whose_base_is_gone_says_which(folder, adapter):
    shutil.rmtree(folder)
    message = refusal(load_policy, adapter, device="cpu", kind=FileNotFoundError)
    assert message.startswith(f"The adapter {str(adapter)!r} stands on {str(folder)!r}.")


def test_an_adapter_that_lacks_tensors_is_refused(adapter):
    def halve(tensors):
        for name in [name for name in tensors if "layers.1" in name]:
            del tensors[name]

    rewrite(adapter / "adapter_model.safetensors", halve)
    message = refusal(load_policy, adapter, device="cpu")
    assert "its adapter lacks 14 tensors (first: base_model.model.model.layers.1" in message


def test_an_adapter_whose_whole_modules_are_missing_is_refused(folder):
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = get_peft_model(load_policy(folder, device="cpu").model, lora)
    there = tiny.save(Policy(model, tiny.tokenizer()), folder.parent / "whole")
    load_policy(there, device="cpu")
    rewrite(there / "adapter_model.safetensors", lambda t: t.pop("base_model.model.lm_head.weight"))
    message = refusal(load_policy, there, device="cpu")
    assert "lacks 1 tensors (first: base_model.model.lm_head.weight)" in message


@pytest.mark.parametrize(
    "changes", [dict(hidden_size=32, head_dim=8), dict(num_hidden_layers=1), "gpt2"]
)
def test_an_adapter_of_another_model_is_refused(adapter, changes):
    other = tiny.policy(changes) if changes == "gpt2" else tiny.policy(**changes)
    base = tiny.save(other, adapter.parent / "other")
    change(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    message = refusal(load_policy, adapter, device="cpu")
    assert "was made for another model than its base" in message


def test_an_adapter_on_an_adapter_or_on_itself_is_refused(adapter):
    change(adapter / "adapter_config.json", base_model_name_or_path=str(adapter))
    assert "is itself an adapter; merge it" in refusal(load_policy, adapter, device="cpu")


def test_an_adapter_of_nan_is_refused(adapter):
    def spoil(tensors):
        next(iter(tensors.values())).fill_(torch.inf)

    rewrite(adapter / "adapter_model.safetensors", spoil)
    assert "holds NaN or infinity" in refusal(load_policy, adapter, device="cpu")


def test_an_adapter_of_a_classifier_is_refused(folder):
    base = classifier("llama")
    model = get_peft_model(base, LoraConfig(task_type=TaskType.SEQ_CLS, r=2))
    model.save_pretrained(folder.parent / "judge")
    message = refusal(load_policy, folder.parent / "judge", device="cpu")
    assert "is an adapter of a sequence classifier" in message


@pytest.mark.parametrize(
    "changes",
    [
        dict(
            task_type=None,
            auto_mapping={"base_model_class": "Model", "parent_library": "planted_module"},
        ),
        dict(megatron_config={"tensor_parallel": 1}, megatron_core="planted_module"),
    ],
    ids=["auto_mapping", "megatron_core"],
)
def test_a_module_that_an_adapter_names_is_not_imported(adapter, monkeypatch, changes):
    (adapter / "planted_module.py").write_text(
        f"open({str(adapter / 'bang')!r}, 'w').close()\nModel = None\n"
    )
    monkeypatch.syspath_prepend(str(adapter))
    change(adapter / "adapter_config.json", **changes)
    try:
        load_policy(adapter, device="cpu")
    except ValueError:
        pass
    assert not (adapter / "bang").exists()


def cached(hub, name, *files):
    """Files in the hub's cache, as a download leaves them."""
    repository = hub / f"models--some--{name}"
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    for file in files:
        shutil.copy(file, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


def test_an_adapter_alone_on_the_hub_loads(adapter, folder, tmp_path, monkeypatch):
    hub = tmp_path / "hub"
    names = ("adapter_config.json", "adapter_model.safetensors")
    cached(hub, "adapter", *(adapter / name for name in names))
    cached(hub, "model", *folder.iterdir())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    expected = logits(load_policy(adapter, device="cpu"))
    policy = load_policy("some/adapter", device="cpu")
    assert policy.name == "some/adapter" and policy.has_adapter
    assert torch.equal(logits(policy), expected)

    tuned = fake_lora(load_policy("some/model", device="cpu"))
    tuned.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "some/model" and saved["revision"] == COMMIT
    assert torch.equal(logits(load_policy(tmp_path / "saved", device="cpu")), logits(tuned))
