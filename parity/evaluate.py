"""The test accuracy of a run or of a file of weights, with either wing."""

import dataclasses
import json as jsonlib
import math
from pathlib import Path

from parity import cli, data, loop, runs
from parity.spec import RunOptions, TrainingSpec


def evaluate(
    run: str,
    backend: str | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    json: bool = False,
) -> None:
    """Print the test accuracy of a run's newest checkpoint, or of a file of weights.

    Args:
        run: A run folder, one of its checkpoints, or a .safetensors file.
        backend: torch or jax; unless given, the run's own, or torch.
        dataset: Whose test images; unless given, the run's own, or mnist-mini.
        data_dir: Where the files of the data set are.
        json: Print one JSON object instead.
    """
    training, options = TrainingSpec(), RunOptions()
    if runs.holds_run(Path(run)):
        with runs.Run.open(run, read_only=True) as opened:
            training, options = opened.training, opened.options
    training = dataclasses.replace(training, dataset=dataset or training.dataset)
    options = dataclasses.replace(options, backend=backend or options.backend)
    spec, arrays = runs.read_weights(run)
    images = data.load(training.dataset, data_dir or options.data_dir)
    trainer = cli.make_trainer(spec, training, options, images)
    state = trainer.get_state()
    held = {name: arrays[name].astype(array.dtype) for name, array in state["weights"].items()}
    trainer.set_state({**state, "weights": held})
    found = loop.evaluate(trainer, images.test, training.batch_size)
    count, right = found["count"], round(found["accuracy"] * found["count"])
    low, high = interval(right, count)
    if json:
        where = {"run": run, "dataset": images.name, "backend": options.backend}
        print(jsonlib.dumps({**where, **found, "correct": right, "interval": [low, high]}))
        return
    print(
        f"test accuracy {found['accuracy']:.4f} ({right:,} of {count:,} images of {images.name}, "
        f"{options.backend}), 95 % interval {low:.4f} to {high:.4f}"
    )


def interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion: inside 0 to 1 and honest near them."""
    z, share = 1.959964, right / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
