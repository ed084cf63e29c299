"""The table of layouts: how public capsule networks name and order weights.

Axes: kh kw in out of a kernel, n-th layer; type, k of primary capsules on a grid h w; i = all of
these input capsules, or the types of a window's place; j d output capsules; t k and u v, types and
size of what a cell's convolution reads and makes; p q rows and columns of a matrix; H W C image.
`{n}`, `{k}` and `{type}` in a name stand for numbers, `#` for one that is passed over, `{0}` for
the first in the order of their numbers, `[...]` for what may be missing; "1" is an axis of size 1.

Learnt from the published code of each (names and shapes alone); `python -m parity convert
--layout NAME` names a row, and rows of your own are `Layout`s given to `parity.convert.convert`.
"""

from parity.convert.layouts import sabour2017, since
from parity.convert.layouts.layout import Layout as Layout
from parity.convert.layouts.layout import native as native

LAYOUTS = sabour2017.LAYOUTS | since.LAYOUTS
