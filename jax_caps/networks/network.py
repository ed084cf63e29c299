"""What every network of this wing does besides its layers: losses, answers, reconstructions.

Axes: B batch, J classes, D size of a pose, P parts of a picture, H W C image.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps import losses
from jax_caps.arrays import concrete, given
from jax_caps.capsules import Capsules, Tap, lengths, longest, no_tap
from jax_caps.layers import DigitCapsules, mask
from jax_caps.norm import Total
from jax_caps.numerics import build, dtypes
from parity.spec import NetworkSpec, Precision, SpecError, check_images, check_parts, check_targets


class Network(nnx.Module):
    """A capsule network; a subclass holds the layers of a paper, and puts them together.

    Sets strict numerics for the process, once (`numerics.build`; `numerics.restore` undoes it).

    Args:
        spec: What the network is.
        precision: As in `parity.spec.PRECISIONS`.
    """

    stem: Any
    primary: Any
    digit: DigitCapsules
    decoder: Any

    def __init__(self, spec: NetworkSpec, precision: Precision):
        build()
        self.spec = spec
        self.precision: Precision = precision
        self.dtype = dtypes(precision)[0]

    def __repr__(self) -> str:
        layers = (f"  ({n}): {x!r}\n" for n, x in vars(self).items() if isinstance(x, nnx.Module))
        return f"{type(self).__name__}(\n{''.join(layers)})"

    __str__ = __repr__

    def __call__(self, images_BHWC: Any, tap: Tap = no_tap) -> Array:
        """Images in [0, 1], floating [B, H, W, C] -> class capsules [B, J, D].

        Of class capsules without poses their activations [B, J].
        """
        capsules = self.capsules(images_BHWC, tap=tap)[0]
        poses = capsules.activations if capsules.poses is None else capsules.poses
        assert poses is not None
        return poses

    def capsules(
        self,
        images_BHWC: Any,
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Capsules, dict[str, Array]]:
        """The class capsules of images, and the state that a training step leaves.

        The network stays as it is: a Trainer puts the new state into it.

        Args:
            images_BHWC: Floating, in 0 to 1.
            train: Whether this is a training step, for networks where that differs.
            tap: Sees, and may replace, each tensor by its name.
            total: The sum of a tensor over the processes that share a batch; None for one process.

        Returns:
            Capsules of poses [B, J, D], or None, and activations [B, J], or None; and new state by
            the names of its rows, {} in evaluation and where a network has none.

        Raises:
            SpecError: Where images do not fit the network.
        """
        return self._encode(tap("image", self.images(images_BHWC)), train, tap, total)

    def _encode(
        self, x_BHWC: Array, train: bool, tap: Tap, total: Total | None
    ) -> tuple[Capsules, dict[str, Array]]:
        """The class capsules of checked images, and new state; arguments as of `capsules`."""
        raise NotImplementedError

    def convolutions(self) -> dict[str, Any]:
        """The layers that convolve, by name, as `NetworkSpec.convolutions` has their sizes."""
        layers = [*self.stem, self.primary]  # a depthwise primary layer, the last, has no name
        return dict(zip(self.spec.convolutions(), layers, strict=False))

    def scores(self, images_BHWC: Any) -> Array:
        """What accuracy ranks: lengths or activations of the class capsules, [B, J]."""
        return self.ranked(self.capsules(images_BHWC)[0])

    def ranked(self, capsules: Capsules) -> Array:
        """What accuracy ranks of class capsules: their activations, or the lengths of poses."""
        if capsules.activations is not None:
            return capsules.activations
        assert capsules.poses is not None
        return lengths(capsules.poses, self.spec.length_epsilon, self.spec.length_offset)

    def reconstruct(self, poses_BJD: Array, labels: Any) -> Array:
        """The decoder's images, from the capsules of the labels alone.

        Args:
            poses_BJD: Class capsules, as a call of the network returns them.
            labels: Integers [B], or [B, P] for an image of each of P labels.

        Returns:
            Images [B, H, W, C], or [B, P, H, W, C], each from one capsule: in 0 to 1, or of at
            least 0 where a decoder ends in relu.

        Raises:
            SpecError: Where the network has no decoder.
        """
        if self.decoder is None:
            raise SpecError("this network has no decoder; build it from a spec with one")
        labels = given(labels)
        if labels.ndim == 1:
            return self._decode(mask(poses_BJD, labels))[0]
        images = [self._decode(mask(poses_BJD, labels_B))[0] for labels_B in labels.T]
        return jnp.stack(images, 1)

    def _decode(
        self,
        masked_BJD: Array,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """The decoder's images, and the state that a training step leaves in it."""
        return self.decoder(masked_BJD), {}

    def predict(self, images_BHWC: Any, count: int = 1) -> Array:
        """The class of the longest capsule of each image, int [B].

        Where `count` is above 1, those of the `count` longest, [B, count], the longest first.
        Raises SpecError unless `count` is 1 to the number of classes.
        """
        if not 1 <= count <= self.spec.classes:
            raise SpecError(f"count is {count}; expected 1 to {self.spec.classes}, the classes")
        scores_BJ = self.scores(images_BHWC)
        if count == 1:
            return scores_BJ.argmax(-1)
        return longest(scores_BJ, count)

    def terms(
        self,
        images_BHWC: Any,
        targets: Any,
        tap: Tap = no_tap,
        parts: Any = None,
        *,
        train: bool = False,
        total: Total | None = None,
        margin: Any = None,
    ) -> dict[str, Any]:
        """The losses of each sample, not yet weighted, and whether it is right.

        Args:
            images_BHWC: Floating, in 0 to 1.
            targets: Integer labels [B], or 0/1 [B, J] where several classes may be present; the
                reconstruction is of the image, from their capsules.
            tap: Sees, and may replace, each tensor by its name.
            parts: What each image is made of: labels int [B, P] and each alone [B, P, H, W, C];
                then there is a reconstruction of each, from the capsule of its label.
            train: Whether this is a training step, as in `capsules`.
            total: As in `capsules`.
            margin: Of a spread loss, or the three numbers of a margin loss (positive, negative,
                down_weight); None for the spec's.

        Returns:
            `classes` (by the spec's loss), `correct` (0 or 1) and, with a decoder,
            `reconstruction`, each [B]; in training also `state`, new state by the names of its
            rows.

        Raises:
            SpecError: Where images, targets or parts do not fit the network.
        """
        images = tap("image", self.images(images_BHWC))
        # Looked at before JAX cuts 64 bits down to 32, where 2**40 would be class 0.
        check_targets(concrete(targets), self.spec.classes, len(images))
        targets = given(targets)
        # The class capsules, whose lengths or activations say which classes are present.
        capsules, state = self._encode(images, train, tap, total)
        poses, scores_BJ = capsules.poses, self._scored(capsules, tap)
        terms: dict[str, Any] = {
            "classes": self._classes(scores_BJ, targets, margin),
            "correct": losses.correct_each(scores_BJ, targets),
        }
        # The decoder, from the capsules of the labels, in evaluation too.
        if self.decoder is not None:
            assert poses is not None
            goal = images
            if parts is not None:  # a picture for each of them, in one batch
                labels, goal = self.parts(parts, len(images))
                poses, targets = jnp.repeat(poses, labels.shape[1], 0), labels.reshape(-1)
            decoded, new = self._decode(mask(poses, targets), train, tap, total)
            state = {**state, **new}
            decoded = tap("reconstruction", decoded.reshape(goal.shape))
            terms["reconstruction"] = losses.reconstruction_each(decoded, goal)
        return {**terms, "state": state} if train else terms

    def _scored(self, capsules: Capsules, tap: Tap) -> Array:
        """What the loss of the classes takes: lengths, or activations or their logarithms."""
        if capsules.log_activations is not None:
            return capsules.log_activations
        if capsules.activations is not None:
            return capsules.activations
        assert capsules.poses is not None
        how = self.spec.length_epsilon, self.spec.length_offset
        return tap("lengths", lengths(capsules.poses, *how))

    def _classes(self, scores_BJ: Array, targets: Array, margin: Any) -> Array:
        """The loss of each sample's class capsules by the spec, not yet of the batch."""
        loss = self.spec.loss
        if loss.kind == "spread":
            margin = loss.spread if margin is None else margin
            return losses.spread_each(scores_BJ, targets, margin=margin)
        if loss.kind == "negative_log_likelihood":
            return losses.negative_log_likelihood_each(scores_BJ, targets)
        if loss.kind == "cross_entropy":
            return losses.cross_entropy_each(scores_BJ, targets)
        own = loss.positive, loss.negative, loss.down_weight
        positive, negative, down_weight = own if margin is None else margin
        return losses.margin_each(
            scores_BJ,
            targets,
            positive=positive,
            negative=negative,
            down_weight=down_weight,
            scale=self.spec.margin_scale,
        )

    def weigh(self, terms: dict[str, Any], tap: Tap = no_tap) -> tuple[Array, Array]:
        """The loss of a batch, classes and weighted reconstruction, and accuracy, of `terms`."""
        loss = tap(f"loss.{self.spec.loss.kind}", terms["classes"].mean())
        if "reconstruction" in terms:
            reconstruction = tap("loss.reconstruction", terms["reconstruction"].mean())
            loss = loss + self.spec.loss.reconstruction * reconstruction
        return tap("loss", loss), terms["correct"].mean()

    def loss(
        self,
        images_BHWC: Any,
        targets: Any,
        tap: Tap = no_tap,
        parts: Any = None,
        *,
        train: bool = False,
    ) -> tuple[Array, Array]:
        """The loss of a batch (classes and weighted reconstruction) and its accuracy.

        Arguments are those of `terms`.
        """
        return self.weigh(self.terms(images_BHWC, targets, tap, parts, train=train), tap)

    def images(self, images_BHWC: Any) -> Array:
        """Images in this network's dtype; SpecError where they do not fit."""
        check_images(images_BHWC, self.spec)
        return jnp.asarray(images_BHWC, self.dtype)

    def parts(self, parts: Any, batch: int) -> tuple[Array, Array]:
        """The parts of `terms`, checked: labels [B, P] and images [B, P, H, W, C]."""
        labels, images = parts
        check_parts(concrete(labels), images, batch, self.spec)
        return given(labels), jnp.asarray(images, self.dtype)
