"""What becomes of a command whose output is closed, on a full disk, or read by nobody.

It says so in a line and ends; a training goes on, as it does without whatever else is only shown.
"""

import os
import subprocess
import sys

import pytest
from wings import NAMES, ROOT, python, wide

from parity.runs import Run

FILE = "parity/saved/pretrained/small-mnist.safetensors"
FULL = "error: standard output: could not be written (No space left on device)\n"
COMMANDS = {
    "train.py --help": ["train.py", "--help"],
    "a verb's --help": ["-m", "parity", "inspect", "--help"],
    "a verb that prints": ["-m", "parity", "inspect", FILE],
    "a verb with --json": ["-m", "parity", "inspect", FILE, "--json"],
    "the list of verbs": ["-m", "parity", "--help"],
}
# what standard output is -> exit code, and what is said on standard error
ENDS = {"full": (2, FULL), "closed": (0, ""), "left": (141, ""), "both full": (2, None)}
CASES = [(command, state) for command in COMMANDS for state in ENDS]


def ended(command: list[str], state: str, **environment: str) -> tuple[int, str]:
    """Exit code and standard error of a command whose output is in that state."""
    streams = {"full": ">/dev/full", "both full": ">/dev/full 2>&1", "closed": "<&- >&-"}
    shell = ["sh", "-c", f'exec "$@" {streams.get(state, "")}', "sh"]
    process = subprocess.Popen(
        [*shell, sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before anything is written: who has left is left at the first byte
    with process.stderr:
        said = process.stderr.read()
    return process.wait(), said


@pytest.mark.parametrize(
    ("command", "state"),
    wide(CASES, lambda command, state: (command, state) in [*zip(COMMANDS, ENDS, strict=False)]),
)
def test_a_command_that_cannot_print_says_so_in_one_line_or_none(command, state):
    code, said = ended(COMMANDS[command], state)
    expected, words = ENDS[state]
    assert (code, said) == (expected, said if words is None else words)


def test_a_mistake_has_its_message_and_code_where_nothing_can_be_printed():
    code, said = ended(["-m", "parity", "inspect", "nothing"], "full")
    assert (code, said) == (2, "error: nothing: no such file or folder\n")


def test_a_name_that_the_terminal_cannot_show_ends_nothing():
    done = python("-m", "parity", "inspect", "größe", PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 2
    assert done.stderr == "error: gr\\xf6\\xdfe: no such file or folder\n"


LAST = "step-00000026"
TINY = ["tests/door.py", "train", "--preset", "tiny", "--dataset", "tiny-stripes", "--epochs", "2"]

# A container with little: no semaphores (/dev/shm), and a user whom nobody knows.
BARE = """
import _multiprocessing, os, pwd
os.environ.pop("HOME", None)

def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")

class SemLock(_multiprocessing.SemLock):
    def __new__(cls, *args, **kwargs):
        raise FileNotFoundError(2, "No such file or directory")

pwd.getpwuid = unknown
_multiprocessing.SemLock = SemLock
"""
STATES = [*zip(("full", "left", "closed", "both full"), 4 * NAMES, strict=False)]


@pytest.mark.slow
@pytest.mark.parametrize(("state", "backend"), STATES)
def test_a_training_in_a_bare_container_that_nobody_reads_trains_and_saves(
    tmp_path, backend, state
):
    """No /dev/shm, no home, and standard output that cannot be written."""
    (tmp_path / "sitecustomize.py").write_text(BARE)
    code, said = ended(
        [*TINY, "--backend", backend, "--out", str(tmp_path / "run")],
        state,
        PYTHONPATH=os.pathsep.join(map(str, (tmp_path, ROOT))),
        XDG_CACHE_HOME="",
    )
    assert code == 0, said
    assert "Traceback" not in said
    with Run.open(tmp_path / "run") as run:
        found = run.newest()
        assert found is not None
        assert found.path.name == LAST
        assert len(run.metrics()) == 28
    assert (tmp_path / "run" / "figures" / "curves.png").exists()
    if state != "both full":
        assert said.count("no more events for TensorBoard") == 1
        told = state in ("full", "left")
        assert said.count("warning: standard output cannot be written any more") == told


@pytest.mark.slow
@pytest.mark.parametrize("backend", NAMES)
def test_a_training_where_nothing_but_its_run_can_be_written_trains(backend):
    """Read-only disks, the folder for temporary files and the home among them."""
    script = (
        'for each in / /tmp /var/tmp /root "$PWD"; do '
        "mount --bind $each $each && mount -o remount,ro,bind $each; done && "
        'mount -t tmpfs none /mnt || exit 77; "$@"'
    )
    command = [sys.executable, *TINY, "--backend", backend, "--out", "/mnt/run"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/nowhere", "XDG_CACHE_HOME": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine does not allow the mount")
    assert done.returncode == 0, done.stderr
    assert "test accuracy 1.0000 (error 0.00%), of the last epoch" in done.stdout
