"""A sample of `make fuzz`, and that its harness sees what it is there for."""

import dataclasses
from random import Random

import numpy as np
import pytest
import wings
from fuzz import mutate
from fuzz.reader import any_result, only_whole
from fuzz.readers import READERS
from fuzz.worker import inputs, judge, run

from parity.spec import TwincapsError

SAMPLE = range(10_000, 10_012)  # others than those that come first in `make fuzz`


@pytest.mark.parametrize("name", READERS)
def test_altered_files_are_refused_or_read_rightly(name, tmp_path):
    failures: list[dict] = []
    counts = run(READERS[name], 0, SAMPLE, tmp_path, failures.append)
    assert failures == []
    assert sum(counts.values()) == len(SAMPLE)


def test_there_are_enough_of_them():
    if len(wings.NAMES) == len(wings.PACKAGES):
        assert sum(reader.count for reader in READERS.values()) >= 100_000
    assert min(reader.count for reader in READERS.values()) >= 500


def starved(path):
    try:
        raise MemoryError
    except MemoryError as error:
        raise TwincapsError("not a whole file") from error


def wrong(path):
    return [][1]


def refusing(path):
    raise TwincapsError(f"{path}: no")


@pytest.mark.parametrize(
    ("read", "right", "verdict"),
    [
        (refusing, any_result, "refused"),
        (starved, any_result, "an allocation"),
        (wrong, any_result, "IndexError"),
        (np.fromfile, only_whole, "a wrong result"),
        (np.fromfile, any_result, "read"),
    ],
)
def test_a_failure_is_seen(tmp_path, read, right, verdict):
    reader = dataclasses.replace(READERS["a file of known MD5"], read=read, right=right)
    assert judge(reader, tmp_path / "x", bytes(16), [b"whole"])[0] == verdict


def test_the_same_seed_makes_the_same_inputs(tmp_path):
    reader = READERS["a file of known MD5"]
    whole = reader.make(tmp_path)
    first, again = (list(inputs(reader, 7, range(50), whole)) for _ in range(2))
    assert first == again
    assert list(inputs(reader, 7, range(20, 30), whole)) == first[20:30]
    assert list(inputs(reader, 8, range(50), whole)) != first
    assert sum(content in whole for content in first) < 5


def test_json_is_changed_at_any_depth():
    values = {"a": {"b": [1, {"c": 2}]}, "d": 3}
    draw = Random(3)
    made = [repr(mutate.changed(draw, values)) for _ in range(1000)]
    assert len(set(made)) > 100
    assert values == {"a": {"b": [1, {"c": 2}]}, "d": 3}
    assert any("'c': " in each and "'c': 2" not in each for each in made)
