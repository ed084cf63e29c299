"""The usual suspects: what a difference at a module of this kind has been before.

Hints and never facts: the words of a module's class and of the kind of difference choose them.
"""

import re

# A pattern of the class or the name of a module -> its suspects, the commonest first.
SUSPECTS: dict[str, tuple[str, ...]] = {
    r"conv.*transpose|deconv": (
        "transposed convolution: JAX does not flip the kernel unless transpose_kernel is set",
        "output_padding, or padding counted from the other side",
    ),
    r"conv": (
        "padding: SAME pads by stride and size, more at the end; a number pads both ends alike",
        "the kernel's axes: (out, in, h, w) in PyTorch, (h, w, in, out) in Flax",
        "stride, dilation or groups",
    ),
    r"batch_?norm": (
        "train and evaluation mode: statistics of the batch or the running ones",
        "epsilon: 1e-5 in PyTorch, Flax and Equinox; 1e-3 in Keras",
        "running mean and variance not copied; momentum counts the other way round",
        "variance: PyTorch keeps the unbiased one, Flax the biased one",
    ),
    r"(layer|group|rms|instance)_?norm|norm": (
        "epsilon: 1e-5 in PyTorch and Equinox, 1e-6 in Flax, 1e-12 in BERT",
        "which axes are normalised; how channels form groups",
        "scale stored as 1 + weight; variance biased or unbiased",
    ),
    r"gelu": ("gelu: erf in PyTorch, tanh by default in JAX",),
    r"pool": ("padding counted in the mean or not (count_include_pad); ceil_mode; padding SAME",),
    r"attention|attn": (
        "scale: 1 / sqrt of a head's size; applied once, on the scores or on the queries",
        "mask: True lets through in Flax, and keeps out in PyTorch's key_padding_mask",
        "heads split before or after the transposition; softmax over another axis",
    ),
    r"lstm|gru|rnn|cell": (
        "order of the gates: i f g o in PyTorch, i f o g elsewhere",
        "PyTorch adds two biases; GRU's reset is before or after the matrix product",
        "layout: (time, batch) or (batch, time); a forget bias of 1",
    ),
    r"embed": ("an index off by one, or a scale by sqrt of the size", "padding index"),
    r"linear|dense|fc|proj|mlp|head": (
        "the kernel: (out, in) in PyTorch and Equinox, (in, out) in Flax",
        "rows in the order in which the other side flattens: (c, h, w) or (h, w, c)",
        "a missing bias",
    ),
    r"drop": ("dropout left on: eval() in PyTorch, deterministic=True in Flax",),
    r"upsample|interpol|resize": (
        "align_corners, half-pixel centres, antialias (on by default in jax.image.resize)",
    ),
    r"softmax": ("softmax over another axis",),
    r"capsule|rout|squash": (
        "softmax over the wrong capsules; agreement with the weighted sum instead of the votes",
        "capsules grouped from (type, component) or (component, type)",
    ),
}
GENERAL: dict[str, tuple[str, ...]] = {
    "rounding": (
        "TF32 or bfloat16 in one side's matrix products: "
        "torch.backends.cuda.matmul.allow_tf32, jax_default_matmul_precision",
    ),
    "axis order": ("a view or reshape without the transposition, or one too many",),
    "scale or offset": ("epsilon, a scale, a bias, or statistics of a normalisation",),
    "shift": ("padding: more at the start on one side, more at the end on the other",),
    "border": ("padding: zeros, reflected, or not counted in a mean",),
    "sign": ("a subtraction the other way round, or a flipped kernel",),
    "shape": ("stride, padding, ceil_mode, or an axis dropped",),
    "random": ("dropout left on: eval() in PyTorch, deterministic=True in Flax",),
    "not finite on one side": ("a root or a logarithm at 0; a mask of -inf over a whole row",),
    "gradient on one side alone": ("detach or stop_gradient; a rounding without a gradient",),
}
MOST = 4


def suspects(kind: str, words: str) -> list[str]:
    """The hints for a kind of difference at a module with these words in class and name."""
    found = list(GENERAL.get(kind, ()))
    if kind in ("random", "rounding"):
        return found[:MOST]
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", words).lower()
    for pattern, said in SUSPECTS.items():
        if re.search(pattern, spaced):
            found += said
            break
    return list(dict.fromkeys(found))[:MOST]
