"""DPO training on the world: nbkit (TRL underneath) against a bare torch loop, side by side.

    python tests/benchmarks/training.py [--pairs 3200] [--repeats 5] [small medium large]

Both make the same updates (same batches in the same order, AdamW, clipping, precomputed reference
log-probs), float32, one thread; the losses are checked to agree. CPU time of the process, runs
interleaved, medians. `train_dpo` is timed whole: its copy of the model, its tokenisation, TRL's
set-up and its log; so is the loop, with its tokenisation.
"""

import argparse
import copy
import os
import statistics
import time

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import nbkit as nb  # noqa: E402
from nbkit import world  # noqa: E402


def bare_loop(policy, pairs, reference, settings):
    """DPO as one would write it by hand; returns the losses."""
    model = copy.deepcopy(policy.model).train()
    tokens = nb.tokenize_pairs(policy.tokenizer, pairs)
    reference = torch.tensor(reference[["chosen_logp", "rejected_logp"]].to_numpy())
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings["learning_rate"], weight_decay=0.0,
        betas=(0.9, settings["adam_beta2"]),
    )  # fmt: skip
    losses, size = [], settings["batch_size"]
    for step, start in enumerate(range(0, len(tokens), size)):
        batch = tokens[start : start + size]
        sequences = [(p.prompt + p.chosen, len(p.prompt)) for p in batch]
        sequences += [(p.prompt + p.rejected, len(p.prompt)) for p in batch]
        width = max(len(ids) for ids, _ in sequences)
        ids = torch.zeros(len(sequences), width, dtype=torch.long)
        real, scored = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (sequence, prompt) in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            real[row, : len(sequence)] = 1
            scored[row, prompt : len(sequence)] = 1
        logits = model(input_ids=ids, attention_mask=real, use_cache=False).logits[:, :-1]
        logps = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        chosen, rejected = (logps * scored[:, 1:]).sum(1).chunk(2)
        before = reference[start : start + size].float()
        margin = settings["beta"] * ((chosen - before[:, 0]) - (rejected - before[:, 1]))
        loss = -F.logsigmoid(margin).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["max_grad_norm"])
        warm = min(1.0, step / settings["warmup_steps"])
        optimizer.param_groups[0]["lr"] = settings["learning_rate"] * warm
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def timed(work):
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def compare(size, n, repeats):
    policy, pairs = nb.load_policy(f"world/{size}", device="cpu"), world.pairs(n, seed=0)
    reference = nb.response_logprobs(policy, pairs, progress=False)
    settings = world.DPO[size]

    def train(pairs=pairs, log_every=10):
        return nb.train_dpo(
            policy, pairs, reference=reference, order="given", progress=False,
            log_every=log_every, **settings,
        )  # fmt: skip

    losses = bare_loop(policy, pairs, reference, settings)
    gap = max(abs(a - b) for a, b in zip(losses, train(log_every=1).history.loss, strict=True))
    seconds = [
        (timed(train)[1], timed(lambda: bare_loop(policy, pairs, reference, settings))[1])
        for _ in range(repeats)
    ]
    ours, bare = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratios = [a / b for a, b in seconds]
    print(
        f"{size:8}{len(losses):6} steps   nbkit {ours:6.2f} s   bare {bare:6.2f} s   ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})   "
        f"largest difference of a loss {gap:.0e}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", default=["small", "medium", "large"])
    parser.add_argument("--pairs", type=int, default=3200)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for size in args.sizes:
        compare(size, args.pairs, args.repeats)


if __name__ == "__main__":
    main()
