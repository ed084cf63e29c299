"""Names of classes, files and tensors that are markup, mathematics, codes or no letters at all."""

import os
import subprocess
import sys

import matplotlib.text
import numpy as np
import pytest
from wings import ROOT

from parity import __main__ as door
from parity.figures import command, confusion, curves, style
from parity.predict import verb
from parity.spec import printable

CAT = "\N{CJK UNIFIED IDEOGRAPH-732B}"
# A class's name, and how a terminal and a figure show it.
NAMES = {
    "[other]": ("[other]", "[other]"),
    "cat [bold]tabby[/bold]": ("cat [bold]tabby[/bold]", "cat [bold]tabby[/bold]"),
    "[/red]": ("[/red]", "[/red]"),
    ":cat:": (":cat:", ":cat:"),
    "$x_1$ of $y": ("$x_1$ of $y", "$x_1$ of $y"),
    "$\\frac$": ("$\\frac$", "$\\frac$"),
    "two\nlines": ("two\\nlines", "two\\nlines"),
    "\x1b[31mred": ("\\x1b[31mred", "\\x1b[31mred"),
    "_hidden": ("_hidden", "_hidden"),
    CAT: (CAT, "\\u732b"),
    os.fsdecode(b"caf\xe9"): ("caf\\udce9", "caf\\udce9"),
}


def test_a_table_of_answers_shows_every_name_as_it_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    count = len(NAMES)
    for label in range(count):
        pose = np.eye(count, dtype=np.float32)[label][:, None]
        seen = verb.Prediction(np.zeros((2, 2, 1), np.float32), {"torch": pose}, None)
        verb._show("[b]a.png", seen, {}, tuple(NAMES))
        first, *table = capsys.readouterr().out.splitlines()
        terminal = [shown for shown, _ in NAMES.values()]
        assert first == f"[b]a.png: {terminal[label]}"
        cells = [line.split("\N{BOX DRAWINGS LIGHT VERTICAL}")[1].strip() for line in table[3:-1]]
        assert cells == terminal


def texts(figure) -> list[str]:
    return [each.get_text() for each in figure.findobj(matplotlib.text.Text)]


def test_figures_show_every_name_without_mathematics_and_missing_glyphs(tmp_path):
    names = [style.legible(each) for each in NAMES]
    assert names == [shown for _, shown in NAMES.values()]
    count = len(names)
    counts = np.full((count, count), 3)
    mistakes = np.zeros((16, 7, 5, 1), np.float32)
    captions = [f"{style.change(each, each)}\n0.1 / 0.2" for each in (names * 2)[:16]]
    note = f"run {CAT}$\\frac$:\nof [b]"
    figure = confusion.draw(counts, 99, mistakes, captions, names, note)
    style.save(figure, tmp_path, "confusion")  # draws: mathematics that is none would raise here
    shown = texts(figure)
    assert "run \\u732b$\\frac$:\nof [b]" in shown
    assert {style.short(each, confusion.LONGEST) for each in names} <= set(shown)
    mathematics = [
        each.get_text()
        for each in figure.findobj(matplotlib.text.Text)
        if each.get_parse_math() and "$" in each.get_text()
    ]
    assert mathematics == []


def test_a_legend_shows_runs_of_any_name(tmp_path, monkeypatch):
    lines = [
        {"event": "train", "step": n, "loss": 0.5, "accuracy": 0.5, "learning_rate": 0.1}
        for n in range(1, 5)
    ]
    figure = curves.draw_both({"$\\frac$, torch": lines, "./_b, jax": lines}, "note")
    style.save(figure, tmp_path, "curves")
    assert {"$\\frac$, torch", "./_b, jax"} <= set(texts(figure))

    class Opened:
        def __init__(self, name):
            self.path, self.options = tmp_path / name, type("", (), {"backend": "torch"})

        def metrics(self):
            return lines

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    drawn = []
    monkeypatch.setattr(command.Run, "open", lambda name, **_: Opened(name))
    monkeypatch.setattr(command, "_note", lambda run: "note")
    monkeypatch.setattr(command.style, "save", lambda figure, *_: drawn.append(figure))
    command._overlay(Opened("_a"), CAT, tmp_path)  # pyright: ignore[reportArgumentType]
    assert {"./_a, torch", "\\u732b, torch"} <= set(texts(drawn[0]))


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_no_terminal_ends_a_verb(encoding, tmp_path):
    """Whatever letters it lacks, in what is printed and in errors."""
    file = tmp_path / f"{CAT}.npz"
    np.savez(file, **{each.replace("/", "|"): np.ones(3) for each in NAMES if "\udce9" not in each})
    command = [sys.executable, "-m", "parity", "inspect"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}

    def run(path) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, path], cwd=ROOT, env=environment, capture_output=True, check=False
        )

    told = run(file)
    assert told.returncode == 0, told.stderr
    said = told.stdout.decode(encoding)
    shown = CAT if encoding == "utf-8" else "\\u732b"
    for each in (f"{shown}.npz", f" {shown} ", "$x_1$ of $y", "\\x1b[31mred", "two\\nlines"):
        assert each in said
    assert "\x1b" not in said


def test_errors_show_names_without_a_terminals_codes(tmp_path, capsys):
    np.savez(tmp_path / "w.npz", **{"\x1b[2Jcleared": np.ones(2), "other": np.ones(2)})
    dst = str(tmp_path / "w.safetensors")
    argv = ["convert", str(tmp_path / "w.npz"), dst, "--preset", "small"]
    assert door.main(argv) == 2
    said = capsys.readouterr().err
    assert "\n  \\x1b[2Jcleared (2,)\n" in said
    odd = os.fsdecode(b"no\xffthing.pt")
    assert door.main(["inspect", odd]) == 2
    assert "error: no\\udcffthing.pt: no such file" in capsys.readouterr().err
    assert printable("a\tb\u200b") == "a\\tb\\u200b"
