"""What must fit together: steps that hold their sequences, GPUs that hold the weights and at least one sequence."""

import math
from collections.abc import Mapping
from functools import cached_property

from infertune.domain.device import Device
from infertune.domain.knobs import Constraint, Knob, Scalar, doubling
from infertune.domain.models import Model
from infertune.engines.vllm.table import LIVE, PARALLEL
from infertune.errors import DoesNotFitError
from infertune.units import format_bytes

_WEIGHTS_SHARE = 0.95  # of a GPU's memory, at most; the rest is for the KV cache and activations
_DEFAULT_SHARE = 0.9  # of a GPU's memory, for vLLM, where no knob says (its own default is 0.9 to 0.92)
_ACTIVATIONS_SHARE = 0.05  # of a GPU's memory: activations and CUDA graphs (judgement)
_GIB = 1024**3


def cpu_cache_gib(model: Model, device: Device, context_tokens: Scalar = None) -> int:
    """A KV cache for a CPU: 4 GiB or a quarter of the memory, and enough for one sequence of full length if known.

    Args:
        model: Whose cache it is.
        device: The CPU.
        context_tokens: The longest sequence, where it is another than the model's.
    """
    one = model.sequence_bytes if not isinstance(context_tokens, int) else model.kv_bytes(context_tokens)
    return max(math.ceil((one or 0) / _GIB), min(4, device.memory_bytes // (4 * _GIB)), 1)


def check_fits(model: Model, device: Device, quantization: Scalar = None) -> None:
    """Refuse a model whose weights do not fit all the GPUs that can share them.

    Args:
        model: Whose weights they are.
        device: Where.
        quantization: How they are quantized while they are loaded, if they are.

    Raises:
        DoesNotFitError: They do not.
    """
    memory = MemoryNeed(model, device)
    largest = memory.parallel_sizes[-1]
    if not memory.weights_fit(largest, quantization):
        each = f" on each of {largest} GPUs" if largest > 1 else ""
        raise DoesNotFitError(
            f"the weights of {model.spec} take {format_bytes((model.weight_bytes or 0) // largest)}{each}, and "
            f"{device.name} has {format_bytes(device.memory_bytes)} of memory: choose a smaller or a quantized model"
        )


class MemoryNeed:
    """What weights and KV cache need of the GPUs; everything fits where a figure is not known: the engine finds out."""

    def __init__(self, model: Model, device: Device) -> None:
        self._model, self._device = model, device

    @cached_property
    def parallel_sizes(self) -> tuple[int, ...]:
        """Sizes that the GPUs here allow."""
        return doubling(1, max(1, self._device.count))

    def weights_fit(self, gpus: Scalar, quantization: Scalar = None) -> bool:
        """Whether so many GPUs hold the weights."""
        return self._weights(quantization) <= _WEIGHTS_SHARE * self._device.memory_bytes * _whole(gpus)

    @cached_property
    def fewest_gpus(self) -> int:
        """The smallest parallel size that holds the weights; the largest if none does (see `check_fits`)."""
        return next((size for size in self.parallel_sizes if self.weights_fit(size)), self.parallel_sizes[-1])

    def longest_context(self, own: int) -> int:
        """The longest context up to a model's own of which one sequence finds room with vLLM's defaults.

        Shorter ones are powers of two. Where not even a short one fits, the model's own: the engine says so then.
        """
        gpus = 1 if self.weights_fit(1) else self.fewest_gpus
        share = _DEFAULT_SHARE - _ACTIVATIONS_SHARE
        if self.sequence_fits(own, gpus, share):
            return own
        fitting = [size for size in doubling(1024, own) if self.sequence_fits(size, gpus, share)]
        return fitting[-1] if fitting else own

    def sequence_fits(
        self,
        tokens: int,
        gpus: int,
        share: float,
        *,
        quantization: Scalar = None,
        cache: Scalar = None,
    ) -> bool:
        """Whether a share of the GPUs' memory holds the weights and one sequence: vLLM does not start otherwise."""
        needed = self._model.kv_bytes(tokens)
        if needed is None or self._device.kind == "cpu":
            return True
        if isinstance(cache, str) and cache.startswith("fp8"):
            needed /= 2
        return needed <= share * self._device.memory_bytes * gpus - self._weights(quantization)

    def rules(self, knobs: Mapping[str, Knob], max_model_len: int) -> list[Constraint]:
        """What GPUs and memory insist on."""
        if self._device.kind == "cpu":
            return []
        found = []
        parallel = [name for name in PARALLEL if name in knobs]
        if parallel:
            found.append(self._gpus_rule(parallel))
        if "tensor_parallel_size" in knobs and self._model.weight_bytes is not None:
            found.append(self._weights_rule())
        if "max_model_len" in knobs and self._model.kv_bytes(1) is not None:
            rule = self._context_rule(knobs["max_model_len"])
            if rule.holds({name: knob.default for name, knob in knobs.items()}):  # else the engine decides
                found.append(rule)
        return found

    def _gpus_rule(self, parallel: list[str]) -> Constraint:
        """The last sizes give way first: several GPUs for one layer are the common case."""
        count = self._device.count

        def mend(config: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
            changes: dict[str, Scalar] = {}
            for name in reversed(parallel):
                sizes = {**{other: config[other] for other in parallel}, **changes}
                if math.prod(map(_whole, sizes.values())) <= count:
                    break
                changes[name] = 1
            return changes

        return Constraint(
            "GPUs for every rank",
            f"the product of {', '.join(parallel)} must not exceed the {count} GPU{'s' if count > 1 else ''} there "
            f"{'are' if count > 1 else 'is'}",
            holds=lambda c: math.prod(_whole(c[name]) for name in parallel) <= count,
            mend=mend,
        )

    def _weights_rule(self) -> Constraint:
        return Constraint(
            "weights fit the GPUs",
            f"tensor_parallel_size times pipeline_parallel_size GPUs must hold the "
            f"{format_bytes(self._model.weight_bytes or 0)} of weights in {_WEIGHTS_SHARE:.0%} of their "
            f"{format_bytes(self._device.memory_bytes)} each",
            holds=lambda c: self.weights_fit(_shards(c), c.get("quantization")),
            mend=lambda c: {"tensor_parallel_size": self.fewest_gpus, "pipeline_parallel_size": 1},
        )

    def _context_rule(self, context: Knob) -> Constraint:
        def holds(config: Mapping[str, Scalar]) -> bool:
            return self._takes(config, _whole(config["max_model_len"]))

        def mend(config: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
            fitting = [size for size in context.values if self._takes(config, _whole(size))]
            return {"max_model_len": fitting[-1]} if fitting else {"gpu_memory_utilization": 1.0}

        return Constraint(
            "one sequence fits",
            "beside the weights, the KV cache must hold one sequence of max_model_len tokens",
            holds=holds,
            mend=mend,
        )

    def _takes(self, config: Mapping[str, Scalar], tokens: int) -> bool:
        share = config.get("gpu_memory_utilization")
        return self.sequence_fits(
            tokens,
            _shards(config),
            float(share) if isinstance(share, int | float) else _DEFAULT_SHARE,
            quantization=config.get("quantization"),
            cache=config.get("kv_cache_dtype"),
        )

    def _weights(self, quantization: Scalar) -> float:
        """Bytes of all weights; 8 bits in place of 16 where they are quantized while they are loaded."""
        whole = self._model.weight_bytes or 0
        return whole / 2 if quantization == "fp8" and self._model.quantization is None else whole


def _shards(config: Mapping[str, Scalar]) -> int:
    """Over how many GPUs one copy of the weights is spread."""
    return _whole(config.get("tensor_parallel_size")) * _whole(config.get("pipeline_parallel_size"))


def _whole(value: Scalar) -> int:
    return int(value) if isinstance(value, int | float) and value else 1


def scheduler_rules(knobs: Mapping[str, Knob], max_model_len: int) -> list[Constraint]:
    """What vLLM's scheduler insists on.

    Args:
        knobs: By name.
        max_model_len: The context, where no knob says.
    """
    if not set(LIVE) <= set(knobs):
        return []
    tokens = knobs["max_num_batched_tokens"]

    def number(config: Mapping[str, Scalar], name: str) -> int:
        return int(config[name] or 0)

    rules = [
        Constraint(
            "a token for every sequence",
            "max_num_batched_tokens must not be below max_num_seqs",
            holds=lambda c: number(c, "max_num_batched_tokens") >= number(c, "max_num_seqs"),
            mend=lambda c: {"max_num_batched_tokens": number(c, "max_num_seqs")},
        )
    ]
    if "enable_chunked_prefill" in knobs:

        def context(config: Mapping[str, Scalar]) -> int:
            return number(config, "max_model_len") if "max_model_len" in config else max_model_len

        def whole_prompts(config: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
            reachable = tokens.numbers[-1] >= context(config)
            return {"max_num_batched_tokens": context(config)} if reachable else {"enable_chunked_prefill": True}

        said = "max_model_len" if "max_model_len" in knobs else f"the context of {max_model_len}"
        rules.append(
            Constraint(
                "whole prompts fit a step",
                f"without chunked prefill max_num_batched_tokens must not be below {said}",
                holds=lambda c: bool(c["enable_chunked_prefill"]) or number(c, "max_num_batched_tokens") >= context(c),
                mend=whole_prompts,
            )
        )
    return rules
