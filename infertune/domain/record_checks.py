"""Whether what a ledger says makes sense: each trial is held against the space and the command of the header.

The schemas in `record` and `trial` check types and ranges. These checks need two parts of a ledger at once.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import JsonValue

from infertune.domain.knobs import Config, Scalar, SpaceRecord, check_scalars, format_scalar, is_number
from infertune.domain.objective import objective_of
from infertune.domain.request import JobRequest, TuneRequest, make_request
from infertune.domain.trial import Phase, Trial
from infertune.errors import UsageError
from infertune.units import shortened

CommandName = Literal["tune", "landscape", "bench", "gate"]
_PHASES: dict[CommandName, tuple[Phase, ...]] = {
    "tune": ("search", "device", "confirm", "final"),
    "landscape": ("grid",),
    "bench": ("bench",),
    "gate": ("search", "base", "new"),
}
_SHOWN_CHARACTERS = 60  # of a stranger's name or value in a message


class SenseError(ValueError):
    """A ledger that is well-formed says something that cannot be; the message begins with the field."""


def recorded_request(command: CommandName, request: Mapping[str, JsonValue]) -> JobRequest:
    """The request of a header, with the options that this version knows.

    Raises:
        UsageError: An option has an impossible value.
    """
    kind = TuneRequest if command == "tune" else JobRequest
    return make_request(kind, {name: value for name, value in request.items() if name in kind.model_fields})


class HeaderChecks:
    """What the trials of a ledger are held against.

    Args:
        command: The command that made the run.
        request: Its options.
        space: The knobs.
        defaults: What the engine does when it is told nothing.
        held: The arguments that are held for the whole run.
        configurations: Other configurations of the header by field, such as `ported`; None where there is none.

    Raises:
        SenseError: The header contradicts itself.
    """

    def __init__(
        self,
        command: CommandName,
        request: Mapping[str, JsonValue],
        space: SpaceRecord,
        defaults: Config,
        held: Config,
        configurations: Mapping[str, Config | None],
    ) -> None:
        self._command = command
        self._knobs = {knob.name: knob for knob in space.knobs}
        self._allowed = {knob.name: frozenset(map(_told_apart, knob.values)) for knob in space.knobs}
        self._last_number = -1
        if len(self._knobs) < len(space.knobs):
            raise SenseError("space.knobs: two have the same name")
        try:
            objective_of(recorded_request(command, request))
        except UsageError as error:
            raise SenseError(f"request: {error}") from None
        self._check_defaults(defaults)
        _check_plain("held", held)
        for field, config in configurations.items():
            if config is not None:
                self._check_in_space(field, config)

    def check(self, trial: Trial) -> None:
        """Hold a trial against the header and the trials before it, which were given here before.

        Raises:
            SenseError: It contradicts them.
        """
        if trial.number <= self._last_number:
            raise SenseError(f"number: {trial.number} comes after {self._last_number}; two runs wrote here at once?")
        self._last_number = trial.number
        if trial.phase not in _PHASES[self._command]:
            raise SenseError(f"phase: {trial.phase} is none of `infertune {self._command}`")
        if self._command == "gate":  # its base side may have another engine's or version's knobs
            _check_plain("config", trial.config)
        else:
            self._check_in_space("config", trial.config)
        if trial.measurement:
            sizes = {window.n_requests for window in trial.measurement.windows if window.service is None}
            if len(sizes) > 1:
                raise SenseError("outcome.windows: they have different numbers of requests")

    def _check_defaults(self, defaults: Config) -> None:
        """The engine's own defaults may lie outside of what the user allowed, but must be of the knobs' kinds."""
        _check_plain("engine_defaults", defaults)
        for name, value in defaults.root.items():
            if name not in self._knobs:
                raise SenseError(f"engine_defaults: the space has no knob {_shown(name)}")
            if value is not None and self._knobs[name].ordinal and not is_number(value):  # None: the engine chooses
                raise SenseError(f"engine_defaults.{_shown(name)}: {_shown(format_scalar(value))} is no number")

    def _check_in_space(self, field: str, config: Config) -> None:
        if config.root.keys() != self._knobs.keys():
            for name in config.root:
                if name not in self._knobs:
                    raise SenseError(f"{field}: the header's space has no knob {_shown(name)}")
            missing = next(name for name in self._knobs if name not in config.root)
            raise SenseError(f"{field}: the knob {_shown(missing)} is missing")
        for name, value in config.root.items():
            if _told_apart(value) not in self._allowed[name] and not self._knobs[name].may_grow_to(value):
                shown = _shown(format_scalar(value))
                raise SenseError(f"{field}.{_shown(name)}: {shown} is not a value of this knob in the header's space")


def _check_plain(field: str, config: Config) -> None:
    try:
        check_scalars(config.root)
    except ValueError as error:
        raise SenseError(f"{field}: {error}") from None


def _told_apart(value: Scalar) -> tuple[bool, Scalar]:
    """A value as a key: 16.0 is 16, True is not 1."""
    return isinstance(value, bool), value


def _shown(text: str) -> str:
    return shortened(text, _SHOWN_CHARACTERS)
