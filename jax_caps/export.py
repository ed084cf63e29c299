"""The forward pass as a file that JAX runs without twincaps.

Axes: B batch, J classes, D size of a pose, P classes in an image, H W C image.
"""

import jax
from flax import nnx
from jax import Array
from jax import export as jax_export

from jax_caps.arrays import from_numpy, to_numpy
from jax_caps.capsules import longest
from jax_caps.networks import Network, build

__all__ = ["Forward", "serialize"]

# What the file runs on; each has its own way to convolve in it.
_PLATFORMS = ("cpu", "cuda", "tpu")


class Forward(nnx.Module):
    """What a network says of images: the function that is exported.

    Args:
        net: The network; its weights are copied, and it routes plainly and convolves directly, as
            the other ways depend on the batch.
        things: Classes that each image shows, P; above 1 there is a reconstruction of each.
    """

    def __init__(self, net: Network, things: int = 1):
        self.net = build(net.spec, precision=net.precision, lean=False, convolution="direct")
        from_numpy(self.net, to_numpy(net))
        self.things = things

    def __call__(self, images_BHWC: Array) -> dict[str, Array]:
        """Poses [B, J, D], scores [B, J], with a decoder the reconstruction of the answer.

        Of class capsules without poses the scores alone.
        That is [B, H, W, C], from the longest capsule alone; [B, P, H, W, C] of several, the
        longest first.
        """
        capsules, _ = self.net.capsules(images_BHWC)
        scores_BJ, poses_BJD = self.net.ranked(capsules), capsules.poses
        if poses_BJD is None:
            return {"scores": scores_BJ}
        found = {"poses": poses_BJD, "scores": scores_BJ}
        if self.net.decoder is not None:
            best = longest(scores_BJ, self.things)
            labels = best[:, 0] if self.things == 1 else best
            found["reconstruction"] = self.net.reconstruct(poses_BJD, labels)
        return found


def serialize(net: Network, things: int = 1) -> bytes:
    """A network's `Forward`, of any batch, as the bytes of a .jax file.

    `jax.export.deserialize(content).call` is the function, in JAX alone.

    Args:
        net: The network.
        things: Classes that each image shows.
    """
    forward = jax.jit(Forward(net, things))
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *net.spec.image), net.dtype)
    return bytes(jax_export.export(forward, platforms=_PLATFORMS)(images).serialize())
