"""What a run found of serving: the promise, the highest rates, and where a request's time goes, in words and rows."""

from collections.abc import Sequence

from infertune.domain.knobs import Config
from infertune.domain.service import LoadCounts, Service, Sustained
from infertune.domain.trial import Trial
from infertune.report.answer import best_name
from infertune.report.findings import Findings
from infertune.stats import geometric_mean, mean_with_zeros
from infertune.units import format_rate

HEADINGS = ("", "at requests/s", "in the queue", "to the first token", "to the last token", "time of a token", "kept")


def served_configs(found: Findings) -> list[tuple[str, Config]]:
    """The configurations of the answer with their names: what is to be beaten, and the candidate if it is another."""
    summary = found.summary
    if found.ledger.header.command == "bench":
        return [("measured", summary.candidate_config)]
    configs = [(summary.base_name, summary.default_config)]
    if summary.candidate_config != summary.default_config:
        configs.append((best_name(summary), summary.candidate_config))
    return configs


def looks_of(found: Findings, config: Config) -> list[Service]:
    """The loads of a configuration on fresh launches of the final comparison; those of the search where it had none."""
    trials = [trial for trial in found.ledger.trials if trial.config == config]
    return _looks([t for t in trials if t.phase == "final"]) or _looks(trials)


def serving_sentences(found: Findings) -> list[str]:
    """The promise, the highest rate of each configuration, and what is no evidence; empty for offline jobs."""
    looks = [look for _, config in served_configs(found) for look in looks_of(found, config)]
    if not looks:
        return []
    first = looks[0]
    limits = ", ".join(f"`{limit}`" for limit in first.promise.limits)
    lines = [f"Requests come as `{first.arrivals}`; latencies count from when a request was due."]
    if limits:
        lines.insert(0, f"The promise: {100 * first.promise.attain:.4g}% of the requests keep {limits}.")
    for name, config in served_configs(found):
        rates = [one.rate_per_s for one in _sustained(found, config)]
        if rates and first.promise.limits:
            lines.append(
                f"{name}: kept up to {format_rate(geometric_mean(rates))} requests/s "
                f"({format_rate(min(rates))} to {format_rate(max(rates))} over {len(rates)} launches)."
            )
    if found.ledger.header.command == "bench":
        return lines + _of_fixed_rate(looks)
    late = sum(look.late for look in looks)
    if late:
        lines.append(f"{late} of {len(looks)} loads were sent late and are no evidence.")
    failed = sum(look.n_failed for look in looks if look.kept and not look.late)
    if failed:
        lines.append(f"{failed} requests failed at rates at which the promise was kept; they count as broken.")
    return lines


def _of_fixed_rate(looks: Sequence[Service]) -> list[str]:
    """Whether the promise was kept at the rate that was asked for, and what failed."""
    lines = load_sentences(LoadCounts.of(looks))
    shares = [look.attainment for look in looks if look.attainment is not None and not look.late]
    if shares:
        lines.insert(0, f"{100 * mean_with_zeros(shares):.4g}% of the requests kept it.")
    failed, first = sum(look.n_failed for look in looks), next((look.failures for look in looks if look.failures), ())
    if failed:
        lines.append(f"{failed} requests failed or were cut, such as: {', '.join(first[:1])}.")
    return lines


def load_sentences(loads: LoadCounts) -> list[str]:
    """In how many loads at one rate the promise was kept, which limits were broken, and whether the queue grew."""
    lines = []
    if loads.n_late:
        lines.append(f"{loads.n_late} of {loads.n_late + loads.n_loads} loads were sent late and are no evidence.")
    if loads.broken and loads.n_loads:
        broken = [f"{limit} was broken in {n}" for limit, n in loads.broken.items() if n]
        because = f": {', '.join(broken)}" if broken else ""
        lines.append(f"The promise was kept in {loads.n_kept} of {loads.n_loads} loads{because}.")
    if loads.n_growing:
        grew = f"The queue grew in {loads.n_growing} of {loads.n_loads} loads"
        lines.append(f"{grew}: requests come faster than they are answered.")
    return lines


def time_rows(found: Findings) -> list[tuple[str, ...]]:
    """Where a request's time goes at the highest rate that each configuration kept, under `HEADINGS`."""
    rows: list[tuple[str, ...]] = []
    for name, config in served_configs(found):
        looks = [look for look in looks_of(found, config) if not look.late and look.ttft_s and look.latency_s]
        chosen = [look for look in looks if look.kept or not look.promise.limits]
        if not chosen:
            continue
        look = max(chosen, key=lambda one: one.rate_per_s or 0.0)
        assert look.ttft_s and look.latency_s
        rows.append(
            (
                name,
                "–" if look.rate_per_s is None else format_rate(look.rate_per_s),
                "–" if look.queue_s is None else _time(look.queue_s),
                _time(look.ttft_s.mean),
                _time(look.latency_s.mean),
                "–" if look.tpot_s is None else _time(look.tpot_s.mean),
                "–" if look.attainment is None else f"{look.attainment:.1%}",
            )
        )
    return rows


def _sustained(found: Findings, config: Config) -> list[Sustained]:
    trials = [trial for trial in found.ledger.trials if trial.config == config and trial.measurement]
    chosen = [trial for trial in trials if trial.phase == "final"] or trials
    return [rate for trial in chosen if trial.measurement and (rate := trial.measurement.sustained)]


def _looks(trials: Sequence[Trial]) -> list[Service]:
    windows = (window for trial in trials if trial.measurement for window in trial.measurement.windows)
    return [window.service for window in windows if window.service]


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
