import numpy as np
import pytest
from keras import ops

from keras_moe.ops.routing._checks import check_capacity
from keras_moe.ops.routing._checks import check_logits
from keras_moe.ops.routing._checks import check_padding_mask
from keras_moe.sharding import sharded_by


class Engine:
    axis_sizes = {"expert": 2, "batch": 2}


@pytest.mark.parametrize("shape", [(4,), (2, 4), (1, 2, 3, 4)])
def test_logits_have_their_rank(shape):
    check_logits(np.zeros((2, 3, 4)), 3, "[groups, tokens, experts]")
    with pytest.raises(ValueError, match=r"`logits` must .*\[groups, tokens"):
        check_logits(np.zeros(shape), 3, "[groups, tokens, experts]")


@pytest.mark.parametrize("shape", [(2,), (2, 4), (3, 3), (2, 3, 1)])
def test_a_mask_has_the_first_axes_of_logits(shape):
    logits = ops.zeros((2, 3, 4))
    check_padding_mask(None, logits)
    check_padding_mask(np.ones((2, 3), bool), logits)
    with pytest.raises(ValueError, match=r"`padding_mask` must .*\(2, 3\)"):
        check_padding_mask(np.ones(shape, bool), logits)


@pytest.mark.parametrize("capacity", [0, -1, 1.5, 0.0, False, np.float32(2)])
def test_a_capacity_is_a_positive_integer(capacity):
    with pytest.raises(ValueError, match="`expert_capacity` must be an int"):
        check_capacity(capacity)


@pytest.mark.parametrize("capacity", [None, 1, np.int64(7)])
def test_a_capacity_may_be_left_open(capacity):
    check_capacity(capacity)
    check_capacity(ops.convert_to_tensor(3))


def test_spread_groups_may_have_two_axes():
    logits, mask = np.zeros((2, 2, 3, 4)), np.ones((2, 2, 3), bool)
    with sharded_by(Engine()):
        check_logits(logits, 3, "[groups, tokens, experts]")
        check_padding_mask(mask, logits)
    with pytest.raises(ValueError, match="`padding_mask` must"):
        check_padding_mask(mask, logits)
