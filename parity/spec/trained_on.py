"""What a network was trained on, as runs and weights files hold it, so that nobody has to guess."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A split as it was: enough to tell it from another, and too little to rebuild it.

    Attributes:
        count: Images.
        labels: sha256 of all labels, int64 in their order.
        pixels: sha256 of images spread evenly over the split, float32 as a network sees them.
    """

    count: int
    labels: str
    pixels: str


@dataclass(frozen=True)
class TrainedOn:
    """What decides the meaning of a network's inputs and outputs.

    Attributes:
        dataset: The data set's name, "" where it is not known.
        fit: How a picture becomes an image of the network (`parity/predict/fit.py`).
        frame: Height and width a picture is brought to before its middle, of the network's size, is
            taken; None where the whole picture is.
        things: Classes that each image shows.
        class_names: In the order of the class capsules, () where numbers are the names.
        train, test: The two splits, None where they are not known.
        validation: sha256 of the places of the images held out for validation, int64, None without.
    """

    dataset: str = ""
    fit: str = "whole"
    frame: tuple[int, int] | None = None
    things: int = 1
    class_names: tuple[str, ...] = ()
    train: Sample | None = None
    test: Sample | None = None
    validation: str | None = None

    def names(self, classes: int) -> tuple[str, ...]:
        """A name for each class: those saved where their number is right, else numbers."""
        known = len(self.class_names) == classes
        return self.class_names if known else tuple(map(str, range(classes)))
