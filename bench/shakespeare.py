"""A model of the characters of Shakespeare, trained by PyTorch and by qkv, in turn, to the end.

    pip install torch numpy
    cargo build --release
    python bench/shakespeare.py --data input.txt [--steps 2000] [--compile] [--qkv target/release/qkv] [--threads 2]
        [--rounds 1] [--json]

The setting is the one that nanoGPT (Karpathy, 2022) recommends for a CPU: 4 layers, 4 heads, width 128, 12 windows of 64
characters a step, 2000 steps, AdamW, no dropout. The data is one text file, such as `tinyshakespeare/input.txt` of
char-rnn; its last tenth is held back, and the loss is over all of it, in windows one behind the other. Both judge
themselves by it at the end, and whenever they have seen as much text as there is. Other --steps are for a quick look.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import sys
import tempfile

from common import Rivals, add_arguments, check_arguments, line, run_qkv, serve

WINDOWS, CONTEXT = 12, 64
RATE, LOWEST_RATE, WARM_UP = 1e-3, 1e-4, 0.05  # the last is a share of the steps
BETAS, DECAY, CLIP = (0.9, 0.99), 0.1, 1.0
STEPS = 2000
# Windows that are judged at once.
JUDGED = 128


def rate(step, steps):
    """Rises in a line, falls in half a wave."""
    rising = WARM_UP * steps
    if step < rising:
        return RATE * (step + 1) / (rising + 1)
    done = (step - rising) / (steps - rising)
    return LOWEST_RATE + (RATE - LOWEST_RATE) * (1 + math.cos(math.pi * done)) / 2


# ---- PyTorch: the process that is told by lines what to run ----


class Torch:
    def __init__(self, threads):
        import torch
        import torch_models

        torch.set_num_threads(threads)
        self.torch, self.models = torch, torch_models

    def answer(self, order):
        if order["do"] == "about":
            return {"version": self.torch.__version__}
        with open(order["data"], encoding="utf-8") as file:
            text = file.read()
        return self.train(text, order["steps"], order["compiled"], order["seed"])

    def train(self, text, steps, compiled, seed):
        import time

        torch, models = self.torch, self.models
        torch.manual_seed(seed)
        known = {character: number for number, character in enumerate(sorted(set(text)))}
        numbers = torch.tensor([known[character] for character in text])
        train, dev = numbers.tensor_split([int(0.9 * len(numbers))])
        model = models.Characters(len(known), context=CONTEXT)
        optimizer = torch.optim.AdamW(model.groups(DECAY), lr=RATE, betas=BETAS, fused=True)
        run, behind = torch.compile(model) if compiled else model, torch.arange(CONTEXT + 1)

        def loss():
            starts = torch.randint(len(train) - CONTEXT, (WINDOWS, 1))
            windows = train[starts + behind]
            return models.mean_loss(run(windows[:, :-1]), windows[:, 1:])

        # What a compiler takes is not counted.
        loss().backward()
        start, once = time.perf_counter(), len(train) // (WINDOWS * CONTEXT)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, steps)
            optimizer.zero_grad()
            found = loss()
            value = found.item()
            found.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            if (step + 1) % once == 0 and step + 1 < steps:
                self.judge(model, dev)
        assert math.isfinite(value), f"the loss is {value}"
        judged = self.judge(model, dev)
        return {"seconds": time.perf_counter() - start, "loss": judged}

    def judge(self, model, dev):
        """The mean loss over all of it but the first character, which follows nothing."""
        torch, total = self.torch, 0.0
        whole = (len(dev) - 1) // CONTEXT * CONTEXT
        inputs, targets = dev[:-1], dev[1:]
        pieces = list(zip(inputs[:whole].split(JUDGED * CONTEXT), targets[:whole].split(JUDGED * CONTEXT)))
        shapes = [(i.view(-1, CONTEXT), t) for i, t in pieces] + [(inputs[whole:][None], targets[whole:])]
        with torch.inference_mode():
            for ids, wanted in shapes:
                total += self.models.mean_loss(model(ids), wanted, reduction="sum").item()
        return total / (len(dev) - 1)


# ---- the two in turn ----


def train_qkv(args, seed):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "model")
        more = [] if args.steps == STEPS else ["--set", f"training.steps={args.steps}"]
        given = ["--train", args.data, "--out", out, "--seed", seed, "--threads", args.threads, *more]
        run_qkv(args.qkv, "train", args.recipe, *given)
        with open(os.path.join(out, "metrics.json"), encoding="utf-8") as file:
            metrics = json.load(file)
    return {"seconds": metrics["seconds"], "loss": metrics["loss"]}


HEADER = ["who", "seconds", "ms a step", "dev loss", "ratio", "spread"]


def summary(who, runs, ours, steps):
    """Medians of a row; the ratio is that of its seconds over qkv's in the same round."""
    middle = statistics.median
    seconds = middle(run["seconds"] for run in runs)
    ratios = [run["seconds"] / our["seconds"] for run, our in zip(runs, ours)]
    return {
        "who": who,
        "seconds": round(seconds, 3),
        "ms_per_step": round(1e3 * seconds / steps, 4),
        "loss": round(middle(run["loss"] for run in runs), 4),
        "ratio": round(middle(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }


def cells(row):
    spread = f"{row['ratio_min']:.2f}..{row['ratio_max']:.2f}"
    figures = [f"{row['seconds']:.2f}", f"{row['ms_per_step']:.3f}", f"{row['loss']:.4f}", f"{row['ratio']:.2f}"]
    return [row["who"], *figures, spread]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FILE", help="the text")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"({STEPS})")
    parser.add_argument("--compile", action="store_true", help="PyTorch compiled as well")
    parser.add_argument("--recipe", default=os.path.join("recipes", "tiny-shakespeare.toml"), help="of qkv (recipes/tiny-shakespeare.toml)")
    add_arguments(parser)
    parser.set_defaults(rounds=1)
    args = parser.parse_args()
    if args.serve:
        return serve(lambda: Torch(args.threads))
    if args.steps < 1:
        parser.error("--steps is at least 1")
    for what, path in (("--data", args.data), ("--recipe", args.recipe)):
        if not path or not os.path.isfile(path):
            parser.error(f"{what} {path or ''}: no such file; name one with {what} FILE")
    check_arguments(parser, args)
    args.data = os.path.abspath(args.data)
    modes = ["eager", "compiled"] if args.compile else ["eager"]
    seen = {f"PyTorch, {mode}": [] for mode in modes}
    ours = []
    with Rivals(args) as rivals:
        torch = rivals.start()
        version = torch.ask(do="about")["version"]
        for seed in range(1, args.rounds + 1):
            for mode, runs in zip(modes, seen.values()):
                found = torch.ask(do="train", data=args.data, steps=args.steps, compiled=mode == "compiled", seed=seed)
                if "error" in found:
                    sys.exit(f"PyTorch, {mode}: {found['error']}")
                runs.append(found)
            ours.append(train_qkv(args, seed))
    about = {"torch": version, "mkl": rivals.mkl, "threads": args.threads, "rounds": args.rounds, "steps": args.steps}
    rows = [summary(who, runs, ours, args.steps) for who, runs in [*seen.items(), ("qkv", ours)]]
    if args.json:
        return print("\n".join(json.dumps(found) for found in [about, *rows]))
    print(f"torch {version} (MKL {rivals.mkl}), threads: {args.threads}, rounds: {args.rounds}, steps: {args.steps}\n")
    widths = [18, 8, 9, 8, 6, 12]
    print(line(HEADER, widths, left=1))
    for row in rows:
        print(line(cells(row), widths, left=1))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
