"""The test accuracy of a run or of a file of weights, with either wing.

Axes: B images of a batch, J classes.
"""

import itertools
import json as jsonlib
import math
from typing import Any

import numpy as np

from parity import reference
from parity.data import Split, batches
from parity.data.windows import translate
from parity.loop import scoring
from parity.saved import find
from parity.spec import Backend, TwincapsError
from parity.wing.trainer import Trainer, scores


def evaluate(
    run: str,
    backend: Backend | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    ema: bool = False,
    shifts: int = 0,
    json: bool = False,
) -> None:
    """Print the test accuracy of a run or a weights file, with its 95 % interval.

    Of a run, its newest checkpoint is evaluated; the interval is Wilson's. An image that shows
    several classes counts as right when all of them are found.

    Args:
        run: A run folder, one of its checkpoints, a .safetensors file, or the name of a network
            of the package.
        backend: torch or jax; unless given, the run's own, or torch.
        dataset: The data set to test on; unless given, the one it was trained on.
        data_dir: Where the files of the data set are.
        ema: Evaluate the moving averages of the weights, which a run with `ema` keeps.
        shifts: Average capsule lengths over shifts of each image by up to this many pixels.
        json: Print one JSON object instead.
    """
    network = find(run, averaged=ema)
    training, options, images = network.asked(backend, dataset, data_dir)
    trainer = network.trainer(training, options, images)
    if shifts == 0:
        scores = scoring.evaluate(trainer, images.test, training.batch_size)
    else:
        scores = shifted(trainer, images.test, training.batch_size, shifts)
    count, right = scores["count"], round(scores["accuracy"] * scores["count"])
    low, high = interval(right, count)
    if json:
        where = {"run": run, "dataset": images.name, "backend": options.backend}
        how = {"ema": ema, "shifts": shifts, "interval_kind": "Wilson, 95 %"}
        print(jsonlib.dumps({**where, **how, **scores, "correct": right, "interval": [low, high]}))
        return
    how = ", averaged weights" * ema
    if shifts:
        how += f", mean lengths over {(2 * shifts + 1) ** 2} shifts of up to {shifts} pixels"
    print(
        f"test accuracy {scores['accuracy']:.4f} ({right:,} of {count:,} images of {images.name}, "
        f"{options.backend}{how}), 95 % interval {low:.4f} to {high:.4f} (Wilson)"
    )


def shifted(trainer: Trainer, split: Split, batch_size: int, reach: int) -> dict[str, Any]:
    """Accuracy on a split, with capsule lengths averaged over shifts of each image.

    Every image is shifted by -reach to reach pixels down and right, with zeros moving in; the class
    of the largest mean length over these (2 * reach + 1)^2 shifts is the answer.

    Args:
        trainer: The Trainer of the network.
        split: The images and labels.
        batch_size: Images of one batch.
        reach: The largest shift, in pixels.

    Returns:
        `accuracy`, and `count`, the number of images.

    Raises:
        TwincapsError: If `reach` is negative, or as large as an image.
    """
    height, width, _ = split.shape
    if not 0 <= reach < min(height, width):
        raise TwincapsError(
            f"shifts is {reach}; expected 0 to {min(height, width) - 1} for images of "
            f"{height}x{width}"
        )
    steps = range(-reach, reach + 1)
    moves = [np.full((batch_size, 2), offset) for offset in itertools.product(steps, steps)]
    right = count = 0.0
    for batch in batches.evaluation(split, batch_size):
        seen = (scores(trainer, translate(batch.images, offsets_B2)) for offsets_B2 in moves)
        scores_BJ = np.mean(list(seen), axis=0)
        right += (reference.correct(scores_BJ, batch.labels) * batch.weights).sum()
        count += batch.weights.sum()
    return {"accuracy": round(right) / round(count), "count": round(count)}


def interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion: inside 0 to 1 and honest near them."""
    z, share = 1.959964, right / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
