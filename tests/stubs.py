"""The stubs of packages that find their functions by a table: `make stubs` writes them.

`__getattr__` finds torch_caps.routing.dynamic when it is asked for, and a type checker or an editor
cannot run it. The stub beside each such `__init__` says the same in words that they read: where
the function is, whose own signature they then know.
"""

from pathlib import Path

from parity.spec import ROUTINGS

ROOT = Path(__file__).resolve().parent.parent
LAZY = [
    "parity/reference/routing",
    *(f"{wing}_caps/{each}" for wing in ("torch", "jax") for each in ("routing", "lean")),
]


def stub(package: str) -> str:
    """The text of a package's stub: a line for each routing of the table that has a file there."""
    module = package.replace("/", ".")
    there = [name for name in sorted(ROUTINGS) if (ROOT / package / f"_{name}.py").exists()]
    lines = [f"from {module}._{name} import {name} as {name}\n" for name in there]
    return "# Written by `make stubs` from parity.spec.ROUTINGS.\n\n" + "".join(lines)


if __name__ == "__main__":
    for name in LAZY:
        (ROOT / name / "__init__.pyi").write_text(stub(name))
