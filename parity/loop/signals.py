"""Signals that end a training between two steps: Ctrl-C, SIGTERM and others."""

import contextlib
import signal
import threading
from collections.abc import Iterator

ASKING = (signal.SIGINT, signal.SIGTERM)
# A terminal that closes, and what a scheduler sends some minutes before a job's time is up;
# Windows has none of them.
ANNOUNCING = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """A training that was interrupted between two steps.

    Its message says how to go on.
    """


@contextlib.contextmanager
def signals() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 set.

    A second SIGINT or SIGTERM interrupts at once; the others often come twice, or before a
    SIGTERM, and interrupt no checkpoint. They are taken only where nobody else has a use for
    them: after `nohup`, which ignores SIGHUP, a closed terminal ends nothing. Only the main thread
    may take signals; elsewhere the event stays unset.
    """
    stop, asked = threading.Event(), threading.Event()

    def announced(number: int, frame: object) -> None:
        stop.set()

    def handle(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in ASKING}
    for number in ANNOUNCING:
        if signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, announced)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
