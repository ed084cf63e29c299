"""Strict numerics: set where a network is built, put back when asked; what a network is given."""

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import wings
from specs import PRIMES

from parity.spec import SpecError, TrainingSpec

LOOSE = {
    "torch": """
import torch
torch.set_float32_matmul_precision("medium")
import torch_caps as caps

def switches():
    matmul, conv = torch.backends.mkldnn.matmul, torch.backends.cudnn.conv
    debug, words = torch.get_deterministic_debug_mode(), torch.get_float32_matmul_precision()
    names = [torch.backends.cuda.matmul, matmul, conv]
    return [*(each.fp32_precision for each in names), debug, os.environ.get(WORKSPACE), words]

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
os.environ.pop(WORKSPACE, None)
STRICT = ["ieee", "ieee", "ieee", 1, ":4096:8", "medium"]
RELAXED = ["tf32", "ieee", "tf32", 1, ":4096:8", "medium"]

def own_code():  # has no deterministic algorithm
    torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
""",
    "jax": """
import jax
jax.config.update("jax_default_matmul_precision", "bfloat16")
import jax_caps as caps

def switches():
    return [jax.config.jax_default_matmul_precision, jax.config.jax_enable_x64]

STRICT, RELAXED = ["highest", False], ["tensorfloat32", False]
os.environ["XLA_FLAGS"] = "--xla_cpu_enable_fast_math=false"

def own_code():
    jax.numpy.ones(3) @ jax.numpy.ones(3)
""",
}
CHECK = """
import os, warnings
{loose}
from parity.spec import NetworkSpec, Primary, TrainingSpec
spec = NetworkSpec((5, 5, 1), (), Primary(2, 2, 3), 3, 2, decoder=None)
users = switches()
caps.numerics.restore()
assert switches() == users
for build in (lambda: caps.CapsuleNetwork(spec), lambda: caps.Trainer(spec, TrainingSpec())):
    build()
    assert switches() == STRICT, switches()
    caps.numerics.tensorfloat32()
    build()
    assert switches() == RELAXED, switches()
    caps.numerics.strict()
    assert switches()[0] == STRICT[0]
    caps.numerics.restore()
    caps.numerics.restore()
    assert switches() == users, switches()
assert os.environ.get("XLA_FLAGS") in ({flags!r}, "--xla_cpu_enable_fast_math=false")
build()
assert caps.numerics.report()["deterministic"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    own_code()
caps.numerics.strict()
"""


@pytest.mark.parametrize("name", wings.NAMES)
def test_building_a_network_sets_strict_numerics_and_restore_puts_the_users_back(name):
    script = CHECK.format(loose=LOOSE[name], flags=os.environ.get("XLA_FLAGS"))
    told = subprocess.run([sys.executable, "-c", script], cwd=wings.ROOT, capture_output=True)
    assert told.returncode == 0, told.stderr.decode()


@pytest.mark.skipif("jax" not in wings.NAMES, reason="TWINCAPS_WINGS is without jax")
def test_xla_is_asked_before_a_word_of_the_users_that_it_does_not_know():
    """What stands behind such a word is not read."""
    script = "import os, jax_caps; jax_caps.numerics.strict(); print(os.environ['XLA_FLAGS'])"
    told = wings.python("-c", script, XLA_FLAGS="intra_op_parallelism_threads=1")
    assert told.stdout.split()[0] == "--xla_gpu_deterministic_ops=true", told.stderr


def test_a_precision_that_is_none_is_refused_in_the_same_words(both_wings):
    said = []
    for wing in both_wings:
        for build in (
            lambda w: w.CapsuleNetwork(PRIMES, precision="float16"),
            lambda w: w.numerics.strict("float16"),
        ):
            with pytest.raises(SpecError, match=r"one of float32, .* use bfloat16") as told:
                build(wing)
            said.append(str(told.value))
    assert len(set(said)) == 1


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


GIVEN = {
    "flipped": lambda x: x[::-1].copy()[::-1],
    "of another order": np.asfortranarray,
    "read-only": read_only,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "every second": lambda x: np.repeat(x, 2, 0)[::2],
    "longer": lambda x: x.astype(np.longdouble if x.dtype.kind == "f" else np.int64),
    "shorter": lambda x: x.astype(np.float16 if x.dtype.kind == "f" else np.uint8),
    "shorter still": lambda x: x.astype(ml_dtypes.bfloat16 if x.dtype.kind == "f" else np.int8),
}


@pytest.mark.parametrize("name", wings.wide(wings.NAMES, "torch".__eq__))
def test_arrays_are_taken_however_they_lie_in_memory(name):
    wing, random = wings.load(name), np.random.default_rng(0)
    images = random.integers(0, 256, (5, *PRIMES.image)).astype(np.float32) / 256  # bfloat16 too
    labels = random.integers(0, PRIMES.classes, 5)
    net, trainer = wing.CapsuleNetwork(PRIMES, 3), wing.Trainer(PRIMES, TrainingSpec(batch_size=5))
    poses, ones = net(images), np.ones(5, np.float32)

    def computed(images, labels, weights):
        return {
            "poses": wings.numpy(net(images)),
            "loss": wings.numpy(net.loss(images, labels)[0]),
            "decoded": wings.numpy(net.reconstruct(poses, labels)),
            **trainer.evaluate(images, labels, weights),
        }

    exact = computed(images, labels, ones)
    for how, laid in GIVEN.items():
        found = computed(laid(images), laid(labels), laid(ones))
        for name, value in exact.items():
            assert np.array_equal(found[name], value), (how, name)
    trainer.step(images[::-1], labels[::-1])
