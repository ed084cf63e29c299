"""Weights: each tensor's name, axes and shape; first draw; optimiser's slots; the file."""

from parity.weights._draw import draw, generator
from parity.weights._slots import AVERAGE, SLOTS, averages, first_slots, kinds, slots
from parity.weights._table import FLOATS, Arrays, Tensor, WeightsError, check, table, transpose
from parity.weights.files import (
    ENDS,
    FORMAT,
    SCHEMA,
    digest,
    load,
    load_arrays,
    load_pretrained,
    pretrained_names,
    read_arrays,
    save,
    save_arrays,
    trained_on,
    verify,
    write_whole,
)

__all__ = [
    "AVERAGE",
    "ENDS",
    "FLOATS",
    "FORMAT",
    "SCHEMA",
    "SLOTS",
    "Arrays",
    "Tensor",
    "WeightsError",
    "averages",
    "check",
    "digest",
    "draw",
    "first_slots",
    "generator",
    "kinds",
    "load",
    "load_arrays",
    "load_pretrained",
    "pretrained_names",
    "read_arrays",
    "save",
    "save_arrays",
    "slots",
    "table",
    "trained_on",
    "transpose",
    "verify",
    "write_whole",
]
