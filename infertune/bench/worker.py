"""The child's entry point: `python -m infertune.bench.worker CHANNEL_FD LIFE_FD`. Only `isolation.py` starts it."""

import contextlib
import gc
import os
import signal
import socket
import sys


def _guard(life_fd: int, channel_fd: int) -> None:
    """Fork a guardian that kills this process group when the parent's end of the life pipe closes.

    It is forked before anything heavy is imported, so it is small, and a worker stuck in native code cannot stop it.
    """
    group = os.getpgrp()
    if os.fork():
        os.close(life_fd)
        return
    os.close(channel_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        while os.read(life_fd, 1):
            pass
    os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Serve commands from the channel until it closes."""
    channel_fd, life_fd = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(channel_fd, False)
    _guard(life_fd, channel_fd)
    # Imported after the fork: see _guard.
    from infertune.bench.channel import Channel, Command, LoadCommand, ParentsMeter, StageEvent
    from infertune.bench.measure import Session

    channel = Channel(socket.socket(fileno=channel_fd))
    session = Session(lambda stage: channel.send(StageEvent(stage=stage)), ParentsMeter(channel))
    with contextlib.suppress(EOFError, BrokenPipeError):
        while isinstance(command := channel.receive(), Command):
            channel.send(session.handle(command))
            if isinstance(command, LoadCommand):
                gc.freeze()  # so that collecting before a window does not walk the engine's own objects
    session.close()


if __name__ == "__main__":
    main()
