#!/usr/bin/env bash
# One GPU in at most 10 minutes: samples/s of pretraining with both backends in float32 and mixed precision, and small
# fits side by side on shares of the card. Prints a table; a row that cannot be measured says why.
#   make setup LOCK=requirements-gpu.lock      TensorFlow with CUDA; JAX with CUDA and Ray are further packages
#   benchmarks/gpu.sh
#   ROWS=3000 EPOCHS=2 FITS=4 benchmarks/gpu.sh      small, to see on a CPU that it works
# Environment: PYTHON (default .venv/bin/python), ROWS (300000), EPOCHS (5), FITS (32).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" TF_CPP_MIN_LOG_LEVEL=3
log=$(mktemp)
trap 'rm -f "$log"' EXIT

measure() { # seconds, what, and the arguments
    local limit=$1 what=$2 status=0 reason
    shift 2
    timeout "$limit" "${PYTHON:-.venv/bin/python}" benchmarks/gpu_training.py "$@" 2>"$log" || status=$?
    reason=$(tail -n 1 "$log")
    if [ "$status" = 124 ]; then reason="it takes more than $limit s"; fi
    if [ "$status" != 0 ]; then printf '%-28s not measured: %s\n' "$what" "$reason"; fi
}

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo "no NVIDIA card here"
printf '%-28s %-8s %14s %14s\n' what device "first epoch" rate
for backend in tensorflow jax; do
    for precision in float32 mixed_bfloat16; do
        measure 90 "$backend $precision" pretrain --backend "$backend" --precision "$precision" \
            --rows "${ROWS:-300000}" --epochs "${EPOCHS:-5}"
    done
done
for workers in 1 4; do
    measure 110 "$workers fits side by side" fits --workers "$workers" --fits "${FITS:-32}"
done
