"""The stubs are those of the table, and a type checker knows every routing's signature by them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from stubs import LAZY, ROOT, stub

from parity.spec import ROUTINGS

PACKAGES = {name: name.replace("/", ".") for name in LAZY}


def ours(name: str) -> list[Path]:
    """The files of this name in our packages."""
    trees = ("parity", "torch_caps", "jax_caps")
    return [path for tree in trees for path in ROOT.glob(f"{tree}/**/{name}")]


def lazy() -> set[str]:
    """The packages whose `__init__` finds what it has by `members`."""
    found = (path for path in ours("__init__.py") if "= members(" in path.read_text())
    return {str(path.parent.relative_to(ROOT)) for path in found}


def test_every_package_of_a_table_has_a_stub_and_no_other():
    stubs = {str(each.parent.relative_to(ROOT)) for each in ours("__init__.pyi")}
    assert lazy() == set(LAZY) == stubs


@pytest.mark.parametrize("package", LAZY)
def test_a_stub_is_what_the_script_writes(package):
    assert (ROOT / package / "__init__.pyi").read_text() == stub(package), "run make stubs"


@pytest.mark.parametrize("package", LAZY)
def test_a_stub_names_every_routing_that_has_a_file(package):
    named = [line.split()[-1] for line in stub(package).splitlines() if line.startswith("from ")]
    files = {path.stem.removeprefix("_") for path in (ROOT / package).glob("_*.py")} - {"_init__"}
    assert set(named) == files
    assert package.endswith("lean") or set(named) == set(ROUTINGS)


@pytest.mark.slow
def test_a_type_checker_knows_the_signatures(tmp_path):
    """A right call passes and a misspelt option does not, in each package."""
    lines = []
    for module in PACKAGES.values():
        lines += [f"import {module}", f"reveal_type({module}.dynamic)"]
        lines += [f"{module}.dynamic(num_iter=3)", f"{module}.no_such_routing"]
    (tmp_path / "user.py").write_text("\n".join(lines))
    settings = {"extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    pyright = Path(sys.executable).with_name("pyright")
    command = [pyright, "--outputjson", "-p", tmp_path, "--pythonpath", sys.executable]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [each["message"] for each in json.loads(found.stdout)["generalDiagnostics"]]
    for kind, times in {"num_iters: int = 3": 5, 'No parameter named "num_iter"': 5}.items():
        assert sum(kind in each for each in said) == times, said
    assert sum('"no_such_routing" is not a known attribute' in each for each in said) == 5, said
