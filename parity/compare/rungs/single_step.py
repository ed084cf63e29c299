"""Rungs 0 to 4: weights, functions, a forward and backward pass, a step."""

import numpy as np

from parity.compare.comparison import Comparison, Row
from parity.compare.rungs import SHARE_OF_LARGEST, functions
from parity.compare.subject import STEP
from parity.spec import OPTIMIZERS
from parity.traces.measure import INFINITE, difference, differences
from parity.traces.recording import Trace
from parity.weights import Arrays, state, table

FORWARD, BACKWARD = "forward, torch against jax", "gradients, torch against jax"
EVALUATION = " in evaluation"  # after either, where it differs from a training step


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
    rows = []
    for traces, where in ((comparison.traces, ""), (comparison.evaluated, EVALUATION)):
        values = {wing: trace.values for wing, trace in traces.items()}
        if not values:
            continue
        distances = differences(values["torch"], values["jax"])
        rows.append(comparison.row(2, FORWARD + where, distances))
        if comparison.precision == "float64":
            expected = comparison.oracle(traces["torch"])
            for wing, arrays in values.items():
                what = f"forward{where}, {wing} against the oracle"
                rows.append(comparison.row(2, what, differences(expected, arrays)))
    return rows


def backward(comparison: Comparison) -> list[Row]:
    """Rung 3: the gradients of the loss by every tensor, where relus decide alike."""
    rows = []
    for train, where in ((True, ""), (False, EVALUATION)):
        if train or comparison.evaluated:
            decided = comparison.decided(train)
            distances = gradients(*decided.traces)
            rows.append(comparison.row(3, BACKWARD + where, distances, decided.note))
    return rows


def gradients(a: Trace, b: Trace) -> dict[str, float]:
    """The differences of two traces' gradients, in the order of the backward pass.

    A gradient that is 0 by construction is nothing but rounding: its size counts, as a share of
    the largest gradient of its layer, not its difference.
    """
    order = list(reversed(dict.fromkeys((*b.gradients, *a.gradients))))
    distances = differences(a.gradients, b.gradients, order)
    for name in _free(a):
        distances[name] = max(_share(trace.gradients, name) for trace in (a, b))
    return {f"gradient at {name}": apart for name, apart in distances.items()}


def _free(trace: Trace) -> list[str]:
    """The parameters whose gradient in this trace is 0 by construction.

    Running numbers, which evaluation takes, do not follow what a batch's own would take away.
    """
    running = not trace.train and bool(state(trace.spec))
    free = {"always"} if running else {"always", "training"}
    return [f"parameter/{name}" for name, row in table(trace.spec).items() if row.free in free]


def _share(gradients: Arrays, name: str) -> float:
    """The largest gradient at a parameter as a share of the largest of its layer."""
    layer = name.rpartition(".")[0] + "."
    largest = max(np.abs(x).max() for other, x in gradients.items() if other.startswith(layer))
    return float(np.abs(gradients[name]).max() / largest) if largest > 0 else 0.0


def step(comparison: Comparison) -> list[Row]:
    """Rung 4: one step of each optimiser: weights, slots, state and the count of steps.

    Of the batch of rung 3. Of a parameter, what has a gradient too small for its sign to be sure
    is left out, and all of it where its gradient is 0 by construction.
    """
    rows_of, slopes = table(comparison.subject.spec), comparison.double_gradients()
    decided = comparison.decided()
    looked = {
        f"parameter/{name}": np.abs(slope) > SHARE_OF_LARGEST * np.abs(slope).max(initial=0)
        for name, row in rows_of.items()
        for slope in [slopes[f"parameter/{name}"]]
        if row.trained
    }
    idle = {name for name, row in rows_of.items() if row.free}
    rows = []
    for optimizer in OPTIMIZERS:
        answers = comparison.pair.ask("step", optimizer=optimizer, brighter=decided.brighter)
        states = [
            {
                name: a[looked[name]] if name in looked else a
                for name, a in answer.arrays.items()
                if name.partition("/")[2] not in idle
            }
            for answer in answers.values()
        ]
        distances = differences(*states)
        steps = {answer.facts["step"] for answer in answers.values()}
        distances["step"] = 0.0 if steps == {STEP + 1} else INFINITE
        rows.append(comparison.row(4, f"one {optimizer} step", distances, decided.note))
    return rows
