import numpy as np
import pytest
import tensorflow as tf

from keras_moe import ops
from tests.reference.partial_reduce import top_k

RNG = np.random.default_rng(6)


def test_shards_merge_to_the_whole():
    """Each hands over its own best, in any order: ties as in the whole."""
    x = RNG.integers(0, 9, (4, 3, 20)).astype("float32")  # shards of 20
    values, index = ops.partial_reduce_top_k(x, 8, 20)
    turned = RNG.permutation(8)
    merged = ops.merge_top_k(
        np.asarray(values)[..., turned],
        np.asarray(index)[..., turned],
        8,
        shard_size=20,
    )
    for row, found, where in zip(x, *merged, strict=True):
        wanted = top_k(row.reshape(-1), 8)
        np.testing.assert_array_equal(found, wanted[0])
        np.testing.assert_array_equal(where, wanted[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_indices_of_the_whole_and_gaps(dtype):
    values = tf.constant([5.0, -np.inf, 5.0, 7.0], dtype)
    best, where = ops.merge_top_k(values, [9, -1, 3, 4], 6)
    assert best.dtype == dtype
    lowest = [-np.inf] * 3
    np.testing.assert_array_equal(tf.cast(best, "float32"), [7, 5, 5, *lowest])
    np.testing.assert_array_equal(where, [4, 3, 9, -1, -1, -1])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph(jit_compile):
    values = RNG.integers(0, 5, (2, 3, 4)).astype("float32")
    index = np.tile(np.arange(4, dtype="int32"), (2, 3, 1))

    def merge(values, index):
        return ops.merge_top_k(values, index, 5, shard_size=4)

    compiled = tf.function(merge, autograph=False, jit_compile=jit_compile)
    for a, b in zip(compiled(values, index), merge(values, index), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("shape", "other", "options", "message"),
    [
        ((2, 3), (2, 4), {}, r"one shape.*\(2, 3\).*\(2, 4\)"),
        ((3,), (3,), {"shard_size": 4}, "shard_size=4"),
        ((3,), (3,), {"k": 0}, "k=0"),
        ((2, 3), (2, 3), {"shard_size": 0}, "shard_size=0"),
    ],
)
def test_what_does_not_fit(shape, other, options, message):
    with pytest.raises(ValueError, match=message):
        ops.merge_top_k(
            np.zeros(shape), np.zeros(other, int), **{"k": 2, **options}
        )
