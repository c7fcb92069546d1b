"""What the scripts that compare PyTorch and qkv have in common: the two in turn, clocks, and tables."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

# ---- in the process that runs PyTorch ----


def median_seconds(run, at_least=0.7):
    """As qkv measures: one run to warm up, then at least five and so many seconds. Three will do where they take seconds."""
    run()
    times, start = [], time.perf_counter()

    def enough():
        seconds = time.perf_counter() - start
        return len(times) >= 5 and seconds > at_least or len(times) >= 3 and seconds > max(3.0, at_least)

    while not enough():
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def matmul_gflops(torch, n=2048):
    """The speed of PyTorch's own product of two square matrices."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    out = torch.empty(n, n)
    return 2 * n**3 / median_seconds(lambda: torch.mm(a, b, out=out)) / 1e9


def serve(make):
    """Answers lines with lines until there are no more; `make` makes what has the answers, which needs PyTorch."""
    try:
        torch = make()
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
    """The process with PyTorch: this script once more, with --serve. While it is not asked anything it is stopped: its
    threads may spin for a while after their work, which would slow down whoever is measured next, and to forbid them that
    would slow down PyTorch."""

    def __init__(self, threads, preload):
        command = [sys.executable, os.path.abspath(sys.argv[0]), "--serve", "--threads", str(threads)]
        environment = dict(os.environ, LD_PRELOAD=preload) if preload else None
        # Standard error is left to it: should it fail, that is where it says why.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **order):
        self.wake(True)
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
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


class Rivals:
    """Makes processes with PyTorch, and ends them all, with whatever file they needed, when it is left."""

    def __init__(self, args):
        self.args, self.started = args, []
        self.folder = tempfile.TemporaryDirectory()
        self.preload = None if args.plain_mkl else other_makers_library(self.folder.name)

    def __enter__(self):
        # Ended politely, the process with PyTorch is ended too; it could not do so by itself while it is stopped.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def start(self):
        rival = Rival(self.args.threads, self.preload)
        self.started.append(rival)
        return rival

    @property
    def mkl(self):
        return "as on an Intel processor" if self.preload else "as it comes"

    def __exit__(self, *_):
        for rival in self.started:
            rival.close()
        self.folder.cleanup()


def run_qkv(path, *args):
    """What the program prints."""
    command = [path, *map(str, args)]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        sys.exit(f"{path}: no such program; build it with: cargo build --release")
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(command)}: {error.stderr.strip()}")


def measure_peaks(torch, version, rivals, args):
    """What is printed first: what runs here, and the speeds that no kernel and no product of PyTorch's exceed."""
    measured = []
    for _ in range(args.rounds):
        peak = json.loads(run_qkv(args.qkv, "bench", "attention", "--json", "--threads", args.threads, "--peak"))
        measured.append((peak["peak_gflops"], torch.ask(do="matmul")["gflops"]))
    peaks = {
        "torch": version,
        "mkl": rivals.mkl,
        "threads": args.threads,
        "isa": peak["isa"],
        "peak_gflops": round(max(peak for peak, _ in measured), 1),
        "torch_matmul_gflops": round(max(matmul for _, matmul in measured), 1),
    }
    if args.json:
        print(json.dumps(peaks), flush=True)
    else:
        print(f"torch {peaks['torch']} (MKL {peaks['mkl']}), {peaks['isa']}, threads: {args.threads}, rounds: {args.rounds}")
        print(f"multiply-adds from registers: {peaks['peak_gflops']} GFLOP/s")
        print(f"torch, product of two 2048 x 2048 matrices: {peaks['torch_matmul_gflops']} GFLOP/s\n")


# ---- arguments and tables ----


def add_arguments(parser):
    """Those that every script has."""
    parser.add_argument("--qkv", default=os.path.join("target", "release", "qkv"), help="the program (target/release/qkv)")
    parser.add_argument("--threads", type=int, default=2, help="of both (2)")
    parser.add_argument("--rounds", type=int, default=3, help="whose median counts (3)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--plain-mkl", action="store_true", help="leave MKL as it is on processors of other makers")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)


def check_arguments(parser, args):
    if args.threads < 1 or args.rounds < 1:
        parser.error("--threads and --rounds are at least 1")
    if not os.path.exists(args.qkv):
        parser.error(f"{args.qkv}: no such program; build it with cargo build --release, or say --qkv PATH")


def line(texts, widths, left=2):
    """A row of a table, its first columns to the left."""
    padded = zip(texts, [*widths, 0])
    aligned = [text.ljust(width) if n < left else text.rjust(width) for n, (text, width) in enumerate(padded)]
    return "  ".join(aligned).rstrip()
