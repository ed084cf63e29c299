"""What a network and a training run are: frozen dataclasses, nothing but the standard library.

A spec holds only what changes the mathematics. Where a run is computed, and how fast, is in
`RunOptions`; both are written to a run's `training.json`.
"""

import dataclasses
import math
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

PRECISIONS = ("float32", "float64", "bfloat16")
OPTIMIZERS = ("adam", "adamw", "sgd")
BACKENDS = ("torch", "jax")

# One row a routing algorithm: its name is a function in each `routing.py` and in the oracle.
ROUTINGS = {
    "dynamic": "Sabour, Frosst, Hinton 2017, procedure 1 (routing by agreement)",
}

T = TypeVar("T")


class TwincapsError(ValueError):
    """A mistake the user can mend; its message says what came, what was expected and the fix."""


class SpecError(TwincapsError):
    """A network or a run that cannot be built."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise SpecError(message)


def _real(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


# What a number can be asked to be, in the words of the error.
_FINITE, _POSITIVE, _FROM_ZERO = "a finite number", "a number above 0", "a number of at least 0"
_COUNT, _WHOLE = "a whole number above 0", "a whole number of at least 0"
_FITS: dict[str, Callable[[Any], bool]] = {
    _FINITE: _real,
    _POSITIVE: lambda x: _real(x) and x > 0,
    _FROM_ZERO: lambda x: _real(x) and x >= 0,
    _COUNT: lambda x: type(x) is int and x > 0,
    _WHOLE: lambda x: type(x) is int and x >= 0,
}


def _check(owner: str, expected: str, **numbers: Any) -> None:
    for name, number in numbers.items():
        _require(_FITS[expected](number), f"{owner}: {name} is {number!r}; expected {expected}")


def _fields(spec: Any, names: str) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in names.split()}


@dataclass(frozen=True)
class Conv:
    """A square convolution without padding, followed by relu: the stem is a tuple of these."""

    channels: int
    kernel: int
    stride: int = 1

    def __post_init__(self) -> None:
        _check("stem", _COUNT, **vars(self))


@dataclass(frozen=True)
class Primary:
    """The convolution that makes the first capsules: `types` of them, `size` long, at each place.

    `scale` multiplies the convolution before its bias is added. It is 1 in the paper; the
    authors' code divides by the number of types (one more with leaky routing).
    """

    types: int = 32
    size: int = 8
    kernel: int = 9
    stride: int = 2
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check("primary", _COUNT, **_fields(self, "types size kernel stride"))
        _check("primary", _POSITIVE, scale=self.scale)

    @property
    def channels(self) -> int:
        """Output channels of the convolution: channel = type * size + component."""
        return self.types * self.size


@dataclass(frozen=True)
class Routing:
    """A routing algorithm of `ROUTINGS` and its options."""

    name: str = "dynamic"
    num_iters: int = 3
    bias: bool = False
    leaky: bool = False
    detach: bool = False

    def __post_init__(self) -> None:
        _require(
            self.name in ROUTINGS,
            f"routing {self.name!r} is unknown; expected one of {', '.join(ROUTINGS)}",
        )
        _check("routing", _COUNT, num_iters=self.num_iters)


@dataclass(frozen=True)
class Loss:
    """Margin loss (Eq. 4 of the paper) plus `reconstruction` times the sum of squared errors.

    With `class_mean`, the margin loss is also divided by the number of classes: the authors'
    code, with a `scale` of 0.5, is the paper's loss over 20 for ten classes.
    """

    positive: float = 0.9
    negative: float = 0.1
    down_weight: float = 0.5
    scale: float = 1.0
    class_mean: bool = False
    reconstruction: float = 0.0005

    def __post_init__(self) -> None:
        numbers = _fields(self, "positive negative down_weight scale reconstruction")
        _check("loss", _FROM_ZERO, **numbers)


@dataclass(frozen=True)
class Init:
    """First weights: standard deviation of a normal cut at two of them, and the biases' value."""

    stem: float = 0.05
    primary: float = 0.05
    digit: float = 0.1
    decoder: float = 0.1
    bias: float = 0.0

    def __post_init__(self) -> None:
        _check("init", _FROM_ZERO, **_fields(self, "stem primary digit decoder"))
        _check("init", _FINITE, bias=self.bias)


@dataclass(frozen=True)
class NetworkSpec:
    """A capsule network of any size; `preset` has named ones, `dataclasses.replace` varies them.

    image    height, width, channels of the input, pixels in [0, 1]
    classes  J, one output capsule each
    pose     D, length of an output capsule's pose
    decoder  widths of the hidden layers, or None for a network that reconstructs nothing
    """

    image: tuple[int, int, int] = (28, 28, 1)
    stem: tuple[Conv, ...] = (Conv(256, 9),)
    primary: Primary = Primary()
    classes: int = 10
    pose: int = 16
    routing: Routing = Routing()
    decoder: tuple[int, ...] | None = (512, 1024)
    loss: Loss = Loss()
    init: Init = Init()

    def __post_init__(self) -> None:
        _require(
            len(self.image) == 3, f"image is {self.image!r}; expected (height, width, channels)"
        )
        height, width, channels = self.image
        _check("image", _COUNT, height=height, width=width, channels=channels)
        _check("network", _COUNT, classes=self.classes, pose=self.pose)
        _check("decoder", _COUNT, **{f"width {i}": n for i, n in enumerate(self.decoder or ())})
        for name, (kernel, stride), (height, width) in self._convolutions():
            _require(
                kernel <= min(height, width),
                f"{name}: a kernel of {kernel}x{kernel} (stride {stride}) is larger than its "
                f"input of {height}x{width}; use a smaller kernel or a larger image than "
                f"{self.image[0]}x{self.image[1]}",
            )

    def _convolutions(self) -> typing.Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
        height, width = self.image[:2]
        layers: list[tuple[str, Conv | Primary]] = [
            *((f"stem.{n}", conv) for n, conv in enumerate(self.stem)),
            ("primary", self.primary),
        ]
        for name, conv in layers:
            yield name, (conv.kernel, conv.stride), (height, width)
            height = (height - conv.kernel) // conv.stride + 1
            width = (width - conv.kernel) // conv.stride + 1

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the grid of primary capsules."""
        *_, (_, (kernel, stride), (height, width)) = self._convolutions()
        return (height - kernel) // stride + 1, (width - kernel) // stride + 1

    @property
    def num_inputs(self) -> int:
        """I: primary capsules in (height, width, type) order."""
        return self.grid[0] * self.grid[1] * self.primary.types

    @property
    def num_pixels(self) -> int:
        """Numbers in one image, and outputs of the decoder."""
        return math.prod(self.image)

    @property
    def margin_scale(self) -> float:
        """The factor before the sum over classes of the margin loss."""
        return self.loss.scale / (self.classes if self.loss.class_mean else 1)


@dataclass(frozen=True)
class TrainingSpec:
    """All that decides a training run besides the network: two runs of equal specs are one run.

    The rate of step t (from 0) is max(learning_rate * decay_rate ** (t / decay_steps),
    minimum_rate); see `schedule.py`. `shift` is the largest random translation of a training
    image, in pixels. `weight_decay` is decoupled, and used by adamw alone.
    """

    dataset: str = "mnist-mini"
    epochs: int = 8
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    decay_rate: float = 0.96
    decay_steps: int = 2000
    minimum_rate: float = 1e-6
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.9
    weight_decay: float = 0.01
    clip_norm: float | None = None
    shift: int = 2
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("precision", self.precision, PRECISIONS),
        ):
            _require(
                value in known, f"{name} {value!r} is unknown; expected one of {', '.join(known)}"
            )
        above_zero = "learning_rate decay_rate decay_steps epsilon"
        from_zero = "minimum_rate beta1 beta2 momentum weight_decay"
        _check("training", _COUNT, **_fields(self, "epochs batch_size"))
        _check("training", _WHOLE, **_fields(self, "shift seed"))
        _check("training", _POSITIVE, **_fields(self, above_zero))
        _check("training", _FROM_ZERO, **_fields(self, from_zero))
        if self.clip_norm is not None:
            _check("training", _POSITIVE, clip_norm=self.clip_norm)
        for name, value in (("beta1", self.beta1), ("beta2", self.beta2)):
            _require(value < 1, f"training: {name} is {value}; expected a number below 1")
        _require(
            self.seed < 2**63,
            f"seed is {self.seed}; expected a whole number from 0 to 2**63 - 1",
        )


@dataclass(frozen=True)
class RunOptions:
    """How a run is computed; none of it changes the mathematics, so a resume may change it.

    block             input capsules a block of lean routing, None to choose from the sizes
    checkpoint_every  steps between checkpoints, 0 for the end of each epoch alone
    """

    backend: str = "torch"
    device: str = "cpu"
    compile: bool = False
    lean: bool = True
    block: int | None = None
    checkpoint_every: int = 0
    data_dir: str | None = None

    def __post_init__(self) -> None:
        _require(
            self.backend in BACKENDS,
            f"backend {self.backend!r} is unknown; expected one of {', '.join(BACKENDS)}",
        )
        _check("run", _WHOLE, checkpoint_every=self.checkpoint_every)
        if self.block is not None:
            _check("run", _COUNT, block=self.block)


@dataclass(frozen=True)
class Preset:
    """A network and its training, where they come from, how to run them and what to expect."""

    network: NetworkSpec
    training: TrainingSpec
    source: str
    command: str
    time: str
    score: str


def to_dict(spec: Any) -> dict[str, Any]:
    """A spec as plain JSON values."""
    return dataclasses.asdict(spec)


def from_dict(kind: type[T], values: Any) -> T:
    """A spec of `kind` from `to_dict`'s values; every unknown and missing name in one error."""
    _require(
        isinstance(values, dict),
        f"{kind.__name__}: got {type(values).__name__}; expected an object",
    )
    hints = typing.get_type_hints(kind)
    unknown, missing = sorted(set(values) - set(hints)), sorted(set(hints) - set(values))
    _require(
        not unknown and not missing, f"{kind.__name__}: unknown names {unknown}, missing {missing}"
    )
    return kind(**{name: _value(hints[name], values[name], name) for name in hints})


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    if origin is tuple:
        _require(isinstance(value, list | tuple), f"{name}: got {value!r}; expected a list")
        return tuple(_value(inner[0], each, name) for each in value)
    if type(None) in inner:
        return None if value is None else _value(inner[0], value, name)
    fits = isinstance(value, int | float) if hint is float else isinstance(value, hint)
    _require(
        fits and (hint is bool or not isinstance(value, bool)),
        f"{name}: got {value!r}; expected {hint.__name__}",
    )
    return float(value) if hint is float else value


_PAPER = "Sabour, Frosst, Hinton, Dynamic Routing Between Capsules, NeurIPS 2017"
_OFFICIAL_INIT = Init(stem=0.05, primary=0.1, digit=0.1, decoder=0.1, bias=0.1)

PRESETS = {
    "sabour2017": Preset(
        NetworkSpec(),
        TrainingSpec(dataset="mnist"),
        source=f"{_PAPER}, figures 1 and 2; first weights and decay rate are ours, the paper "
        "gives none",
        command="python train.py --preset sabour2017 --dataset mnist --data-dir DIR",
        time="",
        score="",
    ),
    "sabour2017-official": Preset(
        NetworkSpec(
            primary=Primary(scale=1 / 32),
            routing=Routing(bias=True),
            loss=Loss(scale=0.5, class_mean=True),
            init=_OFFICIAL_INIT,
        ),
        TrainingSpec(dataset="mnist"),
        source=f"the authors' code of {_PAPER}: Sarasra/models, research/capsules",
        command="python train.py --preset sabour2017-official --dataset mnist --data-dir DIR",
        time="",
        score="",
    ),
    "small": Preset(
        NetworkSpec(
            stem=(Conv(16, 7),),
            primary=Primary(types=16, size=4, kernel=7),
            pose=6,
            decoder=(128, 256),
        ),
        TrainingSpec(dataset="mnist", learning_rate=2e-3),
        source="ours: the paper's network at a 25th of its size, for a laptop",
        command="python train.py --preset small",
        time="",
        score="",
    ),
}

# Small data sets want more and larger steps than the paper's recipe; train.py says so when it runs.
RECIPES = {
    "mnist-mini": {"epochs": 3, "batch_size": 64, "learning_rate": 2e-3},
}


def preset_card(name: str) -> Preset:
    """The whole entry of `PRESETS`; raises SpecError with the known names."""
    _require(name in PRESETS, f"preset {name!r} is unknown; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset(name: str) -> NetworkSpec:
    """The network of a named preset; raises SpecError with the known names."""
    return preset_card(name).network
