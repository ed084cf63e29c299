"""The flags of train.py; defaults come from the recipe, then the preset."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from parity.spec import (
    PRESETS,
    Backend,
    Method,
    Optimizer,
    Precision,
    RunOptions,
    TrainingSpec,
    preset_card,
)


def _shown(metavar: str, unset: str | None = None, helptext: str | None = None) -> Any:
    hint = None if unset is None else f"(default: {unset})"
    return tyro.conf.arg(metavar=metavar, help=helptext, help_behavior_hint=hint)


_PRESETS = f"The network and its training: one of {', '.join(PRESETS)}."


@dataclass(frozen=True)
class Flags:
    """Train a capsule network.

    What is not given comes from the data set's recipe, or else from the preset; what ran, and how
    it departs from the preset, is printed.
    """

    backend: Backend
    """The framework to train with."""
    preset: Annotated[str, _shown("NAME", helptext=_PRESETS)]
    dataset: Annotated[str, _shown("NAME", "the preset's; of MNIST's, mnist-mini")]
    """What to train on; `python -m parity data` lists them."""
    data_dir: Annotated[str | None, _shown("DIR", "TWINCAPS_DATA and the usual places")]
    """Where the files of the data set are."""
    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Training images a step."""
    learning_rate: float
    """The rate of the first step; it decays from there."""
    decay_steps: int
    """Steps in which the rate decays by the preset's factor (0.96, 0.97 for Efficient-CapsNet)."""
    optimizer: Optimizer
    """The optimiser."""
    seed: int
    """Decides first weights, order and augmentation: the same in both frameworks."""
    precision: Precision
    """Of the network; bfloat16 is for convolutions and decoder alone."""
    device: Annotated[str, _shown("NAME")]
    """Where to compute: cpu, or cuda."""
    compile: bool
    """Run the network through the framework's compiler (JAX always does)."""
    clip_norm: Annotated[float | None, _shown("FLOAT", "no clipping")]
    """Scale gradients down to this norm where it is larger."""
    ema: Annotated[float | None, _shown("FLOAT", "no averages")]
    """Keep moving averages of the weights with this decay, 0.999 say, and evaluate them too."""
    validation: Annotated[int, _shown("INT", "0, none")]
    """Hold out this many training images, in proportion from each class, and choose the best
    checkpoint on them."""
    lean: bool
    """Route without storing the votes."""
    block: Annotated[int | None, _shown("INT", "from the sizes")]
    """Input capsules whose votes lean routing holds at a time."""
    convolution: Method
    """How convolutions are computed; auto chooses from the sizes."""
    checkpoint_every: int
    """Steps between checkpoints; 0: at the end of each epoch alone."""
    out: Annotated[str | None, _shown("DIR", "runs/PRESET-DATASET-BACKEND-SEED")]
    """The run folder to make."""
    resume: Annotated[str | None, _shown("{RUN,auto}", "a new run")]
    """Resume a run folder; auto: the one at --out, or a new one."""


def usual_dataset(preset: str) -> str:
    """The data set of a preset where none is named: its own, or its stand-in."""
    from parity.data import entry

    own = preset_card(preset).training.dataset
    return entry(own).stand_in or own


def recipe(preset: str, dataset: str) -> TrainingSpec:
    """The preset's training as its recipe for the data set, or the data set's own, changes it."""
    from parity.data import entry

    card = preset_card(preset)
    changes = card.recipes.get(dataset, entry(dataset).recipe)
    return dataclasses.replace(card.training, dataset=dataset, **changes)


def defaults(preset: str, dataset: str) -> Flags:
    """What a command line that names these two says by default."""
    return of_run(preset, recipe(preset, dataset), RunOptions(), None, None)


def of_run(
    preset: str, training: TrainingSpec, options: RunOptions, out: str | None, resume: str | None
) -> Flags:
    """The flags that describe a run."""
    return Flags(
        preset=preset, out=out, resume=resume, **pick(Flags, training), **pick(Flags, options)
    )


def pick(kind: type, source: Any) -> dict[str, Any]:
    """The fields of a dataclass that `source` has too."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: getattr(source, name) for name in names if hasattr(source, name)}
