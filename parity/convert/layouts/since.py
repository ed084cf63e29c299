"""Networks since, as their authors publish them; `layouts/__init__.py` has the axes."""

from collections.abc import Mapping

from parity.convert.layouts.layout import Layout, Rows

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
}
