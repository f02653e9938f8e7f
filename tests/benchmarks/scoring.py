"""Reference log-probs: nbkit against TRL's precompute, side by side, CPU, float32, one thread.

    python tests/benchmarks/scoring.py [--pairs 24] [--repeats 3] [--data ../shared/data]

Every measurement is a process of its own: the model is built and the pairs are tokenised first,
then CPU time and the growth of the resident memory are taken around the scoring alone. The matmul
peak is measured in the same process, just before and after. Work is counted as what has to be
done: every token once, the prompt once for both responses, causal attention, the head on scored
positions. Runs are interleaved; medians are printed.
"""

import argparse
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
VOCABULARY = 32_000
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
            turn(role, 40, 120)
            for _ in range(draw.randint(2, 4))
            for role in ("user", "assistant")
        ]
        rows.append(
            dict(id=str(i), prompt=[*turns, turn("user", 10, 60)],
                 chosen=[turn("assistant", 20, 150)], rejected=[turn("assistant", 20, 150)])
        )  # fmt: skip
    return rows


DATA = {"short prompts": short_prompts, "long prompts": long_prompts}


def build(folder: Path):
    """A Qwen2-shaped model of 31M parameters with random weights, and a tokenizer of 32k entries
    made from the real texts."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    from nbkit.models import Policy

    torch.set_num_threads(1)
    saved = Path(tempfile.gettempdir()) / "nbkit-benchmark-tokenizer.json"
    if not saved.exists():
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        special = ["<pad>", "<eos>", "<|user|>", "<|assistant|>"]
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        rows = map(json.loads, (folder / "alpacaeval_pairs.jsonl").open(encoding="utf-8"))
        bpe.train_from_iterator((r["chosen"] + "\n" + r["rejected"] for r in rows), trainer)
        bpe.save(str(saved))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(saved), pad_token="<pad>", eos_token="<eos>", chat_template=CHAT
    )
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=1024, vocab_size=VOCABULARY, max_position_embeddings=4096,
        tie_word_embeddings=True, initializer_range=0.05,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return Policy(Qwen2ForCausalLM(config), tokenizer, name="31M")


def least_flop(policy, token_pairs) -> float:
    """Floating-point operations that no exact method can save."""
    config = policy.model.config
    layers = policy.model.base_model.layers
    linear = sum(p.numel() for p in layers.parameters() if p.dim() == 2)
    width, total = config.hidden_size, 0.0
    for pair in token_pairs:
        p, c, r = len(pair.prompt), len(pair.chosen), len(pair.rejected)
        seen = ((p + c) ** 2 + (p + r) ** 2 - p**2) / 2  # query-key pairs, the prompt's once
        total += 2 * linear * (p + c + r) + 2 * width * VOCABULARY * (c + r)
        total += 4 * width * config.num_hidden_layers * seen
    return total


def matmul_peak() -> float:
    """Best FLOP/s of a large float32 matrix product, one thread."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = 0.0
    for _ in range(6):
        start = time.process_time()
        torch.mm(a, b)
        best = max(best, 2 * 2048**3 / (time.process_time() - start))
    return best


class Growth:
    """Peak of the resident memory above what it was at the start, in MB (sampled every 2 ms)."""

    def __enter__(self):
        self.process = __import__("psutil").Process()
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
        self.running = False
        self.thread.join()
        self.mb = (self.peak - self.start) / 1e6


def measure(work):
    """(result, CPU seconds of this thread's work, MB)."""
    with Growth() as growth:
        start = time.thread_time()
        result = work()
        seconds = time.thread_time() - start
    return result, seconds, growth.mb


def with_nbkit(policy, pairs):
    from nbkit.logprobs import response_logprobs

    return measure(
        lambda: response_logprobs(policy, pairs, progress=False).iloc[:, :2].to_numpy()
    )


def with_trl(policy, pairs, batch_size=8):
    """TRL's `precompute_ref_log_probs`; only the precomputation is timed, not its tokenisation."""
    from trl import DPOConfig, DPOTrainer

    timed = {}

    class Timed(DPOTrainer):
        def _precompute_ref_logps(self, dataset, name, batch):
            out, timed["s"], timed["mb"] = measure(
                lambda: super(Timed, self)._precompute_ref_logps(dataset, name, batch)
            )
            return out

    trainer = Timed(
        policy.model,
        args=DPOConfig(
            output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to="none",
            gradient_checkpointing=False, max_length=None, precompute_ref_log_probs=True,
            precompute_ref_batch_size=batch_size, disable_tqdm=True,
        ),
        train_dataset=pairs,
        processing_class=policy.tokenizer,
    )  # fmt: skip
    columns = trainer.train_dataset.with_format("numpy")
    logps = __import__("numpy").stack(
        [columns["ref_chosen_logps"][:], columns["ref_rejected_logps"][:]], axis=1
    )
    return logps, timed["s"], timed["mb"]


METHODS = {"TRL, batch 8": with_trl, "nbkit": with_nbkit}


def one(method: str, data: str, n: int, folder: Path) -> dict:
    import datasets

    from nbkit.tokens import tokenize_pairs

    datasets.disable_progress_bars()
    datasets.disable_caching()
    policy = build(folder)
    pairs = datasets.Dataset.from_list(DATA[data](folder, n))
    token_pairs = tokenize_pairs(policy.tokenizer, pairs)
    first = pairs.select(range(1)).map(lambda row: {"chosen": "Yes.", "rejected": "No."})
    if isinstance(pairs[0]["prompt"], str):
        with_nbkit(policy, first)  # warm up what is set up once
    before = matmul_peak()
    logps, seconds, mb = METHODS[method](policy, pairs)
    peak = max(before, matmul_peak())
    return dict(
        seconds=seconds, mb=mb, share=least_flop(policy, token_pairs) / seconds / peak,
        peak=peak, logps=logps.tolist(), tokens=sum(p.tokens for p in token_pairs),
        prompt=sum(len(p.prompt) for p in token_pairs),
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data",
        help="folder with alpacaeval_pairs.jsonl",
    )  # fmt: skip
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "DATA"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.data / "alpacaeval_pairs.jsonl").exists():
        sys.exit(f"No alpacaeval_pairs.jsonl in {args.data}: pass --data FOLDER.")
    if args.one:
        print(json.dumps(one(*args.one, args.pairs, args.data)))
        return
    for data in DATA:
        runs = {method: [] for method in METHODS}
        for _ in range(args.repeats):
            for method in METHODS:
                command = [sys.executable, __file__, "--one", method, data]
                command += ["--pairs", str(args.pairs), "--data", str(args.data)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[method].append(json.loads(done.stdout.splitlines()[-1]))
        report(data, runs)


def report(data, runs):
    first = runs["nbkit"][0]
    print(f"\n{data}: {first['tokens']:,} tokens, {first['prompt']:,} of them prompts")
    print(f"{'':14}{'CPU s':>8}{'MB above':>10}{'of peak':>9}{'peak GFLOP/s':>14}")
    for method, results in runs.items():
        median = {
            figure: statistics.median(result[figure] for result in results)
            for figure in ("seconds", "mb", "share", "peak")
        }
        print(f"{method:14}{median['seconds']:8.2f}{median['mb']:10.0f}{median['share']:9.0%}"
              f"{median['peak'] / 1e9:14.1f}")  # fmt: skip
    ratios = [t["seconds"] / n["seconds"] for t, n in zip(*runs.values(), strict=True)]
    gap = max(
        abs(a - b)
        for t, n in zip(*(r[0]["logps"] for r in runs.values()), strict=True)
        for a, b in zip(t, n, strict=True)
    )
    print(f"TRL / nbkit: {statistics.median(ratios):.2f}x (runs {min(ratios):.2f} to "
          f"{max(ratios):.2f}); largest difference of a log-prob {gap:.1e} nats")  # fmt: skip


if __name__ == "__main__":
    main()
