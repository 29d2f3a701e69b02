"""The plan of a study: the models, engines, workloads and devices to measure, and the recorded tables to read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from infertune.documents import Document, check_path, check_schema, fault_text, read_document
from infertune.domain.device import DeviceChoice
from infertune.domain.knobs import Scalar, check_scalars
from infertune.domain.measurement import Frozen
from infertune.domain.request import Launches
from infertune.domain.workload import MOST_REQUESTS
from infertune.errors import UsageError
from infertune.units import check_duration_s, parse_duration_s

AXES = ("device", "engine", "model", "workload")
_MOST_CELLS = 10_000  # judgement
_SHOWN_CHARACTERS = 60


def _as_seconds(given: object) -> object:
    return parse_duration_s(given) if isinstance(given, str) else given


def _as_values(given: object) -> object:
    """`{x: 1}` or `{x: [1, 2]}`."""
    if not isinstance(given, Mapping):
        return given
    return {name: values if isinstance(values, list) else [values] for name, values in given.items()}


def _named(given: object) -> object:
    """`[a, b]` as `{a: a, b: b}`: what is not given a name is called by its own.

    Raises:
        ValueError: One stands twice.
    """
    if not isinstance(given, list):
        return given
    texts = [str(value) for value in given]
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        raise ValueError(f"{twice[:_SHOWN_CHARACTERS]!r} stands twice")
    return dict(zip(texts, given, strict=True))


def _described(given: object) -> object:
    """The same for what is described by fields of its own: `[a, b]` and `{a: }` have none."""
    named = _named(given)
    if not isinstance(named, Mapping):
        return named
    return {name: {} if value is None or value == name else value for name, value in named.items()}


Duration = Annotated[float, BeforeValidator(_as_seconds), AfterValidator(check_duration_s)]
Texts = Annotated[dict[str, str], BeforeValidator(_named)]
Values = Annotated[dict[str, tuple[Scalar, ...]], BeforeValidator(_as_values)]


class EnginePlan(Frozen):
    """How one engine is measured.

    Attributes:
        engine: As `--engine` takes it; None means the name under which it stands in the plan.
        engine_python: Interpreter for the engine's process: another version of the engine.
        set: Arguments held at a value.
        knobs: The grid: name → values. Knobs that are not named rest at their default.
        trials: Search with so many trials instead of measuring the whole grid.
    """

    engine: str | None = None
    engine_python: Path | None = None
    set: dict[str, Scalar] = {}
    knobs: dict[str, tuple[Scalar, ...]] = {}
    trials: int | None = Field(default=None, ge=1, le=1_000_000)

    @field_validator("knobs")
    @classmethod
    def _filled(cls, given: dict[str, tuple[Scalar, ...]]) -> dict[str, tuple[Scalar, ...]]:
        if empty := next((name for name, values in given.items() if not values), None):
            raise ValueError(f"the grid is empty: {empty!r} has no values")
        return given


class DevicePlan(Frozen):
    """A device to measure on: this machine, a part of it, or the workers of a cluster.

    Attributes:
        device: As `--device` takes it.
        cores: Only so many of this machine's cores; None leaves all.
        workers: As `tune --workers` takes it: a cluster whose devices measure the searches; None is this machine.
        set: Arguments held at a value, for every engine.
        set_for: The same for one engine each: the name in the plan → arguments.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)  # `workers: 4`

    device: DeviceChoice = "auto"
    cores: int | None = Field(default=None, ge=1)
    workers: str | None = None
    set: dict[str, Scalar] = {}
    set_for: dict[str, dict[str, Scalar]] = {}


class Column(Frozen):
    """The values of a column name the cells: one cell for each."""

    column: str


Label = str | Column


class TablePlan(Frozen):
    """A recorded table, or one of the landscapes in it.

    Attributes:
        file: A CSV, gzip or not, or the folder of a run; relative to the plan.
        device: The device's name, or `{column: NAME}` where a column has it. Likewise `engine`, `model`, `workload`.
        throughput: The column of output tokens per second.
        status: The column that says how a run ended.
        joules: The column of joules per output token.
        knobs: The columns that are knobs; None takes every column that is nothing else.
        ignore: Columns that are nothing.
        where: Only rows that have this value, or one of these, in a column.
        failed: Rows that have this value in a column failed, whatever their throughput.
        default: The engine's default configuration; None takes the lowest that ran.
        gpus: The knob that counts GPUs; None knows it by its usual names.
    """

    file: Path
    device: Label = ""
    engine: Label = ""
    model: Label = ""
    workload: Label = ""
    throughput: str = "output_tokens_per_s"
    status: str | None = None
    joules: str | None = None
    knobs: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    where: Values = {}
    failed: Values = {}
    default: dict[str, Scalar] | None = None
    gpus: str | None = None

    @field_validator("knobs")
    @classmethod
    def _filled(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if given == ():
            raise ValueError("the grid is empty: name the columns that are knobs, or leave it out")
        return given

    @field_validator("file")
    @classmethod
    def _possible(cls, given: Path) -> Path:
        check_path(given)
        return given


class Plan(Frozen):
    """A study.

    Attributes:
        schema_version: Of this file; a newer one is refused.
        title: Of the report.
        models: What is measured: names → hub ids, folders or `builtin:NAME`; a list names them by themselves.
        engines: Names → how each is measured.
        workloads: Names → workloads as `--workload` takes them.
        devices: Names → this machine, or parts of it.
        tables: Recorded landscapes.
        leave_out: Combinations that are not measured, each by some of its labels.
        rules: Fixed rules to judge: name → knob → value, `max` or `min`.
        repeats: Rounds over every grid, each on engines launched afresh.
        window: Length of one window in seconds.
        requests: Requests in a job.
        seed: Seeds every draw.
        weights: `dummy` for random weights.
        load_timeout: Deadline of one launch in seconds.
        run_timeout: Deadline of one measurement in seconds.
        country: For CO₂, as `--country` takes it.
    """

    schema_version: Literal[1] = 1
    title: str = "Study"
    models: Texts = {}
    engines: Annotated[dict[str, EnginePlan], BeforeValidator(_described)] = {}
    workloads: Texts = {}
    devices: Annotated[dict[str, DevicePlan], BeforeValidator(_described)] = {}
    tables: tuple[TablePlan, ...] = ()
    leave_out: tuple[dict[str, str], ...] = ()
    rules: dict[str, dict[str, Scalar]] = {}
    repeats: Launches = 3
    window: Duration | None = None
    requests: int | None = Field(default=None, ge=1, le=MOST_REQUESTS)
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    weights: Literal["real", "dummy"] | None = None
    load_timeout: Duration = 1200.0
    run_timeout: Duration | None = None
    country: str | None = None

    @field_validator("models", "engines", "workloads", "devices", "tables", mode="after")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        if not given:
            raise ValueError("it is empty; name something, or leave it out")
        return given

    @field_validator("rules")
    @classmethod
    def _plain(cls, given: dict[str, dict[str, Scalar]]) -> dict[str, dict[str, Scalar]]:
        for values in given.values():
            check_scalars(values)
        return given

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.engines and not self.tables:
            raise ValueError("there is nothing to study: name `engines` to measure, or recorded `tables`, or both")
        if not self.engines and (idle := [n for n in ("models", "workloads", "devices") if getattr(self, n)]):
            raise ValueError(f"`{idle[0]}` are measured with `engines`, and there are none")
        known = {axis: getattr(self, f"{axis}s") for axis in AXES}
        for combination in self.leave_out:
            for axis, name in combination.items():
                if axis not in known:
                    raise ValueError(f"leave_out: there is no {axis!r}; there are {', '.join(AXES)}")
                if name not in known[axis]:
                    raise ValueError(f"leave_out: the plan has no {axis} {name!r}")
        for device, plan in self.devices.items():
            if unknown := next((name for name in plan.set_for if name not in self.engines), None):
                raise ValueError(f"devices.{device}.set_for: the plan has no engine {unknown!r}")
            gridded = [name for name, engine in self.engines.items() if engine.trials is None]
            if plan.workers is not None and gridded:
                raise ValueError(f"devices.{device}.workers: workers measure searches only; give {gridded[0]} `trials`")
        return self


def read_plan(path: Path) -> tuple[Plan, Document]:
    """The plan of a file, and the lines on which its parts stand.

    Raises:
        UsageError: The file is no plan; the message names file, line and field.
    """
    document = read_document(path, "plan")
    value = document.value
    if not isinstance(value, dict):
        raise UsageError(f"{path} is no plan: it must hold names and values, such as `engines: [...]`")
    check_schema(value, path, "plan", 1, needed=False)
    try:
        return Plan.model_validate(value), document
    except ValidationError as error:
        fault = error.errors()[0]
        place = [step for step in fault["loc"] if step not in ("str", "Column")]
        message = fault_text(fault["type"], fault["msg"])
        if fault["type"] == "extra_forbidden":
            message = "there is no such field"
        raise fault_at(path, document, place, message) from None


def fault_at(path: Path, document: Document, place: list[int | str], message: str) -> UsageError:
    """An error that names file, line and field."""
    field = ".".join(str(step)[:_SHOWN_CHARACTERS] for step in place)
    line = document.line_of(place)
    return UsageError(f"{path}, line {line}: {f'{field}: ' if field else ''}{message[:1].lower()}{message[1:]}")
