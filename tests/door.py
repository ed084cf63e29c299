"""train.py and python -m parity with a network and a data set small enough for tests.

python tests/door.py train|VERB ...   DOOR_SIGNAL=NUMBER@STEP sends this process a signal after it
has written the metrics of a training step; DOOR_UNDRAWN=1 hides matplotlib, as figures take time.
"""

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

if os.environ.get("DOOR_UNDRAWN"):
    sys.modules["matplotlib"] = None  # type: ignore[assignment]

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
