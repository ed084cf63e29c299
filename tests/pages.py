"""Tables that a tool writes into a page of the documentation, between two marks of its own."""

from collections.abc import Sequence
from pathlib import Path


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def fill(path: str | Path, mark: str, text: str) -> None:
    """Puts `text` between `<!-- MARK -->` and `<!-- end MARK -->`; ValueError without these."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end {mark} -->"
    page = Path(path).read_text()
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"{path}: expected one {begin.strip()} and one {end}")
    head, rest = page.split(begin)
    Path(path).write_text(f"{head}{begin}{text.rstrip()}\n{end}{rest.split(end)[1]}")
