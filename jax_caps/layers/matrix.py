"""Capsules with matrices for poses: votes of the children of windows, then routing.

Axes: B batch, P parent places, M places of a window, T types of children, I = M T, J output
capsules, D size of a pose, X Y Z rows and columns of matrices, H W a grid of capsules.
"""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from jax_caps import routing
from jax_caps.capsules import Capsules, Tap, no_tap
from jax_caps.convolution import windows
from jax_caps.layers.stem import parameter
from parity.spec import Hinton2018


class MatrixCapsules(nnx.Module):
    """Votes of a window's children, each pose times a matrix of its own, then routing.

    The classes see the whole grid, by one matrix for each pair of types at all places; the place
    of a child is added to its votes for them.

    Args:
        spec: The network.
        number: Of this layer; the last is that of the classes.
        lean: Whether a batch too large for its votes is routed by blocks of images, whose votes are
            made again for the gradient, instead of stored.
        block: Images of a block, at most, as blocks are of one size; None for those that have their
            votes in a core's cache, or in 128 MiB on a GPU.
    """

    kernel: nnx.Param

    def __init__(self, spec: Hinton2018, number: int, lean: bool = True, block: int | None = None):
        rows, name = spec.tensors(), f"capsule.{number}"
        self.window, self.side = spec.windows[number], spec.side
        self.last, self.routing = number == len(spec.capsules), spec.routing
        for own in ("kernel", *spec.routing.owned):
            setattr(self, own, parameter(*rows[f"{name}.{own}"].shape))
        self.spec, self.lean, self.block = spec, lean, block
        if self.last:
            self.routing = replace(self.routing, **spec.class_options)

    def __call__(self, children: Capsules, name: str, tap: Tap = no_tap) -> Capsules:
        """The parents.

        Args:
            children: Poses [B, H, W, T, D] and activations [B, H, W, T].
            name: Of this layer in the table of weights.
            tap: Sees NAME.votes and what the routing shows, under NAME but for the classes.

        Returns:
            Poses [B, H', W', J, D] and activations [B, H', W', J]; of classes [B, J, D] and [B, J].
        """
        assert children.poses is not None
        assert children.activations is not None
        given = children.poses, children.activations
        block = self._images(children.poses)
        if tap is not no_tap or not self.lean or block >= len(children.poses):
            return Capsules(*self._route(*given, name, tap))
        return Capsules(*_by_images(self._route, block, *given))

    def _images(self, poses_BHWTD: Array) -> int:
        """Images of a block: as many as have their votes in a core's cache, or in 128 MiB."""
        numbers = math.prod(self.window.places) * math.prod(self.window.kernel)
        numbers *= poses_BHWTD.shape[3] * self.kernel.shape[-3] * self.spec.pose
        fits = 2**21 if jax.default_backend() == "cpu" else 2**27
        return self.block or max(1, fits // (numbers * poses_BHWTD.dtype.itemsize))

    def _route(
        self, poses_BHWTD: Array, activations_BHWT: Array, name: str = "", tap: Tap = no_tap
    ) -> tuple[Array, Array]:
        """Poses and activations of the parents."""
        votes, window = self._votes(poses_BHWTD), self.window
        shown = windows(activations_BHWT, window.kernel, window.stride)
        activations = shown.reshape(votes.shape[:3])
        owned = {
            own.argument(key): getattr(self, key)[...] for key, own in self.routing.owned.items()
        }
        options = {**owned, **self.routing.options}
        route = getattr(routing, self.routing.name)
        if self.last:
            votes_BIJD = tap(f"{name}.votes", votes[:, 0])
            return route(votes_BIJD, activations[:, 0], **options, tap=tap)[:2]
        votes = tap(f"{name}.votes", votes)
        inner = no_tap if tap is no_tap else lambda key, x: tap(f"{name}.{key}", x)
        poses, activations, _ = route(votes, activations, window=window, **options, tap=inner)
        grid = (votes.shape[0], *window.places)
        poses = poses.reshape(*grid, *poses.shape[2:])
        return poses, activations.reshape(poses.shape[:-1])

    def _votes(self, poses_BHWTD: Array) -> Array:
        """[B, P, I, J, D]: the pose on the left of a matrix that places share, and the batch."""
        shown = windows(poses_BHWTD, self.window.kernel, self.window.stride)
        rows, columns, size, types = shown.shape[1:5]
        shape = (shown.shape[0], rows * columns, size, types, self.side, self.side)
        seen, kernel = shown.reshape(shape), self.kernel[...]
        if self.last:
            votes = jnp.einsum("bpmtxy,tjyz->bpjmtxz", seen, kernel)
        else:
            kernel = kernel.reshape(size, *kernel.shape[2:])
            votes = jnp.einsum("bpmtxy,mtjyz->bpjmtxz", seen, kernel)
        if self.last and self.spec.coordinates:
            added_MXZ = jnp.asarray(coordinates(self.spec), votes.dtype)
            votes = votes + added_MXZ[None, None, None, :, None]
        votes_BPJID = votes.reshape(*votes.shape[:3], size * types, -1)
        return votes_BPJID.swapaxes(2, 3)


def _by_images(function: Any, size: int, *tensors: Array) -> list[Array]:
    """A function of some images at a time, computed again for the gradient."""
    batch = len(tensors[0])
    size = next(each for each in range(min(size, batch), 0, -1) if batch % each == 0)
    parts = tuple(tensor.reshape(-1, size, *tensor.shape[1:]) for tensor in tensors)
    made = lax.map(lambda part: jax.checkpoint(function)(*part), parts)
    return [each.reshape(batch, *each.shape[2:]) for each in made]


def coordinates(spec: Hinton2018) -> np.ndarray:
    """What is added to a vote for the classes from each place of the grid, [M, X, Z]."""
    rows, columns = (np.array(each) for each in spec.places)
    added = np.zeros((len(rows), len(columns), spec.side, spec.side))
    for values, at in ((rows[:, None], spec.row_element), (columns[None], spec.column_element)):
        added[:, :, at[0], at[1]] = values
    return added.reshape(-1, spec.side, spec.side)
