#!/usr/bin/env python3
"""What a unit costs when a text is written, by how long the text is already.

    python bench/decode.py [--qkv target/release/qkv] [--rounds 15]

Makes a language model of 4 layers of width 256 with a context of 2,048 characters (trained for one step: what it writes does
not matter), lets it write 100 to 2,048 characters from an empty prompt, and prints the time a character, without the start of
the program, beside what the first hundred predict.
"""

import argparse
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

LENGTHS = [1, 100, 256, 512, 1024, 2047]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qkv", default="target/release/qkv")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        text, prompts, model = folder / "text.txt", folder / "prompts.txt", folder / "model"
        draw = random.Random(1)
        text.write_text("".join(draw.choice("abcdefghijklmnopqrstuvwxyz \n") for _ in range(50_000)))
        prompts.write_text("\n")
        settings = ["model.context=2048", "model.layers=4", "model.d_model=256", "model.positions=rotary",
                    "training.steps=1", "training.batch_tokens=2048"]
        train = [options.qkv, "train", "--task", "generate", "--train", text, "--out", model, "--set", "input.unit=characters"]
        subprocess.run(train + [word for setting in settings for word in ("--set", setting)], check=True, capture_output=True)
        seconds = {length: [] for length in LENGTHS}
        for _ in range(options.rounds):
            for length in LENGTHS:
                start = time.perf_counter()
                predict = [options.qkv, "predict", model, prompts, "--set", f"decoding.max_length={length}"]
                subprocess.run(predict, check=True, capture_output=True)
                seconds[length].append(time.perf_counter() - start)
        seconds = {length: statistics.median(times) for length, times in seconds.items()}
    first = (seconds[100] - seconds[1]) / 99
    print("| characters | ms a character | beside what the first hundred predict |\n| --- | --- | --- |")
    for length in LENGTHS[1:]:
        each = (seconds[length] - seconds[1]) / (length - 1)
        print(f"| {length} | {1000 * each:.3f} | {each / first:.2f} |")


if __name__ == "__main__":
    main()
