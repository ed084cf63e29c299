"""The benchmarks: that they run, take turns and write their page; never how long a thing takes."""

import importlib
import math
import re
import subprocess
import sys

import pytest
import wings
from wings import ROOT

from benchmarks import __main__ as program
from benchmarks import machine, peers, report, turns, worker
from benchmarks.sections import QUICK, SECTIONS
from benchmarks.turns import Case

PEER = """
import torch
class CapsNet(torch.nn.Module):
    def __init__(self, iterations):
        super().__init__()
        self.layer = torch.nn.Linear(784, 160)
    def forward(self, x):
        return self.layer(x.flatten(1)).view(-1, 10, 16).tanh()
class ReconstructionNet(torch.nn.Module):
    def forward(self, poses, labels):
        return poses.sum((1, 2))[:, None].expand(-1, 784)
class CapsNetWithReconstruction(torch.nn.Module):
    def __init__(self, net, decoder):
        super().__init__()
        self.net, self.decoder = net, decoder
    def forward(self, x, labels):
        poses = self.net(x)
        return self.decoder(poses, labels), poses.norm(dim=2)
class MarginLoss:
    def __init__(self, *_): pass
    def __call__(self, lengths, labels): return lengths.gather(1, labels[:, None]).neg().mean()
"""


def test_the_cases_take_turns_and_a_fault_of_one_leaves_the_others():
    class Pretend:
        def __init__(self):
            self.order = []

        def ask(self, who, request):
            if "kind" in request:
                return {"failed": "why"} if who == "C" else {"number": 0}
            self.order.append(who)
            return {"seconds": float(len(self.order))}

    pretend = Pretend()
    found = turns.times(pretend, {name: Case(name, "step") for name in "ACB"}, 3)
    assert "".join(pretend.order) == "ABABAB"
    assert found == {"A": [1, 3, 5], "B": [2, 4, 6], "C": "why"}
    assert turns.ratios(found["B"], found["A"]) == [2, 4 / 3, 6 / 5]
    assert turns.spread([6.0, 60.0, 8.0]) == (8, 6, 60)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (0.012345, "0.0123"), (0.5, "0.500"), (1.2345, "1.23"), (98.76, "98.8"),
        (123.4, "123"), (12345.0, "12,300"), (0.00012345, "0.00012"),
    ],
)  # fmt: skip
def test_numbers_have_three_figures(value, shown):
    assert report.number(value) == shown


@pytest.mark.slow
@pytest.mark.parametrize("name", wings.NAMES)
def test_every_case_of_the_small_network_runs(name):
    """The others are steps of larger networks, by the same function."""
    groups = [group for section in SECTIONS.values() for group in section(QUICK, {})]
    for case in [case for group in groups for case in group.cases.values()]:
        if (case.who, case.options["name"]) == (name, QUICK.preset):
            worker.build(name, **case.ask)()


@pytest.mark.slow
@pytest.mark.parametrize("name", wings.NAMES)
def test_the_digit_layer_is_run_forward_and_backward(name):
    """Lean and plain: the gradients that the call computes are the same."""
    runs = [worker.build(name, "digit", name="small", batch=2, lean=each) for each in (True, False)]
    found = [run() if name == "torch" else run()[1] for run in runs]
    for ours, plain in zip(*found, strict=True):
        assert wings.difference(wings.numpy(ours), wings.numpy(plain)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", wings.NAMES)
def test_a_worker_serves_survives_a_fault_and_may_die(name):
    case = Case(name, "digit", {"name": "small", "batch": 2})
    with turns.Workers() as workers:
        assert "TypeError" in workers.ask(name, {"kind": "digit", "nonsense": 1})["failed"]
        assert workers.ask(name, case.ask) == {"number": 0}
        assert workers.ask(name, {"run": 0})["seconds"] > 0
        workers.of[name].process.kill()
        assert workers.ask(name, {"run": 0}) == {"failed": "ended: -9"}


@pytest.mark.slow
@pytest.mark.parametrize("name", wings.NAMES)
def test_memory_counts_at_least_what_must_be_held(name):
    case = Case(name, "digit", {"name": "sabour2017", "batch": 2})
    inputs, kernel = 4 * 2 * 1152 * 8, 4 * 1152 * 10 * 8 * 16
    assert turns.growths({"layer": case})["layer"][0] * 2**20 > 2 * (kernel + inputs)


@pytest.mark.slow
def test_a_start_is_timed_to_its_end_or_its_first_metrics():
    writes = "import os; os.mkdir(r'{folder}/run'); open(r'{folder}/run/metrics.jsonl', 'w')"
    commands = {"ends": ["-c", "pass"], "steps": ["-c", f"{writes}.write('a line'); input()"]}
    found = turns.starts(commands, 1)
    assert all(0 < seconds < turns.PATIENCE for (seconds,) in found.values())


@pytest.mark.skipif("torch" not in wings.NAMES, reason="the peers are torch's")
def test_a_peer_is_read_from_its_folder(tmp_path, monkeypatch):
    (tmp_path / "adambielski").mkdir()
    (tmp_path / "adambielski" / "net.py").write_text(PEER)
    there, missing = peers.split(tmp_path)
    assert list(there) == ["adambielski"]
    files = {name: tmp_path / name / file for name, (file, _) in peers.PEERS.items()}
    assert missing == [str(path) for name, path in files.items() if name != "adambielski"]
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("net", "torchvision", "torchvision.transforms", "torchvision.datasets"):
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name))  # as it was, at the end
        del sys.modules[name]
    folder = there["adambielski"]
    run = worker.build("adambielski", "step", folder=folder, name="small", batch=3)
    assert run() > run()  # its Adam trains it
    sizes = {"name": "small", "batch": 3, "images": 7}
    loss, right = worker.build("adambielski", "evaluate", folder=folder, **sizes)()
    assert math.isfinite(loss)
    assert 0 <= right <= 7


@pytest.mark.slow
def test_the_parent_loads_no_framework():
    code = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "jax", "jaxlib", "flax", "optax"}:
            raise AssertionError(f"imports {name}")
sys.meta_path.insert(0, Wall())
from benchmarks import __main__ as program
program.main(["--help"])
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--rounds" in run.stdout


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    """A function that runs the program on measurements that only pretend: its exit code."""

    def run(*argv, others=0.1, failed=()):
        def measured(group, workers, rounds):
            names = group.cases or group.commands
            return {name: "why" if name in failed else [1.0, 2.0, 4.0] for name in names}

        monkeypatch.setattr(program, "measure", measured)
        monkeypatch.setattr(machine.Watch, "others", others)
        return program.main(["--quick", "--out", str(tmp_path / "speed.md"), *argv])

    return run


def sections(path):
    return re.findall(r"<!-- (\w+) -->\n## (\w+)", path.read_text())


@pytest.mark.slow
def test_every_section_is_printed_and_written(pretend, tmp_path, capsys):
    path = tmp_path / "speed.md"
    assert pretend() == 0
    out = capsys.readouterr().out
    assert sections(path) == [(name, name.capitalize()) for name in SECTIONS]
    for words in ("2,000 (1,000-4,000)", "1.00 (1.00-1.00)", "first step, torch", "images/s"):
        assert words in out
        assert words in path.read_text()
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "(speed.png)" in path.read_text()
    groups = SECTIONS["networks"](QUICK, {})
    measured = {case.options["name"] for group in groups for case in group.cases.values()}
    presets = importlib.import_module("parity.spec").PRESETS
    kinds = {card.network.network for card in presets.values()}
    assert kinds == {presets[name].network.network for name in measured}
    assert measured >= {name for _, of in peers.PEERS.values() for name in of}


@pytest.mark.slow
def test_a_section_alone_leaves_the_others_and_a_loud_one_what_was_there(pretend, tmp_path, capsys):
    path = tmp_path / "speed.md"
    assert pretend() == 0
    before = path.read_text()
    assert pretend("--only", "digit", others=0.26) == 0
    assert "not reported: other work took 26% of the cores" in capsys.readouterr().out
    assert path.read_text() == before
    assert pretend("--only", "digit", failed=("JAX",)) == 1
    said = capsys.readouterr()
    assert "JAX failed: why" in said.err
    assert re.search("JAX +failed", said.out)
    assert path.read_text() != before
    assert sections(path) == [(name, name.capitalize()) for name in SECTIONS]


@pytest.mark.slow
def test_a_folder_without_the_peers_is_named_and_the_rest_runs(pretend, tmp_path, capsys):
    assert pretend("--peers", str(tmp_path / "nowhere"), "--only", "step") == 0
    out = capsys.readouterr().out
    for name, (file, _) in peers.PEERS.items():
        assert f"{tmp_path / 'nowhere' / name / file} is not there" in out


def test_rounds_below_one_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        program.flags(["--rounds", "0"])
    assert "--rounds is 0; expected at least 1" in capsys.readouterr().err
