"""Several processes that train one run, over jax.distributed."""

import os
import re

import jax
import numpy as np
from jax import Array, lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from parity.spec import TwincapsError, gist

TIMEOUT = 300  # seconds that a process waits for the others
LOST = ("gloo", "nccl", "connection", "socket", "coordination", "deadline", "timed out", "timeout")
_LONGEST = 8192  # bytes of a text that is shared


def join(
    rank: int = 0, count: int = 1, local: int = 0, address: str = "", device: str = "cpu"
) -> "Group | None":
    """Meets the other processes of a run.

    Args:
        rank: The number of this process, from 0.
        count: How many processes there are.
        local: The number of this process on its machine: which GPU is its own.
        address: host:port where they meet, on the machine of process 0.
        device: "cpu" or "cuda".

    Returns:
        Their group; None for a process that is alone and has a single device.

    Raises:
        TwincapsError: Where they do not meet within `TIMEOUT` seconds.
    """
    if count == 1 and jax.device_count(device) == 1:
        return None
    return Group(rank, count, local, address, device)


class Group:
    """The processes of a run: each has a share of a batch for each of its devices."""

    def __init__(self, rank: int, count: int, local: int, address: str, device: str):
        self.rank, self.count = rank, count
        if count > 1:
            _meet(rank, count, local, address, device)
        devices = jax.devices(device)  # of all processes, in their order
        self.shares = len(devices)
        self.mesh = Mesh(np.array(devices), ("batch",))
        self.whole = NamedSharding(self.mesh, PartitionSpec())
        self.split = NamedSharding(self.mesh, PartitionSpec("batch"))
        self._own = self.shares // count
        self._highest = jax.jit(lambda flags: flags.max(), out_shardings=self.whole)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in one of them; all have to call it."""
        flags = np.full(self._own, int(flag), np.int32)
        return bool(self._highest(jax.make_array_from_process_local_data(self.split, flags)))

    def total(self, x: Array) -> Array:
        """The sum of a tensor over all their devices, differentiably, inside of a shared step."""
        return lax.psum(x, "batch")

    def share(self, text: str) -> str:
        """The text of the first process, in all; all have to call it."""
        if self.count == 1:
            return text
        buffer = np.zeros(_LONGEST, np.uint8)
        content = text.encode()
        assert len(content) <= _LONGEST
        buffer[: len(content)] = np.frombuffer(content, np.uint8)
        answer = np.asarray(multihost_utils.broadcast_one_to_all(buffer), np.uint8)
        return answer.tobytes().rstrip(b"\0").decode()

    def lost(self, error: Exception) -> str | None:
        """Why an error means that another process is gone; None where it does not."""
        # JAX reports it as a JaxRuntimeError, and on a CPU as a ValueError.
        ours = self.count == 1 or isinstance(error, TwincapsError)
        if ours or not isinstance(error, RuntimeError | ValueError):
            return None
        return _line(error) if any(word in str(error).lower() for word in LOST) else None

    def close(self) -> None:
        """Parts with the others, once all are done."""
        if self.count > 1:
            jax.distributed.shutdown()


def _meet(rank: int, count: int, local: int, address: str, device: str) -> None:
    # A launcher may have left each process one GPU to see, or all of its machine's.
    alone = len(os.environ.get("CUDA_VISIBLE_DEVICES", ",").split(",")) == 1
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Its handler of SIGTERM would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            address,
            count,
            rank,
            local_device_ids=None if device == "cpu" or alone else [local],
            cluster_detection_method="deactivate",
            initialization_timeout=TIMEOUT,
            heartbeat_timeout_seconds=TIMEOUT,
            shutdown_timeout_seconds=TIMEOUT,
        )
    except RuntimeError as error:
        raise TwincapsError(
            f"could not meet the other {count - 1} processes at {address} within {TIMEOUT} seconds "
            f"({_line(error)}); are all of them running?"
        ) from error


def _line(error: Exception) -> str:
    """What JAX said, without the place in its own code."""
    return re.sub(r"\[\S+\.cc:\d+\] ", "", gist(error))
