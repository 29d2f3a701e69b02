"""The loads of one configuration on a server: how long they last."""

from pathlib import Path

from infertune.bench.bench import Bench
from infertune.bench.isolation import Deadlines
from infertune.domain.arrivals import Arrivals
from infertune.domain.device import cpu
from infertune.domain.measurement import Measurement
from infertune.domain.promise import Promise, RequestLimit
from infertune.domain.workload import parse_workload
from infertune.engines.base import EngineOptions
from infertune.engines.fake.serving import FakeServeEngine
from infertune.runs.serving import Serving


def test_a_look_is_as_long_as_requests_take_within_the_limits_and_not_as_in_a_burst(tmp_path: Path) -> None:
    """A burst of 64 requests on four slots takes each of them eight times as long as one that finds a slot free."""
    engine, workload = FakeServeEngine(EngineOptions()), parse_workload("synthetic:in=64,out=64")
    space = engine.space(None, cpu(), workload)
    promise = Promise(limits=(RequestLimit(figure="ttft_s", most_s=0.2),), attain=0.9)
    plan = Serving(Arrivals("poisson"), promise, window_s=0.1, proof_window_s=0.1).plan(workload, "search", 0)
    with Bench(engine, EngineOptions(), None, cpu(), space, tmp_path, Deadlines(), seed=1) as bench:
        found = bench.measure(space.default.updated({"max_num_seqs": 4}), plan, fresh=True).outcome
    assert isinstance(found, Measurement)
    looks = [window.service for window in found.windows if window.service]
    kept_s = max(look.latency_s.mean for look in looks if look.kept and look.latency_s)
    assert found.warmup_s > 10 * kept_s and len(looks) > 2
    for look in looks[1:]:  # the first one has only the burst to go by
        assert look.rate_per_s and 7 * kept_s < look.n_counted / 0.7 / look.rate_per_s < 20 * kept_s
