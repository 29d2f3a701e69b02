"""Ctrl-C, SIGTERM and SIGHUP: the first ends a command cleanly, and no further one breaks that ending.

| signal | what happens |
| --- | --- |
| the first | the engine is ended, profile and report of what there is are written, exit code 130 |
| a further SIGTERM or SIGHUP | nothing: schedulers send several |
| a second Ctrl-C | while the engine is being ended, a line says so; after that, profile and report are left out |
| a third Ctrl-C | the command ends at once; the engine's guardian ends the engine |
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
from types import FrameType, TracebackType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_REPEAT_AFTER_S = 0.05  # by then the destructor has ended (judgement)
_PATIENCE = 2  # the Ctrl-C after so many ends at once


class Interrupts:
    """Turns the first signal into a KeyboardInterrupt while a command runs, and keeps later ones from doing harm."""

    def __init__(self) -> None:
        self._ctrl_cs = 0
        self._ending = False
        self._done = False
        self._hook = sys.unraisablehook

    def __enter__(self) -> "Interrupts":
        for number in _ENDING:
            if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._receive)
        sys.unraisablehook = self._raise_again
        # The interpreter gives signals their default back when it ends: one that came then would end it with its own
        # code instead of the command's.
        atexit.unregister(_ignore)
        atexit.register(_ignore)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._done = True
        sys.unraisablehook = self._hook
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # see `next_ctrl_c_interrupts`
            signal.signal(signal.SIGINT, self._receive)
        return kind is not None and issubclass(kind, KeyboardInterrupt)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._done:
            return
        self._ctrl_cs += number == signal.SIGINT
        if not self._ending or self._ctrl_cs > _PATIENCE:
            self._ending = True
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):  # the terminal may be gone; printing inside a signal handler may not
                os.write(2, b"\ninfertune: ending already, the engine is being closed; Ctrl-C again ends at once\n")

    def _raise_again(self, lost: "sys.UnraisableHookArgs") -> None:
        """Repeat an interrupt that came inside a destructor or a callback, where Python drops exceptions."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            self._hook(lost)
        elif not self._done:
            self._ending = False
            main = threading.main_thread().ident  # a signal to another thread would not wake it
            threading.Timer(_REPEAT_AFTER_S, signal.pthread_kill, (main, signal.SIGTERM)).start()


def next_ctrl_c_interrupts() -> None:
    """From here on nothing is lost by a Ctrl-C: the next one raises a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.SIG_DFL):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _ignore() -> None:
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
