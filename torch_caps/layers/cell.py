"""Residual cells of convolutional capsules, the last with routing over its whole grid (DeepCaps).

Axes: B batch, H W a grid and Y X the one it becomes, I types of children, K size of their poses,
J types of parents, D size of a pose, P = Y X in a row.
"""

from typing import Any

import torch
from torch import Tensor, nn

from parity import spec as specs
from torch_caps import routing
from torch_caps.capsules import Tap, no_tap, squash
from torch_caps.layers.stem import Conv, parameter

EPSILON = 1e-7  # Keras' own, in the squash of capsules that are not routed


class ConvCapsules(Conv):
    """A convolution to capsules without bias, squashed: capsules that are not routed.

    Args:
        width: Numbers at a place of what it reads: types times their size.
        layer: Types, size and kernel.
        stride: Places, in both directions.
        compute: dtype of its products.
        method: "direct", "fourier" or "auto", as in `convolution.conv`.
    """

    def __init__(
        self,
        width: int,
        layer: specs.CapsuleLayer,
        stride: int,
        compute: torch.dtype,
        method: specs.Method = "auto",
    ):
        out = layer.types * layer.size
        super().__init__(width, out, layer.kernel, stride, compute, method, False, "same")
        self.types = layer.types

    def forward(self, x_BHWC: Tensor, name: str = "", tap: Tap = no_tap) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A feature map -> poses [B, Y, X, J, D]; the tap sees NAME.conv and NAME.poses."""
        y = self.convolved(x_BHWC, tap).to(self.kernel.dtype)
        y = tap(f"{name}.conv", y)
        poses = y.reshape(*y.shape[:3], self.types, -1)
        return tap(f"{name}.poses", squash(poses, epsilon=EPSILON))


class RoutedCapsules(Conv):
    """Capsules by routing over a whole grid, of votes by one kernel for all types of children.

    Args:
        width: K, size of a child's pose.
        layer: Types, size and kernel.
        routing: One that has places, `parity.spec.Dynamic3D`.
        compute: dtype of the votes' products.
    """

    def __init__(
        self,
        width: int,
        layer: specs.CapsuleLayer,
        routing: specs.Routing,
        compute: torch.dtype,
    ):
        out = layer.types * layer.size
        super().__init__(width, out, layer.kernel, 1, compute, "direct", False, "same")
        self.routing, self.types = routing, layer.types
        sizes = {"j": layer.types, "d": layer.size}
        for name, owned in routing.owned.items():
            setattr(self, name, parameter(*owned.shape(sizes)))

    def forward(self, poses_BHWIK: Tensor, name: str = "", tap: Tap = no_tap) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Poses [B, Y, X, J, D]; the tap sees NAME.votes and NAME.routing.t.WHAT."""
        batch, height, width, inputs, size = poses_BHWIK.shape
        children_BIHWK = poses_BHWIK.permute(0, 3, 1, 2, 4)
        if self.routing.options.get("released"):
            # The authors read the memory [H, W, I, K] as [I, K, H, W], which mixes up all of them.
            mixed = poses_BHWIK.reshape(batch, inputs, size, height, width)
            children_BIHWK = mixed.permute(0, 1, 3, 4, 2)
        # One kernel for every type of children: each is an image of the batch.
        children = children_BIHWK.reshape(batch * inputs, height, width, size)
        votes = self.convolved(children, tap).to(self.kernel.dtype)
        votes = votes.reshape(batch, inputs, height * width, self.types, -1).transpose(1, 2)
        votes_BPIJD = tap(f"{name}.votes", votes)
        owned = {own.argument(key): getattr(self, key) for key, own in self.routing.owned.items()}
        inner = no_tap if tap is no_tap else lambda key, x: tap(f"{name}.{key}", x)
        route = getattr(routing, self.routing.name)
        poses_BPJD, _ = route(votes_BPIJD, **owned, **self.routing.options, tap=inner)
        return poses_BPJD.reshape(batch, height, width, *poses_BPJD.shape[2:])


class Cell(nn.Module):
    """Four layers of capsules: u, then two more of it beside a skip connection, and their sum.

    The sum is not squashed again: its capsules may be up to 2 long.

    Args:
        width: Numbers at a place of what it reads.
        layer: Types, size and kernel of all four, stride of the first.
        routing: Of the skip connection; None for a convolution.
        compute: dtype of products.
        method: "direct", "fourier" or "auto", as in `convolution.conv`.
    """

    def __init__(
        self,
        width: int,
        layer: specs.CapsuleLayer,
        routing: specs.Routing | None,
        compute: torch.dtype,
        method: specs.Method = "auto",
    ):
        super().__init__()
        own = layer.types * layer.size
        how: Any = compute, method
        first = ConvCapsules(width, layer, layer.stride, *how)
        rest = [ConvCapsules(own, layer, 1, *how) for _ in range(2)]
        self.caps = nn.ModuleList([first, *rest])
        self.skip: Any = (
            ConvCapsules(own, layer, 1, *how)
            if routing is None
            else RoutedCapsules(layer.size, layer, routing, compute)
        )

    def forward(self, x_BHWC: Tensor, name: str = "", tap: Tap = no_tap) -> Tensor:
        """A feature map -> poses [B, Y, X, J, D]; the tap sees NAME and what its layers show."""
        first, second, third = self.caps
        u = first(x_BHWC, f"{name}.caps.0", tap)
        flat = u.reshape(*u.shape[:3], -1)
        routed = isinstance(self.skip, RoutedCapsules)
        skip = self.skip(u if routed else flat, f"{name}.skip", tap)
        y = second(flat, f"{name}.caps.1", tap)
        y = third(y.reshape(*y.shape[:3], -1), f"{name}.caps.2", tap)
        return tap(name, y + skip)
