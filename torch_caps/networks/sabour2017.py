"""CapsuleNetwork: the network of 2017, its layers put together.

Axes: B batch, J classes, D size of a pose, P parts of a picture, H W C image.
"""

from typing import Any

import torch
from torch import Tensor, nn

from parity.spec import NetworkSpec, SpecError, check_images, check_parts, check_targets
from parity.weights import draw
from torch_caps import losses
from torch_caps.arrays import concrete, from_numpy, given
from torch_caps.capsules import Tap, lengths, no_tap
from torch_caps.layers import Decoder, DigitCapsules, PrimaryCapsules, Stem, mask
from torch_caps.numerics import build, dtypes


class CapsuleNetwork(nn.Module):
    """A capsule network (Sabour, Frosst, Hinton 2017, figures 1 and 2) of any size.

    Sets strict numerics for the process, once (`numerics.build`; `numerics.restore` undoes it).

    Args:
        spec: What the network is: `parity.spec.preset("sabour2017")`, or your own.
        seed: Of the first weights, the same in both wings.
        precision: float32, float64, or bfloat16: convolutions and decoder in bfloat16, all else
            in float32.
        lean: Whether to route without storing the votes; False keeps the step by step routing.
        block: Input capsules a block of lean routing; None chooses from the sizes.

    Raises:
        SpecError: Where the precision is unknown.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        seed: int = 0,
        precision: str = "float32",
        lean: bool = True,
        block: int | None = None,
    ):
        build()
        super().__init__()
        self.spec, self.precision = spec, precision
        dtype, compute = dtypes(precision)
        self.stem = Stem(spec, compute)
        self.primary = PrimaryCapsules(spec, compute)
        self.digit = DigitCapsules(spec, lean, block)
        self.decoder = Decoder(spec, compute) if spec.decoder is not None else None
        self.to(dtype)
        from_numpy(self, draw(spec, seed))

    def forward(self, images_BHWC: Any, tap: Tap = no_tap) -> Tensor:
        """Images in [0, 1], floating [B, H, W, C] -> class capsules [B, J, D]."""
        return self._encode(tap("image", self.images(images_BHWC)), tap)

    def _encode(self, x_BHWC: Tensor, tap: Tap) -> Tensor:
        return self.digit(self.primary(self.stem(x_BHWC, tap), tap), tap)

    def reconstruct(self, poses_BJD: Tensor, labels: Any) -> Tensor:
        """The decoder's images, from the capsules of the labels alone.

        Args:
            poses_BJD: Class capsules, as a call of the network returns them.
            labels: Integers [B], or [B, P] for an image of each of P labels.

        Returns:
            Images [B, H, W, C], or [B, P, H, W, C], in 0 to 1, each from one capsule.

        Raises:
            SpecError: Where the network has no decoder.
        """
        if self.decoder is None:
            raise SpecError("this network has no decoder; build it from a spec with one")
        labels = given(labels).to(poses_BJD.device)
        if labels.ndim == 1:
            return self.decoder(mask(poses_BJD, labels))
        images = [self.decoder(mask(poses_BJD, labels_B)) for labels_B in labels.unbind(1)]
        return torch.stack(images, 1)

    def predict(self, images_BHWC: Any, count: int = 1) -> Tensor:
        """The class of the longest capsule of each image, int [B].

        Where `count` is above 1, those of the `count` longest, [B, count], the longest first.
        Raises SpecError unless `count` is 1 to the number of classes.
        """
        if not 1 <= count <= self.spec.classes:
            raise SpecError(f"count is {count}; expected 1 to {self.spec.classes}, the classes")
        lengths_BJ = lengths(self(images_BHWC))
        if count == 1:
            return lengths_BJ.argmax(-1)
        # Stable: of equal lengths the first class comes first, as in argmax.
        return lengths_BJ.argsort(dim=-1, descending=True, stable=True)[:, :count]

    def terms(
        self, images_BHWC: Any, targets: Any, tap: Tap = no_tap, parts: Any = None
    ) -> dict[str, Tensor]:
        """The losses of each sample, not yet weighted, and whether it is right.

        Args:
            images_BHWC: Floating, in 0 to 1.
            targets: Integer labels [B], or 0/1 [B, J] where several classes may be present; the
                reconstruction is of the image, from their capsules.
            tap: Sees, and may replace, each tensor by its name.
            parts: What each image is made of: labels int [B, P] and each alone [B, P, H, W, C];
                then there is a reconstruction of each, from the capsule of its label.

        Returns:
            `margin`, `correct` (0 or 1) and, with a decoder, `reconstruction`, each [B].

        Raises:
            SpecError: Where images, targets or parts do not fit the network.
        """
        images = tap("image", self.images(images_BHWC))
        check_targets(concrete(targets), self.spec.classes, len(images))
        targets = given(targets).to(images.device)
        # Figure 1: the class capsules, whose lengths say which classes are present.
        poses = self._encode(images, tap)
        lengths_BJ = tap("lengths", lengths(poses))
        terms = {
            "margin": losses.margin_each(
                lengths_BJ,
                targets,
                positive=self.spec.loss.positive,
                negative=self.spec.loss.negative,
                down_weight=self.spec.loss.down_weight,
                scale=self.spec.margin_scale,
            ),
            "correct": losses.correct_each(lengths_BJ.detach(), targets),
        }
        # Figure 2: the decoder, from the capsules of the labels, in evaluation too (section 4.1).
        if self.decoder is not None:
            if parts is None:
                goal, decoded = images, self.decoder(mask(poses, targets))
            else:
                labels, goal = self.parts(parts, len(images))
                decoded = self.reconstruct(poses, labels)
            decoded = tap("reconstruction", decoded)
            terms["reconstruction"] = losses.reconstruction_each(decoded, goal)
        return terms

    def loss(
        self, images_BHWC: Any, targets: Any, tap: Tap = no_tap, parts: Any = None
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch (margin and weighted reconstruction) and its accuracy.

        Arguments are those of `terms`.
        """
        terms = self.terms(images_BHWC, targets, tap, parts)
        loss = tap("loss.margin", terms["margin"].mean())
        if "reconstruction" in terms:
            reconstruction = tap("loss.reconstruction", terms["reconstruction"].mean())
            loss = loss + self.spec.loss.reconstruction * reconstruction
        return tap("loss", loss), terms["correct"].mean()

    def images(self, images_BHWC: Any) -> Tensor:
        """Images in this network's dtype, on its device; SpecError where they do not fit."""
        check_images(images_BHWC, self.spec)
        return given(images_BHWC).to(self.digit.kernel)

    def parts(self, parts: Any, batch: int) -> tuple[Tensor, Tensor]:
        """The parts of `terms`, checked: labels [B, P] and images [B, P, H, W, C]."""
        labels, images = parts
        check_parts(concrete(labels), images, batch, self.spec)
        images = given(images).to(self.digit.kernel)
        return given(labels).to(images.device), images
