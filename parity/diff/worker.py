"""A process that records one side of a pair file: what another interpreter runs for `diff`.

One request as JSON on standard input, one reply as the last line of standard output: {} or
{"kind": ..., "error": ...}. What the model prints goes to standard error.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from parity.diff import pair as pairs
from parity.diff.sides import Request
from parity.spec import TwincapsError


def main() -> None:
    """Answers the request on standard input."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    reply: dict[str, Any] = {}
    try:
        perform(**json.load(sys.stdin))
    except Exception as error:  # whatever a model may raise
        traceback.print_exception(error)
        said = str(error) if isinstance(error, TwincapsError) else repr(error)
        reply = {"kind": type(error).__name__, "error": said}
    print(json.dumps(reply), file=replies, flush=True)


def perform(
    pair: str, side: str, path: str, precision: str, perturbed: bool, weights: str | None
) -> None:
    """Records the side and writes its trace."""
    given = None
    if weights is not None:
        with np.load(weights) as file:
            given = {name: file[name] for name in file.files}
    request = Request(precision, perturbed, given)
    module = pairs.load(Path(pair))
    pairs.side_of(module, Path(pair), side).trace(Path(path), request)
