"""Checks of a network's inputs: precision, images, parts, targets.

Axes: B batch, P parts of a picture, J classes, H W C image.
"""

import math
from typing import Any

from parity.spec.checks import SpecError
from parity.spec.networks import NetworkSpec
from parity.spec.training import PRECISIONS


def check_precision(precision: Any) -> None:
    """Raises SpecError unless it is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise SpecError(
            f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}; for half "
            "precision use bfloat16, as routing overflows in float16"
        )


def check_iterations(num_iters: int) -> None:
    """Raises SpecError unless a routing has an iteration."""
    if num_iters < 1:
        raise SpecError(f"num_iters is {num_iters}; expected at least 1")


def check_activations(activations: Any) -> None:
    """Raises SpecError for activations outside of 0 to 1; those without values yet are let by."""
    if hasattr(activations, "tolist") and type(activations).__module__ == "numpy":
        low, high = float(activations.min(initial=0)), float(activations.max(initial=0))
        if not (low >= 0 and high <= 1):
            raise SpecError(
                f"activations are from {low:.6g} to {high:.6g}; expected 0 to 1, a sigmoid's"
            )


def check_images(images_BHWC: Any, spec: NetworkSpec) -> None:
    """Raises SpecError unless images are floating [B, H, W, C] of the spec's size."""
    shape, dtype = _shape(images_BHWC), getattr(images_BHWC, "dtype", None)
    if len(shape) != 4 or shape[1:] != spec.image or math.prod(shape) == 0:
        raise SpecError(
            f"images have shape {shape}; expected (batch, height, width, channels) = "
            f"(any, {', '.join(map(str, spec.image))})"
        )
    if "float" not in getattr(dtype, "name", str(dtype)):  # NumPy's ">f4" is a float32 too
        raise SpecError(
            f"images have dtype {dtype}; expected floating numbers in [0, 1], "
            "for bytes use images.astype('float32') / 255"
        )


def check_parts(labels_BP: Any, images_BPHWC: Any, batch: int, spec: NetworkSpec) -> None:
    """Raises SpecError unless each picture has as many part labels as part images."""
    labels, images = _shape(labels_BP), _shape(images_BPHWC)
    if len(labels) != 2 or labels[0] != batch or images != (*labels, *spec.image):
        raise SpecError(
            f"parts have labels of shape {labels} and images of {images}; expected (batch, parts) "
            f"and (batch, parts, height, width, channels) = "
            f"({batch}, any, {', '.join(map(str, spec.image))})"
        )
    check_labels(labels_BP, spec.classes, "labels of parts")
    check_images(images_BPHWC.reshape(-1, *spec.image), spec)


def check_targets(targets: Any, classes: int, batch: int | None = None) -> None:
    """Raises SpecError unless targets are labels [B] or zeros and ones [B, J].

    Values are looked at in NumPy arrays alone: what is traced has none, and what is on a device
    would have to be waited for. The wings hand over what can be looked at (`arrays.concrete`).

    Args:
        targets: Of any framework.
        classes: How many there are, J.
        batch: How many images they belong to, if that is known.
    """
    shape = _shape(targets)
    fits = len(shape) in (1, 2) and shape[1:] in ((), (classes,)) and batch in (None, shape[0])
    if not fits:
        size = "batch" if batch is None else batch
        raise SpecError(
            f"targets have shape {shape}; expected labels ({size},), or zeros and "
            f"ones ({size}, {classes})"
        )
    if len(shape) == 1:
        check_labels(targets, classes, "targets")
        return
    _check_whole(targets, classes, "targets")
    if _is_numpy(targets) and (other := (targets != 0) & (targets != 1)).any():
        row, column = (int(where[0]) for where in other.nonzero())
        raise SpecError(
            f"targets[{row}, {column}] is {targets[row, column]}; expected zeros and ones of shape "
            f"(batch, {classes}): 1 where a class is present"
        )


def check_labels(labels: Any, classes: int, what: str = "labels") -> None:
    """Raises SpecError unless labels are whole numbers from 0 to classes - 1.

    Values are looked at as in `check_targets`.
    """
    _check_whole(labels, classes, what)
    if _is_numpy(labels) and (outside := (labels < 0) | (labels >= classes)).any():
        at = tuple(int(where[0]) for where in outside.nonzero())
        from_one = labels.min() == 1 and labels.max() == classes
        raise SpecError(
            f"{what}[{', '.join(map(str, at))}] is {labels[at]}; expected 0 to {classes - 1}, as "
            f"there are {classes} classes{'; subtract 1 if they count from 1' if from_one else ''}"
        )


def _check_whole(array: Any, classes: int, what: str) -> None:
    dtype = getattr(array, "dtype", None)
    dtype = getattr(dtype, "name", str(dtype)).removeprefix("torch.")
    if "int" not in dtype:
        raise SpecError(
            f"{what} have dtype {dtype}; expected whole numbers (int64, for example): labels from "
            f"0 to {classes - 1}, or zeros and ones (batch, {classes}); probabilities are not taken"
        )


def _is_numpy(array: Any) -> bool:
    return type(array).__module__ == "numpy"  # known by name: specs import nothing


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(getattr(array, "shape", ()))
