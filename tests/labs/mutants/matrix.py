"""The mistakes that ports of EM routing and of self-routing make."""

from functools import partial

from mutants.patch import Mutant

_Matrix = partial(Mutant, network="matrix")
_SelfRouting = partial(Mutant, network="self_routing")

MUTANTS = [
    _Matrix(
        "a child's activation forgotten in the M-step",
        "torch routing._em",
        "(coupling.transpose(2, 3) * active).contiguous()",
        "coupling.transpose(2, 3).contiguous()",
        1,
        "routing.0.mean",
    ),
    _Matrix(
        "EM's temperature counted from 1 twice",
        "torch routing._em",
        "schedule.inverse_temperature(inverse_temperature, t)",
        "schedule.inverse_temperature(inverse_temperature, t + 1)",
        1,
        "routing.0.logit",
    ),
    _Matrix(
        "the mass forgotten in a parent's cost",
        "torch routing._em",
        "variance_BPJD.log() / 2) * mass_BPJ1).sum(-1)",
        "variance_BPJD.log() / 2)).sum(-1)",
        1,
        "routing.0.logit",
    ),
    _Matrix(
        "the pose on the right of its matrix",
        "torch layers.matrix",
        '"bpmtxy,mtjyz->bpjmtxz"',
        '"bpmtyz,mtjxy->bpjmtxz"',
        2,
        "capsule.0.votes",
    ),
    _SelfRouting(
        "self-routing's softmax over the children",
        "torch routing._self_routing",
        "logits_BIJ.log_softmax(-1)",
        "logits_BIJ.log_softmax(1)",
        1,
        "routing.0.log_coupling",
    ),
]
