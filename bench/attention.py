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
import statistics
import sys

import attention_options
from common import Rivals, add_arguments, check_arguments, line, matmul_gflops, measure_peaks, median_seconds, run_qkv, serve

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
            return {"gflops": matmul_gflops(self.torch)}
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


# ---- the two in turn ----


class Qkv:
    """The program."""

    def __init__(self, path, lengths, options):
        self.path = path
        self.cases = ["--options"] if options else ["--lengths", ",".join(map(str, lengths))]

    def case(self, name, threads):
        args = ["--json", "--threads", threads, "--case", name, *self.cases]
        return json.loads(run_qkv(self.path, "bench", "attention", *args))


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--options", action="store_true", help="the cases of options, graphs and caches")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name has this text in it")
    add_arguments(parser)
    args = parser.parse_args()
    if args.serve:
        return serve(lambda: Torch(args.threads))
    all_cases = list(attention_options.cases() if args.options else cases())
    chosen = [(case, rivals) for case, rivals in all_cases if args.only in case]
    if not chosen:
        names = ", ".join(case.removeprefix("float32 ") for case, _ in all_cases)
        parser.error(f"no case has `{args.only}` in its name; there are {names}")
    check_arguments(parser, args)
    with Rivals(args) as rivals:
        torch = rivals.start()
        about = torch.ask(do="about")
        qkv = Qkv(args.qkv, about["lengths"], args.options)
        measure_peaks(torch, about["version"], rivals, args)
        widths = [max(len(case) for case, _ in chosen), 20, 9, 9, 6, 12, 8, 8]
        if not args.json:
            print(line(HEADER, widths), flush=True)

        def show(rows):
            for row in rows:
                print(json.dumps(row) if args.json else line(cells(row), widths), flush=True)

        for case, rivals_of_case in chosen:
            show(compare(case, rivals_of_case, torch, qkv, args))
        if args.threads > 1 and not args.options:
            show(scaling(qkv, args))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
