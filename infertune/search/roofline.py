"""A roofline of decoding: what more requests that run together should bring, from the sizes of model and device.

The time of one step is what the memory needs for the weights and the KV cache, or what the processor needs for the
operations, whichever is more, plus a fixed overhead; prefill adds its operations (Williams et al., Roofline, CACM
2009; for decoding, Pope et al., Efficiently Scaling Transformer Inference, MLSys 2023). Where an engine runs fixed
batches, their padding, longest outputs and the odd batch at the end are counted from the job's own requests. How much
of the peaks an engine reaches, and its overhead, are guesses at first and are fitted to the trials as they come in.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from infertune.domain.device import Device
from infertune.domain.knobs import Config, Scalar, SearchSpace
from infertune.domain.models import Model
from infertune.domain.workload import LONG_DRAW, Workload

Array = NDArray[np.float64]

# Bandwidth in GB/s and dense 16-bit TFLOP/s of the first name that a board's name contains (NVIDIA's data sheets).
_KNOWN_PEAKS = (
    ("B200", 8000, 2250), ("H200", 4800, 989), ("H100 NVL", 3900, 835), ("H100 PCIe", 2000, 756), ("H100", 3350, 989),
    ("A100-PCIE-40GB", 1555, 312), ("A100-SXM4-40GB", 1555, 312), ("A100", 2039, 312), ("L40S", 864, 362),
    ("L40", 864, 181), ("L4", 300, 121), ("A10G", 600, 70), ("A10", 600, 125), ("T4", 320, 65), ("V100", 900, 125),
    ("RTX 5090", 1792, 209), ("RTX 4090", 1008, 165), ("RTX 3090", 936, 71),
)  # fmt: skip
_UNKNOWN_GPU = (1000, 200)
_DRAWN = 256  # requests looked at where the size of a job is not known yet
_BYTES_PER_TOKEN = 4  # of text that is not tokenized yet
_BETWEEN_KERNELS = 5  # times the overhead, where Python runs between the kernels of every layer, as in fixed batches
_MISFIT = 0.2  # of ln(rate), what a roofline does not know
_GUESSES = np.log(np.array([0.8, 0.55, 1.0]))  # shares of bandwidth and of operations, factor of the overhead
_SDS = np.array([0.5, 0.7, 1.5])


@dataclass(frozen=True)
class Peaks:
    """What a device can do at best.

    Attributes:
        bytes_per_s: Memory bandwidth.
        flop_per_s: Dense operations in the model's number format.
        overhead_s: A guess at what one step costs besides.
    """

    bytes_per_s: float
    flop_per_s: float
    overhead_s: float


@dataclass(frozen=True)
class Demand:
    """What decoding costs, in seconds at the device's peaks, and what is asked for.

    Attributes:
        weights_s: Reading all weights once, shared by a step's requests.
        cache_s: Reading the KV cache of one request whose context has so many tokens.
        compute_s: One token's operations, of a prompt or an output.
        overhead_s: Of one step.
        cache_room: Requests of so many tokens that fit the memory beside the weights.
        prompts: Prompt tokens of a job's requests in their order, (n,).
        outputs: Output tokens of each, (n,).
        n_requests: Requests of a job, None if it is not known yet.
    """

    weights_s: float
    cache_s: Callable[[float], float]
    compute_s: float
    overhead_s: float
    cache_room: Callable[[float], float]
    prompts: Array
    outputs: Array
    n_requests: int | None = None


def peaks_of(device: Device) -> Peaks:
    """Known figures of the GPU's model, or what two small loops reach on this processor in about a second."""
    if device.kind == "gpu":
        bandwidth, operations = next(
            ((b, f) for name, b, f in _KNOWN_PEAKS if name.lower() in device.name.lower()), _UNKNOWN_GPU
        )
        return Peaks(bandwidth * 1e9 * device.count, operations * 1e12 * device.count, 2e-3)
    block = np.ones(16 * 1024**2)
    square = np.ones((768, 768), dtype=np.float32)
    copy_s, multiply_s = (_fastest_s(work) for work in (lambda: block.copy(), lambda: square @ square))
    return Peaks(_rounded(2 * block.nbytes / copy_s), _rounded(2 * 768**3 / multiply_s), 1e-3)


def _rounded(per_s: float) -> float:
    """The nearest power of two: a run that is continued shall start from the same guess, and trials refine it."""
    return 2.0 ** round(math.log2(per_s))


def _fastest_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def demand_of(model: Model, device: Device, workload: Workload, peaks: Peaks) -> Demand | None:
    """What a workload asks of a model on a device; None where its parameters or weights are not known.

    A KV cache that is not known costs nothing and always fits.
    """
    weight_bytes, active = model.weight_bytes, model.active_parameters or model.parameters
    if weight_bytes is None or active is None:
        return None
    requests = workload.draw("search", max(LONG_DRAW, workload.n_requests or 0))  # as jobs are drawn
    prompts = [request.prompt_tokens or len(request.prompt_text or "") / _BYTES_PER_TOKEN for request in requests]
    free_bytes = 0.9 * device.memory_bytes * device.count - weight_bytes

    def cache_bytes(tokens: float) -> float:
        return model.kv_bytes(tokens) or 0.0

    def cache_room(tokens: float) -> float:
        return free_bytes / taken if (taken := cache_bytes(tokens)) else math.inf

    return Demand(
        weights_s=weight_bytes / peaks.bytes_per_s,
        cache_s=lambda tokens: cache_bytes(tokens) / peaks.bytes_per_s,
        compute_s=2 * active / peaks.flop_per_s,
        overhead_s=peaks.overhead_s,
        cache_room=cache_room,
        prompts=np.array(prompts, dtype=float),
        outputs=np.array([request.output_tokens for request in requests], dtype=float),
        n_requests=workload.n_requests,
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """What a job takes under some configuration: stretches of equal steps.

    Attributes:
        together: Requests that run at once in each stretch, (stretches,).
        steps: Its decoding steps, (stretches,).
        context: Tokens in the KV cache of one of its requests, halfway, (stretches,).
        prefilled: Prompt tokens that are run, with padding.
    """

    together: Array
    steps: Array
    context: Array
    prefilled: float


class Roofline:
    """Predicts ln(output tokens per second) from the knobs that say how many requests run together, and which.

    Without such a knob it predicts nothing.
    """

    def __init__(self, space: SearchSpace, demand: Demand) -> None:
        self._batches = space.batches
        concurrency = tuple(knob.name for knob in space.knobs if knob.is_concurrency)
        self._names = self._batches.knobs if self._batches else concurrency
        overhead_s = demand.overhead_s * (_BETWEEN_KERNELS if self._batches else 1)
        self._demand = replace(demand, overhead_s=overhead_s)
        self._guesses: Array = _GUESSES
        self._parameters: Array = _GUESSES
        self._known: dict[tuple[Scalar, ...], _Work] = {}

    def fit(self, configs: Sequence[Config], scores: Array, n_requests: int | None = None) -> None:
        """Adjust shares and overhead to ln(rate) as measured; its general level is not used.

        Args:
            configs: That ran.
            scores: Of each, (n,).
            n_requests: Requests of the job that was measured, None if unknown.
        """
        if n_requests is not None and n_requests != self._demand.n_requests:
            self._demand = replace(self._demand, n_requests=n_requests)
            self._known.clear()
        self._parameters = self._guesses
        keys = list(map(self._key, configs))
        if len(set(keys)) < 2:
            return

        def residuals(parameters: Array) -> Array:
            misfit = scores - self._curve(keys, parameters)
            return np.concatenate([(misfit - misfit.mean()) / _MISFIT, (parameters - self._guesses) / _SDS])

        self._parameters = np.asarray(least_squares(residuals, self._guesses, max_nfev=30).x, dtype=float)

    def settle(self) -> None:
        """Take what was fitted as the guess from now on."""
        self._guesses = self._parameters

    def predict(self, configs: Sequence[Config]) -> Array:
        """ln(rate) of configurations up to a constant, (n,)."""
        return self._curve(list(map(self._key, configs)), self._parameters)

    def _curve(self, keys: Sequence[tuple[Scalar, ...]], parameters: Array) -> Array:
        curve = {key: -math.log(self._job_s(self._work(key), parameters)) for key in set(keys)}
        return np.array([curve[key] for key in keys])

    def _job_s(self, work: _Work, parameters: Array) -> float:
        memory_share, compute_share, overhead = np.exp(parameters)
        need = self._demand
        cache_s = np.array([need.cache_s(context) for context in work.context.tolist()])
        memory_s = (need.weights_s + work.together * cache_s) / memory_share
        compute_s = work.together * need.compute_s / compute_share
        step_s = np.maximum(memory_s, compute_s) + need.overhead_s * overhead
        return float(work.steps @ step_s + work.prefilled * need.compute_s / compute_share)

    def _key(self, config: Config) -> tuple[Scalar, ...]:
        return tuple(config[name] for name in self._names)

    def _work(self, key: tuple[Scalar, ...]) -> _Work:
        if key not in self._known:
            values = dict(zip(self._names, key, strict=True))
            self._known[key] = self._in_batches(values) if self._batches else self._refilled(values)
        return self._known[key]

    def _in_batches(self, values: Mapping[str, Scalar]) -> _Work:
        """Every batch is padded to its longest prompt and runs until its longest output."""
        assert self._batches
        n = self._demand.n_requests or _DRAWN
        prompts, outputs = self._demand.prompts[:n], self._demand.outputs[:n]
        batches = self._batches.of(values, prompts.tolist())
        together = np.array([len(batch) for batch in batches], dtype=float)
        longest = np.array([prompts[batch].max() for batch in batches])
        steps = np.array([outputs[batch].max() for batch in batches])
        return _Work(together, steps, longest + steps / 2, float(together @ longest))

    def _refilled(self, values: Mapping[str, Scalar]) -> _Work:
        """A request that ends makes room for the next one at once."""
        n = self._demand.n_requests or math.inf
        prompt, output = float(self._demand.prompts.mean()), float(self._demand.outputs.mean())
        room = max(1.0, self._demand.cache_room(prompt + output))
        together = min([n, room, *(float(value or 1) for value in values.values())]) if values else 1.0
        one = np.ones(1)
        return _Work(together * one, output / together * one, (prompt + output / 2) * one, prompt)
