"""The knobs of `llama-server`, what memory and the workload allow of them, and what other arguments do to answers."""

import math
from collections.abc import Mapping

import psutil

from infertune.domain.device import Device
from infertune.domain.knobs import Choice, Constraint, Effect, Int, Knob, Scalar, SearchSpace, doubling
from infertune.domain.models import Model
from infertune.domain.workload import Request, Workload
from infertune.engines.serving.arguments import Flag
from infertune.engines.shell import names_in
from infertune.errors import DoesNotFitError
from infertune.units import format_bytes

DEFAULT_SLOTS = 4  # what `--parallel` auto means, with one KV cache for all of them
_DEFAULT_BATCH, _DEFAULT_UBATCH = 2048, 512
CTX_STEP = 256  # tokens to which llama.cpp rounds a context up
_USABLE_MEMORY = 0.9  # the rest is for compute buffers and the system (judgement)
_BYTES_PER_TEXT_TOKEN = 3  # English and code have 3 to 4; a byte-level tokenizer has 1
# Bytes of one element, by block formats of ggml: q8_0 keeps 32 in 34 bytes, q4_0 in 18.
CACHE_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
CURATED = (
    "parallel", "kv_unified", "threads", "threads_batch", "batch_size", "ubatch_size", "flash_attn", "cache_type_k",
    "cache_type_v", "ctx_size", "gpu_layers", "load_mode", "mlock", "mmap",
)  # fmt: skip
# What other values of an argument do to answers; everything that is not here counts as lossy.
_EXACT = names_in("""
    cache_ram cache_reuse cache_idle_slots cache_prompt check_tensors checkpoint_min_step cont_batching cpu_mask
    cpu_mask_batch cpu_range cpu_range_batch cpu_strict cpu_strict_batch ctx_checkpoints defrag_thold direct_io fit
    fit_ctx fit_target kv_offload kv_unified_per_slot lazy_mode no_host numa offline poll poll_batch prio
    prio_batch slot_prompt_similarity sse_ping_interval swa_full threads_http timeout warmup
""")
_NUMERIC = names_in("""
    backend_sampling cpu_moe device main_gpu n_cpu_ffn n_cpu_moe op_offload repack spec_default spec_draft_n_max
    spec_draft_n_min spec_draft_p_min spec_draft_p_split spec_ngram_map_k4v_min_hits spec_ngram_map_k4v_size_m
    spec_ngram_map_k4v_size_n spec_ngram_map_k_min_hits spec_ngram_map_k_size_m spec_ngram_map_k_size_n
    spec_ngram_mod_n_match spec_ngram_mod_n_max spec_ngram_mod_n_min spec_ngram_simple_min_hits
    spec_ngram_simple_size_m spec_ngram_simple_size_n spec_type split_mode tensor_split
""")


def effect_of(name: str) -> Effect:
    """What other values of an argument without a curated knob do to answers, as far as it is known."""
    return "exact" if name in _EXACT else "numeric" if name in _NUMERIC else "lossy"


def is_harmless(name: str) -> bool:
    """Whether an argument says only how this model is computed: it can load no code, no file and no address."""
    return name in CURATED or name in _EXACT | _NUMERIC


def server_space(
    model: Model, device: Device, workload: Workload, flags: Mapping[str, Flag], *, layers: int | None
) -> SearchSpace:
    """The knobs of a server for a model on a device, as far as the installed version has them.

    Args:
        model: What is loaded.
        device: Where; on a GPU the build can use it.
        workload: Its longest request decides how much context a slot needs.
        flags: What the installed version takes.
        layers: Of the model; None where its file does not say.

    Raises:
        DoesNotFitError: Not even one slot fits the memory.
    """
    need = MemoryNeed(model, device, workload)
    need.check_smallest()
    context = ctx_size(model, workload)
    knobs = [
        *_scheduling(device, context, need),
        *(_threads(device) if device.kind == "cpu" else _gpu_layers(layers)),
        *_computing(),
        *_loading(flags),
    ]
    known = [knob for knob in knobs if knob.name in flags]
    notes = [f"{knob.name}: left out, this llama-server has no such argument" for knob in knobs if knob not in known]
    if model.context_tokens is not None and context > model.context_tokens:
        notes.append(
            f"ctx_size rests at {context} tokens: the {model.context_tokens} of the model hold no {DEFAULT_SLOTS} "
            "requests of this workload at once, and llama-server would let some of them fail"
        )
    notes.append("--cache-ram is 0 in every launch: prompts of an earlier job must not answer a later one")
    return with_rules(SearchSpace(knobs=tuple(known), notes=(*notes, *device.notes)), need)


def with_rules(space: SearchSpace, need: "MemoryNeed") -> SearchSpace:
    """A space with the rules between those of its knobs that have any."""
    rules = []
    if "parallel" in space and "ctx_size" in space:
        rules += [need.slots_rule(space), need.memory_rule(space)]
    if "batch_size" in space and "ubatch_size" in space:
        rules.append(_UBATCH)
    if "cache_type_v" in space and "flash_attn" in space:
        rules.append(_QUANTIZED_V)
    return SearchSpace(knobs=space.knobs, conditions=space.conditions, constraints=tuple(rules), notes=space.notes)


def slot_tokens(model: Model, workload: Workload) -> int:
    """Context that a slot needs: the workload's longest request, rounded up as llama.cpp does."""
    if workload.prompt_lengths:
        prompt_tokens = workload.prefix_tokens + workload.prompt_lengths.largest
    else:
        prompt_tokens = max(_prompt_tokens(request, model) for request in workload.pool)
    longest = prompt_tokens + workload.largest_output_tokens
    if model.context_tokens is not None:
        longest = min(longest, model.context_tokens)
    return math.ceil(longest / CTX_STEP) * CTX_STEP


def ctx_size(model: Model, workload: Workload) -> int:
    """Tokens of context at rest: the model's own, or what the default's slots need if that is more."""
    return max(model.context_tokens or 0, DEFAULT_SLOTS * slot_tokens(model, workload))


def default_threads() -> int:
    """Threads that llama-server takes when told nothing: the machine's physical cores, whatever a quota allows."""
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def number(value: Scalar) -> int:
    """The value of a knob that has whole numbers only."""
    assert isinstance(value, int), value
    return value


class MemoryNeed:
    """Weights, and the KV cache of the whole context, which is allocated at the start."""

    def __init__(self, model: Model, device: Device, workload: Workload) -> None:
        self._model, self._device = model, device
        self._budget_bytes = _USABLE_MEMORY * device.memory_bytes
        self.slot_tokens = slot_tokens(model, workload)

    def check_smallest(self) -> None:
        """Refuse a model of which not even one slot fits, where its weights must lie on the device."""
        needed = self._of(self.slot_tokens, 2.0, 2.0)
        if self._device.kind == "cpu" and needed > self._budget_bytes:
            raise DoesNotFitError(
                f"{self._model.name} needs {format_bytes(needed)} for its weights and one request's KV cache, but "
                f"{self._device.name} has {format_bytes(self._device.memory_bytes)}; take a smaller one"
            )

    def slots_that_fit(self, most: int) -> int:
        """The most slots, in doublings, whose context fits the memory, with the cache in 16 bits."""
        fitting = [n for n in doubling(1, most) if self._of(n * self.slot_tokens, 2.0, 2.0) <= self._budget_bytes]
        return fitting[-1] if fitting else 1

    def slots_rule(self, space: SearchSpace) -> Constraint:
        """Every slot has room for the longest request: one that does not fit fails, or is cut."""

        def holds(values: Mapping[str, Scalar]) -> bool:
            return number(values["parallel"]) * self.slot_tokens <= number(values["ctx_size"])

        def mend(values: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
            wanted = number(values["parallel"]) * self.slot_tokens
            largest = number(space["ctx_size"].values[-1])
            if wanted <= largest:
                return {"ctx_size": space["ctx_size"].at_least(wanted)}
            fitting = [n for n in space["parallel"].values if number(n) * self.slot_tokens <= largest]
            return {"parallel": fitting[-1] if fitting else space["parallel"].values[0], "ctx_size": largest}

        reason = f"ctx_size must hold {self.slot_tokens} tokens, the longest request, for each of the parallel slots"
        return Constraint("slots", reason, holds, mend)

    def memory_rule(self, space: SearchSpace) -> Constraint:
        """Weights and the KV cache must fit."""

        def fits(values: Mapping[str, Scalar], tokens: int) -> bool:
            key, value = (
                CACHE_BYTES.get(str(values.get(name, "f16")), 2.0) for name in ("cache_type_k", "cache_type_v")
            )
            return self._of(tokens, key, value) <= self._budget_bytes or tokens == self._least(space)

        def holds(values: Mapping[str, Scalar]) -> bool:
            return fits(values, number(values["ctx_size"]))

        def mend(values: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
            fitting = [tokens for tokens in space["ctx_size"].values if fits(values, number(tokens))]
            tokens = number(fitting[-1]) if fitting else self._least(space)
            slots = [n for n in space["parallel"].values if number(n) * self.slot_tokens <= tokens]
            wanted = number(values["parallel"])
            parallel = wanted if wanted * self.slot_tokens <= tokens or not slots else number(slots[-1])
            return {"ctx_size": tokens, "parallel": parallel}

        budget = f"{_USABLE_MEMORY:.0%} of {format_bytes(self._device.memory_bytes)}"
        return Constraint("memory", f"weights and the KV cache of ctx_size tokens must fit {budget}", holds, mend)

    def _least(self, space: SearchSpace) -> int:
        return number(space["ctx_size"].values[0])

    def _of(self, tokens: int, key_bytes: float, value_bytes: float) -> float:
        """Bytes needed as far as they are known: half of a token's cache is keys, half values, in 16 bits each."""
        cache = (self._model.kv_bytes(tokens) or 0.0) * (key_bytes + value_bytes) / 4.0
        return (self._model.weight_bytes or 0) + cache


def _scheduling(device: Device, context: int, need: MemoryNeed) -> list[Knob]:
    slots = doubling(1, need.slots_that_fit(256 if device.kind == "gpu" else 32))
    pools = {context, *(n * need.slot_tokens for n in slots if n * need.slot_tokens > context)}
    return [
        Int(
            "parallel", slots, DEFAULT_SLOTS, is_concurrency=True, unit="requests", effect="numeric", most=1024,
            why="Slots: requests computed together share one reading of the weights, and each waits for the others.",
        ),
        Choice(
            "kv_unified", (True, False), True, effect="numeric",
            why="One KV cache for all slots, or one for each, where attention passes over a request's own tokens only.",
        ),
        Int(
            "ctx_size", tuple(sorted(pools)), context, unit="tokens", effect="exact", most=2.0**31 - 1,
            why="Context of all slots together: room for more requests at once, for memory.",
        ),
    ]  # fmt: skip


def _threads(device: Device) -> list[Knob]:
    ladder = tuple(sorted({*doubling(1, device.cores), device.cores}))
    return [
        Int(
            "threads", ladder, default_threads(), effect="numeric",
            why="Threads that generate: more compute faster until they wait for memory, or for a core that is taken.",
        ),
        Choice(
            "threads_batch", (None, *ladder), None, effect="numeric",
            why="Threads that read prompts, which is bound by arithmetic; as many as generate unless it is set.",
        ),
    ]  # fmt: skip


def _gpu_layers(layers: int | None) -> list[Knob]:
    parts = () if layers is None else tuple(dict.fromkeys((layers // 2, layers * 3 // 4)))
    return [
        Choice(
            "gpu_layers", ("auto", "all", *parts), "auto", effect="numeric",
            why="Layers on the GPU: those left out are computed by the processor and leave room for more context.",
        )
    ]  # fmt: skip


def _computing() -> list[Knob]:
    types = ("f16", "q8_0", "q4_0")
    return [
        Int(
            "batch_size", doubling(256, 4096), _DEFAULT_BATCH, unit="tokens", effect="numeric", most=2.0**20,
            why="Tokens taken into one round, of all slots: larger reads prompts faster and makes others wait longer.",
        ),
        Int(
            "ubatch_size", doubling(64, 2048), _DEFAULT_UBATCH, unit="tokens", effect="numeric", most=2.0**20,
            why="Tokens computed at once: larger uses the arithmetic better, smaller stays within the caches.",
        ),
        Choice(
            "flash_attn", ("auto", "off"), "auto", effect="numeric",
            why="Attention without writing out its matrix: less memory traffic, on some processors slower kernels.",
        ),
        Choice(
            "cache_type_k", types, "f16", effect="lossy",
            why="Number format of the keys in the KV cache: fewer bits are read faster and change answers.",
        ),
        Choice(
            "cache_type_v", types, "f16", effect="lossy",
            why="Number format of the values in the KV cache: fewer bits are read faster and change answers.",
        ),
    ]  # fmt: skip


def _loading(flags: Mapping[str, Flag]) -> list[Knob]:
    """How the weights come into memory: one argument in newer versions, two switches in older ones."""
    if "load_mode" in flags:
        known = flags["load_mode"].words
        modes = tuple(word for word in ("auto", "none", "mmap", "mlock", "mmap+mlock") if word in known)
        if "auto" in modes:
            return [
                Choice(
                    "load_mode", modes, "auto", effect="exact",
                    why="Weights mapped from the file, read into memory, or locked there so that none are paged out.",
                )
            ]  # fmt: skip
    return [
        Choice(
            "mlock", (False, True), False, effect="exact",
            why="Weights locked in memory, so that none are paged out.",
        ),
        Choice(
            "mmap", (True, False), True, effect="exact",
            why="Weights mapped from the file, or read into memory once.",
        ),
    ]  # fmt: skip


def _ubatch_holds(values: Mapping[str, Scalar]) -> bool:
    return number(values["ubatch_size"]) <= number(values["batch_size"])


def _ubatch_mend(values: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    return {"ubatch_size": values["batch_size"], "batch_size": values["batch_size"]}


_UBATCH = Constraint("ubatch", "ubatch_size must not exceed batch_size", _ubatch_holds, _ubatch_mend)
_QUANTIZED_V = Constraint(
    "quantized values",
    "a quantized cache_type_v needs flash attention",
    lambda values: str(values["cache_type_v"]) in ("f32", "f16", "bf16") or values["flash_attn"] != "off",
    lambda values: {"flash_attn": "auto"},
)


def _prompt_tokens(request: Request, model: Model) -> int:
    """A prompt's length in tokens; of a text an estimate, since the parent has no tokenizer."""
    if (text := request.prompt_text) is None:
        return request.prompt_tokens or 0
    size_bytes = len(text.encode())
    return size_bytes if model.weights == "dummy" else size_bytes // _BYTES_PER_TEXT_TOKEN + 1
