"""The simulated clock of a crew: each worker has its own, and the crew's is that of what was told last."""

from collections.abc import Sequence

from infertune.bench.remote.seats import Seat
from infertune.domain.trial import Attempt


class SimulatedClock:
    """Says what is done first.

    Attributes:
        now_s: When the last task that was told ended.
    """

    def __init__(self) -> None:
        self.now_s = 0.0

    def next_done(self, seats: Sequence[Seat]) -> Seat | None:
        """Of all who are busy, who is done first; None until it is known of everybody what came out.

        Args:
            seats: The crew's.
        """
        busy = [seat for seat in seats if seat.stage == "busy"]
        if not busy or not all(seat.report for seat in busy):
            return None
        first = min(busy, key=_ends_s)
        self.now_s = _ends_s(first)
        return first


def _ends_s(seat: Seat) -> float:
    """When a task ends."""
    assert seat.report and isinstance(seat.report.found, Attempt)
    launched_s = seat.launches_s + seat.report.found.launch_s
    return max(seat.starts_s, launched_s) + seat.report.found.run_s
