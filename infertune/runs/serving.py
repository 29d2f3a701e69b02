"""How a job loads a server: when requests come, what they must keep, and at which rates."""

from dataclasses import dataclass
from typing import TypeVar

from infertune.bench.rates import Aim
from infertune.bench.serving import FEWEST, ServePlan
from infertune.domain.arrivals import Arrivals, fault_of_times
from infertune.domain.objective import GOODPUTS, limits_a_launch, promise_of
from infertune.domain.promise import Promise
from infertune.domain.request import JobRequest, TuneRequest
from infertune.domain.serving_options import LoadOptions
from infertune.domain.workload import MOST_REQUESTS, Part, Workload
from infertune.engines import TARGET_ENGINE
from infertune.engines.base import Engine
from infertune.errors import UsageError
from infertune.units import MOST_DURATION_S

L = TypeVar("L", bound="LoadRequest")
_DRAWN = 20_480  # requests, more than one load has, of which the loads of a launch take one after the other; judgement
_WARMUP_REQUESTS = 64
_WINDOW_S, _PROOF_WINDOWS = 10.0, 4  # of a load, and how much longer one of a proof is (MEASURING.md, window length)
_SEARCH_AIM, _PROOF_AIM = Aim(6, 1.10), Aim(5, 1.08)


class LoadRequest(LoadOptions, JobRequest):
    """What measures a server that may be running already."""


@dataclass(frozen=True)
class Serving:
    """How a server is loaded.

    Attributes:
        arrivals: When requests come.
        promise: What they are held against.
        window_s: Length of a load in seconds.
        proof_window_s: The same in a proof: a short load sees few bursts, and finds a little too much.
        recorded_s: A trace's own times.
        rates_per_s: Rates to look at in any case.
        searches: Whether the highest rate that keeps the promise is looked for.
        n_requests: Requests of a load; None takes as many as it needs.
        lasts_window: Whether such a load is to last the window and no longer, however few its requests are.
        deadline_s: Of one load; None allows what it should take and more.
    """

    arrivals: Arrivals
    promise: Promise
    window_s: float
    proof_window_s: float
    recorded_s: tuple[float, ...] = ()
    rates_per_s: tuple[float, ...] = ()
    searches: bool = True
    n_requests: int | None = None
    lasts_window: bool = False
    deadline_s: float | None = None

    def plan(self, workload: Workload, part: Part, round_number: int, windows: int = 1) -> ServePlan:
        """The loads of one launch: requests of one part of the workload, the same for every configuration."""
        drawn = max(_DRAWN, 2 * (self.n_requests or 0))
        return ServePlan(
            warmup=workload.draw("warmup", max(_WARMUP_REQUESTS, 2 * (self.arrivals.clients or 0)), round_number),
            requests=workload.draw(part, drawn, round_number),
            arrivals=self.arrivals,
            promise=self.promise,
            seed=f"{workload.seed}/{part}/{round_number}",
            window_s=self.window_s if part == "search" else self.proof_window_s,
            recorded_s=self.recorded_s,
            rates_per_s=self.rates_per_s,
            searches=self.searches,
            aim=_SEARCH_AIM if part == "search" else _PROOF_AIM,
            n_requests=self.n_requests,
            lasts_window=self.lasts_window,
            windows=windows,
            deadline_s=self.deadline_s,
        )


def loads_of_proof_s(window_s: float | None) -> float:
    """Seconds of the loads of a launch of a proof if all looks are made, and the window says how long each is.

    Args:
        window_s: Of a load of the search, as `--window` has it; None as it is unless given.
    """
    return _PROOF_AIM.most_looks * _PROOF_WINDOWS * (window_s or _WINDOW_S)


def serving_of(request: JobRequest, workload: Workload, engine: Engine) -> Serving | None:
    """How a request wants a server to be loaded; None where it measures offline jobs.

    Args:
        request: What was asked.
        workload: What is asked of the engine.
        engine: Must be a server, if one is to be loaded.

    Raises:
        UsageError: Options do not go together, or the engine is no server.
    """
    if isinstance(request, TuneRequest) and engine.name == TARGET_ENGINE:
        raise UsageError("nothing can be tuned on a server that runs already; measure it with infertune bench --target")
    goodput = isinstance(request, TuneRequest) and request.objective in GOODPUTS
    loads = isinstance(request, LoadOptions) and request.loads_a_server
    if isinstance(request, TuneRequest) and request.arrivals is not None and not goodput:
        raise UsageError(f"--arrivals is for --objective {GOODPUTS[0]}; an offline job has all requests at once")
    promise = promise_of(request)
    if isinstance(request, LoadOptions) and (of_launch := [text for text in request.slo if limits_a_launch(text)]):
        raise UsageError(
            f"--slo {of_launch[0]} is on a figure of a launch, and a load is held against limits on requests: such "
            "as ttft_s<0.5 or ttft_p99_s<2"
        )
    if "attain" in request.model_fields_set and not (promise.limits and (goodput or loads)):
        cure = "--slo 'ttft_s<0.5'" + (" and --rate" if isinstance(request, LoadOptions) else "")
        raise UsageError(f"--attain is of limits on the requests of a server's load, and there is none: give {cure}")
    if not (goodput or loads):
        if isinstance(request, LoadOptions) and promise.limits:
            raise UsageError(f"--slo {request.slo[0]} is of a server's load: give --rate, in requests a second")
        return None
    if not (getattr(engine, "serves", False) or engine.name == TARGET_ENGINE):
        raise UsageError(f"engine {engine.name} is no server; take one that is, such as fake-serve")
    given = getattr(request, "arrivals", None)
    arrivals = Arrivals.parse(given) if given else Arrivals("poisson")
    if goodput and not promise.limits:
        raise UsageError(f"--objective {GOODPUTS[0]} needs a limit on requests, such as --slo 'ttft_s<0.5'")
    if goodput and not arrivals.open_loop:
        raise UsageError(f"--arrivals {arrivals}: --objective {GOODPUTS[0]} needs requests that come at a rate")
    rate = request.rate if isinstance(request, LoadOptions) else None
    if rate is not None and not arrivals.open_loop:
        raise UsageError(f"--rate is of no meaning with --arrivals {arrivals}, which sends as fast as it may")
    if loads and arrivals.open_loop and arrivals.kind != "trace" and rate is None:
        raise UsageError(f"--arrivals {arrivals} needs --rate, in requests a second")
    duration = request.duration if isinstance(request, LoadOptions) else None
    if duration is not None and request.requests is not None:
        raise UsageError("--requests and --duration both say how long a load is: leave out one of them")
    if arrivals.kind == "trace" and arrivals.value != 1 and (goodput or rate is not None):
        whose = "--rate sets" if rate is not None else f"--objective {GOODPUTS[0]} finds"
        raise UsageError(f"--arrivals {arrivals}: {whose} the rate, so a speed-up is of no meaning: give trace")
    window_s = duration or request.window or _WINDOW_S
    recorded_s = recorded_of(arrivals, workload)
    if loads:
        n = request.requests or _n_requests(arrivals, rate, duration, window_s, recorded_s)
        if n > MOST_REQUESTS:
            raise UsageError(
                f"--rate {rate:g} over {window_s:g} s are {n:,} requests, and a load has {MOST_REQUESTS:,} at most: "
                "give a lower --rate or a shorter --duration"
            )
        if arrivals.longest_s(n, rate, recorded_s) > MOST_DURATION_S:
            cure = (
                "give fewer --requests or a higher --rate"
                if rate
                else "give fewer --requests or a faster trace:SPEEDUP"
            )
            raise UsageError(f"a load of {n} requests would last longer than 277h (1,000,000 seconds): {cure}")
    return Serving(
        arrivals=arrivals,
        promise=promise,
        window_s=window_s,
        proof_window_s=_PROOF_WINDOWS * window_s,
        recorded_s=recorded_s,
        rates_per_s=() if rate is None else (rate,),
        searches=goodput,
        n_requests=request.requests,
        lasts_window=duration is not None,
        deadline_s=request.run_timeout,
    )


def _n_requests(
    arrivals: Arrivals, rate: float | None, duration: float | None, window_s: float, recorded_s: tuple[float, ...]
) -> int:
    """Requests of a load of which only the time is given; of a closed loop, which the server decides, the fewest."""
    if rate is not None:
        return max(1, round(rate * window_s))
    if duration is None or arrivals.kind != "trace":
        return FEWEST
    return arrivals.n_within(duration, recorded_s)


def recorded_of(arrivals: Arrivals, workload: Workload) -> tuple[float, ...]:
    """The times of a trace that is replayed; empty for other arrivals.

    Raises:
        UsageError: The workload has none, or they are all the same.
    """
    if arrivals.kind != "trace":
        return ()
    if fault := fault_of_times(workload.recorded_s):
        raise UsageError(f"--arrivals trace: {fault}")
    return workload.recorded_s


def on_target(request: L) -> L:
    """A request of a server that runs already as one of the engine that measures it.

    Raises:
        UsageError: It names an engine besides, or settings to search, which nobody could make.
    """
    if request.target is None:
        return request
    for flag, given in (("--engine", request.engine), ("--knob", request.knob)):
        if given:
            raise UsageError(f"--target is a server that runs already: leave out {flag}; nothing is changed on it")
    return request.model_copy(update={"engine": f"{TARGET_ENGINE}:{request.target}"})
