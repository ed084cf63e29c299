"""Capsules with matrices for poses: votes of the children of windows, routing, and norms after it.

Axes: B batch, P parent places, M places of a window, T types of children, I = M T, J output
capsules, D size of a pose, X Y Z rows and columns of matrices, H W a grid of capsules.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from parity.spec import Matrix, Method, Ribeiro2020
from torch_caps import routing
from torch_caps.capsules import Capsules, Tap, no_tap
from torch_caps.convolution import windows
from torch_caps.layers.norm import Norm, State, normalised
from torch_caps.layers.stem import Conv, parameter
from torch_caps.norm import Total
from torch_caps.numerics import _uncompiled


class MatrixCapsules(nn.Module):
    """Votes of a window's children, each pose times a matrix of its own, then routing.

    The classes see the whole grid, by one matrix for each pair of types at all places; the place
    of a child is added to its votes for them.

    Args:
        spec: The network.
        number: Of this layer; the last is that of the classes.
        lean: Whether a batch too large for its votes is routed by blocks of images, whose votes are
            made again for the gradient, instead of stored.
        block: Images of a block; None for those that have their votes in 128 MiB.
    """

    kernel: Tensor
    _FITS = 2**27  # on a CPU

    def __init__(self, spec: Matrix, number: int, lean: bool = True, block: int | None = None):
        super().__init__()
        rows, name = spec.tensors(), f"capsule.{number}"
        self.window, self.side = spec.windows[number], spec.side
        self.last, self.routing = number == len(spec.capsules), spec.routing
        for own in ("kernel", *spec.routing.owned):
            setattr(self, own, parameter(*rows[f"{name}.{own}"].shape))
        self.spec, self.lean, self.block = spec, lean, block
        if self.last:
            self.routing = replace(self.routing, **spec.class_options)

    def forward(
        self, children: Capsules, name: str, tap: Tap = no_tap, *, fixed: bool = False
    ) -> Capsules:
        """The parents.

        Args:
            children: Poses [B, H, W, T, D] and activations [B, H, W, T].
            name: Of this layer in the table of weights.
            tap: Sees NAME.votes and what the routing shows, under NAME but for the classes.
            fixed: Whether what the routing owns has a gradient of exactly 0.

        Returns:
            Poses [B, H', W', J, D] and activations [B, H', W', J]; of classes [B, J, D] and [B, J].
        """
        assert children.poses is not None
        assert children.activations is not None
        given = children.poses, children.activations
        block = self._images(children.poses)
        if tap is not no_tap or not self.lean or block >= len(children.poses):
            return Capsules(*self._route(*given, name, tap, fixed))
        return Capsules(*_by_images(partial(self._route, fixed=fixed), block, *given))

    def _images(self, poses_BHWTD: Tensor) -> int:
        """Images of a block: as many as have their votes in `_FITS` bytes, or in 128 MiB."""
        numbers = math.prod(self.window.places) * math.prod(self.window.kernel)
        numbers *= poses_BHWTD.shape[3] * self.kernel.shape[-3] * self.spec.pose
        fits = self._FITS if poses_BHWTD.device.type == "cpu" else 2**27
        return self.block or max(1, fits // (numbers * poses_BHWTD.element_size()))

    def _route(
        self,
        poses_BHWTD: Tensor,
        activations_BHWT: Tensor,
        name: str = "",
        tap: Tap = no_tap,
        fixed: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Poses and activations of the parents."""
        votes, window = self._votes(poses_BHWTD), self.window
        shown = windows(activations_BHWT, window.kernel, window.stride)
        activations = shown.reshape(votes.shape[:3])
        owned = {own.argument(key): getattr(self, key) for key, own in self.routing.owned.items()}
        if fixed:  # not None, which optimisers and processes do not take for 0
            owned = {key: x.detach() + 0 * x for key, x in owned.items()}
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

    def _votes(self, poses_BHWTD: Tensor) -> Tensor:
        """[B, P, I, J, D]: the pose on the left of a matrix that places share, and the batch."""
        shown = windows(poses_BHWTD, self.window.kernel, self.window.stride)
        rows, columns, size, types = shown.shape[1:5]
        shape = (shown.shape[0], rows * columns, size, types, self.side, self.side)
        seen, kernel = shown.reshape(shape), self.kernel
        if self.last and self.spec.shared:
            votes = torch.einsum("bpmtxy,tjyz->bpjmtxz", seen, kernel)
        else:
            kernel = kernel.reshape(size, *kernel.shape[2:])
            votes = torch.einsum("bpmtxy,mtjyz->bpjmtxz", seen, kernel)
        if self.last and self.spec.coordinates:
            added_MXZ = votes.new_tensor(coordinates(self.spec).tolist())
            votes = votes + added_MXZ[:, None]
        # In memory the votes for a parent are together, as the routing reads them.
        votes_BPJID = votes.reshape(*votes.shape[:3], size * types, -1)
        return votes_BPJID.transpose(2, 3)


def _eager(function: Any, size: int, *tensors: Tensor) -> list[Tensor]:
    """A function of some images at a time, computed again for the gradient."""
    parts = zip(*(tensor.split(size) for tensor in tensors), strict=True)
    how: Any = {"use_reentrant": False, "preserve_rng_state": False}
    made = [checkpoint(function, *part, **how) for part in parts]
    return [torch.cat(each) for each in zip(*made, strict=True)]


# A compiler would write out every block.
_by_images = _uncompiled(_eager)


class NormalMatrixCapsules(MatrixCapsules):
    """Matrix capsules whose routing gives logits of activations, with norms of these and of poses.

    Args:
        spec: The network.
        number: Of this layer; the last is that of the classes.
        lean: As in `MatrixCapsules`.
        block: Alike, or those that have their votes in 16 MiB on a CPU.
    """

    _FITS = 2**24  # the gradient keeps a dozen tensors as large as the votes, where EM's makes them

    def __init__(self, spec: Ribeiro2020, number: int, lean: bool = True, block: int | None = None):
        super().__init__(spec, number, lean, block)
        types = self.kernel.shape[-3]
        self.norm = Norm(spec.norm, types, affine=False)
        self.activation = nn.ModuleDict({"norm": Norm(spec.norm, types, affine=False)})

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        children: Capsules,
        name: str,
        tap: Tap = no_tap,
        *,
        train: bool = False,
        total: Total | None = None,
    ) -> tuple[Capsules, State]:
        """The parents and new running numbers, by the names of their rows.

        Args:
            children: Poses [B, H, W, T, D] and activations [B, H, W, T].
            name: Of this layer in the table of weights.
            tap: Sees what it sees of `MatrixCapsules`, and NAME.norm, NAME.activation.norm,
                NAME.activations and new running numbers.
            train: Whether this is a training step.
            total: The sum over processes, as in `norm.batch`.

        Returns:
            Capsules of the shapes of `MatrixCapsules`, and state.
        """
        how: Any = {"train": train, "tap": tap, "total": total}
        # In training the norm takes both betas away: what a gradient has of them is rounding, of
        # which Adam would make steps.
        poses, logits, _ = super().forward(children, name, tap, fixed=train)
        assert poses is not None
        assert logits is not None
        # A type over all images, places and components; and its activation over images and places.
        poses, state = normalised(self.norm, poses.transpose(-1, -2), f"{name}.norm", **how)
        norm: Any = self.activation["norm"]
        logits, more = normalised(norm, logits, f"{name}.activation.norm", **how)
        activations = tap(f"{name}.activations", logits.sigmoid())
        return Capsules(poses.transpose(-1, -2), activations), state | more


class NormalPoses(Conv):
    """Poses of the first capsules: a convolution without bias, then a batch norm of each type.

    Args:
        width: Channels of what it reads.
        spec: The network.
        compute: dtype of its products.
        method: "direct", "fourier" or "auto", as in `convolution.conv`.
    """

    def __init__(
        self, width: int, spec: Ribeiro2020, compute: torch.dtype, method: Method = "auto"
    ):
        first = spec.primary
        sizes = width, first.channels, first.kernel, first.stride
        super().__init__(*sizes, compute, method, False)
        self.types, self.norm = first.types, Norm(spec.norm, first.types)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x_BHWC: Tensor,
        name: str = "",
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Tensor, State]:
        """Poses [B, H, W, T, D] of a feature map [B, H, W, C], and new running numbers.

        Arguments are those of `NormalConv`.
        """
        # In the dtype of the kernel from here on, as in `NormalConv`.
        y = tap(f"{name}.conv", self.convolved(x_BHWC, tap).to(self.kernel.dtype))
        # Capsules in (height, width, type) order: a channel is type * size + component.
        poses = y.reshape(*y.shape[:3], self.types, -1).transpose(-1, -2)
        how: Any = {"train": train, "tap": tap, "total": total}
        poses, state = normalised(self.norm, poses, f"{name}.norm", **how)
        return poses.transpose(-1, -2), state


def coordinates(spec: Matrix) -> np.ndarray:
    """What is added to a vote for the classes from each place of the grid, [M, X, Z]."""
    rows, columns = (np.array(each) for each in spec.places)
    added = np.zeros((len(rows), len(columns), spec.side, spec.side))
    for values, at in ((rows[:, None], spec.row_element), (columns[None], spec.column_element)):
        added[:, :, at[0], at[1]] = values
    return added.reshape(-1, spec.side, spec.side)
