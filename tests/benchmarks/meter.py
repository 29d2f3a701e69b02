"""The effect of the energy meters on throughput: one loaded engine, windows with meters on and off in turn.

    python -m tests.benchmarks.meter hf --pairs 20

Prints the mean ratio on / off with its 95% interval. The meters are those of the device: NVML on a GPU, codecarbon
everywhere.
"""

import argparse
import tempfile
from pathlib import Path

from infertune.bench.channel import LoadCommand, LoadedReply, MeasureCommand, MeasuredReply
from infertune.bench.isolation import Deadlines, EngineProcess
from infertune.domain.knobs import Scalar
from infertune.domain.request import JobRequest
from infertune.energy import CarbonOptions, EnergyMeter, NoMeter, Reading
from infertune.energy.sources import open_meter
from infertune.engines.base import Setup
from infertune.runs.job import prepare
from infertune.stats import paired_ratio

_SETTINGS: dict[str, dict[str, Scalar]] = {
    "hf": {"batch_size": 16},
    "vllm": {"max_num_seqs": 64, "enforce_eager": True},
}
_WORKLOAD = "synthetic:in=64-128,out=64"


class Switched:
    """The device's meters, or none, window by window."""

    def __init__(self, meter: EnergyMeter) -> None:
        self.on = True
        self._meter = meter

    def measure_idle(self) -> None:
        """Once, after loading."""
        self._meter.measure_idle()

    def begin(self) -> None:
        """Only when on."""
        (self._meter if self.on else NoMeter()).begin()

    def end(self) -> Reading:
        """Only when on."""
        return (self._meter if self.on else NoMeter()).end()

    def close(self) -> None:
        """Close the device's."""
        self._meter.close()


def main() -> None:
    """Run the pairs and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=_SETTINGS)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--workload", default=_WORKLOAD)
    arguments = parser.parse_args()
    job = prepare(JobRequest(engine=arguments.engine, workload=arguments.workload, requests=arguments.requests))
    config = job.space.repair(job.space.default.updated(_SETTINGS[arguments.engine]))
    meter = Switched(open_meter(job.device, CarbonOptions()))
    setup = Setup(model=job.model, device=job.device, config=config, defaults=job.engine_defaults, faithful=True)
    plan = job.plan("search", arguments.requests)
    live = config.subset(frozenset(job.space.names) - job.space.launch_names)
    rates: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as name, EngineProcess(Path(name) / "log", meter=meter) as process:
        loaded = process.load(LoadCommand(engine=job.engine.name, options=job.options, setup=setup), Deadlines())
        assert isinstance(loaded, LoadedReply), loaded
        for pair in range(arguments.pairs + 1):
            for meter.on in (True, False) if pair % 2 else (False, True):
                reply = process.measure(MeasureCommand(live=live, plan=plan), Deadlines())
                assert isinstance(reply, MeasuredReply), reply
                rates[meter.on].append(reply.measurement.output_tokens_per_s)
    meter.close()
    ratio = paired_ratio(rates[True][1:], rates[False][1:])  # the first pair warms up
    print(
        f"{arguments.engine} on {job.device}: meters on / off {ratio.mean:.4f}, "
        f"95% interval {ratio.low:.4f} to {ratio.high:.4f}, {ratio.n} pairs"
    )


if __name__ == "__main__":
    main()
