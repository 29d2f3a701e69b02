"""How many GPUs a worker gets."""

from typing import ClassVar

import pytest

from infertune.domain.command import Command
from infertune.domain.knobs import Config
from infertune.domain.request import TuneRequest
from infertune.engines.base import EngineOptions
from infertune.engines.fake.engine import FakeEngine
from infertune.engines.vllm.command import read_command
from infertune.runs.asked import Current
from infertune.runs.staff import _gpus_of


class Parallel(FakeEngine):
    parallel: ClassVar = ("tensor_parallel_size", "pipeline_parallel_size")


@pytest.mark.parametrize(
    ("current", "options", "gpus"),
    [
        (None, {}, 1),
        (Current(command=read_command("vllm serve M -tp 2 --pipeline_parallel_size=3 --enforce-eager")), {}, 6),
        (Current(settings=Config({"tensor_parallel_size": 2})), {}, 2),
        (Current(command=read_command("vllm serve M -tp 2")), {"set": {"tensor-parallel-size": 1}}, 1),
        (Current(command=read_command("vllm serve M -tp 2")), {"knob": {"tensor_parallel_size": (1, 4)}}, 4),
        (Current(command=read_command("vllm serve M -tp 2")), {"knob": {"tensor_parallel_size": (1,)}}, 2),
        (Current(command=Command(settings=("--tensor-parallel-size=two",))), {}, 1),
    ],
)
def test_a_worker_has_the_gpus_of_the_largest_trial_or_of_what_runs_today(
    current: Current | None, options: dict[str, object], gpus: int
) -> None:
    request = TuneRequest.model_validate({"engine": "fake", **options})
    assert _gpus_of(Parallel(EngineOptions()), request, current) == gpus
