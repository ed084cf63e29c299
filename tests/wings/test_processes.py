"""Several processes train the run that one would, started as their users start them.

By torchrun, by SLURM's variables and by plain processes with torchrun's; stopped, killed, started
anew, with other numbers of them and in the other framework.
"""

import contextlib
import functools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import together
import wings
from wings import ROOT, difference

from parity.runs import Run
from parity.weights import table
from parity.wing import meeting, processes
from parity.wing.processes import Place, ProcessError

RUN = ["train", "--preset", "tiny-shared", "--dataset", "tiny-stripes"]
LIMIT = 240  # seconds


def torchrun(rank: int, count: int) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}


def slurm(rank: int, count: int) -> dict[str, str]:
    names = {"PROCID": rank, "NTASKS": count, "LOCALID": rank, "STEP_NODELIST": "localhost"}
    return {f"SLURM_{name}": str(value) for name, value in names.items()}


def environment(**more: str) -> dict[str, str]:
    """Of this process, for ones that start fast: one thread and no figures."""
    ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DOOR_FIGURES": "none"}
    return {**os.environ, **ours, **more}


def free_port() -> str:
    """One below those that the system gives out, which another process could have by then."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with contextlib.closing(socket.socket()) as found, contextlib.suppress(OSError):
            found.bind(("localhost", port))
            return str(port)
    raise OSError("none of 100 ports is free")


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


STARTED = [
    (2, ["adamw-pairs", "sgd-plain", "sgd-normal", "adam-normal", "adam-free"]),
    (3, ["adamw-pairs"]),
]
STARTED = [(backend, *row) for backend in wings.NAMES for row in STARTED]
# Of every kind of network, which JAX would compile for two minutes.
if "torch" in wings.NAMES:
    STARTED += [("torch", 2, [case for case in together.CASES if case.startswith("kind-")])]


@pytest.mark.float64
@pytest.mark.parametrize(("backend", "count", "cases"), STARTED)
@pytest.mark.slow
def test_twenty_steps_are_those_of_one_process_in_float64(backend, count, cases, alone, tmp_path):
    for ended in launch(
        torchrun, count, script("together.py", backend, "float64", tmp_path, *cases)
    ):
        assert ended.code == 0, ended.err
    for case in cases:
        expected, found = alone(backend, case), np.load(tmp_path / f"{case}.npz")
        assert set(found) == set(expected)
        free = {name for name, row in table(together.CASES[case].spec).items() if row.free}
        if not case.startswith("kind-"):
            assert free == ({"stem.0.bias", "stem.1.bias"} if case == "adam-free" else set())
        for name, array in expected.items():
            layer = name.rpartition("/")[2].rpartition(".")[0].removesuffix(".norm")
            if name.rpartition("/")[2] in free:
                # The norm takes the bias away again: its gradient is rounding, which Adam divides
                # by its own size. The moments stay noise, the bias moves by some 1e-10.
                assert "/" not in name or np.abs(array).max() < 1e-14
                assert np.abs(found[name] - array).max() < 1e-8, (case, name)
            elif f"{layer}.bias" in free and name.endswith(".norm.mean"):
                # The running mean is that of values with the bias in them.
                moved = np.abs(found[f"{layer}.bias"] - expected[f"{layer}.bias"]).max()
                assert np.abs(found[name] - array).max() < 2 * moved, (case, name)
            else:
                assert difference(found[name], array) < 1e-10, (case, name)


@pytest.fixture(scope="module")
def alone():
    """What one process ends a case with, by backend and case."""
    return functools.cache(lambda backend, case: together.train(backend, case, "float64"))


@dataclass
class Restarted:
    """A run of which one of two processes was killed, and torchrun restarted both."""

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
def test_torchrun_restarts_it_and_the_run_goes_on(restarted):
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
        (torchrun, 3, [*again, OTHER], f"{signal.SIGUSR1:d}@15@2"),
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


@pytest.mark.slow
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


SHELL = {**STEP, "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash"}


@pytest.mark.parametrize(
    ("changes", "typed", "alone"),
    [
        ({}, True, True),
        ({"SLURM_JOB_NAME": "interactive"}, True, True),
        ({"SLURM_STEP_ID": "4294967290", "SLURM_JOB_NAME": "mine"}, False, True),
        # srun python train.py, typed in such a shell: it inherits the name
        ({}, False, False),
        ({"SLURM_PROCID": "1"}, True, False),
        ({"SLURM_TASK_PID": str(os.getpid())}, True, False),
        # srun --pty python train.py
        ({"SLURM_JOB_NAME": "python"}, True, False),
        (RANKS, True, False),
    ],
)
def test_in_a_shell_of_slurm_one_process_trains_alone_and_says_so(changes, typed, alone, capsys):
    place = processes.place({**SHELL, **changes}, lambda: typed)
    said = capsys.readouterr().err
    assert (place is None) == alone
    assert said.startswith("training in this process alone, though SLURM_NTASKS is 8") == alone
    assert alone or said == ""


def met(port: int, count: int, ranks: list[int], counted="SLURM_NTASKS", **environment) -> list:
    """What these of so many processes meet with: an error each, or None."""

    def meet(rank: int) -> Exception | None:
        place = Place(rank, count, 0, counted)
        try:
            meeting.gather(place, f"localhost:{port}", {counted: str(count), **environment})
        except ProcessError as error:
            return error
        return None

    with ThreadPoolExecutor(len(ranks)) as threads:
        return [*threads.map(meet, ranks)]


def test_nobody_listens_any_more_when_the_others_hear_that_all_are_there():
    """A framework that called the meeting by mistake was sent away, and said so for 40 lines."""
    port = int(free_port())
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(met, port, 2, [0])
        called = None
        while called is None and not first.done():
            with contextlib.suppress(OSError):
                called = socket.create_connection(("localhost", port), 1)
        assert called is not None, first.result()
        with called:
            called.sendall(b"twincaps 1")
            assert called.recv(1) == b"\n"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("localhost", port), 1).close()
        assert first.result() == [None]


def test_processes_meet_at_a_port_that_is_free_afterwards_and_strangers_are_let_pass(capsys):
    port = int(free_port())
    for _ in range(3):
        assert met(port, 5, [3, 1, 0, 4, 2], "WORLD_SIZE", MASTER_ADDR="localhost") == [None] * 5
        with socket.create_server(("", port)):
            pass
    said = capsys.readouterr().err.splitlines()
    assert said == 3 * [
        f"process 0 of 5 waits at localhost:{port} for processes 1, 2, 3 and 4, as WORLD_SIZE is 5 "
        "and MASTER_ADDR is localhost; to train in one process alone: env -u WORLD_SIZE python "
        "train.py ..."
    ]

    def stranger() -> None:
        for _ in range(100):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("localhost", port), 1) as s,
            ):
                s.sendall(b"GET / HTTP/1.0")
                return

    thread = threading.Thread(target=stranger)
    thread.start()
    assert met(port, 2, [0, 1]) == [None] * 2
    thread.join()


@pytest.mark.parametrize(
    ("ranks", "names"),
    [
        ([0], ["processes 1, 2 and 3"]),
        ([0, 2], ["processes 1 and 3", "process 0 and all others"]),
        ([3], ["process 0 and all others"]),
    ],
)
def test_who_did_not_come_is_named_and_by_which_variable_he_was_expected(
    ranks, names, monkeypatch, capsys
):
    monkeypatch.setattr(meeting, "TIMEOUT", 0.7)
    monkeypatch.setattr(meeting, "PATIENCE", 0.2)
    port = int(free_port())
    errors = met(port, 4, ranks, SLURM_JOB_NAME="train")
    assert [str(each) for each in errors] == [
        f"waited 0.7 seconds at localhost:{port} for {name}; is it running? SLURM_NTASKS is 4 and "
        "SLURM_JOB_NAME is train; to train in one process alone: env -u SLURM_NTASKS python "
        "train.py ..."
        for name in names
    ]
    said = capsys.readouterr().err
    assert all(f"process {rank} of 4 waits at localhost:{port} for " in said for rank in ranks)


def test_a_port_that_another_program_has_is_told_of():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        (error,) = met(port, 2, [0])
    assert str(error) == f"could not listen at port {port} (Address already in use)"


@pytest.mark.parametrize(
    "backend", wings.wide(wings.NAMES, lambda backend: backend == wings.NAMES[-1])
)
def test_a_process_that_is_left_alone_ends_with_a_line_and_writes_nothing(backend, tmp_path):
    more = {**slurm(0, 2), "SLURM_JOB_ID": "4711", "MASTER_PORT": free_port()}
    done = subprocess.run(
        script("door.py", *RUN, "--backend", backend, "--out", tmp_path / "run"),
        env=environment(**more, DOOR_TIMEOUT="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        start_new_session=True,
    )
    assert done.returncode == 2
    waits, error = done.stderr.splitlines()
    assert waits.startswith("process 0 of 2 waits at localhost:")
    assert error.startswith("error: process 0 of 2: waited 1 seconds at localhost:")
    assert "env -u SLURM_NTASKS" in error
    assert list(tmp_path.iterdir()) == []


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
