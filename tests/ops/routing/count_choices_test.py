import numpy as np
import pytest
import tensorflow as tf

from keras_moe.ops import count_choices


def loop(index, experts):
    counts = np.zeros((len(index), experts), "float32")
    for g, group in enumerate(index):
        for token in group:
            for expert in token:
                if expert < experts:
                    counts[g, expert] += 1
    return counts


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("shape", [(1, 7, 1), (3, 5, 2), (2, 0, 1)])
def test_equals_the_loop(shape, jit):
    rng = np.random.default_rng(0)
    index = rng.integers(0, 5, shape).astype("int32")  # 4: not made
    counted = tf.function(
        lambda x: count_choices(x, 4),
        input_signature=[tf.TensorSpec((None, None, shape[-1]), tf.int32)],
        jit_compile=jit,
        autograph=False,
    )(index)
    np.testing.assert_array_equal(counted, loop(index, 4))


def test_no_number_counts_for_another_group():
    chosen = np.array([[[0], [3]], [[-1], [1]], [[7], [2]]])
    np.testing.assert_array_equal(
        count_choices(chosen, 3), [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    )
