"""Who may import whom: the table of the design, tested by reading every file and by running.

A row of `RULES` says what the files it matches may import of the frameworks and of ours; what a
file may import from elsewhere is what pyproject.toml declares for it.
"""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import wings
from wings import ROOT

FRAMEWORKS = {"torch": {"torch"}, "jax": {"jax", "jaxlib", "flax", "optax"}}
# Who may import by name: the bridges a wing, when asked, the registry the files beside it, and the
# package what moved.
IMPORTERS = (
    r"parity\.(cli|wing|convert|compare|conformance|diff)(\..+)?"
    r"|parity\.data\.registry|parity\.spec\.members|parity"
)
OURS = {"parity", *wings.PACKAGES.values(), "train"}
SHARED = r"parity(\.(spec|weights|schedule)(\..+)?)?"
# The rooms of parity in the order of their doors: each may enter those before it, and itself.
ROOMS = [
    *("spec", "schedule", "weights", "reference", "data", "runs", "wing", "saved", "convert"),
    *("export", "traces", "conformance", "diff", "figures", "compare", "loop", "predict"),
    *("explorer", "cli"),
]


def before(room: str) -> str:
    """A pattern of all that a room of parity may import of ours."""
    return rf"parity(\.({'|'.join(ROOMS[: ROOMS.index(room) + 1])})(\..+)?)?"


# Modules (a pattern of their names, the first that fits) -> frameworks, and ours they may import.
RULES = {
    r"train": ((), r"parity(\.cli)?"),
    r"parity": ((), r"nothing"),
    **{rf"parity\.{room}(\..+)?": ((), before(room)) for room in ROOMS},
    r"parity\.__main__": ((), before("cli")),
    r"torch_caps(\..+)?": (("torch",), rf"torch_caps(\..+)?|{SHARED}"),
    r"jax_caps(\..+)?": (("jax",), rf"jax_caps(\..+)?|{SHARED}"),
}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def declared(requirements: list[str]) -> set[str]:
    names = {re.split(r"[^\w-]", each)[0].replace("-", "_") for each in requirements}
    return {"PIL" if name == "pillow" else name for name in names}


BASE = declared(PROJECT["dependencies"])
EXTRAS = {name: declared(each) for name, each in PROJECT["optional-dependencies"].items()}


@dataclass(frozen=True)
class Import:
    """One imported module: its full name and line; `lazy` if importing the file does not run it."""

    module: str
    line: int
    lazy: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = [
    ROOT / "train.py",
    *(path for name in sorted(OURS) for path in sorted((ROOT / name).rglob("*.py"))),
]
MODULES = {module_name(path): path for path in FILES if path.exists()}


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def read(source: str) -> tuple[list[Import], list[str]]:
    """The imports of a file, inside functions too, and its dynamic and relative ones as faults."""
    imports, faults = [], []

    def visit(node: ast.AST, lazy: bool) -> None:
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            imports.extend(Import(alias.name, line, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            faults.append(f"line {line}: a relative import")
        elif isinstance(node, ast.ImportFrom):
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            names = (str(node.module), *filter(is_module, inner))
            imports.extend(Import(name, line, lazy) for name in names)
        elif isinstance(node, ast.Name | ast.Attribute | ast.alias):
            name = ast.unparse(node).split(".")[-1].split(" as ")[0]
            if name in ("import_module", "__import__"):
                faults.append(f"line {line}: {name}{' in a function' if lazy else ''}")
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        for child in ast.iter_child_nodes(node):
            visit(child, lazy or inside)

    visit(ast.parse(source), False)
    return imports, faults


def faults_of(module: str, source: str) -> list[str]:
    """Every way in which a file breaks the table, each with its line."""
    imports, faults = read(source)
    if re.fullmatch(IMPORTERS, module):
        faults = [each for each in faults if not each.endswith("import_module in a function")]
    frameworks, ours = next(rule for name, rule in RULES.items() if re.fullmatch(name, module))
    for each in imports:
        top = each.module.split(".")[0]
        framework = next((name for name, names in FRAMEWORKS.items() if top in names), None)
        known = BASE | (set() if not frameworks else EXTRAS[frameworks[0]])
        if framework is not None:
            allowed = framework in frameworks
        elif top in OURS:
            allowed = re.fullmatch(ours, each.module) is not None
        else:
            known |= EXTRAS["figures"] if each.lazy or module == "parity.figures" else set()
            reads = re.fullmatch(r"parity\.(data|predict)\..+", module)
            known |= EXTRAS["data"] if each.lazy and reads else set()
            known |= EXTRAS["hub"] if each.lazy and module == "parity.weights.folders" else set()
            known |= EXTRAS["onnx"] if each.lazy and module == "parity.export.model" else set()
            allowed = top in sys.stdlib_module_names or top in known
        if not allowed:
            faults.append(f"line {each.line}: imports {each.module}")
    return faults


@pytest.mark.parametrize("module", MODULES)
def test_every_file_keeps_to_the_table(module):
    assert faults_of(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("train", "import parity.loop"),
        ("train", "def main():\n    import torch"),
        ("parity", "import os, parity.spec"),
        ("parity.spec", "from parity.weights import table"),
        ("parity.spec", "from parity import schedule"),
        ("parity.schedule", "from parity import weights"),
        ("parity.weights.files", "import parity.reference"),
        ("parity.data.registry", "def f():\n    from parity.runs import Run"),
        ("parity.figures.command", "def f():\n    from parity.loop import terminal"),
        ("parity.traces.recording", "from parity.compare.rungs import RUNGS"),
        ("parity.schedule", "import parity.runs"),
        ("parity.loop", "import torch"),
        ("parity.loop", "def f():\n    import optax"),
        ("parity.loop", "from jax_caps import squash"),
        ("parity.loop", "import importlib\ndef f():\n    importlib.import_module('x')"),
        ("parity.loop", "def f():\n    __import__('x')"),
        ("parity.loop", "import matplotlib"),
        ("parity.loop", "def f():\n    import scipy"),
        ("parity.export.model", "import onnx"),
        ("parity.export.verb", "def f():\n    import onnx"),
        ("parity.weights.folders", "import huggingface_hub"),
        ("parity.saved", "def f():\n    import huggingface_hub"),
        ("parity.export.model", "def f():\n    import torch"),
        ("parity.data.sets.svhn", "import scipy.io"),
        ("parity.loop", "import train"),
        ("parity.data", "from .batches import training"),
        ("parity.cli", "import importlib\nimportlib.import_module('torch_caps')"),
        ("parity.cli", "def f():\n    __import__('torch_caps')"),
        ("parity.cli", "import torch_caps"),
        ("parity.convert", "def f():\n    import torch"),
        ("parity.compare.tasks", "def f():\n    import jax_caps.networks"),
        ("torch_caps", "import jax"),
        ("torch_caps.lean", "from jax_caps.lean import dynamic"),
        ("torch_caps.lean", "import parity.reference"),
        ("torch_caps.lean", "from parity.loop import train"),
        ("torch_caps.lean", "from . import routing"),
        ("jax_caps.lean", "def f():\n    from torch import nn"),
        ("jax_caps.lean", "import einops"),
    ],
)
def test_a_forbidden_import_is_found(module, source):
    assert faults_of(module, source) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("parity.cli", "import importlib\ndef f(name):\n    importlib.import_module(name)"),
        ("parity.runs", "import importlib.metadata\nimport parity.data.batches\nimport numpy"),
        ("parity.loop", "def f():\n    import tensorboardX"),
        ("parity.figures", "import matplotlib.pyplot"),
        ("parity.data.sets.svhn", "def f():\n    import scipy.io"),
        ("parity.export.model", "def f():\n    from onnx import helper"),
        ("parity.data.sets.folder", "def f():\n    from PIL import Image"),
        ("torch_caps.lean", "import torch.nn.functional\nfrom parity import weights, spec"),
        ("jax_caps.lean", "from flax import nnx\nfrom jax_caps import capsules\nimport optax"),
    ],
)
def test_what_the_table_allows_passes(module, source):
    assert faults_of(module, source) == []


def test_no_module_of_ours_imports_itself_in_a_circle():
    graph = {
        module: {
            each.module
            for each in read(path.read_text())[0]
            if each.module in MODULES and not each.lazy and not module.startswith(each.module)
        }
        for module, path in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which shows the circle


def test_every_room_has_its_place():
    """A room that is in no row of the table would be held to none."""
    rooms = {module.split(".")[1] for module in MODULES if module.startswith("parity.")}
    assert rooms == {*ROOMS, "__main__"}


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked here", name=name)
sys.meta_path.insert(0, Blocked())
"""


def run(code: str, blocked: set[str]) -> subprocess.CompletedProcess:
    """Run Python in a process of its own, in which the names of `blocked` cannot be imported."""
    return wings.python("-c", BLOCK.format(blocked=sorted(blocked)) + code)


def frameworks_but(name: str | None) -> set[str]:
    """Everything that may be missing where only the wing `name` is installed."""
    others = set(FRAMEWORKS) - {name}
    return {top for other in others for top in (*FRAMEWORKS[other], wings.PACKAGES[other])}


def import_all(package: str) -> str:
    names = [module for module in MODULES if module.split(".")[0] == package]
    return "\n".join(f"import {name}" for name in names if not name.endswith("__main__"))


@pytest.mark.parametrize("name", wings.NAMES)
def test_a_wing_imports_where_the_other_framework_does_not(name):
    package = wings.PACKAGES[name]
    missing = [each for each in wings.MODULES if f"{package}.{each}" not in MODULES]
    assert package in MODULES, f"{package}/__init__.py is missing"
    assert missing == [], f"{package} lacks {missing}"
    result = run(import_all(package), frameworks_but(name))
    assert result.returncode == 0, result.stderr


def test_parity_imports_where_neither_framework_does():
    missing = [each for each in (*ROOMS, "__main__") if f"parity.{each}" not in MODULES]
    assert missing == [], f"parity lacks {missing}"
    result = run(import_all("parity"), frameworks_but(None))
    assert result.returncode == 0, result.stderr


def test_importing_parity_imports_nothing():
    code = "before = set(sys.modules)\nimport parity\nprint(sorted(set(sys.modules) - before))"
    assert run(code, set()).stdout.strip() == "['parity']"


@pytest.mark.parametrize(
    ("door", "says"),
    [
        ("runpy.run_path('train.py', run_name='__main__')", "--backend"),
        ("runpy.run_module('parity', run_name='__main__')", "evaluate"),
    ],
)
def test_help_imports_no_framework(door, says):
    slow = {"rich", "safetensors"}  # to import, and of no use for that
    result = run(
        f"import runpy\nsys.argv = ['door', '--help']\n{door}", frameworks_but(None) | slow
    )
    assert result.returncode == 0, result.stderr
    assert says in result.stdout


EVALUATED = """
import numpy, torch_caps
from parity.spec import TrainingSpec, preset
trainer = torch_caps.Trainer(preset("small"), TrainingSpec())
images = numpy.zeros((2, 28, 28, 1), numpy.float32)
trainer.evaluate(images, numpy.arange(2), trainer.scores(images)[:, 0])
print("torch._dynamo" in sys.modules)
trainer.step(images, numpy.arange(2))
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.skipif("torch" not in wings.NAMES, reason="TWINCAPS_WINGS is without torch")
def test_evaluating_with_torch_does_not_import_its_compiler():
    """It takes as long as torch itself; torch's own optimisers import it in a training."""
    result = run(EVALUATED, set())
    assert result.stdout.split() == ["False", "True"], result.stderr


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_blocked_framework_cannot_be_imported(name):
    result = run(f"import {name}.numpy", frameworks_but(None))
    assert "is blocked here" in result.stderr
