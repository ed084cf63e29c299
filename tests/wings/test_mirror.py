"""The two wings are one house: the same files, public names, arguments, order and defaults.

By reading, so that it holds where a framework is missing, and once by running. Annotations may
differ, and so may a layer's way to be called: torch's `forward` is the mirror of `__call__`.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
import wings
from wings import PACKAGES, ROOT

from parity.spec import ROUTINGS

CALLS = {"forward": "__call__"}
MIRRORED = ("__init__", "__call__")


def files(package: str) -> dict[str, Path]:
    folder = ROOT / package
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*.py"))}


NAMES = sorted({name for package in PACKAGES.values() for name in files(package)})


ORACLE = "parity/reference"
# What computes: these files are in the oracle too, and it has two of its own.
MATHS = [
    name
    for name in NAMES
    if re.match(r"(capsules|convolution|losses|norm\.|routing/|networks/)", name)
]
# Of a wing's arguments those that the oracle, which has one dtype, needs not.
OF_WINGS = ("dtype", "compute", "bias=None")


def public(name: str) -> bool:
    return name in MIRRORED or not name.startswith("_")


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Each argument as it was written, without its annotation: "x", "*", "num_iters=3"."""
    bare = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(bare, ast.FunctionDef | ast.AsyncFunctionDef)
    for node in ast.walk(bare.args):
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(bare.args).split(", ")


def shape(source: str) -> dict[str, object]:
    """Public name -> what a user can see of it: arguments, members, or the mere name."""

    def names(body: list[ast.stmt]) -> dict[str, object]:
        seen: dict[str, object] = {}
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                kind = sorted(ast.unparse(each) for each in node.decorator_list)
                methods = [each for each in kind if each in ("property", "staticmethod")]
                seen[CALLS.get(node.name, node.name)] = (*methods, *arguments(node))
            elif isinstance(node, ast.ClassDef):
                seen[node.name] = names(node.body)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for each in targets:
                    seen.update({n.id: "name" for n in ast.walk(each) if isinstance(n, ast.Name)})
        return {name: what for name, what in seen.items() if public(name)}

    return names(ast.parse(source).body)


def exported(source: str) -> set[str]:
    """The names that a package's `__init__` imports or assigns; submodules without the package."""
    tree = ast.parse(source)
    imported = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import))
    return {alias.asname or alias.name for node in imported for alias in node.names}


def test_both_wings_have_the_files_of_the_design():
    for package in PACKAGES.values():
        there = {name.removesuffix(".py").removesuffix("/__init__") for name in files(package)}
        assert set(wings.MODULES) - there == set(), f"{package} lacks files"
    assert set(files("torch_caps")) == set(files("jax_caps"))


@pytest.mark.parametrize("name", NAMES)
def test_both_files_show_the_same_names_and_arguments(name):
    torch, jax = (shape((ROOT / package / name).read_text()) for package in PACKAGES.values())
    assert torch == jax


def test_the_oracle_has_the_files_of_what_computes():
    assert set(files(ORACLE)) == {"__init__.py", "arrays.py", "derivative.py", *MATHS}


@pytest.mark.parametrize("name", MATHS)
def test_the_oracle_takes_the_arguments_of_a_wing(name):
    oracle, wing = (shape((ROOT / each / name).read_text()) for each in (ORACLE, "torch_caps"))
    for shared in oracle.keys() & wing.keys():
        if isinstance(what := wing[shared], tuple):
            assert oracle[shared] == tuple(each for each in what if each not in OF_WINGS), shared


def test_the_oracle_has_what_both_wings_promise():
    """The functions of the contract, so that the table above cannot be empty."""
    promised = {
        "capsules.py": {"squash", "lengths", "votes"},
        "losses.py": {"margin", "reconstruction", "one_hot"},
        "convolution.py": {"conv"},
        **{f"routing/_{name}.py": {name} for name in ROUTINGS},
    }
    for name, functions in promised.items():
        for tree in (ORACLE, *PACKAGES.values()):
            assert functions <= shape((ROOT / tree / name).read_text()).keys(), f"{tree}/{name}"


def test_both_packages_export_the_same_names():
    torch, jax = ((ROOT / each / "__init__.py").read_text() for each in PACKAGES.values())
    assert exported(torch) == exported(jax) != set()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(a, b): ...", "def f(b, a): ..."),
        ("def f(a, b=1): ...", "def f(a, b=2): ..."),
        ("def f(a, b=1): ...", "def f(a, *, b=1): ..."),
        ("def f(a): ...", "def f(a, *rest): ..."),
        ("def f(a): ...", "async def g(a): ..."),
        ("def f(a): ...", ""),
        ("LIMIT = 1", "BOUND = 1"),
        ("class C:\n def m(self): ...", "class C:\n def m(self, x): ..."),
        ("class C:\n def __init__(self, a): ...", "class C:\n def __init__(self, b): ..."),
        ("class C:\n @property\n def p(self): ...", "class C:\n def p(self): ..."),
        ("class C:\n size: int", "class C:\n other: int"),
    ],
)
def test_a_broken_mirror_is_seen(one, other):
    assert shape(one) != shape(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(a: Tensor) -> Tensor: ...", "def f(a: jax.Array): return a"),
        ("def _f(a): ...", ""),
        ("class C:\n def forward(self, x): ...", "class C:\n def __call__(self, x): ..."),
        ("def f(a: dict[str, int] = {}): ...", "def f(a={}): ..."),
        ("from x import y", "import z"),
    ],
)
def test_what_may_differ_does(one, other):
    assert shape(one) == shape(other)


def seen(module: object, name: str) -> dict[str, list[tuple]]:
    """Signatures, as Python itself reports them, of a name and of its public methods."""
    member = getattr(module, name)
    if inspect.isclass(member):
        methods = inspect.getmembers(member, inspect.isfunction)
        own = {CALLS.get(key, key): f for key, f in methods if f.__module__ == member.__module__}
        return {f"{name}.{key}": parameters(f) for key, f in own.items() if public(key)}
    return {name: parameters(member)}


def parameters(function) -> list[tuple]:
    """Name, kind and default of each argument; functions among the defaults by their name."""
    return [
        (each.name, each.kind.name, getattr(each.default, "__qualname__", repr(each.default)))
        for each in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__init__.py"])
def test_python_reports_the_same_signatures(name, both_wings):
    path = name.removesuffix(".py").replace("/", ".")
    torch, jax = (importlib.import_module(f"{wing.__name__}.{path}") for wing in both_wings)
    for public_name, what in shape(Path(str(torch.__file__)).read_text()).items():
        if what != "name":
            assert seen(torch, public_name) == seen(jax, public_name)
