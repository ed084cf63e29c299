"""The tasks of the ladder, each a function of one `Wing` and some options.

A task returns arrays and the header of the file they are written to, so that both wings answer
alike whether they share a process or not.
"""

import dataclasses
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parity.compare.rungs import functions
from parity.compare.subject import Subject
from parity.convert import convert
from parity.runs import checkpoints
from parity.spec import to_dict
from parity.traces import recording
from parity.weights import SCHEMA, Arrays

FORMAT = "twincaps-answer"
NATIVE = {"torch": ".pt", "jax": ".msgpack"}
MODES = {"usual": None, "compiled": True, "eager": False}

Result = tuple[Arrays, dict[str, Any]]


class Wing:
    """One wing in this process, with the subject and the Trainers made so far."""

    def __init__(self, name: str, precision: str, device: str, subject: Subject):
        self.name, self.precision, self.device = name, precision, device
        self.subject = subject
        self.package = importlib.import_module(f"{name}_caps")
        self.package.numerics.strict(precision)
        self._trainers: dict[tuple, Any] = {}

    def trainer(self, optimizer: str, clips: bool = True, **how: Any) -> Any:
        """A Trainer of this wing, plain and with direct convolutions unless `how` says otherwise.

        Trainers are kept, as compiling one is slow.
        Whoever asks sets its state. Without `clips`, its gradients are left as they are.
        """
        how = {"lean": False, "convolution": "direct", **how}
        key = (optimizer, clips, *sorted(how.items()))
        if key not in self._trainers:
            training = self.subject.trained_by(optimizer, self.precision)
            if not clips:
                training = dataclasses.replace(training, clip_norm=None)
            self._trainers[key] = self.package.Trainer(
                self.subject.spec, training, device=self.device, **how
            )
        return self._trainers[key]


def _plain(arrays: Arrays, **facts: Any) -> Result:
    return arrays, {"format": FORMAT, "schema": SCHEMA, **facts}


def report(wing: Wing) -> Result:
    """Versions, device and switches as they are."""
    return _plain({}, report=wing.package.numerics.report())


def relax(wing: Wing) -> Result:
    """From here on TF32 where a GPU has it."""
    wing.package.numerics.tensorfloat32()
    return report(wing)


def round_trip(wing: Wing, folder: str) -> Result:
    """Random weights and optimiser slots in and out by every door of the wing."""
    state, weights = wing.subject.ported(wing.precision), wing.package.weights
    trainer = wing.trainer("adam")
    trainer.set_state(state)
    back = trainer.get_state()
    net = wing.package.build(wing.subject.spec, 1, wing.precision)
    weights.from_numpy(net, state["weights"])
    file = Path(folder) / f"{wing.name}-{wing.precision}.safetensors"
    weights.save(net, file)
    loaded = weights.load(file)
    by_door = {
        "to_numpy": weights.to_numpy(net),
        "get_state": back["weights"],
        "load": weights.to_numpy(loaded),
        "slots": back["optimizer"],
    }
    arrays = {
        f"{door}/{name}": a for door, tensors in by_door.items() for name, a in tensors.items()
    }
    again = file.with_suffix(".again.safetensors")
    weights.save(loaded, again)
    native, turned = file.with_suffix(NATIVE[wing.name]), file.with_suffix(".turned.safetensors")
    convert(file, native, force=True)
    convert(native, turned, force=True)
    same = {"save": again, f"convert to {native.suffix} and back": turned}
    same = {name: path.read_bytes() == file.read_bytes() for name, path in same.items()}
    for path in (file, again, native, turned):
        path.unlink()
    axes = {name: orders[0] for name, orders in wing.package.arrays.axes(wing.subject.spec).items()}
    return _plain(arrays, step=back["step"], same=same, axes=axes)


def pure_functions(wing: Wing) -> Result:
    """The answers to every case of rung 1."""
    return _plain(functions.answers(wing.package, wing.precision))


def trace(
    wing: Wing,
    precision: str | None = None,
    mode: str = "usual",
    train: bool = True,
    brighter: int = 0,
    convolution: str = "auto",
) -> Result:
    """One forward and backward pass of plain routing, every tensor of it."""
    subject, precision = wing.subject, precision or wing.precision
    net = wing.package.build(subject.spec, 0, precision, lean=False, convolution=convolution)
    net = net.to(wing.device) if wing.name == "torch" else net
    wing.package.weights.from_numpy(net, subject.weights)
    images, labels = subject.at(0, brighter)
    traced = wing.package.tracing.trace(net, images, labels, compile=MODES[mode], train=train)
    request = {
        "backend": wing.name,
        "mode": mode if convolution == "auto" else convolution,
        "device": wing.device,
        "source": subject.source,
        "spec": to_dict(subject.spec),
        "seed": subject.seed,
        "batch": subject.batch,
        "precision": precision,
        "weights": recording.fingerprint(subject.weights),
        "images": recording.fingerprint({"images": images, "labels": labels}),
        **({} if train else {"train": False}),
    }
    return recording.make(request, wing.package.numerics.report(), traced, labels).pack()


def step(wing: Wing, optimizer: str, brighter: int = 0) -> Result:
    """One step from a state in the middle of a run."""
    trainer = wing.trainer(optimizer)
    trainer.set_state(wing.subject.midway(optimizer, wing.precision))
    metrics = trainer.step(*wing.subject.at(0, brighter))
    after = trainer.get_state()
    arrays = {name: np.float64(metrics[name]) for name in ("learning_rate", "loss")}
    arrays |= after["optimizer"]
    arrays |= {f"parameter/{name}": array for name, array in after["weights"].items()}
    return _plain({name: np.asarray(array) for name, array in arrays.items()}, step=after["step"])


def run(
    wing: Wing,
    optimizer: str,
    first: int,
    last: int,
    resume: str | None = None,
    save: dict[str, str] | None = None,
    test: bool = False,
) -> Result:
    """The loss of each step from `first` to before `last`, and the last parameters.

    Args:
        wing: Where to run them.
        optimizer: Its name in a TrainingSpec.
        first: The first step, counted from 0.
        last: The step before which to stop.
        resume: A checkpoint to go on from, of either wing; otherwise from the subject's weights.
        save: step, as text -> the folder to write a checkpoint to after that step.
        test: Whether to add the accuracy on test images at the end.
    """
    subject, trainer = wing.subject, wing.trainer(optimizer)
    if resume is None:
        trainer.set_state(subject.fresh(optimizer, wing.precision))
    else:
        trainer.set_state(checkpoints.read(Path(resume), subject.spec).trainer_state)
    losses = []
    for n in range(first, last):
        losses.append(trainer.step(*subject.at(n))["loss"])
        if save and str(n + 1) in save:
            _save(wing, trainer, Path(save[str(n + 1)]))
    state = trainer.get_state()
    arrays = {"loss": np.array(losses)}
    arrays |= {f"parameter/{name}": array for name, array in state["weights"].items()}
    if test:
        ones = np.ones(len(subject.test_labels), np.float32)
        sums = trainer.evaluate(subject.test_images, subject.test_labels, ones)
        arrays["accuracy"] = np.asarray(sums["correct"] / sums["count"])
    return _plain(arrays, step=state["step"])


def _save(wing: Wing, trainer: Any, folder: Path) -> None:
    state = trainer.get_state()
    folder.mkdir(parents=True, exist_ok=True)
    seen = {"epoch": 0, "cursor": state["step"], "seed": wing.subject.seed}
    none = {"accuracy": None, "best": None, "metrics_bytes": 0, "metrics_sha256": ""}
    arrays = state["weights"], state["optimizer"]
    checkpoints.write(folder, wing.subject.spec, *arrays, step=state["step"], **seen, **none)


def mode(wing: Wing, brighter: int = 0, **how: Any) -> Result:
    """Poses, loss and gradients of one SGD step in a mode of the Trainer.

    From a momentum of 0 the first step's momentum is the gradient, whatever the mode.
    """
    trainer = wing.trainer("sgd", clips=False, **how)
    trainer.set_state(wing.subject.fresh("sgd", wing.precision))
    images, labels = wing.subject.at(0, brighter)
    arrays = {"poses": trainer.poses(images), "scores": trainer.scores(images)}
    arrays["loss"] = np.asarray(trainer.step(images, labels)["loss"])
    slopes = trainer.get_state()["optimizer"]
    return _plain(
        arrays | {name.replace("sgd.momentum", "gradient"): a for name, a in slopes.items()}
    )


def speed(wing: Wing, batch: int, steps: int, **how: Any) -> Result:
    """Seconds of each of some training steps, after two that are not counted."""
    trainer, subject = (
        wing.trainer("adam", **{"lean": True, "convolution": "auto", **how}),
        wing.subject,
    )
    trainer.set_state(subject.fresh("adam", wing.precision))
    places = np.arange(batch) % len(subject.labels)
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        trainer.step(subject.images[places], subject.labels[places])
        seconds.append(time.perf_counter() - start)
    return _plain({"seconds": np.array(seconds[2:])})


TASKS: dict[str, Callable[..., Result]] = {
    each.__name__: each
    for each in (report, relax, round_trip, pure_functions, trace, step, run, mode, speed)
}
