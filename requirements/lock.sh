#!/usr/bin/env bash
# Locks requirements/*.in: lock.sh UV [--upgrade]. What is locked first decides for what comes after, so the five
# agree. Versions in the present locks are kept unless --upgrade is given.
set -euo pipefail
uv=$1
shift
cd "$(dirname "$0")/.."
lock() {
  "$uv" pip compile --quiet --python-version 3.11 --annotation-style line --custom-compile-command 'make lock' "$@"
}
any_platform=(--universal --fork-strategy fewest)

# The serving locks carry hashes; onnxruntime-gpu exists for Linux on x86-64 alone.
lock "${any_platform[@]}" --generate-hashes "$@" requirements/serving-cpu.in -o requirements/serving-cpu.txt
lock --python-platform x86_64-manylinux_2_28 --generate-hashes "$@" \
  requirements/serving-gpu.in -o requirements/serving-gpu.txt

# No hashes here: which wheel of torch fits (CPU, CUDA) is the reader's choice. For the same reason the CUDA
# packages that one of them asks for are left out: pip adds what the chosen wheel needs.
for name in training dev; do
  lock "${any_platform[@]}" "$@" "requirements/$name.in" -o "requirements/$name.txt"
  sed --in-place --regexp-extended '/^(cuda-|nvidia-|triton==)/d' "requirements/$name.txt"
done

# PyTorch with CUDA beside onnxruntime-gpu, with the CUDA packages that it wants.
lock --python-platform x86_64-manylinux_2_28 "$@" requirements/bench-gpu.in -o requirements/bench-gpu.txt
