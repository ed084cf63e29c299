"""How large a benchmark is: the sizes that are quoted, and small ones that only show it runs."""

from dataclasses import dataclass

from parity.spec import NetworkSpec, preset


@dataclass(frozen=True)
class Scale:
    """The sizes of every section.

    name        quoted with the results
    preset      the network, and what start-up trains; `spec` is the same unless a test says so
    batch       of a training step, and of the growth and memory of the digit layer
    batches     of the digit layer alone
    iterations  r of the digit layer alone
    inputs      input capsules of the section "growth"
    memory_inputs, memory_iterations  of the section "memory"
    product     rows and columns of the matrix products that measure the machine
    copy        MiB of the memory copy that measures the machine
    images      evaluated in one round
    steps       of a training loop in one round
    rounds      of the round robin, unless the command line says
    least       seconds that one measurement lasts; shorter calls are repeated
    """

    name: str
    preset: str
    spec: NetworkSpec
    batch: int
    batches: tuple[int, ...]
    iterations: tuple[int, ...]
    inputs: tuple[int, ...]
    memory_inputs: tuple[int, ...]
    memory_iterations: tuple[int, ...]
    product: int
    copy: int
    images: int
    steps: int
    rounds: int
    least: float


FULL = Scale(
    name="full",
    preset="sabour2017",
    spec=preset("sabour2017"),
    batch=128,
    batches=(1, 32, 128),
    iterations=(1, 3, 5),
    inputs=(1152, 2304, 4608, 9216, 18432, 36864),
    memory_inputs=(1152, 9216, 36864),
    memory_iterations=(2, 5),
    product=4096,
    copy=256,
    images=1536,  # twelve batches: seven rounds are 10,752 images
    steps=8,
    rounds=7,
    least=0.05,
)

QUICK = Scale(
    name="quick",
    preset="small",
    spec=preset("small"),
    batch=16,
    batches=(1, 8),
    iterations=(1, 3),
    inputs=(288, 576, 1152),
    memory_inputs=(288, 1152),
    memory_iterations=(2, 5),
    product=512,
    copy=16,
    images=64,
    steps=3,
    rounds=2,
    least=0.0,
)
