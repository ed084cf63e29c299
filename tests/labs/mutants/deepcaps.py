"""The mistakes that ports of DeepCaps make."""

from functools import partial

from mutants.patch import Mutant

_Mutant = partial(Mutant, network="deepcaps")

MUTANTS = [
    _Mutant(
        "3-D routing's softmax over the types at a place",
        "torch routing._dynamic_3d",
        "of_input.flatten(2).softmax(-1)",
        "of_input.softmax(-1)",
        1,
        "routing.0.coupling",
    ),
    _Mutant(
        "3-D routing's squash of a whole map, as the released code has it",
        "jax routing._dynamic_3d",
        "(1, 3) if released else -1",
        "(1, 3)",
        1,
        "routing.0.poses",
    ),
    _Mutant(
        "3-D routing's votes detached in all but the last iteration",
        "torch routing._dynamic_3d",
        '"bpijd,bpjd->bpij", votes, poses',
        '"bpijd,bpjd->bpij", votes.detach(), poses',
        1,
        "gradient by votes",
    ),
    _Mutant(
        "the odd row and column of padding at the start, not the end",
        "torch convolution",
        "rows, columns = (same_padding(size, kernel, stride) for size in x_BHWC.shape[1:3])",
        "rows, columns = (same_padding(size, kernel, stride)[::-1] for size in x_BHWC.shape[1:3])",
        1,
        "padded as for 'same', stride 2",
    ),
    _Mutant(
        "an epsilon beside the root of a squash in place of one under it",
        "jax capsules",
        "(1.0 + square) / jnp.sqrt(square + epsilon)",
        "(1.0 + square) / (jnp.sqrt(square) + epsilon)",
        1,
        "squash with an epsilon",
    ),
    _Mutant(
        "the stem's capsules of one number squashed",
        "torch networks.deepcaps",
        "        # Its channels are capsules of one number, which are not squashed.\n",
        "        x_BHWC = x_BHWC * x_BHWC.abs() / (1 + x_BHWC * x_BHWC)\n",
        2,
        "cell.0.caps.0.conv",
    ),
    _Mutant(
        "a sum of squashed capsules squashed again",
        "jax layers.cell",
        "return tap(name, y + skip)",
        "return tap(name, squash(y + skip))",
        2,
        "cell.0",
    ),
    _Mutant(
        "the memory's order of children, as the released code has it",
        "jax layers.cell",
        'if self.routing.options.get("released"):',
        "if True:",
        2,
        "cell.2.skip.votes",
    ),
    _Mutant(
        "the cell before joined before the last one",
        "torch networks.deepcaps",
        "grids[:-3:-1]",
        "grids[-2:]",
        2,
        "primary.poses",
    ),
    _Mutant(
        "a transposed convolution cut at the start",
        "jax convolution",
        "slice(*transposed_cut(size, taps, stride))",
        "slice(taps - stride, taps - stride + size * stride)",
        2,
        "reconstruction",
    ),
    _Mutant(
        "lengths without the 1e-7 in their poses",
        "torch networks.network",
        "how = self.spec.length_epsilon, self.spec.length_offset",
        "how = self.spec.length_epsilon, 0.0",
        2,
        "lengths",
    ),
]
