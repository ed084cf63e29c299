"""The table of layouts: how public capsule networks name and order weights.

Axes: kh kw in out of a kernel, n-th layer; type, k of primary capsules on a grid h w; i = all of
these input capsules, or the types of a window's place; j d output capsules; t k and u v, types and
size of what a cell's convolution reads and makes; p q rows and columns of a matrix; H W C image.
`{n}`, `{k}` and `{type}` in a name stand for numbers, `#` for one that is passed over, `{0}` for
the first in the order of their numbers, `[...]` for what may be missing; "1" is an axis of size 1.

Learnt from the published code of each (names and shapes alone); `python -m parity convert
--layout NAME` names a row, and rows of your own are `Layout`s given to `parity.convert.convert`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from parity.spec import NetworkSpec, Routing
from parity.weights import table

Rows = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Layout:
    """Where each canonical tensor is found, and in which order its axes lie.

    Attributes:
        source: Who publishes it.
        tensors: Canonical name -> (name there, axes there); a name with `{k}` or `{type}` is one
            tensor for each, stacked along a first axis.
        capsules: The order of the input capsules, the axis i.
        channels: The order of the primary convolution's output channels, where it is one
            convolution.
        pixels: The order of the decoder's outputs.
        joined: Tensors that hold several, one after another along their first axis: the names in
            `tensors` of these, and the canonical ones.
        zero: Tensors that canonical routing has no place for unless they are all 0.
        ignored: A regular expression of names that are no weights: optimiser slots, counters.
        refused: Why canonical weights cannot express it, "" where they can.
        note: Where its own code computes something else from the same weights.
    """

    source: str
    tensors: Rows = field(repr=False)
    capsules: str = "type h w"
    channels: str = "type k"
    pixels: str = "C H W"
    joined: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    zero: tuple[str, ...] = ()
    ignored: str = ""
    refused: str = ""
    note: str = ""


def native(orders: Mapping[str, str], source: str) -> Layout:
    """The layout of canonical names; `orders` has the axes a wing orders otherwise."""
    with_all = NetworkSpec(routing=Routing(bias=True))
    axes = {re.sub(r"\d+", "{n}", name): row.axes for name, row in table(with_all).items()}
    rows = {name: (name, orders.get(order, order)) for name, order in axes.items()}
    return Layout(source, rows, capsules="h w type", pixels="H W C")


def _rows(stem: str, primary: str, digit: tuple[str, str], decoder: str, piece: str = "") -> Rows:
    """The rows of a PyTorch network with one stem convolution.

    `piece` is as in the name of `primary`.
    """
    channel = {"": "out", "k": "k type", "type": "type k"}[piece]
    return {
        "stem.0.kernel": (f"{stem}.weight", "out in kh kw"),
        "stem.0.bias": (f"{stem}.bias", "out"),
        "primary.kernel": (f"{primary}.weight", f"{channel} in kh kw"),
        "primary.bias": (f"{primary}.bias", channel),
        "digit.kernel": digit,
        "decoder.{n}.kernel": (f"{decoder}.weight", "out in"),
        "decoder.{n}.bias": (f"{decoder}.bias", "out"),
    }


_NEIGHBOURS = (
    "its code makes a capsule of neighbouring pixels of one channel, by a plain view of a "
    "channels-first tensor; canonical capsules are channels of one pixel, so no order of the "
    "weights computes the same"
)
_SOFTMAX = "its softmax runs over the input capsules"
_AVERAGE = "its routing logits are averaged over the batch"
_POSITIONS = "its primary squash runs over the positions"


def _jindongwang(source: str, piece: str, refused: str = "", note: str = "") -> Layout:
    rows = _rows(
        "conv_layer.conv",
        f"primary_capsules.capsules.{{{piece}}}",
        ("digit_capsules.W", "1 i j d k"),
        "decoder.reconstraction_layers.{n}",
        piece,
    )
    return Layout(source, rows, refused=refused, note=note)


_XIFENGGUO = Layout(
    "XifengGuo/CapsNet-Pytorch",
    _rows("conv1", "primarycaps.conv2d", ("digitcaps.weight", "j i d k"), "decoder.{n}"),
    refused=_NEIGHBOURS,
)
_DANIELHAVIR = Layout(
    "danielhavir/capsule-network",
    _rows("conv1", "primary.conv", ("digits.W", "1 j i d k"), "decoder.{n}"),
    refused=_NEIGHBOURS,
)

# Keras numbers the layers of a process; a model inside another is a group of the file.
_KERAS_NORM = (
    *(("scale", "gamma"), ("shift", "beta")),
    *(("mean", "moving_mean"), ("variance", "moving_variance")),
)
_KERAS_CAPS, _KERAS_DECODER = "[Efficient_][CapsNet/]", "[Generator/]"


def _efficient(source: str, stem: Mapping[str, str], primary: str, digit: str) -> Layout:
    """A row for Efficient-CapsNet's code, where `stem` numbers its convolutions."""
    rows: Rows = {}
    for n, number in stem.items():
        conv = f"{_KERAS_CAPS}conv2d[_]{number}"
        norm = f"{_KERAS_CAPS}[batch][instance]_normalization[_]{number}"
        rows[f"stem.{n}.kernel"] = (f"{conv}/kernel[:0]", "kh kw in out")
        rows[f"stem.{n}.bias"] = (f"{conv}/bias[:0]", "out")
        for ours, theirs in _KERAS_NORM:
            rows[f"stem.{n}.norm.{ours}"] = (f"{norm}/{theirs}[:0]", "out")
    rows["primary.kernel"] = (f"{_KERAS_CAPS}{primary}/kernel[:0]", "kh kw 1 out")
    rows["primary.bias"] = (f"{_KERAS_CAPS}{primary}/bias[:0]", "out")
    rows["digit.kernel"] = (f"{_KERAS_CAPS}{digit}/W[:0]", "j i k d")
    rows["digit.prior"] = (f"{_KERAS_CAPS}{digit}/b[:0]", "j i 1")
    for part, axes in (("kernel", "in out"), ("bias", "out")):
        rows[f"decoder.{{n}}.{part}"] = (f"{_KERAS_DECODER}dense[_]{{n}}/{part}[:0]", axes)
    for n in range(4):  # of smallNORB's decoder, after its one dense layer
        conv = f"Generator/conv2d[_]{{{n}}}"
        rows[f"decoder.{n + 1}.kernel"] = (f"{conv}/kernel[:0]", "kh kw in out")
        rows[f"decoder.{n + 1}.bias"] = (f"{conv}/bias[:0]", "out")
    return Layout(source, rows, pixels="H W C")


def _deepcaps() -> Rows:
    """DeepCaps' rows: capsules are numbered through its four cells, u, skip, two more."""
    rows: Rows = {}

    def norm(ours: str, place: str) -> None:
        for part, theirs in _KERAS_NORM:
            rows[f"{ours}.norm.{part}"] = (f"{place}/{theirs}[:0]", "out")

    rows["stem.0.kernel"] = ("conv2d[_]{0}/kernel[:0]", "kh kw in out")
    rows["stem.0.bias"] = ("conv2d[_]{0}/bias[:0]", "out")
    norm("stem.0", "[decoder/]batch_normalization[_]{0}")
    names = [
        f"cell.{n}.{name}" for n in range(4) for name in ("caps.0", "skip", "caps.1", "caps.2")
    ]
    names.remove("cell.3.skip")
    for n, name in enumerate(names):
        rows[f"{name}.kernel"] = (f"conv2d_caps[_]{{{n}}}/kernel[:0]", "kh kw t k u v")
    rows["cell.3.skip.kernel"] = ("conv_capsule_layer3d[_]#/W[:0]", "k kh kw t (u v)")
    rows["cell.3.skip.bias"] = ("conv_capsule_layer3d[_]#/b[:0]", "u v 1 1")
    rows["digit.kernel"] = ("digit_caps/W[:0]", "j i d k")
    rows["digit.bias"] = ("digit_caps/B[:0]", "j d")
    rows["decoder.0.kernel"] = ("[decoder/]dense[_]#/kernel[:0]", "in out")
    rows["decoder.0.bias"] = ("[decoder/]dense[_]#/bias[:0]", "out")
    norm("decoder.0", "[decoder/]batch_normalization[_]{1}")
    for n in range(5):
        conv = f"[decoder/]conv2d_transpose[_]{{{n}}}"
        rows[f"decoder.{n + 1}.kernel"] = (f"{conv}/kernel[:0]", "kh kw out in")
        rows[f"decoder.{n + 1}.bias"] = (f"{conv}/bias[:0]", "out")
    return rows


_TORCH_NORM = (
    *(("scale", "weight"), ("shift", "bias")),
    *(("mean", "running_mean"), ("variance", "running_var")),
)


def _self_routing(depth: int) -> Layout:
    """A row for self-routing's code on its ResNet-20, with `depth` layers of capsules."""
    rows: Rows = {}

    def layer(ours: str, conv: str, norm: str) -> None:
        rows[f"{ours}.kernel"] = (f"{conv}.weight", "out in kh kw")
        for part, theirs in _TORCH_NORM:
            rows[f"{ours}.norm.{part}"] = (f"{norm}.{theirs}", "out")

    layer("stem.0", "conv1", "bn1")
    for n in range(9):
        for m in range(2):
            block = f"layer{n // 3 + 1}.{n % 3}"
            layer(f"block.{n}.conv.{m}", f"{block}.conv{m + 1}", f"{block}.bn{m + 1}")
    layer("activation", "conv_a", "bn_a")
    layer("primary", "conv_pose", "bn_pose")
    for n in range(depth):
        last = n == depth - 1
        theirs = "fc" if last else f"conv_layers.{n}"
        rows[f"capsule.{n}.route.kernel"] = (f"{theirs}.W2", "(kh kw i) j k")
        rows[f"capsule.{n}.route.bias"] = (f"{theirs}.b2", "1 1 (kh kw i) j")
        if not last:
            rows[f"capsule.{n}.kernel"] = (f"{theirs}.W1", "(kh kw i) (j d) k")
            for part, name in _TORCH_NORM:
                rows[f"capsule.{n}.norm.{part}"] = (f"norm_layers.{n}.{name}", "out")
    source = f"coder3000/SR-CapsNet: .pth.tar of resnet20_self_routing, depth {depth}"
    return Layout(source, rows, capsules="h w type", ignored=r".*\.num_batches_tracked")


def _inverted() -> Rows:
    """Inverted attention's rows, of both backbones: two layers of windows, one or two dense."""
    rows: Rows = {"primary.kernel": ("pc_layer.weight", "out in kh kw")}
    head = "pre_caps.pre_caps"

    def norm(ours: str, theirs: str) -> None:
        for part, name in _TORCH_NORM:
            rows[f"{ours}.norm.{part}"] = (f"{theirs}.{name}", "out")

    def conv(ours: str, kernel: str, theirs: str) -> None:
        rows[f"{ours}.kernel"] = (f"{kernel}.weight", "out in kh kw")
        norm(ours, theirs)

    conv("stem.0", f"{head}.0", f"{head}.1")
    rows["stem.0.bias"] = (f"{head}.0.bias", "out")
    for n, place in enumerate([*(f"3.{n}" for n in range(3)), *(f"4.{n}" for n in range(4))]):
        for m in range(2):
            block = f"{head}.{place}"
            conv(f"block.{n}.conv.{m}", f"{block}.conv{m + 1}", f"{block}.bn{m + 1}")
    conv("block.3.shortcut", f"{head}.4.0.shortcut.0", f"{head}.4.0.shortcut.1")
    norm("primary", "nonlinear_act")
    for n in range(4):
        # Of a grid they number the capsules (type, h, w).
        axes = "kh kw i p q j" if n < 2 else "(i kh kw) p q j"
        rows[f"capsule.{n}.kernel"] = (f"capsule_layers.{n}.w", axes)
        norm(f"capsule.{n}", f"capsule_layers.{n}.nonlinear_act")
    rows["head.kernel"] = ("final_fc.weight", "out in")
    rows["head.bias"] = ("final_fc.bias", "out")
    return rows


def _variational_bayes(source: str, *layers: str) -> Layout:
    """A row for variational Bayes routing, with the names of its layers' votes and routings."""
    rows: Rows = {}

    def norm(ours: str, theirs: str, affine: bool = True) -> None:
        for part, name in _TORCH_NORM[0 if affine else 2 :]:
            rows[f"{ours}.norm.{part}"] = (f"{theirs}.{name}", "out")

    rows["stem.0.kernel"] = ("Conv_1.weight", "out in kh kw")
    norm("stem.0", "BN_1")
    whole, pieces = "PrimaryCaps.weight", {}
    for ours, piece, own in (("primary", "poses", "BN_p"), ("activation", "activations", "BN_a")):
        pieces[f"{whole}/{piece}"] = f"{ours}.kernel"
        rows[f"{ours}.kernel"] = (f"{whole}/{piece}", "out in kh kw")
        norm(ours, f"PrimaryCaps.{own}")
    for n, layer in enumerate(layers):
        votes, routing = (layer.format(what) for what in ("Caps", "Routing"))
        # The classes' matrices are those of all places, but where nothing stands before them.
        shared = n > 0 and n == len(layers) - 1
        places = "1 1" if shared else "kh kw"
        rows[f"capsule.{n}.kernel"] = (f"{votes}.W_ij", f"1 i j 1 p q 1 1 {places}")
        for beta in ("beta_a", "beta_u"):
            rows[f"capsule.{n}.{beta}"] = (f"{routing}.{beta}", "1 1 j 1 1 1 1 1 1")
        norm(f"capsule.{n}", f"{routing}.BN_v", False)
        norm(f"capsule.{n}.activation", f"{routing}.BN_a", False)
    return Layout(
        source,
        rows,
        joined={whole: pieces},
        ignored=r".*\.(num_batches_tracked|m0|(lndet_)?Psi0|diga_arg|Dlog2(pi)?|filter)",
        note="it adds one constant to all votes for the classes, as Ribeiro2020(released=True) does"
        if len(layers) > 1
        else "",
    )


LAYOUTS = {
    "official": Layout(
        "Sarasra/models, research/capsules: TensorFlow variables in an .npz",
        {
            "stem.0.kernel": ("conv1/weights", "kh kw in out"),
            "stem.0.bias": ("conv1/biases", "out"),
            "primary.kernel": ("conv_capsule1/weights", "kh kw in out"),
            "primary.bias": ("conv_capsule1/biases", "type k 1 1"),
            "digit.kernel": ("capsule2/weights", "i k (j d)"),
            "digit.bias": ("capsule2/biases", "j d"),
            "decoder.{n}.kernel": ("recons/recons_{n}/weights", "in out"),
            "decoder.{n}.bias": ("recons/recons_{n}/biases", "out"),
        },
        ignored=r".*/(Adam|Adam_1|ExponentialMovingAverage)|beta[12]_power|(.*/)?global_step",
        note="its primary layer divides by the number of types, as sabour2017-official does",
    ),
    "xifengguo-keras": Layout(
        "XifengGuo/CapsNet-Keras: .h5 of save_weights or save",
        {
            "stem.0.kernel": ("conv1/kernel[:0]", "kh kw in out"),
            "stem.0.bias": ("conv1/bias[:0]", "out"),
            "primary.kernel": ("primarycap_conv2d/kernel[:0]", "kh kw in out"),
            "primary.bias": ("primarycap_conv2d/bias[:0]", "out"),
            "digit.kernel": ("digitcaps/W[:0]", "j i d k"),
            "decoder.{n}.kernel": ("[decoder/]dense[_]{n}/kernel[:0]", "in out"),
            "decoder.{n}.bias": ("[decoder/]dense[_]{n}/bias[:0]", "out"),
        },
        capsules="h w type",
        pixels="H W C",
    ),
    "efficient": _efficient(
        "EscVM/Efficient-CapsNet: .h5 of save_weights",
        {"{n}": "{n}"},
        "primary_caps[_]#/conv2d[_]#",
        "fc_caps[_]#",
    ),
    "efficient-released": _efficient(
        "EscVM/Efficient-CapsNet: the .h5 files in its bin, from before its layers had these names",
        {str(n): f"{{{n}}}" for n in range(4)},
        "conv2d[_]{4}",
        "digit_caps[_]#",
    ),
    "deepcaps": Layout(
        "brjathu/deepcaps: .h5 of save_weights or save, of its models to train and to evaluate",
        _deepcaps(),
        capsules="h w type",
        pixels="H W C",
        note="its 3-D routing reads capsules in the memory's order and squashes whole maps, as "
        "Dynamic3D(released=True) does",
    ),
    "selfrouting-1": _self_routing(1),
    "selfrouting-2": _self_routing(2),
    "inverted": Layout(
        "apple/ml-capsules-inverted-attention-routing: checkpoints of its two networks",
        _inverted(),
        ignored=r".*num_batches_tracked",
        note="its windows hold components of other places, as Tsai2020(released=True) reads them",
    ),
    "fabio-deep": _variational_bayes(
        "fabio-deep/Variational-Capsule-Routing: state_dict of CapsuleNet",
        *("Conv{}_1", "Conv{}_2", "Class{}"),
    ),
    "fabio-deep-tiny": _variational_bayes(
        "fabio-deep/Variational-Capsule-Routing: state_dict of tinyCapsuleNet", "Class{}"
    ),
    "adambielski": Layout(
        "adambielski/CapsNet-pytorch, with its reconstruction network or without",
        _rows(
            "[capsnet.]conv1",
            "[capsnet.]primaryCaps.conv",
            ("[capsnet.]digitCaps.weights", "i k (j d)"),
            "reconstruction_net.fc{n}",
        ),
        zero=("[capsnet.]digitCaps.routing_module.b",),
        note="its routing_iterations=r runs r + 1 iterations",
    ),
    "gram-ai": Layout(
        "gram-ai/capsule-networks",
        _rows(
            "conv1",
            "primary_capsules.capsules.{k}",
            ("digit_capsules.route_weights", "j i k d"),
            "decoder.{n}",
            piece="k",
        ),
        zero=("digit_capsules.route_logits",),
        note=_SOFTMAX,
    ),
    "labml": Layout(
        "labmlai/annotated_deep_learning_paper_implementations",
        _rows("conv1", "conv2", ("digit_capsules.weight", "i j k d"), "decoder.{n}"),
        channels="k type",
    ),
    "jindongwang": _jindongwang("jindongwang/Pytorch-CapsuleNet", "k", refused=_NEIGHBOURS),
    "jindongwang-by-component": _jindongwang(
        "copies of jindongwang's with a convolution for each component, joined on a last axis: "
        "cat([c(x).view(B, -1, 1) for c in capsules], -1)",
        "k",
        note=f"{_SOFTMAX}; {_AVERAGE}",
    ),
    "higgsfield": _jindongwang("higgsfield/Capsule-Network-Tutorial", "type", refused=_NEIGHBOURS),
    "higgsfield-by-type": _jindongwang(
        "copies of higgsfield's with a convolution for each type, regrouped: "
        "stack([c(x) for c in capsules], 1).permute(0, 1, 3, 4, 2)",
        "type",
        note=f"{_SOFTMAX}; {_AVERAGE}",
    ),
    "xifengguo": _XIFENGGUO,
    "xifengguo-regrouped": replace(
        _XIFENGGUO,
        source="copies of xifengguo's that regroup the channels: "
        "view(B, types, size, H, W).permute(0, 1, 3, 4, 2)",
        refused="",
    ),
    "danielhavir": _DANIELHAVIR,
    "danielhavir-regrouped": replace(
        _DANIELHAVIR,
        source="copies of danielhavir's that regroup the channels: "
        "view(B, types, size, H, W).permute(0, 1, 3, 4, 2)",
        refused="",
    ),
    "timomernick": Layout(
        "timomernick/pytorch-capsule",
        _rows(
            "conv1.conv0",
            "primary.unit_{k}",
            ("digits.W", "1 i j d k"),
            "reconstruct{n}",
            piece="k",
        ),
        note=f"{_POSITIONS}; {_SOFTMAX}; {_AVERAGE}",
    ),
    "cedrickchee": Layout(
        "cedrickchee/capsule-net-pytorch",
        _rows(
            "conv1.conv0",
            "primary.conv_unit{k}",
            ("digits.W", "1 i j d k"),
            "decoder.fc{n}",
            piece="k",
        ),
        note=f"{_POSITIONS}; {_AVERAGE}",
    ),
}
