"""Self-routing capsules on a residual network, forward (Hahn, Pyeon, Kim 2019, their own code).

Axes: B batch, N windows of all images, H W C image or feature map, I input capsules of a window or
types at a place, J output capsules, K size of an input pose, D of an output pose.
"""

from collections.abc import Mapping

import numpy as np

from parity.reference.arrays import Array, sigmoid
from parity.reference.capsules import Capsules, Tap, no_tap, votes
from parity.reference.convolution import padded, windows
from parity.reference.networks.efficient import normal
from parity.reference.networks.residual import convolved, features
from parity.reference.routing import _self_routing as routing
from parity.spec import Conv, Hahn2019, Window


def encode(
    spec: Hahn2019, arrays: Mapping[str, Array], images, tap: Tap = no_tap, *, train: bool = False
) -> Capsules:
    """The class capsules of images; arguments as those of `networks.encode`."""
    x, how = features(spec, arrays, images, tap, train), (tap, train)
    # No relu and no squash on poses.
    first = spec.primary
    logits = Conv(first.types, first.kernel, first.stride)
    activations = sigmoid(convolved(spec, arrays, x, "activation", logits, *how))
    x = convolved(spec, arrays, x, "primary", first, *how)
    activations = tap("primary.activations", activations)
    # Capsules in (height, width, type) order: a channel is type * size + component.
    poses = tap("primary.poses", x.reshape(*x.shape[:3], first.types, first.size))
    for n, layer in enumerate(spec.capsules):
        sides, inner = layer.kernel // 2, lambda name, x, n=n: tap(f"capsule.{n}.{name}", x)
        children = Capsules(padded(poses, sides), padded(activations, sides))
        window = spec.windows[n]
        found = layer_of(children, window, arrays, n, tap, inner)
        grid = (len(x), *window.places)
        normed = found.poses.reshape(*grid, -1)  # pyright: ignore[reportOptionalMemberAccess]
        normed = normal(spec.norm, arrays, normed, f"capsule.{n}.norm", tap, train)
        poses = normed.reshape(*grid, layer.types, layer.size)
        activations = found.activations.reshape(*grid, layer.types)  # pyright: ignore[reportOptionalMemberAccess]
    children, last = Capsules(poses, activations), len(spec.capsules)
    return layer_of(children, spec.windows[-1], arrays, last, tap, tap)


def layer_of(
    children: Capsules,
    window: Window,
    arrays: Mapping[str, Array],
    number: int,
    tap: Tap,
    routing_tap: Tap,
) -> Capsules:
    """The parents of each window, [N, J]: without poses where the layer has no kernel of votes."""
    name, size = f"capsule.{number}", window.kernel[0] * window.kernel[1]
    shown = (windows(each, window.kernel, window.stride) for each in children[:2])
    poses, activations = shown  # B H W, places of the window, types, ...
    count = size * poses.shape[4]
    poses_NIK = poses.reshape(-1, count, poses.shape[5])
    activations_NI = activations.reshape(-1, count)
    kernel = arrays.get(f"{name}.kernel")
    votes_NIJD = None
    if kernel is not None:
        kernel_IJKD = kernel.reshape(count, *kernel.shape[3:])
        votes_NIJD = tap(f"{name}.votes", votes(poses_NIK, kernel_IJKD))
    route, bias = (arrays[f"{name}.route.{each}"] for each in ("kernel", "bias"))
    route_IJK, bias_IJ = (each.reshape(count, *each.shape[3:]) for each in (route, bias))
    logits = np.einsum("nik,ijk->nij", poses_NIK, route_IJK) + bias_IJ
    logits_NIJ = tap(f"{name}.route", logits)
    if votes_NIJD is None:
        logs, _ = routing.log_activations(activations_NI, logits_NIJ, tap=routing_tap)
        return Capsules(None, np.exp(logs), logs)
    given = votes_NIJD, activations_NI, logits_NIJ
    poses_NJD, activations_NJ, _ = routing.self_routing(*given, tap=routing_tap)
    return Capsules(poses_NJD, activations_NJ)
