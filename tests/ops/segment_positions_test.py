import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.ops import segment_positions


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_counts_from_the_start_of_each_run(ids):
    numbers, positions = [], []
    for position, each in enumerate(ids):
        goes_on = position > 0 and ids[position - 1] == each
        positions.append(positions[-1] + 1 if goes_on else 0)
        numbers.append((numbers[-1] if numbers else -1) + (not goes_on))
    received = segment_positions(np.array([ids, ids]))
    np.testing.assert_array_equal(received[0], [numbers, numbers])
    np.testing.assert_array_equal(received[1], [positions, positions])
