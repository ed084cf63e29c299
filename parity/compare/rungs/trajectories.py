"""Rungs 5 and 6: many steps in both wings, and a run that changes wings."""

from collections.abc import Mapping

from parity.compare.comparison import Comparison, Row
from parity.compare.rungs import ADAM_STEPS, RESUMED_STEPS, SGD_STEPS
from parity.compare.wings import Reply
from parity.spec import BACKENDS, NetworkSpec
from parity.traces.measure import difference, differences
from parity.weights import Arrays, table


def trajectory(comparison: Comparison) -> list[Row]:
    """Rung 5: many steps of each wing, with Adam in float64 and with SGD in float32."""
    wide = comparison.precision == "float64"
    optimizer, steps = ("adam", ADAM_STEPS) if wide else ("sgd", SGD_STEPS)
    answers = comparison.pair.ask("run", optimizer=optimizer, first=0, last=steps)
    distances = along(answers, comparison.subject.spec)
    return [comparison.row(5, f"{steps} {optimizer} steps", distances)]


def along(answers: Mapping[str, Reply], spec: NetworkSpec) -> dict[str, float]:
    """The differences of two runs: the loss of each step, then the last state.

    What a gradient of 0 by construction has moved is rounding, and left out.
    """
    a, b = (answer.arrays for answer in answers.values())
    losses = zip(a["loss"], b["loss"], strict=True)
    distances = {f"loss of step {n}": difference(*pair) for n, pair in enumerate(losses)}
    return distances | differences(a, b, _moved(a, spec))


def _moved(arrays: Arrays, spec: NetworkSpec) -> list[str]:
    idle = {f"parameter/{name}" for name, row in table(spec).items() if row.free}
    return [name for name in arrays if name.startswith("parameter/") and name not in idle]


def resume(comparison: Comparison) -> list[Row]:
    """Rung 6: a run that changes wings halfway, against one that does not."""
    steps, test = RESUMED_STEPS[comparison.precision], comparison.precision != "float64"
    half, task = steps // 2, {"optimizer": "adam", "last": steps, "test": test}
    paths = {wing: comparison.folder / f"{comparison.precision}-{wing}" for wing in BACKENDS}
    alone = comparison.pair.ask_each(
        "run",
        {w: {**task, "first": 0, "save": {str(half): str(path)}} for w, path in paths.items()},
    )
    begun_by = dict(zip(BACKENDS, reversed(BACKENDS), strict=True))
    handed = comparison.pair.ask_each(
        "run",
        {
            wing: {**task, "first": half, "resume": str(paths[other] / f"step-{half:08d}")}
            for wing, other in begun_by.items()
        },
    )
    rows = []
    for wing, other in begun_by.items():
        a, b = alone[other].arrays, handed[wing].arrays
        distances = differences(a, b, _moved(a, comparison.subject.spec))
        if test:
            scores = float(a["accuracy"]), float(b["accuracy"])
            apart = round(abs(scores[0] - scores[1]), 9)
            distances = {"accuracy {:.3f} and {:.3f}".format(*scores): apart}
        rows.append(comparison.row(6, f"{half} steps in {other}, then {half} in {wing}", distances))
    return rows
