"""The class capsules: a vote of every input for every class, then routing.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from flax import nnx
from jax import Array

from jax_caps import lean, routing
from jax_caps.capsules import Tap, no_tap, votes
from jax_caps.layers.stem import parameter
from parity.spec import NetworkSpec


class DigitCapsules(nnx.Module):
    """Votes for every output capsule, then routing: [B, I, K] -> [B, J, D].

    Args:
        spec: The network: sizes, and which routing with which options.
        lean: Whether to route without storing the votes, where the routing has such a twin.
        block: Input capsules a block of lean routing; None chooses from the sizes.
    """

    def __init__(self, spec: NetworkSpec, lean: bool = True, block: int | None = None):
        rows = spec.tensors()
        self.kernel = parameter(*rows["digit.kernel"].shape)
        for name in spec.routing.owned:
            setattr(self, name, parameter(*rows[f"digit.{name}"].shape))
        self.routing, self.lean, self.block = spec.routing, lean, block

    def __call__(self, inputs_BIK: Array, tap: Tap = no_tap) -> Array:
        """Poses [B, J, D] of input capsules [B, I, K]; with a tap, the votes are stored."""
        owned = {each.argument(n): getattr(self, n)[...] for n, each in self.routing.owned.items()}
        options = {**owned, **self.routing.options}
        # A tap is to see the votes, and not every routing has a twin that stores none.
        twin = getattr(lean, self.routing.name, None) if self.lean and tap is no_tap else None
        if twin is not None:
            return twin(inputs_BIK, self.kernel[...], **options, block=self.block)
        votes_BIJD = tap("votes", votes(inputs_BIK, self.kernel[...]))
        poses_BJD, _ = getattr(routing, self.routing.name)(votes_BIJD, **options, tap=tap)
        return poses_BJD
