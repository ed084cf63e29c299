"""The oracle: capsules, routing, losses and a whole network in float64 NumPy, to be read.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D size of an output
pose, H W C image. Equations are those of Sabour, Frosst, Hinton, "Dynamic Routing Between
Capsules" (2017).

Everything takes complex128 as well, so that `gradient` and `derivative` can differentiate it by
complex step: f(x + ih).imag / h is df/dx up to an error of h * h, with no difference of nearly
equal numbers in it. That asks for two things of every line here: no conjugates (a norm is
sqrt(sum s * s)), and whatever *decides* looks at the real part alone (relu, the shift of a
softmax, whether a capsule is zero).
"""

from collections.abc import Callable, Mapping

import numpy as np

from parity.spec import NetworkSpec, TwincapsError

Array = np.ndarray
Tap = Callable[[str, Array], Array]


def no_tap(name: str, x: Array) -> Array:
    """The tap that does nothing."""
    return x


def double(x) -> Array:
    """`x` in float64, or complex128 where it is complex."""
    x = np.asarray(x)
    return x.astype(np.result_type(x.dtype, np.float64), copy=False)


# Capsules.


def norm(x: Array, axis: int = -1) -> Array:
    """|x| over `axis`, kept with size 1; value and gradient are exactly 0 where x is 0."""
    zero = (np.real(x) == 0).all(axis, keepdims=True)
    return np.where(zero, 0, np.sqrt((x * x).sum(axis, keepdims=True)))


def squash(x, axis: int = -1) -> Array:
    """Eq. 1: x * |x| / (1 + |x|^2) over `axis`, any shape; value and gradient 0 at x = 0."""
    x = double(x)
    length = norm(x, axis)
    return x * length / (1 + length * length)


def lengths(poses) -> Array:
    """|v| over the last axis, [..., D] -> [...]: how likely each capsule's entity is there."""
    return norm(double(poses))[..., 0]


def votes(inputs_BIK, kernel_IJKD) -> Array:
    """Eq. 2, right: what input i predicts for output j, u_i W_ij, as votes_BIJD."""
    return np.einsum("bik,ijkd->bijd", double(inputs_BIK), double(kernel_IJKD))


def softmax(logits: Array, leaky: bool = False) -> Array:
    """Eq. 3 over the last axis; `leaky` has one more logit, fixed at 0, left out of the result."""
    shift = np.real(logits).max(-1, keepdims=True)
    shift = np.maximum(shift, 0) if leaky else shift
    powers = np.exp(logits - shift)
    leak = np.exp(-shift) if leaky else 0
    return powers / (powers.sum(-1, keepdims=True) + leak)


def dynamic(
    votes_BIJD,
    *,
    num_iters: int = 3,
    bias_JD=None,
    leaky: bool = False,
    detach: bool = False,
    tap: Tap = no_tap,
) -> tuple[Array, Array]:
    """Procedure 1, routing by agreement: poses_BJD and the last iteration's coupling_BIJ.

    bias_JD  added to each weighted sum before the squash (the authors' code; not in the paper)
    leaky    the softmax has one more logit, fixed at 0: an input may belong to no output
    detach   the last iteration's couplings are constants: no gradient flows through them
    tap      sees routing.t.{logits, coupling, sum, poses} for t from 0

    Each sample is routed on its own. Raises TwincapsError where num_iters is below 1.
    """
    if num_iters < 1:
        raise TwincapsError(f"num_iters is {num_iters}; expected at least 1")
    votes_BIJD = double(votes_BIJD)
    bias_JD = double(0.0 if bias_JD is None else bias_JD)
    logits = np.zeros(votes_BIJD.shape[:3])
    poses = coupling = np.zeros(0)
    for t in range(num_iters):
        if t > 0:
            logits = logits + np.einsum("bijd,bjd->bij", votes_BIJD, poses)
        logits = tap(f"routing.{t}.logits", logits)
        coupling = softmax(logits, leaky)
        if detach and t == num_iters - 1:
            coupling = np.real(coupling)  # the imaginary part is what carries a complex step
        coupling = tap(f"routing.{t}.coupling", coupling)
        weighted = np.einsum("bij,bijd->bjd", coupling, votes_BIJD) + bias_JD
        weighted = tap(f"routing.{t}.sum", weighted)
        poses = tap(f"routing.{t}.poses", squash(weighted))
    return poses, coupling


ROUTINGS = {"dynamic": dynamic}


# Losses.


def one_hot(targets, classes: int) -> Array:
    """Labels [B] as 0/1 [B, J]; what is 0/1 [B, J] already stays. Raises TwincapsError."""
    targets = np.asarray(targets)
    if targets.ndim == 1 and np.isin(targets, np.arange(classes)).all():
        return np.eye(classes)[targets.astype(int)]
    if targets.ndim == 2 and targets.shape[1] == classes and np.isin(targets, (0, 1)).all():
        return targets.astype(np.float64)
    raise TwincapsError(
        f"targets of shape {targets.shape} and values {np.unique(targets)[:20]}; expected labels "
        f"0 to {classes - 1} of shape [B], or zeros and ones of shape [B, {classes}]"
    )


def margin(
    lengths_BJ,
    targets,
    *,
    positive: float = 0.9,
    negative: float = 0.1,
    down_weight: float = 0.5,
    scale: float = 1.0,
) -> Array:
    """Eq. 4: sum over classes, mean over the batch, times `scale`; targets int [B] or 0/1 [B, J].

    T_k relu(0.9 - |v_k|)^2 + 0.5 (1 - T_k) relu(|v_k| - 0.1)^2
    """
    lengths_BJ = double(lengths_BJ)
    present = one_hot(targets, lengths_BJ.shape[1])
    short, long = relu(positive - lengths_BJ), relu(lengths_BJ - negative)
    terms = present * short * short + down_weight * (1 - present) * long * long
    return scale * terms.sum(1).mean()


def longest(lengths, count: int | None = None) -> Array:
    """The classes of the `count` longest capsules, [..., count], or of all; longest first.

    The first of equal lengths counts as longer.
    """
    return np.argsort(-np.asarray(lengths), axis=-1, kind="stable")[..., :count]


def correct(lengths_BJ, targets) -> Array:
    """Whether the classes present are the longest of all, bool [B]; targets int [B] or 0/1 [B, J].

    With one class, whether its capsule is the longest. The first of equal lengths counts as longer.
    """
    lengths_BJ = np.asarray(lengths_BJ)
    present = one_hot(targets, lengths_BJ.shape[1])
    ranked = np.take_along_axis(present, longest(lengths_BJ), 1)
    in_order = ranked[:, 1:] <= ranked[:, :-1]  # not one that is present after one that is not
    return np.asarray(in_order.all(1))


def reconstruction(reconstructions, images) -> Array:
    """Section 4.1: the sum of squared errors of an image, mean over the batch; not yet weighted.

    Where an image is made of several, [B, P, H, W, C] twice, it is the sum over these too.
    """
    error = double(reconstructions) - double(images)
    return (error * error).reshape(len(error), -1).sum(1).mean()


# Layers.


def relu(x: Array) -> Array:
    """max(x, 0), with gradient 0 at 0."""
    return np.where(np.real(x) > 0, x, 0)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow for x of either sign."""
    small = np.exp(np.where(np.real(x) > 0, -x, x))
    return np.where(np.real(x) > 0, 1, small) / (1 + small)


def conv(x_BHWC, kernel, stride: int = 1) -> Array:
    """A convolution without padding: [B, H, W, in] and [kh, kw, in, out] -> [B, H', W', out].

    y[b, h, w, o] = sum over (m, n, c) of x[b, h * stride + m, w * stride + n, c] kernel[m, n, c, o]
    """
    x_BHWC, kernel = double(x_BHWC), double(kernel)
    windows = np.lib.stride_tricks.sliding_window_view(x_BHWC, kernel.shape[:2], (1, 2))
    windows = windows[:, ::stride, ::stride]  # axes b h w c m n
    return np.tensordot(windows, kernel, ((4, 5, 3), (0, 1, 2)))


def mask(poses_BJD, targets) -> Array:
    """Every pose but the target's set to 0; targets int [B] or 0/1 [B, J]."""
    return double(poses_BJD) * one_hot(targets, np.shape(poses_BJD)[1])[:, :, None]


# A whole network.


def encode(spec: NetworkSpec, arrays: Mapping[str, Array], images, tap: Tap = no_tap) -> Array:
    """Figure 1: images [B, H, W, C] -> poses_BJD."""
    x = tap("image", double(images))
    for n, layer in enumerate(spec.stem):
        x = conv(x, arrays[f"stem.{n}.kernel"], layer.stride) + arrays[f"stem.{n}.bias"]
        x = tap(f"stem.{n}", relu(x))
    x = conv(x, arrays["primary.kernel"], spec.primary.stride) * spec.primary.scale
    x = tap("primary.conv", x + arrays["primary.bias"])
    # Capsules in (height, width, type) order: a channel is type * size + component.
    poses_BIK = tap("primary.poses", squash(x.reshape(len(x), -1, spec.primary.size)))
    poses_BJD, _ = ROUTINGS[spec.routing.name](
        tap("votes", votes(poses_BIK, arrays["digit.kernel"])),
        num_iters=spec.routing.num_iters,
        bias_JD=arrays["digit.bias"] if spec.routing.bias else None,
        leaky=spec.routing.leaky,
        detach=spec.routing.detach,
        tap=tap,
    )
    return poses_BJD


def decode(spec: NetworkSpec, arrays: Mapping[str, Array], masked_BJD: Array) -> Array:
    """Figure 2: masked poses -> images [B, H, W, C]; relu between layers, sigmoid at the end."""
    assert spec.decoder is not None
    x = masked_BJD.reshape(len(masked_BJD), -1)
    for n in range(len(spec.decoder) + 1):
        activation = sigmoid if n == len(spec.decoder) else relu
        x = activation(x @ arrays[f"decoder.{n}.kernel"] + arrays[f"decoder.{n}.bias"])
    return x.reshape(len(x), *spec.image)


def forward(
    spec: NetworkSpec,
    arrays: Mapping[str, Array],
    images,
    labels,
    tap: Tap = no_tap,
    parts: tuple | None = None,
) -> dict[str, Array]:
    """Every tensor of a forward pass and its losses, by the name of its tap, in that order.

    arrays  the parameters under their canonical names (`parity.weights`)
    images  [B, H, W, C] in [0, 1];  labels  int [B] or 0/1 [B, J]
    tap     may change a tensor on its way; what is returned is what it gave back
    parts   what each image is made of: classes int [B, P], each alone [B, P, H, W, C]

    With parts there is a reconstruction for each of them, from the capsule of its class; without,
    one of the image, from the capsules of the labels. A network without a decoder has no
    `reconstruction` and no `loss.reconstruction`.
    """
    seen: dict[str, Array] = {}

    def keep(name: str, x: Array) -> Array:
        seen[name] = tap(name, x)
        return seen[name]

    arrays = {name: double(array) for name, array in arrays.items()}
    poses_BJD = encode(spec, arrays, images, keep)
    lengths_BJ = keep("lengths", lengths(poses_BJD))
    goal = seen["image"]
    if spec.decoder is not None:
        if parts is None:
            decoded = decode(spec, arrays, mask(poses_BJD, labels))
        else:
            classes_PB, goal = np.transpose(parts[0]), double(parts[1])
            each = [decode(spec, arrays, mask(poses_BJD, classes_B)) for classes_B in classes_PB]
            decoded = np.stack(each, 1)
        keep("reconstruction", decoded)
    margins = {name: getattr(spec.loss, name) for name in ("positive", "negative", "down_weight")}
    loss = margin(lengths_BJ, labels, **margins, scale=spec.margin_scale)
    loss = keep("loss.margin", loss)
    if spec.decoder is not None:
        error = reconstruction(seen["reconstruction"], goal)
        loss = loss + spec.loss.reconstruction * keep("loss.reconstruction", error)
    keep("loss", loss)
    return seen


# Derivatives.


def derivative(function: Callable[[Array], Array], x, direction, h: float = 1e-30) -> Array:
    """d function(x + e * direction) / de at e = 0 by complex step: one call, any output shape.

    `h` must be far below the smallest capsule norm that is not 0; 1e-30 is, down to 1e-17.
    """
    return np.imag(function(double(x) + 1j * h * np.asarray(direction))) / h


def gradient(function: Callable[[Array], Array], x, h: float = 1e-30) -> Array:
    """The gradient of a scalar function at `x`, in the shape of x: a call for each number in it."""
    x = double(x)
    result = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        direction = np.zeros(x.shape)
        direction[index] = 1
        result[index] = derivative(function, x, direction, h)
    return result
