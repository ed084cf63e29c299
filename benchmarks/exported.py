"""What an exported network costs and how far it is: `python -m benchmarks.exported [NAME...]`.

For each network a row of the table in docs/export.md: the .onnx file, the largest difference of
its poses from PyTorch's over 1,000 test digits, and milliseconds a batch of ONNX Runtime and of
PyTorch, in turns on the same threads.
"""

import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parity import data
from parity.export import export
from parity.traces.measure import difference

THREADS, BATCHES, ROUNDS = 2, (1, 16, 128), 9


def milliseconds(*calls: Callable[[], Any]) -> list[float]:
    """The median milliseconds of each call, taken in turns, the first time left out."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS + 1):
        for call, seen in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            seen.append(1000 * (time.perf_counter() - began))
    return [statistics.median(seen[1:]) for seen in times]


def row(name: str, images: np.ndarray) -> str:
    """The row of a network that comes with twincaps, or that `export` finds."""
    torch = importlib.import_module("torch")
    runtime = importlib.import_module("onnxruntime")
    wing = importlib.import_module("torch_caps")
    torch.set_num_threads(THREADS)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = THREADS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        began = time.perf_counter()
        known = export(name, path)
        seconds, size = time.perf_counter() - began, path.stat().st_size
        session = runtime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    net = wing.networks.build(known.spec)
    wing.weights.from_numpy(net, known.arrays)

    def ours(batch: np.ndarray) -> Any:
        with torch.no_grad():
            poses = net(batch)
            if net.decoder is not None:
                net.reconstruct(poses, wing.lengths(poses).argmax(-1))
            return poses

    def theirs(batch: np.ndarray) -> Any:
        return session.run(None, {"images": batch})[0]

    apart = difference(theirs(images), ours(images).numpy())
    cells = [f"{size / 1e6:.1f} MB", f"{seconds:.2f} s", f"{apart:.1e}"]
    for count in BATCHES:
        batch = images[:count]
        times = milliseconds(lambda b=batch: theirs(b), lambda b=batch: ours(b))
        cells.append(" / ".join(f"{each:.3g}" for each in times))
    return "| " + " | ".join((name, *cells)) + " |"


if __name__ == "__main__":
    digits = data.load("mnist-mini").test.images[:1000] / np.float32(255)
    for name in sys.argv[1:] or ("small-mnist",):
        print(row(name, digits))
