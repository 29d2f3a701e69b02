"""How often a tune's guard is wrong: simulated tunes whose lossy knob has a known true loss.

    python -m tests.benchmarks.quality --times 500

Each tune searches `bits` (16, or the faster 8) on the simulated engine. With a true loss of twice the limit of 1% a
recommendation of 8 bits is an error; with no loss a rejection of 8 bits is one.
"""

import argparse
import tempfile
from pathlib import Path

from infertune import tune

HELD = {"compiled": False, "max_num_seqs": 64, "max_num_batched_tokens": 2048, "memory_share": 0.8, "block_size": 16}


def passed(loss: str, seed: int) -> tuple[bool, int]:
    """Whether a tune recommends 8 bits, and how many prompts its check of them scored."""
    with tempfile.TemporaryDirectory() as folder:
        study = tune(
            engine=f"fake:plateau,loss={loss}",
            device="cpu",
            knob={"bits": [16, 8]},
            set=HELD,
            trials=2,
            trust="quick",
            seed=seed,
            out=Path(folder) / "run",
            profiles=Path(folder) / "profiles",
        )
        checks = [check for check in study.ledger.checks if check.checked["bits"] == 8]
        return study.summary.best_config["bits"] == 8, max((check.n_prompts for check in checks), default=0)


def shares(times: int) -> dict[str, tuple[float, float]]:
    """True loss → share of tunes that recommend it, and mean number of prompts that were scored."""
    found = {}
    for loss in ("0.0001%", "2%"):
        each = [passed(loss, seed) for seed in range(times)]
        found[loss] = (sum(ok for ok, _ in each) / times, sum(n for _, n in each) / times)
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=500)
    for loss, (share, prompts) in shares(parser.parse_args().times).items():
        print(f"true loss {loss:>8}: recommended in {share:.1%} of tunes, {prompts:.0f} prompts scored on average")


if __name__ == "__main__":
    main()
