"""InvertedNetwork: capsules with inverted attention on a residual network, put together.

Axes: B batch, I capsules at a place, J classes, D size of a pose, H W C image or feature map.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps.arrays import from_numpy
from jax_caps.capsules import Capsules, Tap
from jax_caps.layers import Dense, FirstCapsules, InvertedCapsules
from jax_caps.networks.network import Total
from jax_caps.networks.residual import Residual
from jax_caps.numerics import dtypes
from parity.spec import Method, Precision, SpecError, Tsai2020
from parity.weights import draw


class InvertedNetwork(Residual):
    """Capsules with inverted attention (Tsai et al. 2020) of any size.

    Sets strict numerics for the process, once (`numerics.build`; `numerics.restore` undoes it).

    Args:
        spec: What the network is: `parity.spec.preset("tsai2020")`, or your own.
        seed: Of the first weights, the same in both wings.
        precision: float32, float64, or bfloat16: convolutions in bfloat16, all else in float32.
        lean: Whether to route without storing the votes.
        block: Input capsules a block of lean routing; None chooses from the sizes.
        convolution: As in `CapsuleNetwork`.

    Raises:
        SpecError: Where the precision is unknown, or the spec is another network's.
    """

    def __init__(
        self,
        spec: Tsai2020,
        seed: int = 0,
        precision: Precision = "float32",
        lean: bool = True,
        block: int | None = None,
        convolution: Method = "auto",
    ):
        if not isinstance(spec, Tsai2020):
            raise SpecError(f"a spec of network {spec.network!r}; build(spec) makes any network")
        super().__init__(spec, precision, convolution)
        dtype, compute = dtypes(precision)
        self.attention, self.decoder = spec.attention, None
        self.primary = FirstCapsules(self.width, spec.primary, compute, convolution)
        layers = range(len(spec.capsules) + 1)
        self.capsule = nnx.List([InvertedCapsules(spec, n, lean, block) for n in layers])
        self.head = Dense(spec.pose, 1, dtype)
        from_numpy(self, draw(spec, seed))

    def _encode(
        self, x_BHWC: Array, train: bool, tap: Tap, total: Total | None
    ) -> tuple[Capsules, dict[str, Array]]:
        x, state = self.features(x_BHWC, train=train, tap=tap, total=total)
        poses_BJD = self._iterated(self.primary(x, tap), tap)[:, 0, 0]
        # One map for all classes.
        logits_BJ = self.head(poses_BJD.reshape(-1, poses_BJD.shape[-1]))
        logits_BJ = tap("logits", logits_BJ.reshape(poses_BJD.shape[:2]))
        logs_BJ = jax.nn.log_softmax(logits_BJ)
        return Capsules(poses_BJD, jnp.exp(logs_BJ), logs_BJ), state

    def _iterated(self, first_BHWID: Array, tap: Tap) -> Array:
        """The classes' poses [B, 1, 1, J, D] of the first ones, after all iterations."""
        layers: Any = list(self.capsule)
        last, steps = len(layers), self.attention.num_iters
        if self.attention.order == "sequential":
            below = first_BHWID
            for layer in layers:
                given = layer.read(below, 0, tap)
                below = layer(given, None, 0, tap)
                for t in range(1, steps):
                    below = layer(given, below, t, tap)
            return below
        # Concurrent: layer n makes poses[n + 1] of poses[n]; a first pass gives all a pose.
        poses, given = [first_BHWID], []
        for layer in layers:
            given.append(layer.read(poses[-1], 0, tap))
            poses.append(layer(given[-1], None, 0, tap))
        # Each iteration makes all poses at once, of those that the one before left. The classes'
        # last poses take those below them of an iteration ago, these those below of two ago, and so
        # on: what layer n would make in its last (last - 1 - n) iterations is never read, and left
        # out. Of two iterations the second is the classes' alone.
        for t in range(1, steps):
            skipped = max(0, last - steps + t)
            made = []
            for n in range(skipped, last):
                if n > 0 and t > 1:  # the first capsules stay, and at t = 1 all are of the pass
                    given[n] = layers[n].read(poses[n], t, tap)
                made.append(layers[n](given[n], poses[n + 1], t, tap))
            poses = poses[: skipped + 1] + made
        return poses[-1]
