"""The mistakes that ports of Efficient-CapsNet make, and those of its normalised stem."""

from functools import partial

from mutants.patch import Mutant

_Mutant = partial(Mutant, network="efficient")
_ONE_PASS = 'einsum("bijd,bjd->bij", votes_BIJD, votes_BIJD.sum(1)) / scale'
_NORMAL = "y = _apply(x, now, spread, scale, shift, epsilon)"

MUTANTS = [
    # Routing.
    _Mutant(
        "self-attention's softmax over the inputs",
        "torch routing._self_attention",
        "logits_BIJ).softmax(-1)",
        "logits_BIJ).softmax(1)",
        1,
        "routing.0.softmax",
    ),
    _Mutant(
        "agreements divided by the root of another size than D",
        "jax routing._self_attention",
        "math.sqrt(votes_BIJD.shape[-1])",
        "math.sqrt(votes_BIJD.shape[1])",
        1,
        "routing.0.logits",
    ),
    _Mutant(
        "agreements not divided",
        "torch routing._self_attention",
        f"torch.{_ONE_PASS}",
        f"torch.{_ONE_PASS}".removesuffix(" / scale"),
        1,
        "routing.0.logits",
    ),
    _Mutant(
        "the prior inside the softmax",
        "jax routing._self_attention",
        "    coupling_BIJ = tap("
        '"routing.0.softmax", jax.nn.softmax(tap("routing.0.logits", logits_BIJ)))\n'
        "    if prior_IJ is not None:\n        coupling_BIJ = coupling_BIJ + prior_IJ[None]\n",
        '    inside = tap("routing.0.logits", logits_BIJ)\n'
        "    inside = inside if prior_IJ is None else inside + prior_IJ[None]\n"
        '    coupling_BIJ = tap("routing.0.softmax", jax.nn.softmax(inside))\n',
        1,
        "routing.0.softmax",
    ),
    _Mutant(
        "the prior forgotten",
        "torch routing._self_attention",
        "coupling_BIJ = coupling_BIJ + prior_IJ",
        "coupling_BIJ = coupling_BIJ + 0 * prior_IJ",
        1,
        "routing.0.coupling",
    ),
    _Mutant(
        "agreement of a vote with itself alone",
        "jax routing._self_attention",
        f"jnp.{_ONE_PASS}",
        'jnp.einsum("bijd,bijd->bij", votes_BIJD, votes_BIJD) / scale',
        1,
        "routing.0.logits",
    ),
    _Mutant(
        "agreement with all votes but its own",
        "torch routing._self_attention",
        f"torch.{_ONE_PASS}",
        f"(torch.{_ONE_PASS.replace(' / scale', '')} - (votes_BIJD**2).sum(-1)) / scale",
        1,
        "routing.0.logits",
    ),
    _Mutant(
        "the squash of 2017 after self-attention",
        "jax routing._self_attention",
        "exponential_squash(sum_BJD))",
        "sum_BJD / (1 / jnp.sqrt((sum_BJD**2).sum(-1, keepdims=True) + 1e-30)"
        " + jnp.sqrt((sum_BJD**2).sum(-1, keepdims=True) + 1e-30)))",
        1,
        "routing.0.poses",
    ),
    _Mutant(
        "the squash of 2017 of the first capsules",
        "torch layers.primary",
        "exponential_squash(primary_poses(",
        "squash(primary_poses(",
        2,
        "primary.poses",
    ),
    _Mutant(
        "1 - exp(-n), which has lost the digits of a small n",
        "jax capsules",
        "-jnp.expm1(-length)",
        "(1.0 - jnp.exp(-length))",
        1,
        "exponential_squash at norm",
    ),
    _Mutant(
        "a kernel J I K D taken for one I J K D",
        "torch capsules",
        '"bik,ijkd->bijd", inputs_BIK, kernel_IJKD)',
        '"bik,jikd->bijd", inputs_BIK, kernel_IJKD.reshape('
        "kernel_IJKD.shape[1], kernel_IJKD.shape[0], *kernel_IJKD.shape[2:]))",
        1,
        "votes",
    ),
    # Normalisation.
    _Mutant(
        "the norm before relu",
        "torch networks.efficient",
        "self.stem = NormalStem(spec.image[2], spec.stem, *how)",
        "self.stem = NormalStem(spec.image[2], spec.stem, *how)\n"
        "        from dataclasses import replace\n"
        "        for each in self.stem:\n"
        "            each.norm.spec = replace(each.norm.spec, first=True)",
        2,
        "stem.0.",
    ),
    _Mutant(
        "an epsilon of 1e-5, torch's and flax's own",
        "jax norm",
        _NORMAL,
        _NORMAL.replace("epsilon", "1e-5"),
        1,
        "batch norm in training",
    ),
    _Mutant(
        "the unbiased variance in the normalisation",
        "torch norm",
        _NORMAL,
        _NORMAL.replace("spread", "spread * (n / (n - 1))"),
        1,
        "batch norm in training",
    ),
    _Mutant(
        "the biased variance in the running number, flax's own",
        "jax norm",
        "spread * (n / (n - 1))",
        "spread",
        1,
        "the new variance",
    ),
    _Mutant(
        "keep read the other way round",
        "torch norm",
        "mean = keep * mean + (1 - keep) * now.detach()",
        "mean = (1 - keep) * mean + keep * now.detach()",
        1,
        "the new mean",
    ),
    _Mutant(
        "running numbers that keep 0.9, torch's own",
        "jax layers.norm",
        "keep=self.spec.keep",
        "keep=0.9",
        2,
        "stem.0.norm.mean",
    ),
    _Mutant(
        "the batch's mean a constant to the gradient",
        "torch norm",
        _NORMAL,
        _NORMAL.replace("now", "now.detach()"),
        1,
        "batch norm in training: gradient by x",
    ),
    _Mutant(
        "the batch's own numbers in evaluation",
        "jax layers.norm",
        "train=train, keep=",
        "train=True, keep=",
        2,
        "stem.0.norm",
    ),
    _Mutant(
        "running numbers that stay as they were",
        "jax training",
        'old.replace(new[".".join(map(str, path))])',
        "old",
        4,
        "norm.mean",
    ),
    # The network.
    _Mutant(
        "a 1x1 convolution after the depthwise one",
        "jax layers.primary",
        "depthwise(x_BHWC, self.kernel[...], self.spec.stride)",
        "depthwise(x_BHWC, self.kernel[...], self.spec.stride).cumsum(-1)",
        2,
        "primary.conv",
    ),
    _Mutant(
        "bytes divided by 255 in place of 256",
        "torch layers.norm",
        "(x_BHWC - x_BHWC.new_tensor(pixels.mean)) / x_BHWC.new_tensor(pixels.deviation)",
        "x_BHWC - x_BHWC.new_tensor(pixels.mean)",
        2,
        "pixels",
    ),
    _Mutant(
        "0.0005 of the mean squared error",
        "jax networks.network",
        "loss = loss + self.spec.loss.reconstruction * reconstruction",
        "loss = loss + self.spec.loss.reconstruction * reconstruction / self.spec.num_pixels",
        2,
        "loss",
    ),
    _Mutant(
        "lengths without their epsilon",
        "torch networks.network",
        "how = self.spec.length_epsilon, self.spec.length_offset",
        "how = 0.0, self.spec.length_offset",
        2,
        "lengths",
    ),
]
