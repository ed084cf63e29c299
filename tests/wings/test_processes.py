"""Several processes train the run that one would, started as their users start them.

By torchrun, by SLURM's variables and by plain processes with torchrun's; stopped, killed, started
anew, with other numbers of them and in the other framework.
"""

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import together
import wings
from wings import ROOT, difference

from parity.runs import Run
from parity.wing import processes
from parity.wing.processes import Place, ProcessError

RUN = ["train", "--preset", "tiny-shared", "--dataset", "tiny-stripes"]
LIMIT = 240  # seconds


def torchrun(rank: int, count: int) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}


def slurm(rank: int, count: int) -> dict[str, str]:
    names = {"PROCID": rank, "NTASKS": count, "LOCALID": rank, "STEP_NODELIST": "localhost"}
    return {f"SLURM_{name}": str(value) for name, value in names.items()}


def environment(**more: str) -> dict[str, str]:
    """Of this process, for ones that start fast: one thread, no figures, and code that XLA has
    not spent its time on.
    """
    ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DOOR_FIGURES": "none"}
    ours["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}"
    return {**os.environ, **ours, **more}


def free_port() -> str:
    with contextlib.closing(socket.socket()) as found:
        found.bind(("localhost", 0))
        return str(found.getsockname()[1])


@dataclass
class Ended:
    """What a process said, and its exit code."""

    code: int
    out: str
    err: str


def script(name: str, *argv: object) -> list[str]:
    return [sys.executable, str(ROOT / "tests" / name), *map(str, argv)]


def launch(launcher, count: int, command: list[str], **more: str) -> list[Ended]:
    """Start so many processes by the variables of a launcher, and wait for all."""
    port = free_port()
    started = [
        subprocess.Popen(
            command,
            env=environment(
                MASTER_ADDR="localhost", MASTER_PORT=port, **launcher(n, count), **more
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(count)
    ]
    try:
        said = [each.communicate(timeout=LIMIT) for each in started]
    finally:
        for each in started:
            each.kill()
    return [Ended(p.returncode, *texts) for p, texts in zip(started, said, strict=True)]


def lines(run: Path) -> list[dict]:
    with Run.open(run, read_only=True) as opened:
        return [{k: v for k, v in x.items() if k != "images_per_second"} for x in opened.metrics()]


def apart(one: Path, other: Path) -> float:
    """The largest difference of two runs: metrics, last weights and last optimiser's slots."""
    with Run.open(one, read_only=True) as first, Run.open(other, read_only=True) as second:
        ends = first.newest(), second.newest()
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].state.step == ends[1].state.step
    found = []
    for ours, theirs in zip(lines(one), lines(other), strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["event"] == theirs["event"]
        found += [abs(ours["accuracy"] - theirs["accuracy"])]
        found += [difference(float(ours[k]), float(theirs[k])) for k in ours if k != "event"]
    for ours, theirs in (
        (ends[0].weights, ends[1].weights),
        (ends[0].optimizer, ends[1].optimizer),
    ):
        found += [difference(ours[name], theirs[name]) for name in ours]
    return max(found)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs of one process, by backend and precision."""
    made: dict[tuple[str, str], Path] = {}

    def run(backend: str, precision: str) -> Path:
        if (backend, precision) not in made:
            path = tmp_path_factory.mktemp("whole") / "run"
            how = ("--backend", backend, "--precision", precision, "--out", path)
            subprocess.run(script("door.py", *RUN, *how), env=environment(), check=True)
            made[backend, precision] = path
        return made[backend, precision]

    return run


@pytest.mark.float64
@pytest.mark.parametrize(
    ("count", "cases"),
    [
        (2, ["adamw-pairs"]),
        pytest.param(2, ["sgd-plain"], marks=pytest.mark.slow),
        pytest.param(3, ["adamw-pairs"], marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("backend", wings.NAMES)
def test_twenty_steps_are_those_of_one_process_in_float64(backend, count, cases, alone, tmp_path):
    for ended in launch(
        torchrun, count, script("together.py", backend, "float64", tmp_path, *cases)
    ):
        assert ended.code == 0, ended.err
    for case in cases:
        expected, found = alone(backend, case), np.load(tmp_path / f"{case}.npz")
        assert set(found) == set(expected)
        for name, array in expected.items():
            assert difference(found[name], array) < 1e-10, (case, name)


@pytest.fixture(scope="module")
def alone():
    """What one process ends a case with, by backend and case."""
    return functools.cache(lambda backend, case: together.train(backend, case, "float64"))


@dataclass
class Restarted:
    """A run of which one of two processes was killed, and torchrun started both anew."""

    backend: str
    run: Path
    said: Ended


@pytest.fixture(scope="module", params=wings.NAMES)
def restarted(request, tmp_path_factory):
    pytest.importorskip("torch", reason="torchrun is torch's")
    run = tmp_path_factory.mktemp(f"restarted-{request.param}") / "run"
    agent = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    agent += ["--nproc-per-node=2", "--max-restarts=1"]
    how = ("--backend", request.param, "--resume", "auto", "--out", run)
    done = subprocess.run(
        [*agent, *script("door.py", *RUN, *how)[1:]],
        env=environment(DOOR_SIGNAL="9@15@1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    return Restarted(request.param, run, Ended(done.returncode, done.stdout, done.stderr))


@pytest.mark.slow
def test_torchrun_starts_anew_and_the_run_goes_on(restarted):
    assert restarted.said.code == 0, restarted.said.err
    assert restarted.said.out.count(f"{restarted.backend} on cpu in 2 processes") == 2
    assert restarted.said.out.count("epoch 1/2  test loss") == 1
    assert restarted.said.out.count("epoch 2/2  test loss") == 1
    assert "test accuracy" in restarted.said.out


@pytest.mark.slow
def test_a_lost_process_is_told_of_with_the_checkpoint_and_how_to_go_on(restarted):
    (told,) = [x for x in restarted.said.err.splitlines() if x.startswith("error: ")]
    assert told.startswith(
        "error: process 0 of 2: another process is gone after step 15 of epoch 2"
    )
    assert f"the last checkpoint is {restarted.run}/checkpoints/step-00000011" in told
    assert f"--resume {restarted.run}" in told
    assert "Traceback" not in restarted.said.err


@pytest.mark.slow
def test_two_processes_are_one_in_float32(restarted, whole):
    assert apart(restarted.run, whole(restarted.backend, "float32")) < 1e-4


@dataclass
class Journey:
    """A run through other numbers of processes and the other framework, and what all said."""

    run: Path
    said: list[list[Ended]] = field(default_factory=list)


ONE, OTHER = wings.NAMES[0], wings.NAMES[-1]


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    made = Journey(tmp_path_factory.mktemp("journey") / "run")
    first = script("door.py", *RUN, "--backend", ONE, "--precision", "float64", "--out", made.run)
    again = script("door.py", "train", "--resume", made.run, "--backend")
    for launcher, count, command, stop in (
        (slurm, 2, first, f"{signal.SIGTERM:d}@5@1"),
        (torchrun, 1, [*again, OTHER], f"{signal.SIGINT:d}@8"),
        (torchrun, 3, [*again, OTHER], f"{signal.SIGINT:d}@15"),
        (slurm, 3, [*again, ONE], ""),
    ):
        made.said.append(launch(launcher, count, command, DOOR_SIGNAL=stop))
    return made


@pytest.mark.slow
def test_a_signal_to_one_or_all_stops_all_after_the_same_step(journey):
    for said, step in zip(journey.said[:3], (5, 8, 15), strict=True):
        assert [each.code for each in said] == [130] * len(said), said[-1].err
        assert f"stopped after step {step} of epoch" in said[0].err
        assert f"--resume {journey.run}" in said[0].err
        assert all("Traceback" not in each.err for each in said)


@pytest.mark.slow
def test_only_the_first_process_speaks(journey):
    for said in journey.said:
        for each in said[1:]:
            words = [x for x in (each.out + each.err).splitlines() if not x.startswith("[Gloo]")]
            assert words == []


@pytest.mark.slow
def test_a_run_goes_on_in_any_number_of_processes_and_either_framework(journey, whole):
    assert [each.code for each in journey.said[-1]] == [0] * 3, journey.said[-1][0].err
    assert "in 3 processes, float64" in journey.said[-1][0].out
    assert apart(journey.run, whole(ONE, "float64")) < 1e-9


@pytest.mark.skipif("jax" not in wings.NAMES, reason="needs JAX")
def test_the_devices_of_one_process_share_a_batch(whole, tmp_path):
    flags = environment()["XLA_FLAGS"]
    how = ("--backend", "jax", "--precision", "float64", "--out", tmp_path / "run")
    done = subprocess.run(
        script("door.py", *RUN, *how),
        env=environment(XLA_FLAGS=f"--xla_force_host_platform_device_count=3 {flags}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "jax on cpu with 3 devices, float64" in done.stdout
    assert apart(tmp_path / "run", whole(ONE, "float64")) < 1e-9


@pytest.mark.parametrize("backend", wings.NAMES)
def test_a_batch_that_does_not_divide_is_refused_before_anything_is_made(backend, tmp_path):
    more = {"MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), **torchrun(3, 4)}
    done = subprocess.run(
        script("door.py", *RUN, "--backend", backend, "--out", tmp_path / "run"),
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: process 3 of 4: a batch of 6 does not divide among 4 processes; use --batch-size 4 "
        "or 8, or 3 or 6 processes\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("batch", "count", "says"),
    [
        (96, 5, "use --batch-size 95 or 100, or 4 or 6 processes"),
        (3, 5, "use --batch-size 5, or 3 processes"),
        (7, 2, "use --batch-size 6 or 8, or 1 or 7 processes"),
    ],
)
def test_the_nearest_sizes_are_named(batch, count, says):
    with pytest.raises(ProcessError) as caught:
        processes.check_batch(batch, count)
    assert (
        str(caught.value) == f"a batch of {batch} does not divide among {count} processes; {says}"
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8, 12, 96])
def test_a_batch_that_divides_is_cut_without_gap_or_overlap(count):
    whole = np.arange(96)
    groups = [SimpleNamespace(rank=n, count=count, shares=count) for n in range(count)]
    cut = [whole[processes.rows(group, 96)] for group in groups]
    assert np.array_equal(np.concatenate(cut), whole)
    assert np.array_equal(whole[processes.rows(None, 96)], whole)


SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
STEP = {**SLURM, "SLURM_STEP_NODELIST": "n[07-9],m", "SLURM_JOB_ID": "4097", "SLURM_STEP_ID": "2"}
RANKS = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}
MASTER = {"MASTER_ADDR": "there", "MASTER_PORT": "29500"}
AGENT = {**RANKS, **MASTER, "TORCHELASTIC_USE_AGENT_STORE": "True"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"WORLD_SIZE": "4"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        (RANKS, Place(1, 4, 0)),
        (SLURM, None),
        (STEP, Place(3, 8, 1)),
        ({**SLURM, **MASTER}, Place(3, 8, 1)),
        ({**STEP, **RANKS}, Place(1, 4, 0)),
    ],
)
def test_the_launcher_is_read(given, expected):
    assert processes.place(given) == expected


@pytest.mark.parametrize(
    ("given", "torch", "jax"),
    [
        (MASTER, "there:29500", "there:29500"),
        (AGENT, "there:29500", "there:29501"),
        ({**MASTER, "JAX_COORDINATOR_ADDRESS": "here:7"}, "there:29500", "here:7"),
        (STEP, "n07:61443", "n07:61443"),
        ({**STEP, **MASTER}, "there:29500", "there:29500"),
    ],
)
def test_the_place_to_meet_is_found(given, torch, jax):
    assert (processes.address("torch", given), processes.address("jax", given)) == (torch, jax)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK is 4 and WORLD_SIZE is 4"),
        ({"RANK": "-1", "WORLD_SIZE": "4"}, "RANK is '-1'; expected a whole number"),
        ({"RANK": "0", "WORLD_SIZE": ""}, "WORLD_SIZE is ''; expected a whole number"),
        (RANKS, "MASTER_ADDR is None and MASTER_PORT None; expected"),
        ({**RANKS, **MASTER, "MASTER_PORT": "70000"}, "MASTER_PORT 70000; expected"),
    ],
)
def test_what_a_launcher_would_not_say_is_refused(given, says):
    with pytest.raises(ProcessError, match=re.escape(says)):
        processes.place(given), processes.address("torch", given)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("a", "a"), ("a,b", "a"), ("n[1-3]", "n1"), ("n[007,9]x,m", "n007x"), ("", "")],
)
def test_the_first_machine_of_a_list_is_found(nodes, first):
    assert processes.first_host(nodes) == first
