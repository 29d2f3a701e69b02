"""One load of a server as a window: its figures and its requests. Runs in the worker."""

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from infertune.bench.channel import ServeCommand, ServedReply
from infertune.bench.others import LoadOfOthers
from infertune.domain.arrivals import Arrivals
from infertune.domain.judging import RequestRows, service_of
from infertune.domain.measurement import Window
from infertune.energy import EnergyMeter
from infertune.engines.base import LoadedEngine, Prompt


class BadAnswerError(Exception):
    """The engine's completions do not match the request: missing, short or long."""


def served_reply(
    engine: LoadedEngine, meter: EnergyMeter, others: LoadOfOthers, prompts: Sequence[Prompt], command: ServeCommand
) -> ServedReply:
    """Send a load and say how it was served.

    Raises:
        BadAnswerError: No request came back whole, and none that was cut had a token.
        NotOfferedError: The engine is no server.
    """
    arrivals = Arrivals.parse(command.arrivals)
    prompts = [replace(prompt, repeat=at // command.n_different) for at, prompt in enumerate(prompts)]
    gc.collect(0)
    others.begin()
    meter.begin()
    started = engine.clock()
    load = engine.serve(prompts, command.due_s, cut_after_s=command.cut_after_s, concurrency=arrivals.clients)
    duration_s = engine.clock() - started
    reading = meter.end()
    output_tokens = sum(one.output_tokens for one in load.sent if not one.failed_by_server)
    if not output_tokens:
        errors = Counter(one.error for one in load.sent).most_common(1)
        raise BadAnswerError(f"none of {len(prompts)} requests came back whole: {errors[0][0] or 'no tokens'}")
    window = Window(
        duration_s=max(duration_s, 1e-9),
        n_requests=len(load.sent),
        prompt_tokens=sum(len(prompt.token_ids) for prompt in prompts[: len(load.sent)]),
        output_tokens=output_tokens,
        energy=reading.energy,
        boards=reading.boards,
        other_load=others.end(),
        service=service_of(load, command.promise, command.arrivals, command.rate_per_s),
    )
    return ServedReply(
        window=window,
        rows=RequestRows.of(load.sent),
        load_s=0.0,
        peak_memory_bytes=engine.peak_memory_bytes(),
        facts=engine.facts(),
        elapsed_s=duration_s,
    )
