"""What else the machine does while a window runs."""

import psutil

from infertune.domain.measurement import OtherLoad


class LoadOfOthers:
    """CPU time that processes outside of the engine use during a window."""

    def __init__(self) -> None:
        this = psutil.Process()
        self._own = [this, *this.children(recursive=True)]
        self._before = (0.0, 0.0, 0.0)

    def begin(self) -> None:
        """Start a window."""
        self._before = self._seconds()

    def end(self) -> OtherLoad:
        """End it: the share of all cores' time that others used."""
        total, busy, own = (now - then for now, then in zip(self._seconds(), self._before, strict=True))
        if total <= 0:
            return OtherLoad()
        return OtherLoad(cpu_by_others=round(min(1.0, max(0.0, (busy - own) / total)), 3))

    def _seconds(self) -> tuple[float, float, float]:
        """Processor seconds of the machine in all, of them busy, and those of the engine's processes."""
        machine = psutil.cpu_times()
        total, own = (
            sum(machine[:8]),
            0.0,
        )  # the fields after the eighth, guests, are counted in the first already
        for process in self._own:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            own += times.user + times.system
        return total, total - machine.idle - getattr(machine, "iowait", 0.0), own
