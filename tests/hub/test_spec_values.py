"""Specs of values that are not plain Python's: made plain or refused, never saved and lost."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import TINY, network_specs

from parity.runs import Run
from parity.spec import (
    Conv,
    Init,
    Loss,
    NetworkSpec,
    Primary,
    Routing,
    RunOptions,
    SpecError,
    TrainingSpec,
    from_dict,
    preset_card,
    to_dict,
)

KINDS = (NetworkSpec, Conv, Primary, Routing, Loss, Init, TrainingSpec, RunOptions)
DEFAULTS = {kind: Conv(5, 3) if kind is Conv else kind() for kind in KINDS}


def written(spec: Any) -> str:
    return json.dumps(to_dict(spec))


def dressed(value: Any, draw: st.DrawFn) -> Any:
    """The same value as NumPy and others have it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {each.name: dressed(getattr(value, each.name), draw) for each in fields(value)}
        return dataclasses.replace(value, **changes)
    dresses: dict[type, tuple[Any, ...]] = {
        bool: (bool, np.bool_),
        int: (int, np.int64, np.uint64, np.array),
        float: (float, np.float64, np.array, lambda x: int(x) if str(x) == f"{int(x)}.0" else x),
        str: (str, np.str_),
        tuple: (tuple, list),
    }
    if isinstance(value, tuple):
        value = tuple(dressed(each, draw) for each in value)
        if value and draw(st.booleans()) and not dataclasses.is_dataclass(value[0]):
            return np.array(value, int)
    return draw(st.sampled_from(dresses.get(type(value), (lambda x: x,))))(value)


def fields(spec: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(spec)


@given(st.data(), network_specs())
@settings(max_examples=60, deadline=None)
def test_a_spec_is_the_same_whoever_has_made_its_values(data, spec):
    for each in (spec, preset_card("small").training, RunOptions(block=7, data_dir="a/b")):
        made = dressed(each, data.draw)
        assert made == each
        assert hash(made) == hash(each)
        assert written(made) == written(each)
        assert from_dict(type(made), json.loads(written(made))) == made


ODD: tuple[Any, ...] = (
    *(0, 1, 3, True, False, None, "x", b"x", 2.0, 0.5, [3], (3, 3, 1), [[3]], 2**1100, Path("x")),
    *(np.float32(0.5), np.int8(3), np.bool_(True), np.str_("x"), np.array([3, 3, 1]), np.ones(())),
    *(np.longdouble(0.5), np.complex64(1), np.array([]), float("nan"), {}, object(), Conv(3, 3)),
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_be_built_can_be_saved_and_read_again(kind):
    """Any value in any field is refused when the spec is made, or comes back as it was."""
    base, refused = DEFAULTS[kind], 0
    for field in fields(base):
        for odd in ODD:
            try:
                made = dataclasses.replace(base, **{field.name: odd})
            except SpecError:
                refused += 1
                continue
            back = from_dict(kind, json.loads(written(made)))
            assert back == made, (field.name, odd)
            assert written(back) == written(made)
            assert hash(back) == hash(made)
    assert refused > len(fields(base))


def test_values_of_numpy_and_lists_give_the_network_of_plain_ones():
    made = NetworkSpec(
        image=[28, 28, 1],  # type: ignore
        stem=[Conv(np.int64(256), 9)],  # type: ignore
        classes=np.int64(10),  # type: ignore
        decoder=np.array([512, 1024]),  # type: ignore
    )
    assert made == NetworkSpec()
    assert type(made.classes) is type(made.image[0]) is int
    assert TrainingSpec(seed=np.int64(0), learning_rate=1) == TrainingSpec(learning_rate=1.0)  # type: ignore
    assert RunOptions(data_dir=Path("a/b")).data_dir == str(Path("a/b"))  # type: ignore
    with pytest.raises(SpecError, match=r"Sabour2017: stem is \(256, 9\); expected Conv"):
        NetworkSpec(stem=[(256, 9)])  # type: ignore
    with pytest.raises(SpecError, match=r"Dynamic: bias is 1; expected bool"):
        Routing(bias=1)
    with pytest.raises(SpecError, match=r"decay_steps is 2.5; expected a whole number above 0"):
        TrainingSpec(decay_steps=2.5)  # type: ignore


def test_a_run_of_such_values_is_found_again_as_it_was(tmp_path):
    spec = dataclasses.replace(
        TINY,
        image=list(TINY.image),  # type: ignore
        classes=np.int32(TINY.classes),  # type: ignore
        loss=Loss(scale=np.float32(0.5)),  # type: ignore
    )
    training = TrainingSpec(
        batch_size=np.int32(8),  # type: ignore
        seed=np.uint64(7),  # type: ignore
        learning_rate=np.float32(0.25),  # type: ignore
        clip_norm=2,
    )
    options = RunOptions(data_dir=tmp_path, lean=np.bool_(False))  # type: ignore
    with Run.create(tmp_path / "run", spec, training, options):
        pass
    with Run.open(tmp_path / "run") as run:
        assert (run.spec, run.training, run.options) == (spec, training, options)
        assert run.training.learning_rate == 0.25
