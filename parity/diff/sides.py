"""A side that can be asked for traces: a model here, one in another interpreter, or a file."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from parity.diff import frameworks
from parity.diff.tape import Tape, playing
from parity.diff.trace import DiffError, Trace
from parity.spec import TwincapsError, error_line
from parity.wing.interpreter import OURS_ALONE, ROOT, environment

COMMAND = OURS_ALONE + "from parity.diff.worker import main\nmain()\n"
EPSILON = float(np.finfo(np.float32).eps)


class Uncastable(DiffError):  # noqa: N818 (what a side cannot do, not always an error)
    """A side that runs as it is and not in float64."""


@dataclass(frozen=True)
class Request:
    """What a pass is to be.

    Attributes:
        precision: float64, or float32 for a model as it is.
        perturbed: Whether the inputs are moved by one rounding of float32, to see what that does.
        weights: Final output -> what it is multiplied by before the sum is differentiated; None
            for no backward pass.
    """

    precision: str
    perturbed: bool = False
    weights: dict[str, np.ndarray] | None = None


class Side(Protocol):
    """Who makes traces of one side."""

    where: str

    def trace(self, path: Path, request: Request) -> Trace:
        """Writes a trace and reads it; raises DiffError where the model cannot be run."""
        ...


@dataclass
class Here:
    """A model in this process.

    Attributes:
        where: left or right.
        inputs: What it is given.
        call: (model, *inputs) -> outputs, where it is not simply called.
    """

    where: str
    model: Any
    inputs: Sequence[Any]
    call: Callable[..., Any] | None = None

    def trace(self, path: Path, request: Request) -> Trace:
        """Records one pass of a copy of the model."""
        tape = self._recorded(path, request)
        if tape.untraced:
            # A compiler saw JAX's modules instead of numbers: step by step there are some.
            with importlib.import_module("jax").disable_jit():
                self._recorded(path, request)
        return Trace(path)

    def _recorded(self, path: Path, request: Request) -> Tape:
        adapter = frameworks.adapt(self.model, self.call, self.where)
        if request.precision == "float64":
            adapter.cast()
        tape = Tape(path, frameworks.read)
        with playing(tape):
            inputs = [adapter.given(_moved(x) if request.perturbed else x) for x in self.inputs]
            adapter.parameters(tape)  # before the pass: a training mode changes its state
            try:
                if request.weights is None:
                    tape.record("inputs", tuple(inputs), "given")
                    tape.record("output", adapter.run(inputs), "final")
                elif isinstance(adapter, frameworks.Plain):
                    raise DiffError(f"{self.where}: functions of NumPy have no gradients")
                else:
                    adapter.backward(tape, inputs, request.weights)
            except (Exception, SystemExit) as error:  # whatever somebody else's model may raise
                if isinstance(error, TwincapsError) and not tape.calls:
                    raise
                kind = Uncastable if request.precision == "float64" else DiffError
                raise kind(
                    f"{self.where}: {tape.where()} raised {error_line(error)}; expected a "
                    "model that runs on these inputs"
                ) from error
            tape.close(framework=adapter.name, precision=request.precision)
        if not any(node.role in ("final",) for node in tape.nodes) and request.weights is None:
            raise DiffError(
                f"{self.where}: returned no tensor; expected tensors, or tuples, lists and dicts "
                "of them"
            )
        return tape


@dataclass
class Elsewhere:
    """One side of a pair file, in a process of another interpreter."""

    where: str
    python: str
    pair: Path

    def trace(self, path: Path, request: Request) -> Trace:
        """Has the other interpreter write the trace."""
        asked: dict[str, Any] = {"pair": str(self.pair.resolve()), "side": self.where}
        asked |= {"path": str(path), "precision": request.precision}
        asked |= {"perturbed": request.perturbed, "weights": None}
        if request.weights is not None:
            asked["weights"] = str(path.with_suffix(".weights.npz"))
            np.savez(asked["weights"], **request.weights)  # pyright: ignore[reportArgumentType]
        try:
            done = subprocess.run(
                [self.python, "-c", COMMAND.format(root=str(ROOT))],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                env=environment(other=True),
            )
        except OSError as error:
            raise DiffError(
                f"--{self.where}-python {self.python}: {error.strerror}; expected the path of a "
                "Python interpreter"
            ) from error
        try:
            reply = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            reply = {"kind": "DiffError", "error": f"{self.where}: {_last(done.stderr)}"}
        if reply:
            kind = Uncastable if reply["kind"] == "Uncastable" else DiffError
            raise kind(reply["error"])
        return Trace(path)


@dataclass
class Stored:
    """A trace that was written before."""

    where: str
    path: Path

    def trace(self, path: Path, request: Request) -> Trace:
        """The trace as it is; raises Uncastable where it is of another precision."""
        trace = Trace(self.path)
        if request.perturbed:
            raise Uncastable(f"{self.where}: {self.path} is a trace and cannot be run again")
        if request.weights is not None:
            raise DiffError(f"{self.where}: {self.path} is a trace, which has no backward pass")
        if trace.precision != request.precision:
            raise Uncastable(
                f"{self.where}: {self.path} is a trace in {trace.precision}; expected one in "
                f"{request.precision}"
            )
        return trace


def side(
    where: str, model: Any, inputs: Sequence[Any], call: Callable[..., Any] | None = None
) -> Side:
    """The side that a model is; a path is a trace, and an array alone is the one input."""
    if isinstance(model, str | os.PathLike):
        return Stored(where, Path(model))
    if hasattr(inputs, "shape"):
        inputs = [inputs]
    elif not isinstance(inputs, list | tuple):
        raise DiffError(
            f"{where}: its inputs are of {type(inputs).__name__}; expected a list of arrays, one "
            "for each argument"
        )
    return Here(where, model, inputs, call)


def _moved(x: Any) -> Any:
    """Floats moved up or down by one rounding of float32, at random and always the same."""
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return x
    signs = np.random.Generator(np.random.Philox(0)).choice([-1.0, 1.0], x.shape)
    return (x.astype(np.float64) * (1 + EPSILON * signs)).astype(np.float32)


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the interpreter ended without an answer"


def interpreter(where: str, python: str | None, pair: Path) -> Side | None:
    """The side in another interpreter, where one is asked for and it is another."""
    if python is None or Path(python).absolute() == Path(sys.executable).absolute():
        return None
    return Elsewhere(where, python, pair)
