"""The page of a card: what `gpu.py` measured, as Markdown."""

from collections.abc import Iterable, Iterator
from typing import Any


def page(card: str, networks: dict[str, Any], seconds: float) -> str:
    """The whole page."""
    lines = [
        f"# {card}",
        "",
        f"Written by `make gpu`, the last time in {seconds / 60:.0f} minutes. Rung 8 of the ladder",
        "(parity.md) is with strict numerics; the rest is information. A difference is",
        "max|a - b| / max(max|a|, max|b|) of a tensor.",
        "",
        *_environment(next(iter(networks.values()))["ladder"]["environment"]),
    ]
    for name, measured in networks.items():
        holds = "holds" if measured["ladder"]["holds"] else "**does not hold**"
        lines += ["", f"## {name}: rung 8 {holds}", "", *_ladder(measured["ladder"]["rows"])]
        if "reduced" not in measured:
            continue  # rung 8 alone
        lines += ["", "### Reduced precision", "", *_reduced(measured["reduced"])]
        lines += ["", "### The same computation twice, float32", "", *_reduced(measured["noise"])]
        lines += ["", f"### Images a second, batch {measured['batch']}", ""]
        lines += _speeds(measured["images a second"])
    return "\n".join(lines) + "\n"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(heads)
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _environment(environment: dict[str, Any]) -> Iterator[str]:
    for name, told in environment.items():
        versions = ", ".join(f"{key} {each}" for key, each in told["versions"].items())
        others = {k: v for k, v in told.items() if k not in ("versions", "framework")}
        yield f"- {name}: {versions}; " + ", ".join(f"{k} {v}" for k, v in others.items())


def _number(difference: float | None) -> str:
    return "infinite" if difference is None else f"{difference:.1e}"


def _ladder(rows: list[dict[str, Any]]) -> Iterator[str]:
    heads = "precision", "what", "worst tensor", "difference", "tolerance", "verdict"
    return _table(heads, map(_cells, rows))


def _cells(row: dict[str, Any]) -> list[str]:
    told = [row[name] for name in ("precision", "what", "worst")]
    verdict = f"{row['verdict']} {row['why']}".strip()
    return [*told, _number(row["difference"]), f"{row['tolerance']:g}", verdict]


def _reduced(found: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name, pairs in found.items():
        for pair, kinds in pairs.items():
            told = [f"{_number(k['difference'])} {k['tensor']}".strip() for k in kinds.values()]
            rows.append([name, pair, *told, *[""] * (2 - len(told))])
    return _table(("", "", "forward, or the end of the steps", "gradients"), rows)


def _speeds(found: dict[str, Any]) -> Iterator[str]:
    wings = list(dict.fromkeys(wing for each in found.values() for wing in each))
    rows = ([name, *(str(each.get(wing, "")) for wing in wings)] for name, each in found.items())
    return _table(("", *wings), rows)
