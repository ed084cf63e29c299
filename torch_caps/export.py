"""The forward pass as a file that torch runs without twincaps.

Axes: B batch, J classes, D size of a pose, P classes in an image, H W C image.
"""

import contextlib
import io
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from torch_caps.arrays import from_numpy, to_numpy
from torch_caps.capsules import longest
from torch_caps.networks import Network, build

__all__ = ["Forward", "serialize"]


class Forward(nn.Module):
    """What a network says of images: the function that is exported.

    Args:
        net: The network; its weights are copied, and it routes plainly and convolves directly, as
            the other ways depend on the batch.
        things: Classes that each image shows, P; above 1 there is a reconstruction of each.
    """

    def __init__(self, net: Network, things: int = 1):
        super().__init__()
        self.net = build(net.spec, precision=net.precision, lean=False, convolution="direct")
        from_numpy(self.net, to_numpy(net))
        for parameter in self.net.parameters():  # torch.export warns of weights in other orders
            parameter.data = parameter.data.contiguous()
        self.things = things

    def forward(self, images_BHWC: Tensor) -> dict[str, Tensor]:
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
    """A network's `Forward`, of any batch, as the bytes of a .pt2 file.

    `torch.export.load(path).module()` is the function, in PyTorch alone.

    Args:
        net: The network.
        things: Classes that each image shows.
    """
    forward = Forward(net, things).eval()
    example = torch.zeros(2, *net.spec.image, dtype=next(net.parameters()).dtype)
    sizes = {"images_BHWC": {0: torch.export.Dim("batch")}}
    with _readable():
        program = torch.export.export(forward, (example,), dynamic_shapes=sizes)
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Lets torch.export read cuDNN's switches by their old name, and puts them back.

    Reading it raises while the new ones, which strict numerics set, disagree with the old one's
    default. The trace computes nothing meanwhile.
    """
    cudnn = torch.backends.cudnn
    leaves = [each for each in (getattr(cudnn, n, None) for n in ("conv", "rnn")) if each]
    before = [leaf.fp32_precision for leaf in leaves]
    try:
        cudnn.allow_tf32  # noqa: B018
    except RuntimeError:
        for leaf in leaves:
            leaf.fp32_precision = "tf32"
    try:
        yield
    finally:
        for leaf, precision in zip(leaves, before, strict=True):
            leaf.fp32_precision = precision
