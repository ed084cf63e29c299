"""A routing touches four places and no test: tried on a copy of the repository, in both wings.

The copy is given the routing of `promised.py` (its dataclass, and a file each in the oracle and
the wings) and, as a new routing asks, `make stubs`, which writes three stubs. Nothing else
of it is changed: everything must then know the routing, and tell when one wing has it wrong.
Every command runs in a process of its own that sees the copy alone.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import promised
import pytest
from wings import NAMES, PACKAGES, ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(NAMES) < len(PACKAGES), reason="compares both wings"),
]

DOOR = """
import dataclasses, sys
import door
from parity import spec
tiny = spec.PRESETS["tiny"]
network = dataclasses.replace(tiny.network, routing=spec.Routing("scaled", sharp=True))
spec.PRESETS["scaled"] = dataclasses.replace(tiny, network=network)
sys.exit(door.main(sys.argv[1:]))
"""

TRAVEL = """
import sys
import numpy as np
from pathlib import Path
from parity.convert import convert
from parity.spec import Routing
from parity.weights import draw, load
run, out = map(Path, sys.argv[1:])
convert(run, out / "first.safetensors")
spec, arrays = load(out / "first.safetensors")
assert spec.routing == Routing("scaled", sharp=True), spec.routing
moved = np.abs(arrays["digit.prior"] - draw(spec, 0)["digit.prior"]).max()
assert moved > 1e-3, f"the prior has not been trained: {moved}"
for suffix in (".pt", ".msgpack"):
    convert(out / "first.safetensors", out / f"there{suffix}")
    convert(out / f"there{suffix}", out / f"back{suffix}.safetensors")
    first, back = (out / f"{name}.safetensors" for name in ("first", f"back{suffix}"))
    same = first.read_bytes() == back.read_bytes()
    print(f"weights by {suffix} and back:", "the same bytes" if same else "other bytes")
    assert same
"""

LADDER = """
import dataclasses, sys
from specs import PRIMES
from parity import compare
from parity.compare import show, subject
from parity.compare.rungs import functions
from parity.spec import Routing, TrainingSpec
# Beside it the routing that stood: the other ones climb in test_compare_ladder.py.
routings = ("scaled", "dynamic")
few = {name: case for name, case in functions.cases().items() if case.function in routings}
functions.cases = lambda: few
spec = dataclasses.replace(PRIMES, routing=Routing("scaled"))
whole = subject.of(spec, TrainingSpec(), source="a routing in four files")
holds = True
for precision, last in (("float64", int(sys.argv[1])), ("float32", int(sys.argv[2]))):
    report = compare.ladder(
        whole, rungs=range(1 if last == 1 else 0, last + 1), precisions=(precision,),
        modes=("compiled", "lean"), isolated=False, gpu=None,
    )
    show.show(report)
    holds &= report.holds
    for row in report.rows:
        if row.fails:
            print(f"FIRST rung {row.rung}: {row.first or row.why}")
    if not holds:
        break
sys.exit(0 if holds else 1)
"""


def python(root: Path, *argv: object, status: int = 0, **environment: str) -> str:
    """What Python says with the copy in place of this repository; its exit status is looked at."""
    ours = {
        "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}",
        "COLUMNS": "150",
    }
    hidden = ("JAX_ENABLE_X64", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST")
    inherited = {key: value for key, value in os.environ.items() if key not in hidden}
    ended = subprocess.run(
        [sys.executable, *map(str, argv)], cwd=root, env={**inherited, **ours, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == status, f"{argv}: {ended.returncode}\n{ended.stdout}{ended.stderr}"
    print(ended.stdout)
    return ended.stdout


def suite(root: Path, *argv: str, status: int = 0) -> str:
    """Run tests of the copy; what pytest says."""
    return python(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", *argv, status=status)


def file(name: str) -> str:
    """Where the tests of that name are."""
    (path,) = ROOT.glob(f"tests/*/test_{name}.py")
    return str(path.relative_to(ROOT))


def content(root: Path) -> dict[str, str]:
    """Path -> checksum of each file of a tree that is nobody's cache."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not {"__pycache__", ".pytest_cache", ".hypothesis"} & {*path.parts}
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {path for path in before | after if before.get(path) != after.get(path)}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """The copy with the routing in its four places, and the stubs written."""
    root = tmp_path_factory.mktemp("promise") / "copy"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    # Most of the time would be XLA's compiling of what other tests have compiled.
    (ROOT / ".pytest_cache").mkdir(exist_ok=True)
    (root / ".pytest_cache").symlink_to(ROOT / ".pytest_cache")
    before = content(root)
    touched = promised.add(root)
    assert len(touched) == 4
    assert changed(before, content(root)) == touched
    python(root, "tests/stubs.py")
    stubs = {f"{tree}/routing/__init__.pyi" for tree in ("parity/reference", *PACKAGES.values())}
    assert changed(before, content(root)) == touched | stubs
    now = content(root)
    yield root
    assert changed(now, content(root)) == set(), "a test of the copy has edited it"


def test_it_trains_in_either_wing_and_goes_on_in_the_other(house, tmp_path):
    flags = ("--preset", "scaled", "--dataset", "tiny-stripes", "--epochs", "1")
    for first, then in (("torch", "jax"), ("jax", "torch")):
        run = tmp_path / first
        argv = ("train", *flags, "--backend", first, "--out", run)
        python(house, "-c", DOOR, *argv, DOOR_FIGURES="none")
        argv = ("train", "--resume", run, "--backend", then, "--epochs", "2")
        python(house, "-c", DOOR, *argv, DOOR_FIGURES="none")
        steps = (run / "metrics.jsonl").read_text().count('"event": "train"')
        assert steps == 26, "two epochs of 13 steps"
        (tmp_path / f"{first}-files").mkdir()
        python(house, "-c", TRAVEL, run, tmp_path / f"{first}-files")


def test_it_holds_on_the_ladder(house, tmp_path):
    said = python(house, "-c", LADDER, 7, 1, JAX_ENABLE_X64="1", JAX_PLATFORMS="cpu")
    assert said.count("every rung holds") == 2
    assert "differs" not in said


def test_the_tables_are_green_without_an_edit(house):
    whole = ("mirror", "imports", "spec", "stubs", "conformance_routings")
    suite(house, *(file(name) for name in whole))
    tables = [file(name) for name in ("network", "reference", "weights_file", "convert")]
    said = suite(house, *tables, "-k", "scaled", "-m", "not float64")
    assert " passed" in said
    said = suite(
        house, "tests/wings/test_network.py", "-k", "scaled and not sharp", "-m", "float64"
    )
    assert " passed" in said


@pytest.mark.parametrize("wing", PACKAGES)
def test_twice_too_much_in_one_wing_is_seen_everywhere(house, wing):
    path = house / f"{PACKAGES[wing]}/routing/_scaled.py"
    right = path.read_text()
    assert right.count(promised.RIGHT) == 1
    path.write_text(right.replace(promised.RIGHT, promised.WRONG))
    try:
        said = python(house, "-c", LADDER, 1, 1, status=1, JAX_ENABLE_X64="1", JAX_PLATFORMS="cpu")
        assert "broken: rung 1 in float64" in said
        assert "FIRST rung 1: scaled temperature=1.5: value" in said
        said = suite(
            house, "tests/wings/test_network.py", "-k", "scaled", "-m", "not float64", status=1
        )
    finally:
        path.write_text(right)
    failed = [line for line in said.splitlines() if line.startswith("FAILED")]
    assert any(f"{wing}-scaled temperature=1.5" in line for line in failed), failed
    other = next(each for each in PACKAGES if each != wing)
    assert not any(f"oracles[{other}-" in line for line in failed), failed
