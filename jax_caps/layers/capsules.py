"""The class capsules: a vote of every input for every class, then routing.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from flax import nnx
from jax import Array

from jax_caps import lean, routing
from jax_caps.capsules import Tap, no_tap, votes
from jax_caps.layers.stem import one_line, parameter
from parity.spec import NetworkSpec


class DigitCapsules(nnx.Module):
    """Votes for every output capsule, then routing: [B, I, K] -> [B, J, D].

    Args:
        spec: The network: sizes, and which routing with which options.
        lean: Whether to route without storing the votes, where the routing has such a twin.
        block: Input capsules a block of lean routing; None chooses from the sizes.
    """

    __repr__ = __str__ = one_line

    def __init__(self, spec: NetworkSpec, lean: bool = True, block: int | None = None):
        rows = spec.tensors()
        self.kernel = parameter(*rows["digit.kernel"].shape)
        for name in spec.routing.owned:
            setattr(self, name, parameter(*rows[f"digit.{name}"].shape))
        self.routing, self.lean, self.block = spec.routing, lean, block

    def stores_votes(self, tap: Tap = no_tap) -> bool:
        """Whether a call with this tap stores the votes and routes step by step.

        It does where a tap has to see every tensor, where `lean` is off, and where the routing has
        no lean twin.
        """
        return tap is not no_tap or not self.lean or not hasattr(lean, self.routing.name)

    def __call__(self, inputs_BIK: Array, tap: Tap = no_tap) -> Array:
        """Poses [B, J, D] of input capsules [B, I, K], routed as `stores_votes` says."""
        owned = {
            own.argument(name): getattr(self, name)[...] for name, own in self.routing.owned.items()
        }
        options = {**owned, **self.routing.options}
        if not self.stores_votes(tap):
            route = getattr(lean, self.routing.name)
            return route(inputs_BIK, self.kernel[...], **options, block=self.block)
        votes_BIJD = tap("votes", votes(inputs_BIK, self.kernel[...]))
        poses_BJD, _ = getattr(routing, self.routing.name)(votes_BIJD, **options, tap=tap)
        return poses_BJD
