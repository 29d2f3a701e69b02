"""The workload formats. To add one: see `base`."""

from infertune.domain.workload.readers import (
    alpaca,
    azure,
    batch,
    burstgpt,
    chat,
    humaneval,
    lines,
    mbpp,
    mooncake,
    prompts,
    sharegpt,
)
from infertune.domain.workload.readers.base import Reader

# The first that recognises a file reads it: those that need more fields stand before those that need fewer.
READERS: tuple[Reader, ...] = (
    azure.READER,
    burstgpt.READER,
    mooncake.READER,
    batch.READER,
    sharegpt.READER,
    chat.READER,
    humaneval.READER,
    mbpp.READER,
    alpaca.READER,
    prompts.READER,
    lines.READER,
)
