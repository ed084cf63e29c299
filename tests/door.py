"""train.py and python -m parity with a network and a data set small enough for tests.

python tests/door.py train|VERB ...   DOOR_SIGNAL=NUMBER@STEP sends this process a signal after it
has written the metrics of a training step.
"""

import dataclasses
import os
import sys
from pathlib import Path

import parity.data
from parity import runs, spec
from parity.__main__ import main

parity.data.__path__.append(str(Path(__file__).parent / "tiny"))
spec.PRESETS["tiny"] = spec.Preset(
    spec.NetworkSpec(
        stem=(spec.Conv(5, 3),),
        primary=spec.Primary(types=3, size=4, kernel=3),
        pose=5,
        decoder=(7,),
    ),
    spec.TrainingSpec(dataset="tiny-stripes", epochs=3, batch_size=5, learning_rate=0.01, shift=1),
    *("ours", "none", "seconds", "none"),
)

# Six images a step: 2 and 3 processes share them, and 67 and 23 leave a rest in training and test.
spec.PRESETS["tiny-shared"] = dataclasses.replace(
    spec.PRESETS["tiny"],
    training=dataclasses.replace(
        spec.PRESETS["tiny"].training, epochs=2, batch_size=6, clip_norm=0.5, ema=0.9
    ),
)

if request := os.environ.get("DOOR_SIGNAL"):
    number, step = map(int, request.split("@"))
    append = runs.Run.append

    def signalling(run, line):
        append(run, line)
        if (line["event"], line["step"]) == ("train", step):
            os.kill(os.getpid(), number)

    runs.Run.append = signalling  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
