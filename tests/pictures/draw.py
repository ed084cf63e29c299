"""Draws the three digits beside it: python tests/pictures/draw.py

Each is a few strokes through points noted by hand, on a canvas of its own size, with its own pen.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
Point = tuple[float, float]

# name -> (width, height), colours of paper and ink, width of the pen, strokes
DIGITS = {
    "three": (  # a felt pen on white, flat on top, low in the picture
        (331, 467), "#fdfcf7", "#1b2c6b", 19,
        [[(108, 161), (160, 157), (221, 155), (188, 196), (151, 242), (205, 258), (236, 305),
          (221, 368), (158, 398), (101, 375)]],
    ),
    "four": (  # chalk on a board, open above, to the right
        (640, 360), "#20362c", "#efe9c9", 15,
        [[(430, 62), (412, 118), (393, 184), (452, 190), (540, 186)],
         [(502, 70), (497, 160), (489, 240), (485, 309)]],
    ),
    "nine": (  # a brush on nothing at all, small, with a straight back
        (89, 113), (0, 0, 0, 0), (150, 24, 32, 255), 9,
        [[(62, 30), (45, 22), (29, 36), (33, 54), (51, 53), (62, 32), (62, 58), (60, 92)]],
    ),
}  # fmt: skip


def curve(points: list[Point], pieces: int = 200) -> np.ndarray:
    """A smooth line of places [N, 2] through all points (Catmull and Rom's spline)."""
    p = np.array([points[0], *points, points[-1]], float)
    t = np.linspace(0, 1, pieces)[:, None]
    found = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2)
        + 0.5 * (3 * b - a - 3 * c + d) * t**3
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate(found)


def draw(size: tuple[int, int], paper, ink, pen: int, strokes: list[list[Point]]) -> Image.Image:
    """The strokes at four times their size, then averaged down."""
    mode = "RGB" if isinstance(paper, str) else "RGBA"
    large = Image.new(mode, (4 * size[0], 4 * size[1]), paper)
    brush, radius = ImageDraw.Draw(large), 2 * pen
    for stroke in strokes:
        for x, y in 4 * curve(stroke):
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    return large.resize(size, Image.Resampling.BOX)


if __name__ == "__main__":
    for name, drawing in DIGITS.items():
        draw(*drawing).save(HERE / f"{name}.png", optimize=True)
