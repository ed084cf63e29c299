"""Pictures of any size, kind and quality, as the images that a network was trained on."""

import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from parity import data
from parity.data.formats.pictures import PictureError
from parity.data.sets import folder
from parity.predict.fit import centre_of_mass, prepare

DIGIT, GARMENT = ((28, 28, 1), "digit"), ((28, 28, 1), "garment")


def blob(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random strokes, light on dark, uint8 [height, width], with a border of nothing."""
    random = np.random.default_rng(seed)
    out = np.zeros((height, width))
    y, x = np.mgrid[:height, :width] / max(height, width)
    for _ in range(5):
        down, right = random.uniform(0.25, 0.75, 2) * (height, width) / max(height, width)
        out = np.maximum(out, np.hypot(y - down, x - right) < random.uniform(0.06, 0.15))
    return (255 * out).astype(np.uint8)


def save(path, array: np.ndarray, mode: str | None = None, **how):
    made = Image.fromarray(array)
    (made if mode is None else made.convert(mode)).save(path, **how)
    return path


def box(image: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero(image[..., 0].any(axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize("dark_on_light", [False, True])
def test_mnists_own_digits_come_out_as_they_are(tmp_path, dark_on_light):
    """Their box is 20 pixels long and their centre of mass in the middle already."""
    exact = []
    for image in data.load("mnist-mini").test.images[:53]:
        shown = 255 - image[..., 0] if dark_on_light else image[..., 0]
        found = prepare(save(tmp_path / "a.png", shown), *DIGIT)
        apart = np.abs(found - image / np.float32(255)).max()
        assert apart < 0.16  # ink fainter than that at its edge is taken for noise
        exact.append(apart < 0.005)
    assert np.mean(exact) > 0.6


@pytest.mark.parametrize("size", [(17, 19), (28, 28), (101, 37), (43, 211), (997, 1103)])
@pytest.mark.parametrize("paper", [0, 70, 150, 255])
def test_a_digit_is_fitted_into_20_and_centred_by_mass(tmp_path, size, paper):
    shown = np.where(blob(*size) > 0, 255 if paper < 100 else 20, paper).astype(np.uint8)
    found = prepare(save(tmp_path / "a.png", shown), *DIGIT)
    assert (found.shape, found.dtype) == ((28, 28, 1), np.float32)
    assert (found.min(), found.max()) == (0, 1)
    *_, height, width = box(found)
    assert max(height, width) == 20
    ink = np.argwhere(blob(*size))
    wanted = np.ptp(ink[:, 0] + 0.0) + 1, np.ptp(ink[:, 1] + 0.0) + 1
    assert min(height, width) == pytest.approx(20 * min(wanted) / max(wanted), abs=1.01)
    centre = centre_of_mass(found[..., 0])
    assert np.abs(centre - 14).max() <= 0.5


def test_a_digit_near_the_edge_is_kept_whole(tmp_path):
    shown = np.zeros((91, 83), np.uint8)
    shown[5:85, 5:7] = 255  # tall, with all of its mass at the top
    shown[5:25, 5:75] = 255
    found = prepare(save(tmp_path / "a.png", shown), *DIGIT)
    assert box(found)[2:] == (20, 18)
    assert box(found)[0] == 8  # further down it would be cut


@pytest.mark.parametrize("pen", [1, 3, 29])
def test_thin_lines_are_as_black_as_thick_ones(tmp_path, pen):
    shown = np.full((601, 401), 255, np.uint8)
    shown[100:500, 200 : 200 + pen] = 0
    found = prepare(save(tmp_path / "a.png", shown), *DIGIT)
    assert found.max() == 1
    assert box(found)[2] == 20


@pytest.mark.parametrize("light", [False, True])
def test_two_digits_are_fitted_into_the_middle_together(tmp_path, light):
    shown = np.full((211, 173), 255, np.uint8)
    shown[20:120, 41:91] = 90  # much ink on one side: the middle is that of the box
    shown[90:140, 71:161] = 30
    shown = 255 - shown if light else shown
    found = prepare(save(tmp_path / "a.png", shown), (36, 37, 1), "digits")
    assert found.shape == (36, 37, 1)
    assert box(found) == (6, 7, 24, 24)
    assert found.max() == 1
    assert found[6 + 2, 7 + 4, 0] == pytest.approx(165 / 225, abs=1e-5)


def test_a_garment_fills_the_image_and_keeps_its_greys(tmp_path):
    shown = np.full((211, 173), 255, np.uint8)
    shown[10:150, 31:131] = 155
    shown[10:150, 61:101] = 55
    found = prepare(save(tmp_path / "a.png", shown), *GARMENT)
    assert box(found) == (0, 4, 28, 20)
    np.testing.assert_allclose(found[5, [5, 14], 0], [100 / 255, 200 / 255], atol=1e-6)
    found = prepare(save(tmp_path / "a.png", shown[:139]), *GARMENT)  # 129 x 100: 28 x 22
    assert box(found) == (0, 3, 28, 22)
    odd = np.zeros((41, 41), np.uint8)
    odd[5:33, 7:28] = 200
    found = prepare(save(tmp_path / "a.png", odd), *GARMENT)
    assert box(found) == (0, 4, 28, 21)  # of odd margins the larger is first, as in Fashion-MNIST


@pytest.mark.data
def test_fashion_mnists_own_come_out_as_they_are(tmp_path):
    exact = 0
    for image in data.load("fashion-mnist").test.images[:101]:
        found = prepare(save(tmp_path / "a.png", 255 - image[..., 0]), *GARMENT)
        exact += bool(np.abs(found - image / np.float32(255)).max() < 0.005)
    assert exact > 85


KINDS = {  # a file's ending -> the modes of Pillow that it can have here
    "png": ["1", "L", "P", "RGB", "LA", "RGBA", "I;16"],
    "jpg": ["L", "RGB", "CMYK"],
    "bmp": ["1", "L", "P", "RGB"],
    "gif": ["L", "P", "RGB"],
    "webp": ["RGB", "RGBA"],
    "tif": ["1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"],
    "pgm": ["L", "I;16"],
}


@pytest.mark.parametrize(
    ("end", "mode"), [(e, mode) for e, modes in KINDS.items() for mode in modes]
)
@pytest.mark.parametrize("dark", [False, True])
def test_every_kind_of_file_and_pixel_gives_the_same_image(tmp_path, end, mode, dark):
    drawn = blob(131, 97)
    expected = prepare(save(tmp_path / "plain.png", drawn), *DIGIT)
    shown, path = 255 - drawn if dark else drawn, tmp_path / f"a.{end}"
    if mode == "I;16":
        save(path, shown.astype(np.uint16) * 257)
    else:
        save(path, shown, mode)
    assert np.abs(prepare(path, *DIGIT) - expected).max() < (
        0.15 if end in ("jpg", "webp") else 1e-6
    )


def test_what_is_transparent_is_white(tmp_path):
    drawn = blob(131, 97)
    expected = prepare(save(tmp_path / "plain.png", 255 - drawn), *DIGIT)
    ink = np.zeros((131, 97, 4), np.uint8)
    ink[..., 3] = drawn
    np.testing.assert_allclose(
        prepare(save(tmp_path / "alpha.png", ink), *DIGIT), expected, atol=1e-6
    )
    palette = Image.fromarray((drawn > 0).astype(np.uint8), "P")
    palette.putpalette([7, 200, 3, 0, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    np.testing.assert_allclose(prepare(tmp_path / "palette.png", *DIGIT), expected, atol=1e-6)
    ink[..., :3] = 255
    with pytest.raises(PictureError, match=r"white\.png: empty, .* what is transparent counts as"):
        prepare(save(tmp_path / "white.png", ink), *DIGIT)


def test_a_picture_taken_sideways_is_put_upright(tmp_path):
    drawn = blob(131, 97)
    expected = prepare(save(tmp_path / "plain.png", drawn), *DIGIT)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = save(tmp_path / "turned.png", np.rot90(drawn).copy(), exif=exif)
    np.testing.assert_allclose(prepare(path, *DIGIT), expected, atol=1e-6)


RGBA, GREY, TURN = (11, 7, 4), (11, 7), 0x0112


def drawn(shape: tuple[int, ...], seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = alpha / 255
    return np.rint(colour * alpha[..., None] + 255 * (1 - alpha[..., None]))


def palette(greys: bool, transparent: int | None = None):
    """A picture of 16 colours, and what is seen of it."""
    numbers, colours = drawn(GREY) % 16, drawn((16, 3))
    colours = np.repeat(colours[:, :1], 3, 1) if greys else colours
    made = Image.fromarray(numbers).convert("P")
    made.putpalette(colours.tobytes())
    if transparent is not None:
        made.info["transparency"] = transparent
        colours[transparent] = 255
    return made, colours[numbers]


def saved(made, end: str = "png", **how):
    return lambda path: made.save(path.with_suffix(f".{end}"), **how)


def turned(made, tag: int, end: str = "png"):
    exif = Image.Exif()
    exif[TURN] = tag
    return saved(made, end, exif=exif)


def grey_16(transparent: int | None = None):
    """A PNG of 16-bit grey, where Pillow marks no colour as transparent; and what is seen."""
    values = drawn(GREY).astype(np.uint16) * 257 + drawn(GREY, 5) % 2
    seen = values // 257
    if transparent is not None:
        values[2:5] = transparent
        seen[2:5] = 255

    def save(path) -> None:
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", GREY[1], GREY[0], 16, 0, 0, 0, 0))]
        if transparent is not None:
            chunks.append((b"tRNS", struct.pack(">H", transparent)))
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        content = b"\x89PNG\r\n\x1a\n"
        for name, each in (*chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
            content += struct.pack(">I", len(each)) + name + each
            content += struct.pack(">I", zlib.crc32(name + each))
        path.with_suffix(".png").write_bytes(content)

    return save, seen


def kinds():
    """What a file may say of itself -> how to save one, and what is seen of it, [H, W] or RGB."""
    grey, rgba = drawn(GREY), drawn(RGBA)
    rgb, alpha, bits = rgba[..., :3].copy(), rgba[..., 3], grey > 127
    la = np.stack([grey, alpha], -1)
    plain, both = Image.fromarray(rgb), [Image.fromarray(drawn((11, 7, 3), n)) for n in (3, 4)]
    rows = {f"turned, {tag}": turned(plain, tag) for tag in range(1, 9)}
    straight = {1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.swapaxes(0, 1)}
    straight |= {6: np.rot90(rgb, -1), 7: np.rot90(rgb, 2).swapaxes(0, 1), 8: np.rot90(rgb)}
    told = {name: (save, straight[int(name[-1])]) for name, save in rows.items()}
    return {
        **told,
        "turned, TIFF": (turned(plain, 6, "tif"), straight[6]),
        "turned grey": (turned(Image.fromarray(grey), 8), np.rot90(grey)),
        "grey": (saved(Image.fromarray(grey)), grey),
        "1 bit": (saved(Image.fromarray(bits)), bits * 255),
        "1 bit, TIFF": (saved(Image.fromarray(bits), "tif"), bits * 255),
        "16 bits": grey_16(),
        "16 bits, 1000 transparent": grey_16(1000),
        "16 bits, TIFF": (
            saved(Image.fromarray(grey.astype(np.uint16) * 257), "tif"),
            grey,
        ),
        "16 bits, PGM": (saved(Image.fromarray(grey.astype(np.uint16) * 257), "pgm"), grey),
        "grey, 5 transparent": (
            saved(Image.fromarray(grey // 32), transparency=5),
            np.where(grey // 32 == 5, 255, grey // 32),
        ),
        "grey and alpha": (saved(Image.fromarray(la)), on_white(grey[..., None], alpha)[..., 0]),
        "colour": (saved(plain), rgb),
        "colour and alpha": (saved(Image.fromarray(rgba)), on_white(rgb, alpha)),
        "palette": (saved(palette(False)[0]), palette(False)[1]),
        "palette of greys": (saved(palette(True)[0]), palette(True)[1]),
        "palette, 3 transparent": (saved(palette(False, 3)[0]), palette(False, 3)[1]),
        "CMYK": (saved(plain.convert("CMYK"), "tif"), rgb),
        "animated GIF": (
            saved(palette(False)[0], "gif", save_all=True, append_images=both[1:]),
            palette(False)[1],
        ),
        "animated PNG": (saved(plain, save_all=True, append_images=both[1:]), rgb),
        "animated WebP": (
            saved(plain, "webp", save_all=True, append_images=both[1:], lossless=True),
            rgb,
        ),
        "pages": (saved(plain, "tif", save_all=True, append_images=both[1:]), rgb),
    }


@pytest.mark.parametrize("kind", kinds())
def test_training_and_predict_see_the_same_picture(kind, tmp_path):
    save, seen = kinds()[kind]
    save(tmp_path / "a")
    (path,) = tmp_path.iterdir()
    (trained,) = folder.read([path])
    assert trained.shape == (seen.shape if seen.ndim == 3 else (*seen.shape, 1))
    assert np.abs(trained - seen.reshape(trained.shape)).max() <= ("alpha" in kind)
    found = prepare(path, trained.shape, "whole")
    np.testing.assert_array_equal(found, trained / np.float32(255))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Image.fromarray(drawn(GREY)).convert("F"), "its pixels are F; expected grey or colour"),
        (Image.fromarray(drawn(GREY).astype(np.int32) * 300), "go from .* expected grey of 8 or"),
        (Image.fromarray(-drawn(GREY).astype(np.int16)), "go from -.* scale them first"),
        (Image.fromarray(drawn((11, 7, 3)), "LAB"), "its pixels are LAB; expected grey or colour"),
    ],
)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_training_and_predict_refuse_the_same_picture(made, message, tmp_path):
    made.save(tmp_path / "a.tif")
    said = set()
    for read in (
        lambda path: folder.read([path]),
        lambda path: prepare(path, (11, 7, 1), "whole"),
    ):
        with pytest.raises(PictureError, match=message) as caught:
            read(tmp_path / "a.tif")
        said.add(str(caught.value))
    assert len(said) == 1


def test_a_picture_larger_than_is_looked_at_is_whole_for_a_network_of_its_size(tmp_path):
    shown = drawn((1031, 2, 3))
    path = save(tmp_path / "a.png", shown)
    np.testing.assert_array_equal(
        prepare(path, shown.shape, "whole"), folder.read([path])[0] / np.float32(255)
    )


def test_another_size_gets_the_middle_of_the_picture_in_its_channels(tmp_path):
    shown = np.zeros((53, 211, 3), np.uint8)
    shown[:, 70:141] = (255, 51, 0)
    path = save(tmp_path / "a.png", shown)
    colour = prepare(path, (11, 11, 3), "whole")
    assert (colour.shape, colour.dtype) == ((11, 11, 3), np.float32)
    np.testing.assert_allclose(colour, np.broadcast_to([1, 0.2, 0], (11, 11, 3)), atol=1e-6)
    grey = prepare(path, (7, 5, 1), "whole")
    assert grey.shape == (7, 5, 1)
    np.testing.assert_allclose(grey, 0.299 + 0.587 * 0.2, atol=0.003)
    ramp = np.tile(np.linspace(0, 255, 66, dtype=np.uint8), (44, 1))
    found = prepare(save(tmp_path / "a.png", ramp), (2, 3, 1), "whole")
    np.testing.assert_allclose(found[0, :, 0], [1 / 6, 1 / 2, 5 / 6], atol=0.03)


def header_of(width: int, height: int) -> bytes:
    """A PNG that says it is that large and holds nothing."""
    chunks = b""
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    for name, content in ((b"IHDR", ihdr), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(content)) + name + content
        chunks += struct.pack(">I", zlib.crc32(name + content))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 9_500), (60_000, 60_000)])
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, size, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(header_of(*size))
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(PictureError, match=r"a\.png: too large .* limit is 64,000,000 pixels"):
        prepare(path, *DIGIT)


def test_what_is_no_whole_picture_is_refused(tmp_path):
    path = save(tmp_path / "a.png", blob(131, 97))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:60], whole[:-30], header_of(97, 131)):
        path.write_bytes(content)
        with pytest.raises(PictureError, match=r"a\.png: not a whole picture \(.* one of PNG, "):
            prepare(path, *DIGIT)
    for other in ("a.eps", "a.pdf"):  # Pillow would have to run a program to read the first
        with pytest.raises(PictureError, match="not a whole picture"):
            prepare(save(tmp_path / other, blob(131, 97)), *DIGIT)
    for missing in (tmp_path / "nowhere.png", tmp_path):
        with pytest.raises(PictureError, match=r": no such file; expected a picture"):
            prepare(missing, *DIGIT)
    with pytest.raises(PictureError, match=r"f\.tif: its pixels are F; expected grey or colour"):
        prepare(save(tmp_path / "f.tif", np.ones((7, 5), np.float32)), *DIGIT)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_picture_is_refused(tmp_path, level):
    shown = np.full((37, 41), level, np.uint8)
    shown[10:20, 10:20] += 1 if level == 0 else 255  # so faint that nobody could see it
    for fit in ("digit", "garment"):
        with pytest.raises(PictureError, match=r"a\.png: empty, nothing in it stands out"):
            prepare(save(tmp_path / "a.png", shown), (28, 28, 1), fit)


def test_an_image_that_cannot_be_made_is_told_of(tmp_path):
    path = save(tmp_path / "a.png", blob(131, 97))
    for image, fit, says in (
        ((32, 32, 2), "whole", r"a\.png: the network takes images of 2 channels"),
        ((28, 28, 3), "digit", r"images of 3 channels, for which --fit digit makes none"),
        ((19, 28, 1), "digit", r"images of 19x28, --fit digit needs 20x20; use --fit whole"),
        ((31, 23, 1), "digits", r"images of 31x23, --fit digits needs 24x24; use --fit whole"),
        ((28, 28, 1), "round", r"fit 'round' is unknown; expected one of digit, digits, garment"),
    ):
        with pytest.raises(PictureError, match=says):
            prepare(path, image, fit)


def test_without_pillow_it_says_so(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", blob(131, 97))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(PictureError, match=r"needs Pillow; pip install 'twincaps\[data\]'"):
        prepare(path, *DIGIT)
