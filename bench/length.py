#!/usr/bin/env python3
"""What a training step and inference take, by the length of the sequence and by the mixer.

    cargo build --release
    python bench/length.py [--qkv target/release/qkv] [--threads 2] [--rounds 3] [--only TEXT] [--json]

Runs the cases of `qkv bench train --mixers`, one sequence through two layers of width 128 with full attention, attention in a
window of 64 vectors on each side, an LSTM in each direction, and a convolution of width 3. Of each length all mixers are run
in turn, in rounds; what is printed are medians over the rounds, in milliseconds, a table for training and one for
inference. With --json one object a case.
"""

import argparse
import json
import os
import statistics

from common import run_qkv


def parse(case):
    """What is done, the length, and the mixer."""
    what, _, tokens, *_, mixer = case.split()
    return what, int(tokens[1:]), mixer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qkv", default=os.path.join("target", "release", "qkv"), help="the program (target/release/qkv)")
    parser.add_argument("--threads", type=int, default=2, help="(2)")
    parser.add_argument("--rounds", type=int, default=3, help="whose median counts (3)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name has this text in it")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    options = parser.parse_args()
    names = run_qkv(options.qkv, "bench", "train", "--mixers", "--list").splitlines()
    cases = [case for case in names if options.only in case]
    if not cases:
        parser.error(f"no case has `{options.only}` in its name; there are {', '.join(names[:4])}, and more")
    mixers = list(dict.fromkeys(parse(case)[2] for case in cases))
    for what in dict.fromkeys(parse(case)[0] for case in cases):
        if not options.json:
            title = {"train": "a step of training, ms", "infer": "inference, ms"}[what]
            print(f"| {title} | {' | '.join(mixers)} |\n| ---: |{' ---: |' * len(mixers)}", flush=True)
        for length in dict.fromkeys(parse(case)[1] for case in cases if parse(case)[0] == what):
            row = [case for case in cases if parse(case)[:2] == (what, length)]
            seen = {case: [] for case in row}
            for _ in range(options.rounds):
                for case in row:
                    given = ["--mixers", "--case", case, "--json", "--threads", options.threads]
                    seen[case].append(json.loads(run_qkv(options.qkv, "bench", "train", *given))["ms"])
            medians = {parse(case)[2]: statistics.median(times) for case, times in seen.items()}
            if options.json:
                for case in row:
                    found = {"case": case, "ms": medians[parse(case)[2]], "rounds": seen[case]}
                    print(json.dumps(found), flush=True)
            else:
                shown = [f"{medians[mixer]:.3g}" if mixer in medians else "" for mixer in mixers]
                print(f"| {length:,} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
