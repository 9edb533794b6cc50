"""Which blocks of a deeper teacher a student takes over."""

import numpy as np
import pytest

from keras_moe.distillation._teacher_blocks import evenly_spaced


@pytest.mark.parametrize(
    ("number", "depth", "chosen"),
    [
        (1, 1, (1,)),
        (1, 4, (4,)),
        (2, 4, (1, 4)),
        (3, 8, (1, 4, 8)),
        (3, 6, (1, 3, 6)),
        (6, 12, (1, 3, 5, 7, 9, 12)),
        (4, 4, (1, 2, 3, 4)),
        (3, 2, ()),
    ],
)
def test_blocks_are_spread_evenly(number, depth, chosen):
    assert evenly_spaced(number, depth) == chosen


@pytest.mark.parametrize("number", range(1, 13))
def test_blocks_are_never_chosen_twice(number):
    for depth in range(number, 13):
        chosen = evenly_spaced(number, depth)
        assert list(chosen) == sorted(set(chosen))
        assert len(chosen) == number
        assert chosen[-1] == depth
        if number > 1:
            assert chosen[0] == 1
            gaps = np.diff(chosen)
            assert gaps.max() - gaps.min() <= 1
