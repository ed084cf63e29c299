"""The verb conformance: loading a function, the verdict printed and in JSON, the exit code."""

import json
import sys
import textwrap

import pytest

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
