"""What is asked of the engine: requests from a formula, a trace, conversations or prompts."""

from infertune.domain.workload.lengths import Lengths
from infertune.domain.workload.parsing import FORMS, parse_workload, workload_file
from infertune.domain.workload.requests import Message, Request, plain_chat, salted, token_ids
from infertune.domain.workload.workload import LONG_DRAW, MOST_REQUESTS, Part, Workload, WorkloadRecord

__all__ = [
    "FORMS",
    "LONG_DRAW",
    "MOST_REQUESTS",
    "Lengths",
    "Message",
    "Part",
    "Request",
    "Workload",
    "WorkloadRecord",
    "parse_workload",
    "plain_chat",
    "salted",
    "token_ids",
    "workload_file",
]
