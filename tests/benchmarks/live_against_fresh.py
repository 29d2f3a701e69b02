"""Throughput at a live value against a fresh launch at that value, for any engine that has live knobs.

    python -m tests.benchmarks.live_against_fresh hf --knob batch_size=4,16 --rounds 4
    python -m tests.benchmarks.live_against_fresh vllm builtin:qwen2.5-0.5b --knob max_num_seqs=16,64,256,1024
    python -m tests.benchmarks.live_against_fresh vllm-serve builtin:tiny --set enforce_eager=true \\
        --knob max_num_seqs=4,16,64,128

A round launches the engine once as the search does, at the largest values, and sets every value on it in turn
(live); then it launches an engine for each value as the engine's users do (fresh). Every other round runs backwards. A
round is one sample of a value: no launch serves two rounds. Prints live / fresh with its 95% interval for every value.
Include the largest value of a knob: it is not lowered, so the deviation of its ratio from 1 is the effect of the
process mode alone (vLLM in one process against several). With `--out RUN` every rate is on disk as soon as it is
measured, and the same command continues where it ended.
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

from infertune.bench.bench import Bench
from infertune.bench.locks import device_lock
from infertune.domain.knobs import Config, format_scalar
from infertune.domain.measurement import Measurement, describe
from infertune.domain.request import JobRequest, make_request
from infertune.errors import InfertuneError, UsageError
from infertune.runs.job import Job, prepare, restrict
from infertune.stats import geometric_mean, paired_ratio

Side = Literal["live", "fresh"]
SIDES: tuple[Side, Side] = ("live", "fresh")


class Sample(NamedTuple):
    """One value measured in one round; the rate is None where that failed."""

    round_number: int
    setting: str
    side: Side
    output_tokens_per_s: float | None
    launch_s: float
    outcome: str


def main() -> None:
    """Run the rounds and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine")
    parser.add_argument("model", nargs="?", help="default: that of `infertune tune`")
    parser.add_argument("--knob", action="append", required=True, metavar="NAME=V1,V2", help="repeatable")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="held at a value; repeatable")
    parser.add_argument("--workload")
    parser.add_argument("--requests", type=int, default=64, help="in a job")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder to keep rates and logs in, and to go on from")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by a time limit, it says what it has
    own = {"knob", "rounds", "out"}
    asked = {name: value for name, value in vars(arguments).items() if name not in own}
    try:
        job = prepare(make_request(JobRequest, asked))
        settings = _settings(job, make_request(JobRequest, {"knob": arguments.knob}))
        with tempfile.TemporaryDirectory() as name:
            samples = _run(job, settings, arguments.rounds, arguments.out or Path(name))
    except InfertuneError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"{job.engine.name} {job.availability.version} on {job.device}: live / fresh")
    for setting in settings:
        print(_ratio(setting, samples))


def _settings(job: Job, asked: JobRequest) -> dict[str, Config]:
    """Text → configuration: the default with one knob at one value.

    Raises:
        UsageError: A knob is not there, is not live, or a value is out of its range.
    """
    restrict(job.space, {}, asked.knob)
    default = job.space.repair(job.space.default)
    settings = {}
    for name, values in asked.knob.items():
        if name in job.space.launch_names:
            raise UsageError(f"{name} needs a launch; live knobs are {_live_names(job)}")
        for value in values:
            settings[f"{name}={format_scalar(value)}"] = job.space.repair(default.updated({name: value}))
    return settings


def _live_names(job: Job) -> str:
    return ", ".join(name for name in job.space.names if name not in job.space.launch_names) or "none"


def _run(job: Job, settings: dict[str, Config], rounds: int, folder: Path) -> list[Sample]:
    """The samples of a folder, and those still missing."""
    path = folder / "rates.jsonl"
    head = json.dumps({"device": str(job.device), "engine_version": job.availability.version,
                       "request": job.request.model_dump(mode="json", exclude_defaults=True)})  # fmt: skip
    samples = _kept(path, head)
    done = {sample[:3] for sample in samples}
    folder.mkdir(parents=True, exist_ok=True)
    first_launch = sum(1 for _ in folder.glob("logs/*"))
    with (
        device_lock(job.lock_names, wait=False),
        path.open("a", encoding="utf-8") as file,
        job.bench(folder, first_launch, on_note=_say) as bench,
    ):
        if not samples:
            file.write(f"{head}\n")
        try:
            for number, side, setting in _order(rounds, list(settings)):
                if (number, setting, side) in done:
                    continue
                if samples and samples[-1].round_number != number:
                    bench.close()  # a launch is a sample of one round only
                sample = _measured(job, bench, number, setting, settings[setting], side)
                samples.append(sample)
                file.write(f"{json.dumps(sample)}\n")
                file.flush()
                _say(f"round {number}: {side:5} {setting} {sample.outcome}")
        except KeyboardInterrupt:
            _say("interrupted; the same command with --out goes on")
    return samples


def _order(rounds: int, settings: list[str]) -> list[tuple[int, Side, str]]:
    """Round, side and setting of every sample: live before fresh, and every other round backwards."""
    forth = [(side, setting) for side in SIDES for setting in settings]
    return [(number, *step) for number in range(rounds) for step in (reversed(forth) if number % 2 else forth)]


def _kept(path: Path, head: str) -> list[Sample]:
    """What an earlier call wrote; a torn last line is measured again.

    Raises:
        UsageError: It was of another device, engine or request.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")
    if whole and whole[0] != f"{head}\n":
        raise UsageError(f"{path} is of another device, engine version, model or workload; choose another --out")
    return [Sample(*json.loads(line)) for line in whole[1:]]


def _measured(job: Job, bench: Bench, number: int, setting: str, config: Config, side: Side) -> Sample:
    plan = job.plan("search", job.request.requests)
    attempt = bench.measure(config, plan, fresh=side == "fresh")
    rate = attempt.outcome.output_tokens_per_s if isinstance(attempt.outcome, Measurement) else None
    return Sample(number, setting, side, rate, attempt.launch_s, describe(attempt.outcome))


def _ratio(setting: str, samples: list[Sample]) -> str:
    """One line on a value: over the rounds in which both sides could be measured."""
    of = {(s.round_number, s.side): s.output_tokens_per_s for s in samples if s.setting == setting}
    rounds = [number for number, side in of if side == "live" and of[number, side] and of.get((number, "fresh"))]
    live, fresh = ([rate for n in rounds if (rate := of[n, side])] for side in ("live", "fresh"))
    launches = [s.launch_s for s in samples if s.setting == setting and s.side == "fresh"]
    if not rounds:
        return f"  {setting}: no round has both"
    ratio = paired_ratio(live, fresh)
    interval = "no interval" if ratio.low is None else f"95% interval {ratio.low:.3f} to {ratio.high:.3f}"
    return (
        f"  {setting}: {ratio.mean:.3f}, {interval}, {ratio.n} rounds "
        f"(live {geometric_mean(live):,.0f}, fresh {geometric_mean(fresh):,.0f} tok/s; "
        f"a fresh launch {sum(launches) / len(launches):.1f} s)"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
