"""Files made to do harm: names that lead elsewhere, sizes without end, links, commands."""

import contextlib
import io
import struct
import tarfile
import tracemalloc
import zipfile

import fakes
import numpy as np
import pytest
import safetensors.numpy
from specs import TINY
from weight_files import TORCH, draw

from parity import weights
from parity.convert import formats
from parity.data import DataError
from parity.data.formats import matlab, packed, pictures
from parity.data.sets import folder
from parity.runs import Run
from parity.runs.disk import RunError
from parity.spec import TwincapsError

ESCAPES = ["../test.mat", "/tmp/test.mat", "a/../../test.mat", "./test.mat"]


def tar_of(*members: tarfile.TarInfo, content: bytes = b"inside") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize("name", ESCAPES)
def test_names_in_archives_lead_nowhere(name, tmp_path):
    """Contents come by their last name, in memory: nothing is written anywhere."""
    place = tmp_path / "inner"
    place.mkdir()
    (place / "a.tar.gz").write_bytes(tar_of(member(name)))
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        archive.writestr(name, b"inside")
    before = sorted(tmp_path.rglob("*"))
    assert packed.tar(place / "a.tar.gz", {"test.mat": None}) == {"test.mat": b"inside"}
    assert packed.zipped(place / "a.zip", {"test.mat"}) == {"test.mat": b"inside"}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize("link", ["/etc/passwd", "../../secret", "test.mat"])
def test_links_and_devices_in_archives_are_passed_over(kind, link, tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(tar_of(member("x/test.mat", kind, link)))
    assert packed.tar(tmp_path / "a.tar.gz", {"test.mat": None}) == {}


def test_a_file_in_an_archive_of_another_size_is_not_read(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(tar_of(member("test_batch"), content=bytes(10**6)))
    with pytest.raises(DataError, match="test_batch: holds 1000000 bytes, expected 300"):
        packed.tar(tmp_path / "a.tar.gz", {"test_batch": 300})


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_a_link_in_a_run_is_not_written_through(name, tmp_path):
    with Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING):
        pass
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / name).symlink_to(precious)

    def write():
        with Run.open(tmp_path / "run") as run:
            run.append({"event": "train", "step": 1})

    with pytest.raises(RunError, match=r"Too many levels of symbolic links"):
        write()
    assert precious.read_text() == "mine"


def test_a_name_of_a_tensor_is_only_a_name(tmp_path):
    arrays = {"../../escaped": np.ones(3, np.float32), "/absolute": np.ones(2, np.float32)}
    weights.save_arrays(tmp_path / "w.safetensors", arrays, {"format": weights.FORMAT, "schema": 1})
    with pytest.raises(TwincapsError):
        weights.load(tmp_path / "w.safetensors")
    assert [each.name for each in tmp_path.iterdir()] == ["w.safetensors"]


h5py = pytest.importorskip("h5py")


def test_numbers_of_another_file_are_not_read_through_an_h5(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"a secret" * 8)
    for kind in ("external", "virtual"):
        with h5py.File(tmp_path / f"{kind}.h5", "w") as file:
            if kind == "external":
                file.create_dataset("a/x", (64,), "u1", external=[(str(secret), 0, 64)])
            else:
                layout = h5py.VirtualLayout((64,), "u1")
                layout[:] = h5py.VirtualSource(str(secret), "x", (64,))
                file.create_virtual_dataset("a/x", layout)
        with pytest.raises(TwincapsError, match="is kept in another file"):
            formats.read(tmp_path / f"{kind}.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(3, "f4")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["mine"] = np.ones(3, "f4")
        file["theirs"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    assert list(formats.read(tmp_path / "link.h5").tensors) == ["mine"]


def test_an_h5_that_claims_numbers_without_end_is_refused(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("a/x", (10**9,), "f4", chunks=(10**6,))
    with pytest.raises(TwincapsError, match=r"not a whole \.h5 file"):
        formats.read(tmp_path / "w.h5")


def npz_claiming(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    array = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + bytes(8)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("x.npy", array)
    return made.getvalue()


def mat_claiming(rows: int, nbytes: int) -> bytes:
    inner = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, rows, 1)
    inner += struct.pack("<HH4s", 1, 1, b"X") + struct.pack("<II", 9, nbytes) + bytes(8)
    return bytes(124) + b"\0\1IM" + struct.pack("<II", 14, len(inner)) + inner


BOMBS = {
    ".mat, rows": lambda: matlab.loads(mat_claiming(2**31 - 1, 8), "x"),
    ".mat, bytes": lambda: matlab.loads(mat_claiming(1, 2**31), "x"),
}  # fmt: skip


def peak(work) -> float:
    """MiB that Python and NumPy allocated at most."""
    tracemalloc.start()
    try:
        work()
    finally:
        found = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    return found


@pytest.mark.parametrize("name", BOMBS)
def test_a_size_in_a_header_is_not_believed(name):
    def work():
        with pytest.raises(DataError):
            BOMBS[name]()

    assert peak(work) < 8


@pytest.mark.parametrize("shape", ["(100000000000,)", "(-1,)", "(2**9,)", "((), 1)"])
def test_an_npz_that_claims_other_sizes_is_refused(shape, tmp_path):
    (tmp_path / "a.npz").write_bytes(npz_claiming(shape))

    def work():
        with pytest.raises(DataError, match=r"not a whole \.npz"):
            packed.npz(tmp_path / "a.npz")

    assert peak(work) < 8


@TORCH
@pytest.mark.parametrize("newer", [True, False])
def test_a_pt_whose_tensors_claim_more_than_the_file_is_refused(newer, tmp_path):
    import torch

    file = tmp_path / "w.pt"
    torch.save({"x": torch.ones(1).expand(10**9)}, file, _use_new_zipfile_serialization=newer)
    with pytest.raises(TwincapsError, match="more numbers than the file"):
        formats.read(file)
    torch.save({"x": torch.ones(257)}, file, _use_new_zipfile_serialization=newer)
    content = file.read_bytes()
    claimed = content.replace(b"M\1\1", b"M\xff\xff")  # 257 numbers as 65,535
    assert claimed != content
    if newer:
        made = io.BytesIO()
        with zipfile.ZipFile(file) as old, zipfile.ZipFile(made, "w") as new:
            for each in old.infolist():
                new.writestr(each, old.read(each).replace(b"M\1\1", b"M\xff\xff"))
        claimed = made.getvalue()
    file.write_bytes(claimed)
    with pytest.raises(TwincapsError, match=r"refused .*size"):
        formats.read(file)


def png_claiming(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9)))


@pytest.mark.parametrize(
    "read", [lambda path: folder.read([path]), pictures.read], ids=["folder", "predict"]
)
def test_a_chunk_of_a_picture_that_claims_2_gib_has_no_room_made_for_it(read, tmp_path):
    whole = png_claiming(2, 3)
    claiming = whole.replace(
        struct.pack(">I", len(whole) - 8 - 25 - 12) + b"IDAT", b"\x7f\xff\xff\xf0IDAT"
    )
    assert claiming != whole
    (tmp_path / "a.png").write_bytes(claiming)
    tracemalloc.start()
    try:
        with contextlib.suppress(TwincapsError):
            read(tmp_path / "a.png")
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", ["[" * 100_000, "{}", "5", "null", '"x"'])
def test_any_header_of_weights_is_refused(value, tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(safetensors.numpy.save(draw(TINY), metadata={"twincaps": value}))
    with pytest.raises(TwincapsError):
        weights.load(file)
