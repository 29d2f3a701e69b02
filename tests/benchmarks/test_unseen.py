"""The search on made landscapes that were held out while it was developed; `unseen` beside this has more."""

import pytest

from tests.benchmarks.search.unknown import FAMILIES, Family, landscapes
from tests.benchmarks.search.unseen import mean_regrets, of_family

_TABLES = [family for family in FAMILIES if family.knobs == (2, 2)]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_landscapes_are_the_same_every_time_and_the_held_out_are_others(family: Family) -> None:
    one, again, held_out = (next(landscapes(family, 1, held_out=half)) for half in (False, False, True))
    assert (one.best, one.space.record()) == (again.best, again.space.record())
    assert one.best != held_out.best
    assert family.knobs[0] <= len(one.space.knobs) <= family.knobs[1]
    assert one.rate(one.space.default) is not None


@pytest.mark.parametrize("family", _TABLES, ids=lambda family: family.name)
def test_a_table_has_20_to_44_cells_of_which_the_share_fails_that_its_family_says(family: Family) -> None:
    shares = []
    for landscape in landscapes(family, 20, held_out=True):
        rates = [landscape.rate(config) for config in landscape.space.grid()]
        assert 20 <= len(rates) <= 44
        assert max(rate for rate in rates if rate is not None) == pytest.approx(landscape.best)
        shares.append(rates.count(None) / len(rates))
    assert family.missing[0] <= sum(shares) / len(shares) <= family.missing[1]


@pytest.mark.parametrize("family", FAMILIES[4:6], ids=lambda family: family.name)
def test_no_configuration_is_better_than_the_best_that_a_landscape_names(family: Family) -> None:
    for landscape in landscapes(family, 4, held_out=True):
        if landscape.space.size < 5000:
            rates = [landscape.rate(config) or 0.0 for config in landscape.space.grid()]
            assert max(rates) == pytest.approx(landscape.best)


@pytest.mark.slow
def test_tables_never_seen_are_searched_to_within_a_few_percent() -> None:
    """The bounds are wide: 12 landscapes a family say little of the last percent."""
    for family in _TABLES[1:3]:
        found = mean_regrets(of_family(family, "auto", 12, held_out=True, trials=16))
        print(f"{family.name}: mean regret in % " + str(found))
        assert found[8] < (12 if family.missing[1] else 4)
        assert found[16] < (3 if family.missing[1] else 0.5)
