"""Public networks of the 2017 paper; `layouts/__init__.py` has the axes."""

from dataclasses import replace

from parity.convert.layouts.layout import Layout, Rows


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
