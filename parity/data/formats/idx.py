"""IDX, the format of MNIST: two zero bytes, type, number of axes, sizes, data.

All big-endian; of the types MNIST has one, unsigned bytes. Source:
http://yann.lecun.com/exdb/mnist, "the IDX file format".
"""

import struct

import numpy as np

BYTES = 0x08  # the type of unsigned bytes


def parse(content: bytes) -> np.ndarray:
    """The array in the content of a file that is known to be whole, by its MD5; read-only."""
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def dump(array: np.ndarray) -> bytes:
    """The content of a file of unsigned bytes; of other numbers it is not whole."""
    sizes = struct.pack(f">HBB{array.ndim}I", 0, BYTES, array.ndim, *array.shape)
    return sizes + array.tobytes()
