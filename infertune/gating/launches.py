"""The launches of a gate: base or candidate measured once each, and what all of them so far come to."""

from collections import defaultdict
from contextlib import ExitStack

from infertune.bench.bench import Bench
from infertune.bench.channel import Plan
from infertune.bench.serving import ServePlan
from infertune.domain.figures import ENERGY_FIGURES, FIGURES, energy_origins
from infertune.domain.measurement import Measurement, describe
from infertune.domain.request import GateRequest
from infertune.domain.trial import Phase, Trial
from infertune.errors import BenchmarkError
from infertune.gating.comparison import Arm, Comparison
from infertune.gating.loads import GOODPUT, check_answered, check_kept, check_on_time, guessed, lost
from infertune.gating.metrics import gain, is_judged
from infertune.runs.ledger import Ledger, now
from infertune.runs.observer import Observer


class Launches:
    """The launches of a gate over one ledger, only one engine alive at a time.

    Attributes:
        ledger: Has every launch.
    """

    def __init__(
        self,
        request: GateRequest,
        comparison: Comparison,
        ledger: Ledger,
        observer: Observer,
        benches: ExitStack,
        n_runs_before: int,
    ) -> None:
        """No launch yet.

        Args:
            request: What is asked of them.
            comparison: Base and candidate.
            ledger: Takes every launch.
            observer: Is told of each.
            benches: Closes the benches.
            n_runs_before: How many runs of the same gate there were.
        """
        self.ledger = ledger
        self._request = request
        self._comparison = comparison
        self._observer = observer
        # A simulated engine's noise depends on the launch number: successive runs must not repeat it.
        self._next_launch = n_runs_before * (request.launches + 1)
        self._candidate_bench = benches.enter_context(self._bench(comparison.candidate))
        self._base_bench = self._candidate_bench
        if not comparison.one_engine:
            self._base_bench = benches.enter_context(self._bench(comparison.base))

    def measure(self, phase: Phase, plan: Plan | ServePlan, number: int) -> Trial:
        """Launch and measure base or candidate once.

        Raises:
            BenchmarkError: It could not be measured.
        """
        of_candidate = phase == "new"
        arm = self._comparison.candidate if of_candidate else self._comparison.base
        bench = self._candidate_bench if of_candidate else self._base_bench
        bench.next_launch = self._next_launch
        if isinstance(plan, ServePlan):
            plan = guessed(plan, self.measurements(phase), self._comparison.profile, of_profile=of_candidate)
        self._observer.trial_starts(arm.config, live=False)
        started_at = now()
        attempt = bench.measure(arm.config, plan, fresh=True)
        bench.close()
        self._next_launch = bench.next_launch
        trial = Trial.of(len(self.ledger.trials), phase, number, arm.config, started_at, attempt)
        self.ledger.append(trial, attempt.rows)
        figure = trial.measurement.output_tokens_per_s if trial.measurement else None
        self._observer.trial_ends(trial, figure=figure, best=None, default=None)
        if trial.measurement is None:
            raise BenchmarkError(
                f"{arm.label} could not be measured: {describe(trial.outcome)}; "
                f"its log is in {self.ledger.folder / 'logs'}"
            )
        check_on_time(trial.measurement, arm.label)
        if GOODPUT in self._comparison.metrics:
            check_kept(trial.measurement, arm.label)
        if self._request.mode == "stored" or self._request.calibrate:
            check_answered(trial.measurement, arm.label, self._comparison.metrics)
        return trial

    def measurements(self, phase: Phase) -> list[Measurement]:
        """Of a phase, one a launch: `new` is the candidate's, `base` the base's."""
        return [trial.measurement for trial in self.ledger.trials if trial.phase == phase and trial.measurement]

    def figures(self, phase: Phase) -> dict[str, list[float]]:
        """Metric → one figure a launch of a phase; metrics that some launch lacks are left out."""
        measurements = self.measurements(phase)
        found: dict[str, list[float]] = defaultdict(list)
        for measurement in measurements:
            for name, figure in FIGURES.items():
                value = figure.of(measurement)
                if value is not None and is_judged(name, value):
                    found[name].append(value)
        return {name: values for name, values in found.items() if len(values) == len(measurements)}

    def gains(self) -> dict[str, list[float]]:
        """Gated metric → how much better the candidate is than the base, one figure a pair; see `gain`."""
        base, new = self.figures("base"), self.figures("new")
        known = [name for name in self._comparison.metrics if name in base and name in new]
        return {name: [gain(name, n, b) for n, b in zip(new[name], base[name], strict=True)] for name in known}

    def withheld(self) -> dict[str, str]:
        """Metric → why base and candidate are not compared in it.

        Joules of a GPU and of a processor do not compare, nor do quantiles of requests of which too many failed.
        """
        base, new = self.measurements("base"), self.measurements("new")
        withheld = {**lost(base, self._comparison.base.label), **lost(new, self._comparison.candidate.label)}
        found = energy_origins([*base, *new])
        if len(found) > 1:
            withheld |= dict.fromkeys(ENERGY_FIGURES, f"energy is of {' here, of '.join(found)} there")
        return withheld

    def energy(self) -> str:
        """The source of the energy of today's launches; empty if the launches differ."""
        found = energy_origins(self.measurements("new"))
        return found[0] if len(found) == 1 else ""

    def check_known(self, figures: dict[str, list[float]]) -> None:
        """Refuse to go on for a metric that this engine or machine does not give.

        Raises:
            BenchmarkError: A gated metric is not among the figures.
        """
        if missing := [name for name in self._comparison.metrics if name not in figures]:
            raise BenchmarkError(f"--metric {missing[0]} cannot be measured here; available are {', '.join(figures)}")

    def _bench(self, arm: Arm) -> Bench:
        return arm.job.bench(self.ledger.folder, on_note=self._observer.note)
