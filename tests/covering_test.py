"""What the default suite leaves to the large one, and what it does not."""

import itertools

import pytest

from tests.covering import covering

AXES = (range(4), "abc", (False, True), (None, 1, 2))


def by_default(parameters):
    return [p.values for p in parameters if not p.marks]


@pytest.mark.parametrize("strength", [1, 2, 3, 4])
def test_all_values_meet_by_default(strength):
    few = by_default(covering(*AXES, strength=strength))
    for axes in itertools.combinations(range(len(AXES)), strength):
        met = {tuple(values[axis] for axis in axes) for values in few}
        assert met == set(itertools.product(*(AXES[axis] for axis in axes)))


def test_nothing_is_lost():
    parameters = covering(*AXES)
    assert [p.values for p in parameters] == list(itertools.product(*AXES))
    assert {mark.name for p in parameters for mark in p.marks} == {"large"}


def test_each_value_has_its_share():
    few = by_default(covering(range(6), "ab", strength=1))
    assert sorted(letter for _, letter in few) == list("aaabbb")


def test_few_are_few():
    assert len(by_default(covering(*[range(4)] * 3))) <= 20  # of 64
    assert len(by_default(covering(range(3), range(5), strength=1))) == 5
