import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from keras_moe.training.checkpoints._replica_shares import exact_shares


@hypothesis.settings(max_examples=300)
@hypothesis.given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(1, 64),
    st.randoms(),
)
def test_shares_add_up_in_any_order(value, count, random):
    value = np.array([value], "float32")
    first, others = exact_shares(value, count)
    parts = [first] + [others] * (count - 1)
    random.shuffle(parts)
    assert sum(parts[1:], start=parts[0]) == value
    pairs = [sum(parts[i : i + 2], start=np.float32(0)) for i in
             range(0, count, 2)]  # fmt: skip
    assert sum(pairs, start=np.float32(0)) == value
    even = np.abs(value.astype("float64")) / count
    bit = np.abs(np.float64(value - np.nextafter(value, np.float32(0))))
    assert np.abs(np.abs(first) - even) <= 2 * count * bit
    assert np.abs(np.abs(others) - even) <= 2 * bit


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_whole(value):
    first, others = exact_shares(np.array(value, "float32"), 8)
    np.testing.assert_equal(first, np.float32(value))
    assert others == 0


def test_integers():
    first, others = exact_shares(np.array([17, 3, -5]), 8)
    assert (first + 7 * others).tolist() == [17, 3, -5]
