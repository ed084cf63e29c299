"""The table of routings: a dataclass each, with its options and parameters.

A routing `NAME` is its dataclass here and a function in `routing/_NAME.py` of the oracle and of
each wing; `lean/_NAME.py` of a wing may hold a twin that does not store the votes. Weights, layers,
networks, traces, rung 1 of the ladder, `conformance` and the tests read this table; nothing else
names a routing but the stubs of these packages, which `make stubs` writes.

Axes: b batch, i input capsules, j output capsules, k size of an input pose, d of an output pose.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from parity.spec.checks import COUNT, POSITIVE, check, normalise, require


@dataclass(frozen=True)
class Owned:
    """An argument of a routing: `axes` of b, i, j, k, d; of a parameter also its first values.

    Attributes:
        std: Standard deviation of a normal cut at two of them; 0 for a constant.
        value: That constant, None for the network's own first value of biases.
        feeds: The first tap of the routing that depends on it, empty for its very first.
    """

    axes: str
    std: float = 0.0
    value: float | None = None
    feeds: str = ""

    def argument(self, name: str) -> str:
        """The routing function's argument for it: "bias" with axes "j d" is bias_JD."""
        return f"{name}_{self.axes.replace(' ', '').upper()}"

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape, from the size of each axis."""
        return tuple(sizes[axis] for axis in self.axes.split())


# The names of ROUTINGS, for type checkers and editors.
RoutingName = Literal[
    "dynamic",
    "self_attention",
    "self_routing",
    "em",
    "variational_bayes",
    "inverted_attention",
    "dynamic_3d",
]


@dataclass(frozen=True, init=False)
class Routing:
    """A routing of `ROUTINGS` with options: Routing("dynamic") is a Dynamic.

    A subclass gives `name` its default, says its `source`, and `owns` its parameters by name;
    one with a field of the same name, a bool, is there where that is true. What it `takes` of a
    batch beside the votes is nothing where capsules are as active as they are long; a routing that
    takes activations returns poses, activations and coefficients. Its fields are what the function
    is told by name, but for those that the network reads instead, which it `leaves` to it. `shares`
    says whether the coefficients of an input are its shares: none below 0, in all at most 1;
    `places` whether the votes may be for the places of a grid, [B, P, I, J, D], which an input
    shares its votes among; `logits` whether the activations that it returns are logits, for a norm
    and a sigmoid to come.
    """

    name: str = "dynamic"
    TAG: ClassVar[str] = "name"
    source: ClassVar[str] = ""
    owns: ClassVar[Mapping[str, Owned]] = {}
    takes: ClassVar[Mapping[str, Owned]] = {}
    leaves: ClassVar[tuple[str, ...]] = ()
    shares: ClassVar[bool] = True
    places: ClassVar[bool] = False
    logits: ClassVar[bool] = False

    def __new__(cls, name: RoutingName = "dynamic", *options: Any, **named: Any) -> "Routing":
        """The dataclass of that name; raises SpecError with the known names."""
        return object.__new__(cls.kind(name) if cls is Routing else cls)

    @staticmethod
    def kind(name: Any) -> "type[Routing]":
        """The dataclass of a routing's name; raises SpecError with the known names."""
        require(
            isinstance(name, str) and name in ROUTINGS,
            f"routing {name!r} is unknown; expected one of {', '.join(ROUTINGS)}",
        )
        return ROUTINGS[name]

    def __post_init__(self) -> None:
        normalise(self)
        own = type(self).__dataclass_fields__["name"].default
        require(self.name == own, f"routing {self.name!r} is none of {own}'s; use Routing(name)")

    @property
    def options(self) -> dict[str, Any]:
        """What the routing function is told by name, besides what the routing owns."""
        others = {"name", *self.owns, *self.leaves}
        names = (field.name for field in dataclasses.fields(self))
        return {n: getattr(self, n) for n in names if n not in others}

    @property
    def owned(self) -> dict[str, Owned]:
        """The parameters that a routing with these options has, by name."""
        return {
            name: parameter for name, parameter in self.owns.items() if getattr(self, name, True)
        }

    @property
    def arguments(self) -> dict[str, Owned]:
        """What it is given beside votes and options, by name: what it takes, then what it owns."""
        return {**self.takes, **self.owned}

    @property
    def label(self) -> str:
        """The options in a few words: "dynamic num_iters=2 leaky"."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        words = [n if x is True else f"{n}={x}" for n, x in values.items() if x is not False]
        return " ".join([self.name, *words[1:]])

    @classmethod
    def examples(cls) -> "Iterator[Routing]":
        """Every combination of options that the ladder and the tests try.

        Of a bool both, of a whole number 1 to 3, of others the default; a field says otherwise by
        `field(metadata={"examples": (...)})`.
        """
        fields = [field for field in dataclasses.fields(cls) if field.name != "name"]
        names = [field.name for field in fields]
        for values in itertools.product(*map(_examples, fields)):
            yield cls(**dict(zip(names, values, strict=True)))

    @classmethod
    def switched(cls) -> "Iterator[Routing]":
        """The routing as it is by default, and with each of its switches on alone."""
        yield cls()
        for option in dataclasses.fields(cls):
            if option.default is False:
                yield dataclasses.replace(cls(), **{option.name: True})


def _examples(option: "dataclasses.Field[Any]") -> tuple[Any, ...]:
    usual = {bool: (False, True), int: (1, 2, 3)}.get(type(option.default), (option.default,))
    return option.metadata.get("examples", usual)


@dataclass(frozen=True)
class Dynamic(Routing):
    """Routing by agreement.

    Attributes:
        num_iters: r, at least 1.
        bias: [J, D], added to the weighted sum before each squash (the authors' code).
        leaky: An input capsule may also send to nothing.
        detach: The last routing coefficients are constants to the gradient.
    """

    source: ClassVar[str] = "Sabour, Frosst, Hinton 2017, procedure 1 (routing by agreement)"
    owns: ClassVar[Mapping[str, Owned]] = {"bias": Owned("j d", feeds="routing.0.sum")}

    name: str = "dynamic"
    num_iters: int = 3
    bias: bool = False
    leaky: bool = False
    detach: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check("routing", COUNT, num_iters=self.num_iters)


@dataclass(frozen=True)
class SelfAttention(Routing):
    """Self-attention routing: one pass, by how well a vote agrees with the sum of all.

    Attributes:
        scale: What agreements are divided by, None for the root of D.
    """

    source: ClassVar[str] = "Mazzia, Salvetti, Chiaberge 2021 (Efficient-CapsNet), their own code"
    owns: ClassVar[Mapping[str, Owned]] = {
        "prior": Owned("i j", value=0.0, feeds="routing.0.coupling")
    }
    shares: ClassVar[bool] = False  # the prior comes after the softmax

    name: str = "self_attention"
    scale: float | None = field(default=None, metadata={"examples": (None, 1.7)})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None:
            check("routing", POSITIVE, scale=self.scale)


@dataclass(frozen=True)
class SelfRouting(Routing):
    """Self-routing: a child's own pose says where it sends, whatever the others vote for."""

    source: ClassVar[str] = "Hahn, Pyeon, Kim 2019 (self-routing capsule networks), their own code"
    takes: ClassVar[Mapping[str, Owned]] = {
        "activations": Owned("b i"),
        "logits": Owned("b i j"),
    }

    name: str = "self_routing"


@dataclass(frozen=True)
class EM(Routing):
    """EM routing: parents are Gaussians of the votes of their children.

    Attributes:
        num_iters: r, at least 1.
        inverse_temperature: The last one; that of iteration t is this times 1 - 0.95^(t + 1).
        min_variance: Added to each variance; the paper has none.
        released: As the authors' released code, in six ways that change the result.
    """

    source: ClassVar[str] = "Hinton, Sabour, Frosst 2018 (matrix capsules), procedure 1"
    takes: ClassVar[Mapping[str, Owned]] = {"activations": Owned("b i")}
    owns: ClassVar[Mapping[str, Owned]] = {
        "beta_a": Owned("j", value=0.0, feeds="routing.0.logit"),
        "beta_u": Owned("j", value=0.0, feeds="routing.0.logit"),
    }

    name: str = "em"
    num_iters: int = field(default=3, metadata={"examples": (1, 3)})
    inverse_temperature: float = 0.01
    min_variance: float = 5e-4
    released: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check("routing", COUNT, num_iters=self.num_iters)
        numbers = {name: getattr(self, name) for name in ("inverse_temperature", "min_variance")}
        check("routing", POSITIVE, **numbers)


Covariance = Literal["diagonal", "full"]
COVARIANCES: tuple[Covariance, ...] = get_args(Covariance)


def check_covariance(covariance: Any) -> None:
    """Raises SpecError unless it is one of `COVARIANCES`."""
    require(
        covariance in COVARIANCES,
        f"routing: covariance is {covariance!r}; expected one of {', '.join(COVARIANCES)}",
    )


@dataclass(frozen=True)
class VariationalBayes(Routing):
    """Variational Bayes routing: parents are Gaussians that are known by a distribution.

    Attributes:
        num_iters: r, at least 1.
        covariance: Of a parent's votes: "diagonal", the authors' choice, or "full".
    """

    source: ClassVar[str] = "Ribeiro, Leontidis, Kollias 2020 (variational Bayes), their own code"
    takes: ClassVar[Mapping[str, Owned]] = {"activations": Owned("b i")}
    owns: ClassVar[Mapping[str, Owned]] = {
        "beta_a": Owned("j", value=0.0),
        "beta_u": Owned("j", value=0.0),
    }
    logits: ClassVar[bool] = True

    name: str = "variational_bayes"
    num_iters: int = field(default=3, metadata={"examples": (1, 3)})
    covariance: Covariance = field(default="diagonal", metadata={"examples": COVARIANCES})

    def __post_init__(self) -> None:
        super().__post_init__()
        check("routing", COUNT, num_iters=self.num_iters)
        check_covariance(self.covariance)


Order = Literal["concurrent", "sequential"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True)
class InvertedAttention(Routing):
    """Inverted dot-product attention: a vote counts as it agrees with its parent's last pose.

    The function is one step of one layer; the network takes the steps of all its layers.

    Attributes:
        num_iters: T, at least 1; the first of them has no agreement yet.
        order: "concurrent", in which each step of all layers takes the poses that the step before
            left, or "sequential", in which a layer takes its T steps before the next begins.
    """

    source: ClassVar[str] = "Tsai, Srivastava, Goh, Salakhutdinov 2020, their own code"
    takes: ClassVar[Mapping[str, Owned]] = {"poses": Owned("b j d", feeds="routing.0.logits")}
    leaves: ClassVar[tuple[str, ...]] = ("num_iters", "order")

    name: str = "inverted_attention"
    num_iters: int = field(default=2, metadata={"examples": (2,)})
    order: Order = "concurrent"

    def __post_init__(self) -> None:
        super().__post_init__()
        check("routing", COUNT, num_iters=self.num_iters)
        known = ", ".join(ORDERS)
        require(self.order in ORDERS, f"routing: order is {self.order!r}; expected one of {known}")


@dataclass(frozen=True)
class Dynamic3D(Routing):
    """Routing by agreement to all places of a grid at once.

    Attributes:
        num_iters: r, at least 1.
        bias: [J, D], added to the weighted sum before each squash (the authors' code).
        released: As the authors' released code: one squash of a type's whole map; a layer also
            reads its children in the memory's order.
    """

    source: ClassVar[str] = "Rajasegaran et al. 2019 (DeepCaps), 3-D convolutional routing"
    owns: ClassVar[Mapping[str, Owned]] = {"bias": Owned("j d", feeds="routing.0.sum")}
    places: ClassVar[bool] = True

    name: str = "dynamic_3d"
    num_iters: int = field(default=3, metadata={"examples": (1, 3)})
    bias: bool = False
    released: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check("routing", COUNT, num_iters=self.num_iters)


ROUTINGS: dict[str, type[Routing]] = {
    kind.name: kind
    for kind in (
        Dynamic,
        SelfAttention,
        SelfRouting,
        EM,
        VariationalBayes,
        InvertedAttention,
        Dynamic3D,
    )
}
