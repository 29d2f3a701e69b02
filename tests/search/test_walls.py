"""Walls of memory in a table of two knobs: what fails teaches where else it would."""

import math
from itertools import product

from infertune.domain.knobs import Config, Knob, SearchSpace
from infertune.search.base import Result
from infertune.search.model_based import ModelSearcher
from infertune.search.surrogate import Encoding
from infertune.search.walls import Walls

SIZES = (1, 2, 4, 8)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
SPACE = SearchSpace(
    knobs=(
        Knob(name="size", values=SIZES, kind="int", default=1),
        Knob(name="batch", values=BATCHES, kind="int", default=1),
    )
)


def cell(size: int, batch: int) -> Config:
    return Config({"size": size, "batch": batch})


def found(*ran: tuple[int, int], failed: tuple[tuple[int, int], ...] = ()) -> dict[tuple[int, int], float]:
    """Size and batch → the probability that it runs."""
    encoding, cells = Encoding(SPACE), list(product(SIZES, BATCHES))
    known = [cell(*one) for one in (*ran, *failed)]
    rows = encoding.rows([cell(*one) for one in cells])
    likely = Walls(encoding).probability(rows, encoding.rows(known), [True] * len(ran) + [False] * len(failed))
    return dict(zip(cells, likely.tolist(), strict=True))


def test_what_lies_beyond_a_failure_is_doubted_and_what_lies_before_a_success_is_not() -> None:
    likely = found((1, 8), (4, 32), failed=((1, 32),))
    assert likely[1, 128] < likely[1, 32] < 0.5 and likely[1, 4] > 0.8 and likely[4, 16] > 0.8


def test_a_larger_size_is_trusted_with_a_larger_batch() -> None:
    """Where size 2 holds twice the batch of size 1, size 8 is expected to hold more than size 2."""
    likely = found((1, 8), (2, 16), failed=((1, 16), (2, 32)))
    assert likely[8, 32] > 0.6 > likely[2, 64] and likely[8, 32] > likely[4, 64]


def test_before_anything_is_known_everything_may_run() -> None:
    assert set(found().values()) == {1.0}


def test_the_best_cell_beside_a_wall_is_tried_soon() -> None:
    """A rate that rises along both ladders up to a wall: batch over 8 for each of size."""
    searcher, tried = ModelSearcher(SPACE, seed=1), []
    for _ in range(14):
        config = searcher.ask(None)
        assert config is not None
        size, batch = int(config["size"]), int(config["batch"])  # type: ignore[arg-type]
        tried.append((size, batch))
        rate = size**0.3 * batch**0.5
        searcher.tell(Result(config, math.log(rate) if batch <= 8 * size else None, launch_s=40.0, run_s=10.0))
    assert (8, 64) in tried, tried
