"""train.py and python -m parity with a network and a data set small enough for tests.

python tests/door.py train|VERB ...   DOOR_SIGNAL=NUMBER@STEP sends this process a signal after it
has recorded a training step; NUMBER@STEP@RANK sends it to one of several processes, which is not
signalled again once torchrun has restarted it. DOOR_FIGURES=none draws nothing.
"""

import contextlib
import dataclasses
import importlib
import os
import sys
from pathlib import Path

from parity import spec
from parity.__main__ import main
from parity.cli import train
from parity.data import sets
from parity.loop import session, terminal

sets.__path__.append(str(Path(__file__).parent / "tiny"))
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

# Networks of capsules with activations: of tiny-stripes, 11x9 of one channel in three classes.
ACTIVE = {
    "tiny-selfrouting": (
        spec.Hahn2019(
            image=(11, 9, 1),
            stem=(spec.Conv(5, 3),),
            blocks=(spec.Block(7, 2),),
            primary=spec.Primary(types=2, size=3, kernel=3, stride=1),
            capsules=(spec.CapsuleLayer(types=3, size=5),),
            classes=3,
        ),
        {"optimizer": "sgd", "l2": 1e-4, "schedule": "milestones", "milestones": (20, 30)},
    ),
    "tiny-em": (
        spec.Hinton2018(
            image=(11, 9, 1),
            stem=(spec.Conv(5, 3, 2),),
            primary=spec.Primary(types=2, size=4, kernel=1, stride=1),
            capsules=(spec.CapsuleLayer(types=3, size=4, kernel=2),),
            classes=3,
        ),
        {"spread": "linear", "spread_steps": 20, "l2": 1e-4, "l2_of": "kernels"},
    ),
    "tiny-vb": (
        spec.Ribeiro2020(
            image=(11, 9, 1),
            pixels=spec.Pixels(),
            stem=(spec.Conv(5, 3, 2),),
            primary=spec.Primary(types=2, size=4, kernel=1, stride=1),
            capsules=(spec.CapsuleLayer(types=3, size=4, kernel=2),),
            classes=3,
        ),
        {"decay_rate": 1.0},
    ),
    "tiny-inverted": (
        spec.Tsai2020(
            image=(11, 9, 1),
            stem=(spec.Conv(5, 3),),
            blocks=(spec.Block(7, 2, projected=True),),
            primary=spec.Primary(types=2, size=4, kernel=1, stride=1),
            capsules=(spec.CapsuleLayer(types=3, size=4, stride=2),),
            classes=3,
            pose=4,
        ),
        {"optimizer": "sgd", "l2": 1e-4, "schedule": "milestones", "milestones": (20, 30)},
    ),
}
for name, (network, changes) in ACTIVE.items():
    training = dataclasses.replace(spec.PRESETS["tiny"].training, **changes)
    spec.PRESETS[name] = dataclasses.replace(
        spec.PRESETS["tiny"], network=network, training=training
    )
# With state beside its weights: the running numbers of a batch norm.
spec.PRESETS["tiny-efficient"] = dataclasses.replace(
    spec.PRESETS["tiny"],
    network=spec.Efficient(
        stem=(spec.Conv(5, 3), spec.Conv(6, 3, 2)),
        primary=spec.Depthwise(types=3, size=2, kernel=3),
        pose=5,
        decoder=(7,),
    ),
)

# With state in its decoder too.
spec.PRESETS["tiny-deepcaps"] = dataclasses.replace(
    spec.PRESETS["tiny"],
    network=spec.Rajasegaran2019(
        image=(11, 9, 1),
        stem=(spec.Conv(5, 3),),
        capsules=(spec.CapsuleLayer(3, 4, stride=2),) * 2,
        classes=3,
        pose=5,
        decoder=(198,),
        upsampling=spec.Transposed(channels=(3,), strides=(1, 1)),
        loss=spec.Loss(reconstruction=0.4 / 99),
    ),
    training=dataclasses.replace(spec.PRESETS["tiny"].training, augment="deepcaps", hard_step=20),
)

# Six images a step: 2 and 3 processes share them, and 67 and 23 leave a rest in training and test.
spec.PRESETS["tiny-shared"] = dataclasses.replace(
    spec.PRESETS["tiny"],
    training=dataclasses.replace(
        spec.PRESETS["tiny"].training, epochs=2, batch_size=6, clip_norm=0.5, ema=0.9
    ),
)

if limit := os.environ.get("DOOR_TIMEOUT"):
    for module in ("parity.wing.meeting", "torch_caps.processes", "jax_caps.processes"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module).TIMEOUT = int(limit)

if os.environ.get("DOOR_FIGURES") == "none":
    train._illustrate = lambda *_: None
    terminal.events = lambda *_: []

if request := os.environ.get("DOOR_SIGNAL"):
    number, step, *only = map(int, request.split("@"))
    record = session._Session._record

    def signalling(training, event, *measured, **more):
        record(training, event, *measured, **more)
        rank = 0 if training.group is None else training.group.rank
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
        if (event, training.at.step) == ("train", step) and rank in (only or [rank]) and not again:
            os.kill(os.getpid(), number)

    session._Session._record = signalling  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
