"""The table of the ladder: what each rung compares, and its tolerances.

The tolerances are the design's. They are never loosened: where a measured difference is larger,
its cause is found first, and written down in docs/parity.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """One rung: its number, what is compared, and the tolerance in each precision."""

    number: int
    what: str
    float64: float
    float32: float

    def tolerance(self, precision: str, norms: int = 0) -> float:
        """The largest difference that holds, for a network with so many normalisations."""
        if (self.number, precision) == (3, "float64") and norms > DEEP:
            return DEEP_GRADIENTS
        return getattr(self, precision)


RUNGS = (
    Rung(0, "round trip of names, axes and bytes", 0.0, 0.0),
    Rung(1, "pure functions against the oracle, values and gradients", 1e-13, 1e-5),
    Rung(2, "network forward, every intermediate", 1e-13, 1e-5),
    Rung(3, "gradients of parameters, image and every intermediate", 1e-12, 1e-5),
    Rung(4, "one optimiser step from a ported state", 1e-11, 2e-5),
    Rung(5, "trajectories: 100 Adam steps in float64, 10 SGD steps in float32", 1e-9, 2e-5),
    # In float32 the accuracy of the two runs is compared: 0.3 points.
    Rung(6, "a run resumed in the other wing against the uninterrupted one", 1e-9, 3e-3),
    Rung(7, "modes against plain: jit, compiled, lean, Fourier, exported", 1e-12, 1e-5),
    Rung(8, "GPU, TF32 off", 1e-11, 2e-5),
)

# Each normalisation amplifies rounding: two float64 implementations of twenty in one framework have
# gradients 8.6e-13 apart (Hahn et al. 2019, their code against another), so rung 3 asks less there.
DEEP, DEEP_GRADIENTS = 10, 1e-11
# The gradients that rung 4 looks at: of at least this share of their tensor's largest.
SHARE_OF_LARGEST = 1e-3
BATCH = 8
ADAM_STEPS, SGD_STEPS, SGD_RATE = 100, 10, 0.01
# Rung 6: one wing takes the first half of these steps, the other the second.
RESUMED_STEPS = {"float64": 20, "float32": 60}
GPU_STEPS = 10
