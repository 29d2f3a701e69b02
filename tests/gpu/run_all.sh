#!/usr/bin/env bash
# run_all.sh [--list | --dry-run] [--rehearse] [--within SECONDS] [--skip STAGE]... [STAGE...]
#
# Evidence from a real NVIDIA GPU, in one command of at most eight minutes. Without STAGE: every stage that is not done
# yet, in the order of --list, if enough time is left for it. See README.md beside this file. It reads the card's
# settings and changes none.
#
#   --list      the stages: seconds that each is expected to take, least seconds to begin it, what it shows
#   --dry-run   print the commands of the stages, run nothing
#   --rehearse  the same stages with builtin:tiny on this machine's processor
#   --within    seconds for all stages of this call, unpacking included (480)
#   --skip      leave a stage out; repeatable
#
# OUT      folder for what comes back: results.tar.gz, logs.tar.gz, log.txt, summary.txt, table.md
# WORK     folder where runs are made (/tmp/infertune-gpu); the next call on the same machine goes on there
# PACKS    folder with vllm/1 and inf/1 to unpack, and results.tar.gz of an earlier call (.gpu in the repository)
# TRACE    a CSV trace of requests (PACKS/azure_llm_code_2023.csv)
# WEIGHTS  folder of a trained model for the stage `quality`, which is skipped without it (PACKS/weights)
# PYTHON   interpreter with torch and transformers (python3)
# shellcheck disable=SC2329  # stages are called by their names
set -uo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PACKS=${PACKS:-$REPO/.gpu}
WEIGHTS=${WEIGHTS:-$PACKS/weights}
PYTHON=${PYTHON:-python3}
LEAST_S=10  # a command is not begun with less
within_s=480
dry_run=
rehearse=
stage_end_s=0
slack=3  # a stage may take half as long again as expected

# name | seconds expected | least seconds to begin | what it shows
STAGES='
device          |  45 |  15 | the device by UUID, memory of other processes; NVML counter against integrated power
meters          |  55 |  25 | throughput with the energy meters on against off
hf-grid         |  60 |  30 | pipelines: landscape of batch size x attention for Qwen2.5-0.5B
hf-oom          |  40 |  25 | pipelines: a CUDA out of memory is survived without a relaunch
vllm-qwen-tune  | 220 | 120 | vLLM: Qwen2.5-0.5B tuned on the trace, with energy and proof; launch times
vllm-llama-tune | 270 | 150 | vLLM: the same for Llama-3.1-8B
hf-tune         | 110 |  70 | pipelines: a tune of 8 trials with energy and proof
vllm-live-fresh | 140 |  80 | vLLM: three lowered live values against a fresh launch at each
quality         |  60 |  30 | the quality guard on a trained model: its noise floor, and the loss of an fp8 KV cache
'

# What the rehearsal replaces. Jobs are short: a window of 1 to 5 s on a GPU. A job is sized by the slowest
# configuration unless its requests are given, so they are given everywhere.
sizes() {
  if [ -n "$rehearse" ]; then
    WORK=${WORK:-/tmp/infertune-rehearsal}
    slack=20  # processors are slower, and busier
    SMALL=builtin:tiny LARGE=builtin:tiny VLLM_REQUESTS=16 LARGE_REQUESTS=8 WAIT=(--wait)
    METER_PAIRS=2 METER_WORK=synthetic:in=16,out=4
    HF_WORK=synthetic:in=16-32,out=4 HF_REQUESTS=16 HF_BATCHES=1,4,16 HF_GRID=4,16
    HF_HELD=(--set dtype=bfloat16 --set cache_implementation=dynamic)
    VLLM_HELD=(--set enforce_eager=true --set enable_prefix_caching=true --set enable_chunked_prefill=true
      --set dtype=bfloat16)
    LIVE=4,16,64 LIVE_WORK=synthetic:in=32,out=8 LIVE_REQUESTS=32
    export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1}
    return
  fi
  WORK=${WORK:-/tmp/infertune-gpu}
  SMALL=builtin:qwen2.5-0.5b LARGE=builtin:llama-3.1-8b VLLM_REQUESTS=192 LARGE_REQUESTS=96 WAIT=()
  METER_PAIRS=6 METER_WORK=synthetic:in=64-128,out=32
  HF_WORK=synthetic:in=64-256,out=16 HF_REQUESTS=16 HF_BATCHES=1,2,4,8,16 HF_GRID=8,32,64
  HF_HELD=(--set dtype=bfloat16 --set cache_implementation=dynamic --set disable_compile=false)
  # Every launch knob at vLLM's default: another value costs a launch of half a minute. attention_backend=none is
  # vLLM's own choice; its choice on Hopper, FlashAttention 3, is what the pack has kernels for.
  VLLM_HELD=(--set enforce_eager=false --set enable_chunked_prefill=true --set enable_prefix_caching=true
    --set long_prefill_token_threshold=0 --set performance_mode=balanced --set gpu_memory_utilization=0.92
    --set block_size=16 --set kv_cache_dtype=auto --set async_scheduling=true --set attention_backend=none
    --set optimization_level=2 --set compilation_config.cudagraph_mode=FULL_AND_PIECEWISE
    --set max_cudagraph_capture_size=512 --set quantization=none)
  LIVE=16,128,1024 LIVE_WORK=synthetic:in=256,out=64 LIVE_REQUESTS=256
}

# A sequential proof with errors of 5%, of one finalist: two launches of each side if they settle it.
PROOF=(--trust quick --finalists 1)

stage_device() {
  local asked
  # vLLM's answer about a model and its arguments is remembered, so that no later stage waits for it.
  if [ -z "$dry_run" ]; then
    for asked in "$SMALL" "$LARGE"; do ask_vllm "$asked" & done
  fi
  one infertune doctor
  local code=$?
  [ -n "$dry_run" ] || wait
  one env -C "$REPO" "$PYTHON" -m pytest -q -p no:cacheprovider -rA -m gpu tests/gpu/test_device.py tests/gpu/test_energy.py &&
    return "$code"
}

stage_meters() {
  one "$PYTHON" -m tests.benchmarks.meter hf --pairs "$METER_PAIRS" --requests 16 --workload "$METER_WORK"
}

stage_hf-grid() {
  run landscape hf-qwen2.5-0.5b-landscape "$SMALL" --engine hf --workload "$HF_WORK" --requests 64 \
    --knob "batch_size=$HF_GRID" --knob attn_implementation=sdpa,eager --set request_order=by_length \
    "${HF_HELD[@]}" "${THREADS[@]}" "${WAIT[@]}" --repeats 2
}

stage_hf-oom() {
  one env -C "$REPO" "$PYTHON" -m pytest -q -p no:cacheprovider -rA -m hf tests/gpu/test_oom.py
}

stage_hf-tune() {
  run tune hf-qwen2.5-0.5b "$SMALL" --engine hf --workload "$HF_WORK" --requests "$HF_REQUESTS" \
    --knob "batch_size=$HF_BATCHES" "${HF_HELD[@]}" "${THREADS[@]}" --trials 8 --budget 60s "${PROOF[@]}" "${WAIT[@]}"
}

stage_vllm-qwen-tune() {
  run tune vllm-qwen2.5-0.5b "$SMALL" --engine vllm --workload "$TRACE_WORK" --requests "$VLLM_REQUESTS" \
    "${VLLM_HELD[@]}" --trials 8 --budget 2m "${PROOF[@]}" "${WAIT[@]}"
  local code=$?
  [ "$code" -eq 5 ] || return "$code"
  say "== the engine failed: without compiling and CUDA graphs? That tells faulty kernels from a fault in compiling."
  one infertune bench "$SMALL" --engine vllm --workload synthetic:in=256,out=64 --requests 64 --launches 1 1 \
    --set enforce_eager=true --load-timeout 90s --out "reports/$(prefix)-vllm-eager"
  return "$code"
}

stage_vllm-llama-tune() {
  run tune vllm-llama-3.1-8b "$LARGE" --engine vllm --workload "$TRACE_WORK" --requests "$LARGE_REQUESTS" \
    "${VLLM_HELD[@]}" --trials 8 --budget 150s "${PROOF[@]}" "${WAIT[@]}"
}

stage_vllm-live-fresh() {
  one "$PYTHON" -m tests.benchmarks.live_against_fresh vllm "$SMALL" --knob "max_num_seqs=$LIVE" \
    --workload "$LIVE_WORK" --requests "$LIVE_REQUESTS" "${VLLM_HELD[@]}" --rounds 1 \
    --out "reports/$(prefix)-vllm-live-against-fresh"
}

stage_quality() {
  if [ -z "$dry_run" ] && [ ! -f "$WEIGHTS/config.json" ]; then
    say "== skipped: no trained model in WEIGHTS=$WEIGHTS"
    return 0
  fi
  # Exit status 1 and 3 are answers too: the change loses quality, or that was not decided.
  one infertune check "$WEIGHTS" --engine vllm --set kv_cache_dtype=fp8 --out "reports/$(prefix)-vllm-check"
  local code=$?
  case $code in 1 | 3) return 0 ;; *) return "$code" ;; esac
}

# The space of a model with what the tunes hold, into a log; where this vLLM refuses that, the log says which argument.
ask_vllm() {
  local log=$WORK/space-${1#builtin:}
  (cd "$WORK" && timeout 120 "$PYTHON" -m infertune space "$1" --engine vllm "${VLLM_HELD[@]}") >"$log.log" 2>&1 &&
    : >"$log.ok"
}

# If vLLM refused what is to be held, its own answer says what there is: every launch knob at its default.
hold_what_there_is() {
  local log=$WORK/space-${SMALL#builtin:} found
  if [ -e "$log.ok" ]; then return; fi
  ask_vllm "$SMALL"
  case $? in 0) return ;; 2) ;; *) say "== vLLM did not answer: $(tail -n 1 "$log.log")"; return ;; esac
  say "== vLLM does not take the held settings: $(tail -n 1 "$log.log")"
  found=$(cd "$WORK" && timeout 120 "$PYTHON" -m infertune space "$SMALL" --engine vllm --json | "$PYTHON" -c '
import json, sys
for knob in json.load(sys.stdin)["knobs"]:
    if knob["scope"] == "launch" and len(knob["values"]) > 1:
        value = knob["default"]
        print(knob["name"], value if isinstance(value, str) else json.dumps(value), sep="=")') || return
  VLLM_HELD=()
  while IFS= read -r setting; do VLLM_HELD+=(--set "$setting"); done <<<"$found"
  say "== held instead: ${VLLM_HELD[*]}"
}

least() { [ "$1" -lt "$2" ] && echo "$1" || echo "$2"; }
left_s() { least $((within_s - SECONDS)) $((stage_end_s - SECONDS)); }
field() { awk -F'|' -v name="$1" -v n="$2" '{ gsub(/ /, "", $1) } $1 == name { gsub(/ /, "", $n); print $n }' <<<"$STAGES"; }
say() { printf '%s\n' "$*" | tee -a "$LOG"; }

# What runs are called: their first day on this machine, and the device.
prefix() {
  if [ -n "$dry_run" ]; then echo DATE-GPU; else cat "$WORK/prefix"; fi
}

# One command, in WORK, ended when time is up; its exit status. What there is so far is then in OUT.
one() {
  local words=("$@") left code
  [ "$1" = infertune ] && words=("$PYTHON" -m "$@")
  if [ -n "$dry_run" ]; then
    printf '%q ' "${words[@]}"; echo
    return 0
  fi
  left=$(left_s)
  if [ "$left" -lt "$LEAST_S" ]; then
    say "== no time left for: ${words[*]}"
    return 124
  fi
  say "== $(date +%T) $left s left: ${words[*]}"
  # infertune takes SIGTERM as Ctrl-C: its engine is gone and its ledger whole.
  (cd "$WORK" && timeout --kill-after=15 "$left" "${words[@]}") 2>&1 | tee -a "$LOG"
  code=${PIPESTATUS[0]}
  say "== exit status $code"
  pack
  return "$code"
}

# run COMMAND NAME ARGUMENT...: a run of infertune under reports/, or the rest of it.
run() {
  local command=$1 folder code earlier
  folder=reports/$(prefix)-$2
  shift 2
  if [ -s "$WORK/$folder/trials.jsonl" ] && [ -z "$dry_run" ]; then
    one infertune "$command" --resume "$folder"
    code=$?
    [ "$code" -ne 4 ] && return "$code"
    earlier=$folder-until-$(date +%H%M%S)
    say "== another board, version or model: the earlier run is kept as $earlier, and a new one made"
    mv "$WORK/$folder" "$WORK/$earlier"
  fi
  local new=("$command" "$@" --out "$folder")
  [ "$command" = tune ] && new+=(--profiles profiles)
  one infertune "${new[@]}"
}

# Containers have the driver's programs and libraries in a folder that need not be searched.
find_driver() {
  local library
  command -v nvidia-smi >/dev/null || PATH=$PATH:/usr/local/nvidia/bin
  if "$PYTHON" -c 'import ctypes; ctypes.CDLL("libcuda.so.1"); ctypes.CDLL("libnvidia-ml.so.1")' 2>/dev/null; then return; fi
  library=$(find /usr/local/nvidia /usr/lib /usr/lib64 -name libnvidia-ml.so.1 -print -quit 2>/dev/null)
  if [ -n "$library" ]; then export LD_LIBRARY_PATH=$(dirname "$library")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; fi
}

# A part, and the bytecode of its modules, without which some may do.
unpack() {
  "$PYTHON" "$1/assemble.py" "$1" "$2" || return 1
  "$PYTHON" -m compileall -q -j 0 "$2" >/dev/null || true
}

# What is missing on a bare machine; nothing where it is there already.
prepare() {
  local pack target slug pids=() pid
  mkdir -p "$WORK/data" "$WORK/reports" "$WORK/profiles"
  # The packed vLLM has neither flashinfer nor DeepGEMM's headers, and the machine no network.
  export VLLM_USE_FLASHINFER_SAMPLER=0 VLLM_USE_DEEP_GEMM=0 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
  export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_CACHE_ROOT=${VLLM_CACHE_ROOT:-$WORK/vllm-cache} COLUMNS=160
  # Bytecode is kept, but outside the repository: without it every process would compile vLLM's sources anew.
  export PYTHONPYCACHEPREFIX=$WORK/bytecode PYTHONUNBUFFERED=1
  if [ -z "$rehearse" ]; then
    find_driver
    for pack in vllm:/tmp/site inf:/tmp/site_inf; do
      target=${pack#*:}; pack=$PACKS/${pack%%:*}/1
      if [ -d "$target" ] || [ ! -f "$pack/assemble.py" ]; then continue; fi
      unpack "$pack" "$target" &
      pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || return 1; done
    export PYTHONPATH=$REPO:/tmp/site:/tmp/site_inf${PYTHONPATH:+:$PYTHONPATH}
  else
    export PYTHONPATH=$REPO${PYTHONPATH:+:$PYTHONPATH}
  fi
  if [ -f "$TRACE" ]; then cp "$TRACE" "$WORK/data/"; fi
  if [ -f "$PACKS/results.tar.gz" ] && [ ! -e "$WORK/prefix" ]; then tar -xzf "$PACKS/results.tar.gz" -C "$WORK"; fi
  slug=$(cd "$WORK" && "$PYTHON" -c 'from infertune.domain.device import detect; print(detect().slug)') || return 1
  if [[ -z $rehearse && $slug == cpu-* ]]; then
    say "== no GPU is visible: $(nvidia-smi -L 2>&1 | head -n 1); --rehearse runs the stages on the processor"
    return 1
  fi
  if [ ! -s "$WORK/prefix" ] || [[ $(cat "$WORK/prefix") != ????-??-??-$slug ]]; then
    echo "$(date -u +%F)-$slug" >"$WORK/prefix"
    : >"$WORK/done"  # on another device everything is to be measured anew
  fi
  touch "$WORK/done"
}

# Everything so far, in as few files as may come back; each appears whole.
pack() {
  local runs
  mapfile -t runs < <(cd "$WORK" && compgen -G 'reports/*/trials.jsonl' | sed 's|/trials.jsonl$||')
  if [ ${#runs[@]} -gt 0 ]; then
    (cd "$WORK" && "$PYTHON" -m tests.gpu.table "${runs[@]}") >"$OUT/.table.md" 2>>"$LOG" && mv "$OUT/.table.md" "$OUT/table.md"
  fi
  rm -f "$OUT/.table.md"
  tar -czf "$WORK/.packed" -C "$WORK" --exclude=logs --exclude=report.html prefix done reports profiles && mv "$WORK/.packed" "$OUT/results.tar.gz"
  (cd "$WORK" && find . -maxdepth 5 \( -path './reports/*/logs/*' -o -name 'space-*.log' \) -type f -print0 |
    tar -czf .packed --null -T - && mv .packed "$OUT/logs.tar.gz")
}

known() { awk -F'|' 'NF == 4 { gsub(/ /, "", $1); print $1 }' <<<"$STAGES"; }

check_stage() {
  if known | grep -qx -- "$1"; then return; fi
  echo "run_all.sh: there is no stage $1; there are: $(known | tr '\n' ' ')" >&2
  exit 2
}

wanted=() skipped=()
while [ $# -gt 0 ]; do
  case $1 in
    --list) sed '/^$/d' <<<"$STAGES"; exit 0 ;;
    --dry-run) dry_run=1 ;;
    --rehearse) rehearse=1 ;;
    --within) within_s=${2-}; shift
      if ! [[ $within_s =~ ^[1-9][0-9]*$ ]]; then
        echo "run_all.sh: --within takes whole seconds, such as 480" >&2
        exit 2
      fi ;;
    --skip) check_stage "${2-}"; skipped+=("$2"); shift ;;
    -*) echo "run_all.sh: there is no option $1; see --list, --dry-run, --rehearse, --within SECONDS, --skip STAGE" >&2; exit 2 ;;
    *) check_stage "$1"; wanted+=("$1") ;;
  esac
  shift
done
named=${#wanted[@]}
[ "$named" -gt 0 ] || mapfile -t wanted < <(known)

sizes
TRACE=${TRACE:-$PACKS/azure_llm_code_2023.csv}
TRACE_WORK=trace:data/$(basename "$TRACE")
THREADS=()
if [ -n "$rehearse" ]; then
  THREADS=(--set threads=1)
  if [ ! -f "$TRACE" ]; then TRACE_WORK=synthetic:in=32-64,out=8; fi
fi

if [ -n "$dry_run" ]; then
  for stage in "${wanted[@]}"; do echo "# $stage"; "stage_$stage"; done
  exit 0
fi

: "${OUT:?set OUT to the folder for what comes back}"
mkdir -p "$OUT" "$WORK"
OUT=$(cd "$OUT" && pwd)
LOG=$OUT/log.txt
failed=0
prepare || { say "== the machine could not be prepared"; exit 5; }
say "prepared in $SECONDS s"
note() { say "$(printf 'stage %-16s %s' "$1" "$2")" | tee -a "$OUT/summary.txt"; }
for stage in "${wanted[@]}"; do
  if [[ " ${skipped[*]} " == *" $stage "* ]]; then note "$stage" "skipped as asked"; continue; fi
  if [ "$named" -eq 0 ] && grep -qx -- "$stage" "$WORK/done"; then note "$stage" "was done by an earlier call"; continue; fi
  started=$SECONDS
  stage_end_s=$((started + $(field "$stage" 2) * slack / 2 + 20))
  if [ $((within_s - SECONDS)) -lt "$(field "$stage" 3)" ]; then
    note "$stage" "not begun: $((within_s - SECONDS)) s left, it takes at least $(field "$stage" 3)"
    failed=1
    continue
  fi
  [[ $stage == vllm-* ]] && hold_what_there_is
  "stage_$stage"
  code=$?
  [ "$code" -eq 0 ] || failed=1
  case $code in 124 | 130 | 137 | 143) ;; *) echo "$stage" >>"$WORK/done" ;; esac  # a stage that was ended goes on in the next call
  note "$stage" "$(printf 'exit status %3d, %4d s' "$code" $((SECONDS - started)))"
  pack
done
say "all in $SECONDS s"
if [ -f "$OUT/table.md" ]; then say "$(cat "$OUT/table.md")"; fi
exit "$failed"
