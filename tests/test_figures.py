"""Figures: what a wing gives for them, what is drawn of it, and what the command leaves behind."""

import numpy as np
import pytest
import wings
from specs import NETWORKS

from parity import reference, weights
from parity.spec import TrainingSpec


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize("case", ["primes", "leaky bias detach", "one iteration", "no stem"])
def test_a_trainer_gives_poses_couplings_and_reconstructions_as_the_oracle_does(wing, case, lean):
    spec, random = NETWORKS[case], np.random.default_rng(1)
    trainer = wing.training.Trainer(spec, TrainingSpec(seed=7), lean=lean)
    images = random.random((5, *spec.image), "float32")
    labels = random.integers(spec.classes, size=5)
    arrays = {name: each.astype("float64") for name, each in weights.draw(spec, 7).items()}
    expected = reference.forward(spec, arrays, np.float64(images), labels)
    poses, couplings = trainer.poses(images), trainer.couplings(images)
    last = spec.routing.num_iters - 1
    assert wings.difference(poses, expected[f"routing.{last}.poses"]) < 1e-5
    for t, each in enumerate(couplings):
        assert wings.difference(each, expected[f"routing.{t}.coupling"]) < 1e-5
    assert len(couplings) == last + 1
    drawn = trainer.reconstruct(poses, labels)
    assert wings.difference(drawn, expected["reconstruction"]) < 1e-5
