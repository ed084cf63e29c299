"""Self-routing capsules: those of the windows of a grid, and the classes.

Axes: B batch, N windows of all images, H W a grid of capsules, I input capsules of a window or
types at a place, J output capsules, K size of an input pose, D of an output pose.
"""

import torch
from torch import Tensor, nn

from parity import spec as specs
from torch_caps.capsules import Capsules, Tap, no_tap, votes
from torch_caps.convolution import padded, windows
from torch_caps.layers.norm import Norm, State
from torch_caps.layers.stem import parameter
from torch_caps.norm import Total
from torch_caps.routing._self_routing import log_activations, self_routing


class Route(nn.Module):
    """The routing coefficients' logits, of a child's own pose: sum_k p_ik R_ijk + b_ij.

    Args:
        shape: Height and width of a window, I types, J and K.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.kernel, self.bias = parameter(*shape), parameter(*shape[:-1])

    def forward(self, poses_NIK: Tensor) -> Tensor:
        """Poses of windows -> logits [N, I, J]; each place of a window has its own R and b."""
        route_IJK = self.kernel.reshape(-1, *self.kernel.shape[3:])
        bias_IJ = self.bias.reshape(route_IJK.shape[:2])
        return torch.einsum("nik,ijk->nij", poses_NIK, route_IJK) + bias_IJ


class SelfRoutingCapsules(nn.Module):
    """Capsules of windows, by self-routing; their poses normalised over the batch.

    Args:
        window: Of the grid with its padding.
        padding: Places of padding on each side, whose capsules have activations and poses of 0.
        types: Of the children, I, and of the parents, J.
        sizes: Of a child's pose, K, and of a parent's, D; D is 0 for classes, which have no poses.
        norm: Of the parents' poses.
    """

    def __init__(
        self,
        window: specs.Window,
        padding: int,
        types: tuple[int, int],
        sizes: tuple[int, int],
        norm: specs.Norm,
    ):
        super().__init__()
        self.window, self.padding, self.types, self.size = window, padding, types[1], sizes[1]
        self.route = Route((*window.kernel, *types, sizes[0]))
        if self.size:
            self.kernel = parameter(*window.kernel, *types, *sizes)
            self.norm = Norm(norm, self.types * self.size)

    def forward(
        self,
        children: Capsules,
        name: str,
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Capsules, State]:
        """The parents, and new running numbers by the names of their rows.

        Args:
            children: Poses [B, H, W, I, K] and activations [B, H, W, I].
            name: Of this layer in the table of weights.
            train: Whether this is a training step.
            tap: Sees NAME.votes, NAME.route, NAME.norm and what the routing shows, under NAME but
                for the classes.
            total: The sum over processes, as in `norm.batch`.

        Returns:
            Poses [B, H', W', J, D] and activations [B, H', W', J]; of classes activations [B, J]
            and their logarithms.
        """
        assert children.poses is not None
        assert children.activations is not None
        poses_NIK = self._windows(children.poses)
        poses_NIK = poses_NIK.reshape(-1, *poses_NIK.shape[-2:])
        activations_NI = self._windows(children.activations[..., None])
        activations_NI = activations_NI.reshape(poses_NIK.shape[:2])
        if not self.size:
            logits_NIJ = tap(f"{name}.route", self.route(poses_NIK))
            logs_BJ, _ = log_activations(activations_NI, logits_NIJ, tap=tap)
            return Capsules(None, logs_BJ.exp(), logs_BJ), {}
        kernel_IJKD = self.kernel.reshape(-1, *self.kernel.shape[3:])
        votes_NIJD = tap(f"{name}.votes", votes(poses_NIK, kernel_IJKD))
        logits_NIJ = tap(f"{name}.route", self.route(poses_NIK))
        inner = no_tap if tap is no_tap else lambda key, x: tap(f"{name}.{key}", x)
        poses, activations, _ = self_routing(votes_NIJD, activations_NI, logits_NIJ, tap=inner)
        # The norm is of each component of each type, over images and places.
        grid = (children.poses.shape[0], *self.window.places)
        y, state = self.norm(poses.reshape(*grid, -1), train=train, total=total)
        state = {f"{name}.norm.{key}": tap(f"{name}.norm.{key}", x) for key, x in state.items()}
        y = tap(f"{name}.norm", y).reshape(*grid, self.types, self.size)
        return Capsules(y, activations.reshape(*grid, self.types)), state

    def _windows(self, x_BHWIK: Tensor) -> Tensor:
        """[B, H', W', I, K], I being all types of all places of a window."""
        x = windows(padded(x_BHWIK, self.padding), self.window.kernel, self.window.stride)
        return x.reshape(*x.shape[:3], -1, x.shape[-1])
