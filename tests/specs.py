"""Networks for tests: one small with all its sizes different primes, and any kind at random."""

from dataclasses import replace

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from parity.spec import (
    ROUTINGS,
    Block,
    CapsuleLayer,
    Conv,
    Depthwise,
    Efficient,
    Hahn2019,
    Hinton2018,
    Init,
    Loss,
    NetworkSpec,
    Pixels,
    Primary,
    Rajasegaran2019,
    Ribeiro2020,
    Routing,
    SpecError,
    Transposed,
    Tsai2020,
)

# 13x11x3 -> 5 channels, 11x9 -> 4x3 places of 2 types of 7 = 24 inputs -> 3 poses of 5
PRIMES = NetworkSpec(
    image=(13, 11, 3),
    stem=(Conv(5, 3),),
    primary=Primary(types=2, size=7, kernel=4, stride=2),
    classes=3,
    pose=5,
    routing=Routing(bias=True),
    decoder=(17, 19),
)

# as few numbers as a network can have: 6 pixels, 2 places of a type of 2, 2 poses of 1
TINY = NetworkSpec(
    image=(3, 2, 1),
    stem=(),
    primary=Primary(types=1, size=2, kernel=2, stride=1),
    classes=2,
    pose=1,
    decoder=None,
)

# A small network of each kind of the table, by its name there.
KINDS: dict[str, NetworkSpec] = {
    "sabour2017": PRIMES,
    "efficient": Efficient(
        image=(11, 11, 2),
        pixels=Pixels(mean=(0.1, 0.2), deviation=(256 / 255, 0.9)),
        stem=(Conv(5, 3), Conv(6, 3, 2)),
        primary=Depthwise(types=3, size=2, kernel=4),
        classes=5,
        pose=7,
        decoder=(11,),
        loss=Loss(reconstruction=0.01),
    ),
    "self_routing": Hahn2019(
        image=(13, 11, 2),
        stem=(Conv(3, 3),),
        blocks=(Block(5, 2),),
        primary=Primary(types=2, size=5, kernel=3, stride=1),
        capsules=(CapsuleLayer(types=3, size=7, stride=2),),
        classes=3,
    ),
    "matrix": Hinton2018(
        image=(17, 13, 2),
        stem=(Conv(3, 5, 2),),
        primary=Primary(types=2, size=4, kernel=1, stride=1),
        capsules=(CapsuleLayer(types=3, size=4, stride=2),),
        classes=3,
    ),
    "variational_bayes": Ribeiro2020(
        image=(13, 11, 2),
        pixels=Pixels(mean=(0.1, 0.2), deviation=(256 / 255, 0.9)),
        stem=(Conv(3, 3, 2),),
        primary=Primary(types=2, size=4, kernel=1, stride=1),
        capsules=(CapsuleLayer(types=3, size=4),),
        classes=5,
    ),
    "inverted": Tsai2020(
        image=(15, 13, 2),
        stem=(Conv(3, 3),),
        blocks=(Block(5, 2, projected=True),),
        primary=Primary(types=3, size=4, kernel=1, stride=1),
        capsules=(CapsuleLayer(2, 4, stride=2), CapsuleLayer(5, 4, 2)),
        classes=3,
        pose=4,
        routing=Routing("inverted_attention", num_iters=3),
    ),
    "deepcaps": Rajasegaran2019(
        image=(12, 8, 2),
        stem=(Conv(5, 3),),
        capsules=(CapsuleLayer(3, 2, stride=2), *(CapsuleLayer(2, 5, stride=2),) * 2),
        classes=3,
        pose=7,
        decoder=(18,),
        upsampling=Transposed(channels=(5, 2), strides=(1, 2, 2)),
        loss=Loss(reconstruction=0.01),
    ),
}


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are of one dtype and shape and have the same bytes, NaNs too."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# Every combination of options of every routing of the table.
# Those that take activations are for networks of another kind.
OF_POSES = [kind for kind in ROUTINGS.values() if not kind.takes]
EXAMPLES = [routing for kind in OF_POSES for routing in kind.examples()]


@st.composite
def network_specs(draw: st.DrawFn) -> NetworkSpec:
    """Any small network that can be built."""
    small = st.integers(1, 4)
    real = st.floats(0, 2)
    conv = st.builds(Conv, channels=small, kernel=small, stride=st.integers(1, 3))
    try:
        return draw(
            st.builds(
                NetworkSpec,
                image=st.tuples(st.integers(1, 13), st.integers(1, 13), small),
                stem=st.lists(conv, max_size=3).map(tuple),
                primary=st.builds(Primary, small, small, small, small, st.floats(0.01, 2)),
                classes=small,
                pose=small,
                routing=st.sampled_from(EXAMPLES),
                decoder=st.none() | st.lists(small, max_size=3).map(tuple),
                loss=st.builds(Loss, real, real, real, real, st.booleans(), real),
                init=st.builds(Init, real, real, real, real, st.floats(-1, 1)),
            )
        )
    except SpecError:
        assume(False)
        raise


# The networks of a wide table that are not `slow`.
QUICK = ("no decoder", "leaky bias detach")
# Every option of the maths, each away from its default in one of these at least.
NETWORKS = {
    "primes": PRIMES,
    "tiny": TINY,
    "no routing bias": replace(PRIMES, routing=Routing(num_iters=2)),
    "one iteration": replace(PRIMES, routing=Routing(num_iters=1, bias=True)),
    "leaky": replace(PRIMES, routing=Routing(num_iters=5, leaky=True)),
    "leaky bias detach": replace(PRIMES, routing=Routing(bias=True, leaky=True, detach=True)),
    "detach": replace(PRIMES, routing=Routing(num_iters=2, detach=True)),
    "no decoder": replace(PRIMES, decoder=None),
    "one dense layer": replace(PRIMES, decoder=()),
    "no stem": replace(PRIMES, stem=()),
    "three stem layers": replace(
        PRIMES, image=(17, 19, 2), stem=(Conv(3, 2), Conv(5, 3, 2), Conv(7, 2))
    ),
    "stride beyond kernel": replace(
        PRIMES, image=(23, 13, 1), stem=(Conv(5, 2, 3),), primary=Primary(2, 3, 2, 3)
    ),
    "official": replace(
        PRIMES,
        primary=Primary(types=2, size=7, kernel=4, scale=1 / 3),
        loss=Loss(scale=0.5, class_mean=True),
        init=Init(stem=0.05, primary=0.1, digit=0.1, decoder=0.1, bias=0.1),
    ),
    "another loss": replace(
        PRIMES, loss=Loss(0.8, 0.2, 0.3, 1.7, reconstruction=0.011), decoder=(11,)
    ),
}
# Every routing of the table, by default and with each of its switches, unless it is there above.
ROUTED = {
    routing.label: replace(PRIMES, routing=routing)
    for kind in OF_POSES
    for routing in kind.switched()
    if routing not in [spec.routing for spec in NETWORKS.values()]
}
NETWORKS |= ROUTED
