"""Check the ladder with a mistake made, and say what differs."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jax
from specs import PRIMES

from mutants.patch import Mutant, applied
from parity import compare
from parity.compare import subject
from parity.spec import (
    Block,
    CapsuleLayer,
    Conv,
    Depthwise,
    Efficient,
    Hahn2019,
    Hinton2018,
    Loss,
    Pixels,
    Primary,
    Rajasegaran2019,
    Ribeiro2020,
    Routing,
    TrainingSpec,
    Transposed,
    Tsai2020,
)

# Every option at work at once: bias, scaled primary layer, the loss over classes, clipping.
SPEC = dataclasses.replace(
    PRIMES,
    primary=Primary(types=2, size=7, kernel=4, scale=0.7),
    routing=Routing(num_iters=3, bias=True),
    loss=Loss(scale=0.5, class_mean=True, reconstruction=0.01),
)
TRAINING = TrainingSpec(clip_norm=1e-2, decay_steps=7, weight_decay=0.1, epsilon_hat=True)
EFFICIENT = Efficient(
    image=(11, 11, 2),
    pixels=Pixels(mean=(0.1, 0.2), deviation=(256 / 255, 0.9)),
    stem=(Conv(5, 3), Conv(6, 3, 2)),
    primary=Depthwise(types=3, size=2, kernel=4),
    classes=5,
    pose=7,
    decoder=(11,),
    loss=Loss(reconstruction=0.01),
)
VARIATIONAL = Ribeiro2020(
    image=(13, 11, 2),
    pixels=Pixels(mean=(0.1, 0.2), deviation=(256 / 255, 0.9)),
    stem=(Conv(3, 3, 2),),
    primary=Primary(types=2, size=4, kernel=1, stride=1),
    capsules=(CapsuleLayer(types=3, size=4),),
    classes=5,
)
DEEPCAPS = Rajasegaran2019(
    image=(12, 8, 2),
    stem=(Conv(5, 3),),
    capsules=(CapsuleLayer(3, 2, stride=2), *(CapsuleLayer(2, 5, stride=2),) * 2),
    classes=3,
    pose=7,
    decoder=(18,),
    upsampling=Transposed(channels=(5, 2), strides=(1, 2, 2)),
    loss=Loss(reconstruction=0.01),
)
MATRIX = Hinton2018(
    image=(17, 13, 2),
    stem=(Conv(3, 5, 2),),
    primary=Primary(types=2, size=4, kernel=1, stride=1),
    capsules=(CapsuleLayer(types=3, size=4, stride=2),),
    classes=3,
)
SELF_ROUTING = Hahn2019(
    image=(13, 11, 2),
    stem=(Conv(3, 3),),
    blocks=(Block(5, 2),),
    primary=Primary(types=2, size=5, kernel=3, stride=1),
    capsules=(CapsuleLayer(types=3, size=7, stride=2),),
    classes=3,
)
INVERTED = Tsai2020(
    image=(15, 13, 2),
    stem=(Conv(3, 3),),
    blocks=(Block(5, 2, projected=True),),
    primary=Primary(types=3, size=4, kernel=1, stride=1),
    capsules=(CapsuleLayer(2, 4, stride=2), CapsuleLayer(5, 4, 2)),
    classes=3,
    pose=4,
    routing=Routing("inverted_attention", num_iters=3),
)
SUBJECTS = {
    "sabour2017": (SPEC, TRAINING),
    "efficient": (EFFICIENT, TrainingSpec(epsilon=1e-7, epsilon_hat=True, ema=0.9)),
    "deepcaps": (DEEPCAPS, TrainingSpec(epsilon=1e-7, epsilon_hat=True)),
    "matrix": (MATRIX, TrainingSpec()),
    "self_routing": (SELF_ROUTING, TrainingSpec()),
    "inverted": (INVERTED, TrainingSpec()),
    "variational_bayes": (VARIATIONAL, TrainingSpec()),
}
RUNGS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Caught:
    """What became of a mistake: the first rung that broke, and the first tensor it named."""

    mutant: Mutant
    rung: int | None
    first: str

    @property
    def right(self) -> bool:
        """Whether it was caught where it was made."""
        return self.rung == self.mutant.rung and self.mutant.at in self.first

    @property
    def verdict(self) -> str:
        """In words, for the table."""
        if self.rung is None:
            return "[red]survived[/red]"
        expected = f"rung {self.mutant.rung}, {self.mutant.at}"
        return "caught" if self.right else f"[red]expected {expected}[/red]"


def ladder(rungs: Iterable[int] = RUNGS, network: str = "sabour2017") -> compare.Report:
    """The ladder in float64, both wings in this process."""
    whole = subject.of(*SUBJECTS[network], source="mutants")
    how = {"precisions": ("float64",), "modes": ("lean", "fourier"), "isolated": False}
    return compare.ladder(whole, rungs=rungs, gpu=None, **how)


@contextlib.contextmanager
def _forgetting(mutant: Mutant) -> Iterator[None]:
    """JAX compiles a function once; it must not know it from before a mistake, nor with it."""
    if mutant.where.startswith("jax"):
        jax.clear_caches()
    yield
    if mutant.where.startswith("jax"):
        jax.clear_caches()


def hunt(mutant: Mutant) -> Caught:
    """Make the mistake, check the ladder, take it back."""
    with applied(mutant), _forgetting(mutant):
        # From below always: a rung that breaks earlier than expected is to be seen.
        report = ladder(sorted({*RUNGS, mutant.rung}), mutant.network)
    for row in report.rows:
        if row.fails:
            return Caught(mutant, row.rung, row.first or row.why)
    return Caught(mutant, None, "")
