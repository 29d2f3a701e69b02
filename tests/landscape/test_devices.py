import math
import random

import pytest

from infertune.domain.objective import get_objective
from infertune.domain.trial import Trial
from infertune.landscape import device_effects, shift_of
from tests import builders

THROUGHPUT = get_objective("throughput")


def launches(effects: dict[str, float], configs: int, noise: float, seed: int = 0) -> list[Trial]:
    """Every configuration once on every device: 1,000 tok/s times what configuration, device and launch add."""
    rng = random.Random(seed)
    found = []
    for number in range(configs):
        for device, effect in effects.items():
            rate = 1000 * (number + 1) * math.exp(effect + rng.gauss(0, noise))
            trial = builders.trial(
                len(found), builders.config(slots=number), rate, phase="final" if number else "search"
            )
            found.append(trial.model_copy(update={"device_id": device}))
    return found


def test_effects_are_of_the_devices_whatever_configurations_do() -> None:
    found = device_effects(launches({"a": 0.02, "b": 0.0, "c": -0.02}, 3, 0.0), THROUGHPUT)
    assert [one.ratio for one in found] == pytest.approx([math.exp(0.02), 1.0, math.exp(-0.02)])
    assert [one.launches for one in found] == [3, 3, 3]


def test_only_a_device_that_is_off_by_more_than_its_noise_is_named() -> None:
    odd = device_effects(launches({"a": 0.0, "b": 0.0, "c": 0.0, "d": -0.08}, 6, 0.01), THROUGHPUT)
    assert [one.device_id for one in odd if one.is_off][-1:] == ["d"]
    named = sum(
        any(one.is_off for one in device_effects(launches(dict.fromkeys("abcd", 0.0), 4, 0.02, seed), THROUGHPUT))
        for seed in range(200)
    )
    assert named <= 20  # 5% of 200, and chance


def test_one_launch_on_each_device_gives_effects_without_an_interval_and_names_nobody() -> None:
    found = device_effects(launches({"a": 0.0, "b": -0.3}, 1, 0.0), THROUGHPUT)
    assert [one.half_width for one in found] == [None, None] and not any(one.is_off for one in found)


def test_a_run_of_one_device_has_no_effects() -> None:
    assert device_effects(launches({"a": 0.1}, 4, 0.01), THROUGHPUT) == ()
    alone = [trial.model_copy(update={"device_id": None}) for trial in launches({"a": 0.1}, 4, 0.01)]
    assert device_effects(alone, THROUGHPUT) == () and shift_of(None, alone, THROUGHPUT) == 0.0


def test_devices_that_share_no_configuration_are_not_compared() -> None:
    trials = launches({"a": 0.0}, 1, 0.0) + [
        builders.trial(9, builders.config(slots=9), 500.0).model_copy(update={"device_id": "b"})
    ]
    assert device_effects(trials, THROUGHPUT) == ()


def test_a_score_is_corrected_by_less_than_the_effect_of_few_launches() -> None:
    few = shift_of("a", launches({"a": 0.1, "b": -0.1}, 1, 0.0), THROUGHPUT)
    many = shift_of("a", launches({"a": 0.1, "b": -0.1}, 20, 0.0), THROUGHPUT)
    assert 0.05 < few < many < 0.1
