"""Reference log-probs: nbkit against TRL's precompute, side by side.

    python tests/benchmarks/scoring.py [--pairs 24] [--repeats 3] [--data ../shared/data]
    python tests/benchmarks/scoring.py --device cuda --shape 0.5B --pairs 512

On the CPU in float32 with one thread, and CPU time is quoted; on CUDA in bfloat16, and wall time
is. Every measurement is a process of its own: model and pairs are made first, then time and the
growth of memory are taken around the scoring (nbkit's with its tokenisation, TRL's without). The
matmul peak is measured in the same process, just after. Work is counted as what has to
be done: every token once, the prompt once for both responses, causal attention, the head on
scored positions. Runs are interleaved; medians are printed.
"""

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
SHAPES = {  # of Qwen2: width, layers, heads, key-value heads, feed-forward, vocabulary, tied head
    "31M": (384, 12, 6, 2, 1024, 32_000, True),
    "0.5B": (896, 24, 14, 2, 4864, 151_936, True),
    "7B": (3584, 28, 28, 4, 18_944, 152_064, False),
}
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def short_prompts(folder: Path, n: int):
    """Real pairs: one instruction, two long answers. The hardest case for sharing the prompt."""
    lines = (folder / "alpacaeval_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in random.Random(0).sample(lines, n)]


def long_prompts(folder: Path, n: int):
    """Generated pairs: a conversation of several turns before two answers of usual length."""
    draw = random.Random(1)
    words = " ".join(row["chosen"] for row in short_prompts(folder, 500)).split()

    def text(low, high):
        return " ".join(draw.choices(words, k=draw.randint(low, high)))

    def turn(role, low, high):
        return {"role": role, "content": text(low, high)}

    rows = []
    for i in range(n):
        turns = [
            turn(role, 40, 120) for _ in range(draw.randint(2, 4)) for role in ("user", "assistant")
        ]
        rows.append(
            dict(id=str(i), prompt=[*turns, turn("user", 10, 60)],
                 chosen=[turn("assistant", 20, 150)], rejected=[turn("assistant", 20, 150)])
        )  # fmt: skip
    return rows


DATA = {"short prompts": short_prompts, "long prompts": long_prompts}


def build(folder: Path, shape: str, device: str):
    """A Qwen2-shaped model with random weights, and a tokenizer of 32k entries made from the real
    texts."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    from nbkit.models.policy import Policy

    torch.set_num_threads(1)
    saved = Path(tempfile.gettempdir()) / "nbkit-benchmark-tokenizer.json"
    if not saved.exists():
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        special = ["<pad>", "<eos>", "<|user|>", "<|assistant|>"]
        trainer = trainers.BpeTrainer(
            vocab_size=32_000, special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        rows = map(json.loads, (folder / "alpacaeval_pairs.jsonl").open(encoding="utf-8"))
        bpe.train_from_iterator((r["chosen"] + "\n" + r["rejected"] for r in rows), trainer)
        bpe.save(str(saved))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(saved), pad_token="<pad>", eos_token="<eos>", chat_template=CHAT
    )
    width, layers, heads, kv_heads, feed_forward, vocabulary, tied = SHAPES[shape]
    config = Qwen2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, intermediate_size=feed_forward, vocab_size=vocabulary,
        max_position_embeddings=4096, tie_word_embeddings=tied, initializer_range=0.05,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    with torch.device(device):
        model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return Policy(model, tokenizer, name=shape)


def least_flop(policy, token_pairs) -> float:
    """Floating-point operations that no exact method can save."""
    config = policy.model.config
    layers = policy.model.base_model.layers
    linear = sum(p.numel() for p in layers.parameters() if p.dim() == 2)
    head, width, total = config.hidden_size * config.vocab_size, config.hidden_size, 0.0
    for pair in token_pairs:
        p, c, r = len(pair.prompt), len(pair.chosen), len(pair.rejected)
        seen = ((p + c) ** 2 + (p + r) ** 2 - p**2) / 2  # query-key pairs, the prompt's once
        total += 2 * linear * (p + c + r) + 2 * head * (c + r)
        total += 4 * width * config.num_hidden_layers * seen
    return total


def matmul_peak(device: str) -> float:
    """Best FLOP/s of a large matrix product in the precision of the model."""
    import torch

    n, dtype = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return max(2 * n**3 / measure(lambda: torch.mm(a, b), device)[1] for _ in range(6))


class Growth:
    """Peak of the memory above what it was at the start, in MB: of the process's resident memory
    (sampled every 2 ms), or of what torch has allocated on the GPU."""

    def __init__(self, device: str):
        self.cuda = device == "cuda"

    def __enter__(self):
        import psutil
        import torch

        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
            return self
        self.process = psutil.Process()
        self.start = self.peak = self.process.memory_info().rss
        self.running = True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while self.running:
            self.peak = max(self.peak, self.process.memory_info().rss)
            time.sleep(0.002)

    def __exit__(self, *_):
        import torch

        if self.cuda:
            self.peak = torch.cuda.max_memory_allocated()
        else:
            self.running = False
            self.thread.join()
        self.mb = (self.peak - self.start) / 1e6


def clock(device: str) -> float:
    """CPU seconds of this thread, or wall seconds once the GPU is done."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.thread_time()


def measure(work, device: str):
    """(result, seconds, MB)."""
    with Growth(device) as growth:
        start = clock(device)
        result = work()
        seconds = clock(device) - start
    return result, seconds, growth.mb


def with_nbkit(policy, pairs):
    from nbkit.logprobs.table import response_logprobs

    def work():
        return response_logprobs(policy, pairs, progress=False).iloc[:, :2].to_numpy()

    return measure(work, policy.device.type)


def with_trl(policy, pairs, batch_size):
    """TRL's `precompute_ref_log_probs`; only the precomputation is timed, not its tokenisation."""
    import numpy as np
    from trl import DPOConfig, DPOTrainer

    timed = {}

    class Timed(DPOTrainer):
        def _precompute_ref_logps(self, dataset, name, batch):
            out, timed["s"], timed["mb"] = measure(
                lambda: super(Timed, self)._precompute_ref_logps(dataset, name, batch),
                policy.device.type,
            )
            return out

    trainer = Timed(
        policy.model,
        args=DPOConfig(
            output_dir=tempfile.mkdtemp(), use_cpu=policy.device.type == "cpu",
            bf16=policy.device.type == "cuda", report_to="none", activation_checkpointing=False,
            max_length=None, precompute_ref_log_probs=True,
            precompute_ref_batch_size=batch_size, disable_tqdm=True,
        ),
        train_dataset=pairs,
        processing_class=policy.tokenizer,
    )  # fmt: skip
    columns = trainer.train_dataset.with_format("numpy")
    logps = np.stack([columns["ref_chosen_logps"][:], columns["ref_rejected_logps"][:]], axis=1)
    return logps, timed["s"], timed["mb"]


METHODS = {
    "TRL, batch 2": functools.partial(with_trl, batch_size=2),
    "TRL, batch 8": functools.partial(with_trl, batch_size=8),
    "nbkit": with_nbkit,
}


def one(method: str, data: str, args) -> dict:
    import datasets

    from nbkit.tokens.ids import tokenize_pairs

    datasets.disable_progress_bars()
    datasets.disable_caching()
    policy = build(args.data, args.shape, args.device)
    pairs = datasets.Dataset.from_list(DATA[data](args.data, args.pairs))
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    words = [dict(id="0", prompt="Do you?", chosen="Yes.", rejected="No.")]
    with_nbkit(policy, datasets.Dataset.from_list(words))  # what is set up once
    logps, seconds, mb = METHODS[method](policy, pairs)
    peak = matmul_peak(args.device)  # after: the memory it leaves behind would hide growth
    return dict(
        seconds=seconds, mb=mb, share=least_flop(policy, token_pairs) / seconds / peak,
        peak=peak, logps=logps.tolist(), tokens=sum(p.tokens for p in token_pairs),
        prompt=sum(len(p.prompt) for p in token_pairs),
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", choices=SHAPES, default="31M")
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data",
        help="folder with alpacaeval_pairs.jsonl",
    )  # fmt: skip
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "DATA"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.data / "alpacaeval_pairs.jsonl").exists():
        sys.exit(f"No alpacaeval_pairs.jsonl in {args.data}: pass --data FOLDER.")
    if args.one:
        print(json.dumps(one(*args.one, args)))
        return
    for data in DATA:
        runs = {method: [] for method in METHODS}
        for _ in range(args.repeats):
            for method in METHODS:
                command = [sys.executable, *sys.argv, "--one", method, data]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[method].append(json.loads(done.stdout.splitlines()[-1]))
        report(data, runs)


def report(data, runs):
    ours = runs["nbkit"]
    print(f"\n{data}: {ours[0]['tokens']:,} tokens, {ours[0]['prompt']:,} of them prompts")
    print(f"{'':14}{'s':>8}{'MB above':>10}{'of peak':>9}{'peak GFLOP/s':>14}{'x nbkit':>9}")
    for method, results in runs.items():
        median = {
            figure: statistics.median(result[figure] for result in results)
            for figure in ("seconds", "mb", "share", "peak")
        }
        times = statistics.median(
            theirs["seconds"] / mine["seconds"] for theirs, mine in zip(results, ours, strict=True)
        )
        print(f"{method:14}{median['seconds']:8.2f}{median['mb']:10.0f}{median['share']:9.0%}"
              f"{median['peak'] / 1e9:14.1f}{times:9.2f}")  # fmt: skip
    for method, results in runs.items():
        gaps = [
            abs(a - b)
            for theirs, mine in zip(results[0]["logps"], ours[0]["logps"], strict=True)
            for a, b in zip(theirs, mine, strict=True)
        ]
        if method != "nbkit":
            print(f"largest difference of a log-prob to {method}: {max(gaps):.1e} nats")


if __name__ == "__main__":
    main()
