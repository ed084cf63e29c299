"""Capsules with inverted attention, forward (Tsai et al. 2020, their own code).

Axes: B batch, N windows of all images, P places of a grid, M places of a window, I types of
children, J output capsules, K size of an input pose, D of an output pose, H W C image or feature
map.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from parity.reference import norm
from parity.reference.arrays import Array
from parity.reference.capsules import Capsules, Tap, matrix_votes, no_tap, votes
from parity.reference.convolution import conv, padded, windows
from parity.reference.networks.residual import features
from parity.reference.routing._inverted_attention import inverted_attention
from parity.spec import Tsai2020
from parity.spec.networks.inverted import POSES

Value = TypeVar("Value")  # poses, or a name of them in a graph
Given = TypeVar("Given")


def encode(
    spec: Tsai2020, arrays: Mapping[str, Array], images, tap: Tap = no_tap, *, train: bool = False
) -> Capsules:
    """The class capsules of images; arguments as those of `networks.encode`."""
    x, first = features(spec, arrays, images, tap, train), spec.primary
    x = conv(padded(x, first.kernel // 2), arrays["primary.kernel"], first.stride)
    x = tap("primary.conv", x)
    # Capsules in (height, width, type) order: a channel is type * size + component.
    poses = x.reshape(*x.shape[:3], first.types, first.size)
    poses = tap("primary.poses", normalised(poses, arrays, "primary"))

    def read(n: int, t: int, below: Array) -> Array:
        return at(spec, n, t, tap)("votes", window_votes(spec, arrays, n, below))

    def step(n: int, t: int, given: Array, before: Array | None) -> Array:
        return layer_step(spec, arrays, n, given, before, at(spec, n, t, tap))

    poses_BJD = iterated(spec, poses, read, step)[:, 0, 0]
    # One map for all classes.
    logits_BJ1 = poses_BJD @ arrays["head.kernel"] + arrays["head.bias"]
    logits_BJ = tap("logits", logits_BJ1[..., 0])
    shifted = logits_BJ - np.real(logits_BJ).max(-1, keepdims=True)
    logs_BJ = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return Capsules(poses_BJD, np.exp(logs_BJ), logs_BJ)


def iterated(
    spec: Tsai2020, first: Value, read: Callable[..., Given], step: Callable[..., Value]
) -> Value:
    """The poses of the last layer after T iterations, in the order of the spec.

    Args:
        spec: The network.
        first: The poses of the first capsules.
        read: (layer, iteration, poses of the layer below, which are new) -> its votes.
        step: (layer, iteration, its votes, its poses before or None) -> its poses.
    """
    last, steps = len(spec.capsules) + 1, spec.attention.num_iters
    if spec.attention.order == "sequential":
        below = first
        for n in range(last):
            given = read(n, 0, below)
            below = step(n, 0, given, None)
            for t in range(1, steps):
                below = step(n, t, given, below)
        return below
    # Concurrent: layer n makes poses[n + 1] of poses[n]; a first pass from below gives all a pose.
    poses, votes_of = [first], []
    for n in range(last):
        votes_of.append(read(n, 0, poses[n]))
        poses.append(step(n, 0, votes_of[n], None))
    # Each iteration makes all poses at once, of those that the one before left. The classes' last
    # poses take those below them of an iteration ago, these those below of two ago, and so on: what
    # layer n would make in its last (last - 1 - n) iterations is never read, and left out.
    for t in range(1, steps):
        layers = range(max(0, last - steps + t), last)
        for n in layers if t > 1 else ():
            votes_of[n] = read(n, t, poses[n]) if n > 0 else votes_of[n]
        new = {n + 1: step(n, t, votes_of[n], poses[n + 1]) for n in layers}
        poses = [new.get(n, old) for n, old in enumerate(poses)]
    return poses[last]


def at(spec: Tsai2020, number: int, iteration: int, tap: Tap) -> Tap:
    """The tap of a layer's iteration, as capsule.N.routing.T.WHAT; of classes routing.T.WHAT."""
    head = "" if number == len(spec.capsules) else f"capsule.{number}."
    head += f"routing.{iteration}."
    return lambda key, x: tap(head + key.removeprefix("routing.0."), x)


def window_votes(
    spec: Tsai2020, arrays: Mapping[str, Array], number: int, poses_BHWIK: Array
) -> Array:
    """The votes of a layer's windows, [N, M * I, J, D]."""
    window, kernel = spec.windows[number], arrays[f"capsule.{number}.kernel"]
    shown = windows(poses_BHWIK, window.kernel, window.stride)
    shown = scrambled(shown) if spec.released else shown
    inputs = shown.reshape(-1, shown.shape[3] * shown.shape[4], shown.shape[5])
    vote = matrix_votes if spec.matrices else votes
    return vote(inputs, kernel.reshape(-1, *kernel.shape[3:]))


def scrambled(x_BHWMIK: Array) -> Array:
    """The windows of the authors' release, in which a place sees components of other places.

    It stacks the P places of the output behind the K numbers of a pose, and reads them as if they
    stood before: of each place of a window and each type, number p' K + k' is number k P + p.
    """
    shape = x_BHWMIK.shape
    x_BPMIK = x_BHWMIK.reshape(shape[0], -1, *shape[3:])
    x_BMIKP = np.moveaxis(x_BPMIK, 1, -1)
    read = x_BMIKP.reshape(*x_BMIKP.shape[:3], *x_BMIKP.shape[:2:-1])  # [B, M, I, P, K]
    return np.moveaxis(read, 3, 1).reshape(shape)


def layer_step(
    spec: Tsai2020,
    arrays: Mapping[str, Array],
    number: int,
    votes_NIJD: Array,
    before: Array | None,
    tap: Tap,
) -> Array:
    """One iteration of a layer: poses [B, H', W', J, D] of votes and of the poses before."""
    shape = (-1, *spec.windows[number].places, *votes_NIJD.shape[2:])
    poses_NJD = None if before is None else before.reshape(-1, *votes_NIJD.shape[2:])
    sum_NJD, _ = inverted_attention(votes_NIJD, poses_NJD, tap=tap)
    return tap("poses", normalised(sum_NJD.reshape(shape), arrays, f"capsule.{number}"))


def normalised(poses: Array, arrays: Mapping[str, Array], name: str) -> Array:
    """Each pose normalised over its own numbers, with one scale and shift for the whole layer."""
    size = poses.shape[-1]
    if size == 1:
        return poses
    own = (arrays[f"{name}.norm.{part}"] for part in ("scale", "shift"))
    return norm.layer(poses.reshape(-1, size), *own, epsilon=POSES.epsilon).reshape(poses.shape)
