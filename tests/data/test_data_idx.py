"""The IDX reader against files written here from its description, whole and broken."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.data import DataError
from parity.data.formats import idx, packed

KINDS = {
    0x08: ("B", 1),
    0x09: ("b", 1),
    0x0B: ("h", 2),
    0x0C: ("i", 4),
    0x0D: ("f", 4),
    0x0E: ("d", 8),
}
SHAPES = ((7,), (5, 3), (2, 3, 5), (2, 3, 5, 7))


def write(kind: int, values: list, shape: tuple[int, ...]) -> bytes:
    """An IDX file's content, by struct alone."""
    head = bytes((0, 0, kind, len(shape))) + b"".join(struct.pack(">I", size) for size in shape)
    return head + struct.pack(f">{len(values)}{KINDS[kind][0]}", *values)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_every_type_and_number_of_axes(tmp_path, kind, shape, pack):
    count = int(np.prod(shape))
    values = [(37 * n + 11) % 127 for n in range(count)]
    path = tmp_path / "numbers"
    path.write_bytes(pack(write(kind, values, shape)))
    array = idx.read(path)
    assert array.shape == shape
    assert array.dtype.isnative
    assert array.dtype.itemsize == KINDS[kind][1]
    assert array.reshape(-1).tolist() == values


def test_numbers_are_big_endian():
    assert idx.parse(bytes((0, 0, 0x0B, 1, 0, 0, 0, 1, 0x01, 0x02)), "x").tolist() == [258]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 11, 15, 16, 17, 40, 45])
def test_every_truncation_is_refused_with_its_position(tmp_path, length):
    whole = write(0x08, list(range(30)), (2, 3, 5))
    assert len(whole) == 46
    path = tmp_path / "short-idx3-ubyte"
    path.write_bytes(whole[:length])
    with pytest.raises(DataError, match=rf"short-idx3-ubyte: .*ends at byte {length}\b"):
        idx.read(path)


@pytest.mark.parametrize("length", [2, 9, 10, 15, 25, 40])
def test_a_torn_gzip_is_refused(tmp_path, length):
    path = tmp_path / "torn.gz"
    whole = gzip.compress(write(0x08, list(range(30)), (2, 3, 5)), mtime=0)
    path.write_bytes(whole[:length])
    with pytest.raises(DataError, match=rf"torn\.gz: the gzip stream in its {length} bytes"):
        idx.read(path)


def test_an_altered_byte_in_a_gzip_is_refused(tmp_path):
    whole = bytearray(gzip.compress(write(0x08, list(range(30)), (2, 3, 5))))
    whole[-6] ^= 1  # in the CRC
    (tmp_path / "x.gz").write_bytes(whole)
    with pytest.raises(DataError, match=r"x\.gz: the gzip stream .* fetch the file again"):
        idx.read(tmp_path / "x.gz")


BROKEN = {
    "bytes too many": (
        write(0x08, [1, 2, 3], (3,)) + b"\0",
        r"bytes too many: ends at byte 12; .*byte 11",
    ),
    "not zeros": (b"\1\0\x08\1\0\0\0\1\0", r"byte 0: magic number 0x01000801"),
    "unknown type": (b"\0\0\x0a\1\0\0\0\1\0", r"byte 0: magic number 0x00000a01"),
    "no axes": (b"\0\0\x08\0\7", r"byte 0: magic number 0x00000800"),
    "a web page": (b"<!DOCTYPE html><html>", r"magic number 0x3c21444f"),
    "huge sizes": (b"\0\0\x08\3" + b"\xff" * 12 + b"\0" * 9, r"cut short: ends at byte 25"),
    "sizes that overflow": (b"\0\0\x0e\x04" + b"\x80\0\0\0" * 4, r"cut short: ends at byte 20"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(name):
    content, message = BROKEN[name]
    with pytest.raises(DataError, match=f"^the file: .*{message}"):
        idx.parse(content, "the file")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere-idx1-ubyte: cannot be read"):
        idx.read(tmp_path / "nowhere-idx1-ubyte")


def test_unpacking_stops_at_the_limit():
    bomb = gzip.compress(b"\0" * 9_000_011)
    assert len(packed.unpack(bomb, "x", 9_000_011)) == 9_000_011
    tracemalloc.start()
    with pytest.raises(DataError, match="x: holds more than the 1009 bytes expected"):
        packed.unpack(bomb, "x", 1009)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


@pytest.mark.parametrize(
    "array", [np.zeros(3, bool), np.zeros(3, np.int64), np.zeros((), np.uint8)]
)
def test_dump_refuses_what_the_format_does_not_have(array):
    with pytest.raises(DataError, match="does not fit an IDX file"):
        idx.dump(array)


DTYPES = st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8", ">i4", ">f8"])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))


@settings(max_examples=60, deadline=None)
@given(ARRAYS)
def test_what_is_dumped_is_read_again(array):
    again = idx.parse(idx.dump(array), "x")
    assert again.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(again, array)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(lambda b: b"\0\0\x08\2" + b)))
def test_any_bytes_are_read_or_refused(content):
    try:
        array = idx.parse(content, "x")
    except DataError:
        return
    assert 4 + 4 * array.ndim + array.nbytes == len(content)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 60), st.integers(1, 255))
def test_any_altered_gzip_is_unpacked_or_refused(content, place, change):
    altered = bytearray(gzip.compress(content, mtime=0))
    altered[place % len(altered)] ^= change
    try:
        packed.unpack(bytes(altered), "x", 64)
    except DataError:
        return
