#!/usr/bin/env bash
# run_all.sh [--list | --dry-run] [--within SECONDS] STAGE...
#
# Evidence from a real NVIDIA GPU, in stages that each fit one command of ten minutes and go on where they were ended.
# See README.md beside this file. It reads the card's settings and changes none.
#
#   --list      the stages, with what each costs
#   --dry-run   print the commands of the stages, run nothing
#   --within    seconds for all the stages of this call (570); what does not fit is ended cleanly and resumed by the next
#
# OUT   folder for what comes back: results.tar.gz, logs.tar.gz, log.txt, summary.txt
# WORK  folder where runs are made (/tmp/infertune-gpu); kept between calls on one machine
# PACKS folder with vllm/1, inf/1 and the trace (.gpu in the repository)
# shellcheck disable=SC2329  # stages are called by their names
set -uo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=${WORK:-/tmp/infertune-gpu}
PACKS=${PACKS:-$REPO/.gpu}
TRACE=trace:data/azure_llm_code_2023.csv
PACKING_S=15
within_s=570
dry_run=

# name | minutes | what it shows
STAGES='
smoke              |  2 | what is installed, one vLLM launch without and one with CUDA graphs: kernel faults before anything else
tests              |  3 | the gpu tests of device, energy, and pipelines: isolation, a CUDA OOM survived in place
tests-vllm         |  5 | the gpu tests of vLLM: nothing left behind, OOM classified
vllm-qwen-tune     |  8 | a tune of Qwen2.5-0.5B shapes in vLLM on the Azure code trace
vllm-llama-tune    | 13 | the same for Llama-3.1-8B (two calls)
vllm-llama-grid    |  7 | landscape of max_num_seqs x max_num_batched_tokens, two rounds
vllm-live-fresh    |  9 | a lowered live value against a fresh launch at that value
hf-qwen-tune       |  8 | a tune of Qwen2.5-0.5B shapes in a pipeline
hf-llama-tune      |  8 | the same for Llama-3.1-8B
hf-qwen-grid       |  7 | landscape of batch size x attention x dtype, two rounds
hf-llama-grid      |  5 | the same for Llama-3.1-8B
'

# Launch knobs that stay at their defaults: every other value of one costs a launch of 30 to 60 s.
VLLM_HELD=(--set enforce_eager=false --set enable_chunked_prefill=true --set long_prefill_token_threshold=0
  --set performance_mode=balanced --set gpu_memory_utilization=0.92)
VLLM_GRID_HELD=("${VLLM_HELD[@]}" --set block_size=16 --set kv_cache_dtype=auto --set enable_prefix_caching=true
  --set async_scheduling=true)
# What a first tune may spend: one finalist, three pairs of launches at the end.
ONE_FINALIST=(--finalists 1 --final-launches 3 3)

stage_smoke() {
  local qwen=(bench builtin:qwen2.5-0.5b --engine vllm --workload "synthetic:in=256,out=64" --requests 128
    --launches 1 1)
  [ -n "$dry_run" ] || rm -rf "$WORK/smoke"
  one infertune doctor &&
    one infertune space builtin:llama-3.1-8b --engine vllm &&
    one infertune "${qwen[@]}" --set enforce_eager=true --load-timeout 3m --out smoke/eager &&
    one infertune "${qwen[@]}" --load-timeout 4m --out smoke/graphs
}

stage_tests() {
  one env -C "$REPO" python3 -m pytest -q -p no:cacheprovider -rA -m "gpu and not vllm" tests/gpu
}

stage_tests-vllm() {
  one env -C "$REPO" python3 -m pytest -q -p no:cacheprovider -rA -m "gpu and vllm" tests/gpu
}

stage_vllm-qwen-tune() {
  run tune vllm-qwen2.5-0.5b builtin:qwen2.5-0.5b --engine vllm --workload "$TRACE" --requests 512 \
    "${VLLM_HELD[@]}" --set block_size=16 --trials 14 --budget 7m "${ONE_FINALIST[@]}"
}

stage_vllm-llama-tune() {
  run tune vllm-llama-3.1-8b builtin:llama-3.1-8b --engine vllm --workload "$TRACE" --requests 96 \
    "${VLLM_HELD[@]}" --set block_size=16 --set enable_prefix_caching=true --trials 10 --budget 11m "${ONE_FINALIST[@]}"
}

stage_vllm-llama-grid() {
  run landscape vllm-llama-3.1-8b-landscape builtin:llama-3.1-8b --engine vllm --workload synthetic:in=256,out=128 \
    --requests 256 --knob max_num_seqs=16,64,256 --knob max_num_batched_tokens=1024,4096,16384 \
    "${VLLM_GRID_HELD[@]}" --repeats 2
}

stage_vllm-live-fresh() {
  one python3 -m tests.benchmarks.live_against_fresh vllm builtin:qwen2.5-0.5b --knob max_num_seqs=16,128,1024 \
    --workload synthetic:in=256,out=64 --requests 512 --rounds 3 --out "reports/$(prefix)-vllm-live-against-fresh"
}

# A pipeline's job is sized by batch size 1, its default: --requests says how many instead, and is given everywhere.
stage_hf-qwen-tune() {
  run tune hf-qwen2.5-0.5b builtin:qwen2.5-0.5b --engine hf --workload synthetic:in=64-512,out=32 --requests 64 \
    --knob batch_size=1,2,4,8,16,32,64 --set dtype=bfloat16 --trials 12 --budget 8m "${ONE_FINALIST[@]}"
}

stage_hf-llama-tune() {
  run tune hf-llama-3.1-8b builtin:llama-3.1-8b --engine hf --workload synthetic:in=64-512,out=32 --requests 32 \
    --knob batch_size=1,2,4,8,16,32 --set dtype=bfloat16 --trials 12 --budget 8m "${ONE_FINALIST[@]}"
}

HF_GRID=(--knob "attn_implementation=sdpa,eager" --knob "dtype=bfloat16,float16" --set request_order=by_length
  --set cache_implementation=dynamic --set disable_compile=false --repeats 2)

stage_hf-qwen-grid() {
  run landscape hf-qwen2.5-0.5b-landscape builtin:qwen2.5-0.5b --engine hf --workload synthetic:in=64-512,out=32 \
    --requests 256 --knob batch_size=8,32,128,256 "${HF_GRID[@]}"
}

stage_hf-llama-grid() {
  run landscape hf-llama-3.1-8b-landscape builtin:llama-3.1-8b --engine hf --workload synthetic:in=64-512,out=32 \
    --requests 256 --knob batch_size=16,64,256 "${HF_GRID[@]}"
}

left_s() { echo $((within_s - PACKING_S - SECONDS)); }

say() { printf '%s\n' "$*" | tee -a "$LOG"; }

# What runs are called: their first day on this machine, and the device.
prefix() {
  if [ -n "$dry_run" ]; then echo DATE-GPU; else cat "$WORK/prefix"; fi
}

# One command, in WORK, ended when time is up; its exit status.
one() {
  local words=("$@") left code
  [ "$1" = infertune ] && words=(python3 -m "$@")
  if [ -n "$dry_run" ]; then
    printf '%q ' "${words[@]}"; echo
    return 0
  fi
  left=$(left_s)
  if [ "$left" -lt 20 ]; then
    say "== no time left for: ${words[*]}"
    return 124
  fi
  say "== $(date +%T) $left s left: ${words[*]}"
  # infertune takes SIGTERM as Ctrl-C: its engine is gone and its ledger whole.
  (cd "$WORK" && timeout --kill-after=20 "$left" "${words[@]}") 2>&1 | tee -a "$LOG"
  code=${PIPESTATUS[0]}
  say "== exit status $code"
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

# What is missing on a bare machine; nothing where it is there already.
prepare() {
  local pack target
  mkdir -p "$WORK/data" "$WORK/reports" "$WORK/profiles"
  for pack in vllm:/tmp/site inf:/tmp/site_inf; do
    target=${pack#*:}; pack=$PACKS/${pack%%:*}/1
    if [ -d "$target" ] || [ ! -f "$pack/assemble.py" ]; then continue; fi
    python3 "$pack/assemble.py" "$pack" "$target" || return 1
  done
  if [ -f "$PACKS/azure_llm_code_2023.csv" ]; then cp "$PACKS/azure_llm_code_2023.csv" "$WORK/data/"; fi
  if [ -f "$PACKS/results.tar.gz" ] && [ ! -e "$WORK/prefix" ]; then tar -xzf "$PACKS/results.tar.gz" -C "$WORK"; fi
  export PYTHONPATH=$REPO:/tmp/site:/tmp/site_inf${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
  # The packed vLLM has neither flashinfer nor DeepGEMM's headers, and the machine no network.
  export VLLM_USE_FLASHINFER_SAMPLER=0 VLLM_USE_DEEP_GEMM=0 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
  export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_CACHE_ROOT=${VLLM_CACHE_ROOT:-/tmp/vllm_cache} COLUMNS=160
  if [ ! -s "$WORK/prefix" ]; then
    slug=$(cd "$WORK" && python3 -c 'from infertune.domain.device import detect; print(detect().slug)') || return 1
    echo "$(date -u +%F)-$slug" >"$WORK/prefix"
  fi
}

# Everything so far, in as few files as may come back.
pack() {
  tar -czf "$OUT/results.tar.gz" -C "$WORK" --exclude='logs' prefix reports profiles
  (cd "$WORK" && find . -path '*/logs/*' -print0 | tar -czf "$OUT/logs.tar.gz" --null -T -)
}

known() { awk -F'|' 'NF == 3 { gsub(/ /, "", $1); print $1 }' <<<"$STAGES"; }

wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --list) sed '/^$/d' <<<"$STAGES"; exit 0 ;;
    --dry-run) dry_run=1 ;;
    --within) within_s=${2:?--within needs seconds}; shift ;;
    -*) echo "run_all.sh: there is no option $1; see --list, --dry-run, --within SECONDS" >&2; exit 2 ;;
    *)
      if ! known | grep -qx -- "$1"; then
        echo "run_all.sh: there is no stage $1; there are: $(known | tr '\n' ' ')" >&2
        exit 2
      fi
      wanted+=("$1")
      ;;
  esac
  shift
done
if [ ${#wanted[@]} -eq 0 ]; then
  echo "run_all.sh: name stages; there are: $(known | tr '\n' ' ')" >&2
  exit 2
fi
if [ -n "$dry_run" ]; then
  for stage in "${wanted[@]}"; do echo "# $stage"; "stage_$stage"; done
  exit 0
fi

: "${OUT:?set OUT to the folder for what comes back}"
mkdir -p "$OUT" "$WORK"
LOG=$OUT/log.txt
failed=0
prepare || { say "== the machine could not be prepared"; exit 5; }
for stage in "${wanted[@]}"; do
  started=$SECONDS
  "stage_$stage"
  code=$?
  pack
  say "$(printf 'stage %-16s exit status %3d, %4d s' "$stage" "$code" $((SECONDS - started)))" | tee -a "$OUT/summary.txt"
  [ "$code" -ne 0 ] && failed=1
done
exit "$failed"
