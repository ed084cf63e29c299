"""A routing that nobody needs, to try what adding one takes: its text, in four places and no more.

"scaled" is one pass of attention, with a prior that is learnt, an option and a switch:

    logits_IJ = (prior_IJ + <votes_IJ, mean over I of the votes_J>) / temperature
    c = softmax over J of the logits        v_J = squash(sum over I of c_IJ votes_IJ)
"""

from pathlib import Path

TABLE = "parity/spec/routings.py"
END = "    )\n}\n"  # of the table: for kind in (Dynamic, ...), a name a line
DATACLASS = '''@dataclass(frozen=True)
class Scaled(Routing):
    """One pass of attention with a learnt prior."""

    source: ClassVar[str] = "tests/promised.py"
    owns: ClassVar[Mapping[str, Owned]] = {"prior": Owned("i j", std=0.1)}

    name: str = "scaled"
    temperature: float = 1.5
    sharp: bool = False


'''

ORACLE = '''"""One pass of attention with a learnt prior."""

import numpy as np

from parity.reference.arrays import Array, double
from parity.reference.capsules import Tap, no_tap, squash


def scaled(
    votes_BIJD,
    *,
    prior_IJ,
    temperature: float = 1.5,
    sharp: bool = False,
    tap: Tap = no_tap,
) -> tuple[Array, Array]:
    votes_BIJD = double(votes_BIJD)
    mean_BJD = votes_BIJD.mean(1)
    logits_BIJ = double(prior_IJ) + np.einsum("bijd,bjd->bij", votes_BIJD, mean_BJD)
    logits_BIJ = tap("routing.0.logits", logits_BIJ / temperature * (2 if sharp else 1))
    powers_BIJ = np.exp(logits_BIJ - np.real(logits_BIJ).max(-1, keepdims=True))
    coupling_BIJ = tap("routing.0.coupling", powers_BIJ / powers_BIJ.sum(-1, keepdims=True))
    sum_BJD = tap("routing.0.sum", np.einsum("bij,bijd->bjd", coupling_BIJ, votes_BIJD))
    poses_BJD = tap("routing.0.poses", squash(sum_BJD))
    return poses_BJD, coupling_BIJ
'''

TORCH = '''"""One pass of attention with a learnt prior."""

import torch
from torch import Tensor

from torch_caps.capsules import Tap, no_tap, squash


def scaled(
    votes_BIJD: Tensor,
    *,
    prior_IJ: Tensor,
    temperature: float = 1.5,
    sharp: bool = False,
    tap: Tap = no_tap,
) -> tuple[Tensor, Tensor]:
    mean_BJD = votes_BIJD.mean(1)
    logits_BIJ = prior_IJ + torch.einsum("bijd,bjd->bij", votes_BIJD, mean_BJD)
    logits_BIJ = tap("routing.0.logits", logits_BIJ / temperature * (2 if sharp else 1))
    coupling_BIJ = tap("routing.0.coupling", logits_BIJ.softmax(-1))
    sum_BJD = tap("routing.0.sum", torch.einsum("bij,bijd->bjd", coupling_BIJ, votes_BIJD))
    poses_BJD = tap("routing.0.poses", squash(sum_BJD))
    return poses_BJD, coupling_BIJ
'''

JAX = '''"""One pass of attention with a learnt prior."""

import jax
import jax.numpy as jnp
from jax import Array

from jax_caps.capsules import Tap, no_tap, squash


def scaled(
    votes_BIJD: Array,
    *,
    prior_IJ: Array,
    temperature: float = 1.5,
    sharp: bool = False,
    tap: Tap = no_tap,
) -> tuple[Array, Array]:
    mean_BJD = votes_BIJD.mean(1)
    logits_BIJ = prior_IJ[None] + jnp.einsum("bijd,bjd->bij", votes_BIJD, mean_BJD)
    logits_BIJ = tap("routing.0.logits", logits_BIJ / temperature * (2 if sharp else 1))
    coupling_BIJ = tap("routing.0.coupling", jax.nn.softmax(logits_BIJ, -1))
    sum_BJD = tap("routing.0.sum", jnp.einsum("bij,bijd->bjd", coupling_BIJ, votes_BIJD))
    poses_BJD = tap("routing.0.poses", squash(sum_BJD))
    return poses_BJD, coupling_BIJ
'''

PLACES = {
    "parity/reference/routing/_scaled.py": ORACLE,
    "torch_caps/routing/_scaled.py": TORCH,
    "jax_caps/routing/_scaled.py": JAX,
}
RIGHT, WRONG = "return poses_BJD, coupling_BIJ", "return 2 * poses_BJD, coupling_BIJ"


def add(root: Path) -> set[str]:
    """Write the routing into a copy of the repository; the files that it touched."""
    for path, text in PLACES.items():
        (root / path).write_text(text)
    before = (root / TABLE).read_text()
    begin = before.index("ROUTINGS: dict")
    assert before.endswith(END), f"{TABLE} ends in another way than {END!r}"
    table = before[begin:].removesuffix(END) + "        Scaled,\n" + END
    names = 'RoutingName = Literal[\n    "dynamic",'
    assert before.count(names) == 1, f"{TABLE} names its routings in another way"
    head = before[:begin].replace(names, names + '\n    "scaled",')
    (root / TABLE).write_text(head + DATACLASS + table)
    return {TABLE, *PLACES}
