"""Specs: what can be built, what is refused and how, JSON and back, the presets' numbers."""

import dataclasses
import inspect
import json
import math
import re
from typing import get_args

import pytest
from hypothesis import given, settings
from specs import KINDS, network_specs
from wings import PACKAGES

from parity import data, weights
from parity import spec as specs
from parity.reference import norm
from parity.spec import (
    Backend,
    Conv,
    Init,
    Loss,
    NetworkSpec,
    NormKind,
    Optimizer,
    Precision,
    Primary,
    Routing,
    RoutingName,
    RunOptions,
    SpecError,
    TrainingSpec,
    TwincapsError,
    from_dict,
    preset,
    preset_card,
    to_dict,
)

NORMS = {
    name
    for name, function in inspect.getmembers(norm, inspect.isfunction)
    if function.__module__ == norm.__name__ and not name.startswith("_")
}
# A type -> the table, or the functions, that it names.
CHOICES = {
    RoutingName: specs.ROUTINGS,
    NormKind: NORMS,
    Optimizer: weights.SLOTS,
    Backend: PACKAGES,
    Precision: weights.FLOATS,
}


@pytest.mark.parametrize("choice", CHOICES)
def test_what_a_type_checker_lets_through_is_what_there_is(choice):
    names = set(get_args(choice))
    assert names == set(CHOICES[choice]) - {"float16"}  # which files may have, and networks not


def test_the_paper_s_network():
    paper = preset("sabour2017")
    assert paper.grid == (6, 6)
    assert paper.num_inputs == 1152
    assert paper.num_pixels == 784
    assert paper.primary.channels == 256
    assert (paper.classes, paper.pose, paper.decoder) == (10, 16, (512, 1024))
    assert (paper.routing.num_iters, paper.routing.bias, paper.routing.leaky) == (3, False, False)
    assert paper.margin_scale == 1


def test_where_the_authors_code_differs():
    official = preset("sabour2017-official")
    assert official.primary.scale == 1 / 32
    assert official.routing.bias
    assert official.init == Init(stem=0.05, primary=0.1, digit=0.1, decoder=0.1, bias=0.1)
    assert official.margin_scale == pytest.approx(1 / 20)
    training = preset_card("sabour2017-official").training
    assert (training.learning_rate, training.decay_rate, training.decay_steps) == (1e-3, 0.96, 2000)
    assert (training.minimum_rate, training.batch_size, training.epsilon) == (1e-6, 128, 1e-8)


def test_the_small_network():
    small = preset("small")
    assert small.grid == (8, 8)
    assert small.num_inputs == 1024
    assert (small.primary.size, small.pose, small.decoder) == (4, 6, (128, 256))


@pytest.mark.parametrize("name", specs.PRESETS)
def test_a_preset_says_where_it_is_from_and_how_to_run_it(name):
    card = preset_card(name)
    assert card.source
    assert f"--preset {name}" in card.command
    assert "train.py" in card.command


@pytest.mark.parametrize("name", specs.PRESETS)
def test_a_preset_is_made_for_its_data_set(name):
    """Whose size and classes are the network's; the command names it, a small one may not."""
    card = preset_card(name)
    entry = data.entry(card.training.dataset)
    assert (card.network.image, card.network.classes) == (entry.shape, entry.classes)
    assert name == "small" or f"--dataset {entry.name} " in card.command


@pytest.mark.parametrize(
    ("name", "grid", "inputs", "decay_steps"),
    [
        ("sabour2017-multimnist", (10, 10), 3200, 20_000),
        ("sabour2017-cifar10", (4, 4), 1024, 2000),
        ("sabour2017-smallnorb", (8, 8), 2048, 2000),
        ("sabour2017-svhn", (8, 8), 1024, 2000),
    ],
)
def test_the_paper_s_other_networks(name, grid, inputs, decay_steps):
    card = preset_card(name)
    assert (card.network.grid, card.network.num_inputs) == (grid, inputs)
    assert card.training.decay_steps == decay_steps
    assert card.training.ema is None
    assert "the paper" in card.score
    paper = preset("sabour2017")
    differs = {key for key, value in vars(paper).items() if getattr(card.network, key) != value}
    assert (
        differs
        == {
            "sabour2017-multimnist": {"image"},
            "sabour2017-cifar10": {"image", "primary", "routing", "decoder", "loss", "init"},
            "sabour2017-smallnorb": {"image", "classes"},
            "sabour2017-svhn": {"image", "stem", "primary", "pose"},
        }[name]
    )


def test_where_the_cifar_network_follows_the_authors_code():
    cifar, official = preset("sabour2017-cifar10"), preset("sabour2017-official")
    assert (cifar.primary.types, cifar.primary.scale) == (64, 1 / 65)
    assert cifar.routing == Routing(bias=True, leaky=True)
    assert (cifar.loss, cifar.init, cifar.decoder) == (official.loss, official.init, None)


@given(network_specs())
def test_the_grid_counts_the_places_of_each_kernel(spec):
    height, width, _ = spec.image
    for layer in (*spec.stem, spec.primary):
        height, width = (
            len([y for y in range(0, size, layer.stride) if y + layer.kernel <= size])
            for size in (height, width)
        )
    assert spec.grid == (height, width)
    assert spec.num_inputs == height * width * spec.primary.types


@given(network_specs())
@settings(max_examples=50)
def test_a_spec_survives_json(spec):
    back = from_dict(NetworkSpec, json.loads(json.dumps(to_dict(spec))))
    assert back == spec
    assert hash(back) == hash(spec)


@pytest.mark.parametrize(
    "spec",
    [
        TrainingSpec(clip_norm=1.5, seed=7),
        TrainingSpec(ema=0.9),
        TrainingSpec(),
        RunOptions(block=3, data_dir="x"),
    ],
)
def test_training_and_options_survive_json(spec):
    assert from_dict(type(spec), json.loads(json.dumps(to_dict(spec)))) == spec


def test_a_training_of_before_there_were_averages_is_read():
    """Only a name that is None by default may be missing: no other could be meant."""
    values = to_dict(TrainingSpec(seed=3))
    del values["ema"]
    assert from_dict(TrainingSpec, values) == TrainingSpec(seed=3)
    del values["shift"], values["clip_norm"]
    with pytest.raises(SpecError, match=r"unknown names \[\], missing \['shift'\]"):
        from_dict(TrainingSpec, values)


REFUSED = {
    "routing 'other' is unknown; expected one of dynamic": lambda: Routing("other"),
    "routing: num_iters is 0; expected a whole number above 0": lambda: Routing(num_iters=0),
    "routing: num_iters is 2.0;": lambda: Routing(num_iters=2.0),  # type: ignore
    "stem: channels is 0;": lambda: Conv(0, 3),
    "stem: kernel is 2.5; expected a whole number above 0": lambda: Conv(3, 2.5),  # type: ignore
    "stem: stride is True;": lambda: Conv(3, 3, True),
    "primary: types is -1;": lambda: Primary(types=-1),
    "primary: scale is nan; expected a number above 0": lambda: Primary(scale=math.nan),
    "loss: positive is inf;": lambda: Loss(positive=math.inf),
    "loss: reconstruction is -0.5; expected a number of at": lambda: Loss(reconstruction=-0.5),
    "init: digit is -0.1;": lambda: Init(digit=-0.1),
    "init: bias is nan; expected a finite number": lambda: Init(bias=math.nan),
    "image is (28, 28); expected (height, width, channels)": lambda: NetworkSpec(
        image=(28, 28)  # type: ignore
    ),
    "image: channels is 0;": lambda: NetworkSpec(image=(28, 28, 0)),
    "network: classes is 0;": lambda: NetworkSpec(classes=0),
    "network: pose is 1.5;": lambda: NetworkSpec(pose=1.5),  # type: ignore
    "decoder: width 1 is 0;": lambda: NetworkSpec(decoder=(5, 0)),
    "optimizer 'lion' is unknown; expected one of adam, adamw, sgd": lambda: TrainingSpec(
        optimizer="lion"
    ),
    "l2_of 'biases' is unknown; expected one of all, kernels": lambda: TrainingSpec(l2_of="biases"),
    "precision 'int8' is unknown;": lambda: TrainingSpec(precision="int8"),
    "training: epochs is 0;": lambda: TrainingSpec(epochs=0),
    "training: batch_size is 0; expected a whole number above 0": lambda: TrainingSpec(
        batch_size=0
    ),
    "training: learning_rate is 0.0;": lambda: TrainingSpec(learning_rate=0),
    "training: learning_rate is nan;": lambda: TrainingSpec(learning_rate=math.nan),
    "training: beta1 is 1.0; expected a number below 1": lambda: TrainingSpec(beta1=1.0),
    "training: beta2 is -0.1;": lambda: TrainingSpec(beta2=-0.1),
    "training: clip_norm is 0.0;": lambda: TrainingSpec(clip_norm=0),
    "training: ema is 0.0;": lambda: TrainingSpec(ema=0),
    "training: ema is 1.0; expected a number below 1": lambda: TrainingSpec(ema=1.0),
    "training: ema is nan; expected a number above 0": lambda: TrainingSpec(ema=math.nan),
    "training: shift is -1; expected a whole number of at least 0": lambda: TrainingSpec(shift=-1),
    "training: seed is -1;": lambda: TrainingSpec(seed=-1),
    "seed is 9223372036854775808;": lambda: TrainingSpec(seed=2**63),
    "backend 'tensorflow' is unknown; expected one of torch, jax": lambda: RunOptions("tensorflow"),
    "run: block is 0;": lambda: RunOptions(block=0),
    "run: checkpoint_every is -1;": lambda: RunOptions(checkpoint_every=-1),
    "preset 'mnist' is unknown; expected one of sabour2017,": lambda: preset("mnist"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_built_is_refused_with_its_value(message):
    with pytest.raises(SpecError, match=re.escape(message)):
        REFUSED[message]()


def test_spec_errors_are_value_errors():
    assert issubclass(SpecError, TwincapsError)
    assert issubclass(TwincapsError, ValueError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": (8, 28, 1)}, "stem.0: a kernel of 9x9 (stride 1) is larger than its input of"),
        ({"image": (28, 16, 1)}, "primary: a kernel of 9x9 (stride 2) is larger than its input of"),
        (
            {"stem": (Conv(3, 9), Conv(3, 21))},
            "stem.1: a kernel of 21x21 (stride 1) is larger than",
        ),
        ({"stem": (Conv(3, 9, 3),)}, "primary: a kernel of 9x9 (stride 2) is larger than"),
    ],
)
def test_a_kernel_larger_than_its_input_is_refused_with_the_numbers(change, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        dataclasses.replace(NetworkSpec(), **change)


def test_the_smallest_image_that_fits_is_built():
    spec = dataclasses.replace(NetworkSpec(), image=(17, 18, 2))
    assert spec.grid == (1, 1)
    assert spec.num_inputs == 32


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("classes",), "ten", "classes: got 'ten'; expected int"),
        (("classes",), True, "classes: got True; expected int"),
        (("classes",), 2.0, "classes: got 2.0; expected int"),
        (("routing", "bias"), 1, "bias: got 1; expected bool"),
        (("primary", "scale"), "1", "scale: got '1'; expected float"),
        (("primary", "scale"), True, "scale: got True; expected float"),
        (("stem",), 5, "stem: got 5; expected a list"),
        (("stem",), [5], "Conv: got int; expected an object"),
        (("decoder",), [1, None], "decoder: got None; expected int"),
        (("image",), [28, 28], "image is (28, 28); expected"),
        (("loss",), {"positive": 1.0}, "Loss: unknown names [], missing ['class_mean', 'down"),
        (("init", "zeros"), 1.0, "Init: unknown names ['zeros'], missing []"),
    ],
)
def test_wrong_json_is_refused_by_name(path, value, message):
    values = to_dict(NetworkSpec())
    *folders, last = path
    inner = values
    for each in folders:
        inner = inner[each]
    inner[last] = value
    with pytest.raises(SpecError, match=re.escape(message)):
        from_dict(NetworkSpec, values)


def test_a_whole_number_serves_as_a_real_one():
    values = to_dict(NetworkSpec())
    values["primary"]["scale"] = 1
    assert from_dict(NetworkSpec, values) == NetworkSpec()


def test_there_is_a_small_network_of_each_kind_for_tests():
    assert {kind: spec.network for kind, spec in KINDS.items()} == {
        kind: kind for kind in specs.NETWORKS
    }
