import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.ops._token_ids import IGNORE_ID
from keras_moe.ops._token_ids import OutsideVocabularyError
from keras_moe.ops._token_ids import is_left_out
from keras_moe.ops._token_ids import read_ids

IDS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([IGNORE_ID, 2**31, 2**32 + 5, -(2**40)]),
)


@given(ids=st.lists(IDS, min_size=1, max_size=5), pad=st.integers(-2, 12))
def test_eager_raises_where_a_graph_tells(ids, pad):
    out = (pad, IGNORE_ID)
    wrong = [not 0 <= each < 10 and each not in out for each in ids]

    traced = tf.function(lambda x: read_ids(x, 10, out))
    read = traced(tf.constant(ids, "int64"))
    np.testing.assert_array_equal(read.wrong, wrong)
    np.testing.assert_array_equal(read.left_out, [i in out for i in ids])
    np.testing.assert_array_equal(
        read.ids, [i if 0 <= i < 10 else 0 for i in ids]
    )
    if not any(wrong):
        for eager, later in zip(read_ids(ids, 10, out), read, strict=True):
            np.testing.assert_array_equal(eager, later)
        return
    first = ids[wrong.index(True)]
    with pytest.raises(OutsideVocabularyError, match=f"Received: {first} at"):
        read_ids(np.array(ids), 10, out)


@pytest.mark.parametrize("value", [1.5, np.nan, np.inf, -1.0])
def test_a_fraction_is_no_id(value):
    with pytest.raises(OutsideVocabularyError, match="`labels` must be ids"):
        read_ids([value], 10, (0,))
    read = tf.function(lambda x: read_ids(x, 10, (0,)))(tf.constant([value]))
    assert read.wrong.numpy().tolist() == [True]


def test_a_dtype_that_rounds_ids_is_refused():
    assert read_ids(tf.constant([7.0], "bfloat16"), 257).inside
    with pytest.raises(ValueError, match="bfloat16 rounds ids above 256"):
        read_ids(tf.constant([7.0], "bfloat16"), 258)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
def test_left_out_in_every_dtype(dtype):
    labels = np.array([5, 0], dtype)
    assert is_left_out(labels, 0).numpy().tolist() == [False, True]
    if dtype != "uint8":
        assert bool(is_left_out(np.array(IGNORE_ID, dtype), 0))
