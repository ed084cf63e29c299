"""What a data set is: two checked splits of images and labels.

Axes: N images of a split, B images of a batch, H W C an image, J classes, P things in an image.
"""

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from parity.data import affine, distortion
from parity.data.windows import translate
from parity.spec import TwincapsError


class DataError(TwincapsError):
    """A data set that is not there, not whole, or does not fit what is asked of it."""


class NotFoundError(DataError):
    """A data set of which no copy was found and none can be downloaded.

    Its message lists the places that were searched, and the fix.
    """


class DataWarning(UserWarning):
    """A data set that can be trained on, though perhaps not as it was meant."""


@dataclass(frozen=True, eq=False)
class Batch:
    """images float32 [B, H, W, C] in [0, 1], labels int64 [B], weights float32 [B].

    Augmented images may leave [0, 1]. The weight is 1, or 0 for what only fills the last batch of
    an evaluation. A data set that shows several things in an image brings a subclass, whose labels
    are 0/1 [B, J].
    """

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_images(self.images)})"

    @property
    def made_of(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Classes [B, P] and images [B, P, H, W, C] of P things an image, if known."""
        return None


@dataclass(frozen=True, eq=False)
class Split:
    """images uint8, or float32 in [0, 1], [N, H, W, C]; labels, whole numbers, [N].

    A data set with an augmentation of its own brings a subclass: `draw` makes what is random
    about an epoch, `batch` applies it. Raises DataError for arrays that are something else.

    Attributes:
        augment: What is random in training, as `TrainingSpec.augment` names it.
        augmentations: The names that a kind of split has.
    """

    images: np.ndarray
    labels: np.ndarray
    augment: str = field(default="shift", kw_only=True)

    augmentations: ClassVar[tuple[str, ...]] = ("shift", "efficient", "deepcaps")

    def __post_init__(self) -> None:
        check_images(self.images, "images")
        if self.augment not in self.augmentations:
            raise DataError(
                f"augment is {self.augment!r}; expected {' or '.join(self.augmentations)}, as "
                "these images have an augmentation of their own"
            )
        object.__setattr__(self, "labels", check_labels(self.labels, len(self.images), "labels"))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_images(self.images)}, augmented by {self.augment})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of the images that `batch` makes."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def draw(self, random: np.random.Generator, shift: int) -> np.ndarray:
        """The random numbers of an epoch, [N, ...].

        Here (down, right), [N, 2], uniform over the whole numbers from -shift to shift, or the rows
        of `distortion.draw` or `affine.draw`.
        """
        if self.augment == "deepcaps":
            return affine.draw(random, len(self))
        height, width, _ = self.shape
        if self.augment == "efficient":
            if min(height, width) < distortion.SMALLEST:
                raise DataError(
                    f"augment is 'efficient' and images are {height}x{width}; expected at least "
                    f"{distortion.SMALLEST}x{distortion.SMALLEST}, or it has no room"
                )
            return distortion.draw(random, len(self), height, width)
        if shift >= min(height, width):
            raise DataError(
                f"a shift of up to {shift} pixels moves images of {height}x{width} "
                f"out of the picture; use a shift below {min(height, width)}"
            )
        return random.integers(-shift, shift, (len(self), 2), endpoint=True)

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """Stored images as a network sees them: float32 in [0, 1]."""
        return pixels(images)

    def batch(self, indices: np.ndarray, drawn: np.ndarray | None = None) -> Batch:
        """The images of these indices [B], augmented by their rows of `draw`, if given."""
        images = self.images[indices]
        if drawn is not None and self.augment == "shift":
            images = translate(images, drawn)
        images = self.pixels(images)
        if drawn is not None and self.augment != "shift":
            change = {"efficient": distortion.distort, "deepcaps": affine.warp}[self.augment]
            images = change(images, drawn)
        return Batch(images, self.labels[indices], np.ones(len(images), np.float32))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Two splits of images of one shape, with labels from 0 to classes - 1.

    Warns (DataWarning) of images nearly black, and of classes never trained or never tested.

    Attributes:
        place: The folder or file they were read from, None if there is none.
        fit: As `spec.TrainedOn` has it, and so are `frame` and `things`.
        validation: Images of `train` held out of it (`holdout.hold_out`), and their `held_out`, the
            sha256 of their places.
    """

    name: str
    train: Split
    test: Split
    classes: int
    class_names: tuple[str, ...] = ()
    place: Path | None = None
    fit: str = "whole"
    frame: tuple[int, int] | None = None
    things: int = 1
    validation: Split | None = None
    held_out: str | None = None

    def __post_init__(self) -> None:
        if self.train.shape != self.test.shape:
            raise DataError(
                f"{self.name}: training images are {self.train.shape}, test images "
                f"{self.test.shape}; expected one height, width and number of channels"
            )
        for which, split in (("training", self.train), ("test", self.test)):
            outside = (split.labels < 0) | (split.labels >= self.classes)
            if outside.any():
                first = int(outside.argmax())
                from_one = (split.labels.min(), split.labels.max()) == (1, self.classes)
                raise DataError(
                    f"{self.name}: {which} label {first} is {split.labels[first]}; expected "
                    f"0 to {self.classes - 1}, as there are {self.classes} classes"
                    f"{'; subtract 1 if they count from 1' if from_one else ''}"
                )
        for doubt in (*_dark(self), *_unseen(self)):
            warnings.warn(f"{self.name}: {doubt}", DataWarning, stacklevel=3)

    def __repr__(self) -> str:
        splits = {"train": self.train, "test": self.test, "validation": self.validation}
        shown = (f"{name} {_images(s.images)}" for name, s in splits.items() if s is not None)
        return f"Dataset({self.name}: {', '.join(shown)}; {self.classes} classes)"


def alike(dataset: Dataset, **fields: Any) -> Dataset:
    """The data set with other fields; what it warned of is not said again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return dataclasses.replace(dataset, **fields)


def _images(images: np.ndarray) -> str:
    """How many images of which size and dtype: "5,000 of 28x28x1 uint8"."""
    count, *size = images.shape
    return f"{count:,} of {'x'.join(map(str, size))} {images.dtype}"


def _dark(dataset: Dataset) -> Iterator[str]:
    """What is said of images whose brightest pixel is at most a 255th of white."""
    for which, split in (("training", dataset.train), ("test", dataset.test)):
        brightest = split.images.max()
        white = 255 if split.images.dtype == np.uint8 else 1
        if brightest == 0:
            yield f"all {which} images are black: nothing can be seen in them"
        elif brightest <= np.float32(white) / np.float32(255):
            yield (
                f"no pixel of the {which} images is above {brightest:.4g}, where {white} is white: "
                "all of them are nearly black; multiply them by 255"
            )


def _unseen(dataset: Dataset) -> Iterator[str]:
    """What is said of classes of which a split has no image."""
    every = np.arange(dataset.classes)
    if dataset.classes == 1:
        yield f"there is one class alone, {_listed(dataset, every)}: every answer is right"
    untrained = np.setdiff1d(every, dataset.train.labels)
    untested = np.setdiff1d(every, dataset.test.labels)
    if not dataset.class_names and untrained.tolist() == [0] and 0 in untested:
        yield (
            f"labels go from 1 to {dataset.classes - 1}: class 0 is never trained; subtract 1, "
            "they count from 0"
        )
        untrained, untested = untrained[1:], untested[1:]
    if len(untrained):
        yield f"no training image shows {_listed(dataset, untrained)}: never trained"
    if len(untested):
        yield f"no test image shows {_listed(dataset, untested)}: the accuracy says nothing of it"


def _listed(dataset: Dataset, classes: np.ndarray, most: int = 10) -> str:
    names = dataset.class_names
    listed = ", ".join(repr(names[n]) if names else f"class {n}" for n in classes[:most])
    return listed if len(classes) <= most else f"{listed} and {len(classes) - most} more classes"


def from_arrays(
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    *,
    classes: int | None = None,
    name: str = "arrays",
) -> Dataset:
    """A data set of your own arrays, checked: images [N, H, W, C], labels [N].

    Images are uint8, or float32 in [0, 1]. Without `classes` there are as many as the largest
    training label says. Raises DataError with what came, what was expected, and the fix.
    """
    splits = []
    for which, images, labels in (
        ("train", train_images, train_labels),
        ("test", test_images, test_labels),
    ):
        images, labels = np.asarray(images), np.asarray(labels)
        check_images(images, f"{which}_images")
        splits.append(Split(images, check_labels(labels, len(images), f"{which}_labels")))
    train, test = splits
    if classes is None:
        classes = max(int(train.labels.max()), 0) + 1
    return Dataset(name, train, test, classes)


def pixels(images: np.ndarray) -> np.ndarray:
    """float32 in [0, 1]: of uint8, a 255th; float32 as it is."""
    return images / np.float32(255) if images.dtype == np.uint8 else images


def check_images(images: np.ndarray, what: str) -> None:
    """Raises DataError unless uint8, or float32 in [0, 1], [N, H, W, C]."""
    if images.ndim != 4:
        fix = "; images[..., None] adds the one channel of grey images" if images.ndim == 3 else ""
        raise DataError(
            f"{what} have shape {images.shape}; expected [N, height, width, channels]{fix}"
        )
    if images.size == 0:
        raise DataError(f"{what} have shape {images.shape}; expected at least one image and pixel")
    if images.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"{what} are {images.dtype}; expected uint8 (0 to 255) or float32 (0 to 1); "
            "use images.astype(np.float32) if they are 0 to 1, images.astype(np.uint8) if 0 to 255"
        )
    if images.dtype == np.float32:
        low, high = images.min(), images.max()  # both are NaN where any pixel is
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"{what} go from {low} to {high}; expected float32 pixels from 0 to 1; divide by "
                "255, and undo any normalisation by mean and deviation: the decoder ends in a "
                "sigmoid"
            )


def check_labels(labels: np.ndarray, count: int, what: str) -> np.ndarray:
    """The labels as int64 [N]; raise DataError unless they are `count` whole numbers."""
    if labels.shape != (count,):
        fix = "; use labels.reshape(-1)" if labels.shape == (count, 1) else ""
        raise DataError(f"{what} have shape {labels.shape}; expected ({count},), one an image{fix}")
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"{what} are {labels.dtype}; expected whole numbers; use labels.astype(np.int64)"
        )
    return labels.astype(np.int64)
