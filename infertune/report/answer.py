"""The configurations that a run compared: the rows of every table and picture of an answer."""

from dataclasses import dataclass

from infertune.report.findings import Findings
from infertune.runs.summary import Summary
from infertune.stats import Estimate


@dataclass(frozen=True)
class Contender:
    """One configuration of a run's answer.

    Attributes:
        name: `default`, `current` for what runs today, `ported`, `tuned` where it was shown to be better than what runs
            today or the default, else `best candidate`; a bench's only one is `measured`.
        estimate: Its figure, None where there is none.
        samples: One figure a launch.
        gain: Over what is to be beaten, from paired launches; None where it was not confirmed, and for that itself.
    """

    name: str
    estimate: Estimate | None
    samples: tuple[float, ...] = ()
    gain: Estimate | None = None

    @property
    def colour(self) -> str:
        """The class that its bar is drawn in."""
        return {"default": "d", "current": "d", "measured": "d", "ported": "o", "tuned": "g"}.get(self.name, "a")


def contenders(summary: Summary) -> tuple[Contender, ...]:
    """What is to be beaten, then each of the others that is another: engine's default, ported, candidate."""
    found = [Contender(summary.base_name, summary.default, summary.default_samples)]
    if summary.stock_config not in (None, summary.default_config, summary.candidate_config):
        found.append(Contender("default", summary.stock, summary.stock_samples, summary.stock_gain))
    if summary.ported and summary.ported_config != summary.candidate_config:
        found.append(Contender("ported", summary.ported, summary.ported_samples, summary.ported_gain))
    if summary.candidate_config != summary.default_config:
        found.append(Contender(best_name(summary), summary.candidate, summary.candidate_samples, summary.gain))
    return tuple(found)


def contenders_of(found: Findings) -> tuple[Contender, ...]:
    """The same of any run: a bench has only the configuration that it measured."""
    if found.ledger.header.command == "bench":
        return (Contender("measured", found.summary.candidate, found.summary.candidate_samples),)
    return contenders(found.summary)


def best_name(summary: Summary) -> str:
    """What to call the candidate: `tuned` only where it was shown to be better, `default` where it is the engine's."""
    if summary.candidate_config == summary.stock_config:
        return "default"
    return "tuned" if summary.answer == "better" else "best candidate"
