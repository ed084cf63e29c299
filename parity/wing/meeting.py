"""The processes of a run find each other, before their frameworks do.

PyTorch waits without a word and without answering Ctrl-C, and JAX aborts a process that waited too
long. So they meet here first, at the same address: the first process listens, the others call and
get an answer when all are there.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping

from parity.wing.processes import Place, ProcessError

TIMEOUT = 300  # seconds that a process waits for the others
PATIENCE = 20  # seconds until the others say that they wait; the first says it at once
GREETING, ALL = b"twincaps", b"\n"


def gather(place: Place, address: str, environment: Mapping[str, str] = os.environ) -> None:
    """Waits for all processes of a run at host:port, except for torchrun's.

    torchrun itself sees to it that all of its processes are there. Says on standard error who
    waits for whom and why. Raises ProcessError naming those who did not come, and the variables by
    which they are expected.
    """
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return
    host, _, port = address.rpartition(":")
    names = [place.counted, "SLURM_JOB_NAME", "MASTER_ADDR", "MASTER_PORT"]
    if not place.counted.startswith("SLURM"):
        names.remove("SLURM_JOB_NAME")
    why = " and ".join(f"{name} is {environment[name]}" for name in names if name in environment)
    alone = f"to train in one process alone: env -u {place.counted} python train.py ..."

    def say(whom: str) -> None:
        message = f"{place} waits at {address} for {whom}, as {why}; {alone}"
        print(message, file=sys.stderr, flush=True)

    missing = _listen(place, int(port), say) if place.rank == 0 else _call(place, host, port, say)
    if missing:
        raise ProcessError(
            f"waited {TIMEOUT} seconds at {address} for {missing}; is it running? {why}; {alone}"
        )


def _listen(place: Place, port: int, say: Callable[[str], None]) -> str:
    """Waits for the calls of all others; returns who is missing, "" for nobody."""
    until = time.monotonic() + TIMEOUT
    expected, callers = {*range(1, place.count)}, dict[int, socket.socket]()
    with contextlib.ExitStack() as opened:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        try:
            server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise ProcessError(f"could not listen at port {port} ({reason})") from error
        opened.enter_context(server)
        say(_named(expected))
        while expected - callers.keys():
            server.settimeout(max(0.01, until - time.monotonic()))
            try:
                caller, _ = server.accept()
            except TimeoutError:
                return _named(expected - callers.keys())
            opened.enter_context(caller)
            if (rank := _greeted(caller)) in expected:
                callers[rank] = caller
        server.close()  # who hears that all are there calls a framework here, and nobody else
        for caller in callers.values():
            with contextlib.suppress(OSError):  # who is gone now, its framework misses
                caller.sendall(ALL)
        for caller in callers.values():  # they part first, or the port would stay in use
            with contextlib.suppress(OSError):
                caller.recv(1)
    return ""


def _greeted(caller: socket.socket) -> int | None:
    """The number of a process of ours; None for anybody else who found the port."""
    caller.settimeout(2)
    try:
        greeting, _, rank = caller.recv(64).partition(b" ")
    except OSError:
        return None
    return int(rank) if greeting == GREETING and rank.isdigit() else None


def _call(place: Place, host: str, port: str, say: Callable[[str], None]) -> str:
    """Calls the first process until it answers that all are there; as `_listen`."""
    until, others = time.monotonic() + TIMEOUT, "process 0"
    if place.count > 2:
        others += " and all others"
    later = threading.Timer(PATIENCE, say, [others])
    later.daemon = True
    later.start()
    try:
        while (left := until - time.monotonic()) > 0:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((host, int(port)), left) as first,
            ):
                first.sendall(b"%s %d" % (GREETING, place.rank))
                if first.recv(1) == ALL:
                    return ""
            time.sleep(0.1)
    finally:
        later.cancel()
    return others


def _named(ranks: set[int]) -> str:
    first = [str(rank) for rank in sorted(ranks)]
    if len(first) > 5:
        first = [*first[:4], f"{len(first) - 4} more"]
    names = " and ".join(filter(None, (", ".join(first[:-1]), first[-1])))
    return f"process{'es' * (len(ranks) > 1)} {names}"
