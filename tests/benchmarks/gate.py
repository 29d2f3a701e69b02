"""What the gate promises, simulated: false alarms, drops that pass, drops that are caught.

    python -m tests.benchmarks.gate               20,000 gates a cell, all kinds of noise, in half a minute
    python -m tests.benchmarks.gate --order abba  the same with strict A B B A, which breaks the promise a little
    python -m tests.benchmarks.gate --stored      the rule against earlier runs

A cell is a kind of noise at a run-to-run coefficient of variation (CV). Every simulated gate launches base and new in
the order of `pair_order` with a seed of its own and judges by `tails` (both of `infertune.gating.verdict`) at its looks
and level. The promise: without a change a false alarm in at most 1% of the gates; with a true drop of the margin a pass
in at most 5%; with twice the margin and a CV up to 2% caught in at least 95%.
"""

import argparse
import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from scipy.stats import binom

from infertune.gating.verdict import ALPHA_A_LOOK, ALPHA_STORED, FEWEST_RUNS, LOOKS, pair_order, tails

MARGIN = 0.05
CVS = (0.01, 0.02, 0.03)
_PAIRS = LOOKS[-1]
_ORDERS = 2000
_SIGNIFICANCE = 1e-4  # of the test that a share is above what was promised: 72 cells are looked at


def _normal(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    return rng.standard_normal((n, k))


def _heavy(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Student's t with 3 degrees of freedom, of unit variance."""
    return rng.standard_t(3, (n, k)) / math.sqrt(3)


def _slow(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """One launch in ten is slower, by 5 standard deviations on average; unit variance in all."""
    noise = rng.standard_normal((n, k)) - (rng.random((n, k)) < 0.1) * rng.exponential(5.0, (n, k))
    variance = 1 + 0.1 * 2 * 25 - 0.25
    return (noise + 0.5) / math.sqrt(variance)


def _autocorrelated(share: float) -> Callable[[np.random.Generator, int, int], np.ndarray]:
    def draw(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
        noise = rng.standard_normal((n, k))
        for i in range(1, k):
            noise[:, i] = share * noise[:, i - 1] + math.sqrt(1 - share**2) * noise[:, i]
        return noise

    return draw


# name → noise of unit variance, and a drift in logarithms over the launches of a gate that comes on top
NOISES: dict[str, tuple[Callable[[np.random.Generator, int, int], np.ndarray], str]] = {
    "normal": (_normal, ""),
    "heavy tails (t, 3 df)": (_heavy, ""),
    "1 of 10 launches slow": (_slow, ""),
    "drift, 12% in all": (_normal, "line"),
    "drift, 48% in all": (_normal, "steep"),
    "a step of 10%": (_normal, "step"),
    "random walk": (_normal, "walk"),
    "autocorrelated, 0.3": (_autocorrelated(0.3), ""),
    "autocorrelated, 0.6": (_autocorrelated(0.6), ""),
    "autocorrelated, 0.9": (_autocorrelated(0.9), ""),
}


class Cell(NamedTuple):
    """Shares of simulated gates, and the mean number of pairs."""

    passed: float
    regressed: float
    pairs: float


def simulate(noise: str, cv: float, drop: float, n: int, seed: int = 0, order: str = "shuffled") -> Cell:
    """n gates in which the new side is slower by a share, on a machine with a kind of noise."""
    answers, pairs = answers_of(gains(noise, cv, drop, n, seed, order))
    return Cell(float((answers == 1).mean()), float((answers == -1).mean()), float(pairs.mean()))


def gains(noise: str, cv: float, drop: float, n: int, seed: int, order: str = "shuffled") -> np.ndarray:
    """Logarithms of new over base: n gates of `_PAIRS` pairs."""
    rng = np.random.default_rng([seed, sorted(NOISES).index(noise), round(1000 * cv), round(1000 * drop)])
    draw, drift = NOISES[noise]
    launches = cv * draw(rng, n, 2 * _PAIRS) - _drift(rng, drift, cv, n, 2 * _PAIRS)
    first, second = launches[:, 0::2], launches[:, 1::2]
    new_first = _new_first(rng, n, order)
    return np.where(new_first, first - second, second - first) + math.log1p(-drop)


def _drift(rng: np.random.Generator, kind: str, cv: float, n: int, k: int) -> np.ndarray:
    steps = np.arange(k)[None, :]
    match kind:
        case "line":
            return 0.005 * steps
        case "steep":
            return 0.02 * steps
        case "step":
            return 0.1 * (steps >= rng.integers(0, k, (n, 1)))
        case "walk":
            return np.cumsum(cv / 2 * rng.standard_normal((n, k)), axis=1)
    return np.zeros((1, k))


def _new_first(rng: np.random.Generator, n: int, order: str) -> np.ndarray:
    if order == "abba":
        blocks = np.repeat(rng.random((n, _PAIRS // 2)) < 0.5, 2, axis=1)
        blocks[:, 1::2] ^= True
        return blocks
    orders = np.array([pair_order(seed) for seed in range(_ORDERS)])
    return orders[rng.integers(0, _ORDERS, n)]


def answers_of(found: np.ndarray, margin: float = MARGIN) -> tuple[np.ndarray, np.ndarray]:
    """1 for a pass, −1 for a regression, 0 for neither, and the pairs used, by the gate's own p values."""
    n = len(found)
    answers, pairs = np.zeros(n, int), np.full(n, _PAIRS)
    for look in LOOKS:
        so_far = found[:, :look]
        p = tails(so_far.mean(axis=1), so_far.std(axis=1, ddof=1), look, margin)
        undecided = answers == 0
        answers[undecided & (p.worse < ALPHA_A_LOOK)] = 1
        answers[undecided & (p.kept < ALPHA_A_LOOK)] = -1
        pairs[undecided & (answers != 0)] = look
    return answers, pairs


def stored_false_alarms(noise: str, n_runs: int, n: int, seed: int = 0, drop_in_sd: float = 0.0) -> float:
    """Share of stored gates that alarm at a run that is worse by some standard deviations of a run."""
    rng = np.random.default_rng([seed, n_runs, sorted(NOISES).index(noise), 7])
    runs = NOISES[noise][0](rng, n, n_runs + 1)
    earlier, today = runs[:, :-1], runs[:, -1] - drop_in_sd
    bound = earlier.mean(axis=1) - stdtrit(n_runs - 1, 1 - ALPHA_STORED) * earlier.std(axis=1, ddof=1) * math.sqrt(
        1 + 1 / n_runs
    )
    return float((today < bound).mean())


def above(share: float, promised: float, n: int) -> bool:
    """Whether a simulated share is above a promised one by more than chance."""
    return float(binom.sf(round(share * n) - 1, n, promised)) < _SIGNIFICANCE


def broken_promises(noise: str, cv: float, cells: dict[str, Cell], n: int) -> list[str]:
    """What a cell breaks of the promise, in words."""
    found = []
    if above(cells["same"].regressed, 0.01, n):
        found.append(f"{noise}, CV {cv:.0%}: {cells['same'].regressed:.2%} false alarms")
    if above(cells["margin"].passed, 0.05, n):
        found.append(f"{noise}, CV {cv:.0%}: {cells['margin'].passed:.2%} of the drops of the margin pass")
    if cv <= 0.02 and above(1 - cells["twice"].regressed, 0.05, n):
        found.append(f"{noise}, CV {cv:.0%}: {cells['twice'].regressed:.2%} of twice the margin caught")
    return found


def cells_of(noise: str, cv: float, n: int, order: str = "shuffled") -> dict[str, Cell]:
    """The three cases of a cell."""
    drops = {"same": 0.0, "margin": MARGIN, "twice": 2 * MARGIN}
    return {name: simulate(noise, cv, drop, n, order=order) for name, drop in drops.items()}


def main() -> None:
    """Print the tables; end with 1 if the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=20_000)
    parser.add_argument("--order", choices=("shuffled", "abba"), default="shuffled")
    parser.add_argument("--stored", action="store_true")
    arguments = parser.parse_args()
    if arguments.stored:
        print_stored(arguments.gates)
        return
    print("| noise | CV | no change: pass / false alarm | pairs | true −5%: pass | −10%: caught |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    broken = []
    for noise in NOISES:
        for cv in CVS:
            cells = cells_of(noise, cv, arguments.gates, arguments.order)
            same = cells["same"]
            print(
                f"| {noise} | {cv:.0%} | {same.passed:.1%} / {same.regressed:.2%} | {same.pairs:.1f} | "
                f"{cells['margin'].passed:.1%} | {cells['twice'].regressed:.1%} |",
                flush=True,
            )
            broken += broken_promises(noise, cv, cells, arguments.gates)
    print("\n".join(broken) or "the promise holds in every cell")
    sys.exit(1 if broken else 0)


def print_stored(n: int) -> None:
    """The stored rule: false alarms without a change, and drops of some standard deviations that it sees."""
    print("| noise | earlier runs | false alarms | a drop of 3 sd: caught | of 5 sd |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for noise, (_, drift) in NOISES.items():
        if not drift:
            for runs in (FEWEST_RUNS, 20):
                shares = [stored_false_alarms(noise, runs, n, drop_in_sd=drop) for drop in (0.0, 3.0, 5.0)]
                print(f"| {noise} | {runs} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")


if __name__ == "__main__":
    main()
