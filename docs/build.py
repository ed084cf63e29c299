"""Gathers the pages of the documentation site in build/docs, and builds site/ of them.

    python docs/build.py [mkdocs|zensical]       # or: make docs [SITE=zensical]

The pages stay where a reader of the repository finds them; only their links change here. Formulas
become MathML, which browsers draw by themselves, and the notebook is run.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS, STAGE = ROOT / "docs", ROOT / "build/docs"
# Pages that are not in docs/: where they are, and what they are called on the site.
ABOVE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}
NOTEBOOK, TOUR = "tour.ipynb", "tour.md"  # the notebook, and what the site makes of it
NETWORK = "small-mnist"
BUILDERS = {
    "mkdocs": ["mkdocs", "build", "--strict"],
    "zensical": ["zensical", "build", "--strict"],
}

# The pages of the API: modules of both wings, then what of parity belongs beside them.
WINGS = {"PyTorch": "torch_caps", "JAX": "jax_caps"}
API: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "capsules": ("Capsules", ("capsules", "norm", "convolution", "fourier"), {}),
    "routing": ("Routing", ("routing", "lean"), {}),
    "losses": ("Losses", ("losses",), {}),
    "networks": ("Networks", ("networks", "layers"), {}),
    "training": ("Training", ("training", "tracing", "processes", "numerics"), {}),
    "weights": (
        "Weights",
        ("weights", "arrays", "export"),
        {"parity.weights": "save load load_pretrained trained_on"},
    ),
    "spec": (
        "Specs",
        (),
        {
            "parity.spec": "preset preset_card NetworkSpec Sabour2017 Efficient Conv Primary "
            "Depthwise Norm Pixels Upsampling Routing Loss Init TrainingSpec RunOptions to_dict "
            "from_dict TwincapsError SpecError"
        },
    ),
    "loop": (
        "Data, runs and the loop",
        (),
        {
            "parity.data": "load names from_arrays Dataset Split",
            "parity.loop": "train History",
            "parity.runs": "Run",
            "parity.saved": "find Known",
            "parity.figures": "couplings",
        },
    ),
    "checks": (
        "Checks",
        (),
        {
            "parity.conformance": "check_callable Report",
            "parity.diff": "models record Report",
            "parity.export": "export build",
        },
    ),
}


def pages() -> dict[str, str]:
    """The text of each page of the site, by its path there, but for the notebook's."""
    texts = {name: (ROOT / source).read_text() for source, name in ABOVE.items()}
    for path in sorted(DOCS.rglob("*.md")):
        texts[path.relative_to(DOCS).as_posix()] = path.read_text()
    texts = {name: _moved(name, text) for name, text in texts.items()}
    return texts | {f"api/{name}.md": _api(*page) for name, page in API.items()}


def _moved(name: str, text: str) -> str:
    """A page with the links of the site."""
    if name in ABOVE.values():
        text = re.sub(r"([\[(])docs/", r"\1", text)
    for source, target in (ABOVE | {NOTEBOOK: TOUR}).items():
        text = re.sub(rf"\]\((\.\./)*{source}", rf"]({'../' * name.count('/')}{target}", text)
    return text


def _api(title: str, modules: tuple[str, ...], rooms: dict[str, str]) -> str:
    """A page of docstrings: a tab a wing, where both have the name."""
    lines = [f"# {title}", ""]
    for module in modules:
        lines += [f"## {module}", ""]
        for name in _names(ROOT / WINGS["PyTorch"] / module):
            lines += [f"### {name}", ""]
            for wing, package in WINGS.items():
                lines += [f'=== "{wing}"', "", f"    ::: {package}.{module}.{name}"]
                lines += ["        options:", "            heading_level: 4", ""]
    for room, names in rooms.items():
        lines += [f"## {room}", ""]
        lines += [f"::: {room}.{name}\n" for name in names.split()]
    return "\n".join(lines)


def _names(module: Path) -> list[str]:
    """The public names of a module, which is read and not imported, in their order."""
    files = (module.with_suffix(".py"), module / "__init__.pyi", module / "__init__.py")
    file = next(file for file in files if file.exists())
    names = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
        if isinstance(node, ast.ImportFrom) and file.suffix == ".pyi":  # the stub of the routings
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            names.append(node.name)
    return [name for name in names if not name.startswith("_")]


def _mathml(text: str) -> str:
    """Formulas of the repository's host, ```math and $`...`$, as MathML."""
    from latex2mathml.converter import convert

    def block(formula: re.Match) -> str:
        return f"<div class=formula>{convert(formula[1].strip(), display='block')}</div>\n"

    def inline(formula: re.Match) -> str:
        # Markdown takes <math> at the start of a line for a block, and * and _ for emphasis.
        plain = convert(formula[1]).replace("*", "&#42;").replace("_", "&#95;")
        return f"<span>{plain}</span>"

    text = re.sub(r"^```math\n(.*?)^```\n", block, text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"\$`(.+?)`\$", inline, text)


def stage() -> None:
    """Writes build/docs anew."""
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(DOCS, STAGE, ignore=shutil.ignore_patterns("*.md", "*.py", ".*", "tour-*"))
    for name, text in pages().items():
        text = _explored(text) if name == "explorer.md" else text
        (STAGE / name).parent.mkdir(exist_ok=True)
        (STAGE / name).write_text(_mathml(text))
    explorer = ("parity", "explore", NETWORK, "--out", STAGE / f"{NETWORK}.html")
    # Without encryption the kernel warns that it can be listened to.
    encrypted = "--KernelManager.transport_encryption=auto"
    notebook = ("nbconvert", "--execute", "--to", "markdown", encrypted, STAGE / NOTEBOOK)
    for command in (explorer, notebook):
        _run(*command)
    (STAGE / NOTEBOOK).unlink()


def _explored(text: str) -> str:
    """The explorer's page of the docs, with the explorer in the place of its picture."""
    frame = f'<iframe class="explorer" src="{NETWORK}.html" title="The explorer"></iframe>'
    frame += f"\n\n[The same on a page of its own]({NETWORK}.html)"
    text, count = re.subn(r"!\[[^]]*\]\(pictures/explorer\.png\)", frame, text)
    assert count == 1, "explorer.md has no picture that the explorer could take the place of"
    return text


def _run(*module: object) -> None:
    """Runs a module of Python, which finds our packages from any folder."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"NO_MKDOCS_2_WARNING": "1"}  # what mkdocs-material says of its successor
    command = [sys.executable, "-m", *map(str, module)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **quiet, "PYTHONPATH": paths}, check=True)


if __name__ == "__main__":
    builder = sys.argv[1] if len(sys.argv) > 1 else "mkdocs"
    if builder not in BUILDERS:
        sys.exit(f"{builder}: unknown; expected {' or '.join(BUILDERS)}")
    stage()
    _run(*BUILDERS[builder])
