"""What type checkers and editors are promised: pyright reads this file, nothing runs it.

An `ignore` below is a mistake that has to be seen: pyright refuses one that hides nothing.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

import jax
import numpy as np
import torch

import jax_caps
import torch_caps
from parity import loop
from parity.data import Dataset
from parity.figures.model import Model
from parity.spec import Norm, Routing, RunOptions, TrainingSpec, preset
from parity.wing.processes import Group
from parity.wing.trainer import Trainer

SPEC, TRAINING = preset("small"), TrainingSpec()
IMAGES = np.zeros((2, 28, 28, 1), np.float32)


def a_call_gives_an_array() -> None:
    assert_type(torch_caps.build(SPEC)(IMAGES), torch.Tensor)
    assert_type(torch_caps.CapsuleNetwork(SPEC)(IMAGES), torch.Tensor)
    assert_type(torch_caps.Trainer(SPEC, TRAINING).net(IMAGES), torch.Tensor)
    assert_type(torch_caps.from_pretrained("small-mnist")(IMAGES), torch.Tensor)
    assert_type(jax_caps.build(SPEC)(IMAGES), jax.Array)
    assert_type(jax_caps.CapsuleNetwork(SPEC)(IMAGES), jax.Array)
    assert_type(jax_caps.Trainer(SPEC, TRAINING).net(IMAGES), jax.Array)
    assert_type(jax_caps.from_pretrained("small-mnist")(IMAGES), jax.Array)


def the_wings_are_what_the_hub_asks_for(
    torch_trainer: torch_caps.Trainer,
    jax_trainer: jax_caps.Trainer,
    torch_group: torch_caps.processes.Group,
    jax_group: jax_caps.processes.Group,
    dataset: Dataset,
) -> tuple[tuple[Trainer, ...], tuple[Model, ...], tuple[Group, ...]]:
    loop.train(torch_trainer, dataset)
    loop.train(jax_trainer, dataset)
    trainers = torch_trainer, jax_trainer
    return trainers, trainers, (torch_group, jax_group)


def a_typo_is_seen() -> None:
    RunOptions(backend="troch")  # pyright: ignore[reportArgumentType]
    RunOptions(convolution="fft")  # pyright: ignore[reportArgumentType]
    TrainingSpec(optimizer="adma")  # pyright: ignore[reportArgumentType]
    TrainingSpec(precision="float16")  # pyright: ignore[reportArgumentType]
    TrainingSpec(schedule="cosine")  # pyright: ignore[reportArgumentType]
    TrainingSpec(augment="flip")  # pyright: ignore[reportArgumentType]
    Norm(kind="group")  # pyright: ignore[reportArgumentType]
    Routing("dynamc")  # pyright: ignore[reportArgumentType]
    torch_caps.build(SPEC, precision="half")  # pyright: ignore[reportArgumentType]
    jax_caps.build(SPEC, convolution="fast")  # pyright: ignore[reportArgumentType]
    torch_caps.Trainer(SPEC)  # pyright: ignore[reportCallIssue]
