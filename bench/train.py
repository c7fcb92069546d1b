"""Training steps and inference of an encoder, PyTorch's and qkv's, in turn, on the same work.

    pip install torch numpy
    cargo build --release
    python bench/train.py [--memory] [--qkv target/release/qkv] [--threads 2] [--rounds 3] [--only TEXT] [--json]

Each case is run in rounds, PyTorch, qkv, PyTorch, qkv and so on, with the same lengths of sets. PyTorch is run eagerly and
compiled, and the faster of the two counts. With --memory the figures are not times but the most memory that each holds,
each case in a process of its own.
"""

import argparse
import contextlib
import json
import math
import statistics
import sys

from common import Rivals, add_arguments, check_arguments, line, matmul_gflops, measure_peaks, median_seconds, run_qkv, serve

# sets, most vectors of a set, width, layers
SIZES = [(32, 32, 128, 2), (32, 64, 256, 4), (8, 512, 256, 4)]
MEMORY = ["train b8 n512 d256 l4"] + [f"train b1 n{tokens} d256 l4 full" for tokens in (8192, 16384, 32768)]
HEADS, WORDS, CLASSES, DROPOUT = 4, 10_000, 50, 0.1
MODES = ["eager", "compiled"]
# Of what does not count as a target.
NONE = -100


def cases():
    """Every case, by the names that qkv gives the cases."""
    for sets, *size in SIZES:
        size = "n{} d{} l{}".format(*size)
        yield from (f"{what} b{sets} {size}{full}" for what in ("train", "infer") for full in ("", " full"))
        yield f"infer b1 {size} full"


def parse(case):
    """Whether it is training, whether all sets are of full length, and its sizes: sets, tokens, width, layers."""
    what, *sizes = case.removesuffix(" full").split()
    return what == "train", case.endswith(" full"), [int(size[1:]) for size in sizes]


def wanted(case):
    """The ratio that a case has to reach, and the one that it aims at."""
    train, full, (sets, *_) = parse(case)
    if train:
        return (1.2, 1.4) if full else (1.6, 1.9)
    if sets == 1:
        return 1.3, 1.6
    return (1.1, 1.25) if full else (1.5, 1.8)


# ---- PyTorch: the process that is told by lines what to run ----


class Torch:
    """Runs one case after the other and keeps the last one, so that its further rounds need no preparation."""

    def __init__(self, threads):
        import warnings

        import torch

        # Imported here, so that its memory is not counted as that of a case.
        import torch_models

        warnings.filterwarnings("ignore")
        torch.set_num_threads(threads)
        self.torch, self.models = torch, torch_models
        self.case, self.runs = None, {}

    def answer(self, order):
        if order["do"] == "about":
            return {"version": self.torch.__version__}
        if order["do"] == "matmul":
            return {"gflops": matmul_gflops(self.torch)}
        case = order["case"]
        if order["do"] == "lengths":
            return {"lengths": self.lengths(case)}
        if order["do"] == "memory":
            return self.memory(case)
        mode = order["mode"]
        if case != self.case:
            self.case, self.runs = case, {}
            self.torch.compiler.reset()
        if mode not in self.runs:
            self.runs[mode] = self.prepare(case, mode == "compiled")
        return {"ms": median_seconds(self.runs[mode], 1.5 if parse(case)[0] else 0.7) * 1e3}

    def lengths(self, case):
        """Between half of the most and the most, the same each time."""
        _, full, (sets, tokens, *_) = parse(case)
        if full:
            return [tokens] * sets
        draw = self.torch.Generator().manual_seed(tokens)
        return self.torch.randint(tokens // 2, tokens + 1, (sets,), generator=draw).tolist()

    def prepare(self, case, compiled):
        """A function that does the work once."""
        torch = self.torch
        train, full, (_, _, width, layers) = parse(case)
        torch.manual_seed(0)
        lengths = torch.tensor(self.lengths(case))
        # No more padding than the longest set asks for.
        real = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = torch.randint(0, WORDS, real.shape)
        targets = torch.randint(0, CLASSES, real.shape).masked_fill(~real, NONE)
        keep = None if full else real[:, None, None, :]
        model = self.models.Encoder(width, layers, HEADS, words=WORDS, classes=CLASSES, dropout=DROPOUT).train(train)
        run = torch.compile(model) if compiled else model
        if not train:

            def infer():
                with torch.inference_mode():
                    run(ids, keep)

            return infer
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

        def step():
            optimizer.zero_grad()
            loss = self.models.mean_loss(run(ids, keep), targets, ignore_index=NONE)
            value = loss.item()
            loss.backward()
            optimizer.step()
            assert math.isfinite(value), f"the loss is {value}"

        return step

    def memory(self, case):
        """What the process holds at most in two runs, above what it held before it had a model; eagerly, since a compiler
        holds more."""
        import time

        before = resident("VmRSS"), resident("VmHWM")
        run = self.prepare(case, False)
        run()
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        most = resident("VmHWM")
        return {"ms": seconds * 1e3, "peak_memory": most - before[0] if most > before[1] else None}


def resident(name):
    """A figure of this process, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name + ":"))


# ---- the two in turn ----


def ask_qkv(args, case, lengths, *more):
    given = ["--case", case, "--lengths", ",".join(map(str, lengths)), "--json", "--threads", args.threads, *more]
    return json.loads(run_qkv(args.qkv, "bench", "train", *given))


def compare(case, torch, args):
    """The row of a case, with the faster way of PyTorch; None if it has none that runs here."""
    lengths = torch.ask(do="lengths", case=case)["lengths"]
    seen, errors = {mode: [] for mode in MODES}, {}
    for _ in range(args.rounds):
        for mode in MODES:
            if mode in errors:
                continue
            theirs = torch.ask(do="case", case=case, mode=mode)
            if "error" in theirs:
                errors[mode] = theirs["error"]
                print(f"{case}: {mode} cannot be run here: {theirs['error']}", file=sys.stderr)
                continue
            seen[mode].append((theirs["ms"], ask_qkv(args, case, lengths)))
    middle = statistics.median
    medians = {mode: middle(ms for ms, _ in pairs) for mode, pairs in seen.items() if pairs}
    if not medians:
        return None
    fastest = min(medians, key=medians.get)
    ratios = [ms / our["ms"] for ms, our in seen[fastest]]
    # What qkv took beside the other way of PyTorch is as good a measurement.
    ours = [our for pairs in seen.values() for _, our in pairs]
    ratio, (passes, aims) = middle(ratios), wanted(case)
    return {
        "case": case,
        "mode": fastest,
        **{f"{mode}_ms": round(ms, 4) for mode, ms in medians.items()},
        "rival_ms": round(medians[fastest], 4),
        "qkv_ms": round(middle(our["ms"] for our in ours), 4),
        "ratio": round(ratio, 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "pass": passes,
        "aim": aims,
        "verdict": "aim" if ratio >= aims else "pass" if ratio >= passes else "below",
        "gflops": round(middle(our["gflops"] for our in ours), 1),
        "of_peak": round(middle(our["of_peak"] for our in ours), 4),
    }


HEADER = ["case", "PyTorch", "PyTorch ms", "qkv ms", "ratio", "spread", "pass", "aim", "", "of peak"]


def cells(row):
    spread = f"{row['ratio_min']:.2f}..{row['ratio_max']:.2f}"
    figures = [f"{row['rival_ms']:.3f}", f"{row['qkv_ms']:.3f}", f"{row['ratio']:.2f}", spread]
    bounds = [f"{row['pass']:.2f}", f"{row['aim']:.2f}", row["verdict"]]
    return [row["case"], row["mode"], *figures, *bounds, f"{100 * row['of_peak']:.1f} %"]


def compare_memory(case, rivals, args):
    """The row of a case; where one of the two cannot run it, why."""
    row, torch = {"case": case}, rivals.start()
    lengths = torch.ask(do="lengths", case=case)["lengths"]

    def theirs():
        return torch.ask(do="memory", case=case)

    def ours():
        return ask_qkv(args, case, lengths, "--memory")

    for who, run in (("rival", theirs), ("qkv", ours)):
        try:
            found = run()
        except SystemExit as error:  # ended for want of memory, perhaps; the other may still run it
            found = {"error": str(error)}
        if "error" in found:
            print(f"{case}: {who} cannot run it here: {found['error']}", file=sys.stderr)
        row[f"{who}_bytes"], row[f"{who}_ms"] = found.get("peak_memory"), found.get("ms")
        torch.close()
    known = row["rival_bytes"] and row["qkv_bytes"]
    row["ratio"] = round(row["rival_bytes"] / row["qkv_bytes"], 3) if known else None
    return row


MEMORY_HEADER = ["case", "PyTorch MiB", "qkv MiB", "ratio", "PyTorch ms", "qkv ms"]


def memory_cells(row):
    def show(x, unit=1.0):
        return "-" if x is None else f"{x / unit:.1f}"

    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
    mib = [show(row[f"{who}_bytes"], 1 << 20) for who in ("rival", "qkv")]
    return [row["case"], *mib, ratio, show(row["rival_ms"]), show(row["qkv_ms"])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="the most memory instead of the time; takes minutes")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name has this text in it")
    add_arguments(parser)
    args = parser.parse_args()
    if args.serve:
        return serve(lambda: Torch(args.threads))
    all_cases = MEMORY if args.memory else list(cases())
    chosen = [case for case in all_cases if args.only in case]
    if not chosen:
        parser.error(f"no case has `{args.only}` in its name; there are {', '.join(all_cases)}")
    check_arguments(parser, args)

    def show(found, cells, widths, left):
        print(json.dumps(found) if args.json else line(cells(found), widths, left), flush=True)

    wide = max(map(len, chosen))
    with Rivals(args) as rivals:
        if args.memory:
            widths = [wide, 11, 9, 6, 10, 10]
            if not args.json:
                print(line(MEMORY_HEADER, widths, left=1), flush=True)
            for case in chosen:
                show(compare_memory(case, rivals, args), memory_cells, widths, 1)
            return
        torch = rivals.start()
        measure_peaks(torch, torch.ask(do="about")["version"], rivals, args)
        widths = [wide, 8, 10, 9, 6, 12, 5, 5, 5, 8]
        if not args.json:
            print(line(HEADER, widths), flush=True)
        for case in chosen:
            found = compare(case, torch, args)
            if found:
                show(found, cells, widths, 2)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
