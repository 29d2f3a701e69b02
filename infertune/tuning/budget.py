"""What a tune may still spend: the search its part, the confirmation the rest."""

import math
import time

from infertune.domain.request import TuneRequest
from infertune.runs.ledger import Ledger

_CONFIRM_SHARE = 0.5
_FEWEST_ROUNDS = 2


class Budget:
    """The time budget of a run, earlier sessions and simulated seconds included; endless where none was given."""

    def __init__(self, request: TuneRequest, ledger: Ledger) -> None:
        self._request = request
        self._ledger = ledger
        self._started = time.perf_counter()
        self._spent_before_s = sum(trial.cost_s for trial in ledger.trials)

    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        if self._request.budget is None:
            return math.inf
        costs_s = sum(trial.cost_s for trial in self._ledger.trials)
        return self._request.budget - max(costs_s, self._spent_before_s + time.perf_counter() - self._started)

    def search_s(self) -> float | None:
        """The search's part of the budget: the rest confirms, a half of it at most."""
        if self._request.budget is None:
            return None
        launches = (1 + self._request.finalists) * self._request.confirm_launches + 2 * self._request.final_launches[0]
        to_confirm_s = self._launch_cost_s() * launches
        return self._request.budget - min(to_confirm_s, _CONFIRM_SHARE * self._request.budget)

    def search_is_over(self) -> bool:
        """Whether the search has used its part."""
        search_s = self.search_s()
        if search_s is None or self._request.budget is None:
            return False
        return self._request.budget - self.left_s() >= search_s

    def affordable(self, finalists: int) -> tuple[int, int]:
        """How many finalists and rounds there is room for: first fewer finalists, then fewer rounds."""
        rounds = self._request.confirm_launches
        launches = self.left_s() / max(self._launch_cost_s(), 1e-9) - 2 * self._request.final_launches[0]
        while finalists > 1 and (1 + finalists) * rounds > launches:
            finalists -= 1
        while rounds > _FEWEST_ROUNDS and (1 + finalists) * rounds > launches:
            rounds -= 1
        return finalists, rounds

    def _launch_cost_s(self) -> float:
        """Mean seconds of a trial that paid for a launch."""
        costs = [trial.cost_s for trial in self._ledger.trials if trial.launch_s]
        return sum(costs) / len(costs) if costs else 0.0
