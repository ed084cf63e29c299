"""Names of tensors without what a framework's own tools put around them.

torch.compile                       _orig_mod.digit.kernel
DataParallel, AveragedModel         module.digit.kernel, and a counter n_averaged
fully sharded, checkpointed layers  stem._fsdp_wrapped_module.0.kernel
an attribute of a larger module     net.digit.kernel, model.capsnet.digit.kernel
flax.nnx.State                      digit.kernel.value
"""

from collections.abc import Iterable, Iterator

from parity.convert.layouts import LAYOUTS, Layout, native
from parity.convert.match import match
from parity.weights import Arrays

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
COUNTER, BOX = "n_averaged", "value"


def unwrapped(arrays: Arrays, layout: Layout | None = None) -> tuple[Arrays, tuple[str, ...]]:
    """Names without the parts that wrappers add: those that fit a layout best.

    Nothing is taken off where the names fit as they are, or most of them fit no layout whatever
    is taken off.

    Args:
        arrays: Arrays by the names that a file gives them.
        layout: The only one to fit; without it ours and all of `LAYOUTS`.

    Returns:
        The arrays by their new names, and the parts that were taken off, each once.
    """
    layouts = [native({}, ""), *LAYOUTS.values()] if layout is None else [layout]

    def fitting(renamed: dict[str, str]) -> int:
        names = renamed.values()
        return max(len(renamed) - len(match(layout, names).unexpected) for layout in layouts)

    best: dict[str, str] = {name: name for name in arrays}
    most = fitting(best)
    for renamed in _candidates(arrays):
        if 2 * (fits := fitting(renamed)) > max(len(renamed), 2 * most):
            best, most = renamed, fits
    parts = (part for name, new in best.items() for part in _taken(name.split("."), new.split(".")))
    return {new: arrays[name] for name, new in best.items()}, tuple(dict.fromkeys(parts))


def _candidates(arrays: Arrays) -> Iterator[dict[str, str]]:
    """Names without wrappers, then without one common first part after the other."""
    parts = {name: name.split(".") for name in arrays if not _is_counter(name, arrays)}
    boxed = {words[-1] for words in parts.values()} == {BOX}
    for name, words in parts.items():
        own = [part for part in (words[:-1] if boxed else words) if part not in WRAPPERS]
        parts[name] = own or words
    while parts:
        renamed = {name: ".".join(words) for name, words in parts.items()}
        if len(set(renamed.values())) == len(renamed):  # no tensor may take another's name
            yield renamed
        if len({words[0] for words in parts.values()}) > 1 or min(map(len, parts.values())) == 1:
            return
        parts = {name: words[1:] for name, words in parts.items()}


def _is_counter(name: str, arrays: Arrays) -> bool:
    return name.rpartition(".")[2] == COUNTER and arrays[name].shape == ()


def _taken(parts: list[str], rest: Iterable[str]) -> list[str]:
    left = list(parts)
    for part in rest:
        left.remove(part)
    return left
