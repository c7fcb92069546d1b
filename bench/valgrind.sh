#!/usr/bin/env bash
# Attention with random options and shapes under valgrind, which knows AVX2 and plain instructions (AVX-512 it hides from the
# program): no read or write outside of what was allocated, no choice that depends on memory that was never written.
#
#     bench/valgrind.sh [COUNT] [SEED]        400 by default
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 1; }
tests=$(cargo test --release -p qkv --lib --no-run --message-format=json |
  sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
QKV_FUZZ="${1:-400}" QKV_FUZZ_SEED="${2:-1}" RAYON_NUM_THREADS=2 \
  valgrind --error-exitcode=1 --track-origins=no -q \
  "$tests" any_options_and_shape_are_right_or_refused --ignored --nocapture --test-threads=1
