"""The mistakes that ports of variational Bayes routing make, and those of its norms."""

from functools import partial

from mutants.patch import Mutant

_Mutant = partial(Mutant, network="variational_bayes")

MUTANTS = [
    # Routing.
    _Mutant(
        "weights of parents over the types of all places",
        "torch routing._variational_bayes",
        "alpha_BPJ.sum(-1, keepdim=True)",
        "alpha_BPJ.sum((1, 2), keepdim=True)",
        1,
        "variational_bayes in windows",
    ),
    _Mutant(
        "digamma of nu - 1 to nu - D",
        "jax routing._variational_bayes",
        "jnp.arange(size, dtype=nu_BPJ.dtype)",
        "jnp.arange(1, size + 1, dtype=nu_BPJ.dtype)",
        1,
        "routing.0.logit",
    ),
    _Mutant(
        "the uncertainty of the mean forgotten",
        "torch routing._variational_bayes",
        "(size / kappa_BPJ)[:, :, None] + nu_BPJ",
        "nu_BPJ",
        1,
        "routing.1.logits",
    ),
    _Mutant(
        "a variance for the inverse scale's sum",
        "jax routing._variational_bayes",
        'jnp.einsum("bpij,bpijd->bpjd", sent, apart**2)',
        'jnp.einsum("bpij,bpijd->bpjd", sent, apart**2) / sent.sum(2)[..., None]',
        1,
        "routing.0.inverse_scale",
    ),
    _Mutant(
        "assignments over the types of one place alone",
        "torch routing._variational_bayes",
        "compete(logits, window, LEAST)",
        "compete(logits, None, LEAST)",
        1,
        "variational_bayes in windows",
    ),
    _Mutant(
        "the series of trigamma where it is not exact yet",
        "torch routing._variational_bayes",
        "for _ in range(10):",
        "for _ in range(4):",
        1,
        "gradient by",
    ),
    _Mutant(
        "the prior's mean forgotten in the inverse scale",
        "jax routing._variational_bayes",
        "+ KAPPA0 * mean_BPJD**2",
        "+ 0 * mean_BPJD",
        1,
        "routing.0.inverse_scale",
    ),
    # The network.
    _Mutant(
        "poses normalised in each component",
        "jax layers.matrix",
        'normalised(self.norm, poses.swapaxes(-1, -2), f"{name}.norm"',
        "normalised(self.norm, (poses - poses.mean(tuple(range(poses.ndim - 2)), keepdims=True))"
        '.swapaxes(-1, -2), f"{name}.norm"',
        2,
        "capsule.0.norm.mean",
    ),
    _Mutant(
        "rows and columns of coordinates exchanged",
        "torch layers.matrix",
        "((rows[:, None], spec.row_element), (columns[None], spec.column_element))",
        "((rows[:, None], spec.column_element), (columns[None], spec.row_element))",
        2,
        "capsule.1.votes",
    ),
    _Mutant(
        "the cross-entropy of another softmax, of activations times ten",
        "jax losses",
        "jax.nn.log_softmax(activations_BJ)",
        "jax.nn.log_softmax(10 * activations_BJ)",
        1,
        "cross-entropy with labels",
    ),
]
