"""Each wing in a process of its own, and the verbs check, trace and compare."""

import json
import subprocess
import sys

import pytest
from specs import PRIMES
from wings import ROOT

from parity import compare
from parity.__main__ import main
from parity.compare import subject, wings
from parity.runs import Run
from parity.spec import TrainingSpec, TwincapsError
from parity.traces import recording

PATCH = """
import torch_caps.layers.primary as layers
right = layers.squash
def double():
    layers.squash = lambda x, axis=-1: 2 * right(x, axis)
"""


def small(**changes):
    return subject.of(PRIMES, source="primes", batch=2, **changes)


def ladder(**options):
    return compare.ladder(small(), rungs=(2,), precisions=("float64",), gpu=None, **options)


@pytest.fixture
def run(tmp_path):
    """A run folder with one checkpoint of random weights."""
    state = small().midway("adam", "float32")
    with Run.create(tmp_path / "run", PRIMES, TrainingSpec(learning_rate=0.003)) as made:
        made.save(state, epoch=0, cursor=5)
    return tmp_path / "run"


@pytest.mark.slow
def test_wings_in_two_processes_compare_and_a_patch_breaks_one(both_wings, tmp_path, monkeypatch):
    (tmp_path / "breaks.py").write_text(PATCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    report = ladder()
    assert report.holds
    assert report.environment["jax float64 cpu"]["x64"] is True
    broken = ladder(patches={"torch": "breaks:double"}).rows
    assert [row.verdict for row in broken] == ["differs", "differs", "holds"]
    assert broken[0].first == "primary.poses"
    assert "torch leaves the oracle" in broken[0].why


def interpreter(path, line):
    """A program that stands for a Python: it does `line` instead of what it is told to."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_framework_that_is_missing_is_named_with_the_remedy(both_wings, tmp_path, name):
    command = wings.COMMAND.format(root=str(ROOT))
    hidden = f"import sys; sys.modules['{name}'] = None\n{command}"
    python = interpreter(tmp_path / "python", f'exec {sys.executable} -c "{hidden}"')
    with pytest.raises(TwincapsError) as caught:
        ladder(pythons={name: python})
    for part in (f"{name} is not installed", f"twincaps[{name}]", f"--{name}-python"):
        assert part in str(caught.value)


def test_another_interpreter_keeps_its_own_packages(tmp_path, monkeypatch):
    """Where ours lie in a site-packages folder beside others, and PYTHONPATH names more."""
    for folder, poisoned in (("site-packages", "numpy"), ("path", "safetensors")):
        (tmp_path / folder / poisoned).mkdir(parents=True)
        init = tmp_path / folder / poisoned / "__init__.py"
        init.write_text(f"raise RuntimeError('{poisoned} of the wrong interpreter')")
    for ours in ("parity", "torch_caps", "jax_caps"):
        (tmp_path / "site-packages" / ours).symlink_to(ROOT / ours)
    monkeypatch.setattr(wings, "ROOT", tmp_path / "site-packages")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    where = tmp_path / "where"
    line = f'pwd > {where}; env | grep PYTHONPATH >> {where}; cd /; exec {sys.executable} "$@"'
    python = interpreter(tmp_path / "python", line)
    with wings.pair(small(), "float32", tmp_path, only="torch", pythons={"torch": python}) as pair:
        report = pair.ask("report")["torch"].facts["report"]
    assert report["framework"] == "torch"
    assert "PYTHONPATH" not in where.read_text()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("echo out of memory >&2; exit 3", "ended with exit code 3: out of memory"),
        ("exit 4", "ended with exit code 4: it said nothing"),
    ],
)
def test_a_process_that_dies_says_why(tmp_path, line, says):
    python = interpreter(tmp_path / "python", line)
    with pytest.raises(TwincapsError, match=says):
        wings.pair(small(), "float32", tmp_path, only="torch", pythons={"torch": python})
    with pytest.raises(TwincapsError, match="there is no interpreter"):
        wings.pair(small(), "float32", tmp_path, only="torch", pythons={"torch": "/no/python"})


@pytest.mark.slow
def test_a_patch_that_is_not_there_is_refused(both_wings, tmp_path):
    with pytest.raises(TwincapsError, match="no_such_module"):
        wings.pair(
            small(), "float32", tmp_path, only="torch", patches={"torch": "no_such_module:f"}
        )


def test_the_check_needs_no_more_than_a_gpu_machine_has():
    """Neither tyro nor tensorboardX nor matplotlib."""
    code = """
import sys
for name in ("tyro", "tensorboardX", "matplotlib", "h5py"):
    sys.modules[name] = None
import parity.compare.worker, parity.compare._ladder, parity.compare.show, parity.convert
assert not {"torch", "jax", "torch_caps", "jax_caps"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_traces_of_a_run_are_written_compared_and_refused(both_wings, run, tmp_path, capsys):
    files = [tmp_path / f"{name}.safetensors" for name in ("torch", "jax", "other")]
    asked = ["--batch", "2", "--precision", "float64"]
    for name, file in zip(("torch", "jax"), files, strict=False):
        assert main(["trace", str(file), str(run), "--backend", name, *asked]) == 0
    one = recording.load(files[0])
    assert one.request["source"] == "run run at step 5"
    assert one.request["batch"] == 2
    assert one.report["framework"] == "torch"
    assert {str(array.dtype) for array in one.values.values()} == {"float64"}
    assert main(["compare", str(files[0]), str(files[1])]) == 0
    assert "float64, run run at step 5" in capsys.readouterr().out
    # Another batch is another request.
    assert main(["trace", str(files[2]), str(run), "--batch", "3"]) == 0
    assert main(["compare", str(files[0]), str(files[2])]) == 2
    error = capsys.readouterr().err
    assert "batch: 2 and 3" in error
    assert "precision: float64 and float32" in error
    before = files[0].read_bytes()
    assert main(["trace", str(files[0]), str(run)]) == 2
    assert files[0].read_bytes() == before
    # A difference is named.
    made = recording.load(files[1])
    made.values["routing.1.logits"][0, 0, 0] += 1
    made.save(files[1])
    assert main(["compare", str(files[0]), str(files[1])]) == 1
    said = capsys.readouterr().out
    assert "first difference: routing.1.logits" in said
    assert "jax leaves the oracle" in said
    assert main(["compare", str(files[0]), str(files[1]), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["agree"], found["first"]) == (False, "routing.1.logits")
    assert "jax leaves the oracle" in found["verdict"]
    assert [row["tensor"] for row in found["rows"] if not row["holds"]] == ["routing.1.logits"]


@pytest.mark.slow
def test_check_of_a_run_prints_what_it_found(both_wings, run, capsys):
    asked = ["--rungs", "0,2", "--precision", "float32", "--batch", "2"]
    assert main(["check", str(run), *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == "run run at step 5"
    assert [row["rung"] for row in found["rows"]] == [0, 0, 2]
    assert main(["check", str(run), *asked]) == 0
    assert "every rung holds" in capsys.readouterr().out


def newer(run):
    for name in ("spec.json", "training.json"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace('"schema": 1', '"schema": 2'))


def altered(run):
    file = run / "checkpoints" / "step-00000005" / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def empty(run):
    for part in (run / "checkpoints" / "step-00000005").iterdir():
        part.unlink()
    (run / "checkpoints" / "step-00000005").rmdir()


@pytest.mark.parametrize("verb", ["check", "trace"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [(newer, "schema version 2"), (altered, "altered"), (empty, "no checkpoint")],
    ids=["newer", "altered", "empty"],
)
def test_a_spoilt_run_is_refused_and_nothing_written(run, tmp_path, capsys, verb, spoil, says):
    spoil(run)
    out = tmp_path / "out"
    order = [str(run)] if verb == "check" else [str(out), str(run)]
    assert main([verb, *order]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["check", "--preset", "nosuch"], "preset 'nosuch' is unknown"),
        (["check", "RUN", "--preset", "small"], "expected one of them"),
        (["check", "--rungs", "1,x"], "expected numbers"),
        (["check", "--rungs", "12"], "rungs \\[12\\] are unknown"),
        (["check", "--batch", "0"], "batch is 0"),
        (["check", "/no/run"], "no such run or file"),
        (["trace", "/no/folder/file", "--preset", "small"], "name a new file"),
        (["compare", "/no/a", "/no/b"], "no such file"),
    ],
)
def test_a_wrong_request_ends_with_code_2(asked, says, capsys):
    assert main(asked) == 2
    assert __import__("re").search(says, capsys.readouterr().err)
