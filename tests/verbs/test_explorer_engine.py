"""The explorer's engine and its fit, run by node, against the oracle and against predict's fit."""

import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import specs
from PIL import Image
from wings import ROOT, difference

from parity import reference, weights
from parity.explorer import page
from parity.predict.fit import FITS, prepare
from parity.spec import Conv, Depthwise, Efficient, NetworkSpec, Norm, Pixels, Routing, Upsampling

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

FOLDER = ROOT / "parity/explorer"
EFFICIENT = Efficient(
    image=(17, 19, 3),
    stem=(Conv(5, 3), Conv(14, 4, 2)),
    primary=Depthwise(types=2, size=7, kernel=5),
    classes=3,
    pose=5,
    decoder=(11, 13),
)
# Efficient-CapsNet, every option away from its default in one of these at least.
EFFICIENTS = {
    "efficient": EFFICIENT,
    "efficient instance": replace(
        EFFICIENT, norm=Norm("instance"), slope=0.3, pixels=Pixels(own=True), length_epsilon=0.0
    ),
    "efficient layer first": replace(
        EFFICIENT,
        norm=Norm("layer", epsilon=0.07, first=True),
        pixels=Pixels((0.3, 0.1, 0.2), (0.7, 1.3, 1.1), own=True, joint=True),
        routing=Routing("self_attention", scale=1.7),
    ),
    "efficient batch first": replace(
        EFFICIENT, norm=Norm(first=True), primary=Depthwise(2, 7, 3, 2), decoder=None
    ),
    "efficient upsampling": replace(
        EFFICIENT,
        image=(16, 16, 2),
        pixels=Pixels(deviation=(256 / 255,)),
        decoder=(11, 36),
        upsampling=Upsampling(channels=(3, 5), slope=0.23),
    ),
}
NETWORKS = {**specs.NETWORKS, **EFFICIENTS}
DRAWN = {name: spec for name, spec in NETWORKS.items() if page.fault(spec) is None}
LABEL = 1

# Reads cases from standard input and writes what the engine makes of each, as JSON.
ENGINE = """
const cases = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(cases.map(({file, image}) => {
  const network = readWeights(Uint8Array.from(Buffer.from(file, "base64")).buffer);
  const seen = {};
  const poses = encode(network, image, (name, x) => { seen[name] = Array.from(x); });
  seen.lengths = Array.from(lengths(poses, network.spec.pose, network.spec.length_epsilon));
  if (network.spec.decoder) seen.reconstruction = Array.from(decode(network, poses, LABEL));
  return seen;
})));
""".replace("LABEL", str(LABEL))
FIT = """
const cases = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(cases.map(({drawing, image, fit, frame}) => {
  const made = prepare(drawing, image, fit, frame);
  return {fault: fault(drawing), image: made && Array.from(made)};
})));
"""


def node(script: str, cases: object, *files: str) -> list:
    """What a script prints as JSON after these files of the explorer."""
    whole = "\n".join([*((FOLDER / name).read_text() for name in files), script])
    done = subprocess.run(
        [str(NODE), "-e", whole],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def randomly(spec: NetworkSpec, dtype: str = "float64") -> weights.Arrays:
    """Random values in every tensor, also where the first draw has a constant."""
    random = np.random.default_rng(3)
    rows = weights.table(spec).items()
    arrays = {name: random.normal(0, 0.4, row.shape) for name, row in rows}
    spreads = {name: np.abs(a) + 0.1 for name, a in arrays.items() if name.endswith(".variance")}
    return {name: array.astype(dtype) for name, array in {**arrays, **spreads}.items()}


def file(path, spec: NetworkSpec, arrays: weights.Arrays) -> str:
    weights.save(path, spec, arrays)
    return base64.b64encode(path.read_bytes()).decode()


def picture(spec: NetworkSpec) -> np.ndarray:
    """Random pixels, a third of them black."""
    random = np.random.default_rng(7)
    image = random.uniform(0, 1, spec.image)
    return np.where(random.uniform(0, 1, spec.image) < 1 / 3, 0, image)


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict[str, Mapping[str, list[float]]]:
    """Every tensor that the engine shows, of each network of the tests, in float64."""
    path = tmp_path_factory.mktemp("engine") / "net.safetensors"
    cases = [
        {"file": file(path, spec, randomly(spec)), "image": picture(spec).ravel().tolist()}
        for spec in DRAWN.values()
    ]
    return dict(zip(DRAWN, node(ENGINE, cases, "engine.js"), strict=True))


@pytest.mark.parametrize("name", DRAWN)
def test_the_engine_computes_what_the_oracle_does(name, seen):
    spec = DRAWN[name]
    label = np.array([LABEL])
    expected = reference.forward(spec, randomly(spec), picture(spec)[None], label)
    losses = {each for each in expected if each.startswith("loss")}
    assert set(seen[name]) == set(expected) - losses - {"image"}
    for tensor, values in seen[name].items():
        assert difference(np.array(values), expected[tensor].ravel()) < 1e-12, tensor


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_engine_reads_every_type_that_a_page_holds(dtype, tmp_path):
    arrays = randomly(specs.PRIMES, dtype)
    image = picture(specs.PRIMES)
    case = {"file": file(tmp_path / "net", specs.PRIMES, arrays), "image": image.ravel().tolist()}
    (found,) = node(ENGINE, [case], "engine.js")
    expected = reference.forward(specs.PRIMES, arrays, image[None], np.array([LABEL]))
    for tensor in ("lengths", "reconstruction"):
        assert difference(np.array(found[tensor]), expected[tensor].ravel()) < 1e-12


def test_the_engine_has_what_the_page_lets_through():
    (found,) = node(
        "console.log(JSON.stringify([[NETWORKS, ROUTINGS].map(Object.keys)]))", 0, "engine.js"
    )
    assert found == [list(page.NETWORKS), list(page.ROUTINGS)]


def drawing(seed: int, height: int = 280, width: int = 280) -> np.ndarray:
    """A polyline with soft edges, uint8 [H, W], light on black; thick, thin, near an edge."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 1, (5, 2)) * (height * 0.7, width * 0.9) + (seed % 3) * 20
    places = np.moveaxis(np.indices((height, width)), 0, -1)
    away = np.full((height, width), np.inf)
    for start, end in itertools.pairwise(corners):
        line = end - start
        share = np.clip(((places - start) @ line) / (line @ line), 0, 1)
        away = np.minimum(away, np.linalg.norm(places - start - share[..., None] * line, axis=-1))
    return np.rint(255 * np.clip(4 + 3 * seed - away, 0, 1)).astype(np.uint8)


def ring(across: int) -> np.ndarray:
    """A zero, symmetrical: its mass is centred on a pixel or between two."""
    rows, columns = np.indices((280, 280)) - 139.5
    away = np.hypot(rows / 90, columns / across)
    return np.rint(255 * np.clip(6 - 60 * np.abs(away - 1), 0, 1)).astype(np.uint8)


def cases() -> list[tuple[np.ndarray, tuple[int, int, int], str, tuple[int, int] | None]]:
    mnist = [(drawing(seed), (28, 28, 1), "digit", None) for seed in range(5)]
    mnist += [(ring(across), (28, 28, 1), "digit", None) for across in range(50, 100, 7)]
    upside = [(255 - drawing(2), (28, 28, 1), "digit", None)]  # dark on light
    others = [(drawing(1, 310, 270), (31, 27, 1), fit, None) for fit in FITS]
    framed = [(drawing(4, 300, 320), (13, 11, 3), "whole", (30, 32))]
    return [*mnist, *upside, *others, *framed]


def test_a_drawing_becomes_the_image_that_predict_makes_of_it(tmp_path):
    told = [
        {
            "drawing": {"height": len(a), "width": len(a[0]), "data": a.ravel().tolist()},
            "image": image,
            "fit": fit,
            "frame": frame,
        }
        for a, image, fit, frame in cases()
    ]
    found = node(FIT, told, "fit.js")
    for each, (array, image, fit, frame) in zip(found, cases(), strict=True):
        Image.fromarray(array).save(tmp_path / "drawing.png")
        expected = prepare(tmp_path / "drawing.png", image, fit, frame)
        # "whole" is computed in bytes, which Pillow rounds once for each direction.
        allowed = 1.01 / 255 if fit == "whole" else 1e-7
        assert np.abs(np.array(each["image"]) - expected.ravel()).max() <= allowed
        assert expected.max() > 0.5


def test_nothing_and_a_full_field_are_no_drawings():
    blank, full, thick = (np.full((280, 280), ink, np.uint8) for ink in (0, 255, 0))
    thick[:160] = 255
    drawn = [blank, full, thick, drawing(0)]
    told = [
        {"drawing": {"height": 280, "width": 280, "data": a.ravel().tolist()}, "fit": "digit"}
        for a in drawn
    ]
    found = node(FIT, [{**each, "image": (28, 28, 1)} for each in told], "fit.js")
    assert [each["fault"] for each in found] == ["blank", "full", "full", ""]
    assert [each["image"] is None for each in found[:2]] == [True, True]
