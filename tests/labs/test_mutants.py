"""Mistakes made on purpose: every one still fits the code, and a few are hunted for real.

Which few is drawn by the commit, so that with time all of them are; `make mutants` hunts them all.
TWINCAPS_MUTANTS="name; name" asks for these instead, to repeat what another machine has printed.
"""

import os
import random
import subprocess

import pytest
import wings
from mutants.patch import Mutant, applied
from mutants.table import MUTANTS

HUNTED = 2


def drawn() -> list[Mutant]:
    """The mistakes to hunt: those asked for by name, or as many as the commit's hash draws."""
    if asked := os.environ.get("TWINCAPS_MUTANTS"):
        names = [name.strip() for name in asked.split(";")]
        return [mutant for mutant in MUTANTS if mutant.name in names]
    command = ["git", "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(command, cwd=wings.ROOT, capture_output=True, text=True).stdout
    except OSError:  # no git: an archive of the sources
        commit = ""
    return random.Random(commit.strip() or "no commit").sample(MUTANTS, HUNTED)


def test_every_mistake_can_be_made(both_wings):
    for mutant in MUTANTS:
        with applied(mutant):
            pass


@pytest.mark.slow
@pytest.mark.float64
def test_the_ladder_catches_the_mistakes_that_this_commit_draws(both_wings, capsys):
    from mutants.hunt import hunt

    chosen = drawn()
    assert chosen, "TWINCAPS_MUTANTS names no mistake of tests/labs/mutants/table.py"
    with capsys.disabled():
        names = "; ".join(mutant.name for mutant in chosen)
        print(f'\nhunted, and again with TWINCAPS_MUTANTS="{names}"')
    for mutant in chosen:
        caught = hunt(mutant)
        assert caught.right, (
            f"{mutant.name}: {caught.verdict}; found rung {caught.rung}, {caught.first}"
        )


def test_a_mistake_of_names_that_are_not_there_is_told(both_wings):
    old = "zero = square == 0\n    # A second"
    new = "zero = elsewhere(square)\n    # A second"
    mutant = Mutant("lost", "torch capsules", old, new, 1, "")
    with pytest.raises(ValueError, match=r"has no .'elsewhere'."), applied(mutant):
        pass


@pytest.mark.parametrize(
    ("old", "says"),
    [
        ("no such text", "stands 0 times in torch_caps.capsules"),
        ("def lengths(", "changes no function"),
    ],
)
def test_a_mistake_that_no_longer_fits_is_told(both_wings, old, says):
    mutant = Mutant("lost", "torch capsules", old, old, 0, "")
    with pytest.raises((ValueError, AssertionError), match=says), applied(mutant):
        pass
