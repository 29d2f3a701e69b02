"""How `llama-server` and ggml say that memory is out, and that a setting cannot be: read here and nowhere else.

What a server wrote before it ended stands in `Failure.trace_tail`, the log of the launch. Seen with build 11434.
"""

import re

from infertune.domain.measurement import Infeasible
from infertune.engines.base import Failure, first_line

_MEMORY = re.compile(
    r"out of memory|cudaMalloc failed|CUDA error: out of memory|ErrorOutOfDeviceMemory|std::bad_alloc"
    r"|failed to allocate (buffer|compute|CPU|KV|.{0,40}buffer)|unable to allocate .{0,60}buffer"
    r"|ggml_\w+alloc\w*: .{0,80}(failed|insufficient memory)|Cannot allocate memory|failed to mlock"
    r"|failed to find (free )?space in the KV cache|Context size has been exceeded",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"error: invalid argument|error while handling argument|unknown (cache|KV cache) type|Unsupported cache type"
    r"|(quantized )?V cache .{0,40}requires? .{0,20}flash|requires flash[_ ]attn|n_ubatch .{0,40}n_batch"
    r"|flash_attn .{0,60}not supported|is not supported|unsupported .{0,60}(type|mode|option)|invalid value for",
    re.IGNORECASE,
)


def infeasible(failure: Failure) -> Infeasible | None:
    """Out of memory at any stage, a refused setting while loading; None for everything else."""
    lines = f"{failure.message}\n{failure.trace_tail}".splitlines()
    for pattern, reason in ((_MEMORY, "oom"), (_REFUSED, "rejected")):
        if reason == "rejected" and failure.stage != "load":
            continue
        if found := next((line for line in lines if pattern.search(line)), None):
            return Infeasible.model_validate({"reason": reason, "stage": failure.stage, "detail": first_line(found)})
    return None
