"""How a gate loads a server: around the highest rate for goodput, at the profile's rate for every other metric."""

import math
from collections.abc import Sequence
from dataclasses import replace

from infertune.bench.rates import Guess
from infertune.bench.serving import ServePlan
from infertune.domain.arrivals import Arrivals
from infertune.domain.figures import FIGURES
from infertune.domain.measurement import Measurement
from infertune.domain.promise import Promise, parse_limit
from infertune.domain.request import GateRequest
from infertune.domain.service import Service, why_none_sustained
from infertune.errors import BenchmarkError, UsageError
from infertune.profiles.profile import Profile
from infertune.runs.job import Job
from infertune.runs.serving import Serving, recorded_of
from infertune.stats import geometric_mean

GOODPUT = "goodput_per_s"
_WINDOW_S = 30.0  # of a load (MEASURING.md, window length)
_ROUNDING = 1e-9  # of a share
_OWN, _OTHER = 0.05, 0.2  # how far off a guess may be, as a natural logarithm; judgement


def loaded(job: Job, profile: Profile, metrics: Sequence[str], request: GateRequest) -> Job:
    """The job of an arm with the load that its profile holds for; the same job for a profile of offline jobs.

    Raises:
        UsageError: The metrics need loads, or loads at different rates, or a rate that the profile does not have.
    """
    found = profile.serving
    if found is None:
        if of_loads := [name for name in metrics if FIGURES[name].of_loads]:
            raise UsageError(f"--metric {of_loads[0]} is of a server's load; {request.profile} is of offline jobs")
        return job
    searches = GOODPUT in metrics
    if searches and len(metrics) > 1:
        other = next(name for name in metrics if name != GOODPUT)
        raise UsageError(
            f"--metric {GOODPUT} is found at another rate than --metric {other}, which is measured at the profile's: "
            "gate on one of them"
        )
    if not searches and found.rate_per_s is None:
        raise UsageError(f"--metric {metrics[0]} is measured at the profile's rate, and {request.profile} has none")
    arrivals = Arrivals.parse(found.arrivals)
    limits = (parse_limit(text, tuple(FIGURES)).of_requests for text in profile.slo)
    rate, window_s = found.rate_per_s, request.window or _WINDOW_S
    serving = Serving(
        arrivals=arrivals,
        promise=Promise(limits=tuple(limit for limit in limits if limit), attain=found.attain),
        window_s=window_s,
        proof_window_s=window_s,
        recorded_s=recorded_of(arrivals, job.workload),
        rates_per_s=() if searches or rate is None else (rate,),
        searches=searches,
        n_requests=request.requests,
        deadline_s=request.run_timeout,
    )
    return replace(job, serving=serving)


def guessed(plan: ServePlan, launches: Sequence[Measurement], profile: Profile, *, of_profile: bool) -> ServePlan:
    """A plan with a guess of the rate: from the arm's own launches, else from the profile."""
    rates = [found.rate_per_s for launch in launches if (found := launch.sustained)]
    if rates:
        return plan.expecting(Guess(geometric_mean(rates), _OWN))
    rate = profile.serving.rate_per_s if profile.serving else None
    return plan if rate is None else plan.expecting(Guess(rate, _OWN if of_profile else _OTHER))


def check_on_time(measurement: Measurement, label: str) -> None:
    """Refuse loads that were sent late: a verdict on them would be on the generator.

    Raises:
        BenchmarkError: Those that the figures are of were.
    """
    late = [window.service for window in measurement.judged if window.service and window.service.late]
    if late and len(late) == len(measurement.judged):
        raise BenchmarkError(
            f"{label} was loaded late: the sender set the pace, not the server, and sent requests up to "
            f"{late[0].late_p99_s:.3g} s after they were due; this machine is too busy to judge a server like that"
        )


def check_kept(measurement: Measurement, label: str) -> None:
    """Refuse a launch that has no goodput, with the reason.

    Raises:
        BenchmarkError: The promise is kept at no rate that was looked at.
    """
    loads = [window.service for window in measurement.windows if window.service]
    if loads and measurement.sustained is None:
        why = why_none_sustained(loads, "--metric attainment compares at the profile's rate")
        raise BenchmarkError(f"{label} has no goodput: {why}")


def check_answered(measurement: Measurement, label: str, metrics: Sequence[str]) -> None:
    """Refuse a launch of which a gated quantile is lost, where it has no base that says whether failing is new.

    Raises:
        BenchmarkError: Too many of its requests failed.
    """
    found = lost([measurement], label)
    if name := next((name for name in metrics if name in found), ""):
        raise BenchmarkError(f"{found[name]}: {name} is of the others; --metric attainment counts them all")


def lost(launches: Sequence[Measurement], label: str) -> dict[str, str]:
    """Quantile → how many requests failed, where on some launch more did than its level leaves room for.

    A quantile is of the requests that came back: with so many missing it is none of all requests.
    """
    names = {name for launch in launches for name in _lost(launch)}
    services = [service for launch in launches for service in _services(launch)]
    n_requests = sum(window.n_requests for launch in launches for window in launch.judged)
    n_failed = sum(service.n_failed for service in services)
    example = next((text for service in services for text in service.failures), "")
    why = f"{n_failed} of {n_requests} requests of {label} failed, such as {example}"
    return {name: why for name in FIGURES if name in names}


def requests_behind(launches: Sequence[Measurement]) -> float | None:
    """As many independent requests as the attainment of some launches is worth; None for jobs."""
    services = [service for launch in launches for service in _services(launch)]
    return math.fsum(service.n_worth or service.n_counted for service in services) or None


def newly_lost(base: Sequence[Measurement], new: Sequence[Measurement]) -> set[str]:
    """Quantiles that every launch of the new side has lost, and none of the base: failing is what has changed.

    Chance alone does that in one of 256 gates at most, which is less than the level of a look. Where both sides lose a
    launch with the same probability p, n of each come out so with probability (p (1 - p))^n, 4^-n at most, and a gate
    looks after 4 launches of each side first.
    """
    of_base = {name for launch in base for name in _lost(launch)}
    return set.intersection(*map(_lost, new)) - of_base


def _lost(launch: Measurement) -> set[str]:
    """Quantiles of whose requests too many failed in the loads that figures are of."""
    n_requests = sum(window.n_requests for window in launch.judged)
    share = sum(service.n_failed for service in _services(launch)) / n_requests
    levels = {name: figure.level for name, figure in FIGURES.items() if figure.level is not None}
    return {name for name, level in levels.items() if share > 1 - level + _ROUNDING}


def _services(launch: Measurement) -> list[Service]:
    return [window.service for window in launch.judged if window.service]


def length_of(serving: Serving | None) -> str:
    """How loads are sized and at which rates they come, as runs to compare must have in common; empty for jobs."""
    if serving is None:
        return ""
    rate = "rates around the highest" if serving.searches else f"{serving.rates_per_s[0]:.4g} requests/s"
    if serving.n_requests:
        return f"loads of {serving.n_requests} requests at {rate}"
    return f"loads at {rate} for {serving.window_s:g} s or more"
