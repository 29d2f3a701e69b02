"""What a tune may still spend: the search its part, the proof the rest."""

import math
import statistics
import time

from infertune.domain.objective import GOODPUTS
from infertune.domain.request import TuneRequest
from infertune.runs.ledger import Ledger
from infertune.runs.serving import loads_of_proof_s
from infertune.runs.summary import default_config
from infertune.sequential import TRUST, rounds_asked

_FINAL_SHARE = 0.75  # of the budget that the fewest rounds of the final comparison may take from the search; judgement
_PROOF_SHARE = 0.5  # the same with a confirmation, which may turn out not to be needed; judgement


class Budget:
    """The time budget of a run, earlier sessions and simulated seconds included; endless where none was given."""

    def __init__(self, request: TuneRequest, ledger: Ledger) -> None:
        self._request = request
        self._ledger = ledger
        self._started = time.perf_counter()
        self._spent_before_s = _busiest_s(ledger)

    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        if self._request.budget is None:
            return math.inf
        costs_s = _busiest_s(self._ledger)
        costs_s += sum(check.launch_s + check.score_s for check in self._ledger.checks)
        return self._request.budget - max(costs_s, self._spent_before_s + time.perf_counter() - self._started)

    def search_s(self) -> float | None:
        """The search's part of the budget: what the proof is expected to leave, a quarter at least.

        Where the fewest rounds of the final comparison do not fit beside a quarter, they are made all the same, and the
        search gets a half: so much that it finds something to compare.
        """
        budget_s = self._request.budget
        if budget_s is None:
            return None
        header = self._ledger.header
        compared = {default_config(self._ledger), header.ported, header.stock} - {None}
        rounds = 1 if self._request.confirm_launches is None else self._request.confirm_launches
        confirming = 0 if self._request.finalists == 1 else rounds * (1 + self._request.finalists)
        final_s = self._launch_cost_s() * self.fewest_final_launches(1 + len(compared))
        proof_s = self._launch_cost_s() * confirming + final_s
        kept_s = min(proof_s, _PROOF_SHARE * budget_s)
        return budget_s - (max(final_s, kept_s) if final_s <= _FINAL_SHARE * budget_s else kept_s)

    def fewest_final_launches(self, configurations: int) -> int:
        """Launches of the fewest rounds of a final comparison of so many configurations."""
        return configurations * rounds_asked(TRUST[self._request.trust], self._request.final_launches)[0]

    def search_is_over(self, next_is_live: bool | None = None) -> bool:
        """Whether the search has used its part, or would overrun it with one more trial.

        Args:
            next_is_live: Whether that trial needs no launch; None asks about the time until now.
        """
        search_s = self.search_s()
        if search_s is None or self._request.budget is None:
            return False
        spent_s = self._request.budget - self.left_s()
        return spent_s >= search_s or (next_is_live is not None and spent_s + self._trial_s(next_is_live) > search_s)

    def has_room_for(self, launches: int) -> bool:
        """Whether so many launches are likely to end within the budget."""
        return self.left_s() >= launches * self._launch_cost_s()

    def _trial_s(self, live: bool) -> float:
        """Mean seconds of a trial of the search, with a launch or without; 0 before the first."""
        searched = [trial for trial in self._ledger.trials if trial.phase == "search"]
        launched = [trial.launch_s for trial in searched if trial.launch_s]
        run_s = statistics.mean([trial.run_s for trial in searched] or [0.0])
        return run_s if live else run_s + statistics.mean(launched or [0.0])

    def _launch_cost_s(self) -> float:
        """Mean seconds of a launch of the proof: of those there are, else as the search's let expect."""
        launched = [trial for trial in self._ledger.trials if trial.launch_s]
        proving = [trial for trial in launched if trial.phase in ("confirm", "final")]
        least_s = 0.0 if proving or self._request.objective not in GOODPUTS else loads_of_proof_s(self._request.window)
        costs = [trial.launch_s + max(trial.run_s, least_s) for trial in proving or launched]
        return sum(costs) / len(costs) if costs else 0.0


def _busiest_s(ledger: Ledger) -> float:
    """Seconds of the device that measured most: several devices measure at once."""
    spent_s: dict[str | None, float] = {}
    for trial in ledger.trials:
        spent_s[trial.device_id] = spent_s.get(trial.device_id, 0.0) + trial.cost_s
    return max(spent_s.values(), default=0.0)
