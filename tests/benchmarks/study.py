"""How long the report of a large study takes: `python -m tests.benchmarks.study [--models 20] [--repeats 1]`.

Tables are made in the form of the study that infertune grew from: 20 models on 4 pairs of device and engine, 44
configurations each (GPUs 1, 2, 4, 8 × batch sizes 1 to 1028), with failures. `infertune study` then reads them.
"""

import argparse
import csv
import math
import random
import tempfile
import time
from pathlib import Path

from infertune.tuning.study.run import study

GPUS = (1, 2, 4, 8)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1028)
PAIRS = (("A100", "continuous"), ("V100", "continuous"), ("A100", "static"), ("V100", "static"))
PLAN = """title: Made tables
tables:
  - file: fleet.csv
    device: {column: gpu}
    engine: {column: engine}
    model: {column: model}
    workload: infilling
    throughput: tokens_per_second
    knobs: [n_gpus, batch_size]
"""


def write_tables(folder: Path, models: int, repeats: int, seed: int = 1) -> None:
    """One table with every landscape, and its plan."""
    rng = random.Random(seed)
    with (folder / "fleet.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("gpu", "engine", "model", "n_gpus", "batch_size", "status", "tokens_per_second"))
        for model in range(models):
            size = rng.uniform(1, 16)  # billions of parameters
            for gpu, engine in PAIRS:
                speed, memory = (1.0, 80) if gpu == "A100" else (0.45, 32)
                for gpus in GPUS:
                    for batch in BATCHES:
                        base = _rate(speed / size, gpus, batch, engine, rng)
                        fits = 2 * size + batch * (0.01 if engine == "continuous" else 0.2) * size < gpus * memory
                        for _ in range(repeats):
                            rate = f"{base * rng.lognormvariate(0, 0.01):.2f}" if fits else ""
                            status = "ok" if fits else "oom"
                            writer.writerow((gpu, engine, f"model-{model}", gpus, batch, status, rate))
    (folder / "plan.yaml").write_text(PLAN)


def _rate(speed: float, gpus: int, batch: int, engine: str, rng: random.Random) -> float:
    """A rise and a plateau with a cost of parallelism; ragged for static batches."""
    plateau = batch / (batch + 40)
    ragged = rng.lognormvariate(0, 0.15) if engine == "static" else 1.0
    return 9000 * speed * plateau * gpus ** (0.4 if engine == "static" else 0.6) * ragged * math.exp(-0.02 * gpus)


def main() -> None:
    """Make the tables, time the report, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep the tables and the report here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        write_tables(folder, given.models, given.repeats)
        started = time.perf_counter()
        made = study(folder / "plan.yaml", folder / "study")
        seconds = time.perf_counter() - started
        assert made.page is not None
        size = sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
        print(f"{len(made.record.cells)} cells of {len(GPUS) * len(BATCHES)} configurations × {given.repeats}")
        print(f"{seconds:.1f} s for the whole report, {size / 1024**2:.1f} MiB")


if __name__ == "__main__":
    main()
