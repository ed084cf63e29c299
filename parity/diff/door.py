"""The door for Python: two models that are here, and a trace to take elsewhere."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from parity.diff.compare import compare
from parity.diff.report import Report
from parity.diff.sides import Request, side
from parity.diff.trace import DiffError


def models(
    left: Any,
    right: Any,
    inputs: Sequence[Any],
    *,
    right_inputs: Sequence[Any] | None = None,
    left_call: Callable[..., Any] | None = None,
    right_call: Callable[..., Any] | None = None,
    precision: str = "both",
    backward: bool = False,
    tolerance: float | None = None,
) -> Report:
    """Compares two models and names the first tensor in which they differ.

    Both run on copies: neither their parameters nor their state change.

    Args:
        left: A torch.nn.Module, a flax.nnx.Module, (flax.linen.Module, variables), an
            equinox.Module, a function, or the path of a trace.
        right: Another, of any framework.
        inputs: NumPy arrays, one for each argument, or the one array.
        right_inputs: Those of the right side, where it takes another layout.
        left_call: (model, *inputs) -> outputs, where the left is not simply called.
        right_call: The same for the right; of linen, its first argument is `apply` without
            variables.
        precision: both, float64 (the verdict alone) or float32 (the models as they are).
        backward: Whether to compare gradients too.
        tolerance: The largest difference that counts as rounding; unless given, by dtype.

    Returns:
        The report; `str(report)` is what the command line prints.

    Raises:
        DiffError: Where a side is no model, or cannot be run.
    """
    theirs = inputs if right_inputs is None else right_inputs
    return compare(
        side("left", left, inputs, left_call),
        side("right", right, theirs, right_call),
        precision=precision,
        gradients=backward,
        tolerance=tolerance,
    )


def trace(
    model: Any,
    inputs: Sequence[Any],
    path: str | os.PathLike,
    *,
    call: Callable[..., Any] | None = None,
    precision: str = "float64",
) -> None:
    """Writes a trace of one model to a file, to be one side of a comparison elsewhere.

    Args:
        model: As in `models`.
        inputs: NumPy arrays, one for each argument, or the one array.
        path: The file, which is overwritten once the new trace is whole.
        call: (model, *inputs) -> outputs, where it is not simply called.
        precision: float64, or float32 for the model as it is.

    Raises:
        DiffError: Where the model cannot be run, or is a trace already.
    """
    if isinstance(model, str | os.PathLike):
        raise DiffError(f"model: {model} is a trace already; expected a model")
    target = Path(path)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        whole = Path(folder) / target.name
        side("model", model, inputs, call).trace(whole, Request(precision))
        os.replace(whole, target)
