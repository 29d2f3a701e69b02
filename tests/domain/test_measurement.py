"""What is written down about a measurement, and how a failure is put into words."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from infertune.domain.measurement import Crashed, Infeasible, Measurement, Outcome, TimedOut, Window, describe
from tests.builders import measured

OUTCOMES: tuple[Outcome, ...] = (
    measured(100.0, 400.0),
    Infeasible(reason="oom", stage="load", detail="20 GiB"),
    Infeasible(reason="rejected", stage="warmup", detail="too long"),
    TimedOut(stage="run", after_s=61.4),
    Crashed(stage="run", detail="killed by SIGSEGV", signal="SIGSEGV"),
)


def test_a_launch_is_the_geometric_mean_of_its_windows() -> None:
    assert measured(100.0, 400.0).output_tokens_per_s == pytest.approx(200)


def test_a_window_is_tokens_over_its_whole_duration() -> None:
    assert Window(duration_s=4, n_requests=2, prompt_tokens=9, output_tokens=100).output_tokens_per_s == 25


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.kind)
def test_every_outcome_is_read_back_as_it_was_written(outcome: Outcome) -> None:
    adapter: TypeAdapter[Outcome] = TypeAdapter(Outcome)
    assert adapter.validate_json(adapter.dump_json(outcome)) == outcome


def test_failures_are_told_in_one_line() -> None:
    assert [describe(outcome) for outcome in OUTCOMES] == [
        "200.0 tok/s",
        "out of memory in load: 20 GiB",
        "rejected in warmup: too long",
        "no end of run after 61 s",
        "crashed in run: killed by SIGSEGV",
    ]


@pytest.mark.parametrize(
    "change", [{"duration_s": 0}, {"duration_s": math.nan}, {"output_tokens": 0}, {"latency_s": (math.inf,)}, {"x": 1}]
)
def test_a_window_that_cannot_have_been_is_refused(change: dict[str, object]) -> None:
    sound = {"duration_s": 1, "n_requests": 1, "prompt_tokens": 1, "output_tokens": 1}
    with pytest.raises(ValidationError):
        Window.model_validate({**sound, **change})


def test_a_measurement_without_windows_is_refused() -> None:
    with pytest.raises(ValidationError):
        Measurement(load_s=1, warmup_s=1, warmed_up=True, windows=())


def test_what_is_written_down_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        measured(1.0).load_s = 5  # type: ignore[misc]
