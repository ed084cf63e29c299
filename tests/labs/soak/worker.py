"""Trains one wing as the command line does and prints what it holds, as one JSON object.

python -m soak.worker BACKEND STEPS FOLDER
"""

import dataclasses
import json
import os
import resource
import sys
from pathlib import Path

from parity import data, loop, runs
from parity.spec import RunOptions, preset_card
from parity.wing.load import make_trainer

EVERY = 20  # steps between two looks
BATCH = 10  # 500 steps an epoch of mnist-mini


def held() -> tuple[int, int]:
    """Bytes of resident memory, and open files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(os.listdir("/proc/self/fd"))


def main() -> None:
    backend, steps, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    card, dataset = preset_card("small"), data.load("mnist-mini")
    epochs = -(-steps // (len(dataset.train) // BATCH))
    training = dataclasses.replace(
        card.training, dataset="mnist-mini", epochs=epochs, batch_size=BATCH
    )
    options = RunOptions(backend=backend, checkpoint_every=100)
    trainer = make_trainer(card.network, training, options, dataset)
    looks = []
    append = runs.Run.append

    def looking(run: runs.Run, line: dict) -> None:
        append(run, line)
        if line["event"] == "train" and line["step"] % EVERY == 0:
            looks.append((line["step"], *held()))

    runs.Run.append = looking  # type: ignore[method-assign]
    with runs.Run.create(folder / "run", card.network, training, options, "small") as run:
        loop.train(trainer, dataset, run)
    print(json.dumps({"steps": steps, "looks": looks}), file=out, flush=True)


if __name__ == "__main__":
    main()
