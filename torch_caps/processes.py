"""Several processes that train one run, over torch.distributed."""

import os
import re
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from parity.spec import TwincapsError, gist

TIMEOUT = 300  # seconds that a process waits for the others
LOST = ("gloo", "nccl", "connection", "socket", "timed out", "timeout", "broken pipe")

_PARTED: list[dist.ProcessGroup | None] = []


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
        Their group; None for a process that is alone.

    Raises:
        TwincapsError: Where they do not meet within `TIMEOUT` seconds, or this one has no GPU.
    """
    return None if count == 1 else Group(rank, count, local, address, device)


class Group:
    """The processes of a run: each has one share of a batch, and one device."""

    def __init__(self, rank: int, count: int, local: int, address: str, device: str):
        self.rank, self.count, self.shares, self.device = rank, count, count, device
        backend = "gloo"
        if device == "cuda":
            # A launcher may have left each process one GPU to see, or all of its machine's.
            seen = torch.cuda.device_count()
            if local >= seen > 1:
                raise TwincapsError(
                    f"process {local} of this machine has no GPU: it has {seen}; start as many "
                    "processes as there are GPUs"
                )
            self.device = f"cuda:{local if seen > 1 else 0}"
            torch.cuda.set_device(self.device)
            backend = "cpu:gloo,cuda:nccl"
        try:
            store = _store(rank, address)
            limit = timedelta(seconds=TIMEOUT)
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=count, timeout=limit
            )
        except RuntimeError as error:
            raise TwincapsError(
                f"could not meet the other {count - 1} processes at {address} within {TIMEOUT} "
                f"seconds ({_line(error)}); are all of them running?"
            ) from error

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in one of them; all have to call it."""
        highest = torch.tensor([int(flag)])
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        return bool(highest)

    def total(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all of them, differentiably; all have to call it."""
        return _Sum.apply(x)  # pyright: ignore[reportReturnType]

    def share(self, text: str) -> str:
        """The text of the first process, in all; all have to call it."""
        texts = [text]
        dist.broadcast_object_list(texts, src=0, device=torch.device("cpu"))
        return texts[0]

    def lost(self, error: Exception) -> str | None:
        """Why an error means that another process is gone; None where it does not."""
        if not isinstance(error, RuntimeError):
            return None
        gone = isinstance(error, dist.DistError) or any(word in str(error).lower() for word in LOST)
        return _line(error) if gone else None

    def close(self) -> None:
        """Parts with the others, once all are done."""
        self.any(False)  # gloo aborts where it is torn down while another one still talks
        # Its threads may still want the interpreter's lock, which DistributedDataParallel holds
        # while it drops what it uses: the last one to do that must not be it.
        _PARTED.append(dist.group.WORLD)
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum over processes: each has a share in every sum, so that gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        whole = x.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].clone()
        dist.all_reduce(whole)
        return whole


def _store(rank: int, address: str) -> dist.Store:  # pyright: ignore[reportPrivateImportUsage]
    """Where the processes leave each other their addresses."""
    host, _, port = address.rpartition(":")
    # torchrun's agent has one already. It outlives the workers, so those it starts again would
    # find the addresses of the dead in it: each start has names of its own.
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    limit = timedelta(seconds=TIMEOUT)
    store = dist.TCPStore(host, int(port), is_master=rank == 0 and not agent, timeout=limit)  # pyright: ignore[reportPrivateImportUsage]
    return dist.PrefixStore(f"twincaps/{again}", store)  # pyright: ignore[reportPrivateImportUsage]


def _line(error: Exception) -> str:
    """What torch said, without the place in its own code."""
    return re.sub(r"\[\S+\.(cc|cpp):\d+\] ", "", gist(error)).split(". This is typically")[0]
