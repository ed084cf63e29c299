"""Rung 1: the pure functions of a wing, edge inputs too, against the oracle.

Axes: J output capsules, D size of an output pose.
Inputs are numbers of float32, so that both precisions and the oracle are given the same.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

from parity import reference
from parity.spec import COVARIANCES, ROUTINGS, Routing, Window
from parity.weights import Arrays, generator

SHAPES = {"votes": (2, 5, 3, 7), "inputs": (2, 5, 4), "kernel": (5, 3, 4, 7)}
MATRICES = {"inputs": (2, 7, 6), "kernel": (7, 3, 2, 5)}
NORMS = (0.0, 1e-17, 1e-10, 1e-5, 1e-2, 1.0, 1e2, 1e5, 1e8)
# Outside of these the functions promise to be finite, and no more.
BEYOND = (1e-30, 1e18)
SQUASHES = ("squash", "exponential_squash")


@dataclass(frozen=True, eq=False)
class Case:
    """One call of a function, differentiated by each of its arrays.

    Attributes:
        module: Where it is in a wing and in the oracle.
        inputs: In order; those whose names end in axes (bias_JD) are given by name.
        fixed: Those of them whose gradients are not compared.
        part: Which of several things that it returns is compared.
    """

    module: str
    function: str
    inputs: Arrays
    options: dict[str, Any] = field(default_factory=dict)
    targets: np.ndarray | None = None
    finite_only: bool = False
    fixed: tuple[str, ...] = ()
    part: int = 0


def _normal(name: str, *shape: int) -> np.ndarray:
    return generator(0, f"functions/{name}").standard_normal(shape).astype(np.float32)


def _vectors(norm: float, size: int = 5) -> np.ndarray:
    """Three vectors of one length in different directions."""
    x = _normal("vectors", 3, size).astype(np.float64)
    return (norm * x / np.sqrt((x * x).sum(-1, keepdims=True))).astype(np.float32)


def _squashes() -> Iterator[tuple[str, Case]]:
    for norm in NORMS:
        for function in (*SQUASHES, "lengths"):
            yield f"{function} at norm {norm:g}", Case("capsules", function, {"x": _vectors(norm)})
        for function in ("squash", "lengths"):
            case = Case("capsules", function, {"x": _vectors(norm)}, {"epsilon": 1e-7})
            yield f"{function} with an epsilon at norm {norm:g}", case
        case = Case("capsules", "lengths", {"x": _vectors(norm)}, {"offset": 1e-7})
        yield f"lengths with an offset at norm {norm:g}", case
    for function in SQUASHES:
        for norm in BEYOND:
            case = Case("capsules", function, {"x": _vectors(norm)}, finite_only=True)
            yield f"{function} at norm {norm:g}", case
        x = _normal("squash", 2, 3, 5)
        x[1, 1] = 0
        yield f"{function} with a zero capsule", Case("capsules", function, {"x": x})
        x = _normal("axis", 2, 3, 5)
        yield f"{function} over axis 1", Case("capsules", function, {"x": x}, {"axis": 1})
    case = Case("capsules", "squash", {"x": _normal("axes", 2, 3, 5)}, {"axis": (0, 2)})
    yield "squash over axes 0 and 2", case


def _norms() -> Iterator[tuple[str, Case]]:
    """Each normalisation, with a dead channel too, and the running numbers of a batch norm."""
    x, c = _normal("norm", 3, 5, 2, 7) + 3, 7
    dead = x.copy()
    dead[..., 2] = 0
    own = {"scale": _normal("scale", c), "shift": _normal("shift", c)}
    running = {"mean": _normal("mean", c), "variance": np.abs(_normal("variance", c)) + 0.1}
    for train in (True, False):
        options = {"train": train, "keep": 0.9, "epsilon": 1e-3}
        what = "training" if train else "evaluation"
        for name, images in (("", x), (" with a dead channel", dead)):
            # In training the running numbers have no part in y.
            case = Case("norm", "batch", {"x": images, **own, **running}, options)
            yield f"batch norm in {what}{name}", case
        if train:
            for part, name in ((1, "mean"), (2, "variance")):
                inputs = {"x": x, **own, **running}
                case = Case("norm", "batch", inputs, options, fixed=tuple(inputs), part=part)
                yield f"batch norm in training, the new {name}", case
    for function in ("layer", "instance"):
        for name, images in (("", x), (" with a dead channel", dead)):
            case = Case("norm", function, {"x": images, **own}, {"epsilon": 1e-3})
            yield f"{function} norm{name}", case


def _maps() -> Iterator[tuple[str, Case]]:
    """What is done to feature maps."""
    x = _normal("map", 2, 5, 7, 3)
    yield "an image at twice its size", Case("convolution", "double_size", {"x": x})
    yield "a padded map", Case("convolution", "padded", {"x": x}, {"padding": 2})
    for stride in (1, 2):
        case = Case("convolution", "same", {"x": x[:, :4]}, {"kernel": 3, "stride": stride})
        yield f"a map padded as for 'same', stride {stride}", case
    grid = _normal("grid", 2, 5, 7, 3, 2)
    for stride in (1, 2):
        options = {"kernel": (3, 2), "stride": stride}
        for each, what in ((x, "a map"), (grid, "a grid of capsules")):
            case = Case("convolution", "windows", {"x": each}, options)
            yield f"windows of {what}, stride {stride}", case


def _routings() -> Iterator[tuple[str, Case]]:
    """Every routing of the table with every option, and some on zero or large votes."""
    plain = _normal("votes", *SHAPES["votes"])
    of_places = _normal("votes of places", 2, 2, *SHAPES["votes"][1:])
    for kind in ROUTINGS.values():
        votes = of_places if kind.places else plain
        some = votes.copy()
        some[0], some[1, ..., 1, :] = 0, 0
        for routing in kind.examples():
            inputs, options = {"votes": votes, **_owned(routing)}, routing.options
            second = ", logits" if kind.logits else ", activations"
            for part, what in enumerate(("", second)[: 1 + ("activations" in kind.takes)]):
                case = Case("routing", routing.name, inputs, options, part=part)
                yield f"{routing.label}{what}", case
        for routing in kind.switched():
            inputs, options = {"votes": some, **_owned(routing)}, routing.options
            name = f"{routing.label} of zero votes"
            yield name, Case("routing", routing.name, inputs, options)
        # Large votes saturate a softmax: what reaches a prior in it is nothing but rounding.
        owned, options = _owned(kind()), kind().options
        case = Case("routing", kind.name, {"votes": 30 * votes, **owned}, options)
        yield f"{kind.name} of large votes", replace(case, fixed=tuple(owned))
        if "poses" in kind.takes:  # of the step before, which a first step has not
            yield f"{kind.name}, the first step", Case("routing", kind.name, {"votes": votes})
    yield from _unchosen(plain)
    yield from _competing()


def _competing() -> Iterator[tuple[str, Case]]:
    """Routings where the windows of a grid compete for their children."""
    window = Window((3, 3), (2, 2), 1)  # the middle child is in all four
    inputs = {"votes": _normal("votes in windows", 2, 4, 4, 2, 3)}
    inputs["activations_BI"] = np.clip(0.5 + 0.2 * _normal("active", 2, 4, 4), 0.05, 0.95)
    inputs |= {f"beta_{x}_J": 0.3 * _normal(f"beta {x}", 2) for x in "au"}
    for released in (False, True):
        # Warm: a type that competes alone cancels its threshold where activations hardly differ.
        options = {"window": window, "released": released, "num_iters": 2}
        options["inverse_temperature"] = 5.0
        for part, what in enumerate(("", ", activations")):
            name = f"em in windows{' released' * released}{what}"
            yield name, Case("routing", "em", inputs, options, part=part)
    for covariance in COVARIANCES:
        options = {"window": window, "covariance": covariance}
        for part, what in enumerate(("", ", logits")):
            name = f"variational_bayes in windows covariance={covariance}{what}"
            yield name, Case("routing", "variational_bayes", inputs, options, part=part)


def _unchosen(votes: np.ndarray) -> Iterator[tuple[str, Case]]:
    """Self-routing where c underflows for a class, and where children are not active."""
    given = _owned(Routing("self_routing"))
    far, none = given["logits_BIJ"].copy(), given["activations_BI"].copy()
    far[..., 1], none[0], none[1, 2] = -150, 0, 0
    for name, changed in (
        ("a class that no child chooses", {"logits_BIJ": far}),
        ("children that are not active", {"activations_BI": none}),
    ):
        inputs = {"votes": votes, **given, **changed}
        for part, what in enumerate(("", ", activations")):
            case = Case("routing", "self_routing", inputs, part=part)
            yield f"self_routing of {name}{what}", case


def _lean() -> Iterator[tuple[str, Case]]:
    """The routings that store no votes, with every option, in blocks of two inputs."""
    inputs = {name: _normal(name, *SHAPES[name]) for name in ("inputs", "kernel")}
    for kind in ROUTINGS.values():
        # Of one that routes over places what differs from dynamic routing is in its own cases.
        examples = kind.switched() if kind.places else kind.examples()
        for routing in () if "activations" in kind.takes else examples:
            given = {**inputs, **_owned(routing)}
            options = {**routing.options, "block": 2}
            name = f"lean {routing.label}"
            yield name, Case("lean", routing.name, given, options)
        if "poses" in kind.takes:
            case = Case("lean", kind.name, inputs, {"block": 2})
            yield f"lean {kind.name}, the first step", case
    # Poses of 3x2, and votes of 3x5.
    name, options = "inverted_attention", {"block": 2}
    given = {n: _normal(f"{n} of matrices", *shape) for n, shape in MATRICES.items()}
    yield f"lean {name} of matrices, the first step", Case("lean", name, given, options)
    given["poses_BJD"] = _normal("poses of matrices", 2, 3, 15)
    yield f"lean {name} of matrices", Case("lean", name, given, options)


def _owned(routing: Routing) -> Arrays:
    """Random values of what a routing takes and owns, by its arguments' names."""
    sizes = dict(zip("ijkd", SHAPES["kernel"], strict=True)) | {"b": SHAPES["votes"][0]}
    values = {
        own.argument(name): 0.3 * _normal(own.argument(name), *own.shape(sizes))
        for name, own in routing.arguments.items()
    }
    for name in values.keys() & {"activations_BI"}:
        values[name] = np.clip(0.5 + values[name], 0.05, 0.95)
    return values


def _losses() -> Iterator[tuple[str, Case]]:
    lengths = np.array([[0.05, 0.5, 0.95], [0.85, 0.0, 0.2]], np.float32)
    labels, several = np.array([1, 0], np.int32), np.array([[1, 0, 1], [0, 0, 0]], np.int32)
    others = {"positive": 0.8, "negative": 0.3, "down_weight": 0.25, "scale": 0.05}
    for name, targets, options in (
        ("labels", labels, {}),
        ("several classes", several, {}),
        ("other options", labels, others),
    ):
        inputs = {"lengths": lengths}
        yield f"margin with {name}", Case("losses", "margin", inputs, options, targets)
    logs = np.log(np.array([[0.1, 0.7, 0.2], [1e-30, 1e-37, 1.0]], np.float32))
    for name, targets in (("labels", labels), ("several classes", several)):
        case = Case("losses", "negative_log_likelihood", {"logs": logs}, targets=targets)
        yield f"negative log-likelihood with {name}", case
    for name, targets in (("labels", labels), ("several classes", several)):
        options = {"margin": 0.43}
        case = Case("losses", "spread", {"activations": lengths}, options, targets)
        yield f"spread with {name}", case
    for name, targets in (("labels", labels), ("several classes", several)):
        case = Case("losses", "cross_entropy", {"activations": lengths}, targets=targets)
        yield f"cross-entropy with {name}", case
    images = {name: np.abs(_normal(name, 5, 3, 2, 2)) for name in ("reconstructions", "images")}
    yield "reconstruction", Case("losses", "reconstruction", images)


@functools.cache
def cases() -> dict[str, Case]:
    """Every call of rung 1, by name, simple functions first."""
    votes = {name: _normal(name, *SHAPES[name]) for name in ("inputs", "kernel")}
    rows = [*_squashes(), ("votes", Case("capsules", "votes", votes))]
    matrices = {name: _normal(f"matrix {name}", *shape) for name, shape in MATRICES.items()}
    rows.append(("matrix votes", Case("capsules", "matrix_votes", matrices)))
    rows += [*_routings(), *_lean()]
    return dict([*rows, *_losses(), *_norms(), *_maps()])


def _function(package: ModuleType, case: Case) -> Callable[..., Any]:
    """The function of a case in a wing or in the oracle.

    Where there is no lean twin, as nowhere in the oracle, it is plain routing of the votes.
    """
    function = getattr(getattr(package, case.module, None), case.function, None)
    if function is not None:
        return function
    assert case.module == "lean", f"{package.__name__} has no {case.module}.{case.function}"
    route = getattr(package.routing, case.function)

    def plain(inputs: Any, kernel: Any, *, block: int, **options: Any) -> Any:
        matrices = inputs.shape[2] != kernel.shape[2]
        vote = package.capsules.matrix_votes if matrices else package.capsules.votes
        return route(vote(inputs, kernel), **options)

    return plain


def _run(function: Callable[..., Any], case: Case, arrays: Any, targets: Any, **more: Any) -> Any:
    """The value that is compared of those the function returns for these arrays."""
    given = dict(zip(case.inputs, arrays, strict=True))
    named = {name: given.pop(name) for name in case.inputs if "_" in name}
    plus = [] if case.targets is None else [targets]
    returned = function(*given.values(), *plus, **named, **case.options, **more)
    return returned[case.part] if isinstance(returned, tuple) else returned


def _taps(case: Case, tapped: Arrays, numpy: Callable[[Any], np.ndarray]) -> dict[str, Any]:
    """The `tap` argument that records intermediates, for a function that takes one."""

    def tap(name: str, x: Any) -> Any:
        tapped[name] = numpy(x)
        return x

    return {"tap": tap} if case.module == "routing" else {}


def _cotangent(case: Case, shape: tuple[int, ...]) -> np.ndarray:
    return _normal(f"cotangent/{case.function}", *shape)


def _named(name: str, case: Case, tapped: Arrays, value: np.ndarray, slopes: Any) -> Arrays:
    """What is compared of a case, in the order of execution."""
    results = {**tapped, "value": value}
    by = dict(zip(case.inputs, slopes, strict=True))
    results |= {f"gradient by {x}": slope for x, slope in by.items() if x not in case.fixed}
    if case.finite_only:
        results = {f"{what} is finite": np.isfinite(x).all() for what, x in results.items()}
    return {f"{name}: {what}": np.asarray(x) for what, x in results.items()}


@functools.cache
def expected() -> Arrays:
    """The oracle's answers to every case, its gradients by complex step."""
    results: Arrays = {}
    for name, case in cases().items():
        results |= _expected(name, case)
    return results


def _expected(name: str, case: Case) -> Arrays:
    function, tapped = _function(reference, case), {}
    arrays = [x.astype(np.float64) for x in case.inputs.values()]
    value = _run(function, case, arrays, case.targets, **_taps(case, tapped, np.asarray))
    weight = _cotangent(case, np.shape(value)).astype(np.float64)

    def loss(place: int, x: np.ndarray) -> np.ndarray:
        changed = [*arrays[:place], x, *arrays[place + 1 :]]
        return (_run(function, case, changed, case.targets) * weight).sum()

    slopes = [np.zeros_like(x) for x in arrays]
    if not case.finite_only:
        slopes = [
            reference.gradient(functools.partial(loss, place), x) for place, x in enumerate(arrays)
        ]
    return _named(name, case, tapped, value, slopes)


def answers(wing: ModuleType, precision: str) -> Arrays:
    """A wing's answers to every case."""
    results: Arrays = {}
    for name, case in cases().items():
        results |= _answers(wing, precision, name, case)
    return results


def _answers(wing: ModuleType, precision: str, name: str, case: Case) -> Arrays:
    function = _function(wing, case)
    arrays = [x.astype(precision) for x in case.inputs.values()]
    targets = None if case.targets is None else wing.arrays.tensor(case.targets.copy())
    tapped: Arrays = {}
    taps = _taps(case, tapped, lambda x: wing.arrays.numpy(x).copy())
    if taps:  # a call of its own, since nothing can be seen of one that is differentiated
        _run(function, case, [wing.arrays.tensor(x.copy()) for x in arrays], targets, **taps)
    shape = np.shape(_run(_function(reference, case), case, arrays, case.targets))
    value, slopes = wing.tracing.differentiate(
        lambda *tensors: _run(function, case, tensors, targets),
        arrays,
        _cotangent(case, shape).astype(precision),
    )
    return _named(name, case, tapped, value, slopes)
