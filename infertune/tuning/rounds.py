"""Rounds of fresh launches: some configurations in turn on one device, several rounds at once on several devices."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from infertune.bench.channel import Plan
from infertune.bench.crew import Worker
from infertune.bench.serving import ServePlan
from infertune.domain.knobs import Config
from infertune.tuning.trials import Trials


class Rounds:
    """Rounds of a confirmation or of a final comparison; they continue where the ledger ends.

    A round stays on one device, so that the device is a block and no difference between configurations. If its worker
    is lost, the whole round is measured again on another device.
    """

    def __init__(
        self, trials: Trials, phase: Literal["confirm", "final"], after: Callable[[Config], None] = lambda config: None
    ) -> None:
        """Rounds of a phase.

        Args:
            trials: The tune's.
            phase: What they are measured for.
            after: Is called with each configuration while it is loaded.
        """
        self._trials = trials
        self._phase = phase
        self._after = after
        self._plans: dict[int, Plan | ServePlan] = {}

    def measure(self, configs: Sequence[Config], numbers: Iterable[int]) -> None:
        """Measure every configuration in every round; a launch that crashes is made once more, before it counts.

        What is out of the phase (`Trials.out`) is not launched again.

        Args:
            configs: In the order of even rounds; odd ones go backwards, against drift.
            numbers: Which rounds; as many as there are devices are measured at once.
        """
        trials, waiting = self._trials, [number for number in numbers if not self._is_whole(configs, number)]
        at_work: dict[str | None, int] = {}  # device → round
        while True:
            for gone in at_work.keys() - set(trials.crew.devices):  # lost between two of its configurations, or in one
                begun = at_work.pop(gone)
                waiting += [] if self._is_whole(configs, begun) else [begun]
            for worker in trials.crew.free():
                device = worker.device_id
                if device not in at_work and (number := self._next(waiting, device)) is not None:
                    waiting.remove(number)
                    at_work[device] = number
                if device in at_work and not self._start(configs, at_work[device], worker):
                    del at_work[device]
            if not trials.crew.busy and not waiting and not at_work:
                return
            if not trials.crew.busy and trials.crew.free():  # a round was found done: look for the next one
                continue
            done = trials.crew.next_done()
            if done is None:
                continue
            if done.attempt is None:  # the worker is lost
                if done.device_id in at_work:
                    waiting.append(at_work.pop(done.device_id))
                continue
            self._after(trials.write_down(done).config)

    def _next(self, waiting: Sequence[int], device: str | None) -> int | None:
        """The next round for a device: one that was begun on it, else one that no other device has begun."""
        begun = {number: self._begun_on(number) for number in waiting}
        mine = [number for number in waiting if begun[number] == device]
        free = [number for number in waiting if begun[number] is None or begun[number] not in self._trials.crew.devices]
        return next(iter([*mine, *free]), None)

    def _is_whole(self, configs: Sequence[Config], number: int) -> bool:
        """Whether every configuration of a round was measured on one device already, be it of this crew or not."""
        trials, device, out = self._trials, self._begun_on(number), self._trials.out(self._phase)
        return all(config in out or trials.done(self._phase, number, config, device) for config in configs)

    def _begun_on(self, number: int) -> str | None:
        """The device on which a round was begun."""
        found = [trial.device_id for trial in self._trials.of(self._phase) if trial.round_number == number]
        return found[-1] if found else None

    def _start(self, configs: Sequence[Config], number: int, worker: Worker) -> bool:
        """Start the next configuration of a round on a worker; whether there is one."""
        trials, out = self._trials, self._trials.out(self._phase)
        for config in configs if number % 2 == 0 else reversed(configs):
            if config in out or trials.done(self._phase, number, config, worker.device_id):
                continue
            if number not in self._plans:
                self._plans[number] = trials.job.plan(self._phase, trials.n_requests, number)
            plan = self._plans[number]
            trials.start(worker, self._phase, config, plan, fresh=True, round_number=number, only_here=True)
            return True
        return False
