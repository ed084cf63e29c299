"""Capsules with matrices for poses: votes of the children of windows, then routing.

Axes: B batch, P parent places, M places of a window, T types of children, I = M T, J output
capsules, D size of a pose, X Y Z rows and columns of matrices, H W a grid of capsules.
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

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
    """

    kernel: nnx.Param

    def __init__(self, spec: Hinton2018, number: int):
        rows, name = spec.tensors(), f"capsule.{number}"
        self.window, self.side = spec.windows[number], spec.side
        self.last, self.routing = number == len(spec.capsules), spec.routing
        for own in ("kernel", *spec.routing.owned):
            setattr(self, own, parameter(*rows[f"{name}.{own}"].shape))
        self.spec = spec
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
        votes = self._votes(children.poses)
        window = self.window
        shown = windows(children.activations, window.kernel, window.stride)
        activations = shown.reshape(votes.shape[:3])
        owned = {
            own.argument(key): getattr(self, key)[...] for key, own in self.routing.owned.items()
        }
        options = {**owned, **self.routing.options}
        route = getattr(routing, self.routing.name)
        if self.last:
            votes_BIJD = tap(f"{name}.votes", votes[:, 0])
            poses, activations, _ = route(votes_BIJD, activations[:, 0], **options, tap=tap)
            return Capsules(poses, activations)
        votes = tap(f"{name}.votes", votes)
        inner = no_tap if tap is no_tap else lambda key, x: tap(f"{name}.{key}", x)
        poses, activations, _ = route(votes, activations, window=window, **options, tap=inner)
        grid = (votes.shape[0], *window.places)
        return Capsules(
            poses.reshape(*grid, *poses.shape[2:]), activations.reshape(*grid, *poses.shape[2:3])
        )

    def _votes(self, poses_BHWTD: Array) -> Array:
        """[B, P, I, J, D]: the pose on the left of a matrix that places share, and the batch."""
        shown = windows(poses_BHWTD, self.window.kernel, self.window.stride)
        rows, columns, size, types = shown.shape[1:5]
        shape = (shown.shape[0], rows * columns, size, types, self.side, self.side)
        seen, kernel = shown.reshape(shape), self.kernel[...]
        if self.last:
            votes = jnp.einsum("bpmtxy,tjyz->bpmtjxz", seen, kernel)
        else:
            kernel = kernel.reshape(size, *kernel.shape[2:])
            votes = jnp.einsum("bpmtxy,mtjyz->bpmtjxz", seen, kernel)
        if self.last and self.spec.coordinates:
            added_MXZ = jnp.asarray(coordinates(self.spec), votes.dtype)
            votes = votes + added_MXZ[None, None, :, None, None]
        return votes.reshape(*votes.shape[:2], size * types, votes.shape[4], -1)


def coordinates(spec: Hinton2018) -> np.ndarray:
    """What is added to a vote for the classes from each place of the grid, [M, X, Z]."""
    rows, columns = (np.array(each) for each in spec.places)
    added = np.zeros((len(rows), len(columns), spec.side, spec.side))
    for values, at in ((rows[:, None], spec.row_element), (columns[None], spec.column_element)):
        added[:, :, at[0], at[1]] = values
    return added.reshape(-1, spec.side, spec.side)
