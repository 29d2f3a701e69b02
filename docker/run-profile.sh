#!/bin/sh
# serve [FLAG…]   starts a server with the settings of $PROFILE, a vLLM profile; flags are passed to `vllm serve`
# answer          answers the prompts on standard input, one a line; $PROFILE is that of a Hugging Face pipeline
# anything else   runs infertune: tune MODEL, doctor, profile list …
set -eu
case "${1:-}" in
serve)
    shift
    infertune profile export "$PROFILE" --as vllm-yaml --out /tmp/serve.yaml >&2
    # By default vLLM takes 92% of a CPU machine's memory. The export of a CPU profile says in a comment how much to set.
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
