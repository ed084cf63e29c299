"""Evaluations: what they say and how they came to it, over shifts and with averaged weights too."""

import dataclasses
import json
from pathlib import Path

import fakes
import numpy as np
import pytest
from test_cli import told, train, wing  # noqa: F401 (a fixture that every test here uses)

import parity.__main__ as door
from parity import data, weights
from parity.cli import evaluate
from parity.data.sets import mnist_mini
from parity.loop import scoring
from parity.runs import Run


def test_evaluate_says_accuracy_count_and_interval(capsys):
    assert train("--epochs", 1, "--out", "r") == 0
    with Run.open("r") as run:
        accuracy = run.metrics()[-1]["accuracy"]
    capsys.readouterr()
    assert door.main(["evaluate", "r"]) == 0
    right = round(1000 * accuracy)
    low, high = evaluate.interval(right, 1000)
    assert capsys.readouterr().out == (
        f"test accuracy {accuracy:.4f} ({right} of 1,000 images of mnist-mini, torch), "
        f"95 % interval {low:.4f} to {high:.4f} (Wilson)\n"
    )
    file = "r/checkpoints/step-00000156/weights.safetensors"
    assert door.main(["evaluate", file, "--backend", "jax", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["backend"], found["dataset"]) == (file, "jax", "mnist-mini")
    assert (found["accuracy"], found["correct"], found["count"]) == (accuracy, right, 1000)
    assert (found["interval"], found["interval_kind"]) == ([low, high], "Wilson, 95 %")
    assert (found["ema"], found["shifts"]) == (False, 0)


def test_evaluate_of_averages_and_over_shifts_says_so(capsys, monkeypatch):
    recipe = {"epochs": 1, "batch_size": 100, "ema": 0.9}
    changed = dataclasses.replace(mnist_mini.DATASET, recipe=recipe)
    monkeypatch.setattr(mnist_mini, "DATASET", changed)
    assert train("--out", "r") == 0
    with Run.open("r") as run:
        measured = run.metrics()[-1]
    assert measured["accuracy"] != measured["ema_accuracy"]
    capsys.readouterr()
    checkpoint = "r/checkpoints/step-00000050"
    for path in ("r", checkpoint):
        assert door.main(["evaluate", path, "--ema"]) == 0
        said = capsys.readouterr().out
        assert f"test accuracy {measured['ema_accuracy']:.4f} (" in said
        assert "of mnist-mini, torch, averaged weights), 95 %" in said
    assert door.main(["evaluate", "r", "--shifts", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ema"], found["shifts"], found["count"]) == (False, 1, 1000)
    assert "loss" not in found
    assert found["accuracy"] != measured["accuracy"]
    assert door.main(["evaluate", "r", "--shifts", "1", "--ema"]) == 0
    said = capsys.readouterr().out
    assert "averaged weights, mean lengths over 9 shifts of up to 1 pixels), 95 %" in said
    for argv, says in (
        (["r", "--shifts", "28"], "shifts is 28; expected 0 to 27 for images of 28x28"),
        (["r", "--shifts", "-1"], "shifts is -1; expected 0 to 27"),
        ([f"{checkpoint}/weights.safetensors", "--ema"], "no run or checkpoint; averages of"),
    ):
        assert door.main(["evaluate", *argv]) == 2
        assert says in told(capsys)


def test_a_run_without_averages_is_told_of(capsys):
    assert train("--epochs", 1, "--out", "r") == 0
    capsys.readouterr()
    assert door.main(["evaluate", "r", "--ema"]) == 2
    assert "its weights were not averaged; a TrainingSpec with ema=0.999" in told(capsys)


def test_the_mean_over_shifts_is_of_lengths_of_each_image_moved():
    random = np.random.default_rng(3)
    images = random.random((53, 5, 7, 1), "float32")
    trainer, totals = fakes.Trainer(), np.zeros((53, 3))
    for down in (-2, -1, 0, 1, 2):
        for right in (-2, -1, 0, 1, 2):
            moved = np.zeros_like(images)
            moved[:, max(down, 0) : 5 + down, max(right, 0) : 7 + right] = images[
                :, max(-down, 0) : 5 - down, max(-right, 0) : 7 - right
            ]
            totals += trainer._probabilities(moved)[1]
    labels = totals.argmax(1)
    labels[::7] += 1
    split = data.Split(images, labels % 3)
    for batch_size in (11, 53):
        found = evaluate.shifted(trainer, split, batch_size, 2)
        assert found == {"accuracy": 45 / 53, "count": 53}
    assert scoring.evaluate(trainer, split, 11)["accuracy"] != 45 / 53


def test_evaluate_refuses_what_it_cannot_read(capsys):
    Path("words.safetensors").write_text("words")
    fits = dataclasses.replace(fakes.PRESET.network, image=(27, 28, 1))
    weights.save("other.safetensors", fits, weights.draw(fits, 0))
    for path, says in (
        ("nowhere", "no such run or file"),
        ("words.safetensors", "not a whole safetensors file"),
        ("other.safetensors", "the network takes (27, 28, 1)"),
    ):
        assert door.main(["evaluate", path, "--dataset", "mnist-mini"]) == 2
        line = told(capsys)
        assert line.startswith("error: ")
        assert says in line


@pytest.mark.parametrize(("right", "count"), [(0, 10), (7, 10), (10, 10), (975, 1000)])
def test_the_interval_is_wilsons(right, count):
    low, high = evaluate.interval(right, count)
    assert 0 <= low <= right / count + 1e-12
    assert right / count - 1e-12 <= high <= 1
    for bound in (low, high):  # where a share of `bound` is 1.96 deviations from what was found
        if 1e-9 < bound < 1 - 1e-9:
            deviation = np.sqrt(bound * (1 - bound) / count)
            assert abs(bound - right / count) / deviation == pytest.approx(1.959964)
