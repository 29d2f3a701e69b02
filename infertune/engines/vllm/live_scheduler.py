"""A scheduler for `vllm serve --scheduler-cls`, whose two limits can be lowered while it serves: for the search only.

It is the scheduler that vLLM would have taken, asynchronous or not, with a look at a page of memory before each step
(`control.py`). What is proven and what is exported runs without it.
"""

import os
from typing import Any

from infertune.engines.vllm.control import VARIABLE, Control, Said
from infertune.engines.vllm.space import read_setting, read_settings

QUALIFIED_NAME = f"{__name__}.live_scheduler"
_MORE = {
    "num_gpu_blocks": "cache_config.num_gpu_blocks",
    "compilation_mode": "compilation_config.mode.name",
    "cudagraph_mode": "compilation_config.cudagraph_mode.name",
    "scheduling_policy": "scheduler_config.policy",
    "stream_interval": "scheduler_config.stream_interval",
}


def live_scheduler(**arguments: Any) -> Any:
    """A scheduler, as vLLM's engine core makes one; the arguments are vLLM's own and differ between versions."""
    config = arguments["vllm_config"]
    asked, config.scheduler_config.scheduler_cls = config.scheduler_config.scheduler_cls, None
    stock = config.scheduler_config.get_scheduler_cls()
    config.scheduler_config.scheduler_cls = asked
    return _with_limits(stock)(Control(os.environ[VARIABLE]), arguments)


def _with_limits(stock: Any) -> Any:
    class LiveScheduler(stock):  # type: ignore[misc]
        """vLLM's own scheduler, with limits that can be lowered."""

        def __init__(self, control: Control, arguments: dict[str, Any]) -> None:
            super().__init__(**arguments)
            config = arguments["vllm_config"]
            self._control = control
            self._seqs = self._most_seqs = int(config.scheduler_config.max_num_seqs)
            self._tokens = self._most_tokens = int(config.scheduler_config.max_num_batched_tokens)
            more = {name: read_setting(config, path) for name, path in _MORE.items()}
            settings = {**read_settings(config), **{n: v for n, v in more.items() if v is not None}}
            self._effective = {name: str(value) for name, value in settings.items()} | {"scheduler": stock.__name__}
            self._say()

        def schedule(self, *given: Any, **named: Any) -> Any:
            """One step, under the limits that are wanted by now."""
            wanted = self._control.news()
            if wanted is not None:
                self._seqs = min(wanted.get("max_num_seqs", self._most_seqs), self._most_seqs)
                self._tokens = min(wanted.get("max_num_batched_tokens", self._most_tokens), self._most_tokens)
                self.max_num_scheduled_tokens = self._tokens
                self._say()
            # What runs already is not stopped, and the stock scheduler asserts that it is within the limit.
            self.max_num_active_reqs = self._seqs
            self.max_num_running_reqs = max(self._seqs, len(self.running))
            return super().schedule(*given, **named)

        def _say(self) -> None:
            limits = {"max_num_seqs": self._seqs, "max_num_batched_tokens": self._tokens}
            self._control.say(Said(effective=self._effective, limits=limits))

    return LiveScheduler
