"""How late load generators send, and what they cost: against a stub that answers at once.

    python -m tests.benchmarks.load --rates 10,50,200 --seconds 6 --busy 2
    python -m tests.benchmarks.load --generators own,vllm,guidellm --guidellm PATH

Each generator is asked for a constant rate. Lateness is seen from the server: when a request arrives there, against the
constant schedule that none of them is ahead of; the stub runs in the real-time class where that is allowed. `--busy N`
lets N processes compute beside it all the time, as a server under load does. Processor time is the generator's whole
process; start is from its start to its first request. In a second run the stub answers every tenth request with HTTP
500: how many of them the generator counts.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infertune.domain.models import resolve_model
from infertune.engines.serving.loaded import ask
from infertune.engines.serving.process import HOST, ServerProcess, Start
from infertune.engines.serving.sender import Address, Outgoing, Sender

STUB = Path(__file__).parent.parent / "engines" / "serving" / "stub.py"
TOKENS = 8
PROMPT = [5, 6, 7, 8] * 8
BUSY = "while True: sum(range(10000))"


@dataclass(frozen=True)
class Ran:
    """What came of one generator at one rate."""

    cpu_s: float
    errors: int | None
    records: bool


def body(model: str = "stub") -> str:
    """A request as every generator here sends it."""
    return json.dumps({"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "stream": True,
                       "stream_options": {"include_usage": True}, "ignore_eos": True})  # fmt: skip


def own(port: int, rate: float, n: int, folder: Path) -> Ran:
    """The generator of this package."""
    sender = Sender()
    requests = [Outgoing(number / rate, TOKENS, body()) for number in range(n)]
    try:
        load = sender.run(Address(HOST, port), "/v1/completions", requests, cut_after_s=30)
    finally:
        sender.close()
    return Ran(load.generator_cpu_s or 0.0, sum(bool(sent.error) for sent in load.sent), records=True)


def library(name: str) -> Callable[[int, float, int, Path], Ran]:
    """The plain asyncio client that one writes first, on a library for HTTP, in a process of its own."""

    def run(port: int, rate: float, n: int, folder: Path) -> Ran:
        out = folder / "out"
        given = map(str, (name, port, rate, n, out))
        command = [sys.executable, "-m", "tests.benchmarks.load", "--client", *given]
        cpu_s = finished(command)
        return Ran(cpu_s, int(out.read_text()), records=True)

    return run


def vllm(port: int, rate: float, n: int, folder: Path) -> Ran:
    """`vllm bench serve`."""
    from infertune.engines.vllm.environment import metadata_path

    metadata = metadata_path()
    command = [
        sys.executable, "-P", "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend=openai",
        f"--base-url=http://{HOST}:{port}", "--endpoint=/v1/completions", "--model=stub", "--dataset-name=random",
        f"--tokenizer={resolve_model('builtin:tiny').path}", f"--random-input-len={len(PROMPT)}",
        f"--random-output-len={TOKENS}", f"--num-prompts={n}", f"--request-rate={rate}", "--burstiness=inf",
        "--ignore-eos", "--temperature=0", "--disable-tqdm", "--save-result", "--save-detailed",
        f"--result-dir={folder}", "--result-filename=vllm.json",
    ]  # fmt: skip
    cpu_s = finished(command, {"PYTHONPATH": str(metadata)} if metadata else {})
    found = json.loads((folder / "vllm.json").read_text())
    return Ran(cpu_s, n - int(found["completed"]), records="itls" in found)


def guidellm(program: Path) -> Callable[[int, float, int, Path], Ran]:
    """`guidellm`, installed elsewhere."""

    def run(port: int, rate: float, n: int, folder: Path) -> Ran:
        tokenizer = resolve_model("builtin:tiny").path
        command = [
            str(program), "run", f"--backend=kind=openai_http,target=http://{HOST}:{port},model=stub,"
            "request_format=/v1/completions", f"--profile=kind=constant,rate={rate}",
            f"--constraint=kind=max_requests,count={n}", f"--tokenizer=kind=huggingface_auto,model={tokenizer}",
            f"--data=kind=synthetic_text,prompt_tokens={len(PROMPT)},output_tokens={TOKENS}",
            f"--output=kind=json,path={folder / 'guidellm.json'}", "--disable-console",
        ]  # fmt: skip
        cpu_s = finished(command)
        found = json.loads((folder / "guidellm.json").read_text())["benchmarks"][0]
        errors = found["metrics"]["request_totals"]["errored"]
        return Ran(cpu_s, int(errors), records=bool(found.get("requests")))

    return run


def finished(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Run a program to its end; its processor seconds, its children's included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    given = {**os.environ, **(environment or {})}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=given)
    if answer.returncode:
        raise SystemExit(f"{command[:4]} ended with {answer.returncode}:\n{answer.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def client(name: str, port: int, rate: float, n: int) -> int:
    """The plain client: a task a request; how many failed."""
    url, content = f"http://{HOST}:{port}/v1/completions", body().encode()
    errors = 0

    async def with_httpx(session) -> None:
        async with session.stream("POST", url, content=content) as response:
            response.raise_for_status()
            async for _ in response.aiter_lines():
                time.perf_counter()

    async def with_aiohttp(session) -> None:
        async with session.post(url, data=content) as response:
            response.raise_for_status()
            async for _ in response.content:
                time.perf_counter()

    if name == "httpx":
        import httpx

        opened, send = httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=60), with_httpx
    else:
        import aiohttp

        opened, send = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)), with_aiohttp
    async with opened as session:

        async def one(due: float) -> None:
            nonlocal errors
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            try:
                await send(session)
            except Exception:
                errors += 1

        start = time.perf_counter()
        await asyncio.gather(*(one(start + number / rate) for number in range(n)))
    return errors


@contextlib.contextmanager
def stub(*flags: str) -> Iterator[int]:
    """A stub's port."""
    process = ServerProcess(Start(lambda port: [sys.executable, str(STUB), f"--port={port}", *flags]))
    with contextlib.suppress(OSError):  # its delays would be laid to the generators' charge
        os.sched_setscheduler(process.family()[0].pid, os.SCHED_RR, os.sched_param(2))
    try:
        yield process.port
    finally:
        process.end()


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """Processes that compute all the time."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def lateness(arrived: list[float], rate: float) -> list[float]:
    """Seconds by which each arrival is behind the constant schedule that none of them is ahead of."""
    behind = [at - number / rate for number, at in enumerate(sorted(arrived))]
    return sorted(late - min(behind) for late in behind)


def quantile(ordered: list[float], share: float) -> float:
    """The value that a share of the others does not exceed (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measured(name: str, run: Callable[[int, float, int, Path], Ran], rate: float, seconds: float) -> str:
    """One line of the table."""
    n = max(20, int(rate * seconds))
    with stub() as port, tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        ran = run(port, rate, n, Path(folder))
        answer = ask(Address(HOST, port), "GET", "/arrived")
    assert isinstance(answer, list)
    arrived = answer[-n:]
    late = lateness(arrived, rate)
    half, most, last = (1000 * at for at in (quantile(late, 0.5), quantile(late, 0.99), late[-1]))
    records = "yes" if ran.records else "no"
    return (
        f"| {name} | {rate:g} | {half:.1f} | {most:.1f} | {last:.1f} | {1000 * ran.cpu_s / n:.2f} | "
        f"{min(arrived) - started:.1f} | {records} |"
    )


def errors_counted(run: Callable[[int, float, int, Path], Ran], n: int = 100) -> str:
    """How many of the requests that fail the generator counts."""
    with stub("--fault=500", "--every=10") as port, tempfile.TemporaryDirectory() as folder:
        ran = run(port, 50.0, n, Path(folder))
        answer = ask(Address(HOST, port), "GET", "/failed")
    return f"{ran.errors} of {answer}"


def main() -> None:
    """Measure, and print the table."""
    if sys.argv[1:2] == ["--client"]:
        name, port, rate, n, out = sys.argv[2:]
        Path(out).write_text(str(asyncio.run(client(name, int(port), float(rate), int(n)))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generators", default="own,aiohttp,httpx,vllm")
    parser.add_argument("--guidellm", type=Path, help="its program, from an environment of its own")
    parser.add_argument("--rates", default="10,50,200", help="requests a second")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside it")
    parser.add_argument("--no-errors", action="store_true")
    arguments = parser.parse_args()
    every = {"own": own, "aiohttp": library("aiohttp"), "httpx": library("httpx"), "vllm": vllm}
    if arguments.guidellm:
        every["guidellm"] = guidellm(arguments.guidellm)
    chosen = {name: every[name] for name in arguments.generators.split(",")}
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before, {arguments.busy} busy processes")
    print("| generator | requests/s | late p50, ms | p99 | most | CPU ms/request | start, s | records |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with busy(arguments.busy):
        for rate in map(float, arguments.rates.split(",")):
            for name, run in chosen.items():
                print(measured(name, run, rate, arguments.seconds), flush=True)
    if not arguments.no_errors:
        for name, run in chosen.items():
            print(f"{name} counts {errors_counted(run)} failed requests", flush=True)


if __name__ == "__main__":
    main()
