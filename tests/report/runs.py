"""Runs for the tests of reports: a tune with everything in it, a hostile one, a large one."""

import random
from pathlib import Path

from infertune.domain.knobs import Choice, Config, Float, Int, SearchSpace, doubling
from infertune.domain.measurement import Crashed, Energy, Measurement, Outcome, TimedOut
from infertune.domain.models import Model
from infertune.domain.record import Header
from infertune.domain.trial import Trial
from infertune.runs.ledger import Ledger
from tests.builders import header, measured, oom, trial

SPACE = SearchSpace(
    (
        Int("max_num_seqs", doubling(8, 256), 32, scope="live", unit="sequences", why="requests that run at once"),
        Int("max_num_batched_tokens", doubling(256, 4096), 1024, scope="live", unit="tokens", why="tokens in a step"),
        Choice("eager", (True, False), True, why="no compiling"),
        Float("share", (0.7, 0.8, 0.9), 0.8, why="memory for the cache"),
    )
)
MARKUP = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>`|&\"'"
UNSEEN = "\x1b[31m\x9d\u202e\u2066\u2028\x07"  # colours, a C1 control, marks of direction, a line separator, a bell
NASTY = f"={MARKUP}{UNSEEN}[x](http://evil.example)@team#1$x$##[error]"


def rate_of(c: Config) -> float:
    slots, budget = float(c["max_num_seqs"] or 0), float(c["max_num_batched_tokens"] or 0)
    return 5000 * slots / (slots + 40) * min(1.0, budget / 1024) * (1.0 if c["eager"] else 1.2)


def with_energy(rate: float, watts: float = 200.0) -> Measurement:
    base = measured(rate)
    energy = Energy(
        gpu_j=watts * base.windows[0].duration_s,
        gpu_source="measured",
        gpu_method="counter",
        co2e_g=0.1,
        co2e_source="modelled",
        co2e_factor="381 g/kWh, DEU, codecarbon 3.3.2",
    )
    return base.model_copy(update={"windows": (base.windows[0].model_copy(update={"energy": energy}),)})


def tuned(seed: int = 0, trials: int = 40) -> list[Trial]:
    """A search with noise and failures, then a final comparison that finds the tuned configuration better."""
    rng = random.Random(seed)
    points = [SPACE.default, *rng.sample([c for c in SPACE.grid() if c != SPACE.default], min(trials, 180) - 1)]
    while len(points) < trials:
        points.append(Config({knob.name: rng.choice(knob.values) for knob in SPACE.knobs}))
    found: list[Trial] = []

    def add(chosen: Config, outcome: Outcome, phase: str = "search", number: int = 0) -> None:
        found.append(trial(len(found), chosen, outcome, phase, number))  # type: ignore[arg-type]

    for chosen in points:
        outcome: Outcome = with_energy(rate_of(chosen) * rng.lognormvariate(0, 0.01), 150 + 400 * rng.random())
        if chosen["share"] == 0.9 and chosen["max_num_seqs"] == 256:
            outcome = oom().model_copy(update={"stderr_tail": "torch.OutOfMemoryError: tried to allocate 2 GiB"})
        add(chosen, outcome)
    best = SPACE.default.updated({"max_num_seqs": 256, "eager": False})
    for number in range(5):
        for chosen in (SPACE.default, best):
            add(chosen, with_energy(rate_of(chosen) * rng.lognormvariate(0, 0.01)), "final", number)
    return found


def beaten(seed: int = 0) -> list[Trial]:
    """The same search, and a final comparison that finds its candidate no better than the default."""
    return [
        one.model_copy(update={"outcome": with_energy(100.0 + one.number % 7)}) if one.phase == "final" else one
        for one in tuned(seed)
    ]


def saved(folder: Path, trials: list[Trial], ended: str | None = "all trials were made", **changes: object) -> Ledger:
    """A run on disk, written at once: the ledger's own way syncs every line."""
    first = header(SPACE, **changes)
    folder.mkdir(parents=True)
    lines = [first.model_dump_json(), *(one.model_dump_json() for one in trials)]
    if ended:
        lines.append(f'{{"ended":"{ended}"}}')
    (folder / "trials.jsonl").write_text("\n".join(lines) + "\n")
    return Ledger.open(folder)


def hostile(folder: Path) -> Ledger:
    """A run in which every text that others wrote tries to be markup."""
    of = SearchSpace((Choice(NASTY, (NASTY, "plain", "more"), "plain", why=NASTY), Int("slots", (1, 2, 4, 8), 1)))
    configs = list(of.grid())
    trials = [trial(n, c, with_energy(100.0 + n)) for n, c in enumerate(configs)]
    trials.append(trial(len(trials), configs[0], Crashed(stage="run", detail=NASTY, stderr_tail=NASTY)))
    trials.append(trial(len(trials), configs[1], TimedOut(stage="load", after_s=9)))
    model = Model(
        spec=NASTY, name=NASTY, path="/m", weights="dummy", config_hash="ab", parameters=10**9, active_parameters=10**9,
        weight_bytes=2 * 10**9, kv_bytes_per_token=100, context_tokens=2048, vocab_size=1000, dtype="bfloat16",
    )  # fmt: skip
    model = model.model_copy(update={"revision": NASTY, "dtype": NASTY})
    first: Header = header(
        of, model=model, notes=[NASTY], engine=NASTY, engine_version=NASTY, infertune_version=NASTY,
        workload=header(of).workload.model_copy(update={"spec": NASTY, "name": NASTY}),
        device=header(of).device.model_copy(update={"name": NASTY}),
    )  # fmt: skip
    folder.mkdir()
    lines = [first.model_dump_json(), *(one.model_dump_json() for one in trials)]
    (folder / "trials.jsonl").write_text("\n".join(lines) + "\n")
    return Ledger.open(folder)
