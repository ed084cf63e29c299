"""Ctrl-C and SIGTERM, which end a training between two steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Stopped(KeyboardInterrupt):
    """Training was interrupted, after the step in progress; its message says how to go on."""


@contextlib.contextmanager
def signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second one interrupts at once.

    Only the main thread may take signals; elsewhere the event stays unset.
    """
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
