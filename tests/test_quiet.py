"""Nothing is looked up, let alone sent: names are resolved by nobody, in a process that is not told
to stay offline and that has not switched telemetry off."""

import os
import subprocess
import sys

import pytest
import tiny

import nbkit as nb

# Whatever of these a machine has set, the tested process has not.
SWITCHES = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRANSFORMERS_OFFLINE", "CI", "NO_COLOR",
            "HF_DATASETS_OFFLINE", "DISABLE_TELEMETRY", "DO_NOT_TRACK")  # fmt: skip

PATCHED = """
import socket, sys, time, traceback, warnings
warnings.simplefilter("ignore")
asked = []
def refuse(host, *args, **kwargs):
    if isinstance(host, tuple):
        host = host[0]
    asked.append((host, "".join(traceback.format_stack(limit=12))))
    raise socket.gaierror("nobody resolves names here")
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
socket.socket.connect = lambda self, address: refuse(address)

import nbkit as nb
folder = sys.argv[1]
policy = nb.load_policy("world/small", device="cpu")
pairs, held_out = nb.world.pairs(12, seed=5), nb.world.pairs(6, seed=1, part="validation")
how = dict(progress=False)
judge = lambda prompt, response: len(response)
"""

CALLS = """
nb.train_dpo(policy, pairs, trace=held_out, checkpoints=folder + "/full", **how)
for _ in range(2):
    nb.train_dpo(policy, pairs, lora=2, checkpoints=folder + "/lora", **how)
nb.train_dpo(policy, pairs, loss="simpo", **how)
model = nb.train_reward_model(policy, pairs, **how).reward_model
nb.reward_scores(model, pairs, **how)
model.model.save_pretrained(folder + "/reward"), model.tokenizer.save_pretrained(folder + "/reward")
nb.load_reward_model(folder + "/reward", device="cpu")
nb.response_logprobs(policy, pairs, cache=folder, **how), nb.token_logprobs(policy, pairs)
nb.preference_accuracy(policy, policy, pairs)
nb.scores.influence(policy, policy, pairs, held_out, **how)
nb.validation_loss(policy, pairs, lora=2, seeds=1, cache=folder, **how)
prompts = held_out["prompt"][:3]
nb.sample(policy, prompts, max_new_tokens=4, **how)
nb.win_rate(policy, policy, prompts, judge, max_new_tokens=4)
nb.compare(policy, pairs, {"some": pairs["id"][:6]}, prompts, judge, seeds=1, budgets=["examples"],
           max_new_tokens=4, cache=folder, lora=2, **how)
for _ in nb.selfplay.self_play(policy, nb.world.prompts(8, seed=0), judge,
                               folder + "/play", k=4, rounds=1, **how):
    pass
"""
# peft asks the hub whether a base model that it knows by name has another vocabulary
ADAPTERS = """
nb.load_policy(folder + "/adapter", device="cpu")
policy.model.config._name_or_path = policy.model.name_or_path = "somebody/some-model"
for _ in range(2):
    nb.train_dpo(policy, pairs, lora=2, checkpoints=folder + "/lora", **how)
"""
TELEMETRY = """
from trl import DPOConfig, DPOTrainer
config = DPOConfig(output_dir=folder, use_cpu=True, bf16=False, report_to="none", max_steps=1)
DPOTrainer(policy.model, args=config, train_dataset=pairs, processing_class=policy.tokenizer)
"""
ENDING = """
time.sleep(2)  # telemetry goes out from a thread
if asked:
    sys.exit("asked for %s from\\n%s" % asked[0])
"""


def looked_up(code, folder):
    """A process that has run `code`; its status is 1 if it asked the resolver for anything."""
    environment = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    return subprocess.run(
        [sys.executable, "-c", PATCHED + code + ENDING, str(folder)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_nothing_is_looked_up(tmp_path):
    done = looked_up(CALLS, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_adapters_are_trained_saved_and_loaded_without_a_look_at_the_hub(tmp_path):
    base = str(tiny.save(tiny.policy("llama"), tmp_path / "base"))
    nb.add_lora(nb.load_policy(base, device="cpu"), 2).model.save_pretrained(tmp_path / "adapter")
    done = looked_up(ADAPTERS, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_patched_resolver_hears_of_a_look_up(tmp_path):
    """Were it deaf, the tests above could not fail: TRL's own trainer sends its telemetry."""
    done = looked_up(TELEMETRY, tmp_path)
    assert done.returncode == 1 and "asked for" in done.stderr
