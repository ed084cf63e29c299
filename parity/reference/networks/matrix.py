"""Matrix capsules, forward (Hinton, Sabour, Frosst 2018, figure 1).

Axes: B batch, P parent places, M places of a window, T types of children, I = M T, J output
capsules, X Y Z rows and columns of matrices, H W C image or feature map.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from parity.reference import routing
from parity.reference.arrays import Array, double, relu, sigmoid
from parity.reference.capsules import Capsules, Tap, no_tap
from parity.reference.convolution import conv, windows
from parity.reference.networks.efficient import standardised
from parity.spec import Hinton2018, Matrix

EPSILON = 1e-5  # of an image's own standardisation


def encode(
    spec: Hinton2018, arrays: Mapping[str, Array], images, tap: Tap = no_tap, *, train: bool = False
) -> Capsules:
    """The class capsules of images; arguments as those of `networks.encode`."""
    x = tap("pixels", standardised(tap("image", double(images)), spec.pixels, EPSILON))
    for n, layer in enumerate(spec.stem):
        x = conv(x, arrays[f"stem.{n}.kernel"], layer.stride) + arrays[f"stem.{n}.bias"]
        x = tap(f"stem.{n}", relu(x))
    first = spec.primary
    logits = tap("activation.conv", conv(x, arrays["activation.kernel"], first.stride))
    x = tap("primary.conv", conv(x, arrays["primary.kernel"], first.stride))
    activations = tap("primary.activations", sigmoid(logits + spec.offset))
    # Capsules in (height, width, type) order: a channel is type * size + component.
    poses = tap("primary.poses", x.reshape(*x.shape[:3], first.types, first.size))
    for n in range(len(spec.capsules)):
        inner = lambda name, x, n=n: tap(f"capsule.{n}.{name}", x)  # noqa: E731
        poses, activations = capsule_layer(spec, arrays, n, poses, activations, tap, inner)
    classes = capsule_layer(spec, arrays, len(spec.capsules), poses, activations, tap, tap)
    return Capsules(*(each[:, 0, 0] for each in classes))


def capsule_layer(
    spec: Matrix,
    arrays: Mapping[str, Array],
    number: int,
    poses_BHWTK: Array,
    activations_BHWT: Array,
    tap: Tap,
    routing_tap: Tap,
) -> tuple[Array, Array]:
    """The parents: poses [B, H', W', J, D] and activations [B, H', W', J], or logits of these."""
    name, window = f"capsule.{number}", spec.windows[number]
    last, kernel = number == len(spec.capsules), arrays[f"capsule.{number}.kernel"]
    batch, places, side = len(poses_BHWTK), window.places, spec.side
    seen = windows(poses_BHWTK, window.kernel, window.stride)
    seen = seen.reshape(batch, places[0] * places[1], *seen.shape[3:5], side, side)
    # The pose on the left; the classes may have one matrix for all places of their window.
    if last and spec.shared:
        votes = np.einsum("bpmtxy,tjyz->bpmtjxz", seen, kernel)
    else:
        kernel = kernel.reshape(-1, *kernel.shape[2:])
        votes = np.einsum("bpmtxy,mtjyz->bpmtjxz", seen, kernel)
    if last and spec.coordinates:
        votes = votes + coordinates(spec)[:, None, None]
    votes = votes.reshape(*votes.shape[:2], -1, votes.shape[4], side * side)
    a_BPI = windows(activations_BHWT, window.kernel, window.stride).reshape(votes.shape[:3])
    given: dict[str, Any] = {f"{beta}_J": arrays[f"{name}.{beta}"] for beta in ("beta_a", "beta_u")}
    rule = spec.routing
    if last:
        votes, a_BPI = votes[:, 0], a_BPI[:, 0]
        rule = replace(rule, **spec.class_options)
    else:
        given["window"] = window
    votes = tap(f"{name}.votes", votes)
    route = getattr(routing, rule.name)
    found = route(votes, a_BPI, **given, **rule.options, tap=routing_tap)[:2]
    p, a = (each.reshape(batch, *places, *each.shape[1 if last else 2 :]) for each in found)
    return p, a


def coordinates(spec: Matrix) -> Array:
    """What is added to a vote from each place, [M, P, P]."""
    rows, columns = (np.array(each) for each in spec.places)
    added = np.zeros((len(rows), len(columns), spec.side, spec.side))
    for values, at in ((rows[:, None], spec.row_element), (columns[None], spec.column_element)):
        added[:, :, at[0], at[1]] = values
    return added.reshape(-1, spec.side, spec.side)
