"""Several processes, one run: which of them this one is, and its rows of a batch.

torchrun's variables and SLURM's are read here, for either wing; its `processes.join` then meets
the others with its framework's own means. Every process makes its own rows of the global batch,
and only the first one writes.
"""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from parity.spec import TwincapsError

PORTS = 61440, 4096  # the first port that JAX takes under SLURM, and how many there are
# Names that salloc and srun give to a job in which somebody types.
SHELLS = ("interactive", "bash", "dash", "fish", "ksh", "sh", "tcsh", "csh", "zsh")
INTERACTIVE = "4294967290"  # the number of the step that is salloc's own shell


class ProcessError(TwincapsError):
    """Processes that cannot train together, or no longer do."""


class Group(Protocol):
    """The processes of a run, as a wing's `processes.join` makes them.

    Attributes:
        rank: The number of this process, from 0.
        count: How many processes there are.
        shares: Equal parts that a batch is split into; a process has one for each of its devices.
    """

    rank: int
    count: int
    shares: int

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in one of them; all have to call it."""
        ...

    def share(self, text: str) -> str:
        """The text of the first process, in all; all have to call it."""
        ...

    def lost(self, error: Exception) -> str | None:
        """Why an error means that another process is gone; None where it does not."""
        ...

    def close(self) -> None:
        """Parts with the others, once all are done."""
        ...


def group_of(trainer: Any) -> Group | None:
    """The processes that a Trainer trains with, None where it is alone."""
    return getattr(trainer, "group", None)


@dataclass(frozen=True)
class Place:
    """This process among those that a launcher started.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
        local: Its number among those of its machine.
        counted: The variable that says how many there are.
    """

    rank: int
    count: int
    local: int
    counted: str = field(default="WORLD_SIZE", compare=False)

    def __str__(self) -> str:
        return f"process {self.rank} of {self.count}"


def place(
    environment: Mapping[str, str] = os.environ, typed: Callable[[], bool] | None = None
) -> Place | None:
    """The place of this process among those a launcher started; None if it is alone.

    Reads torchrun's variables, or else SLURM's. SLURM's are ignored in a batch script outside of
    srun, and in an interactive shell (`srun --pty bash`), which gets a line on standard error.

    Args:
        environment: The environment variables.
        typed: Whether somebody types at this process; by default, whether it has a terminal.

    Raises:
        ProcessError: If the variables are no whole numbers, or the rank is not below the count.
    """
    if {"RANK", "WORLD_SIZE"} <= environment.keys():
        names = "RANK", "WORLD_SIZE", "LOCAL_RANK"
    elif {"SLURM_PROCID", "SLURM_NTASKS"} <= environment.keys() and (
        "SLURM_STEP_NODELIST" in environment or "MASTER_ADDR" in environment
    ):
        names = "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"
    else:
        return None
    rank, count, local = (_number(name, environment.get(name, "0")) for name in names)
    if not rank < count:
        raise ProcessError(
            f"{names[0]} is {rank} and {names[1]} is {count}; expected a number below it, one for "
            "each process"
        )
    if count == 1:
        return None
    if names[0] == "SLURM_PROCID" and _shell(environment, typed or _has_terminal):
        print(
            f"training in this process alone, though SLURM_NTASKS is {count}: this is a shell "
            f"({_shown(environment, 'SLURM_JOB_NAME', 'SLURM_STEP_ID')}); to train in all: "
            "srun python train.py",
            file=sys.stderr,
        )
        return None
    return Place(rank, count, local, names[1])


def _shell(environment: Mapping[str, str], typed: Callable[[], bool]) -> bool:
    """Whether a SLURM step is surely a shell, whose other tasks will never train.

    The name of the job alone does not show it: `srun python train.py` inherits that of the shell
    it is typed in. But then none of its tasks has a terminal, and SLURM_TASK_PID is the task's own.
    """
    if environment.get("SLURM_STEP_ID") == INTERACTIVE:
        return True
    own = environment.get("SLURM_TASK_PID") == str(os.getpid())
    by_name = environment.get("SLURM_JOB_NAME") in SHELLS
    return by_name and environment["SLURM_PROCID"] == "0" and not own and typed()


def _has_terminal() -> bool:
    """Whether this process belongs to a terminal, wherever its streams lead."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _shown(environment: Mapping[str, str], *names: str) -> str:
    return ", ".join(f"{name} is {environment[name]}" for name in names if name in environment)


def address(backend: str, environment: Mapping[str, str] = os.environ) -> str:
    """The host:port where processes meet: the first one's machine, and a port.

    From MASTER_ADDR and MASTER_PORT, for JAX also its own JAX_COORDINATOR_ADDRESS; under SLURM
    the first machine of the step, and a port computed from the numbers of job and step. Raises
    ProcessError where there is no host, or no port from 1 to 65535.
    """
    if backend == "jax" and "JAX_COORDINATOR_ADDRESS" in environment:
        return environment["JAX_COORDINATOR_ADDRESS"]
    host = environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_STEP_NODELIST", ""))
    port = 0
    if "MASTER_PORT" in environment:
        port = _number("MASTER_PORT", environment["MASTER_PORT"])
    elif "SLURM_JOB_ID" in environment:
        names = "SLURM_JOB_ID", "SLURM_STEP_ID"
        port = PORTS[0] + sum(_number(n, environment.get(n, "0")) for n in names) % PORTS[1]
    if not host or not 0 < port < 2**16:
        raise ProcessError(
            f"MASTER_ADDR is {environment.get('MASTER_ADDR')} and MASTER_PORT "
            f"{environment.get('MASTER_PORT')}; expected the machine of process 0 and a port that "
            "is free there; torchrun sets both"
        )
    if backend == "jax" and environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # torchrun's own store listens there, and JAX's coordinator needs a port for itself.
        port += 1 if port < 2**16 - 1 else -1
    return f"{host}:{port}"


def _number(name: str, value: str) -> int:
    if re.fullmatch("[0-9]{1,9}", value) is None:
        raise ProcessError(f"{name} is {value!r}; expected a whole number")
    return int(value)


def first_host(nodes: str) -> str:
    """The first of SLURM's list of machines: "node[007-9,12],gpu1" -> "node007"."""
    match = re.match(r"([^,\[]*)(?:\[([^,\-\]]*)[^\]]*\])?([^,\[]*)", nodes)
    return "" if match is None else "".join(part or "" for part in match.groups())


def check_batch(batch_size: int, shares: int, what: str = "processes") -> None:
    """Raises ProcessError unless a batch can be split into `shares` equal parts."""
    if batch_size % shares == 0:
        return
    below, above = batch_size // shares * shares, -(-batch_size // shares) * shares
    sizes = f"{below} or {above}" if below else f"{above}"
    counts = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
    fewer, more = (
        max(n for n in counts if n < shares),
        min((n for n in counts if n > shares), default=None),
    )
    others = f"{fewer}" if more is None else f"{fewer} or {more}"
    raise ProcessError(
        f"a batch of {batch_size} does not divide among {shares} {what}; use --batch-size {sizes}, "
        f"or {others} {what}"
    )


def rows(group: Group | None, batch_size: int) -> slice:
    """This process's rows of the global batch; all of them where it is alone."""
    if group is None:
        return slice(0, batch_size)
    what = "processes" if group.shares == group.count else "devices"
    check_batch(batch_size, group.shares, what)
    size = batch_size // group.count
    return slice(group.rank * size, (group.rank + 1) * size)


def in_words(group: Group | None) -> str:
    """The number of processes and of devices as words, "" where there is one of each."""
    if group is None:
        return ""
    count = f" in {group.count} processes" if group.count > 1 else ""
    return count + (f" with {group.shares} devices" if group.shares > group.count else "")


@contextlib.contextmanager
def parting(group: Group | None) -> Iterator[None]:
    """Parts with the others in the end, also where all of them were interrupted.

    After an error the others may be anywhere, and are not waited for.
    """
    try:
        yield
    except KeyboardInterrupt:
        if group is not None:
            group.close()
        raise
    if group is not None:
        group.close()


def leave(code: int, error: BaseException | None = None) -> NoReturn:
    """Ends this process at once, after a traceback of the error, if there is one."""
    if error is not None:
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
