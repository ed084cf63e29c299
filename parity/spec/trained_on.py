"""What a network was trained on, as runs and weights files hold it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A split as checksums: enough to recognise it, too little to rebuild it.

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
        frame: Height and width that a picture is scaled to before its middle window, of the
            network's size, is cut out; None to scale to that size.
        things: The number of classes that each image shows.
        class_names: In the order of the class capsules, () where numbers are the names.
        train: The training split, None where it is not known.
        test: Alike.
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
        """A name for each class, in the order of the class capsules.

        Args:
            classes: The number of classes of the network.

        Returns:
            The saved `class_names`; "0", "1" and so on where there are not as many as classes.
        """
        known = len(self.class_names) == classes
        return self.class_names if known else tuple(map(str, range(classes)))
