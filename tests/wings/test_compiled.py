"""Code that is kept between processes: where, and never for another processor."""

import functools
import importlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import wings
from specs import KINDS
from wings import ROOT

from parity.spec import TrainingSpec
from parity.wing import cache

# Eight numbers are as many floats as an AVX2 register holds, and half of what an AVX-512 one does.
COMPILE = """
import json, torch
from torch._dynamo.utils import counters
from torch_caps import numerics, routing
torch.manual_seed(0)
votes_BIJD = torch.randn(3, 23, 5, 8)
plain, _ = routing.dynamic(votes_BIJD)
apart = (numerics.compiled(routing.dynamic)(votes_BIJD)[0] - plain).abs().max()
print(json.dumps({"apart": apart.item(), "hits": counters["inductor"]["fxgraph_cache_hit"]}))
"""


def compiling(kept: Path, **environment: str) -> dict:
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(kept), **environment}
    run = subprocess.run(
        [sys.executable, "-c", COMPILE], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.skipif("torch" not in wings.NAMES, reason="of the torch wing alone")
def test_kernels_for_narrower_vectors_are_not_taken_over(tmp_path):
    narrow = compiling(tmp_path, ATEN_CPU_CAPABILITY="default")
    usual = compiling(tmp_path)
    again = compiling(tmp_path)
    assert (narrow["hits"], usual["hits"], again["hits"]) == (0, 0, 1)
    assert max(each["apart"] for each in (narrow, usual, again)) < 1e-5


@pytest.mark.slow
@pytest.mark.skipif("torch" not in wings.NAMES, reason="of the torch wing alone")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sabour2017"])
def test_every_layer_of_each_kind_of_network_can_be_compiled(kind, monkeypatch):
    """Inductor takes a minute to make code of the graphs, so here they run as they are."""
    dynamo = importlib.import_module("torch._dynamo")
    wing, spec = wings.load("torch"), KINDS[kind]
    compiled = functools.partial(wing.numerics.compiled, backend="eager")
    monkeypatch.setattr(wing.training, "compiled", compiled)
    draw = np.random.default_rng(0)
    images = draw.random((6, *spec.image), dtype="float32")
    ends = []
    dynamo.reset()
    with dynamo.config.patch(fail_on_recompile_limit_hit=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch itself looks at
        warnings.filterwarnings("error", message="To copy construct")
        for compile in (True, False):
            trainer = wing.Trainer(spec, TrainingSpec(optimizer="sgd"), compile=compile)
            trainer.step(images, np.arange(6) % spec.classes)
            ends.append(trainer.get_state()["weights"])
    dynamo.reset()
    for name, array in ends[1].items():
        assert wings.difference(ends[0][name], array) < 1e-6, name


def test_the_cache_is_in_the_users_folder_and_apart_for_each_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours = cache.folder()
    assert ours is not None
    assert ours.is_dir()
    assert ours.parent == tmp_path / "twincaps"
    told = tmp_path / "cpuinfo"
    told.write_text("processor : 0\nmodel name : of another kind\nflags : fpu\ncpu MHz : 1\n")
    monkeypatch.setattr(cache, "CPU", told)
    theirs = cache.folder()
    assert theirs not in (None, ours)
    told.write_text("processor : 9\nmodel name : of another kind\nflags : fpu\ncpu MHz : 2\n")
    assert cache.folder() == theirs


def test_without_a_folder_to_write_to_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.folder() is None


def test_a_relative_cache_home_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = cache.folder()
    assert found is not None
    assert found.is_relative_to(tmp_path / ".cache")
