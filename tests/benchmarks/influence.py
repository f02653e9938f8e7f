"""Influence of pairs on a validation loss: nbkit's ways side by side with others'.

    python tests/benchmarks/influence.py [--pairs 6] [--repeats 3] [--texts "usual lengths"]
    python tests/benchmarks/influence.py --device cuda --shape 0.5B --pairs 64
    pip install -e ".[bench]"        # for dattri

float32 with one thread on the CPU, and CPU time is quoted; bfloat16 on CUDA, and wall time is.
Three tables: all parameters, LoRA of rank 16 on all linear layers, and a model of 3M parameters and
16 real pairs of a few dozen tokens, on which dattri's TracIn (no projection) can be run.

"loop" is nbkit's own, one response at a time, nothing padded; "padded loop" is the usual one: the
two responses of a pair in one padded batch, loss, backward, dot product. Each table begins with a
process that saves the gradient of the validation loss, the steps of the differences and the
log-probs at theta. Every measurement is then a process of its own, with none of that on its clock;
only dattri makes the gradient itself, so there it is timed for all. Runs are interleaved; medians
are printed. "r" is Pearson's correlation with the loop.
"""

import argparse
import functools
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scoring import DATA, SHAPES, build, measure

SHAPES["3M"] = (64, 6, 2, 1, 512, 32_000, True)
BETA, VALIDATION, RANK = 0.1, 4, 16


def few_tokens(folder: Path, n: int):
    lines = (folder / "short_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in random.Random(0).sample(lines, n)]


def usual_lengths(folder: Path, n: int):
    """Generated pairs: prompt and answers of lengths that are usual in chat data, about 190 and 150
    tokens."""
    draw = random.Random(2)
    words = " ".join(row["chosen"] for row in DATA["short prompts"](folder, 500)).split()

    def text(tokens):
        return " ".join(draw.choices(words, k=draw.randint(tokens // 3, tokens)))

    return [dict(prompt=text(210), chosen=text(165), rejected=text(165)) for _ in range(n)]


TEXTS = {"usual lengths": usual_lengths, **DATA, "few tokens": few_tokens}


class Setting:
    """A policy, token pairs, reference log-probs, a direction, and the steps along it."""

    def __init__(self, args, table, data, saved: Path):
        import datasets
        import torch

        import nbkit as nb

        datasets.disable_progress_bars()
        self.policy = build(args.data, args.shape, args.device)
        rows = TEXTS[data](args.data, args.pairs + VALIDATION)
        rows = [dict(row, id=str(n)) for n, row in enumerate(rows)]
        tokens = nb.tokenize_pairs(self.policy.tokenizer, datasets.Dataset.from_list(rows))
        self.validation, self.pairs = tokens[:VALIDATION], tokens[VALIDATION:]
        if table == "LoRA":
            self.policy = nb.add_lora(self.policy, RANK)
            torch.manual_seed(1)
            for name, p in self.policy.model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(p, std=0.02)
        if not saved.exists():
            torch.save(self.prepared(), saved)
        known = torch.load(saved, map_location=self.policy.device)
        self.at_theta, self.ref, self.ref_val = (x.cpu() for x in known["logps"])
        self.direction, self.steps = known["direction"], known["steps"]

    def prepared(self) -> dict:
        """What the clocks leave out."""
        import torch

        from nbkit.derivatives.along import derivatives
        from nbkit.derivatives.differences import logp_sums
        from nbkit.derivatives.loop import of_all_lengths, pair_by_pair

        noise = torch.Generator().manual_seed(0)

        def shifted(logps):  # a reference some nats away, so that the losses differ
            return logps + 5 * torch.randn(logps.shape, generator=noise, dtype=torch.float64)

        at_theta = logp_sums(self.policy, self.pairs)
        self.ref_val = shifted(logp_sums(self.policy, self.validation))
        direction = self.validation_gradient()
        where = of_all_lengths(self.pairs, 4)
        probe = [self.pairs[i] for i in where]
        pace = pair_by_pair(self.policy, probe, direction)[1].square().mean().sqrt().item()
        steps = {}
        for method in ("central", "forward"):
            found = derivatives(
                self.policy, probe, direction, method=method, check=4, at_theta=at_theta[where]
            )
            steps[method] = found.step / pace
        logps = at_theta, shifted(at_theta), self.ref_val
        return dict(logps=logps, direction=direction, steps=steps)

    def validation_gradient(self):
        import torch

        from nbkit.derivatives.gradient import gradient

        def slopes(positions, logps):
            pull = BETA * torch.sigmoid(-margins(logps, self.ref_val[positions])) / VALIDATION
            return torch.stack([-pull, pull], 1)

        return gradient(self.policy, self.validation, slopes)

    def influence(self, slopes):
        """From derivatives of the sides [n, 2] or of the margins [n]."""
        import torch

        along = slopes if slopes.dim() == 1 else slopes[:, 0] - slopes[:, 1]
        return -BETA * torch.sigmoid(-margins(self.at_theta, self.ref)) * along


def margins(logps, ref):
    ratios = logps - ref
    return BETA * (ratios[:, 0] - ratios[:, 1])


def with_nbkit(setting, method):
    """Influence by one of nbkit's methods."""
    from nbkit.derivatives import differences, ghost, jvp, loop

    given = setting.policy, setting.pairs, setting.direction
    if method in setting.steps:
        known = setting.at_theta if method == "forward" else None
        work = functools.partial(
            differences.finite_difference, *given, setting.steps[method], known
        )
    else:
        ways = dict(ghost=ghost.ghost, jvp=jvp.forward_mode, loop=loop.pair_by_pair)
        work = functools.partial(ways[method], *given)
    (_, slopes), seconds, mb = measure(work, setting.policy.device.type)
    return setting.influence(slopes), seconds, mb


def with_scoring(setting):
    """One scoring pass: what the others are counted in."""
    from nbkit.derivatives.differences import logp_sums

    work = functools.partial(logp_sums, setting.policy, setting.pairs)
    return None, *measure(work, setting.policy.device.type)[1:]


def batch(pairs, ref, device):
    """Token ids [n, 2, T], padded to the right, which of their successors are scored [n, 2, T - 1],
    and reference log-probs [n, 2]."""
    import torch

    width = max(p.longest for p in pairs)
    ids = torch.zeros(len(pairs), 2, width, dtype=torch.long)
    scored = torch.zeros(len(pairs), 2, width - 1)
    for n, pair in enumerate(pairs):
        for side, response in enumerate((pair.chosen, pair.rejected)):
            sequence = pair.prompt + response
            ids[n, side, : len(sequence)] = torch.tensor(sequence)
            scored[n, side, len(pair.prompt) - 1 : len(sequence) - 1] = 1
    return ids.to(device), scored.to(device), ref.float().to(device)


def dpo_loss(logits, ids, scored, ref):
    """Of one pair: logits [2, T, vocabulary]."""
    import torch

    logps = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    ratios = (logps * scored).sum(1) - ref
    return -torch.nn.functional.logsigmoid(BETA * (ratios[0] - ratios[1]))


def with_padded_loop(setting):
    """Both responses of a pair in one padded batch, the loss, backward, dot product."""
    import torch

    from nbkit.derivatives.parameters import differentiable

    policy, direction = setting.policy, setting.direction
    named = dict(policy.causal_lm.named_parameters())
    chosen = {name: named[name] for name in direction}

    def work():
        out = torch.zeros(len(setting.pairs), dtype=torch.float64)
        with differentiable(policy, chosen):
            for n, pair in enumerate(setting.pairs):
                ids, scored, ref = (x[0] for x in batch([pair], setting.ref[[n]], policy.device))
                logits = policy.causal_lm(input_ids=ids, use_cache=False).logits
                parts = torch.autograd.grad(dpo_loss(logits, ids, scored, ref), chosen.values())
                for part, v in zip(parts, direction.values(), strict=True):
                    out[n] += (part * v).sum().item()
        return out

    return measure(work, policy.device.type)


def functional(setting):
    """loss(parameters, sample of `batch`), as torch.func wants it."""
    import torch
    from torch.func import functional_call

    def loss(parameters, sample):
        ids, scored, ref = sample
        length = ids.shape[-1]
        mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1).to(ids.device)
        logits = functional_call(
            setting.policy.causal_lm, parameters, (),
            dict(input_ids=ids, attention_mask=mask[None, None].expand(2, 1, -1, -1),
                 position_ids=torch.arange(length, device=ids.device)[None].expand(2, -1),
                 use_cache=False),
        ).logits  # fmt: skip
        return dpo_loss(logits, ids, scored, ref)

    return loss


def with_vmap(setting, size=2):
    """torch.func.vmap(grad), `size` pairs at a time, by length."""
    import torch
    from torch.func import grad, vmap

    loss, direction, device = functional(setting), setting.direction, setting.policy.device
    named = dict(setting.policy.causal_lm.named_parameters())
    moving = {name: named[name].detach() for name in direction}
    still = {name: p.detach() for name, p in named.items() if name not in direction}
    gradients = vmap(
        grad(lambda moved, sample: loss({**moved, **still}, sample)), in_dims=(None, 0)
    )

    def work():
        out = torch.zeros(len(setting.pairs), dtype=torch.float64)
        order = sorted(range(len(out)), key=lambda i: setting.pairs[i].longest)
        for start in range(0, len(out), size):
            some = order[start : start + size]
            pairs = [setting.pairs[i] for i in some]
            found = gradients(moving, batch(pairs, setting.ref[some], device))
            out[some] = sum(
                (found[name].flatten(1) @ v.flatten()).double().cpu()
                for name, v in direction.items()
            )
        return out

    return measure(work, device.type)


def with_dattri(setting):
    """dattri's TracIn attributor, one checkpoint, no projection; validation gradients included."""
    import torch
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask
    from torch.utils.data import DataLoader, TensorDataset

    loss, model, device = functional(setting), setting.policy.causal_lm, setting.policy.device

    def work():
        task = AttributionTask(loss, model, model.state_dict())
        tracin = TracInAttributor(task, torch.ones(1), normalized_grad=False)
        tracin.projector_kwargs = None  # its constructor has no way to say so
        train, test = (
            DataLoader(TensorDataset(*batch(pairs, ref, device)), batch_size=len(pairs))
            for pairs, ref in ((setting.pairs, setting.ref), (setting.validation, setting.ref_val))
        )
        return tracin.attribute(train, test).detach().double().mean(1)

    return measure(work, device.type)


def whole(setting, method):
    """nbkit's method with the validation gradient inside the clock."""
    _, first, mb = measure(setting.validation_gradient, setting.policy.device.type)
    found, seconds, more = with_nbkit(setting, method)
    return found, first + seconds, max(mb, more)


WAYS = {method: functools.partial(with_nbkit, method=method)
        for method in ("loop", "ghost", "jvp", "central", "forward")}  # fmt: skip
WAYS |= {"scoring": with_scoring, "padded loop": with_padded_loop}
WAYS |= {"vmap(grad)": with_vmap, "dattri": with_dattri}
WAYS |= {f"{method}, whole": functools.partial(whole, method=method)
         for method in ("loop", "ghost", "jvp", "central")}  # fmt: skip
ALL = ["scoring", "loop", "padded loop", "vmap(grad)", "ghost", "jvp", "central", "forward"]
TABLES = {
    "all parameters": ALL,
    "LoRA": ALL,
    "dattri": ["loop, whole", "dattri", "ghost, whole", "jvp, whole", "central, whole"],
}


def one(way, table, data, args) -> dict:
    """One measurement; without a way, only what the table's measurements start from is saved."""
    if table == "dattri":
        args.shape, args.pairs = "3M", 16
    setting = Setting(args, table, data, args.saved)
    found, seconds, mb = WAYS[way](setting) if way else (None, 0.0, 0.0)
    return dict(seconds=seconds, mb=mb, influence=None if found is None else found.tolist())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", choices=SHAPES, default="31M")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS)[:2])
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data",
        help="folder with alpacaeval_pairs.jsonl",
    )  # fmt: skip
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--saved", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.data / "alpacaeval_pairs.jsonl").exists():
        sys.exit(f"No alpacaeval_pairs.jsonl in {args.data}: pass --data FOLDER.")
    if args.one:
        print(json.dumps(one(*args.one, args)))
        return
    for table in args.tables:
        for data in args.texts if table != "dattri" else ["few tokens"]:
            with tempfile.TemporaryDirectory() as folder:
                run = functools.partial(in_process, table, data, Path(folder) / "setting.pt")
                run("")
                runs = {way: [] for way in TABLES[table]}
                for _ in range(args.repeats):
                    for way in TABLES[table]:
                        runs[way].append(run(way))
            report(f"{table}, {data}", runs)


def in_process(table, data, saved, way) -> dict:
    command = [sys.executable, *sys.argv, "--saved", str(saved), "--one", way, table, data]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{way or 'preparing'} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def report(title, runs):
    def ratio(over, under):
        pairs = zip(runs[over], runs[under], strict=True)
        return statistics.median(a["seconds"] / b["seconds"] for a, b in pairs)

    unit = "scoring" if "scoring" in runs else "dattri"
    loop = next(way for way in runs if way.startswith("loop"))
    print(f"\n{title}")
    print(f"{'':16}{'s':>8}{'MB above':>10}{'/ ' + unit:>11}{'loop /':>9}{'r':>12}")
    for way, results in runs.items():
        seconds, mb = (statistics.median(r[what] for r in results) for what in ("seconds", "mb"))
        r = ""
        if results[0]["influence"]:
            r = f"{statistics.correlation(results[0]['influence'], runs[loop][0]['influence']):.7f}"
        print(f"{way:16}{seconds:8.2f}{mb:10.0f}{ratio(way, unit):11.2f}{ratio(loop, way):9.2f}"
              f"{r:>12}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
