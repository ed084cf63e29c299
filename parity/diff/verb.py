"""The verb: python -m parity diff PAIR.py."""

import contextlib
import json as jsonlib
import sys
from pathlib import Path
from typing import Literal

from parity.diff import pair as pairs
from parity.diff.compare import compare
from parity.diff.show import lines
from parity.diff.show import picture as draw
from parity.diff.sides import interpreter
from parity.diff.trace import DiffError
from parity.spec import error_line


def diff(
    pair: str,
    precision: Literal["both", "float64", "float32"] = "both",
    backward: bool = False,
    tolerance: float | None = None,
    top: int = 0,
    left_python: str | None = None,
    right_python: str | None = None,
    picture: str | None = None,
    json: bool = False,
) -> int:
    """Name the first tensor in which two models differ, of any framework.

    Args:
        pair: A Python file with left(), right() and inputs(); docs/diff.md says more. It is run.
        precision: float64 decides what differs; float32 is the models as they are.
        backward: Compare gradients too.
        tolerance: The largest difference that counts as rounding; unless given, by dtype.
        top: List so many of the tensors that agree, the furthest apart first.
        left_python: The interpreter that runs the left side.
        right_python: The interpreter that runs the right side.
        picture: Draw the difference along the depth to this file.
        json: Print one JSON object instead.

    Returns 0 where the two are equal, 1 where they differ.
    """
    path = Path(pair)
    # What the models print is not what was found.
    with contextlib.redirect_stdout(sys.stderr):
        asked = ("left", left_python), ("right", right_python)
        sides = {where: interpreter(where, python, path) for where, python in asked}
        module = None if all(sides.values()) else pairs.load(path)
        left, right = (
            sides[where] or pairs.side_of(module, path, where)  # pyright: ignore
            for where in ("left", "right")
        )
        report = compare(left, right, precision=precision, gradients=backward, tolerance=tolerance)
    print(jsonlib.dumps(report.as_dict()) if json else "\n".join(lines(report, top)))
    if picture is not None:
        try:
            draw(report, picture)
        except (ImportError, OSError, ValueError) as error:  # no matplotlib, no such ending
            raise DiffError(
                f"--picture {picture}: cannot be drawn ({error_line(error)})"
            ) from error
    return 0 if report.equal else 1
