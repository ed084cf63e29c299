"""Faults of ports are named at their module, right ports are equal: `make ports` runs them all."""

import importlib
import importlib.util

import pytest
from ports.row import compare, right

pytestmark = pytest.mark.slow
NEEDS = {"residual": "flax", "transformer": "flax", "recurrent": "equinox", "capsules": "torch"}


def network(name):
    pytest.importorskip(NEEDS[name])
    return importlib.import_module(f"ports.{name}").NETWORK


@pytest.mark.parametrize("name", NEEDS)
def test_the_faults_of_a_network_are_named(both_wings, name):
    found = network(name)
    assert compare(found, 2, precision="both").equal
    wrong = {each.name: right(each, compare(found, 3, each.name)) for each in found.faults}
    assert {fault: said for fault, said in wrong.items() if said} == {}


def test_right_ports_are_equal(both_wings):
    from ports.right import RIGHT

    from parity import diff

    for pair in RIGHT.values():
        report = diff.models(**pair(31))
        assert report.equal, str(report)


def test_random_changes_are_named(both_wings):
    from ports import mutations

    from parity import diff

    for seed in range(2000, 2030):
        pair = mutations.pair(seed)
        report = diff.models(pair.left, pair.right, [pair.x], precision="float64")
        assert mutations.named(pair, report) in ("right", "between"), (seed, pair.change, report)


@pytest.mark.parametrize("model", ["resnet18", "BERT layer"])
def test_real_models(both_wings, model):
    needs = "transformers" if model == "BERT layer" else "torchvision"
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    from ports import zoo

    from parity import diff

    report = diff.models(**zoo.PAIRS[model](5), precision="float64")
    assert report.equal, str(report)
    for (name, fault), expected in zoo.ZOO.items():
        if name == model:
            first = diff.models(**zoo.PAIRS[model](6, fault), precision="float64").first
            assert first is not None
            assert (first.module, first.kind) == expected, first
