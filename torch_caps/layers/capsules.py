"""The class capsules: a vote of every input for every class, then routing.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

import torch
from torch import Tensor, nn

from parity.spec import NetworkSpec
from torch_caps import lean, routing
from torch_caps.capsules import Tap, no_tap, votes
from torch_caps.layers.stem import one_line, parameter


class DigitCapsules(nn.Module):
    """Votes for every output capsule, then routing: [B, I, K] -> [B, J, D].

    Args:
        spec: The network: sizes, and which routing with which options.
        lean: Whether to route without storing the votes, where the routing has such a twin.
        block: Input capsules a block of lean routing; None chooses from the sizes.
    """

    __repr__ = one_line

    def __init__(self, spec: NetworkSpec, lean: bool = True, block: int | None = None):
        super().__init__()
        rows = spec.tensors()
        inputs, outputs, size, pose = rows["digit.kernel"].shape
        kernel = torch.empty(inputs, size, outputs, pose)  # in memory, as lean routing reads it
        self.kernel = nn.Parameter(kernel.transpose(1, 2))
        for name in spec.routing.owned:
            setattr(self, name, parameter(*rows[f"digit.{name}"].shape))
        self.routing, self.lean, self.block = spec.routing, lean, block

    def stores_votes(self, tap: Tap = no_tap) -> bool:
        """Whether a call with this tap stores the votes and routes step by step.

        It does where a tap has to see every tensor, where `lean` is off, and where the routing has
        no lean twin.
        """
        return tap is not no_tap or not self.lean or not hasattr(lean, self.routing.name)

    def forward(self, inputs_BIK: Tensor, tap: Tap = no_tap) -> Tensor:
        """Poses [B, J, D] of input capsules [B, I, K], routed as `stores_votes` says."""
        owned = {
            own.argument(name): getattr(self, name) for name, own in self.routing.owned.items()
        }
        options = {**owned, **self.routing.options}
        if not self.stores_votes(tap):
            route = getattr(lean, self.routing.name)
            return route(inputs_BIK, self.kernel, **options, block=self.block)
        votes_BIJD = tap("votes", votes(inputs_BIK, self.kernel))
        poses_BJD, _ = getattr(routing, self.routing.name)(votes_BIJD, **options, tap=tap)
        return poses_BJD
