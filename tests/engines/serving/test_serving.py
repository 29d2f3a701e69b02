"""Loads and faults of a server, on a real one: a stub in processes of its own, over real connections."""

import asyncio
import contextlib
import http.server
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from infertune.domain.load import Load
from infertune.engines.base import Prompt
from infertune.engines.serving import process as processes
from infertune.engines.serving import sending
from infertune.engines.serving.connection import Request
from infertune.engines.serving.job import Job
from infertune.engines.serving.loaded import RequestFailedError, ServerAnswerError
from infertune.engines.serving.process import ServerEndedError, ServerNotReadyError, ServerProcess
from infertune.engines.serving.sender import GaugeNames, read_gauges
from tests.engines.serving.loaded_stub import NAMES, STUB, LoadedStub, start


def test_connections_over_tls_share_what_is_known_of_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all certificates for each connection would delay the requests that are due meanwhile."""
    made, make = [], ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: made.append(make()) or made[-1])
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        job = Job(host="127.0.0.1", port=port, tls=True, head="", gauges_head="GET", cut_after_s=5.0, n=3)
        load = asyncio.run(sending._run(job, [Request(0.0, 1, b"{}") for _ in range(3)]))
    assert len(made) == 1 and load.gauges == []


PROMPTS = [Prompt([number, 1, 2, 3], 4) for number in range(12)]
DUE = [0.02 * number for number in range(12)]


@contextlib.contextmanager
def stub(*flags: str) -> Iterator[LoadedStub]:
    """A loaded stub; nothing of it may be left afterwards."""
    engine = LoadedStub(*flags)
    assert engine.process
    family = engine.process.family()
    assert len(family) == 2, "the server and its helper"
    try:
        yield engine
    finally:
        engine.close()
        assert not any(map(psutil.pid_exists, [process.pid for process in family]))


def errors(load: Load) -> set[str]:
    return {sent.error for sent in load.sent}


def test_an_open_load_sends_each_request_when_it_is_due_and_notes_every_token() -> None:
    with stub("--token-s=0.002") as engine:
        load = engine.serve(PROMPTS, DUE, cut_after_s=10)
    assert [sent.due_s for sent in load.sent] == pytest.approx(DUE)
    assert errors(load) == {""}
    for sent in load.sent:
        assert sent.first_s is not None
        assert sent.due_s <= sent.sent_s < sent.first_s < sent.end_s
        assert sent.output_tokens == 4 and len(sent.gaps_s) == 3
        assert sum(sent.gaps_s) == pytest.approx(sent.end_s - sent.first_s, abs=1e-4)
    assert load.generator_cpu_s and 0 < load.generator_cpu_s < 1
    assert load.gauges[0].kv_cache_share == 0.5 and load.gauges[0].preemptions == 2


def test_the_generator_is_there_once_the_server_is_loaded() -> None:
    """What is started later would be taken for somebody else's load on the machine."""
    with stub() as engine:
        before = {process.pid for process in psutil.Process().children(recursive=True)}
        engine.serve(PROMPTS, DUE, cut_after_s=10)
        assert {process.pid for process in psutil.Process().children(recursive=True)} == before


def test_slow_answers_do_not_delay_what_is_due() -> None:
    """Coordinated omission: a generator that waits for answers would send the last one after 1.2 s."""
    with stub("--token-s=0.1") as engine:
        load = engine.serve(PROMPTS, [0.0] * 12, cut_after_s=10)
    assert max(sent.late_s for sent in load.sent) < 0.3
    assert all(sent.latency_s > 0.4 for sent in load.sent)


def test_a_closed_loop_keeps_so_many_at_once_and_a_request_is_due_when_a_place_is_free() -> None:
    with stub("--token-s=0.005") as engine:
        load = engine.serve(PROMPTS, [0.0] * 12, cut_after_s=10, concurrency=3)
    assert errors(load) == {""}
    assert [sent.due_s for sent in load.sent[:3]] == [0.0] * 3
    assert all(0 < sent.late_s < 0.3 for sent in load.sent[3:]), "from the end of another one until it was sent"
    for sent in load.sent:
        assert sum(other.sent_s <= sent.sent_s < other.end_s for other in load.sent) <= 3
    assert load.sent[-1].sent_s > 0.05


def test_a_job_is_everything_at_once_with_exact_counts() -> None:
    with stub() as engine:
        completions = engine.generate(PROMPTS)
        assert [completion.output_tokens for completion in completions] == [4] * 12
        assert all(c.latency_s and c.ttft_s and 0 < c.ttft_s <= c.latency_s for c in completions)
        before = engine.ask("GET", "/seen")
        engine.reset()
        engine.generate(PROMPTS)
        after = engine.ask("GET", "/seen")
    assert isinstance(before, dict) and isinstance(after, dict)
    salts = [{asked["cache_salt"] for asked in seen["asked"]} for seen in (before, after)]
    assert list(map(len, salts)) == [1, 2], "a job shares its prefixes, two do not"


def test_a_prompt_that_comes_again_for_want_of_others_finds_nothing_in_the_prefix_cache() -> None:
    with stub() as engine:
        engine.generate([Prompt([1, 2, 3], 4, repeat) for repeat in (0, 0, 1, 1, 2)])
        seen = engine.ask("GET", "/seen")
    assert isinstance(seen, dict)
    assert len({asked["cache_salt"] for asked in seen["asked"]}) == 3


def test_connections_are_kept_and_one_that_the_server_closed_meanwhile_is_no_error() -> None:
    with stub() as engine:
        engine.serve(PROMPTS, DUE, cut_after_s=10)
        seen = engine.ask("GET", "/seen")
    assert isinstance(seen, dict) and seen["connections"] < 12 + 5
    with stub("--fault=close idle") as engine:
        assert errors(engine.serve(PROMPTS, DUE, cut_after_s=10)) == {""}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("500", "HTTP 500: Internal Server Error"),
        ("429", "HTTP 429: too many requests"),
        ("early", "the server closed the stream early, after 2 of 4 tokens"),
        ("short", "2 of 4 tokens came"),
        ("long", "5 of 4 tokens came"),
        ("error event", "the server answered an error: engine dead"),
        ("garbage", "an answer that is no completion: JSONDecodeError: Expecting property name enclosed in"),
    ],
)
def test_a_failed_request_is_an_entry_with_one_line(fault: str, error: str) -> None:
    with stub(f"--fault={fault}", "--every=3") as engine:
        load = engine.serve(PROMPTS, DUE, cut_after_s=10)
        failed = [sent for sent in load.sent if sent.error]
        assert len(failed) == 4 and len(load.sent) == 12
        assert all(sent.error.startswith(error) and "\n" not in sent.error for sent in failed), failed
        with pytest.raises(RequestFailedError, match="4 of 12 requests failed, the first: ") as caught:
            engine.generate(PROMPTS)
        assert engine.recover(caught.value)


def test_a_hanging_server_is_cut_and_what_had_come_is_kept() -> None:
    with stub("--fault=hang", "--every=4") as engine:
        load = engine.serve(PROMPTS, DUE, cut_after_s=0.5)
    cut = [sent for sent in load.sent if sent.error]
    assert len(cut) == 3
    assert {sent.error for sent in cut} == {"cut 0.5 s after the last one was due: 0 of 4 tokens had come"}
    assert all(sent.first_s is None and sent.end_s == pytest.approx(DUE[-1] + 0.5, abs=0.3) for sent in cut)


def test_a_failed_request_ends_no_measurement_where_the_server_shows_no_figures() -> None:
    with stub("--fault=500", "--every=3") as engine:
        engine.gauge_names = GaugeNames("/no-metrics", "stub:running")
        assert len([sent for sent in engine.serve(PROMPTS, DUE, cut_after_s=10).sent if sent.error]) == 4
        assert not engine.wait_until_idle(), "nobody knows"


def test_a_server_does_not_see_what_it_must_not() -> None:
    start = processes.Start(lambda port: [], {"A": "1"}, without=("KEY", "ARG_"))
    own = {"KEY": "x", "A": "0", "B": "2", "ARG_N": "4"}
    assert start.variables(own) == {"A": "1", "B": "2"}
    assert start.left_out(own) == ["ARG_N", "KEY"]
    assert not processes.Start(lambda port: []).left_out(own)


def test_a_server_that_dies_in_mid_load_raises_with_its_last_words() -> None:
    with stub("--fault=die", "--every=5") as engine, pytest.raises(ServerEndedError) as caught:
        engine.serve(PROMPTS, [0.5 * number for number in range(12)], cut_after_s=10)
    assert str(caught.value).startswith("the server ended with code 3")
    with stub("--token-s=0.2") as engine:
        assert engine.process
        killed = engine.process.family()[0]
        threading.Timer(0.3, lambda: killed.send_signal(signal.SIGKILL)).start()
        with pytest.raises(ServerEndedError, match="killed by SIGKILL"):
            engine.serve(PROMPTS, DUE, cut_after_s=10)


def test_a_server_that_refuses_to_start_raises_with_its_code() -> None:
    with pytest.raises(ServerEndedError, match="ended with code 7"):
        LoadedStub("--fault=exit")
    with pytest.raises(ServerEndedError, match="cannot start /no/such/server: No such file"):
        ServerProcess(processes.Start(lambda port: ["/no/such/server"]))


def test_a_slow_start_is_waited_for_and_one_without_end_is_not() -> None:
    with stub("--fault=slow start", "--ready-after-s=0.5"):
        pass
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ServerNotReadyError, match=r"not ready after 1 s(, its last answer was HTTP 503)?$"):
        LoadedStub("--fault=never ready", ready_within_s=1)
    assert set(psutil.Process().children(recursive=True)) == before


def test_a_port_that_another_program_holds_is_found_out_and_another_one_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the library's name
            self.send_response(200)
            self.end_headers()

    taken = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=taken.serve_forever, daemon=True).start()
    free = processes.free_port()
    ports = iter([taken.server_port, free])
    monkeypatch.setattr(processes, "free_port", lambda: next(ports))
    with stub() as engine:
        assert engine.process and engine.process.port == free
    monkeypatch.setattr(processes, "free_port", lambda: taken.server_port)
    with pytest.raises(ServerEndedError):
        ServerProcess(start())
    taken.shutdown()
    taken.server_close()


def test_the_server_ends_with_its_worker_however_that_ends() -> None:
    """They share a process group, which the worker's guardian kills."""
    program = (
        "import sys, time\nfrom tests.engines.serving.loaded_stub import LoadedStub\n"
        "engine = LoadedStub()\nprint(*[p.pid for p in engine.process.family()], flush=True)\ntime.sleep(60)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert worker.stdout
    pids = [int(pid) for pid in worker.stdout.readline().split()]
    assert len(pids) == 2 and {os.getpgid(pid) for pid in pids} == {worker.pid}
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=60)
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def test_questions_are_answered_or_one_line_says_why_not() -> None:
    with stub() as engine:
        assert engine.tokenize("ab") == [97, 98]
        assert engine.peak_memory_bytes()
        with pytest.raises(ServerAnswerError, match="/nothing: HTTP 404: no such path"):
            engine.ask("GET", "/nothing")
        address = engine.address
    with socket.socket() as listener:  # bound, and nobody accepts
        listener.bind(("127.0.0.1", address.port))
        with pytest.raises(ServerAnswerError, match="/health: no answer"):
            engine.ask("GET", "/health")


def test_gauges_are_summed_over_engines_and_the_fullest_cache_counts() -> None:
    text = 'stub:running{e="0"} 3.0\nstub:running{e="1"} 4.0\nstub:kv{e="0"} 0.1\nstub:kv{e="1"} 0.2\nstub:waiting NaN?'
    gauges = read_gauges(1.5, text, NAMES.names)
    assert (gauges.at_s, gauges.running, gauges.kv_cache_share, gauges.waiting) == (1.5, 7, 0.2, None)


def test_figures_that_are_no_amounts_are_left_out_and_a_share_is_one_at_most() -> None:
    text = "stub:running NaN\nstub:waiting +Inf\nstub:preempted_total -1\nstub:kv 1.02\nstub:kv NaN\n"
    gauges = read_gauges(0.0, text, NAMES.names)
    assert (gauges.running, gauges.waiting, gauges.preemptions, gauges.kv_cache_share) == (None, None, None, 1.0)


def test_a_start_is_waited_for_as_long_as_its_stage_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that runs 10,000 times as fast: the server is ready after an hour and a half."""

    class Fast:
        sleep = staticmethod(time.sleep)
        monotonic = staticmethod(lambda: 10_000 * time.monotonic())

    monkeypatch.setattr(processes, "time", Fast)
    slow = [sys.executable, str(STUB), "--fault=slow start", "--ready-after-s=0.5"]
    server = ServerProcess(processes.Start(lambda port: [*slow, f"--port={port}"]))
    server.end()


def test_a_text_is_asked_for_its_token_ids_once() -> None:
    """Loads have much of the same text, and each question takes milliseconds."""
    with stub() as engine:
        first = engine.tokenize("ab")
        first.append(7)
        assert engine.tokenize("ab") == [97, 98] and engine.tokenize("b") == [98]
        seen = engine.ask("GET", "/seen")
    assert isinstance(seen, dict) and seen["tokenized"] == ["ab", "b"]
