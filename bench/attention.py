"""PyTorch's attention on the CPU and qkv's, in turn, on the same work.

    pip install torch numpy
    cargo build --release
    python bench/attention.py [--options] [--qkv target/release/qkv] [--threads 2] [--rounds 3] [--only TEXT] [--json]

Each case is run in rounds, PyTorch, qkv, PyTorch, qkv and so on, and a row tells the median over the rounds. PyTorch
does each as well as it can: its fused attention where there is one, and where there is none (windows, sets of many
lengths) each of the ways in which people help themselves, one row for each. With --options the cases are those of
`attention_options.py`: scores, normalisers, biases, dropout, graphs and caches.
"""

import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import attention_options

# name, sets, heads, tokens, width, causal
DENSE = [
    ("b1 h8 n512 d64", 1, 8, 512, 64, False),
    ("b1 h8 n2048 d64", 1, 8, 2048, 64, False),
    ("b1 h8 n2048 d64 causal", 1, 8, 2048, 64, True),
    ("b1 h1 n8192 d64", 1, 1, 8192, 64, False),
    ("b8 h12 n128 d64", 8, 12, 128, 64, False),
    ("b1 h8 n2048 d128", 1, 8, 2048, 128, False),
]
WINDOW = ("window128 h8 n4096 d64", 8, 4096, 64, 128)
RAGGED = ("ragged64 8-1024 h8 d64", 64, 8, 1024, 8, 64)
# The case that shows whether one long sequence with one head keeps every core busy.
SCALING = "b1 h1 n8192 d64"
FORWARD, BOTH = "forward", "forward+backward"


def cases():
    """Every case with its rivals, by the names that qkv gives the cases."""
    for name, *_ in DENSE:
        yield from ((f"float32 {name} {how}", ["sdpa"]) for how in (FORWARD, BOTH))
    yield f"float32 {WINDOW[0]} {FORWARD}", ["sdpa, boolean mask", "sdpa, chunks", "flex, compiled"]
    yield f"float32 {WINDOW[0]} {BOTH}", ["sdpa, boolean mask", "sdpa, chunks"]
    yield f"float32 {RAGGED[0]} {BOTH}", ["sdpa, padded", "sdpa, loop over sets"]


# ---- PyTorch: the process that is told by lines what to run ----


class Torch:
    """Runs one case after the other and keeps the last one, so that its further rounds need no preparation."""

    def __init__(self, threads):
        import warnings

        import torch

        warnings.filterwarnings("ignore")
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.torch = torch
        self.lengths = self.draw_lengths()
        self.case, self.runs = None, {}

    def draw_lengths(self):
        """Lengths whose logarithm is uniform."""
        _, sets, low, high, *_ = RAGGED
        logs = self.torch.empty(sets).uniform_(math.log(low), math.log(high))
        return [min(max(int(x), low), high) for x in self.torch.exp(logs).tolist()]

    def answer(self, order):
        if order["do"] == "about":
            return {"version": self.torch.__version__, "lengths": self.lengths}
        if order["do"] == "matmul":
            n = 2048
            a, b = self.torch.randn(n, n), self.torch.randn(n, n)
            out = self.torch.empty(n, n)
            return {"gflops": 2 * n**3 / median_seconds(lambda: self.torch.mm(a, b, out=out)) / 1e9}
        case, rival = order["case"], order["rival"]
        if case != self.case:
            self.case, self.runs = case, {}
        if rival not in self.runs:
            self.runs[rival] = self.prepare(case, rival)
        return {"ms": median_seconds(self.runs[rival]) * 1e3}

    def prepare(self, case, rival):
        """A function that does the work once."""
        if any(case == option for option, _ in attention_options.cases()):
            return attention_options.prepare(self, case, rival)
        name, how = case.removeprefix("float32 ").rsplit(" ", 1)
        backward = how == BOTH
        for dense, sets, heads, tokens, width, causal in DENSE:
            if name == dense:
                q, k, v = self.draw(sets, heads, tokens, width, backward)
                sdpa = self.torch.nn.functional.scaled_dot_product_attention
                return self.timed(lambda: sdpa(q, k, v, is_causal=causal), (q, k, v), backward)
        if name == WINDOW[0]:
            return self.window(rival, backward)
        if name == RAGGED[0]:
            return self.ragged(rival)
        raise ValueError(case)

    def draw(self, sets, heads, tokens, width, grad):
        return [self.torch.randn(sets, heads, tokens, width).requires_grad_(grad) for _ in range(3)]

    def timed(self, attend, inputs, backward):
        """`attend`, and if wanted the gradients of its inputs for one fixed gradient of its result."""
        torch = self.torch
        if not backward:

            def forward():
                with torch.no_grad():
                    attend()

            return forward
        with torch.no_grad():
            d_out = torch.randn_like(attend())
        return lambda: torch.autograd.grad(attend(), inputs, d_out)

    def window(self, rival, backward):
        torch, (_, heads, tokens, width, reach) = self.torch, WINDOW
        sdpa = torch.nn.functional.scaled_dot_product_attention
        q, k, v = inputs = self.draw(1, heads, tokens, width, backward)
        place = torch.arange(tokens)
        near = (place[:, None] - place).abs() <= reach

        def masked():
            return sdpa(q, k, v, attn_mask=near)

        if rival == "sdpa, boolean mask":
            return self.timed(masked, inputs, backward)
        if rival == "sdpa, chunks":
            # Chunk c is the queries from c · reach on; all that they may see are the chunk and its two neighbours.
            pad = torch.nn.functional.pad
            chunks = tokens // reach
            first = torch.arange(chunks)[:, None, None] * reach
            query, key = torch.arange(reach)[:, None], torch.arange(3 * reach)[None, :] - reach
            seen = ((query - key).abs() <= reach) & (first + key >= 0) & (first + key < tokens)
            seen = seen[:, None]

            def neighbours(x):
                # [chunks, heads, 3 · reach, width], made by views of one padded copy
                return pad(x[0], (0, 0, reach, reach)).unfold(1, 3 * reach, reach).permute(1, 0, 3, 2)

            def by_chunks():
                queries = q[0].unflatten(1, (chunks, reach)).transpose(0, 1)
                out = sdpa(queries, neighbours(k), neighbours(v), attn_mask=seen)
                return out.transpose(0, 1).reshape(1, heads, tokens, width)

            with torch.no_grad():
                assert torch.allclose(by_chunks(), masked(), atol=1e-4), "chunks are the same attention"
            return self.timed(by_chunks, inputs, backward)
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        blocks = create_block_mask(lambda b, h, i, j: (i - j).abs() <= reach, None, None, tokens, tokens, device="cpu")
        compiled = torch.compile(flex_attention)
        with torch.no_grad():
            same = torch.allclose(compiled(q, k, v, block_mask=blocks), masked(), atol=1e-4)
        assert same, "the compiled window is the same attention"
        return self.timed(lambda: compiled(q, k, v, block_mask=blocks), inputs, backward)

    def ragged(self, rival):
        torch, (_, sets, _, _, heads, width) = self.torch, RAGGED
        sdpa = torch.nn.functional.scaled_dot_product_attention
        if rival == "sdpa, padded":
            longest = max(self.lengths)
            q, k, v = inputs = self.draw(sets, heads, longest, width, True)
            mask = (torch.arange(longest) < torch.tensor(self.lengths)[:, None])[:, None, None]
            return self.timed(lambda: sdpa(q, k, v, attn_mask=mask), inputs, True)
        runs = []
        for tokens in self.lengths:
            inputs = self.draw(1, heads, tokens, width, True)
            runs.append(self.timed(lambda inputs=inputs: sdpa(*inputs), inputs, True))
        return lambda: [run() for run in runs]


def median_seconds(run):
    """As qkv measures: one run to warm up, then at least five and 0.7 seconds. Three will do where they take seconds."""
    run()
    times, start = [], time.perf_counter()

    def enough():
        seconds = time.perf_counter() - start
        return len(times) >= 5 and seconds > 0.7 or len(times) >= 3 and seconds > 3.0

    while not enough():
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def serve(threads):
    """Answers lines with lines until there are no more."""
    try:
        torch = Torch(threads)
    except ImportError as error:
        sys.exit(f"{sys.executable}: {error} (pip install torch numpy)")
    # Whatever libraries print must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            answer = torch.answer(json.loads(line))
        except Exception as error:  # a rival that cannot run here (no compiler, no memory) must not end the others
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


# ---- the two in turn ----


class Rival:
    """The process with PyTorch. While it is not asked anything it is stopped: its threads may spin for a while after
    their work, which would slow down whoever is measured next, and to forbid them that would slow down PyTorch."""

    def __init__(self, threads, preload):
        command = [sys.executable, os.path.abspath(__file__), "--serve", "--threads", str(threads)]
        environment = dict(os.environ, LD_PRELOAD=preload) if preload else None
        # Standard error is left to it: should it fail, that is where it says why.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **order):
        self.wake(True)
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the process that runs PyTorch has ended")
        self.wake(False)
        return json.loads(line)

    def wake(self, awake):
        if hasattr(signal, "SIGSTOP"):
            self.process.send_signal(signal.SIGCONT if awake else signal.SIGSTOP)

    def close(self):
        self.process.kill()
        self.process.wait()


# What MKL asks to learn whose processor it is on.
MKL_ASKS = "int mkl_serv_intel_cpu(void) { return 1; } int mkl_serv_intel_cpu_true(void) { return 1; }"


def other_makers_library(folder):
    """A library that answers MKL's question with yes, or None where it is not needed or cannot be built."""
    try:
        with open("/proc/cpuinfo") as info:
            if "GenuineIntel" in info.read():
                return None
        source, library = os.path.join(folder, "mkl.c"), os.path.join(folder, "mkl.so")
        with open(source, "w") as file:
            file.write(MKL_ASKS)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
        return library
    except (OSError, subprocess.CalledProcessError):
        return None


class Qkv:
    """The program."""

    def __init__(self, path, lengths, options):
        self.path = path
        self.cases = ["--options"] if options else ["--lengths", ",".join(map(str, lengths))]

    def run(self, *args, threads):
        command = [self.path, "bench", "attention", "--json", "--threads", str(threads), *args]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except FileNotFoundError:
            sys.exit(f"{self.path}: no such program; build it with: cargo build --release")
        except subprocess.CalledProcessError as error:
            sys.exit(f"{' '.join(command)}: {error.stderr.strip()}")
        return json.loads(done.stdout)

    def case(self, name, threads):
        return self.run("--case", name, *self.cases, threads=threads)


def compare(case, rivals, torch, qkv, args):
    """One row for each rival."""
    seen = {rival: [] for rival in rivals}
    errors = {}
    for _ in range(args.rounds):
        for rival in rivals:
            if rival in errors:
                continue
            theirs = torch.ask(do="case", case=case, rival=rival)
            if "error" in theirs:
                errors[rival] = theirs["error"]
                continue
            seen[rival].append((theirs["ms"], qkv.case(case, args.threads)))
    for rival, pairs in seen.items():
        if not pairs:
            print(f"{case}: {rival} cannot be run here: {errors[rival]}", file=sys.stderr)
            continue
        yield row(case, rival, [ms for ms, _ in pairs], [ours for _, ours in pairs])


def row(case, rival, theirs, ours):
    ratios = [ms / our["ms"] for ms, our in zip(theirs, ours)]
    middle = statistics.median
    found = {
        "case": case,
        "rival": rival,
        "rival_ms": round(middle(theirs), 4),
        "qkv_ms": round(middle(our["ms"] for our in ours), 4),
        "ratio": round(middle(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "gflops": round(middle(our["gflops"] for our in ours), 1),
        "of_peak": round(middle(our["of_peak"] for our in ours), 4),
    }
    if "read_gb_s" in ours[0]:
        found["read_gb_s"] = round(middle(our["read_gb_s"] for our in ours), 2)
        found["of_read"] = round(middle(our["of_read"] for our in ours), 4)
    return found


def scaling(qkv, args):
    """How much all threads are over one, for one long sequence with one head."""
    for how in (FORWARD, BOTH):
        case = f"float32 {SCALING} {how}"
        if args.only not in case:
            continue
        one, all_threads = [], []
        for _ in range(args.rounds):
            one.append(qkv.case(case, 1)["ms"])
            all_threads.append(qkv.case(case, args.threads))
        yield row(case, "qkv, one thread", one, all_threads)


HEADER = ["case", "rival", "rival ms", "qkv ms", "ratio", "spread", "GFLOP/s", "of peak"]


def cells(row):
    spread = f"{row['ratio_min']:.2f}..{row['ratio_max']:.2f}"
    figures = [f"{row['rival_ms']:.3f}", f"{row['qkv_ms']:.3f}", f"{row['ratio']:.2f}", spread]
    cells = [row["case"], row["rival"], *figures, f"{row['gflops']:.1f}", f"{100 * row['of_peak']:.1f} %"]
    if "read_gb_s" in row:
        cells.append(f"{row['read_gb_s']:.1f} GB/s, {100 * row['of_read']:.1f} % of memory")
    return cells


def line(texts, widths):
    padded = zip(texts, [*widths, 0])
    aligned = [text.ljust(width) if n < 2 else text.rjust(width) for n, (text, width) in enumerate(padded)]
    return "  ".join(aligned).rstrip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--options", action="store_true", help="the cases of options, graphs and caches")
    parser.add_argument("--qkv", default=os.path.join("target", "release", "qkv"), help="the program (target/release/qkv)")
    parser.add_argument("--threads", type=int, default=2, help="of both (2)")
    parser.add_argument("--rounds", type=int, default=3, help="whose median counts (3)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name has this text in it")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: the peaks, then each row")
    parser.add_argument("--plain-mkl", action="store_true", help="leave MKL as it is on processors of other makers")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.threads)
    if args.threads < 1 or args.rounds < 1:
        parser.error("--threads and --rounds are at least 1")
    all_cases = list(attention_options.cases() if args.options else cases())
    chosen = [(case, rivals) for case, rivals in all_cases if args.only in case]
    if not chosen:
        names = ", ".join(case.removeprefix("float32 ") for case, _ in all_cases)
        parser.error(f"no case has `{args.only}` in its name; there are {names}")
    if not os.path.exists(args.qkv):
        parser.error(f"{args.qkv}: no such program; build it with cargo build --release, or say --qkv PATH")
    # Ended politely, the process with PyTorch is ended too; it could not do so by itself while it is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.TemporaryDirectory()
    preload = None if args.plain_mkl else other_makers_library(folder.name)
    torch = Rival(args.threads, preload)
    try:
        about = torch.ask(do="about")
        qkv = Qkv(args.qkv, about["lengths"], args.options)
        measured = []
        for _ in range(args.rounds):
            peak = qkv.run("--peak", threads=args.threads)
            measured.append((peak["peak_gflops"], torch.ask(do="matmul")["gflops"]))
        peaks = {
            "torch": about["version"],
            "mkl": "as on an Intel processor" if preload else "as it comes",
            "threads": args.threads,
            "isa": peak["isa"],
            "peak_gflops": round(max(peak for peak, _ in measured), 1),
            "torch_matmul_gflops": round(max(matmul for _, matmul in measured), 1),
        }
        widths = [max(len(case) for case, _ in chosen), 20, 9, 9, 6, 12, 8, 8]
        if args.json:
            print(json.dumps(peaks), flush=True)
        else:
            print(f"torch {peaks['torch']} (MKL {peaks['mkl']}), {peaks['isa']}, threads: {args.threads}, rounds: {args.rounds}")
            print(f"multiply-adds from registers: {peaks['peak_gflops']} GFLOP/s")
            print(f"torch, product of two 2048 x 2048 matrices: {peaks['torch_matmul_gflops']} GFLOP/s\n")
            print(line(HEADER, widths), flush=True)

        def show(rows):
            for row in rows:
                print(json.dumps(row) if args.json else line(cells(row), widths), flush=True)

        for case, rivals in chosen:
            show(compare(case, rivals, torch, qkv, args))
        if args.threads > 1 and not args.options:
            show(scaling(qkv, args))
    finally:
        torch.close()
        folder.cleanup()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
