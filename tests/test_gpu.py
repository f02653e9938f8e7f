"""On CUDA, in bfloat16: the packed path with varlen attention, LoRA training, and influence."""

import numpy as np
import pytest
import tiny
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

import nbkit as nb
from nbkit.logprobs.head import target_logps

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def policies():
    """The same weights in bfloat16: on the GPU, and as the float32 reference on the CPU."""
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=1000, max_position_embeddings=512, initializer_range=0.1,
    )  # fmt: skip
    model, tokenizer = Qwen2ForCausalLM(config).bfloat16(), tiny.tokenizer()
    on_cpu = Qwen2ForCausalLM(config)
    on_cpu.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    return nb.Policy(model.cuda(), tokenizer, "gpu"), nb.Policy(on_cpu, tokenizer, "cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_head_keeps_its_products_in_float32(dtype):
    torch.manual_seed(0)
    hidden, weight = (torch.randn(n, 256, device="cuda").to(dtype) for n in (400, 2500))
    weight.requires_grad_()
    targets = (hidden.float() @ weight.detach().float().T).argmax(1)
    exact = weight.detach().double().requires_grad_()
    truth = (hidden.double() @ exact.T).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    found = target_logps(hidden, weight, targets)
    assert found.max() <= 0 and (found - truth).abs().max() < 1e-3
    found.sum().backward()
    truth.sum().backward()
    assert (weight.grad - exact.grad).norm() < torch.finfo(dtype).eps * exact.grad.norm()


def test_packed_bfloat16_is_near_float32(policies):
    pairs = tiny.text_pairs()
    on_gpu, on_cpu = (
        nb.response_logprobs(p, pairs, path="packed", progress=False) for p in policies
    )
    padded = nb.response_logprobs(policies[0], pairs, path="padded", progress=False)
    for side in ("chosen", "rejected"):
        per_token = (on_gpu - on_cpu)[f"{side}_logp"] / on_cpu[f"{side}_tokens"]
        assert per_token.abs().max() < 0.1
        assert ((on_gpu - padded)[f"{side}_logp"] / on_cpu[f"{side}_tokens"]).abs().max() < 0.1


def test_lora_trains(policies):
    pairs = tiny.text_pairs()
    run = nb.train_dpo(
        policies[0], pairs, lora=8, learning_rate=1e-2, batch_size=2, epochs=4, log_every=1,
        progress=False,
    )  # fmt: skip
    after = nb.preference_accuracy(run.policy, run.policy.without_adapter(), pairs)
    assert after.loc["loss", "value"] < 0.69


def test_influence_in_bfloat16_is_near_float32(policies):
    on_gpu, on_cpu = policies
    pairs, validation = tiny.text_pairs(), tiny.text_pairs(6, seed=5)
    truth = nb.scores.influence(on_cpu, on_cpu, pairs, validation, method="loop", progress=False)
    found = nb.scores.influence(on_gpu, on_gpu, pairs, validation, progress=False)
    assert found.attrs["method"] == "ghost" and found.attrs["error"] < 0.05
    assert np.corrcoef(found, truth)[0, 1] > 0.99
    jvp = nb.scores.influence(on_gpu, on_gpu, pairs, validation, method="jvp", progress=False)
    assert np.corrcoef(jvp, truth)[0, 1] > 0.99
