"""Which rate is looked at next: few looks, a narrow bracket, and no look that cannot change the answer."""

import random

import pytest

from infertune.bench.rates import MOST_MORE, Aim, Guess, next_rate
from infertune.domain.promise import Promise
from infertune.domain.service import Service, sustained, why_none_sustained


def look(rate: float, capacity: float, noise: float = 0.0) -> Service:
    """A queue's strain: flat at first, steep towards the capacity, and growing above it."""
    load = rate / capacity
    strain = 0.4 + 0.06 / max(1e-3, 1 - load) if load < 0.995 else 12.0
    return Service(
        arrivals="poisson",
        rate_per_s=rate,
        promise=Promise(attain=0.95),
        n_counted=200,
        strain=strain * (1 + noise),
        attainment=0.9,
        growing=load > 1.02,
        growth=max(0.0, 1 - 1 / load),
        completed_per_s=min(rate, capacity),
    )


def searched(truth: float, guess: Guess, aim: Aim, noise: float = 0.0, seed: int = 0) -> list[Service]:
    rng, looks = random.Random(seed), []
    while (rate := next_rate(looks, guess, aim)) is not None:
        looks.append(look(rate, truth / 0.9, rng.gauss(0, noise)))  # the strain is 1 at nine tenths of the capacity
    return looks


@pytest.mark.parametrize("off", [0.3, 0.6, 0.8, 1.0, 1.2, 1.8, 3.0])
def test_from_a_rough_guess_six_looks_find_the_rate(off: float) -> None:
    looks = searched(20.0, Guess(20.0 * off, 0.4), Aim(6, 1.08))
    found = sustained(looks)
    assert found and len(looks) <= 6
    assert found.rate_per_s == pytest.approx(20.0, rel=0.1)


@pytest.mark.parametrize("off", [0.94, 0.98, 1.0, 1.03, 1.06])
def test_from_a_good_guess_four_looks_find_it_closely(off: float) -> None:
    looks = searched(20.0, Guess(20.0 * off, 0.05), Aim(5, 1.06))
    found = sustained(looks)
    assert found and len(looks) <= 4
    assert found.rate_per_s == pytest.approx(20.0, rel=0.02)


@pytest.mark.parametrize("truth", [5.0, 10.0, 16.0])
def test_a_server_that_became_several_times_slower_is_found_from_its_old_rate(truth: float) -> None:
    looks: list[Service] = []
    while (rate := next_rate(looks, Guess(20.0, 0.05), Aim(5, 1.08))) is not None:
        paced = {"strain": (rate / truth) ** 0.7, "growing": False, "completed_per_s": rate}  # each token is late
        looks.append(look(rate, 1000.0).model_copy(update=paced))
    found = sustained(looks)
    assert found and found.high_per_s and found.rate_per_s == pytest.approx(truth, rel=0.1)


def test_a_noisy_strain_costs_little() -> None:
    errors = []
    for seed in range(50):
        looks = searched(20.0, Guess(18.0, 0.2), Aim(6, 1.08), noise=0.05, seed=seed)
        found = sustained(looks)
        assert found and len(looks) <= 6
        errors.append(abs(found.rate_per_s / 20 - 1))
    assert sorted(errors)[45] < 0.06


def test_a_configuration_that_is_surely_behind_is_not_located_closely() -> None:
    exact = searched(10.0, Guess(20.0, 0.3), Aim(6, 1.02))
    behind = searched(10.0, Guess(20.0, 0.3), Aim(6, 1.02, best_per_s=30.0))
    assert len(behind) < len(exact)


def test_a_look_that_broke_the_promise_in_a_bad_moment_is_looked_at_again() -> None:
    bad = look(20.0, 100.0).model_copy(update={"strain": 1.1})
    calm = look(19.5, 100.0)
    assert next_rate([bad, calm], Guess(20.0, 0.05), Aim(6, 1.08)) == pytest.approx(20.0)
    higher = next_rate([bad, calm, look(20.0, 100.0)], Guess(20.0, 0.5), Aim(6, 1.08))
    assert higher and 20.0 < higher < 23.0  # not far: it was broken once
    assert next_rate([bad, calm, bad], Guess(20.0, 0.05), Aim(6, 1.08)) is None


def test_late_looks_are_counted_but_not_believed() -> None:
    late = look(20.0, 30.0).model_copy(update={"late": True})
    assert next_rate([late], Guess(20.0, 0.05), Aim(3)) == next_rate([], Guess(20.0, 0.05), Aim(3))
    assert next_rate([late, late], Guess(20.0, 0.05), Aim(3)) == pytest.approx(10.0)  # two are no busy moment
    assert next_rate([late, late, late], Guess(20.0, 0.05), Aim(3)) is None


def test_where_nothing_is_kept_looking_ends() -> None:
    hopeless = [look(rate, rate / 2) for rate in (1.0, 0.1, 0.0011)]
    assert next_rate(hopeless, Guess(1.0, 3.0), Aim(9)) is None


@pytest.mark.parametrize(("times", "guess"), [(3, 0.05), (3, 0.4), (10, 0.4), (30, 0.4)])
def test_a_server_that_is_many_times_faster_than_expected_is_bounded_from_above(times: float, guess: float) -> None:
    """A rate that nothing bounds is a lower bound, and as high as the guess was: two of them cannot be compared."""
    looks = searched(20.0 * times, Guess(20.0, guess), Aim(6, 1.10))
    found = sustained(looks)
    assert found and found.high_per_s and found.rate_per_s == pytest.approx(20.0 * times, rel=0.3)
    assert len(looks) <= 6 + MOST_MORE


def limited(rate: float, capacity: float, sender: float) -> Service:
    return look(rate, capacity).model_copy(update={"late": rate > sender, "late_p99_s": 1.0 if rate > sender else 0.0})


@pytest.mark.parametrize("guess", [20.0, 40.0, 90.0, 200.0])
def test_a_sender_that_is_too_slow_for_the_server_gives_no_rate(guess: float) -> None:
    looks: list[Service] = []
    while (rate := next_rate(looks, Guess(guess, 0.05), Aim(6, 1.08))) is not None:
        looks.append(limited(rate, 1000.0, sender=50.0))
    assert sustained(looks) is None and len(looks) <= 12
    why = why_none_sustained(looks, "loosen --slo")
    assert "this machine is too slow or too busy to find the highest rate" in why and "kept up to" in why


@pytest.mark.parametrize("guess", [25.0, 60.0, 100.0])
def test_a_server_that_is_slower_than_its_sender_is_found_from_above_it(guess: float) -> None:
    looks: list[Service] = []
    while (rate := next_rate(looks, Guess(guess, 0.05), Aim(6, 1.08))) is not None:
        looks.append(limited(rate, 30.0 / 0.9, sender=50.0))
    found = sustained(looks)
    assert found and found.rate_per_s == pytest.approx(30.0, rel=0.1)
