"""The examples of docs/diff.md are run, and print what the page says."""

import re
import sys

import pytest
import wings

from parity.__main__ import main

PAGE = wings.ROOT / "docs" / "diff.md"
BLOCKS = re.findall(r"```(python|text)\n(.*?)```", PAGE.read_text(), re.S)
BACKWARD = {"routing.py"}


def examples():
    """Name of each file of the page -> what is printed of it."""
    name, found = "", {}
    for kind, text in BLOCKS:
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", text).group(1)
        else:
            found[name] = [line.strip() for line in text.splitlines()]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("page")
    for kind, text in BLOCKS:
        if kind == "python":
            (path / re.match(r"# (\w+\.py)\n", text).group(1)).write_text(text)
    yield path
    for name in ("cnn", "cnn2", "cnn3", "cnn4"):
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", examples())
def test_an_example_prints_what_the_page_says(folder, name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    options = ["--backward"] if name in BACKWARD else []
    code = main(["diff", str(folder / name), *options])
    said = capsys.readouterr().out
    lines = examples()[name]
    assert code == (0 if lines[0].startswith("equal") else 1)
    assert [line for line in lines if line not in said] == []
