"""Write the golden vectors: what the oracle gives for fixed inputs, as small .npz files.

    python tests/golden/make_golden.py

Every input is random, in sizes that are distinct primes, and a float32 number stored as float64,
so that both precisions can be held against the same outputs. README.md says what each file holds.
"""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from parity import reference
from parity.spec import Conv, Loss, NetworkSpec, Primary, Routing, to_dict
from parity.weights import table

HERE = Path(__file__).resolve().parent
B, I, J, K, D = 2, 11, 5, 3, 7  # noqa: E741 (the axes' letters)

PLAIN = NetworkSpec(
    image=(7, 11, 2),
    stem=(Conv(5, 3),),
    primary=Primary(types=2, size=3, kernel=3, stride=2),
    classes=J,
    pose=D,
    decoder=(13,),
)
OPTIONS = replace(
    PLAIN,
    stem=(Conv(5, 2), Conv(3, 2)),
    primary=replace(PLAIN.primary, scale=1 / 3),
    routing=Routing(num_iters=2, bias=True, leaky=True, detach=True),
    decoder=(13, 17),
    loss=Loss(positive=0.8, negative=0.2, down_weight=0.3, scale=0.5, class_mean=True),
)
NETWORKS = {"network": PLAIN, "network-options": OPTIONS}

Arrays = dict[str, np.ndarray]


def generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * generator(1, seed).standard_normal(shape)).astype(np.float32).astype(float)


def uniform(seed: int, *shape: int) -> np.ndarray:
    return generator(2, seed).random(shape, np.float32).astype(float)


def routings():
    """Name -> options of `dynamic`: every combination of one to three iterations and switches."""
    for r, *switches in itertools.product((1, 2, 3), *[(False, True)] * 3):
        named = dict(zip(("bias", "leaky", "detach"), switches, strict=True))
        name = " ".join([f"r={r}", *(key for key, on in named.items() if on)])
        yield name, {"num_iters": r, **named}


def squash() -> Arrays:
    x, cotangent = normal(0, B, I, D), normal(1, B, I, D)
    x[0, 3], x[1, 4] = 0, x[1, 4] * 2.0**-20
    out = {"x": x, "cotangent": cotangent}
    for axis in (-1, 1):
        out[f"axis={axis}/y"] = reference.squash(x, axis)
        out[f"axis={axis}/gradient"] = reference.gradient(
            lambda x, axis=axis: (reference.squash(x, axis) * cotangent).sum(), x
        )
    return out


def votes() -> Arrays:
    inputs, kernel, cotangent = normal(2, B, I, K), normal(3, I, J, K, D), normal(4, B, I, J, D)
    return {
        "inputs": inputs,
        "kernel": kernel,
        "cotangent": cotangent,
        "votes": reference.votes(inputs, kernel),
        "gradient/inputs": reference.gradient(
            lambda x: (reference.votes(x, kernel) * cotangent).sum(), inputs
        ),
        "gradient/kernel": reference.gradient(
            lambda x: (reference.votes(inputs, x) * cotangent).sum(), kernel
        ),
    }


def dynamic() -> Arrays:
    votes, bias, cotangent = normal(5, B, I, J, D), normal(6, J, D), normal(7, B, J, D)
    out = {"votes": votes, "bias": bias, "cotangent": cotangent}
    for name, options in routings():
        biased = options.pop("bias")

        def route(votes, bias, biased=biased, options=options):
            return reference.routing.dynamic(votes, bias_JD=bias if biased else None, **options)

        def value(votes, bias, route=route):
            return (route(votes, bias)[0] * cotangent).sum()

        out[f"{name}/poses"], out[f"{name}/coupling"] = route(votes, bias)
        out[f"{name}/gradient/votes"] = reference.gradient(lambda x, f=value: f(x, bias), votes)
        if biased:
            out[f"{name}/gradient/bias"] = reference.gradient(lambda x, f=value: f(votes, x), bias)
    return out


def margin() -> Arrays:
    lengths, labels = uniform(8, B, J), np.array([3, 0])
    several = np.array([[1, 0, 0, 1, 0], [0, 0, 1, 0, 0]])
    out = {"lengths": lengths, "labels": labels, "several": several}
    options = {"positive": 0.8, "negative": 0.2, "down_weight": 0.25, "scale": 0.05}
    out |= {name: np.float64(value) for name, value in options.items()}
    for name, targets, given in (
        ("labels", labels, {}),
        ("several", several, {}),
        ("options", labels, options),
    ):

        def loss(lengths, targets=targets, given=given):
            return reference.margin(lengths, targets, **given)

        out[f"{name}/loss"] = loss(lengths)
        out[f"{name}/gradient"] = reference.gradient(loss, lengths)
    return out


def reconstruction() -> Arrays:
    decoded, images = uniform(9, B, 7, 5, 3), uniform(10, B, 7, 5, 3)
    return {
        "reconstructions": decoded,
        "images": images,
        "loss": reference.reconstruction(decoded, images),
        "gradient": reference.gradient(lambda x: reference.reconstruction(x, images), decoded),
    }


def network(spec: NetworkSpec) -> Arrays:
    rows = table(spec).items()
    arrays = {name: normal(20 + n, *row.shape, scale=0.3) for n, (name, row) in enumerate(rows)}
    images, labels = uniform(11, B, *spec.image), np.array([4, 1])
    out = {"spec": np.array(json.dumps(to_dict(spec))), "images": images, "labels": labels}
    out |= {f"weights/{name}": array for name, array in arrays.items()}
    seen = reference.forward(spec, arrays, images, labels)
    out |= {f"taps/{name}": np.asarray(tensor) for name, tensor in seen.items()}
    for name, array in arrays.items():

        def loss(x, name=name):
            return reference.forward(spec, arrays | {name: x}, images, labels)["loss"]

        out[f"gradient/{name}"] = reference.gradient(loss, array)
    return out


FILES = {
    "squash": squash,
    "votes": votes,
    "dynamic": dynamic,
    "margin": margin,
    "reconstruction": reconstruction,
    **{name: lambda spec=spec: network(spec) for name, spec in NETWORKS.items()},
}


if __name__ == "__main__":
    for name, build in FILES.items():
        np.savez_compressed(HERE / f"{name}.npz", **build())
        print(f"{name}.npz  {(HERE / f'{name}.npz').stat().st_size:,} bytes")
