"""The README and the documentation: Python blocks run, and commands are what the parsers take.

A page is read by sybil, so that a failure names its line. What needs files or hours that a test has
not is still compiled, and what it imports must be there. docs/diff.md has a test of its own.
"""

import ast
import functools
import importlib
import re
import shlex
import shutil
import subprocess

import pytest
from sybil import Document
from sybil.parsers.markdown import CodeBlockParser
from wings import ROOT

import parity.__main__ as door
from parity import reference
from parity.cli import train

PAGES = ["README.md", "CONTRIBUTING.md", "docs/*.md", "parity/saved/pretrained/*.md"]
# Begins of blocks that cannot run here, by page: they need runs of hours, or data sets.
NEED_MORE = {
    "docs/results.md": "import dataclasses",
    **{str(path.relative_to(ROOT)): "from parity import saved" for path in ROOT.glob(PAGES[-1])},
}
# Commands of others that a page may show.
OTHERS = {"pip", "cd", "mkdir", ".", "git", "export", "tensorboard"}


def pages() -> list[str]:
    """The pages, as paths from the root."""
    found = (path for each in PAGES for path in sorted(ROOT.glob(each)))
    return [str(path.relative_to(ROOT)) for path in found]


def blocks(page: str, language: str) -> list[tuple[int, str]]:
    """Line and text of each block of a language."""
    parser = CodeBlockParser(language=language, evaluator=lambda _: None)
    return [(each.line, each.parsed) for each in Document.parse(str(ROOT / page), parser)]


def python_blocks():
    for page in pages():
        for line, text in [] if page == "docs/diff.md" else blocks(page, "python"):
            runs = not text.startswith(NEED_MORE.get(page, "never"))
            slow = [pytest.mark.slow] * runs
            yield pytest.param(page, line, text, runs, id=f"{page}:{line}", marks=slow)


def commands():
    for page in pages():
        indented = enumerate((ROOT / page).read_text().splitlines(), 1)
        starts = re.compile(r"    (python -m parity|python train.py|twincaps|torchrun|srun) ")
        lines = [(n, each.strip()) for n, each in indented if starts.match(each)]
        for first, text in blocks(page, "sh"):
            whole = text.replace("\\\n", " ").splitlines()
            lines += [
                (first + n, each) for n, each in enumerate(whole, 1) if each.split("#")[0].strip()
            ]
        for line, text in lines:
            yield pytest.param(text, id=f"{page}:{line}")


@pytest.mark.parametrize(("page", "line", "text", "runs"), [*python_blocks()])
def test_a_python_block_runs(page, line, text, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "import onnxruntime" in text:
        pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    if page == "docs/export.md":  # its blocks read what its commands write
        for end in re.findall(r'"small(\.\w+)"', text):
            assert door.main(["export", "small-mnist", f"small{end}"]) == 0
    tree = ast.parse(text, f"{page}:{line}")
    if not runs:
        tree.body = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
    names = {"__name__": "page", "function": reference.routing.dynamic}
    exec(compile(tree, f"{page}:{line}", "exec"), names)


@pytest.fixture
def parsers(monkeypatch):
    """Every verb takes its arguments and does nothing."""
    monkeypatch.setattr(train, "_train", lambda *_: None)
    monkeypatch.setattr(train, "_train_together", lambda *_: None)
    for verb, (module, function, _) in door.VERBS.items():
        if verb != "train":
            loaded = importlib.import_module(module)

            @functools.wraps(getattr(loaded, function))
            def parsed(*_, **__):
                return 0

            monkeypatch.setattr(loaded, function, parsed)


def parse(command: str) -> None:
    """Gives one command to the parser that it is for; fails where that refuses it."""
    command = re.sub(r"\[--[^]]*\]", "", command.split(" > ")[0])
    words = [each for each in shlex.split(command, comments=True) if each not in (r"\ ", "...")]
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if "train.py" in words:
        words = ["twincaps", "train", *words[words.index("train.py") + 1 :]]
    if words[:3] == ["python", "-m", "parity"]:
        words = ["twincaps", *words[3:]]
    if words[0] == "twincaps":
        assert door.main(words[1:]) == 0, command
    elif words[0] == "make":
        if shutil.which("make"):
            subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    else:
        assert words[0] in OTHERS, f"{command}: neither ours nor among {sorted(OTHERS)}"


@pytest.mark.parametrize("text", [*commands()])
@pytest.mark.usefixtures("parsers")
def test_a_command_is_one_that_its_parser_takes(text):
    for command in text.split(" && "):
        parse(command)


@pytest.mark.parametrize(
    "text",
    ["python -m parity nosuch", "python -m parity check --fast", "python train.py --learning 1"],
)
@pytest.mark.usefixtures("parsers")
def test_a_command_that_is_none_is_seen(text):
    with pytest.raises((AssertionError, SystemExit)):
        parse(text)
