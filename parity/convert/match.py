"""Matches the tensors of a file with canonical ones, by their names alone."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from parity.convert.layouts import LAYOUTS, Layout


@dataclass(frozen=True)
class Match:
    """What a layout finds among the names of a file.

    Attributes:
        sources: Canonical name -> the tensors that make it, in order.
        axes: Canonical name -> their axes, in the layout's order.
        stacked: Canonical names whose tensors are stacked along a first axis.
        unexpected: Names that are no part of the layout.
        zero: Names whose tensors must be all 0.
    """

    sources: dict[str, list[str]]
    axes: dict[str, str]
    stacked: set[str]
    unexpected: list[str]
    zero: list[str]


def match(layout: Layout, names: Iterable[str]) -> Match:
    """Finds each canonical tensor of a layout among `names`."""
    split = (each for name in names for each in layout.joined.get(name, (name,)))
    left = [name for name in split if not re.fullmatch(layout.ignored, name)]
    zero = [
        name for name in left if any(_regex(template).fullmatch(name) for template in layout.zero)
    ]
    result = Match({}, {}, set(), [], zero)
    for canonical, (template, axes) in layout.tensors.items():
        pattern = _regex(template)
        hits = sorted((_number(hit), name) for name in left if (hit := pattern.fullmatch(name)))
        if "{n}" in canonical:
            groups = {canonical.replace("{n}", str(n)): [name] for n, (_, name) in enumerate(hits)}
        elif place := re.search(r"\{(\d+)\}", template):
            groups = {canonical: [name for _, name in hits[int(place[1]) :][:1]]}
        elif pattern.groups:
            groups = {canonical: [name for n, (number, name) in enumerate(hits) if n == number]}
            result.stacked.add(canonical)
        else:
            groups = {canonical: [name for _, name in hits[:1]]}
        filled = {name: group for name, group in groups.items() if group}
        result.sources.update(filled)
        result.axes.update(dict.fromkeys(filled, axes))
    used = {name for group in result.sources.values() for name in group}.union(zero)
    result.unexpected.extend(name for name in left if name not in used)
    return result


def matching(names: Iterable[str]) -> list[str]:
    """The layouts of the table that use all of these names, whatever the shapes."""
    names = list(names)
    matches = {name: match(layout, names) for name, layout in LAYOUTS.items()}
    needed = {"primary.kernel", "cell.0.caps.0.kernel", "digit.kernel", "capsule.0.kernel"}
    return [
        name
        for name, m in matches.items()
        if not m.unexpected and needed & LAYOUTS[name].tensors.keys() <= m.sources.keys()
    ]


def _regex(template: str) -> re.Pattern[str]:
    """`{n}` and `#` are a number or nothing, `[...]` may be missing, all else is itself."""
    parts = re.findall(r"\[(.*?)\]|\{(.*?)\}|([^\[{]+)", template)
    return re.compile(
        "".join(
            f"(?:{re.escape(maybe)})?"
            if maybe
            else r"(\d*)"
            if number
            else re.escape(text).replace(r"\#", r"\d*")
            for maybe, number, text in parts
        )
    )


def _number(hit: re.Match[str]) -> int:
    return int(hit[1]) if hit.re.groups and hit[1] else -1
