"""What a training run is, and how it is computed."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from parity.spec.checks import COUNT, FROM_ZERO, POSITIVE, WHOLE, check, fields, normalise, require
from parity.spec.convolution import METHODS, Method
from parity.spec.plain import LATER

Precision = Literal["float32", "float64", "bfloat16"]
Optimizer = Literal["adam", "adamw", "sgd"]
Backend = Literal["torch", "jax"]
Schedule = Literal["exponential", "staircase", "milestones"]
Augmentation = Literal["shift", "efficient", "deepcaps", "lighting"]
Spread = Literal["constant", "linear", "sigmoid"]
Decayed = Literal["all", "kernels"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
BACKENDS: tuple[Backend, ...] = get_args(Backend)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)
SPREADS: tuple[Spread, ...] = get_args(Spread)
DECAYED: tuple[Decayed, ...] = get_args(Decayed)


@dataclass(frozen=True)
class TrainingSpec:
    """A training besides its network: equal specs make the same run.

    The rate of step t (from 0) is max(learning_rate * decay_rate ** (t / decay_steps),
    minimum_rate); the `schedule` "staircase" takes the whole part of t / decay_steps, "milestones"
    the number of `milestones`, steps in rising order, that are not after t. See `parity.schedule`.
    `epsilon_hat` adds Adam's epsilon to the root of the second moment before its bias correction,
    as Keras does; see Kingma and Ba 2015, the end of section 2.
    `augment` is what is random about a training image: "shift"; "efficient", the transformations of
    Efficient-CapsNet (`parity.data.distortion`); "deepcaps", those of DeepCaps
    (`parity.data.affine`); "lighting", brightness and contrast of windows, as with EM routing
    (`parity.data.lighting`). `shift` is the largest random translation of a
    training image, in pixels, where `augment` is "shift"; data sets that crop or place their images
    at random do not use it.
    `weight_decay` is decoupled, and used by adamw alone. `l2` is the weight decay in the gradient:
    l2 times a parameter is added to its gradient, after clipping, whatever the optimiser. `l2_of`
    says of which: "all", or "kernels" alone, which leaves out biases, betas and norms.
    `spread` is how a spread loss's margin grows: "constant"; "linear" from 0.2 over `spread_steps`
    steps; "sigmoid", around four times so many of them. See `parity.schedule`.
    `hard_step` is, above 0, the step from which a margin loss asks for more (0.95, 0.05, 0.8 of
    DeepCaps' code) and the rate's schedule begins again.
    `ema` is the decay of an average of the weights that moves beside them, e.g. 0.999: it begins at
    the first weights, without a bias correction, and after each step average += (1 - ema) *
    (weights - average). `validation` is how many training images are held out to choose the best
    checkpoint by; none of them is trained on.
    """

    dataset: str = "mnist-mini"
    epochs: int = 8
    batch_size: int = 128
    optimizer: Optimizer = "adam"
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
    ema: float | None = None
    shift: int = 2
    seed: int = 0
    precision: Precision = "float32"
    validation: int = field(default=0, metadata=LATER)
    schedule: Schedule = field(default="exponential", metadata=LATER)
    epsilon_hat: bool = field(default=False, metadata=LATER)
    augment: Augmentation = field(default="shift", metadata=LATER)
    l2: float = field(default=0.0, metadata=LATER)
    milestones: tuple[int, ...] = field(default=(), metadata=LATER)
    spread: Spread = field(default="constant", metadata=LATER)
    spread_steps: int = field(default=50_000, metadata=LATER)
    hard_step: int = field(default=0, metadata=LATER)
    l2_of: Decayed = field(default="all", metadata=LATER)

    def __post_init__(self) -> None:
        normalise(self)
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("precision", self.precision, PRECISIONS),
            ("schedule", self.schedule, SCHEDULES),
            ("augment", self.augment, AUGMENTATIONS),
            ("spread", self.spread, SPREADS),
            ("l2_of", self.l2_of, DECAYED),
        ):
            require(
                value in known, f"{name} {value!r} is unknown; expected one of {', '.join(known)}"
            )
        above_zero = "learning_rate decay_rate epsilon"
        from_zero = "minimum_rate beta1 beta2 momentum weight_decay l2"
        check("training", COUNT, **fields(self, "epochs batch_size decay_steps spread_steps"))
        check("training", WHOLE, **fields(self, "shift seed validation hard_step"))
        check("training", POSITIVE, **fields(self, above_zero))
        check("training", FROM_ZERO, **fields(self, from_zero))
        if self.clip_norm is not None:
            check("training", POSITIVE, clip_norm=self.clip_norm)
        if self.ema is not None:
            check("training", POSITIVE, ema=self.ema)
        for name in ("beta1", "beta2", "ema"):
            value = getattr(self, name)
            require(
                value is None or value < 1,
                f"training: {name} is {value}; expected a number below 1",
            )
        check("training", WHOLE, **{f"milestone {n}": x for n, x in enumerate(self.milestones)})
        rising = list(self.milestones) == sorted(set(self.milestones))
        require(
            rising and (bool(self.milestones) == (self.schedule == "milestones")),
            f"training: milestones are {self.milestones} with the schedule {self.schedule}; "
            "expected rising steps with the schedule milestones, and none with another",
        )
        require(
            self.schedule != "staircase" or self.decay_rate <= 1,
            f"training: decay_rate is {self.decay_rate}; expected at most 1 with the schedule "
            "staircase, or the rate grows without end",
        )
        require(
            self.seed < 2**63,
            f"seed is {self.seed}; expected a whole number from 0 to 2**63 - 1",
        )

    def decays(self, name: str) -> bool:
        """Whether `l2` is of the parameter of this name in the table of weights."""
        kernel = name.rpartition(".")[2] == "kernel"
        return self.l2 > 0 and (self.l2_of == "all" or kernel)


@dataclass(frozen=True)
class RunOptions:
    """How a run is computed: options that leave the mathematics unchanged.

    A resume may change them.

    Attributes:
        block: Input capsules a block of lean routing, None to choose from the sizes.
        checkpoint_every: Steps between checkpoints, 0 for the end of each epoch alone.
        convolution: "direct", "fourier", or "auto" to choose from the sizes.
    """

    backend: Backend = "torch"
    device: str = "cpu"
    compile: bool = False
    lean: bool = True
    block: int | None = None
    checkpoint_every: int = 0
    data_dir: str | None = None
    convolution: Method = field(default="auto", metadata=LATER)

    def __post_init__(self) -> None:
        normalise(self)
        require(
            self.backend in BACKENDS,
            f"backend {self.backend!r} is unknown; expected one of {', '.join(BACKENDS)}",
        )
        require(
            self.convolution in METHODS,
            f"convolution {self.convolution!r} is unknown; expected one of {', '.join(METHODS)}",
        )
        check("run", WHOLE, checkpoint_every=self.checkpoint_every)
        if self.block is not None:
            check("run", COUNT, block=self.block)
