"""What a case is to the process that measures it."""

from collections.abc import Callable

# A case once built: does its work, waits for the end of it, may tell more numbers.
Run = Callable[[], dict[str, float] | None]
