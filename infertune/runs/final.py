"""The final comparison of a tune, computed from its ledger: whole rounds, the gain, and each side's figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from infertune.domain.knobs import Config
from infertune.domain.objective import Objective
from infertune.sequential import (
    Contrast,
    Decision,
    Trust,
    contrast,
    first_look_weights,
    interval,
    is_better,
    look,
    side,
)
from infertune.stats import Estimate


@dataclass(frozen=True)
class FinalRounds:
    """The final comparison so far: only rounds in which every configuration of it was measured.

    Attributes:
        objective: What the figures are of.
        trust: How sure the answer must be.
        looks: After how many rounds there is a look; the last is the most rounds.
        candidate: The configuration that is compared with the default.
        candidate_samples: One figure a round.
        default_samples: One figure a round.
        ported_samples: The same of the configuration brought from elsewhere; the candidate's own if it is that one.
        stock_samples: The same of the engine's default, where another configuration runs today.
        more_default_samples: The default's launches of the confirmation, without a partner. It was not chosen by them,
            so they may count; not where the proof ran on several devices, of which it has no whole share.
    """

    objective: Objective
    trust: Trust
    looks: tuple[int, ...]
    candidate: Config
    candidate_samples: tuple[float, ...]
    default_samples: tuple[float, ...]
    ported_samples: tuple[float, ...]
    stock_samples: tuple[float, ...] = ()
    more_default_samples: tuple[float, ...] = ()

    @property
    def n(self) -> int:
        """Whole rounds."""
        return len(self.candidate_samples)

    @property
    def is_better(self) -> bool:
        """Whether the candidate is better than the default."""
        return is_better(interval(self.contrast(), self.n, self.trust))

    def contrast(self, samples: Sequence[float] | None = None) -> Contrast:
        """How much better the candidate is than the default, or another that was launched in turn with it."""
        new = self._scores(samples or self.candidate_samples)
        return contrast(new, self._scores(self.default_samples), self._scores(self.more_default_samples))

    def decision(self) -> Decision:
        """Whether another round can still change the answer."""
        n_base = self.n + len(self.more_default_samples)
        return look(self.contrast(), self.n, n_base, self.trust, self.looks[-1])

    def gain(self, samples: Sequence[float] | None = None) -> Estimate:
        """The ratio of figures candidate / default, or of another that was launched in turn with it."""
        samples = samples or self.candidate_samples
        return self._ratio(self.contrast(samples), samples, self.default_samples)

    def retuned_gain(self) -> Estimate:
        """The ratio of figures candidate / what was brought from elsewhere."""
        new, ported = self.candidate_samples, self.ported_samples
        return self._ratio(contrast(self._scores(new), self._scores(ported)), new, ported)

    def side(self, samples: Sequence[float]) -> Estimate:
        """A configuration's figure, the plain mean of its launches, by the noise of the whole comparison."""
        return self._as_figure(side(self._scores(samples), self.contrast(), self.n, self.trust))

    def _ratio(self, found: Contrast, new: Sequence[float], base: Sequence[float]) -> Estimate:
        """The interval of a contrast, and the mean of its rounds without what the early end adds to it.

        That mean is kept within the interval, which lies around the plain mean of all launches.
        """
        weights = first_look_weights(
            self._scores(self.candidate_samples),
            self._scores(self.default_samples),
            self._scores(self.more_default_samples),
            self.trust,
            self.looks,
        )
        gains = [a - b for a, b in zip(self._scores(new), self._scores(base), strict=True)]
        mean = math.exp(sum(weight * gain for weight, gain in zip(weights, gains, strict=True)))
        plain = interval(found, self.n, self.trust)
        if plain.low is not None and plain.high is not None:
            mean = min(max(mean, plain.low), plain.high)
        return self._as_figure(plain.model_copy(update={"mean": mean}))

    def _scores(self, figures: Sequence[float]) -> tuple[float, ...]:
        return tuple(map(self.objective.score_of, figures))

    def _as_figure(self, found: Estimate) -> Estimate:
        """An estimate of goodness as one of the objective's figure: inverted if less is better."""
        if not self.objective.lower_is_better or found.low is None or found.high is None:
            return found
        return found.model_copy(update={"mean": 1 / found.mean, "low": 1 / found.high, "high": 1 / found.low})
