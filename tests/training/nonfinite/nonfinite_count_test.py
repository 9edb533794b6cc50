import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.training.nonfinite._nonfinite_count import NonfiniteCount
from keras_moe.training.nonfinite._nonfinite_count import count_nonfinite
from keras_moe.training.nonfinite._nonfinite_count import first_nonfinite

KINDS = [np.nan, np.inf, -np.inf, -np.inf, 0.0, -1.0]


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", ml_dtypes.bfloat16]
)
def test_counts_by_kind(dtype):
    values = np.array(KINDS).astype(dtype).reshape(2, 3)
    assert count_nonfinite(values) == NonfiniteCount(1, 1, 2, 6)
    assert count_nonfinite(values).total == 4
    assert str(count_nonfinite(values)) == "4 of 6 values: 1 NaN, 1 inf, 2 -inf"
    assert count_nonfinite(np.zeros([2, 3], dtype)) == NonfiniteCount(size=6)


def test_adds_up_over_a_structure():
    values = {
        "tensor": tf.constant([1.0, np.nan]),
        "variable": keras.Variable([np.inf]),
        "more": [np.float32(-np.inf), 2.0, float("nan"), (np.zeros([0]),)],
    }
    assert count_nonfinite(values) == NonfiniteCount(2, 1, 1, 6)


def test_leaves_without_floats_are_finite():
    leaves = [
        None,
        3,
        "inf",
        np.arange(3),
        np.array([True]),
        tf.constant(["nan"]),
        keras.KerasTensor([2]),
        tf.RaggedTensor.from_row_lengths([1], [1]),
    ]
    assert count_nonfinite(leaves) == NonfiniteCount()
    assert count_nonfinite([]) == NonfiniteCount()

    @tf.function(autograph=False)
    def in_a_graph(x):
        assert count_nonfinite(x) == NonfiniteCount()
        return x

    in_a_graph(tf.constant([np.nan]))


def test_the_first_name_is_found():
    state = {
        "model/a": np.zeros(2, "float32"),
        "model/b": np.array([0.0, -np.inf]),
        "optimizer/c": np.array([np.nan]),
    }
    assert first_nonfinite(state) == "model/b"
    del state["model/b"]
    assert first_nonfinite(state) == "optimizer/c"
    del state["optimizer/c"]
    assert first_nonfinite(state) is None


def test_metrics_may_be_infinite():
    state = {"metrics/max/value": np.array(-np.inf), "model/a": np.array(1)}
    assert first_nonfinite(state) is None
