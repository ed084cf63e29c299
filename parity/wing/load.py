"""The Trainer of one wing, which is loaded, by name, when it is asked for."""

import importlib
from typing import TYPE_CHECKING, Any

from parity.spec import NetworkSpec, RunOptions, TrainingSpec, TwincapsError, gist
from parity.wing import meeting, processes
from parity.wing.processes import Place, ProcessError

if TYPE_CHECKING:
    from parity.data import Dataset
    from parity.wing.trainer import Trainer

EXTRAS = {"torch": ("torch",), "jax": ("jax", "jaxlib", "flax", "optax")}


class UsageError(TwincapsError):
    """A command line that asks for something that cannot be."""


def make_trainer(
    spec: NetworkSpec,
    training: TrainingSpec,
    options: RunOptions,
    dataset: "Dataset | None" = None,
    *,
    several: bool = False,
    place: Place | None = None,
) -> "Trainer":
    """The Trainer of the wing that `options` names, checked against a data set.

    Sets that wing's precision, determinism and cache of compiled code, and that freed memory is
    kept, for the whole process.
    With `several` it trains on all devices that this wing uses at once, and together with the
    other processes of a `place`. Raises UsageError where its framework, naming the extra to
    install, or the device is missing; ProcessError for a batch that cannot be shared.
    """
    from parity.wing import cache, memory
    from parity.wing.trainer import check

    if dataset is not None:
        check(spec, dataset)
    backend = options.backend
    memory.keep(one_arena=(backend, options.device) == ("jax", "cpu"))
    cache.stand_in()
    try:
        numerics = importlib.import_module(f"{backend}_caps.numerics")
        numerics.strict(training.precision)
        if (compiled := cache.folder()) is not None:
            numerics.cache(compiled)
        wing = importlib.import_module(f"{backend}_caps.training")
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in EXTRAS[backend]:
            raise
        raise UsageError(
            f"--backend {backend}: {missing} is not installed; "
            f"install it with: pip install 'twincaps[{backend}]'"
        ) from None
    names = ("device", "compile", "lean", "block", "convolution")
    how = {name: getattr(options, name) for name in names}
    group = None
    try:
        if several and (group := _join(backend, options.device, training, place)) is not None:
            how["group"] = group
        return wing.Trainer(spec, training, **how)
    except (RuntimeError, AssertionError) as error:
        if group is not None and (reason := group.lost(error)) is not None:
            raise ProcessError(f"another process is gone before step 1 ({reason})") from error
        if options.device == "cpu":
            raise
        raise UsageError(f"--device {options.device}: {gist(error)}; try --device cpu") from error


def _join(backend: str, device: str, training: TrainingSpec, place: Place | None) -> Any:
    join = importlib.import_module(f"{backend}_caps.processes").join
    if place is None:
        group = join(device=device)
    else:
        processes.check_batch(training.batch_size, place.count)
        address = processes.address(backend)
        meeting.gather(place, address)
        group = join(place.rank, place.count, place.local, address, device)
    processes.rows(group, training.batch_size)  # refuses a batch that its devices cannot share
    return group
