"""Make the world's policies: supervised fine-tuning of three tiny Llamas, from scratch.

    python -m nbkit.world.sft medium --seed 0 --out some/folder

The folders in `nbkit/world/weights/` were made so, with seed 0. On another machine the same
command gives weights that differ in the last digits: float32 sums depend on the processor.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from nbkit.world.demos import demonstration_rows
from nbkit.world.tokenizer import build_tokenizer

DEMONSTRATIONS = 120_000
BATCH = 128
WARMUP = 50  # steps
PROMPT_WEIGHT = 0.2  # of a prompt token in the loss, against 1 for a response token


@dataclass(frozen=True)
class Size:
    hidden: int
    layers: int
    heads: int
    steps: int
    learning_rate: float


SIZES = {
    "small": Size(hidden=32, layers=2, heads=2, steps=2500, learning_rate=3e-3),
    "medium": Size(hidden=64, layers=2, heads=4, steps=1500, learning_rate=3e-3),
    "large": Size(hidden=128, layers=3, heads=4, steps=1500, learning_rate=2e-3),
}


def build_model(size: str, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> LlamaForCausalLM:
    """An untrained Llama of one of the SIZES, with tied embeddings."""
    shape = SIZES[size]
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=2 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=64,
        initializer_range=0.05,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def tokenize(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [rows, longest], padded on the right, and the loss weight of each token, same shape."""
    texts = [row["prompt"] + " " + row["response"] + tokenizer.eos_token for row in rows]
    ids = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt").input_ids
    prompt_length = len(tokenizer(rows[0]["prompt"]).input_ids)  # the same for every prompt
    weight = torch.ones(ids.shape)
    weight[:, :prompt_length] = PROMPT_WEIGHT
    weight[ids == tokenizer.pad_token_id] = 0.0
    return ids, weight


def learning_rate(step: int, size: Size, steps: int) -> float:
    """Linear warm-up, then a cosine that ends at 2% of the peak."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return size.learning_rate * min(1.0, (step + 1) / WARMUP) * (cosine + 0.02)


def train(
    size: str, seed: int = 0, steps: int | None = None, log_every: int = 100
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Model and tokenizer after supervised fine-tuning; `steps=None` takes the size's own."""
    if size not in SIZES:
        raise ValueError(f"size {size!r}: expected one of {', '.join(SIZES)}")
    steps = SIZES[size].steps if steps is None else steps
    tokenizer = build_tokenizer()
    model = build_model(size, tokenizer, seed).train()
    rows = demonstration_rows(min(DEMONSTRATIONS, steps * BATCH), seed)
    ids, weight = tokenize(tokenizer, rows)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.98))
    draw = torch.Generator().manual_seed(seed)
    started = time.perf_counter()
    for step in range(steps):
        batch = torch.randint(len(ids), (BATCH,), generator=draw)
        x, w = ids[batch], weight[batch, 1:]
        # No attention mask: padding is on the right, where causal attention never looks.
        logits = model(input_ids=x[:, :-1], use_cache=False).logits
        nll = F.cross_entropy(logits.transpose(1, 2), x[:, 1:], reduction="none")
        loss = (nll * w).sum() / w.sum()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, SIZES[size], steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if log_every and step % log_every == 0:
            seconds = time.perf_counter() - started
            print(f"{size} step {step:4d} loss {loss.item():.3f} {seconds:5.0f} s", flush=True)
    return model.eval(), tokenizer


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> Path:
    """Write a complete Hugging Face folder: `from_pretrained(folder)` needs nothing else."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=16,  # the longest answer has 11 tokens, with its <eos>
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m nbkit.world.sft", description=__doc__)
    parser.add_argument("size", choices=list(SIZES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=None, help="fewer, for a quick look")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)  # so that the order of the sums does not depend on the machine's cores
    model, tokenizer = train(args.size, args.seed, args.steps)
    print("wrote", save(model, tokenizer, args.out))


if __name__ == "__main__":
    main()
