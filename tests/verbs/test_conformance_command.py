"""The verb conformance: loading a function, the verdict printed and in JSON, the exit code."""

import json
import sys
import textwrap

import pytest
import wings

from parity import conformance
from parity.conformance import ConformanceError
from parity.conformance.command import guess
from parity.conformance.loading import load
from parity.conformance.mistakes import CASES
from parity.spec import TwincapsError

FILE = """
    import numpy as np
    from beside_it import HALF

    def squash(x):
        norm = np.sqrt((x * x).sum(-1, keepdims=True))
        return x * norm / (1 + norm * norm)

    class Their:
        @staticmethod
        def squash_half(x):
            return HALF * squash(x)

    number = 3
"""


@pytest.fixture
def theirs(tmp_path):
    (tmp_path / "their_capsules.py").write_text(textwrap.dedent(FILE))
    (tmp_path / "beside_it.py").write_text("HALF = 0.5\n")
    yield tmp_path / "their_capsules.py"
    for name in ("beside_it", "their_capsules", "conformance_their_capsules"):
        sys.modules.pop(name, None)


def test_main_of_a_right_function(theirs, capsys):
    assert conformance.main(module=f"{theirs}:squash") == 0
    said = capsys.readouterr().out
    assert "conforms: every difference is at most 1e-05; gradients of NumPy code" in said
    assert said.count("holds") == len(CASES["squash"])
    assert conformance.main(module=f"{theirs}:squash", json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["conforms"] is True
    assert found["kind"] == "squash"
    assert found["convention"] == "f(x)"
    assert found["frameworks"] == ["numpy"]
    assert {row["framework"] for row in found["rows"]} == {"numpy"}
    assert all(row["holds"] and row["difference"] < 1e-6 for row in found["rows"])


def test_main_of_a_wrong_function(theirs, capsys, monkeypatch):
    monkeypatch.syspath_prepend(theirs.parent)
    module = "their_capsules:Their.squash_half"
    assert conformance.main(module=module, kind="squash") == 1
    said = capsys.readouterr().out
    assert "does not conform:\n  off by a constant factor 0.5\n" in said
    assert conformance.main(module=module, kind="squash", json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["conforms"] is False
    assert found["mistakes"] == ["off by a constant factor 0.5"]
    assert found["mistakes_by_framework"] == {"numpy": found["mistakes"]}


def test_json_of_a_nan_is_json(theirs, capsys):
    theirs.write_text("import numpy as np\ndef squash(x):\n    return x * np.nan\n")
    assert conformance.main(module=f"{theirs}:squash", json=True) == 1
    text = capsys.readouterr().out
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["mistakes"] == ["NaN at a zero capsule"]
    assert {row["difference"] for row in found["rows"]} == {None}


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("squash", "expected path.to.module:function or file.py:function"),
        ("no.such.module:squash", "there is no module no here (ModuleNotFoundError"),
        ("no_such_file.py:squash", "could not be loaded (FileNotFoundError"),
        ("FILE:nothing", "there is no nothing (AttributeError"),
        ("FILE:number", "is of type int; expected a function"),
    ],
)
def test_what_cannot_be_loaded(theirs, module, said):
    with pytest.raises(TwincapsError) as caught:
        load(module.replace("FILE", str(theirs)))
    assert said in str(caught.value)


def test_a_module_that_exits_or_breaks_is_a_mistake_of_the_user(theirs):
    for line, said in {"raise SystemExit(2)": "SystemExit", "1 / 0": "ZeroDivisionError"}.items():
        theirs.write_text(line)
        with pytest.raises(ConformanceError, match=said):
            load(f"{theirs}:squash")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("squash", "squash"),
        ("Their.squash_v2", "squash"),
        ("dynamic", "routing"),
        ("DynamicRouting", "routing"),
        ("route", "routing"),
        ("margin", "margin_loss"),
        ("caps_loss", "margin_loss"),
    ],
)
def test_the_kind_is_guessed_from_the_name(name, kind):
    assert guess(name) == kind


def test_a_name_that_tells_nothing():
    with pytest.raises(ConformanceError, match="add --kind, one of squash, routing, margin_loss"):
        guess("forward")


def test_what_the_module_and_the_function_print_is_not_what_was_found(theirs, capsys):
    text = theirs.read_text().replace("    norm =", "    print('in squash')\n    norm =")
    theirs.write_text(f"print('at import')\n{text}")
    assert conformance.main(module=f"{theirs}:squash", json=True) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["conforms"] is True
    assert said.err.startswith("at import\nin squash\n")


LOADED = {
    "a command line with defaults": (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr')\np.parse_args()",
        None,
    ),
    "a command line": (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()",
        "it ends the process when it is imported (SystemExit: 2)",
    ),
    "an exit": ("import sys\nsys.exit('no GPU')", "(SystemExit: no GPU)"),
    "a package that is not here": (
        "import no_such_package.inner",
        "it imports no_such_package, which is not here",
    ),
    "a relative import": ("from . import other", "of a package's module expected path.to.module"),
    "a syntax error": ("def squash(x:", "SyntaxError: '(' was never closed"),
    "a long message": (
        "raise OSError('Banner:\\n' + 'cause\\n' * 3 + 'x' * 300 + '\\nlast\\nSee https://x')",
        "(OSError: cause)",
    ),
    "a class": ("class squash:\n    def __call__(self, x):\n        return 0 * x", None),
    "a class with arguments": (
        "class squash:\n    def __init__(self, d): ...\n    def __call__(self, x): ...",
        "no instance can be made without arguments (TypeError",
    ),
    "another name": ("def other(x): ...", "there is no squash"),
}


@pytest.mark.parametrize("name", LOADED)
def test_what_a_module_may_do_when_it_is_run(theirs, name):
    source, said = LOADED[name]
    theirs.write_text(
        source if said else f"{source}\n\nif 'squash' not in vars():\n    squash = abs"
    )
    if said is None:
        assert callable(load(f"{theirs}:squash"))
        return
    with pytest.raises(ConformanceError) as caught:
        load(f"{theirs}:squash")
    assert said in str(caught.value)


def test_a_relative_path_with_brackets(theirs, tmp_path, monkeypatch, capsys):
    theirs.rename(tmp_path / "file[1].py")
    monkeypatch.chdir(tmp_path)
    assert conformance.main(module="file[1].py:squash") == 0
    assert capsys.readouterr().out.startswith("file[1].py:squash: squash in numpy, called as f(x)")


def test_the_command_line_asks_how_to_call_what_it_cannot(tmp_path):
    (tmp_path / "mine.py").write_text("def squash(x):\n    raise OSError('[bold]a[/bold]: b')\n")
    # -P leaves the working folder out of the places of imports, as the console script does.
    command = ["-P", "-m", "parity", "conformance", "--module", "mine:squash"]
    done = wings.python(*command, "--json", "--call", "f(x=x)", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "f(x=x) in numpy" in done.stderr
    assert "OSError: [bold]a[/bold]: b" in done.stderr
    assert "Say how it is called by --call" in done.stderr
