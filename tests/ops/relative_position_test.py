import numpy as np
import pytest
import tensorflow as tf

from keras_moe.ops import relative_position_bucket
from tests.reference import t5

SIZES = [(True, 32, 128), (False, 32, 128), (True, 8, 20), (False, 5, 9)]
DISTANCES = np.arange(-300, 301)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("jit", [False, True])
def test_equals_mesh_tensorflow(size, jit):
    compiled = tf.function(
        relative_position_bucket, jit_compile=jit, autograph=False
    )
    received = compiled(tf.constant(DISTANCES), *size)
    assert received.dtype == "int32"
    expected = [t5.float32_bucket(d, *size) for d in DISTANCES.tolist()]
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_definition(size):
    received = np.asarray(relative_position_bucket(DISTANCES, *size))
    expected = np.array([t5.bucket(d, *size) for d in DISTANCES.tolist()])
    # Where a distance lies exactly on a boundary a float32 logarithm may fall
    # on either side of it; published weights were trained with that.
    bidirectional, buckets, far = size
    buckets = buckets // 2 if bidirectional else buckets
    near = buckets // 2
    steps = buckets - near
    edges = near * (far / near) ** (np.arange(steps + 1) / steps)
    on_edge = np.isclose(
        np.abs(DISTANCES)[:, None], edges[None], rtol=1e-6
    ).any(axis=1)
    np.testing.assert_array_equal(received[~on_edge], expected[~on_edge])
    assert np.all(np.abs(received - expected) <= 1)
    assert received.min() >= 0 and received.max() < size[1]


def test_keeps_the_shape():
    table = DISTANCES[:6].reshape(2, 3)
    assert relative_position_bucket(table).shape == (2, 3)
