"""The guard's errors on a few simulated tunes; `quality.py` has them at scale."""

from tests.benchmarks.quality import passed


def test_a_loss_of_twice_the_limit_is_not_recommended_and_none_is() -> None:
    assert [passed("2%", seed)[0] for seed in range(3)] == [False] * 3
    assert [passed("0.0001%", seed)[0] for seed in range(3)] == [True] * 3
