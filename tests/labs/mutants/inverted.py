"""The mistakes that ports of inverted attention make."""

from functools import partial

from mutants.patch import Mutant

_Mutant = partial(Mutant, network="inverted")

MUTANTS = [
    _Mutant(
        "inverted attention's agreements not divided by the root of D",
        "torch routing._inverted_attention",
        "poses_BJD) / math.sqrt(size)",
        "poses_BJD)",
        1,
        "routing.0.logits",
    ),
    _Mutant(
        "inverted attention's softmax over the inputs",
        "jax routing._inverted_attention",
        'jax.nn.softmax(tap("routing.0.logits", logits_BIJ))',
        'jax.nn.softmax(tap("routing.0.logits", logits_BIJ), 1)',
        1,
        "routing.0.coupling",
    ),
    _Mutant(
        "a pose read column by column",
        "torch capsules",
        "inputs = inputs_BIK.reshape(*inputs_BIK.shape[:2], -1, kernel_IJPQ.shape[2])",
        "inputs = inputs_BIK.reshape(*inputs_BIK.shape[:2], kernel_IJPQ.shape[2], -1).mT",
        1,
        "matrix votes",
    ),
    _Mutant(
        "poses without their norm",
        "jax layers.inverted",
        "poses = sum_BHWJD if self.norm is None else self.norm(sum_BHWJD)",
        "poses = sum_BHWJD",
        2,
        "routing.0.poses",
    ),
    _Mutant(
        "the release's windows",
        "torch layers.inverted",
        "seen = scrambled(seen) if self.released else seen",
        "seen = scrambled(seen)",
        2,
        "capsule.0.routing.0.votes",
    ),
    _Mutant(
        "one iteration too few",
        "jax networks.inverted",
        "last, steps = len(layers), self.attention.num_iters",
        "last, steps = len(layers), self.attention.num_iters - 1",
        2,
        "routing.2",
    ),
    _Mutant(
        "the new poses of the layer below inside a concurrent step",
        "torch networks.inverted",
        "if n > 0 and t > 1:  # the first capsules stay, and at t = 1 all are of the pass\n",
        "if made:\n                    given[n] = layers[n].read(made[-1], t, tap)\n"
        "                elif n > 0 and t > 1:\n",
        2,
        "routing.1.votes",
    ),
]
