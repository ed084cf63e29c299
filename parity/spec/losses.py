"""The losses of a network and their weights."""

from dataclasses import dataclass

from parity.spec.checks import FROM_ZERO, check, fields, normalise


@dataclass(frozen=True)
class Loss:
    """Margin loss (Eq. 4) plus `reconstruction` times the sum of squared errors.

    With `class_mean`, the margin loss is also divided by the number of classes: the authors'
    code, with a `scale` of 0.5, is the paper's loss over 20 for ten classes.
    """

    positive: float = 0.9
    negative: float = 0.1
    down_weight: float = 0.5
    scale: float = 1.0
    class_mean: bool = False
    reconstruction: float = 0.0005

    def __post_init__(self) -> None:
        normalise(self)
        numbers = fields(self, "positive negative down_weight scale reconstruction")
        check("loss", FROM_ZERO, **numbers)
