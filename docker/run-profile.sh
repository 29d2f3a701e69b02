#!/bin/sh
# serve [FLAG…]   a server with the settings of $PROFILE, which is a vLLM profile; flags go to `vllm serve`
# answer          answers to the prompts on standard input, one a line; $PROFILE is one of a Hugging Face pipeline
# anything else   infertune itself: tune MODEL, doctor, profile list …
set -eu
case "${1:-}" in
serve)
    shift
    infertune profile export "$PROFILE" --as vllm-yaml --out /tmp/serve.yaml >&2
    # Told nothing, vLLM wants 92% of a CPU's memory: the export of a CPU's profile says how much to take instead.
    space=$(sed -n 's/^# export VLLM_CPU_KVCACHE_SPACE=\([0-9]*\)$/\1/p' /tmp/serve.yaml)
    if [ -n "$space" ]; then
        export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-$space}"
    fi
    exec vllm serve --config /tmp/serve.yaml --host 0.0.0.0 "$@"
    ;;
answer)
    infertune profile export "$PROFILE" --as python --out /tmp/answer.py >&2
    exec python3 /tmp/answer.py
    ;;
*)
    exec infertune "$@"
    ;;
esac
