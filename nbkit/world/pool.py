"""What the writers said: T = 1 samples of the three policies, for every fact, kept in a file.

    python -m nbkit.world.pool --weights nbkit/world/weights --out nbkit/world/pool.parquet

`world.pairs` draws from this file, not from the models, so that the same seed gives the same
pairs on every machine.
"""

import argparse
from functools import cache
from pathlib import Path
from typing import Any

from nbkit.world.knowledge import FACTS

POOL = Path(__file__).with_name("pool.parquet")
WRITERS = ("small", "medium", "large")
SAMPLES = 16  # per fact and writer


@cache
def read_pool() -> dict[tuple[str, str], list[str]]:
    """(fact key, writer) -> that writer's answers, in the order they were sampled."""
    import pandas as pd

    table = pd.read_parquet(POOL)
    answers: dict[Any, list[str]] = (
        table.groupby(["fact", "writer"], sort=False).response.agg(list).to_dict()
    )
    return answers


def sample_answers(folder: Path, prompts: list[str], samples: int, seed: int) -> list[list[str]]:
    """`samples` answers at T = 1 to each prompt, from the policy in `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.manual_seed(seed)
    ids = tokenizer(prompts, return_tensors="pt")  # all prompts have one length: no padding
    out = model.generate(
        **ids, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=samples
    )
    texts = tokenizer.batch_decode(out[:, ids.input_ids.shape[1] :], skip_special_tokens=True)
    return [texts[i : i + samples] for i in range(0, len(texts), samples)]


def make_pool(weights: Path, out: Path, seed: int = 0) -> None:
    import pandas as pd

    rows = []
    prompts = [fact.prompt for fact in FACTS]
    for writer in WRITERS:
        answers = sample_answers(weights / writer, prompts, SAMPLES, seed)
        for fact, responses in zip(FACTS, answers, strict=True):
            rows += [{"fact": fact.key, "writer": writer, "response": text} for text in responses]
    pd.DataFrame(rows).to_parquet(out, index=False, compression="zstd")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nbkit.world.pool", description=__doc__)
    parser.add_argument("--weights", type=Path, default=POOL.with_name("weights"))
    parser.add_argument("--out", type=Path, default=POOL)
    args = parser.parse_args()
    make_pool(args.weights, args.out)
    print("wrote", args.out, args.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
