"""IDX against files written here from its description, and the bounds of what is unpacked."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.data import DataError
from parity.data.formats import idx, packed

SHAPES = ((7,), (5, 3), (2, 3, 5), (2, 3, 5, 7))


@pytest.mark.parametrize("shape", SHAPES)
def test_any_number_of_axes_is_read_and_written(shape):
    numbers = np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)
    content = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
    content += bytes(numbers.reshape(-1).tolist())
    np.testing.assert_array_equal(idx.parse(content), numbers)
    assert idx.dump(numbers) == content


def test_unpacking_stops_at_the_limit(tmp_path):
    (tmp_path / "x").write_bytes(gzip.compress(b"\0" * 9_000_011))
    assert len(packed.read(tmp_path / "x", 9_000_011)) == 9_000_011
    tracemalloc.start()
    with pytest.raises(DataError, match="x: holds more than the 1009 bytes expected"):
        packed.read(tmp_path / "x", 1009)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 60), st.integers(1, 255))
def test_any_altered_gzip_is_unpacked_or_refused(tmp_path_factory, content, place, change):
    altered = bytearray(gzip.compress(content, mtime=0))
    altered[place % len(altered)] ^= change
    file = tmp_path_factory.getbasetemp() / "altered.gz"
    file.write_bytes(altered)
    try:
        assert packed.read(file, 64) in (content, bytes(altered))
    except DataError:
        return
