"""Requests: the options of a command, from its flags, a `--config` file, or a ledger's header."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from infertune.documents import check_path, fault_text, read_document
from infertune.domain.assigning import as_scalar, assignments, check_texts, name_and_text, once, split_values
from infertune.domain.device import DeviceChoice
from infertune.domain.knobs import Scalar, check_scalars, parse_scalar
from infertune.domain.promise import limits_requests
from infertune.domain.quality import LimitOptions
from infertune.domain.serving_options import ServingOptions
from infertune.domain.workload import MOST_REQUESTS
from infertune.errors import UsageError
from infertune.sequential import TrustName
from infertune.units import check_duration_s, parse_duration_s, parse_share, shortened

_DEFAULT_TRIALS = 30
_SECRET = ("storage",)  # options whose values may have a password
_SHOWN_CHARACTERS = 80  # of a value in a message


def _in_range(given: float, most: int) -> float:
    if not 0 <= given <= most:  # NaN is neither
        raise ValueError(f"must be a number from 0 to {most:,}")
    return given


_Duration = Annotated[float, AfterValidator(check_duration_s)]
Launches = Annotated[int, Field(ge=1, le=10_000)]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Price = Annotated[float, AfterValidator(partial(_in_range, most=10**12))]


class JobRequest(BaseModel):
    """The options that all measuring commands share.

    Attributes:
        model: Hub id, folder or `builtin:NAME`; None chooses a built-in for the device.
        engine: `NAME` or `NAME:VARIANT`; None takes the first that is installed.
        device: `auto` takes the GPUs, or the processor where there are none; `cpu` and `gpu` take nothing else.
        workload: What is asked of the engine; None chooses a small synthetic one for the device.
        requests: Requests in a job; None lets the default configuration's rate and `window` decide.
        weights: `dummy` for random weights; None takes the real ones where there are any.
        seed: Seeds every draw.
        set: Arguments of the engine that are held at a value.
        knob: Arguments of the engine that are searched over some values.
        window: Length of one window in seconds; None means 10 on a GPU and 2 on a CPU.
        table: Recorded table, for an engine that answers from one.
        ignore: Columns of the table that are not knobs.
        engine_python: Interpreter for the engine's process.
        engine_binary: The engine's own program, for an engine that is one.
        load_timeout: Deadline of one launch, in seconds.
        run_timeout: Deadline of one measurement, in seconds; None allows what the default takes, five times over.
        wait: Wait for a busy device instead of refusing.
        out: The run's folder; None makes one under `reports/`.
        profiles: The folder in which profiles are kept.
        country: ISO 3166-1 alpha-3 code of the country whose electricity is used; for CO₂.
        carbon_intensity: Grams of CO₂ equivalent a kilowatt hour; wins over the country.
        price_per_hour: Rent of the machine an hour.
        price_per_kwh: Price of electricity a kilowatt hour.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, coerce_numbers_to_str=True)

    model: str | None = None
    engine: str | None = None
    device: DeviceChoice = "auto"
    workload: str | None = None
    requests: int | None = Field(default=None, ge=1, le=MOST_REQUESTS)
    weights: Literal["real", "dummy"] | None = None
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    set: dict[str, Scalar] = {}
    knob: dict[str, tuple[Scalar, ...]] = {}
    window: _Duration | None = None
    table: Path | None = None
    ignore: tuple[str, ...] = ()
    engine_python: Path | None = None
    engine_binary: Path | None = None
    load_timeout: _Duration = 1200.0
    run_timeout: _Duration | None = None
    wait: bool = False
    out: Path | None = None
    profiles: Path = Path("profiles")
    country: str | None = None
    carbon_intensity: Annotated[float, AfterValidator(partial(_in_range, most=10**6))] | None = None
    price_per_hour: _Price | None = None
    price_per_kwh: _Price | None = None
    _typed: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def typed_names(self) -> frozenset[str]:
        """Names typed as `--set` or `--knob` on the command line, not read from a file, profile or ledger."""
        return self._typed

    def typed_by_user(self, given: Any) -> Self:
        """The same request, with these settings counted as typed on the command line."""
        copy = self.model_copy()
        copy._typed = self._typed | frozenset(map(str, assignments(given)))
        return copy

    def __eq__(self, other: object) -> bool:  # where a setting was typed does not change the request
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    @field_validator("*", mode="before")
    @classmethod
    def _usable(cls, given: Any, info: ValidationInfo) -> Any:
        """Texts that the system takes, wherever in an option they stand, and no true or false that counts as 1 or 0.

        A number is taken where a flag takes text: a file has `workers: 4`, or `out: 20261128`.
        """
        if given == "":
            raise ValueError("it is empty; leave it out or give it a value")
        values = given if isinstance(given, list | tuple) else (given,)
        kind = cls.model_fields[str(info.field_name)].annotation
        if any(isinstance(v, bool) for v in values) and kind is not bool:
            raise ValueError("it cannot be true or false")
        check_texts(given)
        return str(given) if isinstance(given, int | float) and kind in (Path, Path | None) else given

    @field_validator("*")
    @classmethod
    def _possible_paths(cls, given: Any) -> Any:
        for path in given if isinstance(given, tuple) else (given,):
            if isinstance(path, Path):
                check_path(path)
        return given

    @field_validator("set", "knob")
    @classmethod
    def _plain(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name, values in given.items():
            for value in values if isinstance(values, tuple) else (values,):
                check_scalars({name: value})
        return given

    @field_validator("set", mode="before")
    @classmethod
    def _assignments(cls, given: Any) -> Any:
        """`["a=1", "b=x"]`, as flags come, or a mapping, as files have it."""
        return assignments(given)

    @field_validator("knob", mode="before")
    @classmethod
    def _ranges(cls, given: Any) -> Any:
        """`["a=1,2", "b=x,y"]`, as flags come, or a mapping of names to lists, as files have it."""
        if isinstance(given, list | tuple):
            pairs = once([name_and_text(text) for text in given])
            given = {name: tuple(map(parse_scalar, split_values(values))) for name, values in pairs.items()}
        if not isinstance(given, Mapping):
            return given
        lists = {name: values for name, values in given.items() if isinstance(values, list | tuple)}
        return {**given, **{name: tuple(map(as_scalar, values)) for name, values in lists.items()}}

    @field_validator("country")
    @classmethod
    def _country(cls, given: str | None) -> str | None:
        return given.upper() if given else given

    @field_validator("window", "load_timeout", "run_timeout", mode="before")
    @classmethod
    def _durations(cls, given: Any) -> Any:
        return parse_duration_s(given) if isinstance(given, str) else given


class StaffedRequest(JobRequest):
    """The options of commands that can measure on several devices.

    Attributes:
        workers: Who measures: `auto`, a number, or the address of a Ray cluster; None for this process. It is where and
            not what, and a stranger's ledger must not name it: it is kept in none and read from none.
    """

    workers: str | None = Field(default=None, exclude=True)


class TuneRequest(ServingOptions, LimitOptions, StaffedRequest):
    """The options of `infertune tune`.

    Attributes:
        current: What runs today, and is to be beaten: a server's command line, a file that holds one (its service
            behind a colon), or a profile.
        objective: What is tuned for; unless given, goodput where a limit is on every request, else throughput.
        from_: Profiles or runs' folders to start from, of other GPUs, models or versions; the key is `from`.
        allow_lossy: Search lossy values even where answers cannot be checked.
        sampler: The search strategy: a name, or `MODULE:CLASS` of a third party's Optuna sampler.
        storage: Where the run is kept as an Optuna study too: a URL of SQLAlchemy's or a journal file. It may have a
            password, so it is no part of the ledger.
        trials: Most trials of the search; None where only time is limited.
        budget: Most seconds for everything; None where only trials are limited.
        patience: The search ends after so many trials without a gain of 1%.
        trust: How sure the answer must be; sets the errors, and so how many launches prove it.
        finalists: How many of the best are measured again on unseen prompts, at most.
        confirm_launches: Launches of each finalist; None ends as soon as the leader is settled.
        final_launches: Least and most launches of each side in the final comparison; None as `trust` says.
    """

    allow_lossy: bool = False
    current: str | None = None
    objective: str = "throughput"
    from_: tuple[Path, ...] = Field(default=(), alias="from")
    sampler: str = "auto"
    storage: str | None = Field(default=None, exclude=True, repr=False)
    trials: _Count | None = None
    budget: _Duration | None = None
    patience: _Count = 12
    trust: TrustName = "normal"
    finalists: Launches = 3
    confirm_launches: Launches | None = None
    final_launches: tuple[Launches, Launches] | None = None

    @property
    def most_trials(self) -> int | None:
        """Most trials of the search; None where the time budget alone ends it."""
        return _DEFAULT_TRIALS if self.trials is None and self.budget is None else self.trials

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, given: Any) -> Any:
        return parse_duration_s(given) if isinstance(given, str) else given

    @model_validator(mode="before")
    @classmethod
    def _objective_of_limits(cls, given: Any) -> Any:
        """Limits on every request are a server's promise: what is tuned for is the rate at which it is kept."""
        limits = given.get("slo") if isinstance(given, Mapping) else None
        if not isinstance(limits, list | tuple) or given.get("objective") is not None:
            return given
        return {**given, "objective": "goodput"} if any(limits_requests(str(text)) for text in limits) else given

    @field_validator("final_launches")
    @classmethod
    def _final(cls, given: tuple[int, int] | None) -> tuple[int, int] | None:
        if given is not None and not 2 <= given[0] <= given[1]:
            raise ValueError("needs at least 2 pairs of launches, and the most must not be below the least")
        return given


class GateRequest(LimitOptions, JobRequest):
    """The options of `infertune gate`; model, workload and settings come from the profile.

    Attributes:
        profile: The profile whose configuration is measured again: the new side. `set` repeats settings of it that can
            load code, which is how its user allows them; with `target` it names one of the server's models.
        mode: `paired` with a base, launched in turn; `stored` against earlier runs.
        calibrate: Measure the profile's configuration against itself, and say what this machine lets a gate see.
        against: The base: `default`, or another profile; None means the default, or the same configuration where a
            base interpreter or model is given.
        baseline_python: Interpreter of the base side: another version of the engine.
        baseline_binary: Executable of the base side's engine.
        baseline_model: Model of the base side.
        target: URL of a server that runs already, measured in place of an engine that is launched with the profile's
            configuration: the profile then gives the workload, the limits and the rate alone.
        baseline_target: URL of the server that `target` is compared with.
        baseline_set: Settings of the base side that are changed from what `against` names.
        margin: The drop that must not pass, a share.
        metric: What is gated on, each a figure of `infertune.domain.figures.FIGURES`; none given means throughput, or
            energy where a profile that was tuned for it is held against the default.
        history: The folder of earlier runs, for `stored`; None means the one beside the profile.
        launches: Launches that make one run, for `stored`.
        on_inconclusive: What an inconclusive gate counts as; None keeps its own exit code.
        junit: Where to write a JUnit file.
    """

    profile: Path
    mode: Literal["paired", "stored"] = "paired"
    calibrate: bool = False
    against: str | None = None
    baseline_python: Path | None = None
    baseline_binary: Path | None = None
    baseline_model: str | None = None
    target: str | None = None
    baseline_target: str | None = None
    baseline_set: dict[str, Scalar] = {}
    margin: float = 0.05
    metric: tuple[str, ...] = ()
    history: Path | None = None
    launches: Launches = 3
    on_inconclusive: Literal["pass", "fail"] | None = None
    junit: Path | None = None

    @field_validator("margin", mode="before")
    @classmethod
    def _margin(cls, given: Any) -> Any:
        return parse_share(str(given))

    @field_validator("baseline_set", mode="before")
    @classmethod
    def _baseline_assignments(cls, given: Any) -> Any:
        return assignments(given)

    @field_validator("metric")
    @classmethod
    def _metrics(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(given))

    @field_validator("baseline_set")
    @classmethod
    def _plain_base(cls, given: dict[str, Scalar]) -> dict[str, Scalar]:
        check_scalars(given)
        return given

    @field_validator("knob")
    @classmethod
    def _from_the_profile(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given:
            raise ValueError("a gate takes its settings from the profile; change the base's with --baseline-set")
        return given


R = TypeVar("R", bound=JobRequest)


def is_code(sampler: object) -> bool:
    """Whether a sampler is a third party's, `MODULE:CLASS`, whose code would be run."""
    return isinstance(sampler, str) and ":" in sampler


def make_request(
    kind: type[R],
    flags: Mapping[str, Any],
    config_file: Path | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> R:
    """A request from a file's keys and the flags given, a flag winning over the file.

    Args:
        kind: The request's class.
        flags: Name → value as typed; None for a flag that was not given.
        config_file: YAML with the same names; dashes and underscores are the same.
        earlier: The request in a ledger, which a flag wins over too.

    Raises:
        UsageError: A name is unknown or a value impossible, or a file names a sampler that is a third party's code: the
            file may be a stranger's.
    """
    document = _read_config_file(config_file) if config_file else {}
    given = {name: value for name, value in flags.items() if value not in (None, [], ())}
    written = {**document, **(earlier or {})}.get("sampler")
    if is_code(written) and "sampler" not in given:
        source = config_file or "the run"
        raise UsageError(f"{source} names the sampler {written}, whose code would be run: give --sampler to allow it")
    asked = {**document, **(earlier or {}), **given}
    try:
        request = kind.model_validate(asked)
        typed = [assignments(given[flag]) for flag in ("set", "knob", "baseline_set") if flag in given]
        request._typed = frozenset(str(name) for names in typed for name in names)
        return request
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0]).replace("_", "-") if fault["loc"] else "request"
        if fault["type"] == "extra_forbidden":
            raise UsageError(f"{f'{config_file}: ' if config_file else ''}there is no option {name!r}") from None
        message = fault_text(fault["type"], fault["msg"])
        text = asked.get(str(fault["loc"][0])) if fault["loc"] else None  # a duration as it was written
        value = "" if name in _SECRET else f" {_shown(text if isinstance(text, str) else fault['input'])}"
        raise UsageError(f"--{name}{value.rstrip()}: {message}") from None


def _read_config_file(path: Path) -> dict[str, Any]:
    document = read_document(path, "--config").value
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UsageError(f"--config {path} must hold names and values, such as `trials: 20`")
    return {str(name).replace("-", "_"): value for name, value in document.items()}


def _shown(value: Any) -> str:
    """A value for a message; long ones are cut, others than texts and numbers left out."""
    if isinstance(value, int) and abs(value) >= 2**64:
        return ""
    text = str(value) if isinstance(value, str | float | int | Path) else ""
    text = text.lower() if isinstance(value, bool) else text  # as YAML has it
    return shortened(text, _SHOWN_CHARACTERS)
