"""The knobs of a Hugging Face pipeline, and what memory allows of them; nothing here needs the library."""

from collections.abc import Mapping, Sequence

from infertune.domain.device import Device
from infertune.domain.knobs import Choice, Condition, Constraint, FixedBatches, Int, Knob, Scalar, SearchSpace, doubling
from infertune.domain.models import Model
from infertune.domain.workload import Request, Workload
from infertune.engines.effects import dtype_effect
from infertune.errors import DoesNotFitError
from infertune.units import format_bytes

CURATED = (
    "batch_size", "request_order", "attn_implementation", "cache_implementation", "disable_compile", "threads", "dtype",
)  # fmt: skip
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_USABLE_MEMORY = 0.9  # the rest is for activations, logits and the allocator's gaps
_SAMPLED_REQUESTS = 1000
_BYTES_PER_TEXT_TOKEN = 3  # English and code have 3 to 4; a byte-level tokenizer has 1


def pipeline_space(model: Model, device: Device, workload: Workload, *, flash_attention: bool) -> SearchSpace:
    """The knobs of a pipeline for a model on a device.

    Args:
        model: What is loaded.
        device: Where.
        workload: Its longest request decides which batches fit the memory.
        flash_attention: Whether flash-attn is installed.

    Raises:
        DoesNotFitError: Not even one request fits the memory.
    """
    memory = _MemoryNeed(model, device, workload)
    memory.check_smallest()
    dtypes = tuple(name for name in _dtypes(model, device) if memory.fits(name, batch_size=1))
    conditions: tuple[Condition, ...] = ()
    knobs = [
        Int(
            "batch_size", doubling(1, 512 if device.kind == "gpu" else 64), 1, scope="live", is_concurrency=True,
            unit="requests", effect="numeric",
            why="Requests run together: more share one reading of the weights, and each waits for the longest.",
        ),
        Choice(
            "request_order", ("as_given", "by_length"), "as_given", scope="live", effect="numeric",
            why="Sorted by prompt length, a batch holds less padding; a request may come later than its turn.",
        ),
        Choice(
            "attn_implementation", _attention(model, device, flash_attention), "sdpa", scope="live", effect="numeric",
            why="The attention kernel: fused, or plain matrix products, which small models can run faster.",
        ),
        Choice(
            "cache_implementation", ("dynamic", "static"), "dynamic", scope="live", effect="numeric",
            why="A KV cache that grows with every token, or one allocated at full length beforehand.",
        ),
    ]  # fmt: skip
    if device.kind == "gpu":
        knobs.append(
            Choice(
                "disable_compile", (False, True), False, scope="live", effect="numeric",
                why="A static cache makes generate() compile decoding: faster steps for seconds of compiling.",
            )
        )  # fmt: skip
        conditions = (Condition("disable_compile", on="cache_implementation", among=("static",)),)
    else:
        knobs.append(
            Int(
                "threads", doubling(1, device.cores), device.cores, scope="live", effect="numeric",
                why="Threads of one operation: more of them compute faster until they wait for memory.",
            )
        )  # fmt: skip
    knobs.append(
        Choice(
            "dtype", dtypes, model.dtype, effect=dtype_effect(dtypes, model.dtype),
            why="Number format of weights and KV cache; it changes outputs.",
        )
    )  # fmt: skip
    return SearchSpace(
        knobs=tuple(knobs),
        conditions=conditions,
        constraints=(memory.constraint(next(knob for knob in knobs if knob.name == "batch_size")),),
        notes=_notes(device, [name for name in _dtypes(model, device) if name not in dtypes]),
        batches=BATCHES,
    )


def batches_of(values: Mapping[str, Scalar], prompt_lengths: Sequence[float]) -> list[list[int]]:
    """Positions of the requests of each batch, in turn."""
    order = list(range(len(prompt_lengths)))
    if values.get("request_order") == "by_length":
        order.sort(key=lambda position: -prompt_lengths[position])  # longest first: if memory is short it shows at once
    size = whole(values["batch_size"])
    return [order[start : start + size] for start in range(0, len(order), size)]


BATCHES = FixedBatches(("batch_size", "request_order"), batches_of)


def _attention(model: Model, device: Device, flash_attention: bool) -> tuple[str, ...]:
    flash = device.kind == "gpu" and flash_attention and model.dtype != "float32"
    return ("sdpa", "eager", "flash_attention_2") if flash else ("sdpa", "eager")


class _MemoryNeed:
    """Weights, and the KV cache of one batch in which every request is as long as the workload's longest."""

    def __init__(self, model: Model, device: Device, workload: Workload) -> None:
        self._model, self._device = model, device
        self._budget_bytes = _USABLE_MEMORY * device.memory_bytes
        requests = workload.pool or workload.draw("search", _SAMPLED_REQUESTS)
        prompt_tokens = max(_prompt_tokens(request, model) for request in requests)
        self._longest_tokens = prompt_tokens + workload.largest_output_tokens
        if model.context_tokens is not None:
            self._longest_tokens = min(self._longest_tokens, model.context_tokens)

    def of(self, dtype: str, batch_size: int) -> float:
        """Bytes needed, as far as they are known; quantized weights stay as they are in every dtype."""
        return self.of_weights(dtype) + batch_size * self.of_request(dtype)

    def of_weights(self, dtype: str) -> float:
        """Bytes of the weights; 0 if they are not known."""
        scale = 1.0 if self._model.quantization else self._scale(dtype)
        return scale * (self._model.weight_bytes or 0)

    def of_request(self, dtype: str) -> float:
        """Bytes of the KV cache of one request; 0 if they are not known."""
        return self._scale(dtype) * (self._model.kv_bytes(self._longest_tokens) or 0.0)

    def _scale(self, dtype: str) -> float:
        return _DTYPE_BYTES.get(dtype, 2) / _DTYPE_BYTES.get(self._model.dtype, 2)

    def fits(self, dtype: str, batch_size: int) -> bool:
        """Whether that is within the usable memory."""
        return self.of(dtype, batch_size) <= self._budget_bytes

    def check_smallest(self) -> None:
        """Refuse a model of which not even one request fits."""
        dtype = self._model.dtype
        if not self.fits(dtype, batch_size=1):
            raise DoesNotFitError(
                f"{self._model.name} needs {format_bytes(self.of_weights(dtype))} for its weights and "
                f"{format_bytes(self.of_request(dtype))} for one request's KV cache, but "
                f"{self._device.name} has {format_bytes(self._device.memory_bytes)}; take a smaller model"
            )

    def constraint(self, batch_size: Knob) -> Constraint:
        """The batch size that memory allows."""

        def holds(values: Mapping[str, Scalar]) -> bool:
            return self.fits(str(values["dtype"]), whole(values["batch_size"]))

        def mend(values: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
            fitting = [value for value in batch_size.values if self.fits(str(values["dtype"]), whole(value))]
            return {"batch_size": fitting[-1]}

        return Constraint(
            "memory",
            f"weights and the KV cache of one batch of requests of {self._longest_tokens} tokens must fit "
            f"{_USABLE_MEMORY:.0%} of {format_bytes(self._device.memory_bytes)}",
            holds,
            mend,
        )


def _dtypes(model: Model, device: Device) -> tuple[str, ...]:
    """The model's own dtype first, then others that this device computes well."""
    others = ("bfloat16", "float16") if device.kind == "gpu" else ("bfloat16", "float32")
    return tuple(dict.fromkeys((model.dtype, *others)))


def _notes(device: Device, too_large: Sequence[str]) -> tuple[str, ...]:
    """What was left out of the space, and why."""
    notes = [f"dtype {name}: left out, its weights do not fit the memory" for name in too_large]
    notes.append("torch.compile with a dynamic cache: left out, every new length compiles again")
    notes.append("quantized and offloaded caches, flex_attention: left out, not usable through a batched pipeline")
    if device.kind == "cpu":
        notes.append("dtype float16: left out on a CPU, it has no fast kernels there (75% slower)")
        notes.extend(device.notes)
        notes.append("compiled decoding: generate() compiles for a static cache on GPUs only")
    elif device.count > 1:
        notes.append(f"one GPU of {device.count} is used: device_map splits layers, and the GPUs take turns")
    return tuple(notes)


def _prompt_tokens(request: Request, model: Model) -> int:
    """A prompt's length in tokens; of a text an estimate, since the parent has no tokenizer."""
    if (text := request.prompt_text) is None:
        return request.prompt_tokens or 0
    size_bytes = len(text.encode())
    return size_bytes if model.weights == "dummy" else size_bytes // _BYTES_PER_TEXT_TOKEN + 1


def whole(value: Scalar) -> int:
    """The value of a knob that has whole numbers only."""
    assert isinstance(value, int), value
    return value
