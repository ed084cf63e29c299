"""The benchmarks: that they run, what they compute, count and write; never how long it takes."""

import dataclasses
import importlib
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import wings
from specs import PRIMES
from wings import ROOT

from benchmarks import __main__ as program
from benchmarks import flops, machine, memory, report, scale, startup
from benchmarks.rounds import Bench, Case, Spread, Timing, interleave, ratio, seconds
from benchmarks.workers import WorkerError, pool
from parity import reference
from parity.spec import preset, to_dict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::parity.data.DataWarning"),  # of very few images
]

TINY = scale.Scale(
    name="tiny",
    preset="small",
    spec=PRIMES,
    batch=3,
    batches=(2, 3),
    iterations=(1, 2, 3),
    inputs=(5, 7),
    memory_inputs=(5, 7),
    memory_iterations=(2, 5),
    product=5,
    copy=1,
    images=7,
    steps=2,
    rounds=2,
    least=0.0,
)
SPEC = to_dict(PRIMES)
OPTIONS = {
    "digit": {"variant": "plain", "inputs": 7, "num_iters": 3, "backward": True},
    "digit forward": {"variant": "plain", "inputs": 7, "num_iters": 3, "backward": False},
    "digit_step": {"variant": "plain", "inputs": 7, "num_iters": 2},
    "conv": {"precision": "float32", "backward": True},
    "conv bfloat16": {"precision": "bfloat16", "backward": True},
    "conv forward": {"precision": "bfloat16", "backward": False},
    "convolutions": {"images": 7},
    "step": {"precision": "float32"},
    "evaluate": {"images": 7},
    "loop": {"steps": 2},
}


def cases_of(name):
    """The module of a wing's cases."""
    return importlib.import_module(f"benchmarks.{name}_cases")


def random_layer(rng, dtype=np.float64):
    """inputs_BIK, kernel_IJKD and a gradient of poses_BJD, all sizes different primes."""
    shapes = (2, 7, 3), (7, 5, 3, 11), (2, 5, 11)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


# What is measured is right.


@pytest.mark.parametrize("num_iters", [1, 2, 3, 5])
def test_the_textbook_layer_agrees_with_the_oracle(num_iters):
    if "torch" not in wings.NAMES:
        pytest.skip("the textbook layer is torch's")
    textbook = importlib.import_module("benchmarks.textbook")
    rng = np.random.default_rng(num_iters)
    inputs, kernel, gradient = random_layer(rng)

    def exact(inputs, kernel):
        return reference.routing.dynamic(reference.votes(inputs, kernel), num_iters=num_iters)[0]

    def layer(inputs, kernel):
        return textbook.dynamic(inputs, kernel, num_iters=num_iters)

    torch_wing = wings.load("torch")
    poses, slopes = wings.gradients(torch_wing, layer, [inputs, kernel], gradient)
    assert wings.difference(poses, exact(inputs, kernel)) < 1e-13
    towards = [rng.standard_normal(x.shape) for x in (inputs, kernel)]
    steps = [
        reference.derivative(lambda x: exact(x, kernel), inputs, towards[0]),
        reference.derivative(lambda x: exact(inputs, x), kernel, towards[1]),
    ]
    for slope, toward, step in zip(slopes, towards, steps, strict=True):
        assert (slope * toward).sum() == pytest.approx((step * gradient).sum(), rel=1e-11)


@pytest.mark.parametrize("name", wings.NAMES)
@pytest.mark.parametrize("variant", ["textbook", "plain", "lean"])
def test_every_layer_that_is_compared_computes_the_same(name, variant):
    if (name, variant) == ("jax", "textbook"):
        pytest.skip("the textbook layer is torch's")
    wing = wings.load(name)
    inputs, kernel, _ = random_layer(np.random.default_rng(0), np.float32)
    layer = cases_of(name).layer(variant)
    found = layer(wings.array(wing, inputs), wings.array(wing, kernel), num_iters=3)
    exact, _ = reference.routing.dynamic(reference.votes(inputs, kernel), num_iters=3)
    assert wings.difference(wings.numpy(found), exact) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", wings.NAMES)
@pytest.mark.parametrize("case", OPTIONS)
def test_every_case_can_be_built_and_run_again(name, case):
    build = getattr(cases_of(name), case.split()[0])
    run = build(spec=SPEC, batch=3, **OPTIONS[case])
    told = [run(), run()]
    assert all((each is None) == (case != "loop") for each in told)
    if case == "loop":
        assert all(each.keys() == {"waiting", "step"} for each in told)
        assert all(0 <= each["waiting"] <= 1 for each in told)


@pytest.mark.parametrize("name", wings.NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_machine_can_be_measured(name, dtype):
    assert cases_of(name).product(size=5, dtype=dtype)() is None


# What is counted.


def test_products_are_counted_from_the_spec():
    counts = flops.forward(PRIMES, 2)
    # 13x11x3 -> 3x3 kernels -> 11x9x5 -> 4x4 kernels, stride 2 -> 4x3 places of 2 types of 7
    assert counts["stem.0"] == 2 * 2 * 11 * 9 * 5 * 3 * 9
    assert counts["primary"] == 2 * 2 * 4 * 3 * 14 * 5 * 16
    # votes; then three weighted sums and two agreements
    assert counts["digit"] == 2 * 2 * 24 * 3 * 5 * (7 + 3 + 2)
    assert counts["decoder"] == 2 * 2 * (15 * 17 + 17 * 19 + 19 * 13 * 11 * 3)
    both = flops.step(PRIMES, 2)
    assert both["stem.0"] == 2 * counts["stem.0"]
    assert all(both[name] == 3 * counts[name] for name in ("primary", "digit", "decoder"))


def test_the_paper_s_primary_convolution_needs_147_billion_operations():
    assert flops.step(preset("sabour2017"), 128)["primary"] == pytest.approx(147e9, rel=2e-3)


def test_the_cases_take_turns():
    order, timings = [], {name: Timing() for name in "ABC"}

    def run(name):
        return lambda: order.append(name) or {"seconds": len(order), "share": 0.5}

    interleave({name: run(name) for name in "ABC"}, timings, 3)
    assert "".join(order) == "ABCABCABC"
    assert timings["B"].samples == [2, 5, 8]
    assert timings["C"].more == {"share": [0.5, 0.5, 0.5]}


def test_ratios_are_taken_round_by_round():
    slow, fast = Timing([6.0, 60.0, 8.0]), Timing([2.0, 12.0, 4.0])
    assert ratio(slow, fast) == Spread(3.0, 2.0, 5.0)
    assert seconds(slow) == Spread(8.0, 6.0, 60.0)
    assert ratio(slow, Timing(missing="does not fit")) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (0.012345, "0.0123"), (0.5, "0.500"), (1.2345, "1.23"), (98.76, "98.8"),
        (123.4, "123"), (12345.0, "12,300"), (0.00012345, "0.00012"),
    ],
)  # fmt: skip
def test_numbers_have_three_figures(value, shown):
    assert report.number(value) == shown


# Where it is measured.


@pytest.fixture(scope="module")
def workers():
    with pool() as found:
        yield found


@pytest.mark.parametrize("name", wings.NAMES)
def test_a_worker_builds_runs_and_survives_a_fault(workers, name):
    sizes = {"size": 5, "dtype": "float32"}
    assert "ValueError" in _failed(workers[name], variant="plain", spec=SPEC | {"pose": 0})
    assert "TypeError" in _failed(workers[name], nonsense=1)
    built = workers[name].ask("build", kind="product", options=sizes, least=0.001)["ok"]
    assert built["first"] > 0
    assert workers[name].ask("run", number=built["number"])["ok"].keys() == {"seconds"}
    assert workers[name].ask("clear") == {"ok": None}
    assert "failed" in workers[name].ask("run", number=built["number"])


def _failed(worker, **options):
    sizes = {"batch": 3, "inputs": 7, "num_iters": 3, "backward": True}
    answer = worker.ask("build", kind="digit", options=sizes | options, least=0.0)
    return answer["failed"].replace("SpecError", "ValueError")


@pytest.mark.parametrize("name", wings.NAMES)
def test_a_worker_that_dies_is_told_from_one_that_fails(name):
    with pool() as found:
        found[name].process.kill()
        with pytest.raises(WorkerError, match=f"the {name} worker ended with code -9"):
            found[name].ask("clear")


@pytest.mark.parametrize("name", wings.NAMES)
def test_a_fault_of_one_case_leaves_the_others(workers, name):
    told = []
    bench = Bench(workers, TINY, 2, told.append)
    good = Case(name, "product", {"size": 5, "dtype": "float32"})
    times = bench.measure({"good": good, "bad": Case(name, "product", {"size": "five"})})
    assert len(times["good"].samples) == 2
    assert times["bad"].failed
    assert times["bad"].missing.startswith("TypeError")
    assert program.failures(json.loads(json.dumps(times, default=dataclasses.asdict))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", wings.NAMES)
def test_memory_counts_at_least_what_must_be_held(workers, name):
    size = dataclasses.replace(TINY, spec=preset("sabour2017"), batch=2)
    told = memory.peak(Bench(workers, size, 1), name, "plain", 4001, 2, "digit")
    kernel, inputs = 4 * 4001 * 10 * 8 * 16, 4 * 2 * 4001 * 8
    assert told["growth"] > 2 * (kernel + inputs)  # the arrays and their gradients
    assert told["beyond"] > kernel + inputs
    assert told["growth"] - told["beyond"] > 0.9 * (kernel + inputs)
    assert (told["temporaries"] is None) == (name == "torch")


def test_the_parent_loads_no_framework():
    code = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "jax", "jaxlib", "flax", "optax"}:
            raise AssertionError(f"imports {name}")
sys.meta_path.insert(0, Wall())
from benchmarks import __main__ as program, plot
for section in program.SECTIONS:
    program.module(section)
program.main(["--help"])
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--rounds" in run.stdout


def test_the_description_does_not_name_the_machine():
    wanted = {"processor", "vectors", "cores", "memory_gib", "system", "versions", "commit"}
    assert machine.describe().keys() == wanted


def test_the_first_line_of_a_file_is_waited_for(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writes = f"open({str(path)!r}, 'w').write('a line')"
    for code, fails in ((writes, False), ("pass", True)):
        path.unlink(missing_ok=True)
        with subprocess.Popen([sys.executable, "-c", f"{code}; input()"], stdin=-1) as process:
            if fails:
                process.communicate(b"\n")
                with pytest.raises(RuntimeError, match="wrote no step, code 0"):
                    startup._until_written(path, process)
            else:
                assert startup._until_written(path, process) > 0
                process.communicate(b"\n")


# What is written.


class Pretend:
    """A worker, and the pool of it, that answers at once."""

    def __init__(self, faulty=""):
        self.pids, self.faulty, self.asked = [], faulty, 0

    def __getitem__(self, wing):
        return self

    def ask(self, do, **arguments):
        if do == "build" and arguments["kind"] == self.faulty:
            return {"failed": "ValueError: a fault"}
        self.asked += 1
        return {"ok": {"number": 0, "first": 2.5} if do == "build" else self._told()}

    def close(self):
        pass

    def _told(self):
        return {"seconds": 1.0 + self.asked % 7, "waiting": 0.25, "step": 0.5}


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    """A function that runs the program on workers that only pretend: its exit code."""
    marks = [
        mark.format(name=name) for name in program.SECTIONS for mark in (report.BEGIN, report.END)
    ]
    (tmp_path / "speed.md").write_text("\n".join(["before", *marks, "after"]))
    monkeypatch.setattr(scale, "QUICK", TINY)
    monkeypatch.setattr(startup, "whole", lambda arguments: {"seconds": 0.25})
    monkeypatch.setattr(startup, "first_step", lambda *arguments: {"seconds": 4.5})
    told = {"growth": 3 * 2**20, "beyond": 2**20, "temporaries": 2**21}
    monkeypatch.setattr(memory, "peak", lambda *arguments: told)

    def run(*argv, faulty=""):
        monkeypatch.setattr("benchmarks.workers.Pool", lambda: Pretend(faulty))
        paths = [f"--json={tmp_path}/speed.json", f"--markdown={tmp_path}/speed.md"]
        return program.main(["--quick", *paths, f"--plot={tmp_path}/speed.png", *argv])

    return run


def test_every_section_is_measured_printed_and_kept(pretend, tmp_path, capsys):
    assert pretend() == 0
    out, kept = capsys.readouterr().out, json.loads((tmp_path / "speed.json").read_text())
    assert list(kept["sections"]) == list(program.SECTIONS)
    for words in ("JAX / torch, float32", "textbook", "24 input capsules", "of the limit"):
        assert words in out
    for section in kept["sections"].values():
        assert (section["scale"], section["rounds"]) == ("tiny", 2)
    steps = kept["sections"]["step"]["record"]["groups"][0]["timings"]
    assert len(steps["torch float32"]["samples"]) == 2
    digit = kept["sections"]["digit"]["record"]["groups"]
    assert len(digit) == 2 * 2 * 3
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    written = (tmp_path / "speed.md").read_text()
    assert written.startswith("before\n<!-- measured: step -->\n20")
    assert "| input capsules |" in written
    assert written.endswith("after")


def test_a_section_alone_leaves_the_others_as_they_were(pretend, tmp_path):
    path = tmp_path / "speed.json"
    assert pretend("--only", "step") == 0
    before = json.loads(path.read_text())["sections"]
    assert pretend("--only", "inference", "--rounds", "5") == 0
    after = json.loads(path.read_text())["sections"]
    assert after["step"] == before["step"]
    assert after["inference"]["rounds"] == 5
    once = (tmp_path / "speed.md").read_text()
    assert pretend("--only", "inference", "--rounds", "3") == 0
    assert len((tmp_path / "speed.md").read_text().splitlines()) == len(once.splitlines())


def test_a_fault_is_shown_and_is_the_exit_code(pretend, capsys):
    assert pretend("--only", "inference", faulty="convolutions") == 1
    said = capsys.readouterr()
    assert "torch convolutions  failed" in said.out
    assert "2 cases failed" in said.err


def test_rounds_below_one_are_refused(pretend, capsys):
    with pytest.raises(SystemExit, match="2"):
        pretend("--rounds", "0")
    assert "--rounds is 0; expected at least 1" in capsys.readouterr().err


def test_the_documentation_has_a_place_for_every_section():
    text = (ROOT / "docs/speed.md").read_text()
    for name in program.SECTIONS:
        assert text.count(report.BEGIN.format(name=name)) == 1
        assert text.count(report.END.format(name=name)) == 1


def test_a_file_without_the_place_is_refused(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("nothing\n")
    with pytest.raises(SystemExit, match="no single pair"):
        report.replace(path, "step", "a table")
    assert path.read_text() == "nothing\n"
