"""What may be given to a network, checked for both wings: images, their parts, targets.

Axes: B batch, P parts of a picture, J classes, H W C image.
"""

import math
from typing import Any

from parity.spec.checks import SpecError
from parity.spec.networks import NetworkSpec


def check_images(images_BHWC: Any, spec: NetworkSpec) -> None:
    """Raise SpecError unless images are floating [B, H, W, C] of the spec's size."""
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
    """Raise SpecError unless there are as many labels as images, for each picture of a batch."""
    labels, images = _shape(labels_BP), _shape(images_BPHWC)
    if len(labels) != 2 or labels[0] != batch or images != (*labels, *spec.image):
        raise SpecError(
            f"parts have labels of shape {labels} and images of {images}; expected (batch, parts) "
            f"and (batch, parts, height, width, channels) = "
            f"({batch}, any, {', '.join(map(str, spec.image))})"
        )
    check_images(images_BPHWC.reshape(-1, *spec.image), spec)


def check_targets(targets: Any, classes: int) -> None:
    """Raise SpecError unless targets have the shape of labels [B] or of zeros and ones [B, J]."""
    shape = _shape(targets)
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != classes):
        raise SpecError(
            f"targets have shape {shape}; expected labels (batch,), or zeros and "
            f"ones (batch, {classes})"
        )


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(getattr(array, "shape", ()))
