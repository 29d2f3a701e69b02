"""Figures of a launch: energy, power, carbon, cost, latency."""

import pytest

from infertune.domain.figures import (
    FIGURES,
    Prices,
    co2e_g_per_million_tokens,
    cost_per_million_tokens,
    economy,
    energy_basis,
    energy_origins,
    j_per_output_token,
    net_j_per_output_token,
    percentile,
    power_w,
)
from infertune.domain.measurement import Energy, Measurement, Window
from infertune.domain.service import Service
from infertune.energy import CarbonOptions
from infertune.energy.codecarbon import carbon_factor, with_co2


def launch(*energies: Energy, duration_s: float = 10.0) -> Measurement:
    """Windows of 1,000 output tokens and 10 s each."""
    windows = tuple(
        Window(
            duration_s=duration_s, n_requests=4, prompt_tokens=9, output_tokens=1000, latency_s=(1, 2, 3, 4), energy=e
        )
        for e in energies
    )
    return Measurement(load_s=1, warmup_s=1, warmed_up=True, windows=windows)


def loads(*looks: dict[str, object]) -> Measurement:
    """Loads of 100 requests at 1, 2, … requests/s that are what the fields of a `Service` say."""
    service = {"arrivals": "poisson", "n_counted": 70, "strain": 1.5}
    windows = tuple(
        Window(
            duration_s=100 / rate, n_requests=100, prompt_tokens=9, output_tokens=1000,
            service=Service.model_validate({**service, "rate_per_s": rate, **fields}),
        )
        for rate, fields in enumerate(looks, 1)
    )  # fmt: skip
    return Measurement(load_s=1, warmup_s=1, warmed_up=True, windows=windows)


GPU = Energy(gpu_j=3000, gpu_idle_w=100, cpu_j=500, gpu_source="measured", cpu_source="modelled")
CPU_ONLY = Energy(cpu_j=400, ram_j=100, cpu_source="modelled", ram_source="modelled")


def test_joules_per_token_are_the_boards_where_there_is_one() -> None:
    assert j_per_output_token(launch(GPU, GPU)) == pytest.approx(3.0)
    assert energy_basis(launch(GPU)) == "GPU, measured"


def test_joules_per_token_are_processor_and_memory_where_there_is_no_board() -> None:
    assert j_per_output_token(launch(CPU_ONLY)) == pytest.approx(0.5)
    assert energy_basis(launch(CPU_ONLY)) == "CPU and memory, modelled"


def test_idle_power_is_subtracted_only_in_the_net_figure() -> None:
    assert net_j_per_output_token(launch(GPU)) == pytest.approx(2.0)
    assert net_j_per_output_token(launch(CPU_ONLY)) is None


def test_one_unknown_window_makes_the_figure_unknown() -> None:
    unknown = Energy(reason="the GPU was lost")
    assert j_per_output_token(launch(GPU, unknown)) is None
    assert power_w(launch(unknown)) is None
    assert energy_basis(launch(unknown)) == "the GPU was lost"


def test_power_is_energy_over_time() -> None:
    assert power_w(launch(GPU)) == pytest.approx(300)


def test_carbon_is_unknown_without_a_factor() -> None:
    assert co2e_g_per_million_tokens(launch(GPU)) is None
    with_carbon = GPU.model_copy(update={"co2e_g": 0.5})
    assert co2e_g_per_million_tokens(launch(with_carbon)) == pytest.approx(500)


def test_cost_is_rent_and_electricity() -> None:
    rent = cost_per_million_tokens(launch(GPU), Prices(per_hour=3.6))
    assert rent == pytest.approx(3.6 / 3600 * 10 / 1000 * 1e6)
    both = cost_per_million_tokens(launch(GPU), Prices(per_hour=3.6, per_kwh=0.3))
    assert both == pytest.approx(rent + 0.3 * 3000 / 3.6e6 / 1000 * 1e6)


def test_cost_with_a_price_of_electricity_is_unknown_without_energy() -> None:
    assert cost_per_million_tokens(launch(Energy()), Prices(per_hour=1, per_kwh=0.3)) is None
    assert cost_per_million_tokens(launch(Energy()), Prices()) is None


def test_economy_says_where_energy_and_carbon_come_from() -> None:
    unknown = with_co2(GPU, *carbon_factor(CarbonOptions()))
    found = economy([launch(unknown), launch(unknown)], Prices())
    assert found.j_per_output_token == pytest.approx(3.0)
    assert found.basis == "GPU, measured"
    assert found.co2e_g_per_million_tokens is None
    assert found.carbon == "no --country or --carbon-intensity given"
    assert economy([launch(GPU)], Prices()).carbon == "unknown"


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.99, 4), (0.25, 1), (0.26, 2)])
def test_a_percentile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert percentile([4, 3, 2, 1], share) == value


def test_figures_that_an_engine_does_not_give_are_unknown() -> None:
    assert FIGURES["ttft_p99_s"].of(launch(GPU)) is None
    assert FIGURES["latency_p99_s"].of(launch(GPU)) == 4
    assert FIGURES["peak_memory_gib"].of(launch(GPU)) is None


def test_energy_of_different_things_is_told_apart() -> None:
    counter = Energy(gpu_j=1, gpu_source="measured", gpu_method="counter")
    assert energy_origins([launch(counter, counter), launch(counter)]) == ("GPU, measured by its counter",)
    sampled = counter.model_copy(update={"gpu_method": "sampled"})
    ram_only = CPU_ONLY.model_copy(update={"cpu_j": None})
    assert len(energy_origins([launch(counter, sampled), launch(CPU_ONLY), launch(ram_only)])) == 4
