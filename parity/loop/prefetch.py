"""Makes the next item in a background thread while the present one is used."""

import time
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterates over `items`, one made ahead; errors are raised in their place.

    The thread ends with the iteration, also one that is left early and closed. `waited` is the
    time in seconds that the consumer has waited for an item.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self.items, self.waited = iter(items), 0.0

    def __iter__(self) -> Generator[T, None, None]:
        end = object()
        with ThreadPoolExecutor(1, "prefetch") as thread:
            ahead = thread.submit(next, self.items, end)
            while True:
                began = time.perf_counter()
                item = ahead.result()
                self.waited += time.perf_counter() - began
                if item is end:
                    return
                ahead = thread.submit(next, self.items, end)
                yield item  # type: ignore[misc]
