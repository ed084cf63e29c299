"""Rungs 0 to 4: weights, functions, one pass forward and backward, one optimiser step."""

import numpy as np

from parity.compare.climb import Climb, Row
from parity.compare.rungs import SHARE_OF_LARGEST, functions
from parity.compare.subject import STEP
from parity.spec import OPTIMIZERS, NetworkSpec
from parity.traces.measure import INFINITE, difference, differences
from parity.traces.recording import Trace
from parity.weights import Arrays, table

FORWARD, BACKWARD = "forward, torch against jax", "gradients, torch against jax"
EVALUATION = " in evaluation"  # after either, where it differs from a training step


def round_trip(climb: Climb) -> list[Row]:
    """Rung 0: weights and state into each wing and out of it by every way, bit for bit."""
    answers = climb.pair.ask("round_trip", folder=str(climb.folder))
    sent = climb.subject.ported(climb.precision)
    doors = {"to_numpy": "weights", "get_state": "weights", "load": "weights", "slots": "optimizer"}
    expected = {f"{d}/{n}": a for d, part in doors.items() for n, a in sent[part].items()}
    axes = {name: row.axes for name, row in table(climb.subject.spec).items()}
    rows = []
    for wing, answer in answers.items():
        found = {
            f"axes of {name}": 0.0 if answer.facts["axes"].get(name) == each else INFINITE
            for name, each in axes.items()
        }
        found["step"] = 0.0 if answer.facts["step"] == STEP else INFINITE
        found |= {name: _bits(answer.arrays.get(name), array) for name, array in expected.items()}
        found |= dict.fromkeys(answer.arrays.keys() - expected.keys(), INFINITE)
        found |= {
            f"bytes of {f}": 0.0 if ok else INFINITE for f, ok in answer.facts["same"].items()
        }
        rows.append(climb.row(0, f"weights and state in and out of {wing}", found))
    return rows


def _bits(a: np.ndarray | None, b: np.ndarray) -> float:
    if a is None or a.dtype != b.dtype:
        return INFINITE
    return 0.0 if a.tobytes() == b.tobytes() and a.shape == b.shape else difference(a, b) or 1.0


def pure_functions(climb: Climb) -> list[Row]:
    """Rung 1: the functions of each wing, with their gradients, against the oracle."""
    expected = functions.expected()
    return [
        climb.row(1, f"functions, {wing} against the oracle", differences(expected, answer.arrays))
        for wing, answer in climb.pair.ask("pure_functions").items()
    ]


def forward(climb: Climb) -> list[Row]:
    """Rung 2: every tensor of a forward pass; in float64 against the oracle too."""
    rows = []
    for traces, where in ((climb.traces, ""), (climb.evaluated, EVALUATION)):
        values = {wing: trace.values for wing, trace in traces.items()}
        if not values:
            continue
        rows.append(climb.row(2, FORWARD + where, differences(values["torch"], values["jax"])))
        if climb.precision == "float64":
            expected = climb.oracle(traces["torch"])
            rows += [
                climb.row(2, f"forward{where}, {wing} against the oracle", apart)
                for wing, held in values.items()
                for apart in [differences(expected, held)]
            ]
    return rows


def backward(climb: Climb) -> list[Row]:
    """Rung 3: the gradients of the loss by every tensor."""
    rows = [climb.row(3, BACKWARD, gradients(*climb.traces.values()))]
    if climb.evaluated:
        found = gradients(*climb.evaluated.values())
        rows.append(climb.row(3, BACKWARD + EVALUATION, found))
    return rows


def gradients(a: Trace, b: Trace) -> dict[str, float]:
    """The differences of two traces' gradients, in the order of the backward pass.

    A gradient that is 0 by construction is nothing but rounding: not its difference counts but
    its size, as a share of the largest gradient of its layer, beyond a 1e-12 in float64.
    """
    order = list(reversed(dict.fromkeys((*b.gradients, *a.gradients))))
    found = differences(a.gradients, b.gradients, order)
    for name in free(a):
        found[name] = max(share(trace.gradients, name, a.spec) for trace in (a, b))
    return {f"gradient at {name}": apart for name, apart in found.items()}


def free(trace: Trace) -> list[str]:
    """The parameters whose gradient in this trace is 0 by construction."""
    named = [name for name, row in table(trace.spec).items() if row.free]
    return [f"parameter/{name}" for name in named if trace.train or not_running(trace)]


def not_running(trace: Trace) -> bool:
    """Whether evaluation normalises by an image's own numbers, as training does."""
    return not any(not row.trained for row in table(trace.spec).values())


def share(gradients: Arrays, name: str, spec: NetworkSpec) -> float:
    """The largest gradient at a parameter as a share of the largest of its layer."""
    layer = name.rpartition(".")[0] + "."
    largest = max(np.abs(x).max() for each, x in gradients.items() if each.startswith(layer))
    return float(np.abs(gradients[name]).max() / largest) if largest > 0 else 0.0


def step(climb: Climb) -> list[Row]:
    """Rung 4: one step of each optimiser: weights, slots and the count of steps.

    Of a parameter, what has a gradient too small for its sign to be sure is left out.
    """
    slopes, rows_of = climb.double_gradients, table(climb.subject.spec)
    looked = {
        f"parameter/{name}": np.abs(slope) > SHARE_OF_LARGEST * np.abs(slope).max(initial=0)
        for name, row in rows_of.items()
        for slope in [slopes[f"parameter/{name}"]]
        if row.trained
    }
    idle = {name for name, row in rows_of.items() if row.free}
    rows = []
    for optimizer in OPTIMIZERS:
        answers = climb.pair.ask("step", optimizer=optimizer)
        held = [
            {
                name: a[looked[name]] if name in looked else a
                for name, a in answer.arrays.items()
                if name.partition("/")[2] not in idle
            }
            for answer in answers.values()
        ]
        found = differences(*held)
        steps = {answer.facts["step"] for answer in answers.values()}
        found["step"] = 0.0 if steps == {STEP + 1} else INFINITE
        rows.append(climb.row(4, f"one {optimizer} step", found))
    return rows
