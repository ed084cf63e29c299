"""Each wing trains and evaluates where nothing of the other can be imported, and asks for nothing.

In a process of its own, in which an import of the other framework is refused and told, on a data
set of a few stripes.
"""

import json
import subprocess

import pytest
import wings
from wings import PACKAGES

FRAMEWORKS = {"torch": {"torch"}, "jax": {"jax", "jaxlib", "flax", "optax"}}
WALL = """
import atexit, runpy, sys
class Wall:
    asked = []
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            self.asked.append(name)
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Wall())
sys.modules["matplotlib"] = None  # figures would take most of the time
sys.path.append("tests")
import door
atexit.register(lambda: print(f"asked for {{Wall.asked}}", flush=True))
sys.argv = {arguments!r}
if sys.argv[0] == "train.py":
    runpy.run_path("train.py", run_name="__main__")
runpy.run_module(sys.argv[0], run_name="__main__")
"""
QUICK = ["--preset", "tiny", "--dataset", "tiny-stripes", "--epochs", "1"]


def run(arguments: list[str], refused: set[str]) -> subprocess.CompletedProcess:
    script = WALL.format(refused=refused, arguments=[str(each) for each in arguments])
    return wings.python("-c", script)


@pytest.mark.parametrize("name", wings.NAMES)
def test_a_wing_trains_alone(tmp_path, name):
    (other,) = set(PACKAGES) - {name}
    refused = FRAMEWORKS[other] | {PACKAGES[other]}
    made = tmp_path / "run"
    trained = run(["train.py", "--backend", name, *QUICK, "--out", made], refused)
    assert trained.returncode == 0, trained.stderr
    assert "test accuracy" in trained.stdout
    assert "asked for []" in trained.stdout
    scored = run(["parity", "evaluate", made, "--json"], refused)
    assert scored.returncode == 0, scored.stderr
    found, asked = scored.stdout.splitlines()
    assert json.loads(found)["backend"] == name
    assert asked == "asked for []"


@pytest.mark.parametrize("name", PACKAGES)
def test_a_backend_that_is_missing_names_the_extra_to_install(tmp_path, name):
    made = tmp_path / "run"
    result = run(["train.py", "--backend", name, *QUICK, "--out", made], FRAMEWORKS[name])
    assert result.returncode == 2
    assert f"--backend {name}: " in result.stderr
    assert f"pip install 'twincaps[{name}]'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not made.exists()
