"""The order in which two arrays hold the same numbers: axes permuted, merged and split.

A layout is found from the numbers themselves. The places of equal numbers give a map from the flat
index of one array to that of the other; where it is a layout, it moves by one stride along a run of
indices, carries into the next, and so on: the digits of a number whose base changes with its place.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

HUGE = 1e30
ENOUGH = 16  # distinct values, from which the same values in any order are no accident


@dataclass(frozen=True)
class Layout:
    """Left array -> right array: reshape to `split`, transpose by `order`, reshape.

    Both are as short as they can be, so that equal layouts are equal objects.
    """

    split: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def plain(self) -> bool:
        """Whether the numbers stand in the same order."""
        return len(self.order) <= 1

    def arrange(self, left: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """The left array's numbers as the right one holds them."""
        if self.plain:
            return left.reshape(shape)
        return left.reshape(self.split).transpose(self.order).reshape(shape)

    def back(self, right: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """The right array's numbers as the left one holds them."""
        if self.plain:
            return right.reshape(shape)
        sizes = [self.split[axis] for axis in self.order]
        inverse = np.argsort(self.order)
        return right.reshape(sizes).transpose(inverse).reshape(shape)

    def axes(self, left: Sequence[int], right: Sequence[int]) -> tuple[int, ...] | None:
        """The permutation of whole axes that this layout is between two shapes, None without."""
        if len(left) != len(right) or len(left) > 6:
            return None
        for order in itertools.permutations(range(len(left))):
            fits = tuple(left[axis] for axis in order) == tuple(right)
            if fits and of_axes(left, order) == self:
                return order
        return None

    def said(self, left: Sequence[int], right: Sequence[int]) -> str:
        """In words, for a report."""
        if self.plain:
            return "" if tuple(left) == tuple(right) else f"reshaped to {list(right)}"
        if (order := self.axes(left, right)) is not None:
            return f"axes {list(order)}"
        return f"as {list(self.split)}, axes {list(self.order)}"


SAME = Layout((), ())


def of_axes(shape: Sequence[int], order: Sequence[int]) -> Layout:
    """The layout that permutes whole axes."""
    return shortest(shape, order)


def shortest(split: Sequence[int], order: Sequence[int]) -> Layout:
    """The same layout without axes of one, with axes merged that stay side by side."""
    order = [axis for axis in order if split[axis] != 1]
    runs: list[list[int]] = []
    kept = [axis for axis in range(len(split)) if split[axis] != 1]
    after = dict(itertools.pairwise(kept))
    for axis in order:
        if runs and after.get(runs[-1][-1]) == axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(runs) <= 1:
        return SAME
    first = sorted(range(len(runs)), key=lambda n: runs[n][0])
    sizes = tuple(math.prod(split[axis] for axis in runs[n]) for n in first)
    return Layout(sizes, tuple(first.index(n) for n in range(len(runs))))


def flat(array: np.ndarray) -> np.ndarray:
    """Its numbers in float64, NaN and infinities as numbers that nothing else is."""
    x = array.reshape(-1).astype(np.float64)
    odd = ~(np.abs(x) < HUGE)
    if odd.any():
        x = x.copy()
        x[odd] = np.where(np.isnan(x[odd]), 3 * HUGE, np.sign(x[odd]) * 2 * HUGE)
    return x


def close(a: np.ndarray, b: np.ndarray, slack: float) -> bool:
    """Whether two flat arrays are nowhere further apart than `slack`."""
    return bool((np.abs(a - b) <= slack).all())


def between(
    left: np.ndarray,
    right: np.ndarray,
    slack: float,
    guesses: Sequence[Layout] = (),
    more: Iterable[Layout] = (),
) -> Layout | bool | None:
    """The layout under which two arrays of one size are equal.

    Args:
        left: An array.
        right: Another, with as many numbers.
        slack: How far two numbers may be apart that count as equal.
        guesses: Layouts to try before one is looked for.
        more: Layouts to try where too many numbers are equal to find one.

    Returns:
        A layout; True where the numbers are equal in an order that is no layout; or None.
    """
    x, y = flat(left), flat(right)
    if close(x, y, slack):
        return SAME
    for guess in guesses:
        if close(guess.arrange(x, -1), y, slack):  # pyright: ignore
            return guess
    i, j = np.argsort(x, kind="stable"), np.argsort(y, kind="stable")
    # Sorting moves no number further than the two orders are apart: this is exact.
    if not close(x[i], y[j], slack):
        return None
    layout = _digits(i, j, x[i], y[j], slack)
    if layout is not None and close(layout.arrange(x, -1), y, slack):  # pyright: ignore
        return layout
    for found in itertools.chain(more, _enumerated(left.shape, right.shape)):
        if close(found.arrange(x, -1), y, slack):  # pyright: ignore
            return found
    return True if len(np.unique(x[:: max(1, x.size // 4096)])) >= ENOUGH else None


def _digits(
    i: np.ndarray, j: np.ndarray, x: np.ndarray, y: np.ndarray, slack: float
) -> Layout | None:
    """The layout that the places of lone numbers follow, None where they follow none."""
    gap = np.minimum(np.diff(x), np.diff(y)) > 4 * slack
    lone = np.r_[True, gap] & np.r_[gap, True]
    source, place = i[lone], j[lone]
    order = np.argsort(source)
    source, place, rest = source[order], place[order], i.size
    sizes, strides = [], []
    while rest > 1:
        digit = _digit(source, place, rest)
        if digit is None:
            return None
        size, stride = digit
        sizes.append(size)
        strides.append(stride)
        # Each block of `size` numbers becomes one, at the place of its first.
        place = place - (source % size) * stride
        source, first = np.unique(source // size, return_index=True)
        place, rest = place[first], rest // size
    sizes, strides = sizes[::-1], strides[::-1]
    order = sorted(range(len(sizes)), key=lambda n: -strides[n])
    return shortest(sizes, order)


def _digit(source: np.ndarray, place: np.ndarray, rest: int) -> tuple[int, int] | None:
    """Size and stride of the last digit: the step between neighbours, and where it carries."""
    near = np.flatnonzero(np.diff(source) == 1)
    if not near.size:
        return None
    steps, next_ones = place[near + 1] - place[near], source[near + 1]
    values, counts = np.unique(steps, return_counts=True)
    for stride in values[np.argsort(-counts)][:3]:
        carries = next_ones[steps != stride]
        size = math.gcd(rest, functools.reduce(math.gcd, (int(n) for n in carries), 0))
        if stride > 0 and size > 1:
            return size, int(stride)
    return None


def _enumerated(left: Sequence[int], right: Sequence[int]) -> Iterator[Layout]:
    """Permutations of the axes of either shape: for numbers of which too many are equal."""
    done = set()
    for shape, inverse in ((left, False), (right, True)):
        if not 2 <= len(shape) <= 5:
            continue
        for order in itertools.permutations(range(len(shape))):
            if inverse:
                sizes = [shape[axis] for axis in order]
                layout = shortest(sizes, [int(n) for n in np.argsort(order)])
            else:
                layout = shortest(shape, order)
            if layout not in done:
                done.add(layout)
                yield layout
