"""Epochs of training of graph attention networks, PyTorch Geometric's and qkv's, in turn, on the same work.

    pip install torch torch_geometric numpy
    cargo build --release
    python bench/graphs.py [--data cora] [--seeds 3] [--limit GIB] [--qkv target/release/qkv] [--threads 2]
                           [--rounds 3] [--only TEXT] [--json]

`cora` is the network of Veličković et al. (2018): two layers, 8 heads of 8 numbers and one head of 7, with dropout of 0.6
on numbers and attention, and Adam over all nodes at once. An epoch is a training step and an evaluation of all nodes; the
step alone has a row of its own. `random N E` is a graph of N nodes and E directed edges drawn at random, with a loop at
each node besides: 64 numbers a node, two layers of 4 heads of 16 numbers, the second averaged over its heads to 16
classes, no dropout, and an epoch is one step on all nodes.

Each case and each way of running it in PyTorch Geometric has a process of its own, which also tells how much memory it
held at most. The two take turns in it: PyTorch Geometric, qkv, and so on. One that needs more memory than --limit is
reported and left out. With --seeds (3) Cora is trained for 200 epochs from so many starts: the share of test nodes that
the epoch with the best dev accuracy gets right.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys

from common import Rivals, add_arguments, check_arguments, line, median_seconds, serve

CORA = "cora"
CORA_WORDS, CORA_CLASSES, CORA_DROPOUT, CORA_EPOCHS = 1433, 7, 0.6, 200
RATE, DECAY = 0.005, 5e-4
# nodes, edges
RANDOM = [(100_000, 1_000_000), (1_000_000, 10_000_000)]
NUMBERS, CLASSES, HEADS, WIDTH = 64, 16, 4, 16
# The edges are sorted by target everywhere, which is never slower. An `EdgeIndex` that knows of it takes as long.
EAGER, COMPILED, SPARSE = "eager", "compiled", "sparse"
GIB = 1 << 30


def cases():
    """Every case with the ways of running it, by the names that qkv gives the cases."""
    yield CORA, [EAGER, COMPILED, SPARSE]
    yield from (("random {} {}".format(*size), [EAGER, COMPILED]) for size in RANDOM)


# ---- PyTorch: the process that is told by lines what to run ----


class Geometric:
    """Runs one case in one way."""

    def __init__(self, threads):
        import warnings

        warnings.filterwarnings("ignore")
        import torch
        import torch_geometric

        torch.set_num_threads(threads)
        self.torch, self.geometric = torch, torch_geometric
        self.runs = None

    def answer(self, order):
        if order["do"] == "about":
            return {"torch": self.torch.__version__, "geometric": self.geometric.__version__}
        try:
            if order["do"] == "accuracy":
                return self.accuracy(order["data"], order["mode"], order["seed"])
            return self.measure(order)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
                raise MemoryError(f"it needs more than the {order['limit'] / GIB:.1f} GiB of --limit") from None
            raise

    def measure(self, order):
        """The first time the most memory as well: of two epochs, above what the process held before it had a graph."""
        found = {}
        if self.runs is None:
            limit_memory(order["limit"])
            before = resident("VmRSS"), resident("VmHWM")
            training = Training(self.torch, order["case"], order["mode"], order["data"])
            self.runs = {"ms": training.step}
            if order["case"] == CORA:
                self.runs = {"ms": training.epoch, "step_ms": training.step}
            self.runs["ms"]()
            self.runs["ms"]()
            most = resident("VmHWM")
            found["peak_mib"] = (most - before[0]) / (1 << 20) if most > before[1] else None
        return {**found, **{name: median_seconds(run) * 1e3 for name, run in self.runs.items()}}

    def accuracy(self, data, mode, seed):
        training = Training(self.torch, CORA, mode, data, seed)
        best = (-1, 0.0), 0.0
        for _ in range(CORA_EPOCHS):
            loss, dev, test = training.epoch()
            # Of equal accuracies that with the smaller loss.
            best = max(best, ((dev, -loss), test))
        return {"accuracy": best[1]}


class Training:
    """A network, its graph and its optimiser."""

    def __init__(self, torch, case, mode, data, seed=0):
        self.torch = torch
        torch.manual_seed(seed)
        if case == CORA:
            self.read_cora(data)
        else:
            self.draw(*map(int, case.split()[1:]))
        # A loop at each node, and what is written to one place side by side.
        nodes = len(self.targets)
        ends = torch.cat([self.ends, torch.arange(nodes).repeat(2, 1)], 1)
        self.ends = ends[:, ends[1].argsort(stable=True)].contiguous()
        if case == CORA:
            self.network = network(torch, CORA_WORDS, (8, 8), (1, CORA_CLASSES), CORA_DROPOUT, mode == SPARSE)
        else:
            self.network = network(torch, NUMBERS, (HEADS, WIDTH), (HEADS, CLASSES), 0.0, False)
        if mode == SPARSE:
            self.numbers = sparse(torch, self.numbers)
        self.run = torch.compile(self.network) if mode == COMPILED else self.network
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE, weight_decay=DECAY, fused=True)

    def read_cora(self, folder):
        torch = self.torch
        nodes, edges = (read_table(os.path.join(folder, name)) for name in ("nodes.tsv", "edges.tsv"))
        place = {node["id"]: n for n, node in enumerate(nodes)}
        numbers = torch.zeros(len(nodes), CORA_WORDS)
        for row, node in zip(numbers, nodes):
            row[[int(word) for word in node["features"].split()]] = 1.0
        # Each row sums up to one.
        self.numbers = numbers / numbers.sum(1, keepdim=True).clamp(min=1.0)
        self.targets = torch.tensor([int(node["label"]) for node in nodes])
        ends = torch.tensor([[place[edge[end]] for edge in edges] for end in ("source", "target")])
        self.ends = torch.cat([ends, ends.flip(0)], 1)
        self.parts = {
            part: torch.tensor([n for n, node in enumerate(nodes) if node["split"] == part])
            for part in ("train", "dev", "test")
        }

    def draw(self, nodes, edges):
        torch = self.torch
        self.numbers, self.targets = torch.randn(nodes, NUMBERS), torch.randint(CLASSES, (nodes,))
        self.ends = torch.randint(nodes, (2, edges))
        self.parts = None

    def step(self):
        self.network.train()
        self.optimizer.zero_grad()
        logits, targets = self.run(self.numbers, self.ends), self.targets
        if self.parts:
            logits, targets = logits[self.parts["train"]], targets[self.parts["train"]]
        loss = self.torch.nn.functional.cross_entropy(logits, targets)
        value = loss.item()
        loss.backward()
        self.optimizer.step()
        assert value == value, "the loss is not a number"

    def epoch(self):
        """A step, then dev loss, dev accuracy and test accuracy."""
        self.step()
        self.network.eval()
        with self.torch.inference_mode():
            logits = self.run(self.numbers, self.ends)
            right = logits.argmax(1) == self.targets
            dev = self.parts["dev"]
            loss = self.torch.nn.functional.cross_entropy(logits[dev], self.targets[dev])
            return loss.item(), *(right[self.parts[part]].float().mean().item() for part in ("dev", "test"))


def network(torch, numbers, first, second, rate, of_words):
    """Two layers of so many heads and numbers a head. `of_words`: the nodes come as the places and the numbers of what is
    not zero, so that the first product is a sum of rows; the rest is the same."""
    from torch_geometric.nn import GATConv

    functional = torch.nn.functional

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            width = first[0] * first[1]
            options = {"dropout": rate, "add_self_loops": False}
            self.first = GATConv(numbers, first[1], heads=first[0], **options)
            self.second = GATConv(width, second[1], heads=second[0], concat=False, **options)
            if of_words:
                self.rows = torch.nn.Parameter(self.first.lin.weight.detach().t().contiguous())
                self.first.lin = torch.nn.Identity()

        def forward(self, x, ends):
            if of_words:
                places, starts, values = x
                values = functional.dropout(values, rate, self.training)
                x = functional.embedding_bag(places, self.rows, starts, mode="sum", per_sample_weights=values)
            elif rate:
                x = functional.dropout(x, rate, self.training)
            x = functional.elu(self.first(x, ends))
            if rate:
                x = functional.dropout(x, rate, self.training)
            return self.second(x, ends)

    return Network()


def sparse(torch, numbers):
    """The places of what is not zero, where each row starts among them, and the numbers."""
    rows = numbers.to_sparse_csr()
    return rows.col_indices(), rows.crow_indices()[:-1].contiguous(), rows.values()


def read_table(path):
    with open(path) as file:
        names = file.readline().rstrip("\n").split("\t")
        return [dict(zip(names, text.rstrip("\n").split("\t"))) for text in file]


# ---- memory ----


def resident(name):
    """A figure of this process, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name + ":"))


def limit_memory(more):
    """Lets this process take so many bytes more than it has, and fail rather than be ended with others."""
    most = resident("VmData") + more
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def default_limit():
    """What the machine has to spare, less two GiB."""
    with open("/proc/meminfo") as info:
        spare = next(int(line.split()[1]) * 1024 for line in info if line.startswith("MemAvailable:"))
    return max(spare - 2 * GIB, GIB)


# ---- the two in turn ----


class Qkv:
    """The program; None for its answers where it cannot give any."""

    def __init__(self, args, limit):
        self.args, self.limit = args, limit
        command = [args.qkv, "bench", "graphs", "--help"]
        self.knows = subprocess.run(command, capture_output=True).returncode == 0
        self.failed = set()
        if not self.knows:
            print(f"{args.qkv} has no `bench graphs`: only PyTorch Geometric is measured", file=sys.stderr)

    def case(self, case):
        if not self.knows or case in self.failed:
            return None
        command = [self.args.qkv, "bench", "graphs", "--only", case, "--threads", str(self.args.threads), "--json"]
        command += ["--data", self.args.data] if case == CORA else []
        run = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: limit_memory(self.limit))
        found = [json.loads(text) for text in run.stdout.splitlines() if text.startswith("{")]
        found = next((row for row in found if row.get("case") == case), None)
        if run.returncode or not found:
            why = run.stderr.strip().splitlines() or [f"no line with this case (status {run.returncode})"]
            print(f"{case}: qkv cannot run it here: {why[-1]}", file=sys.stderr)
            self.failed.add(case)
            return None
        return found


def compare(case, mode, rivals, qkv, limit, args):
    """The rows of a case in one way of running it; none if it cannot be run here."""
    rival, theirs, ours = rivals.start(), [], []
    try:
        for _ in range(args.rounds):
            found = rival.ask(do="case", case=case, mode=mode, data=args.data, limit=limit)
            if "error" in found:
                print(f"{case}: {mode} cannot be run here: {found['error']}", file=sys.stderr)
                return []
            theirs.append(found)
            ours.append(qkv.case(case))
    except SystemExit as error:  # ended for want of memory, perhaps
        if error.code == 143:
            raise
        print(f"{case}: {mode} cannot be run here: {error}", file=sys.stderr)
        return []
    finally:
        rival.close()
    rows = [row(case, mode, "ms", theirs, ours)]
    rows[0].update(memory(theirs[0]["peak_mib"], ours))
    if case == CORA:
        rows.append(row(f"{case}, step alone", mode, "step_ms", theirs, ours))
    return rows


def row(case, mode, name, theirs, ours):
    middle = statistics.median
    found = {"case": case, "mode": mode, "rival_ms": round(middle(their[name] for their in theirs), 4)}
    pairs = [(their[name], our[name]) for their, our in zip(theirs, ours) if our and name in our]
    if pairs:
        ratios = [their / our for their, our in pairs]
        found["qkv_ms"] = round(middle(our for _, our in pairs), 4)
        found["ratio"] = round(middle(ratios), 3)
        found["ratio_min"], found["ratio_max"] = round(min(ratios), 3), round(max(ratios), 3)
    return found


def memory(theirs, ours):
    ours = [our["peak_mib"] for our in ours if our and our.get("peak_mib")]
    found = {"rival_mib": theirs and round(theirs, 1), "qkv_mib": max(ours) if ours else None}
    found["memory_ratio"] = round(theirs / max(ours), 3) if theirs and ours else None
    return found


HEADER = ["case", "PyG", "PyG ms", "qkv ms", "ratio", "spread", "PyG MiB", "qkv MiB", "ratio"]


def cells(row):
    def show(name, digits=2):
        return "-" if row.get(name) is None else f"{row[name]:.{digits}f}"

    spread = f"{show('ratio_min')}..{show('ratio_max')}" if "ratio" in row else "-"
    held = [show("rival_mib", 0), show("qkv_mib", 0), show("memory_ratio")] if "rival_mib" in row else []
    return [row["case"], row["mode"], show("rival_ms"), show("qkv_ms"), show("ratio"), spread, *held]


def accuracy(rivals, limit, args):
    """The share of test nodes that PyTorch Geometric gets right, one number a seed."""
    rival, shares = rivals.start(), []
    for seed in range(args.seeds):
        found = rival.ask(do="accuracy", mode=EAGER, seed=seed, data=args.data, limit=limit)
        if "error" in found:
            print(f"{CORA}: {found['error']}", file=sys.stderr)
            break
        shares.append(round(found["accuracy"], 4))
    rival.close()
    return shares


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name has this text in it")
    data = "cora"
    parser.add_argument("--data", default=data, metavar="FOLDER", help="that of Cora's nodes.tsv and edges.tsv (cora)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings on Cora whose accuracy is told, or 0 (3)")
    parser.add_argument("--limit", type=float, metavar="GIB", help="memory of each (what can be spared, less 2 GiB)")
    parser.add_argument("--small-pages", action="store_true", help="leave PyTorch's memory in small pages, as it comes")
    add_arguments(parser)
    args = parser.parse_args()
    if args.serve:
        return serve(lambda: Geometric(args.threads))
    chosen = [(case, modes) for case, modes in cases() if args.only in case]
    if not chosen:
        parser.error(f"no case has `{args.only}` in its name; there are {', '.join(case for case, _ in cases())}")
    check_arguments(parser, args)
    if chosen[0][0] == CORA and not os.path.exists(os.path.join(args.data, "nodes.tsv")):
        parser.error(f"{args.data} has no nodes.tsv; say --data FOLDER, or --only random")
    if not args.small_pages:
        # PyTorch asks for fresh memory for each result; in large pages, that costs a third.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    limit = int(args.limit * GIB) if args.limit else default_limit()
    with Rivals(args) as rivals:
        rival = rivals.start()
        about = {**rival.ask(do="about"), "mkl": rivals.mkl, "threads": args.threads, "limit_gib": round(limit / GIB, 1)}
        rival.close()
        qkv = Qkv(args, limit)
        widths = [max(len(CORA + ", step alone"), *(len(case) for case, _ in chosen)), 8, 10, 10, 6, 12, 8, 8, 6]
        if args.json:
            print(json.dumps(about), flush=True)
        else:
            print(
                f"torch {about['torch']} (MKL {about['mkl']}), torch_geometric {about['geometric']}, threads: {args.threads},"
                f" rounds: {args.rounds}, memory of each: {about['limit_gib']} GiB\n"
            )
            print(line(HEADER, widths), flush=True)
        for case, modes in chosen:
            for mode in modes:
                for found in compare(case, mode, rivals, qkv, limit, args):
                    print(json.dumps(found) if args.json else line(cells(found), widths), flush=True)
            if case == CORA and args.seeds > 0:
                shares = accuracy(rivals, limit, args)
                if args.json:
                    print(json.dumps({"case": CORA, "rival_accuracy": shares}), flush=True)
                elif shares:
                    each = ", ".join(f"{100 * share:.1f}" for share in shares)
                    print(f"{CORA}: PyG gets {100 * statistics.mean(shares):.1f} % of the test nodes right ({each})", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
