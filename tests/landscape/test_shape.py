"""Noise, steps, plateau and peaks of landscapes whose answer is known."""

import math
import random
from collections.abc import Callable

import pytest

from infertune.domain.knobs import Choice, Config, Int, SearchSpace, doubling
from infertune.domain.measurement import Energy, Outcome
from infertune.domain.objective import get_objective
from infertune.landscape import Terrain, survey
from tests.builders import config, ledger_of, measured, oom

SPACE = SearchSpace((Int("slots", doubling(4, 256), 4), Int("budget", doubling(64, 2048), 64)))  # 7 · 6
THROUGHPUT = get_objective("throughput")


def mapped(
    rate: Callable[[float, float], float | None], noise: float = 0.01, repeats: int = 3, seed: int = 0
) -> Terrain:
    """A grid over positions of `SPACE`, with lognormal noise; a rate of None runs out of memory."""
    rng = random.Random(seed)
    rows: list[tuple[str, int, Config, Outcome | float]] = []
    for round_number in range(repeats):
        for chosen in SPACE.grid():
            true = rate(math.log2(float(chosen["slots"] or 0) / 4), math.log2(float(chosen["budget"] or 0) / 64))
            rows.append(("grid", round_number, chosen, oom() if true is None else true * rng.lognormvariate(0, noise)))
    return survey(ledger_of(*rows, of=SPACE), THROUGHPUT)  # type: ignore[arg-type]


def hill(x: float, y: float) -> float:
    return 1000 * math.exp(-((x - 4) ** 2 + (y - 3) ** 2) / 8)


def two_hills(x: float, y: float) -> float:
    return 400 + 600 * math.exp(-((x - 1) ** 2 + (y - 1) ** 2) / 2) + 500 * math.exp(-((x - 5) ** 2 + (y - 4) ** 2) / 2)


def test_noise_is_that_of_repeats() -> None:
    noise = mapped(hill, noise=0.03).noise
    assert noise is not None and noise.degrees == 84
    assert noise.deviation == pytest.approx(0.03, rel=0.2) and noise.source == "repeats of one configuration"


def test_without_repeats_nothing_is_called_significant() -> None:
    terrain = mapped(two_hills, repeats=1)
    assert terrain.noise is None and not any(step.jumps for step in terrain.steps)
    assert {peak.real for peak in terrain.peaks} == {None}
    assert terrain.plateau is not None and terrain.plateau.level_with_best is None


def test_noise_of_a_search_comes_from_its_confirmation() -> None:
    rows = [("search", 0, config(slots=4 * 2**n, budget=64), 100.0 + n) for n in range(3)]
    rows += [("final", r, config(slots=s, budget=64), 100.0 + r) for r in range(4) for s in (4, 8)]
    noise = survey(ledger_of(*rows, of=SPACE), THROUGHPUT).noise  # type: ignore[arg-type]
    assert noise is not None and noise.degrees == 6 and "final comparison" in noise.source


@pytest.mark.parametrize(("surface", "peaks"), [(hill, 1), (two_hills, 2)])
def test_true_peaks_are_found_under_noise(surface: Callable[[float, float], float], peaks: int) -> None:
    for seed in range(20):
        terrain = mapped(surface, seed=seed)
        assert sum(peak.real or False for peak in terrain.peaks) == peaks


def test_a_flat_landscape_has_one_significant_peak_in_19_of_20_cases() -> None:
    terrains = [mapped(lambda x, y: 1000, seed=seed) for seed in range(40)]
    assert max(len(terrain.peaks) for terrain in terrains) > 5  # noise makes many
    alarms = sum(sum(peak.real or False for peak in terrain.peaks) > 1 for terrain in terrains)
    assert alarms <= 5  # 2 expected


def test_the_prominence_of_a_peak_is_its_height_above_the_saddle() -> None:
    second = [peak for peak in mapped(two_hills, noise=1e-6).peaks if peak.real][1]
    assert second.config == config(slots=128, budget=1024)
    valley = min(two_hills(x, y) for x, y in ((3, 2), (2, 3), (3, 3)))
    assert second.prominence is not None and 900 / 600 < second.prominence < 900 / valley * 1.05


def test_a_region_cut_off_by_failures_has_its_own_peak() -> None:
    terrain = mapped(lambda x, y: None if x == 3 else 1000 - abs(x - 1) * 10 if x < 3 else 900, noise=0.001)
    assert [peak.prominence for peak in terrain.peaks if peak.real][-1] is None
    assert len({peak.config["slots"] for peak in terrain.peaks if peak.prominence is None}) == 2


def test_a_cliff_is_found_where_it_is_and_nowhere_else() -> None:
    terrain = mapped(lambda x, y: 1000 if x < 4 else 700)
    assert [(step.knob, step.low, step.high) for step in terrain.steps] == [("slots", 32, 64)]
    step = terrain.steps[0]
    assert step.ratio == pytest.approx(0.7, rel=0.02) and step.jumps == step.pairs == 6


def test_a_flat_landscape_has_no_jump_in_19_of_20_cases() -> None:
    flat = [mapped(lambda x, y: 1000, noise=0.1, seed=seed) for seed in range(40)]
    assert sum(any(step.jumps for step in terrain.steps) for terrain in flat) <= 5


def test_a_step_below_five_percent_is_no_cliff_however_significant() -> None:
    assert mapped(lambda x, y: 1000 if x < 4 else 970, noise=0.001).steps == ()


def test_where_configurations_begin_to_fail_is_a_step_too() -> None:
    terrain = mapped(lambda x, y: None if x + y > 9 else 1000)
    assert {(s.knob, s.low, s.high, s.starts_failing) for s in terrain.steps} == {
        ("slots", 64, 128, 1), ("slots", 128, 256, 1), ("budget", 512, 1024, 1), ("budget", 1024, 2048, 1),
    }  # fmt: skip
    assert all(step.stops_failing == step.jumps == 0 for step in terrain.steps)


def test_a_pair_of_distant_values_counts_only_where_no_pairs_cover_the_values_between() -> None:
    line = [(4, 64, 100.0), (8, 64, 130.0), (16, 64, 170.0), (4, 128, 100.0), (16, 128, 170.0)]
    leap = [("grid", r, config(slots=s, budget=b), rate + r * 0.1) for r in range(2) for s, b, rate in line]
    found = {(s.low, s.high) for s in survey(ledger_of(*leap, of=SPACE), THROUGHPUT).steps if s.knob == "slots"}  # type: ignore[arg-type]
    assert found == {(4, 8), (8, 16)}
    alone = [row for row in leap if row[2]["budget"] == 128]
    found = {(s.low, s.high) for s in survey(ledger_of(*alone, of=SPACE), THROUGHPUT).steps}  # type: ignore[arg-type]
    assert found == set()  # two degrees of freedom are too few for a noise estimate
    alone += [("grid", r, config(slots=4, budget=128), 100.0 + r * 0.1) for r in range(2, 5)]
    found = {(s.low, s.high) for s in survey(ledger_of(*alone, of=SPACE), THROUGHPUT).steps}  # type: ignore[arg-type]
    assert found == {(4, 16)}


def test_the_plateau_is_what_lies_within_two_percent_of_the_best() -> None:
    terrain = mapped(lambda x, y: 1000 if x >= 4 and y >= 2 else 900, noise=0.0001)
    plateau = terrain.plateau
    assert plateau is not None and (plateau.within, plateau.connected) == (12, 12)
    assert {span.knob: span.values for span in plateau.spans} == {
        "slots": (64, 128, 256),
        "budget": (256, 512, 1024, 2048),
    }
    assert {span.tried for span in plateau.spans} == {7, 6}


def test_a_plateau_in_two_pieces_has_one_connected_part() -> None:
    plateau = mapped(lambda x, y: 1000 if x in (0, 5) else 800, noise=0.0001).plateau
    assert plateau is not None and (plateau.within, plateau.connected) == (12, 6)


def test_configurations_as_good_as_the_best_do_not_differ_significantly_from_it() -> None:
    missed = 0
    for seed in range(40):
        plateau = mapped(lambda x, y: 1000 if x >= 5 else 800, seed=seed).plateau
        assert plateau is not None and plateau.level_with_best is not None and plateau.level_with_best <= 12
        missed += plateau.level_with_best < 12
    assert missed <= 5


def test_with_an_objective_where_less_is_better_the_best_is_the_lowest() -> None:
    rows = []
    for slots, joules in ((4, 4.0), (8, 2.0), (16, 3.0)):
        base = measured(100.0)
        window = base.windows[0].model_copy(update={"energy": Energy(gpu_j=joules, gpu_source="measured")})
        rows.append(("search", 0, config(slots=slots, budget=64), base.model_copy(update={"windows": (window,)})))
    terrain = survey(ledger_of(*rows, of=SPACE), get_objective("energy"))  # type: ignore[arg-type]
    assert terrain.best is not None and terrain.best.config["slots"] == 8
    assert terrain.noise is None, "the windows' rates say nothing of joules"


def test_the_ratio_of_a_step_is_that_of_the_figure_even_where_less_is_better() -> None:
    rows = []
    for repeat in range(4):
        for slots, joules in ((4, 4.0), (8, 2.0), (16, 3.0)):
            base = measured(100.0)
            energy = Energy(gpu_j=joules * (1 + 0.001 * repeat), gpu_source="measured")
            windows = (base.windows[0].model_copy(update={"energy": energy}),)
            rows.append(("grid", repeat, config(slots=slots, budget=64), base.model_copy(update={"windows": windows})))
    terrain = survey(ledger_of(*rows, of=SPACE), get_objective("energy"))  # type: ignore[arg-type]
    ratios = {(step.low, step.high): step.ratio for step in terrain.steps}
    assert ratios == {(4, 8): pytest.approx(0.5), (8, 16): pytest.approx(1.5)}


def test_the_ratio_of_a_cliff_is_that_of_the_pairs_that_have_it() -> None:
    terrain = mapped(lambda x, y: 400.0 if x >= 3 and y >= 4 else 1000.0)
    step = next(step for step in terrain.steps if (step.knob, step.low, step.high) == ("slots", 16, 32))
    assert step.jumps == 2 and step.pairs == 6 and step.ratio == pytest.approx(0.4, rel=0.05)


def test_a_trial_that_breaks_a_limit_or_has_no_figure_is_no_failure() -> None:
    rows = [("grid", 0, config(slots=4, budget=64), 100.0), ("grid", 0, config(slots=8, budget=64), 300.0)]
    terrain = survey(ledger_of(*rows, of=SPACE), get_objective("throughput", ("output_tokens_per_s<200",)))  # type: ignore[arg-type]
    assert [spot.failed for spot in terrain.spots] == [0, 0] and len(terrain.measured) == 1 and terrain.steps == ()
    terrain = survey(ledger_of(*rows, of=SPACE), get_objective("energy"))  # type: ignore[arg-type]
    assert [spot.failed for spot in terrain.spots] == [0, 0] and not terrain.measured


def test_any_two_values_of_a_choice_are_neighbours() -> None:
    space = SearchSpace((Choice("mode", ("a", "b", "c"), "a"), Int("slots", (1, 2), 1)))
    rate = {"a": 100.0, "b": 100.0, "c": 50.0}
    rows = [("grid", r, c, rate[str(c["mode"])] + 0.1 * r) for r in range(3) for c in space.grid()]
    terrain = survey(ledger_of(*rows, of=space), THROUGHPUT)  # type: ignore[arg-type]
    assert {(step.low, step.high) for step in terrain.steps} == {("a", "c"), ("b", "c")}


def test_peaks_of_a_sparse_search_are_not_counted() -> None:
    rows = [("search", 0, config(slots=4 * 2**n, budget=64 * 2 ** (n % 6)), 100.0 + n) for n in range(7)]
    terrain = survey(ledger_of(*rows, of=SPACE), THROUGHPUT)  # type: ignore[arg-type]
    assert not terrain.mapped and terrain.peaks == ()


def test_a_run_without_measurements_has_no_landscape() -> None:
    terrain = survey(ledger_of(("search", 0, config(slots=4, budget=64), oom()), of=SPACE), THROUGHPUT)
    assert terrain.best is None and terrain.plateau is None and terrain.steps == terrain.peaks == ()
