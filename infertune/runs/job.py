"""A job: a request with its engine, model, device, workload and space found and checked before anything is written."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infertune.bench.bench import Bench
from infertune.bench.channel import Plan
from infertune.bench.crew import Answering
from infertune.bench.isolation import Deadlines
from infertune.bench.serving import ServePlan
from infertune.domain.command import Command
from infertune.domain.device import Device, lock_names, survey, survey_to_measure
from infertune.domain.differences import device_differences, differing
from infertune.domain.knobs import Config, SearchSpace
from infertune.domain.models import Model
from infertune.domain.quality import LOOKS, Limits
from infertune.domain.record import Header
from infertune.domain.request import JobRequest
from infertune.domain.workload import LONG_DRAW, Part, Workload, parse_workload
from infertune.energy import CarbonOptions
from infertune.energy.sources import check_country
from infertune.engines import default_engine_name, get_engine, takes_binary, takes_table
from infertune.engines.asking import understood
from infertune.engines.base import Availability, Engine, EngineOptions
from infertune.engines.models import model_for
from infertune.errors import MismatchError, UsageError
from infertune.runs.asked import Current, Fixed, asked_of, resting_at_current, restrict
from infertune.runs.guard import Guard
from infertune.runs.ledger import Ledger, now
from infertune.runs.serving import Serving, serving_of
from infertune.search.roofline import Roofline, demand_of, peaks_of
from infertune.units import slugify
from infertune.version import __version__
from infertune.writing import check_inside

_DEFAULT_MODELS = {"cpu": "builtin:tiny", "gpu": "builtin:qwen2.5-0.5b"}
_DEFAULT_WORKLOADS = {"cpu": "synthetic:in=32-128,out=32", "gpu": "synthetic:in=512,out=128"}
_DEFAULT_WINDOWS_S = {"cpu": 2.0, "gpu": 10.0}
LOGS = "logs"
_FEWEST_REQUESTS = 32
_WARMUP_REQUESTS = 256


@dataclass(frozen=True)
class Job:
    """A request made concrete.

    Attributes:
        request: What was asked.
        engine: The engine, not loaded.
        options: How its worker finds it.
        availability: Its installed version.
        model: The model, None for engines that need none.
        device: What it runs on.
        workload: What is asked of it.
        space: Its knobs, restricted as the user wished; what it holds is then the space's default.
        engine_defaults: What the engine does when it is told nothing.
        held: The arguments that are held, as the engine spells them.
        for_all: Those of them that are no knob to be tuned: the engine's default is meant with them too.
        stock: The engine's default with what is held, where `space` rests at what runs today; else None.
        running: The command that runs today, if one was given.
        window_s: Length of one window in seconds.
        notes: What was chosen for the user, in sentences.
        serving: How a server is loaded; None for offline jobs.
    """

    request: JobRequest
    engine: Engine
    options: EngineOptions
    availability: Availability
    model: Model | None
    device: Device
    workload: Workload
    space: SearchSpace
    engine_defaults: Config
    window_s: float
    notes: tuple[str, ...]
    held: Config = Config({})
    for_all: Config = Config({})
    stock: Config | None = None
    running: Command | None = None
    serving: Serving | None = None

    def bench(self, folder: Path, first_launch: int = 0, on_note: Callable[[str], None] = lambda text: None) -> Bench:
        """A bench that logs into a run's folder."""
        return Bench(
            engine=self.engine,
            options=self.options,
            model=self.model,
            device=self.device,
            space=self.space,
            log_folder=folder / LOGS,
            deadlines=self.deadlines,
            seed=self.request.seed,
            carbon=self.carbon,
            first_launch=first_launch,
            engine_defaults=self.engine_defaults,
            on_note=on_note,
        )

    @property
    def deadlines(self) -> Deadlines:
        """Of each stage, as far as the request says."""
        request = self.request
        if request.run_timeout is None:
            return Deadlines(load_s=request.load_timeout)
        return Deadlines(load_s=request.load_timeout, warmup_s=request.run_timeout, run_s=request.run_timeout)

    @property
    def carbon(self) -> CarbonOptions:
        """How CO₂ is computed."""
        return CarbonOptions(country=self.request.country, intensity_g_per_kwh=self.request.carbon_intensity)

    @property
    def lock_names(self) -> tuple[str, ...]:
        """The devices that the run locks; none for a simulated engine."""
        return () if self.engine.simulated else lock_names(self.device)

    def plan(self, part: Part, n_requests: int | None, round_number: int = 0, windows: int = 1) -> Plan | ServePlan:
        """The requests to run: of one part of the workload, as many as given or as many as fill a window."""
        if self.serving is not None:
            return self.serving.plan(self.workload, part, round_number, windows)
        fewest = max(_FEWEST_REQUESTS, min(self.space.most_concurrent, _WARMUP_REQUESTS))
        drawn = n_requests or fewest
        if part == "search":  # the first n of one long draw: every configuration then runs the same requests
            drawn = max(LONG_DRAW, drawn)
        return Plan(
            warmup=self.workload.draw("warmup", min(n_requests or _WARMUP_REQUESTS, _WARMUP_REQUESTS)),
            requests=self.workload.draw(part, drawn, round_number)[:n_requests],
            windows=windows,
            window_s=self.window_s if n_requests is None else None,
            fewest=fewest,
        )

    @property
    def unchecked(self) -> str:
        """Why answers cannot be checked here, in words; empty if they can."""
        if not getattr(self.engine, "scores", False):  # an engine of a third party may not say
            return f"the engine {self.engine.name} gives no log probabilities"
        dummy = self.model is not None and self.model.weights == "dummy"
        return "dummy weights answer nothing" if dummy else ""

    def guard(self, bench: Answering, reference: Config, limits: Limits) -> Guard:
        """A guard over this job's prompts of the part `quality`."""
        unseen = getattr(self.engine, "unseen", lambda name: False)
        return Guard(bench, reference, self.workload.draw("quality", LOOKS[-1]), limits, unseen)

    def header(self, command: str, ported: Config | None = None) -> Header:
        """The first line of this job's ledger; `ported` is the best configuration of a `--from` run or profile."""
        return Header.model_validate(
            {
                "infertune_version": __version__,
                "created_at": now(),
                "command": command,
                "request": self._request_record(),
                "engine": self.engine.name,
                "engine_version": self.availability.version,
                "model": self.model,
                "device": self.device,
                "workload": self.workload.record(),
                "space": self.space.record(),
                "engine_defaults": self.engine_defaults,
                "notes": self.notes,
                "ported": ported,
                "held": self.held,
                "stock": self.stock,
                "running": self.running,
            }
        )

    def _request_record(self) -> dict[str, Any]:
        """The request as a ledger keeps it: what runs today without its secrets."""
        kept = self.request.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        if self.running is not None and self.running.text:
            kept["current"] = self.running.text
        return kept

    def resume(self, folder: Path) -> Ledger:
        """The ledger of an earlier run of the same job, opened to append to it.

        Raises:
            UsageError: The folder is not a run.
            MismatchError: Something that its figures depend on has changed since.
        """
        _check_logs(folder)
        ledger = Ledger.open(folder, mend=True)
        then, today = ledger.header, self.header(ledger.header.command)
        for trial in ledger.trials:  # whose search may have gone beyond a ladder
            today = today.model_copy(update={"space": today.space.with_values_of(trial.config)})
        if changed := _changed_device(then.device, today.device) or _changed(then, today):
            ledger.close()
            raise MismatchError(
                f"{folder} cannot be continued: {changed}; its trials would not compare, so start a new run"
            )
        return ledger

    def roofline(self) -> Roofline | None:
        """The roofline of this model on this device; None if the model's sizes are not known."""
        if self.model is None:
            return None
        demand = demand_of(self.model, self.device, self.workload, peaks_of(self.device))
        return Roofline(self.space, demand) if demand else None

    def new_folder(self) -> Path:
        """The run's folder: as asked, or `reports/<date>-<gpu>-<engine>-<model>`, numbered if there is one already.

        Raises:
            UsageError: It cannot be made or written.
        """
        folder = self.request.out or self._free_folder()
        _check_logs(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UsageError(f"cannot write {folder}: {error.strerror}; choose another --out") from None
        return folder

    def _free_folder(self) -> Path:
        day = datetime.now(UTC).date().isoformat()
        model = self.model.name if self.model else slugify(self.options.variant or "no-model")
        name = f"{day}-{self.device.slug}-{self.engine.name}-{model}"
        number = 1
        while os.path.lexists(folder := Path("reports") / (name if number == 1 else f"{name}-{number}")):
            number += 1
        return folder


class ModelRefusedError(UsageError):
    """An engine refuses a model, or an argument for it; what is known of the model stands beside the reason."""

    def __init__(self, reason: str, model: Model, engine: str) -> None:
        super().__init__(reason)
        self.model = model
        self.engine = engine


def prepare(
    request: JobRequest,
    current: Current | None = None,
    fixed: Fixed | None = None,
    *,
    measures: bool = True,
    device: Device | None = None,
) -> Job:
    """Check a request and find everything that it names.

    Args:
        request: What is asked.
        current: What runs today, where the space shall rest at it.
        fixed: Settings of a profile: the space has them and is not restricted to them.
        measures: Something will be measured: then GPUs that cannot be used are an error, else a note.
        device: The workers'; None for this process's.

    Raises:
        UsageError: Something in it cannot be; the message says what to do.
        BenchmarkError: The device that is asked for cannot be used.
    """
    notes: list[str] = []
    spec = request.engine or default_engine_name()
    engine, options = engine_of(request, spec)
    availability = engine.available()
    if availability.reason:
        raise UsageError(f"engine {engine.name} cannot be used here: {availability.reason}")
    if device is None:
        seen = survey_to_measure(request.device) if measures else survey(request.device)
        device = seen.device
        notes += seen.notes
    if request.country is not None:
        check_country(request.country)
    model = None
    if engine.needs_model:
        served = current.command.served if current and current.command else None
        if request.model is None and served is None:
            notes.append(f"no MODEL given: tuning {_DEFAULT_MODELS[device.kind]}")
        if request.model is not None and served not in (None, request.model):
            notes.append(f"MODEL {request.model} is tuned; the command of --current serves {served}")
        model = model_for(engine, options, request.model or served or _DEFAULT_MODELS[device.kind], request.weights)
    elif request.model is not None:
        raise UsageError(f"engine {engine.name} takes no MODEL; leave {request.model!r} out")
    if model and model.weights == "dummy":
        notes.append("dummy weights: speeds are those of the architecture; the text means nothing")
        if model.text_architecture:
            notes.append(f"dummy weights: of {model.spec} the decoder alone is launched, {model.text_architecture}")
    workload = parse_workload(request.workload or _DEFAULT_WORKLOADS[device.kind], request.requests, request.seed)
    notes += workload.notes
    if request.requests is not None and (most := workload.most("search")) is not None and most < request.requests:
        notes.append(f"the workload has {most} requests for the search, fewer than the {request.requests} asked for")
    asked = asked_of(request, current, fixed)
    try:
        found = understood(engine, asked, model, device, workload)
    except UsageError as refusal:
        if model is None:
            raise
        raise ModelRefusedError(str(refusal), model, engine.name) from refusal
    space = found.space if fixed else restrict(found.space, found.held.root, found.searched)
    whole = found.space
    stock = None
    if current is not None:
        space, stock, more = resting_at_current(space, found)
        notes.extend((*current.notes, *more))
    return Job(
        request=request,
        engine=engine,
        options=options,
        availability=availability,
        model=model,
        device=device,
        workload=workload,
        space=space,
        engine_defaults=whole.default,
        held=found.held,
        for_all=found.for_all,
        stock=stock,
        running=current.command if current else None,
        window_s=request.window or _DEFAULT_WINDOWS_S[device.kind],
        notes=(*notes, *found.notes, *space.notes),
        serving=serving_of(request, workload, engine),
    )


def engine_of(request: JobRequest, spec: str) -> tuple[Engine, EngineOptions]:
    """The engine of a request, and how its worker finds it.

    Args:
        request: What is asked.
        spec: As `--engine` takes it.

    Raises:
        UsageError: There is no such engine, or a program that the request names; or it answers from no table.
    """
    check_programs(request.engine_python, request.engine_binary)
    name = spec.partition(":")[0]
    if request.engine_binary and not takes_binary(name):
        raise UsageError(f"--engine-binary: engine {spec} is no program of its own; leave it out")
    if (request.table or request.ignore) and not takes_table(name):
        flag = "table" if request.table else "ignore"
        raise UsageError(f"--{flag}: engine {spec} answers from no table; leave it out, or take one that does")
    options = EngineOptions(
        variant=spec.partition(":")[2],
        table=request.table.absolute() if request.table else None,
        ignore=request.ignore,
        python=request.engine_python,
        binary=request.engine_binary,
    )
    return get_engine(spec, options), options


def check_programs(python: Path | None, binary: Path | None, whose: str = "engine") -> None:
    """Refuse what cannot be run.

    Args:
        python: Of the flag `--engine-python`.
        binary: Of the flag `--engine-binary`.
        whose: What stands in place of `engine` in the flags that were given.

    Raises:
        UsageError: One of them is no executable file.
    """
    for flag, program, what in (("python", python, "interpreter"), ("binary", binary, "program")):
        if program and not (os.path.isfile(program) and os.access(program, os.X_OK)):
            raise UsageError(f"--{whose}-{flag} {program} is no executable {what}")


def _changed_device(then: Device, now: Device) -> str:
    """How a device has changed, in words; empty if figures still compare. A header of workers has no UUIDs."""
    if then.uuids and now.uuids and then.uuids != now.uuids:
        return "; ".join(map(str, differing("device", _of_boards(then), _of_boards(now))))
    return "; ".join(map(str, device_differences(then, now)))


def _changed(then: Header, today: Header) -> str:
    """What else of a job has changed, in words; empty if nothing has."""
    for what in ("engine", "engine_version", "model", "workload", "space", "engine_defaults"):
        before, now = getattr(then, what), getattr(today, what)
        if not _same_model(before, now) and (found := differing(what.replace("_", " "), before, now)):
            return str(found[0])
    return ""


def _same_model(before: object, after: object) -> bool:
    """Two descriptions of one model: its figures may be known better by now, from downloaded files for instance."""
    return isinstance(before, Model) and isinstance(after, Model) and before.identity == after.identity


def _check_logs(folder: Path) -> None:
    """Refuse a run's folder whose `logs` is a link or no folder, before anything is measured."""
    check_inside(folder, (f"{LOGS}/launch",), "logs")


def _of_boards(device: Device) -> str:
    return f"{', '.join(device.uuids)}: {device}"
