"""The mistakes of `make mutants` still fit the code; making all of them takes minutes."""

import pytest
from mutants.patch import Mutant, applied
from mutants.table import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_can_be_made(both_wings, mutant):
    with applied(mutant):
        pass


def test_a_mistake_of_names_that_are_not_there_is_told(both_wings):
    new = "square = elsewhere((x * x).sum(axis, keepdim=True))\n    zero"
    old = "square = (x * x).sum(axis, keepdim=True)\n    zero"
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
