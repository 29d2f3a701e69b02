"""A roofline of decoding: predicts throughput against concurrency from the sizes of model and device.

The time of a decoding step is the larger of two: the time to read weights and KV cache at the memory's bandwidth, and
the time of the operations at the device's FLOP/s; plus a fixed overhead. Prefill adds its operations (Williams et al.,
Roofline, CACM 2009; for decoding, Pope et al., Efficiently Scaling Transformer Inference, MLSys 2023). For engines
with fixed batches, padding, the longest output of each batch and the last, partly filled batch are computed from the
job's own requests. The shares of bandwidth and FLOP/s that an engine reaches, and its overhead, start at typical values
and are refitted after every trial.
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

# Bandwidth in GB/s and dense 16-bit TFLOP/s (NVIDIA's data sheets), of the first name that the board's name contains.
_KNOWN_PEAKS = (
    ("B200", 8000, 2250), ("H200", 4800, 989), ("H100 NVL", 3900, 835), ("H100 PCIe", 2000, 756), ("H100", 3350, 989),
    ("A100-PCIE-40GB", 1555, 312), ("A100-SXM4-40GB", 1555, 312), ("A100", 2039, 312), ("L40S", 864, 362),
    ("L40", 864, 181), ("L4", 300, 121), ("A10G", 600, 70), ("A10", 600, 125), ("T4", 320, 65), ("V100", 900, 125),
    ("RTX 5090", 1792, 209), ("RTX 4090", 1008, 165), ("RTX 3090", 936, 71),
)  # fmt: skip
_UNKNOWN_GPU = (1000, 200)  # GB/s and TFLOP/s, between those of an L4 and an A100; judgement
_GPU_OVERHEAD_S, _CPU_OVERHEAD_S = 2e-3, 1e-3  # of one step, the starting point of the fit; judgement
_DRAWN = 256  # requests looked at while the size of the job is not known; judgement
_BYTES_PER_TOKEN = 4  # of text that is not tokenized yet: English and code; judgement
_BATCH_OVERHEAD = (
    5  # times the overhead in engines with fixed batches, whose Python runs between all kernels; judgement
)
_MISFIT_SD = 0.2  # standard deviation, in ln(rate), of what a roofline does not model; judgement
# Starting point of the fit, in logarithms: shares of bandwidth and of FLOP/s that are reached, factor of the overhead;
# and the prior standard deviations of these logarithms. Judgement.
_START = np.log(np.array([0.8, 0.55, 1.0]))
_START_SDS = np.array([0.5, 0.7, 1.5])


@dataclass(frozen=True)
class Peaks:
    """The peak rates of a device.

    Attributes:
        bytes_per_s: Memory bandwidth, in bytes per second.
        flop_per_s: Dense operations in the model's number format, in FLOP/s.
        overhead_s: Fixed cost of one step in seconds, a starting point.
    """

    bytes_per_s: float
    flop_per_s: float
    overhead_s: float


@dataclass(frozen=True)
class Demand:
    """What a job needs: times at the device's peak rates, in seconds, and token counts.

    Attributes:
        weights_s: To read all weights once; one reading serves all requests of a step.
        cache_s: To read the KV cache of one request, by the tokens of its context.
        compute_s: Operations of one token, of a prompt or an output.
        overhead_s: Fixed cost of one step.
        cache_room: Requests that fit the memory beside the weights, by the tokens of each.
        prompts: Prompt tokens of a job's requests in their order, (n,).
        outputs: Output tokens of each, (n,).
        n_requests: Requests of a job; None if that is not known yet.
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
    """Data-sheet figures of the GPU, or what a copy and a matrix product reach on this processor in about a second."""
    if device.kind == "gpu":
        bandwidth, operations = next(
            ((b, f) for name, b, f in _KNOWN_PEAKS if name.lower() in device.name.lower()), _UNKNOWN_GPU
        )
        return Peaks(bandwidth * 1e9 * device.count, operations * 1e12 * device.count, _GPU_OVERHEAD_S)
    block = np.ones(16 * 1024**2)
    square = np.ones((768, 768), dtype=np.float32)
    copy_s, multiply_s = (_fastest_s(work) for work in (lambda: block.copy(), lambda: square @ square))
    return Peaks(_rounded(2 * block.nbytes / copy_s), _rounded(2 * 768**3 / multiply_s), _CPU_OVERHEAD_S)


def _rounded(per_s: float) -> float:
    """The nearest power of two, so that a resumed run starts from the same value; the fit refines it."""
    return 2.0 ** round(math.log2(per_s))


def _fastest_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def demand_of(model: Model, device: Device, workload: Workload, peaks: Peaks) -> Demand | None:
    """What a workload needs of a model on a device; None where the model's parameters or weights are not known.

    A KV cache of unknown size counts as 0 bytes: it takes no time and always fits.
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
    """The steps of a job under one configuration, as phases in which the batch stays the same.

    Attributes:
        batch: Concurrent requests in each phase, (phases,).
        steps: Decoding steps of each, (phases,).
        context: Tokens in the KV cache of one request, halfway through the phase, (phases,).
        prefilled: Prompt tokens of the whole job, padding included.
    """

    batch: Array
    steps: Array
    context: Array
    prefilled: float


class Roofline:
    """Predicts ln(output tokens per second) from the knobs that set concurrency and order of the requests.

    In a space without such a knob the prediction is constant.
    """

    def __init__(self, space: SearchSpace, demand: Demand) -> None:
        self._batches = space.batches
        concurrency = tuple(knob.name for knob in space.knobs if knob.is_concurrency)
        self._names = self._batches.knobs if self._batches else concurrency
        overhead_s = demand.overhead_s * (_BATCH_OVERHEAD if self._batches else 1)
        self._demand = replace(demand, overhead_s=overhead_s)
        self._start: Array = _START
        self._parameters: Array = _START
        self._known: dict[tuple[Scalar, ...], _Work] = {}

    def fit(self, configs: Sequence[Config], scores: Array, n_requests: int | None = None) -> None:
        """Fit shares and overhead to measured ln(rate), up to a constant (least squares with normal priors).

        Args:
            configs: Configurations that ran.
            scores: ln(rate) of each, (n,).
            n_requests: Requests of the job that was measured, None if unknown.
        """
        if n_requests is not None and n_requests != self._demand.n_requests:
            self._demand = replace(self._demand, n_requests=n_requests)
            self._known.clear()
        self._parameters = self._start
        keys = list(map(self._key, configs))
        if len(set(keys)) < 2:
            return

        def residuals(parameters: Array) -> Array:
            misfit = scores - self._curve(keys, parameters)
            return np.concatenate([(misfit - misfit.mean()) / _MISFIT_SD, (parameters - self._start) / _START_SDS])

        self._parameters = np.asarray(least_squares(residuals, self._start, max_nfev=30).x, dtype=float)

    def start_from_fit(self) -> None:
        """Make the fitted parameters the starting point of every later fit."""
        self._start = self._parameters

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
        memory_s = (need.weights_s + work.batch * cache_s) / memory_share
        compute_s = work.batch * need.compute_s / compute_share
        step_s = np.maximum(memory_s, compute_s) + need.overhead_s * overhead
        return float(work.steps @ step_s + work.prefilled * need.compute_s / compute_share)

    def _key(self, config: Config) -> tuple[Scalar, ...]:
        return tuple(config[name] for name in self._names)

    def _work(self, key: tuple[Scalar, ...]) -> _Work:
        if key not in self._known:
            values = dict(zip(self._names, key, strict=True))
            self._known[key] = self._fixed_batches(values) if self._batches else self._continuous(values)
        return self._known[key]

    def _fixed_batches(self, values: Mapping[str, Scalar]) -> _Work:
        """Fixed batches: each is padded to its longest prompt and ends with its longest output."""
        assert self._batches
        n = self._demand.n_requests or _DRAWN
        prompts, outputs = self._demand.prompts[:n], self._demand.outputs[:n]
        batches = self._batches.of(values, prompts.tolist())
        sizes = np.array([len(batch) for batch in batches], dtype=float)
        longest = np.array([prompts[batch].max() for batch in batches])
        steps = np.array([outputs[batch].max() for batch in batches])
        return _Work(sizes, steps, longest + steps / 2, float(sizes @ longest))

    def _continuous(self, values: Mapping[str, Scalar]) -> _Work:
        """Continuous batching: the next request starts as soon as one ends."""
        n = self._demand.n_requests or math.inf
        prompt, output = float(self._demand.prompts.mean()), float(self._demand.outputs.mean())
        room = max(1.0, self._demand.cache_room(prompt + output))
        batch = min([n, room, *(float(value or 1) for value in values.values())]) if values else 1.0
        one = np.ones(1)
        return _Work(batch * one, output / batch * one, (prompt + output / 2) * one, prompt)
