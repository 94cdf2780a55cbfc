#!/usr/bin/env bash
# All that this project wants a GPU for, in order of value, within a number of seconds.
#
#     benchmarks/on_gpu.sh SECONDS OUT [--tiny]
#
# OUT keeps at most eight files of 16 MB: log.txt, done.txt, tables, records and the weights. Called again with
# the same OUT, what is done is skipped and what was begun goes on; OUT may come from another machine.
# --tiny rehearses every part in a minute or two on a CPU, at sizes that say nothing.
set -u
if [ $# -lt 2 ]; then sed -n '2,8p' "$0" | cut -c3-; exit 2; fi
seconds=$1 out=$(mkdir -p "$2" && cd "$2" && pwd) tiny=${3:-}
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
work=${WORK:-$out.work}  # checkpoints, tables, figures: what need not come back
mkdir -p "$work/results"
[ -f "$out/records.tar" ] && tar -C "$work/results" -xf "$out/records.tar"
export SDA_RESULTS="$work/results"
began=$(date +%s)

left() { echo $((seconds - $(date +%s) + began)); }

kept() {  # the records so far
    (cd "$work/results" && tar -cf "$out/records.tar" ./*.jsonl 2>/dev/null)
    cat "$work"/results/*.md > "$out/tables.md" 2>/dev/null
    return 0
}

part() {  # NAME SECONDS COMMAND...: skipped if done or if less than half of its time is left
    local name=$1 most=$2 rest
    shift 2
    if grep -qx "$name" "$out/done.txt" 2>/dev/null; then echo "$name: done before"; return; fi
    rest=$(left)
    if [ "$rest" -lt $((most / 2)) ]; then echo "$name: no time left"; return; fi
    echo "$name: at most $((rest < most ? rest : most)) s" | tee -a "$out/log.txt"
    if timeout -k 10 "$((rest < most ? rest : most))" "$@" >"$work/$name.log" 2>&1; then
        echo "$name" >>"$out/done.txt"
    else
        echo "$name: ended with $?"
    fi
    tail -n 40 "$work/$name.log" >>"$out/log.txt"
    kept
}

experiments() {  # each case of the 64 x 64 config, its scores a line
    local name
    for name in "$@"; do
        [ -f "$work/k64/$name/scores.json" ] && continue
        "$python" -m sda_jax.cli.main experiment --config configs/kolmogorov_64.py \
            --output "$work/k64" --case "$name" || return 1
        "$python" -c "import json, sys; print(json.dumps({'case': sys.argv[1]} | json.load(open(sys.argv[2]))))" \
            "$name" "$work/k64/$name/scores.json" >>"$SDA_RESULTS/kolmogorov_64.jsonl" || return 1
    done
}

train() {  # CONFIG START STEPS: goes on from checkpoints; the prior in half precision
    "$python" -m sda_jax.cli.main train --config "$1" --start "$2" --training.steps "$3" \
        --output "$work/trained" "${@:4}" || return 1
    "$python" -c "import sys, sda_jax as sda; sda.save_prior(sys.argv[2], sda.load_prior(sys.argv[1]), half=True)" \
        "$work/trained/prior" "$work/half" && cp "$work"/half/* "$out"
}

export -f experiments train
export work python out

"$python" -c "import jax; print('devices', jax.devices(), 'jax', jax.__version__)" | tee -a "$out/log.txt"
if [ "$tiny" = --tiny ]; then
    part throughput 600 "$python" benchmarks/throughput.py --priors lorenz63 --shape 9 2
    part guidance_cost 600 "$python" benchmarks/guidance_cost.py --priors lorenz63 --methods SDA \
        --evaluations 1 --rounds 1
    part replay 600 "$python" benchmarks/replay.py --cases "Lorenz 1963" --rounds 1
    part train 600 bash -c 'train configs/lorenz63_conv_laptop.py lorenz63 2 --training.batch 2 --training.block 2 \
        --training.validation-batches 1 --training.segment 16 --data.source simulator --system.spinup 4'
    exit 0
fi
part tests 240 "$python" -m pytest -q -m gpu tests/test_gpu.py
part peers 400 "$python" benchmarks/peers.py --rounds 3 --seconds 380
part throughput 600 "$python" benchmarks/throughput.py
part guidance_cost 300 "$python" benchmarks/guidance_cost.py --priors lorenz63 kolmogorov kolmogorov64
part replay 120 "$python" benchmarks/replay.py
part experiments 600 bash -c 'experiments assimilation extrapolation saturation circle loop \
    every_2 every_4 every_8 every_16'
part operators 1800 "$python" benchmarks/operators.py --samples 1024 --presets default
part posterior 1800 "$python" benchmarks/posterior.py --observations 64 --samples 1024
part train 900 bash -c 'train configs/kolmogorov_64.py kolmogorov64 22000'
