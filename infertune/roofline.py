"""A roofline of decoding: what more requests that run together should bring, from the sizes of model and device.

The time of one step is what the memory needs for the weights and the KV cache, or what the processor needs for the
operations, whichever is more, plus a fixed overhead; prefill adds its operations (Williams et al., Roofline, CACM
2009; for decoding, Pope et al., Efficiently Scaling Transformer Inference, MLSys 2023). How much of the peaks an engine
reaches, and its overhead, are guesses at first and are fitted to the trials as they come in.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from infertune.device import Device
from infertune.knobs import Config, SearchSpace
from infertune.models import Model
from infertune.workload import Workload

Array = NDArray[np.float64]

# Bandwidth in GB/s and dense 16-bit TFLOP/s of the first name that a board's name contains (NVIDIA's data sheets).
_KNOWN_PEAKS = (
    ("B200", 8000, 2250), ("H200", 4800, 989), ("H100 NVL", 3900, 835), ("H100 PCIe", 2000, 756), ("H100", 3350, 989),
    ("A100-PCIE-40GB", 1555, 312), ("A100-SXM4-40GB", 1555, 312), ("A100", 2039, 312), ("L40S", 864, 362),
    ("L40", 864, 181), ("L4", 300, 121), ("A10G", 600, 70), ("A10", 600, 125), ("T4", 320, 65), ("V100", 900, 125),
    ("RTX 5090", 1792, 209), ("RTX 4090", 1008, 165), ("RTX 3090", 936, 71),
)  # fmt: skip
_UNKNOWN_GPU = (1000, 200)
_DRAWN = 256
_BYTES_PER_TOKEN = 4  # of text that is not tokenized yet
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
    """What one output token costs, in seconds at the device's peaks.

    Attributes:
        weights_s: Reading all weights once, shared by a step's requests.
        cache_s: Reading one request's KV cache.
        compute_s: One token's operations.
        prefill_s: The operations of a request's prompt, for each of its output tokens.
        overhead_s: Of one step.
        room: Requests whose KV cache fits the memory.
    """

    weights_s: float
    cache_s: float
    compute_s: float
    prefill_s: float
    overhead_s: float
    room: float


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
    return Peaks(2 * block.nbytes / copy_s, 2 * 768**3 / multiply_s, 1e-3)


def _fastest_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def demand_of(model: Model, device: Device, workload: Workload, peaks: Peaks) -> Demand:
    """What a workload asks of a model on a device."""
    requests = workload.draw("search", _DRAWN)
    output = float(np.mean([request.output_tokens for request in requests]))
    prompt = float(
        np.mean([request.prompt_tokens or len(request.text or "") / _BYTES_PER_TOKEN for request in requests])
    )
    cache_bytes = model.kv_bytes_per_token * (prompt + output / 2)
    token_s = 2 * model.active_parameters / peaks.flop_per_s
    free_bytes = 0.9 * device.memory_bytes * device.count - model.parameter_bytes
    return Demand(
        weights_s=model.parameter_bytes / peaks.bytes_per_s,
        cache_s=cache_bytes / peaks.bytes_per_s,
        compute_s=token_s,
        prefill_s=token_s * prompt / output,
        overhead_s=peaks.overhead_s,
        room=max(1.0, free_bytes / (model.kv_bytes_per_token * (prompt + output))),
    )


class Roofline:
    """Predicts ln(output tokens per second) from the knob that says how many requests run together.

    Without such a knob it predicts nothing.
    """

    def __init__(self, space: SearchSpace, demand: Demand) -> None:
        self._names = [knob.name for knob in space.knobs if knob.is_concurrency]
        self._demand = demand
        self._parameters: Array = _GUESSES

    def fit(self, configs: Sequence[Config], scores: Array) -> None:
        """Adjust shares and overhead to ln(rate) as measured; its general level is not used.

        Args:
            configs: That ran.
            scores: Of each, (n,).
        """
        together = self._together(configs)
        if len(set(together)) < 2:
            return

        def residuals(parameters: Array) -> Array:
            misfit = scores - self._curve(together, parameters)
            return np.concatenate([(misfit - misfit.mean()) / _MISFIT, (parameters - _GUESSES) / _SDS])

        self._parameters = np.asarray(least_squares(residuals, self._parameters, max_nfev=30).x, dtype=float)

    def predict(self, configs: Sequence[Config]) -> Array:
        """ln(rate) of configurations, (n,)."""
        return self._curve(self._together(configs), self._parameters)

    def _together(self, configs: Sequence[Config]) -> Array:
        if not self._names:
            return np.ones(len(configs))
        values = [min(float(config[name] or 1) for name in self._names) for config in configs]
        return np.array([min(value, self._demand.room) for value in values])

    def _curve(self, together: Array, parameters: Array) -> Array:
        memory_share, compute_share, overhead = np.exp(parameters)
        need = self._demand
        memory_s = (need.weights_s + together * need.cache_s) / memory_share
        compute_s = together * need.compute_s / compute_share
        step_s = np.maximum(memory_s, compute_s) + need.overhead_s * overhead
        curve: Array = -np.log(step_s / together + need.prefill_s / compute_share)
        return curve
