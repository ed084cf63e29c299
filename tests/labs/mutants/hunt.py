"""Check the ladder with a mistake made, and say what differs."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jax
from specs import KINDS, PRIMES

from mutants.patch import Mutant, applied
from parity import compare
from parity.compare import subject
from parity.spec import Loss, Primary, Routing, TrainingSpec

# Every option at work at once: bias, scaled primary layer, the loss over classes, clipping.
SPEC = dataclasses.replace(
    PRIMES,
    primary=Primary(types=2, size=7, kernel=4, scale=0.7),
    routing=Routing(num_iters=3, bias=True),
    loss=Loss(scale=0.5, class_mean=True, reconstruction=0.01),
)
TRAINING = TrainingSpec(clip_norm=1e-2, decay_steps=7, weight_decay=0.1, epsilon_hat=True)
SUBJECTS = {kind: (spec, TrainingSpec()) for kind, spec in KINDS.items()} | {
    "sabour2017": (SPEC, TRAINING),
    "efficient": (KINDS["efficient"], TrainingSpec(epsilon=1e-7, epsilon_hat=True, ema=0.9)),
    "deepcaps": (KINDS["deepcaps"], TrainingSpec(epsilon=1e-7, epsilon_hat=True)),
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
