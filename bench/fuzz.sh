#!/usr/bin/env bash
# Attention with random options and shapes, on every instruction set of this processor: right or refused, never a crash.
#
#     bench/fuzz.sh [COUNT] [SEED]        a million by default
set -euo pipefail
cd "$(dirname "$0")/.."
QKV_FUZZ="${1:-1000000}" QKV_FUZZ_SEED="${2:-1}" \
  cargo test --release -p qkv --lib any_options_and_shape_are_right_or_refused -- --ignored --nocapture
