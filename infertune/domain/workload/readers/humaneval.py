"""HumanEval: programs to complete (github.com/openai/human-eval). Its reference solutions set no length."""

from infertune.domain.workload.readers.base import Reader
from infertune.domain.workload.readers.prompts import read_prompts

READER = Reader(
    name="humaneval",
    title="HumanEval",
    needs="one JSON object a line with task_id, prompt, canonical_solution and test; only prompt is used",
    kind="json",
    signs=(("prompt", "entry_point"), ("prompt", "canonical_solution")),
    read=read_prompts,
)
