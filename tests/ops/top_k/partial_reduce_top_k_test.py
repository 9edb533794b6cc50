import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe import ops
from tests.reference.partial_reduce import top_k

RNG = np.random.default_rng(5)


def expected(x, k, num_bins, num_per_bin, mask=None):
    n = x.shape[-1]
    bins = num_bins if n > num_bins * num_per_bin else None
    rows = x.reshape(-1, n)
    masks = (
        [None] * len(rows)
        if mask is None
        else np.broadcast_to(mask, x.shape).reshape(-1, n)
    )
    pairs = [
        top_k(row, k, bins, num_per_bin, of)
        for row, of in zip(rows, masks, strict=True)
    ]
    shape = (*x.shape[:-1], k)
    return [np.reshape(part, shape) for part in zip(*pairs, strict=True)]


def check(found, wanted):
    np.testing.assert_array_equal(np.asarray(found[0], "float64"), wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])
    assert keras.backend.standardize_dtype(found[1].dtype) == "int32"


@given(
    n=st.integers(1, 40),
    num_bins=st.integers(1, 12),
    num_per_bin=st.integers(1, 4),
    k=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_is_the_reference(n, num_bins, num_per_bin, k, seed):
    """Of any sizes: ties, masks, minus infinity, rows with NaN."""
    k = min(k, num_bins * num_per_bin)
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (3, n)).astype("float32")
    x[rng.random(x.shape) < 0.1] = -np.inf
    mask = rng.random(x.shape) < 0.8
    x[0, rng.integers(n)] = np.nan
    found = ops.partial_reduce_top_k(x, k, num_bins, num_per_bin, mask)
    check(found, expected(x, k, num_bins, num_per_bin, mask))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_known_and_unknown_sizes_agree(dtype, jit_compile):
    x = RNG.integers(-9, 9, (2, 3, 50)).astype("float32")
    mask = RNG.random(50) < 0.8
    wanted = expected(x, 6, 7, 2, mask)

    def reduce(x):
        return ops.partial_reduce_top_k(x, 6, 7, 2, mask)

    # Under XLA shapes are known when the code is compiled.
    shape = [2, 3, 50] if jit_compile else [None, None, None]
    graph = tf.function(
        reduce, [tf.TensorSpec(shape, dtype)], False, jit_compile
    )
    x = tf.cast(x, dtype)
    for found in (reduce(x), graph(x)):
        assert found[0].dtype == dtype
        check(found, wanted)


@pytest.mark.parametrize("n", [1, 4, 5, 8, 21])
def test_fewer_columns_than_are_wanted(n):
    """Of 2 x 4 bins 5 are wanted: fewer, as many, a multiple, a rest."""
    x = RNG.integers(-9, 9, (2, n)).astype("float32")
    wanted = expected(x, 5, 4, 2)
    spec = tf.TensorSpec([None, None], tf.float32)
    graph = tf.function(
        lambda x: ops.partial_reduce_top_k(x, 5, 4, 2), [spec], False
    )
    check(ops.partial_reduce_top_k(x, 5, 4, 2), wanted)
    check(graph(x), wanted)


def test_one_row_and_a_numpy_array():
    check(
        ops.partial_reduce_top_k(np.array([1.0, 5.0, 5.0, 3.0]), 2, 2, 1),
        ([5.0, 5.0], [1, 2]),
    )


def test_a_nan_that_is_masked_is_none():
    x = np.array([[1.0, np.nan, 2.0], [np.nan, 1.0, 2.0]], "float32")
    mask = np.array([True, False, True])
    values, index = ops.partial_reduce_top_k(x, 2, 3, 1, mask)
    np.testing.assert_array_equal(values, [[2, 1], [np.nan, np.nan]])
    np.testing.assert_array_equal(index, [[2, 0], [-1, -1]])


def test_gradients_go_to_the_chosen():
    x = tf.Variable(RNG.permutation(30).astype("float32")[None])
    with tf.GradientTape() as tape:
        values, index = ops.partial_reduce_top_k(x, 3, 5, 2)
        total = tf.reduce_sum(values)
    wanted = np.zeros((1, 30))
    wanted[0, index[0]] = 1.0
    np.testing.assert_array_equal(tape.gradient(total, x), wanted)


def test_on_a_tpu_xla_reduces(monkeypatch):
    """Its operation is called with a target that needs no fewer bins."""
    asked = []
    real = tf.math.approx_max_k

    def approx_max_k(x, k, recall_target):
        asked.append(recall_target)
        return real(x, k, recall_target=recall_target)

    monkeypatch.setattr("keras_moe.backend._tensors.accelerator", lambda: "TPU")
    monkeypatch.setattr(tf.math, "approx_max_k", approx_max_k)
    x = RNG.normal(size=(2, 5000)).astype("float32")
    x[1, :4998] = -np.inf
    found = ops.partial_reduce_top_k(x, 8, 512)
    # XLA's rule for the number of bins (`approx_topk_shape.cc`).
    assert (1 - 8) / np.log(asked[0]) == pytest.approx(512)
    check(found, expected(x, 8, 5000, 1))  # a CPU sorts
    ops.partial_reduce_top_k(x, 8, 512, 2)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("x", "sizes", "message"),
    [
        (np.zeros((2, 9), "int32"), (2, 3), "floating point.*int32"),
        (np.float32(1.0), (2, 3), "floating point.*shape"),
        (np.zeros(9), (0, 3), "`k`.*k=0"),
        (np.zeros(9), (2, 0), "num_bins=0"),
        (np.zeros(9), (2, 3, 0), "num_per_bin=0"),
        (np.zeros(9), (7, 3, 2), "at least k.*num_bins=3, num_per_bin=2, k=7"),
    ],
)
def test_what_cannot_be_reduced(x, sizes, message):
    with pytest.raises(ValueError, match=message):
        ops.partial_reduce_top_k(x, *sizes)
