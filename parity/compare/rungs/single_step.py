"""Rungs 0 to 4: weights, functions, a forward and backward pass, a step."""

import numpy as np

from parity.compare.comparison import Comparison, Row
from parity.compare.rungs import SHARE_OF_LARGEST, functions
from parity.compare.subject import STEP
from parity.spec import OPTIMIZERS
from parity.traces.measure import INFINITE, difference, differences
from parity.traces.recording import Trace
from parity.weights import table

FORWARD, BACKWARD = "forward, torch against jax", "gradients, torch against jax"


def round_trip(comparison: Comparison) -> list[Row]:
    """Rung 0: weights and state into each wing and out again, bit for bit."""
    answers = comparison.pair.ask("round_trip", folder=str(comparison.folder))
    sent = comparison.subject.ported(comparison.precision)
    doors = {"to_numpy": "weights", "get_state": "weights", "load": "weights", "slots": "optimizer"}
    expected = {f"{d}/{n}": a for d, part in doors.items() for n, a in sent[part].items()}
    axes = {name: row.axes for name, row in table(comparison.subject.spec).items()}
    rows = []
    for wing, answer in answers.items():
        distances = {
            f"axes of {name}": 0.0 if answer.facts["axes"].get(name) == order else INFINITE
            for name, order in axes.items()
        }
        distances["step"] = 0.0 if answer.facts["step"] == STEP else INFINITE
        distances |= {
            name: _bits(answer.arrays.get(name), array) for name, array in expected.items()
        }
        distances |= dict.fromkeys(answer.arrays.keys() - expected.keys(), INFINITE)
        distances |= {
            f"bytes of {f}": 0.0 if ok else INFINITE for f, ok in answer.facts["same"].items()
        }
        rows.append(comparison.row(0, f"weights and state in and out of {wing}", distances))
    return rows


def _bits(a: np.ndarray | None, b: np.ndarray) -> float:
    if a is None or a.dtype != b.dtype:
        return INFINITE
    return 0.0 if a.tobytes() == b.tobytes() and a.shape == b.shape else difference(a, b) or 1.0


def pure_functions(comparison: Comparison) -> list[Row]:
    """Rung 1: the functions of each wing, with their gradients, against the oracle."""
    expected = functions.expected()
    return [
        comparison.row(
            1, f"functions, {wing} against the oracle", differences(expected, answer.arrays)
        )
        for wing, answer in comparison.pair.ask("pure_functions").items()
    ]


def forward(comparison: Comparison) -> list[Row]:
    """Rung 2: every tensor of a forward pass; in float64 against the oracle too."""
    values = {wing: trace.values for wing, trace in comparison.traces.items()}
    rows = [comparison.row(2, FORWARD, differences(values["torch"], values["jax"]))]
    if comparison.precision == "float64":
        rows += [
            comparison.row(
                2, f"forward, {wing} against the oracle", differences(comparison.expected, arrays)
            )
            for wing, arrays in values.items()
        ]
    return rows


def backward(comparison: Comparison) -> list[Row]:
    """Rung 3: the gradients of the loss by every tensor."""
    return [comparison.row(3, BACKWARD, gradients(*comparison.traces.values()))]


def gradients(a: Trace, b: Trace) -> dict[str, float]:
    """The differences of two traces' gradients, in the order of the backward pass."""
    order = reversed(dict.fromkeys((*b.gradients, *a.gradients)))
    distances = differences(a.gradients, b.gradients, order)
    return {f"gradient at {name}": apart for name, apart in distances.items()}


def step(comparison: Comparison) -> list[Row]:
    """Rung 4: one step of each optimiser: weights, slots and the count of steps.

    Of a parameter, what has a gradient too small for its sign to be sure is left out.
    """
    slopes = comparison.double_gradients
    looked = {
        name: np.abs(slope) > SHARE_OF_LARGEST * np.abs(slope).max(initial=0)
        for name, slope in slopes.items()
        if name.startswith("parameter/")
    }
    rows = []
    for optimizer in OPTIMIZERS:
        answers = comparison.pair.ask("step", optimizer=optimizer)
        states = [
            {name: a[looked[name]] if name in looked else a for name, a in answer.arrays.items()}
            for answer in answers.values()
        ]
        distances = differences(*states)
        steps = {answer.facts["step"] for answer in answers.values()}
        distances["step"] = 0.0 if steps == {STEP + 1} else INFINITE
        rows.append(comparison.row(4, f"one {optimizer} step", distances))
    return rows
