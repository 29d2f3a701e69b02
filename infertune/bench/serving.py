"""How a configuration is measured on a running server: a warm-up, then loads at the rates that matter."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from infertune.bench.channel import Reply, ServeCommand, ServedReply
from infertune.bench.isolation import Deadlines
from infertune.bench.rates import Aim, Guess, bracketed, next_rate
from infertune.domain.arrivals import Arrivals
from infertune.domain.judging import RequestRows
from infertune.domain.knobs import Config
from infertune.domain.measurement import Crashed, Measurement, TimedOut, Window, over_windows
from infertune.domain.promise import Promise
from infertune.domain.service import Service
from infertune.domain.workload import MOST_REQUESTS, Request
from infertune.errors import BenchmarkError
from infertune.units import MOST_DURATION_S

MOST_LOADS = 7  # of a launch: each takes up to 2.5 kB of the ledger's line, which is to have less than 20 kB
FEWEST = 50  # requests of a look; judgement
_BROKEN_EXPECTED = 3  # requests that break the promise where it is just kept: a look has as many as give these
_MOST = 20_000  # requests of a look; judgement
_LATENCIES = 8  # a look lasts so many mean latencies, so that its ramp, a fifth, is over one; judgement
_NEARER = 1.5  # nearer to the limit, latencies are so much longer than at a rate that keeps it easily; judgement
_SHORT = 3  # the part of a look's requests, one in so many, while the rate is not known to a factor
_SHORT_UNTIL = 1.3  # that factor
_AFTER_BURST = Guess(0.6, 0.4)  # of what a burst completed a second: where the rate is expected; judgement
_WARMUP = 64  # requests of the burst that warms up; judgement
_WARMUP_CLOSED, _WAVES = 8, 2  # fewest requests that warm up a closed loop, and of each client; judgement
_LONGER = 3.0  # a closed loop may take so many times what its warm-up lets expect; judgement
_LEAST_GAP_S = 1e-9  # in the mean; requests of a trace that are nearer have no rate
_SLACK_S = 60.0  # of a load's deadline, for connections and for a busy machine; judgement


@dataclass(frozen=True)
class ServePlan:
    """How to measure one configuration on a server.

    Attributes:
        warmup: Requests to warm up with, disjoint from the measured ones.
        requests: A long draw, of which each load takes the next; it begins again at its end.
        arrivals: When requests come.
        promise: What they are held against.
        seed: Of the arrivals.
        recorded_s: A trace's own times.
        rates_per_s: Rates to look at in any case.
        searches: Whether the highest rate that keeps the promise is looked for, after those.
        guess: Where it is expected; None asks the warm-up.
        aim: When looking for it ends.
        window_s: Length of a load in seconds, at least.
        n_requests: Requests of a load; None takes as many as the window and the promise need.
        lasts_window: Whether such a load is to last the window and no longer, however few its requests are.
        windows: Loads at each of `rates_per_s`, or of a closed loop.
        deadline_s: Of one load; None allows what it should take and more.
    """

    warmup: tuple[Request, ...]
    requests: tuple[Request, ...]
    arrivals: Arrivals
    promise: Promise
    seed: str
    window_s: float
    recorded_s: tuple[float, ...] = ()
    rates_per_s: tuple[float, ...] = ()
    searches: bool = True
    guess: Guess | None = None
    aim: Aim = Aim()
    n_requests: int | None = None
    lasts_window: bool = False
    windows: int = 1
    deadline_s: float | None = None

    def expecting(self, guess: Guess | None, best_per_s: float | None = None) -> "ServePlan":
        """The same plan with another guess, and with the best rate so far."""
        return replace(self, guess=guess or self.guess, aim=replace(self.aim, best_per_s=best_per_s))


@dataclass(frozen=True)
class Looked:
    """What came of measuring a configuration on a server.

    Attributes:
        found: The measurement, or what went wrong.
        run_s: Seconds of all loads.
        rows: The requests of every window.
    """

    found: Measurement | Reply | TimedOut | Crashed
    run_s: float
    rows: tuple[RequestRows, ...] = ()


class _FailedError(Exception):
    def __init__(self, reply: Reply | TimedOut | Crashed) -> None:
        self.reply = reply


Send = Callable[[ServeCommand, Deadlines], Reply | TimedOut | Crashed]


class Looks:
    """The loads of one configuration on one launch."""

    def __init__(self, plan: ServePlan, live: Config, send: Send, deadlines: Deadlines, took_s: Callable[[], float]):
        """Loads that have not been sent yet.

        Args:
            plan: What to send.
            live: All live knobs.
            send: Sends one load.
            deadlines: Of a launch and of a warm-up.
            took_s: Seconds that the last load took.
        """
        self._plan, self._live, self._send, self._deadlines, self._took_s = plan, live, send, deadlines, took_s
        self._windows: list[Window] = []
        self._rows: list[RequestRows] = []
        self._run_s = 0.0
        self._next_request = 0
        self._burst_latency_s = self._kept_latency_s = 0.0

    def run(self) -> Looked:
        """Warm up and look, until the plan is fulfilled or a load fails."""
        plan = self._plan
        try:
            warm = self._warm_up()
            if plan.arrivals.open_loop and (plan.searches or plan.rates_per_s):
                again = MOST_LOADS - len(plan.rates_per_s) * plan.windows
                for rate in plan.rates_per_s:
                    for _ in range(plan.windows):
                        window = self._look(rate, self._size(rate))
                        if window.service and window.service.late and again > 0:  # the machine may have been busy
                            self._look(rate, self._size(rate))
                            again -= 1
                if plan.searches:
                    self._search(plan.guess or Guess(_AFTER_BURST.rate_per_s * self._burst_per_s, _AFTER_BURST.spread))
            else:  # a closed loop, or a trace at its own rate
                for _ in range(plan.windows):
                    self._look(None, self._size(None))
        except _FailedError as failed:
            return Looked(failed.reply, self._run_s, tuple(self._rows))
        return Looked(
            Measurement(
                load_s=warm.load_s,
                warmup_s=warm.window.duration_s,
                warmed_up=True,
                windows=tuple(window.model_copy(update={"boards": ()}) for window in self._windows),
                boards=over_windows([window.boards for window in self._windows]),
                peak_memory_bytes=self._last.peak_memory_bytes,
                facts=self._last.facts,
            ),
            self._run_s,
            tuple(self._rows),
        )

    def _warm_up(self) -> ServedReply:
        """A burst; what it completes a second bounds the rate from above, its latencies how long a ramp is.

        A closed loop is warmed up by its own clients: they complete another number a second.
        """
        arrivals = Arrivals("all-at-once") if self._plan.arrivals.open_loop else self._plan.arrivals
        most = _WARMUP if arrivals.clients is None else max(_WARMUP_CLOSED, _WAVES * arrivals.clients)
        given = self._plan.warmup  # a short file has few: they come again, so that the burst fills the server
        requests = tuple(given[number % len(given)] for number in range(most))
        reply = self._serve(requests, (0.0,) * len(requests), None, arrivals, warmup=True)
        self._burst_per_s = len(requests) / reply.window.duration_s
        service = reply.window.service
        self._burst_latency_s = service.latency_s.mean if service and service.latency_s else 0.0
        return reply

    def _search(self, guess: Guess) -> None:
        """Look at rates until the highest that keeps the promise is known well enough."""
        looks = [window.service for window in self._windows if window.service]
        while (rate := next_rate(looks, guess, self._plan.aim)) is not None:
            sure = guess.spread < math.log(_SHORT_UNTIL) or bracketed(looks, _SHORT_UNTIL)
            window = self._look(rate, self._size(rate, 1 if sure else _SHORT))
            assert window.service
            looks.append(window.service)

    def _size(self, rate: float | None, part: int = 1) -> int:
        """Requests of a load at a rate."""
        plan = self._plan
        if plan.n_requests is not None:
            return plan.n_requests
        if rate is None and plan.arrivals.kind == "trace":
            expected = float(plan.arrivals.n_within(plan.window_s, plan.recorded_s))
        else:
            expected = (self._burst_per_s if rate is None else rate) * plan.window_s
        if not plan.searches and (plan.rates_per_s or plan.lasts_window):
            return min(MOST_REQUESTS, max(1, round(expected), plan.arrivals.clients or 0))
        broken = math.ceil(_BROKEN_EXPECTED / (1 - plan.promise.attain)) if plan.promise.limits else 0
        wanted = max(expected, broken) / part
        if rate is not None:
            wanted = max(wanted, _LATENCIES * self._latency_s() * rate)
        return min(_MOST, max(FEWEST, math.ceil(wanted), 4 * (plan.arrivals.clients or 0)))

    def _latency_s(self) -> float:
        """What a request is expected to take at most, in the mean, where the promise is kept.

        Requests of a burst wait for each other; those of loads that kept the promise say how much of that it was.
        """
        kept_s = self._kept_latency_s
        if not kept_s:
            allowed_s = self._plan.promise.allowed_s(max(request.output_tokens for request in self._plan.warmup))
            return min(self._burst_latency_s, allowed_s)
        return max(kept_s, min(self._burst_latency_s, _NEARER * kept_s))

    def _look(self, rate: float | None, n: int) -> Window:
        """One load of the plan's requests, whose figures are kept."""
        plan = self._plan
        pool = plan.requests
        requests = tuple(pool[(self._next_request + number) % len(pool)] for number in range(n))
        self._next_request += n
        due_s = plan.arrivals.due_s(n, rate, plan.seed, plan.recorded_s)
        if rate is None and plan.arrivals.open_loop:
            if due_s[-1] > MOST_DURATION_S:
                raise BenchmarkError(f"{n} requests at this trace's times are due over more than 277h; give --requests")
            rate = n / due_s[-1] if due_s[-1] > n * _LEAST_GAP_S else None
        reply = self._serve(requests, due_s, rate, plan.arrivals, warmup=False)
        self._windows.append(reply.window)
        self._rows.append(reply.rows)
        self._last = reply
        if service := reply.window.service:
            self._kept_latency_s = max(self._kept_latency_s, _latency_while_kept_s(service))
        return reply.window

    def _serve(
        self,
        requests: Sequence[Request],
        due_s: tuple[float, ...],
        rate: float | None,
        arrivals: Arrivals,
        *,
        warmup: bool,
    ) -> ServedReply:
        plan = self._plan
        cut_after_s = self._cut_after_s(requests, arrivals, warmup=warmup)
        command = ServeCommand(
            live=self._live,
            requests=tuple(requests),
            due_s=due_s,
            cut_after_s=cut_after_s,
            arrivals=str(arrivals),
            n_different=len(plan.warmup if warmup else plan.requests),
            rate_per_s=rate,
            promise=plan.promise,
            warmup=warmup,
        )
        deadlines = self._deadlines
        if not warmup:
            run_s = plan.deadline_s or due_s[-1] + cut_after_s + _SLACK_S
            # What comes before the load, such as asking for token ids, is stage "warmup", and may take as long.
            deadlines = deadlines.model_copy(update={"run_s": run_s, "warmup_s": max(deadlines.warmup_s, run_s)})
        reply = self._send(command, deadlines)
        self._run_s += self._took_s()
        if not isinstance(reply, ServedReply):
            raise _FailedError(reply)
        self._last = reply
        return reply

    def _cut_after_s(self, requests: Sequence[Request], arrivals: Arrivals, *, warmup: bool) -> float:
        """Open loops are cut when waiting has no more use; others are waited for."""
        if warmup:
            return self._deadlines.warmup_s
        if arrivals.open_loop:
            return self._patience_s(requests)
        if self._plan.deadline_s:
            return self._deadlines.run_s
        return min(MOST_DURATION_S, max(self._deadlines.run_s, _LONGER * len(requests) / self._burst_per_s))

    def _patience_s(self, requests: Sequence[Request]) -> float:
        """Seconds after which the longest of some requests is not waited for any more."""
        takes_s = max(self._burst_latency_s, self._kept_latency_s)
        return self._plan.promise.patience_s(max(request.output_tokens for request in requests), takes_s)


def _latency_while_kept_s(load: Service) -> float:
    """What a request of a load took in the mean while the promise was kept, without the queue if it grew; else 0."""
    if load.late or load.latency_s is None or not (load.kept or load.only_queue_grows):
        return 0.0
    queue_s = load.ttft_s.mean if load.growing and load.ttft_s else 0.0
    return max(0.0, load.latency_s.mean - queue_s)
