"""Capsules with inverted attention: the first ones, and those of windows and classes.

Axes: B batch, N windows of all images, P places of a grid, M places of a window, I types of
children, J output capsules, K size of an input pose, D of an output pose, H W a grid.
"""

import torch
from torch import Tensor, nn

from parity import spec as specs
from parity.spec import Method, Tsai2020
from parity.spec.networks.inverted import POSES
from parity.spec.networks.residual import same
from torch_caps import lean as lean_routing
from torch_caps import routing
from torch_caps.capsules import Tap, matrix_votes, no_tap, votes
from torch_caps.convolution import windows
from torch_caps.layers.norm import Norm
from torch_caps.layers.stem import Conv, parameter


class PoseNorm(Norm):
    """The normalisation of each capsule over its own pose, with one scale and shift for a layer.

    Args:
        size: Numbers of a pose.
    """

    def __init__(self, size: int):
        super().__init__(POSES, size)

    def forward(self, poses: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Poses [..., D], each with mean 0 and variance 1, scaled and shifted."""
        y, _ = super().forward(poses.reshape(-1, poses.shape[-1]))
        return y.reshape(poses.shape)


class FirstCapsules(Conv):
    """A convolution without bias, grouped into poses: [B, H, W, C] -> [B, H', W', I, K].

    Args:
        width: Channels of what it reads.
        spec: Its sizes.
        compute: dtype of its products.
        method: "direct", "fourier" or "auto", as in `convolution.conv`.
    """

    def __init__(
        self, width: int, spec: specs.Primary, compute: torch.dtype, method: Method = "auto"
    ):
        sizes = width, spec.channels, spec.kernel, spec.stride
        super().__init__(*sizes, compute, method, False, same(spec.kernel))
        self.spec = spec
        self.norm = PoseNorm(spec.size) if spec.size > 1 else None

    def forward(self, x_BHWC: Tensor, tap: Tap = no_tap) -> Tensor:
        """Normalised poses of a feature map; a pose of one number stays as it is."""
        x = tap("primary.conv", self.convolved(x_BHWC, tap).to(self.kernel.dtype))
        # Capsules in (height, width, type) order: a channel is type * size + component.
        poses = x.reshape(*x.shape[:3], self.spec.types, self.spec.size)
        return tap("primary.poses", poses if self.norm is None else self.norm(poses))


class InvertedCapsules(nn.Module):
    """One layer of capsules, which its network asks for one iteration after another.

    Args:
        spec: The network.
        number: Of this layer; the last is that of the classes.
        lean: Whether to route without storing the votes.
        block: Input capsules a block of lean routing; None chooses from the sizes.
    """

    def __init__(self, spec: Tsai2020, number: int, lean: bool = True, block: int | None = None):
        super().__init__()
        row = spec.tensors()[f"capsule.{number}.kernel"]
        self.window, self.outputs = spec.windows[number], (row.shape[3], spec.sizes[number + 1])
        self.matrices, self.released = spec.matrices, spec.released
        self.lean, self.block = lean, block
        self.kernel = parameter(*row.shape)
        self.norm = PoseNorm(self.outputs[1]) if self.outputs[1] > 1 else None
        last = number == len(spec.capsules)
        self.name = "routing" if last else f"capsule.{number}.routing"  # of the taps' names

    def stores_votes(self, tap: Tap = no_tap) -> bool:
        """Whether a call with this tap stores the votes: where it is to see them, or not lean."""
        return tap is not no_tap or not self.lean

    def read(self, children_BHWIK: Tensor, iteration: int, tap: Tap = no_tap) -> Tensor:
        """What an iteration takes of children whose poses are new.

        Args:
            children_BHWIK: Their poses.
            iteration: The first that takes them, from 0.
            tap: Sees routing.ITERATION.votes, after NAME but for the classes.

        Returns:
            Votes [N, M * I, J, D], or poses [N, M * I, K] where votes are not stored.
        """
        seen = windows(children_BHWIK, self.window.kernel, self.window.stride)
        seen = scrambled(seen) if self.released else seen
        inputs_NIK = seen.reshape(-1, seen.shape[3] * seen.shape[4], seen.shape[5])
        if not self.stores_votes(tap):
            return inputs_NIK
        vote = matrix_votes if self.matrices else votes
        return tap(f"{self.name}.{iteration}.votes", vote(inputs_NIK, self._kernel()))

    def forward(
        self, given: Tensor, before: Tensor | None, iteration: int, tap: Tap = no_tap
    ) -> Tensor:
        """The capsules' poses after one more iteration, normalised: [B, H', W', J, D].

        Args:
            given: Of `read`.
            before: The poses after the iteration before; None in the first.
            iteration: Its number, from 0.
            tap: Sees routing.ITERATION.{logits, coupling, sum, poses}, after NAME but for the
                classes.
        """
        poses_NJD = None if before is None else before.reshape(-1, *self.outputs)
        if self.stores_votes(tap):

            def inner(key: str, x: Tensor) -> Tensor:
                return tap(key.replace("routing.0", f"{self.name}.{iteration}"), x)

            sum_NJD, _ = routing.inverted_attention(given, poses_NJD, tap=inner)
        else:
            route = lean_routing.inverted_attention
            sum_NJD = route(given, self._kernel(), poses_NJD, block=self.block)
        sum_BHWJD = sum_NJD.reshape(-1, *self.window.places, *self.outputs)
        poses = sum_BHWJD if self.norm is None else self.norm(sum_BHWJD)
        return tap(f"{self.name}.{iteration}.poses", poses)

    def _kernel(self) -> Tensor:
        """A matrix for each pair of a child of a window and an output capsule, [M * I, J, ., .]."""
        return self.kernel.reshape(-1, *self.kernel.shape[3:])


def scrambled(x_BHWMIK: Tensor) -> Tensor:
    """The windows of the authors' release, in which a place sees components of other places.

    It stacks the P places of the output behind the K numbers of a pose, and reads them as if they
    stood before: of each place of a window and each type, number p' K + k' is number k P + p.
    """
    batch, rows, columns, size, types, length = x_BHWMIK.shape
    x_BPMIK = x_BHWMIK.flatten(1, 2)
    x_BMIKP = x_BPMIK.permute(0, 2, 3, 4, 1)
    read_BMIPK = x_BMIKP.reshape(batch, size, types, rows * columns, length)
    return read_BMIPK.permute(0, 3, 1, 2, 4).reshape(x_BHWMIK.shape)
