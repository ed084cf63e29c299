"""The losses of a network and their weights."""

from dataclasses import dataclass, field

from parity.spec.checks import FROM_ZERO, check, fields, normalise, require
from parity.spec.plain import LATER

# Of the class capsules: by their lengths, or by their activations.
LOSSES = ("margin", "negative_log_likelihood", "spread", "cross_entropy")


@dataclass(frozen=True)
class Loss:
    """A loss of the class capsules plus `reconstruction` times the sum of squared errors.

    The first is by default the margin loss (Eq. 4), which alone has the numbers before
    `reconstruction`. With `class_mean`, it is also divided by the number of classes: the authors'
    code, with a `scale` of 0.5, is the paper's loss over 20 for ten classes.

    Attributes:
        kind: "margin" of lengths; of activations "negative_log_likelihood", where they sum to 1,
            "spread", or "cross_entropy", which takes them for logits.
        spread: The spread loss's margin, outside of a training and where a training has no other.
    """

    positive: float = 0.9
    negative: float = 0.1
    down_weight: float = 0.5
    scale: float = 1.0
    class_mean: bool = False
    reconstruction: float = 0.0005
    kind: str = field(default="margin", metadata=LATER)
    spread: float = field(default=0.9, metadata=LATER)

    def __post_init__(self) -> None:
        normalise(self)
        numbers = fields(self, "positive negative down_weight scale reconstruction spread")
        check("loss", FROM_ZERO, **numbers)
        known = ", ".join(LOSSES)
        require(self.kind in LOSSES, f"loss: kind is {self.kind!r}; expected one of {known}")
