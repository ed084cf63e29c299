"""The preset `small`: a network for a laptop."""

from parity.spec.layers import Conv, Primary
from parity.spec.networks import NetworkSpec
from parity.spec.presets.card import Preset
from parity.spec.training import TrainingSpec

PRESETS = {
    "small": Preset(
        NetworkSpec(
            stem=(Conv(16, 7),),
            primary=Primary(types=16, size=4, kernel=7),
            pose=6,
            decoder=(128, 256),
        ),
        TrainingSpec(dataset="mnist", learning_rate=2e-3),
        source="ours: the paper's network with a 15th of its parameters, for a laptop",
        command="python train.py --preset small --dataset mnist --data-dir DIR --epochs 15",
        time="17 minutes on one core of an AMD EPYC",
        score="0.74 % test error",
    ),
}
