"""The Pareto front of throughput and energy."""

import pytest

from infertune.domain.measurement import Energy, Measurement, Window
from infertune.domain.objective import get_objective
from infertune.domain.trial import Trial
from infertune.errors import UsageError
from infertune.landscape import Point, pareto_front, point_on
from tests.builders import config, oom, trial


def run(number: int, rate: float, joules: float | None) -> Trial:
    """One configuration at a rate in tok/s that uses so many joules for its 1,000 tokens."""
    energy = Energy(gpu_j=joules, gpu_source="measured") if joules else Energy(reason="none")
    window = Window(duration_s=1000 / rate, n_requests=1, prompt_tokens=1, output_tokens=1000, energy=energy)
    measurement = Measurement(load_s=1, warmup_s=1, warmed_up=True, windows=(window,))
    return trial(number, config(slots=number), measurement)


def front_of(trials: list[Trial], limits: tuple[str, ...] = ()) -> list[Point]:
    return pareto_front(trials, get_objective("throughput", limits))


def slots(trials: list[Trial]) -> list[object]:
    return [point.config["slots"] for point in front_of(trials)]


def test_the_front_has_the_configurations_that_none_beats_in_both() -> None:
    trials = [run(1, 100, 100), run(2, 200, 200), run(3, 150, 300), run(4, 150, 120), run(5, 90, 110)]
    assert slots(trials) == [2, 4, 1]


def test_of_equal_rates_the_one_with_less_energy_is_on_the_front() -> None:
    assert slots([run(1, 100, 50), run(2, 100, 40)]) == [2]


def test_failures_and_configurations_of_unknown_energy_are_not_on_the_front() -> None:
    trials = [run(1, 100, 100), run(2, 500, None), trial(3, config(slots=3), oom())]
    assert slots(trials) == [1]


def test_trials_of_the_final_comparison_are_not_on_the_front() -> None:
    again = run(1, 900, 1).model_copy(update={"phase": "final"})
    assert front_of([run(1, 100, 100), again])[0].output_tokens_per_s == pytest.approx(100)


def test_the_knee_is_the_point_farthest_from_the_line_between_the_ends() -> None:
    front = front_of([run(1, 100, 100), run(2, 200, 400), run(3, 190, 110), run(4, 110, 105)])
    assert [point_on(front, place).config["slots"] for place in ("fastest", "greenest", "knee")] == [2, 1, 3]


def test_the_knee_of_two_points_is_the_fastest() -> None:
    front = front_of([run(1, 100, 100), run(2, 200, 400)])
    assert point_on(front, "knee").config["slots"] == 2


def test_without_energy_there_is_no_front() -> None:
    assert front_of([run(1, 100, None)]) == []
    with pytest.raises(UsageError, match="no energy figures"):
        point_on([], "fastest")


def test_a_configuration_that_breaks_a_limit_is_not_on_the_front() -> None:
    trials = [run(1, 100, 100), run(2, 200, 400)]
    assert [point.config["slots"] for point in front_of(trials, ("j_per_output_token<0.3",))] == [1]
