"""Small capsule networks in foreign layouts, which the rows of the table are proven against.

They are ours, in NumPy, in the manner of the code that each layout is named after: its names, its
shapes, its way to form capsules and votes. Routing, squash and losses are the paper's in all of
them, since it is the layout of the weights that a row is about.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from parity.spec import Conv, NetworkSpec, Primary, Routing

Tensors = dict[str, np.ndarray]

# Images of 19 x 15 x 2, a grid of 7 x 5, capsules of 3 types and 2 components: I = 105.
SPEC = NetworkSpec(
    image=(19, 15, 2),
    stem=(Conv(17, 3),),
    primary=Primary(types=3, size=2, kernel=5, stride=2),
    classes=11,
    pose=13,
    decoder=(23, 29),
)
OFFICIAL = dataclasses.replace(
    SPEC, primary=dataclasses.replace(SPEC.primary, scale=1 / 3), routing=Routing(bias=True)
)
C, STEM, TYPES, K, INPUTS, J, D, PIXELS = 2, 17, 3, 2, 105, 11, 13, 570


# What all of them share.


def conv_oihw(x_BCHW, kernel, stride=1):
    windows = np.lib.stride_tricks.sliding_window_view(x_BCHW, kernel.shape[2:], (2, 3))
    return np.einsum("bchwmn,ocmn->bohw", windows[:, :, ::stride, ::stride], kernel)


def conv_hwio(x_BHWC, kernel, stride=1):
    windows = np.lib.stride_tricks.sliding_window_view(x_BHWC, kernel.shape[:2], (1, 2))
    return np.einsum("bhwcmn,mnco->bhwo", windows[:, ::stride, ::stride], kernel)


def squash(x, axis=-1):
    square = (x * x).sum(axis, keepdims=True)
    return x * np.sqrt(square) / (1 + square)


def route(votes_BIJD, bias=0.0):
    logits = np.zeros((*votes_BIJD.shape[:3], 1))
    for _ in range(2):
        weights = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
        poses = squash((weights * votes_BIJD).sum(1) + bias)
        logits = logits + (votes_BIJD * poses[:, None]).sum(3, keepdims=True)
    weights = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    return squash((weights * votes_BIJD).sum(1) + bias)


def decode(poses_BJD, labels, layers):
    x = np.stack([np.zeros_like(poses_BJD[0])] * len(labels))
    for n, label in enumerate(labels):
        x[n, label] = poses_BJD[n, label]
    x = x.reshape(len(x), -1)
    *hidden, (kernel, bias) = layers
    for inner, shift in hidden:
        x = np.maximum(x @ inner + shift, 0)
    return 1 / (1 + np.exp(-(x @ kernel + bias)))


# How each forms capsules [B, I, K] from the stem's output, and votes [B, I, J, D].


def one_convolution(name):
    def capsules(x, t):
        y = conv_oihw(x, t[f"{name}.weight"], 2) + t[f"{name}.bias"][:, None, None]
        return y.reshape(len(y), TYPES, K, 7, 5).transpose(0, 1, 3, 4, 2).reshape(len(y), -1, K)

    return capsules


def components_first(x, t):
    y = conv_oihw(x, t["conv2.weight"], 2) + t["conv2.bias"][:, None, None]
    return y.reshape(len(y), K, -1).transpose(0, 2, 1)


def each_component(name):
    def capsules(x, t):
        each = [
            conv_oihw(x, t[f"{name}{n}.weight"], 2) + t[f"{name}{n}.bias"][:, None, None]
            for n in range(K)
        ]
        return np.concatenate([y.reshape(len(y), -1, 1) for y in each], -1)

    return capsules


def each_type(name):
    def capsules(x, t):
        each = [
            conv_oihw(x, t[f"{name}{n}.weight"], 2) + t[f"{name}{n}.bias"][:, None, None]
            for n in range(TYPES)
        ]
        y = np.stack(each, 1)  # [B, type, component, H, W]
        return y.transpose(0, 1, 3, 4, 2).reshape(len(y), -1, K)

    return capsules


def jidk(name):
    return lambda u, t: (t[name] @ u[:, None, :, :, None])[..., 0].transpose(0, 2, 1, 3)


def jikd(name):
    def votes(u, t):
        priors = u[None, :, :, None, :] @ t[name][:, None]  # [J, B, I, 1, D]
        return priors[:, :, :, 0].transpose(1, 2, 0, 3)

    return votes


def ijdk(name):  # of shape [1, I, J, D, K]
    return lambda u, t: (t[name] @ np.stack([u] * J, 2)[..., None])[..., 0]


def ijkd(name):
    return lambda u, t: np.einsum("ijnm,bin->bijm", t[name], u)


def ik_jd(name):
    return lambda u, t: (u[:, :, None, :] @ t[name]).reshape(len(u), -1, J, D)


@dataclass(frozen=True)
class Foreign:
    """A network in a foreign layout: the shapes of its tensors, and what it computes."""

    shapes: dict[str, tuple[int, ...]]
    forward: Callable[[Tensors, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    spec: NetworkSpec = SPEC


def torch_network(stem, primary, digit, votes, shape, decoder, capsules, pieces=(6,)):
    """A PyTorch network: NCHW, `pieces` the output channels of each primary convolution."""
    numbers = [""] if pieces == (6,) else range(len(pieces))
    layers = [decoder.format(n=n, i=2 * n) for n in range(3)]
    shapes = {f"{stem}.weight": (STEM, C, 3, 3), f"{stem}.bias": (STEM,)}
    for number, out in zip(numbers, pieces, strict=True):
        shapes[f"{primary}{number}.weight"] = (out, STEM, 5, 5)
        shapes[f"{primary}{number}.bias"] = (out,)
    shapes[digit] = shape
    for layer, (inner, out) in zip(layers, [(J * D, 23), (23, 29), (29, PIXELS)], strict=True):
        shapes |= {f"{layer}.weight": (out, inner), f"{layer}.bias": (out,)}

    def forward(t, images, labels):
        x = images.transpose(0, 3, 1, 2)
        x = np.maximum(conv_oihw(x, t[f"{stem}.weight"]) + t[f"{stem}.bias"][:, None, None], 0)
        poses = route(votes(digit)(squash(capsules(primary)(x, t)), t))
        pairs = [(t[f"{each}.weight"].T, t[f"{each}.bias"]) for each in layers]
        decoded = decode(poses, labels, pairs).reshape(-1, 2, 19, 15)
        return poses, decoded.transpose(0, 2, 3, 1)

    return Foreign(shapes, forward)


def keras(dense):
    """XifengGuo/CapsNet-Keras: NHWC; its names are paths in an .h5 file, `dense` the decoder's."""
    paths = {name: f"{name}/{name}" for name in ("conv1", "primarycap_conv2d", "digitcaps")}
    conv1, primary, digit = paths.values()
    shapes = {f"{conv1}/kernel:0": (3, 3, C, STEM), f"{conv1}/bias:0": (STEM,)}
    shapes |= {f"{primary}/kernel:0": (5, 5, STEM, 6), f"{primary}/bias:0": (6,)}
    shapes |= {f"{digit}/W:0": (J, INPUTS, D, K)}
    for layer, (inner, out) in zip(dense, [(J * D, 23), (23, 29), (29, PIXELS)], strict=True):
        shapes |= {f"{layer}/kernel:0": (inner, out), f"{layer}/bias:0": (out,)}

    def forward(t, images, labels):
        x = np.maximum(conv_hwio(images, t[f"{conv1}/kernel:0"]) + t[f"{conv1}/bias:0"], 0)
        x = conv_hwio(x, t[f"{primary}/kernel:0"], 2) + t[f"{primary}/bias:0"]
        u = squash(x.reshape(len(x), -1, K))
        poses = route(np.einsum("bik,jidk->bijd", u, t[f"{digit}/W:0"]))
        pairs = [(t[f"{each}/kernel:0"], t[f"{each}/bias:0"]) for each in dense]
        return poses, decode(poses, labels, pairs).reshape(-1, *SPEC.image)

    return Foreign(shapes, forward)


def official():
    """The authors' TensorFlow code: NCHW data, kernels kh kw in out, a softmax over the types."""
    shapes = {"conv1/weights": (3, 3, C, STEM), "conv1/biases": (STEM,)}
    shapes |= {"conv_capsule1/weights": (5, 5, STEM, 6), "conv_capsule1/biases": (TYPES, K, 1, 1)}
    shapes |= {"capsule2/weights": (INPUTS, K, J * D), "capsule2/biases": (J, D)}
    for n, (inner, out) in enumerate([(J * D, 23), (23, 29), (29, PIXELS)], 1):
        shapes |= {f"recons/recons_{n}/weights": (inner, out), f"recons/recons_{n}/biases": (out,)}

    def forward(t, images, labels):
        x = conv_hwio(images, t["conv1/weights"]) + t["conv1/biases"]
        x = conv_hwio(np.maximum(x, 0), t["conv_capsule1/weights"], 2).transpose(0, 3, 1, 2)
        x = x.reshape(len(x), TYPES, K, 7, 5) / TYPES + t["conv_capsule1/biases"]
        u = squash(x, 2).transpose(0, 1, 3, 4, 2).reshape(len(x), -1, K)
        votes = (u[..., None] * t["capsule2/weights"]).sum(2).reshape(len(u), -1, J, D)
        poses = route(votes, t["capsule2/biases"])
        names = [f"recons/recons_{n}" for n in (1, 2, 3)]
        pairs = [(t[f"{each}/weights"], t[f"{each}/biases"]) for each in names]
        return poses, decode(poses, labels, pairs).reshape(-1, 2, 19, 15).transpose(0, 2, 3, 1)

    return Foreign(shapes, forward, OFFICIAL)


JIDK, JIKD = (J, INPUTS, D, K), (J, INPUTS, K, D)
IJDK, IJKD, IK_JD = (1, INPUTS, J, D, K), (INPUTS, J, K, D), (INPUTS, K, J * D)
BY_COMPONENT, BY_TYPE = (TYPES,) * K, (K,) * TYPES
CAPSULES = "primary_capsules.capsules."
RECONSTRACTION = "decoder.reconstraction_layers.{i}"

CASES = {
    "official": official(),
    "xifengguo-keras": keras([f"decoder/dense_{n}" for n in (9, 10, 11)]),
    "adambielski": torch_network(
        *("conv1", "primaryCaps.conv", "digitCaps.weights", ik_jd, IK_JD),
        *("reconstruction_net.fc{n}", one_convolution),
    ),
    "gram-ai": torch_network(
        *("conv1", CAPSULES, "digit_capsules.route_weights", jikd, JIKD, "decoder.{i}"),
        *(each_component, BY_COMPONENT),
    ),
    "labml": torch_network(
        *("conv1", "conv2", "digit_capsules.weight", ijkd, IJKD, "decoder.{i}"),
        lambda name: components_first,
    ),
    "jindongwang-by-component": torch_network(
        *("conv_layer.conv", CAPSULES, "digit_capsules.W", ijdk, IJDK, RECONSTRACTION),
        *(each_component, BY_COMPONENT),
    ),
    "higgsfield-by-type": torch_network(
        *("conv_layer.conv", CAPSULES, "digit_capsules.W", ijdk, IJDK, RECONSTRACTION),
        *(each_type, BY_TYPE),
    ),
    "xifengguo-regrouped": torch_network(
        *("conv1", "primarycaps.conv2d", "digitcaps.weight", jidk, JIDK, "decoder.{i}"),
        one_convolution,
    ),
    "danielhavir-regrouped": torch_network(
        *("conv1", "primary.conv", "digits.W", jidk, (1, *JIDK), "decoder.{i}"),
        one_convolution,
    ),
    "timomernick": torch_network(
        *("conv1.conv0", "primary.unit_", "digits.W", ijdk, IJDK, "reconstruct{n}"),
        *(each_component, BY_COMPONENT),
    ),
    "cedrickchee": torch_network(
        *("conv1.conv0", "primary.conv_unit", "digits.W", ijdk, IJDK, "decoder.fc{n}"),
        *(each_component, BY_COMPONENT),
    ),
}


def draw(name: str, seed: int = 0) -> Tensors:
    """Random numbers in every tensor, of a size at which routing and the decoder do something."""
    random = np.random.default_rng(seed)
    return {
        each: random.normal(0, 0.7 if INPUTS in shape else 0.15, shape)
        for each, shape in CASES[name].shapes.items()
    }


def write(path, tensors: Tensors):
    """The tensors as the kind of file that their names are found in."""
    if not any(name.endswith(":0") for name in tensors):
        np.savez(path.with_suffix(".npz"), **tensors)
        return path.with_suffix(".npz")
    import h5py

    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, tensor in tensors.items():
            file[name] = tensor
    return path.with_suffix(".h5")
