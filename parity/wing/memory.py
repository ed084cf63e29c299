"""Keeps freed memory for the next step instead of returning it to the system.

glibc gives memory back as soon as a large block is freed, and the kernel clears every page of it
when it is asked for again. Lean routing frees a few MiB for each block of input capsules: where
these happened to lie at the heap's end, one pass of sabour2017's digit layer took 100,000 page
faults and twice its time.

XLA allocates in threads, and glibc gives each thread an arena of its own, of heaps of 64 MiB that
go back as soon as they are empty, whatever its threshold is: each of JAX's steps took 109,000 page
faults. With one arena for all threads it takes none, and the process 40 % more memory.
"""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of <malloc.h>


def keep(one_arena: bool = False) -> bool:
    """Makes this process keep the memory that it frees; returns whether it does.

    Only for glibc, and not where the user has set its allocator through the environment. The
    process then keeps its largest size to its end.

    Args:
        one_arena: Whether threads that start from now on allocate where the main one does.
    """
    chosen = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or chosen or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    asked = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0} | ({_ARENA_MAX: 1} if one_arena else {})
    return mallopt is not None and all(mallopt(*each) for each in asked.items())
