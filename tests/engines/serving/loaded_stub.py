"""The stub as an engine: as short as an engine on the shared base is."""

import sys
from pathlib import Path

from infertune.domain.knobs import Config
from infertune.domain.measurement import EngineFacts
from infertune.engines.base import Prompt
from infertune.engines.serving.loaded import LoadedServer
from infertune.engines.serving.process import HOST, ServerProcess, Start
from infertune.engines.serving.sender import Address, GaugeNames

STUB = Path(__file__).with_name("stub.py")
NAMES = GaugeNames("/metrics", "stub:running", "stub:waiting", "stub:kv", "stub:preempted_total")


def start(*flags: str, ready_within_s: float = 60.0) -> Start:
    """How a stub with these flags is started."""
    return Start(
        lambda port: [sys.executable, str(STUB), f"--port={port}", *flags],
        {"STUB": "1"},
        ready_within_s=ready_within_s,
    )


class LoadedStub(LoadedServer):
    """A stub with a model."""

    gauge_names = NAMES

    def __init__(self, *flags: str, ready_within_s: float = 60.0) -> None:
        process = ServerProcess(start(*flags, ready_within_s=ready_within_s))
        super().__init__(Address(HOST, process.port), "stub", process)

    def fields(self, prompt: Prompt) -> dict[str, object]:
        return {"return_token_ids": True, "cache_salt": self.salt_of(prompt)}

    def apply(self, live: Config) -> None:
        pass

    def slots(self) -> int:
        return 8

    def facts(self) -> EngineFacts:
        return EngineFacts(versions={"stub": "1"})

    def vocab_size(self) -> int:
        return 256
