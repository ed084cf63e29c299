"""Every file that a resume reads, altered in every way: found and named, never gone on with."""

import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from faults.kills import Undisturbed
from faults.process import command, difference, end, environment, run
from faults.row import Row
from parity.runs import Run, checkpoints
from parity.runs.disk import RunWarning
from parity.spec import TwincapsError

FLIPS = 48
Damage = Callable[[Path], None]
BY_HAND = ("a flipped bit", "cut short", "deleted")


def files(path: Path) -> list[str]:
    """Those that a resume reads, below the folder of a run."""
    newest = checkpoints.listed(path / "checkpoints")[-1].relative_to(path)
    beside = ("state.json", "weights.safetensors", "optimizer.safetensors")
    inside = [f"{newest}/{name}" for name in beside]
    return ["spec.json", "training.json", "metrics.jsonl", *inside]


def damages(
    file: Path, length: int, draw: random.Random, flips: int = FLIPS
) -> Iterator[tuple[str, Damage]]:
    """(kind, what to do to the file), each in turn; a resume reads `length` bytes of it."""

    def flip(place: int, bit: int) -> Damage:
        def work(file: Path) -> None:
            content = bytearray(file.read_bytes())
            content[place] ^= 1 << bit
            file.write_bytes(content)

        return work

    def cut(length: int) -> Damage:
        return lambda file: file.write_bytes(file.read_bytes()[:length])

    for place in [0, length - 1, *(draw.randrange(length) for _ in range(flips))]:
        yield "a flipped bit", flip(place, draw.randrange(8))
    for kept in (0, 1, length // 4, length // 2, length - 1):
        yield "cut short", cut(kept)
    yield "deleted", Path.unlink
    if file.name != "metrics.jsonl":
        yield "a byte longer", lambda file: file.write_bytes(file.read_bytes() + b"\n")
    yield "a folder in its place", _folder
    yield "a link to nothing", _dangling
    older = checkpoints.listed(file.parent.parent)[:1] if "step-" in file.parent.name else []
    for other in older:
        yield "that of another checkpoint", lambda file, o=other: _copy(o / file.name, file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.parent / "nothing")


def _copy(source: Path, file: Path) -> None:
    file.write_bytes(source.read_bytes())


def altered(backend: str, folder: Path, halfway: Path, seed: int, flips: int = FLIPS) -> list[Row]:
    """All of them, as a resume reads the run, in this process."""
    draw, rows = random.Random(seed), dict[str, Row]()
    work = folder / "altered" / "run"
    with Run.open(halfway, read_only=True) as whole:
        newest = whole.newest()
    assert newest is not None
    for name in files(halfway):
        length = (halfway / name).stat().st_size
        if name == "metrics.jsonl":
            length = newest.state.metrics_bytes
        for kind, damage in damages(halfway / name, length, draw, flips):
            row = rows.setdefault(kind, Row(backend, f"{kind}, each file that a resume reads"))
            shutil.copytree(halfway, work)
            damage(work / name)
            row.tried += 1
            fault = _unseen(work, name, newest.state.step)
            if fault:
                row.losses.append(f"{name}, {kind}: {fault}")
            else:
                row.detected += 1
            shutil.rmtree(work)
    row = rows["folder"] = Row(backend, "a checkpoint, or all of them, deleted")
    for every in (False, True):
        shutil.copytree(halfway, work)
        for each in checkpoints.listed(work / "checkpoints")[0 if every else -1 :]:
            shutil.rmtree(each)
        row.tried += 1
        fault = _unseen(work, "checkpoints", newest.state.step)
        row.losses += [f"deleted checkpoints, every: {every}: {fault}"] if fault else []
        row.detected += not fault
        shutil.rmtree(work)
    return list(rows.values())


def _unseen(path: Path, name: str, step: int) -> str:
    """How a resume goes on with an altered file without a word; "" where it does not."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            with Run.open(path) as run:
                found = run.newest()
                run.cut_metrics(found)
        except TwincapsError as error:
            return "" if name in str(error) else f"refused, without its name: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    said = [str(each.message) for each in told if issubclass(each.category, RunWarning)]
    if not any(name in each for each in said):
        return "no word"
    if name != "metrics.jsonl" and (found is None or found.state.step >= step):
        return "a warning, and the altered checkpoint taken"
    return ""


def by_hand(
    backend: str, folder: Path, halfway: Path, whole: Undisturbed, seed: int,
    say: Callable[..., None],
) -> list[Row]:  # fmt: skip
    """Some of them through the command line, to the end of the run where it goes on."""
    row = Row(backend, "altered, cut short or deleted, through the command line")
    draw = random.Random(seed + 1)
    with Run.open(halfway, read_only=True) as opened:
        newest = opened.newest()
    assert newest is not None
    for name in files(halfway):
        length = newest.state.metrics_bytes if name == "metrics.jsonl" else None
        every = list(damages(halfway / name, length or (halfway / name).stat().st_size, draw))
        for kind in BY_HAND:
            damage = draw.choice([each for found, each in every if found == kind])
            work = folder / "by-hand" / "run"
            shutil.copytree(halfway, work)
            damage(work / name)
            code, output = run(command(backend, work), environment(folder))
            row.tried += 1
            fault = _ended_elsewhere(work, name, code, output, whole)
            if fault:
                row.losses.append(f"{backend}, {name}, {kind}: {fault}")
            else:
                row.detected += 1
                row.resumed += code == 0
            shutil.rmtree(work)
        say(f"{backend}: {name} through the command line")
    return [row]


def _ended_elsewhere(path: Path, name: str, code: int, output: str, whole: Undisturbed) -> str:
    said = [each for each in output.splitlines() if each.startswith(("error: ", "warning: "))]
    if code not in (0, 2) or "Traceback" in output or not any(name in each for each in said):
        return f"code {code}: {output[-400:]}"
    if code == 2:
        return ""
    fault = difference(end(path), whole.end)
    # Lines that were altered are gone: what the run computed is the same.
    return "" if name == "metrics.jsonl" and fault == "other metrics" else fault
