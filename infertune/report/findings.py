"""Everything that a report says about a run, computed once from its ledger."""

from dataclasses import dataclass

from infertune.domain.knobs import Config
from infertune.domain.measurement import Measurement
from infertune.domain.objective import Objective
from infertune.landscape import Effects, Point, Terrain, knob_effects, pareto_front, survey
from infertune.profiles.profile import changed_settings
from infertune.runs.ledger import Ledger
from infertune.runs.summary import Summary, summarise
from infertune.search.importance import Importance, ped_anova


@dataclass(frozen=True)
class Findings:
    """A run and what was found in it.

    Attributes:
        ledger: The run.
        objective: What it was tuned for.
        summary: The answer.
        terrain: The landscape's shape.
        effects: What each knob does, None with too few configurations.
        importance: Which knobs decide being among the best, None with too few configurations.
        front: Throughput against energy; empty without energy.
    """

    ledger: Ledger
    objective: Objective
    summary: Summary
    terrain: Terrain
    effects: Effects | None
    importance: Importance | None
    front: tuple[Point, ...]

    @property
    def searched(self) -> bool:
        """Whether there was a search and a comparison: not in a landscape or a bench."""
        return self.ledger.header.command == "tune"

    @property
    def knobs_that_matter(self) -> tuple[str, ...]:
        """Names of the varied knobs: by their effect over the whole landscape, then in the space's order."""
        known = [effect.knob for effect in self.effects.effects] if self.effects else []
        known = known or list(self.importance.shares if self.importance else ())
        return tuple(dict.fromkeys((*known, *(knob.name for knob in self.terrain.knobs))))

    def figure_of(self, score: float) -> float:
        """The objective's figure that a score stands for."""
        return self.objective.figure_of(score)

    @property
    def first(self) -> Measurement | None:
        """The first measurement, which tells the job's size and the versions; None if nothing ran."""
        return next((trial.measurement for trial in self.ledger.trials if trial.measurement), None)

    @property
    def requests(self) -> str:
        """How many requests a job had, in words."""
        if self.first and self.first.windows[0].service:
            sizes = [w.n_requests for t in self.ledger.trials if t.measurement for w in t.measurement.windows]
            return f"{min(sizes)} to {max(sizes)}"
        return str(self.first.n_requests) if self.first else "no"

    @property
    def unit_of_work(self) -> str:
        """What a window runs: a job, or a load of a server."""
        return "load" if self.first and self.first.windows[0].service else "job"

    @property
    def advised(self) -> Config:
        """The configuration to use: a map's or a bench's best, a tune's recommendation."""
        return self.summary.best_config if self.searched else self.summary.candidate_config

    @property
    def advised_samples(self) -> tuple[float, ...]:
        """What the configuration to use reached, one figure a launch."""
        summary = self.summary
        return summary.default_samples if self.advised == summary.default_config else summary.candidate_samples

    def changed(self, config: Config) -> Config:
        """What differs from the run's default."""
        return changed_settings(config, self.summary.default_config)

    def to_set(self, config: Config) -> Config:
        """What the engine has to be told: what differs from its own default."""
        return changed_settings(config, self.ledger.header.engine_defaults)


def find(ledger: Ledger, objective: Objective) -> Findings:
    """Compute everything that reports show."""
    terrain = survey(ledger, objective)
    results = [(spot.config, spot.score) for spot in terrain.measured]
    return Findings(
        ledger=ledger,
        objective=objective,
        summary=summarise(ledger, objective),
        terrain=terrain,
        effects=knob_effects(terrain.knobs, terrain.measured),
        importance=ped_anova(terrain.knobs, results),
        front=tuple(pareto_front(ledger.trials, objective)),
    )
