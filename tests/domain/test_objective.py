"""What is tuned for, and limits."""

import math
import re

import pytest

from infertune.domain.figures import Prices
from infertune.domain.measurement import Energy
from infertune.domain.objective import get_objective
from infertune.errors import UsageError
from tests.domain.test_figures import GPU, launch, loads


def test_throughput_is_scored_by_its_logarithm() -> None:
    assert get_objective("throughput").score(launch(GPU)) == pytest.approx(math.log(100))


def test_less_energy_is_better() -> None:
    energy = get_objective("energy")
    assert energy.better(1.0, than=2.0) and not energy.better(2.0, than=1.0)
    thrifty, greedy = GPU.model_copy(update={"gpu_j": 1000}), GPU
    assert (energy.score(launch(thrifty)) or 0) > (energy.score(launch(greedy)) or 0)


def test_tokens_per_joule_and_energy_order_alike() -> None:
    launches = [launch(GPU.model_copy(update={"gpu_j": joules})) for joules in (500, 2000, 1000)]
    by_energy = sorted(launches, key=lambda m: get_objective("energy").score(m) or 0)
    assert by_energy == sorted(launches, key=lambda m: get_objective("tokens-per-joule").score(m) or 0)


def test_a_broken_limit_has_no_score() -> None:
    assert get_objective("throughput", ["power_w<299"]).score(launch(GPU)) is None
    assert get_objective("throughput", ["power_w<300"]).score(launch(GPU)) is not None
    assert get_objective("throughput", ["output_tokens_per_s>101"]).score(launch(GPU)) is None


def test_an_unknown_figure_keeps_no_limit() -> None:
    assert get_objective("throughput", ["ttft_p99_s<10"]).score(launch(GPU)) is None


@pytest.mark.parametrize("text", ["power_w", "power_w<", "power_w=3", "power_w<nan", "power_w<three", "<5"])
def test_a_malformed_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not like"):
        get_objective("throughput", [text])


def test_a_limit_on_an_unknown_figure_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="j_per_output_token"):
        get_objective("throughput", ["watts<5"])


def test_an_unknown_objective_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="throughput, tokens-per-joule, energy, cost"):
        get_objective("speed")


def test_cost_needs_a_price() -> None:
    with pytest.raises(UsageError, match="--price-per-hour"):
        get_objective("cost")
    assert get_objective("cost", prices=Prices(per_hour=1)).figure(launch(GPU)) == pytest.approx(2.7777, rel=1e-3)


@pytest.mark.parametrize("prices", [Prices(per_hour=0), Prices(per_hour=0, per_kwh=0), Prices(per_kwh=1e-320)])
def test_a_price_of_nothing_is_none(prices: Prices) -> None:
    with pytest.raises(UsageError, match="--objective cost needs a price over 0: --price-per-hour or"):
        get_objective("cost", prices=prices)
    assert get_objective("throughput", prices=prices).prices == prices
    assert get_objective("cost", prices=Prices(per_hour=0, per_kwh=0.3)).figure(launch(GPU))


def test_what_cannot_be_measured_is_named_with_what_can() -> None:
    assert get_objective("throughput", ["power_w<500"]).unknown(launch(GPU)) == ""
    answer = get_objective("energy", ["ttft_p99_s<1"]).unknown(launch(Energy(reason="no counter")))
    assert "ttft_p99_s" in answer and "--objective energy" in answer
    assert "no counter" in answer and "latency_p99_s" in answer


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([{"late": True, "late_p99_s": 0.3}] * 2, "every load was sent late, requests up to 0.3 s after they were due"),
        ([{"late": True, "strain": 0.2, "late_p99_s": 9.0}, {"strain": 3.0}], "at 2 requests/s 3 times the limit is"),
        (
            [{"strain": 0.4, "growing": True, "growth": 0.3}, {"strain": 4.0}],
            "at 1 requests/s the limits were kept .* the queue grew",
        ),
        ([{"strain": 2.5, "growing": True}, {"strain": 4.0}], "at 1 requests/s 2.5 times the limit .*; loosen --slo"),
    ],
)
def test_why_no_rate_keeps_the_promise_is_told_from_the_loads_that_are_evidence(
    looks: list[dict[str, object]], words: str
) -> None:
    answer = get_objective("goodput", ["ttft_s<1"]).unknown(loads(*looks))
    assert re.search(words, answer) and ("loosen" in answer) == ("times the limit" in answer)
