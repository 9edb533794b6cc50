"""Parity with TensorFlow's own conversions, and refusal of hostile tensors."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2

from keras_moe.serving.protocol import _tensor_codec as tensor_codec

LIMIT = 1 << 20
DTYPES = [
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.bool_,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)], ids=str)
def test_numbers(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)

    proto = tensor_codec.to_proto(array)

    for back in (
        tensor_codec.to_array("x", proto, LIMIT),
        tensor_codec.to_array("x", tf.make_tensor_proto(array), LIMIT),
        tf.make_ndarray(proto),
    ):
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    ("value", "dtype", "fits"),
    [
        (2**31 - 1, "int32", True),
        (2**31, "int32", False),
        (-(2**31) - 1, "int32", False),
        (2**31, None, False),
        (2**40, "int64", True),
        (2**64 - 1, "uint64", True),
        (2**64, "uint64", False),
        (-1, "uint8", False),
        (10**400, "float64", False),
        ([1, 2], "float32", True),
        (1.0, "int32", False),
        (0.1, "float64", True),
        (1e39, "float32", False),
        (float("inf"), "float32", True),
        (float("nan"), "float32", True),
        (True, "int32", False),
        (1, "bool", False),
        ([True], "bool", True),
        ([], "int64", True),
    ],
)
def test_a_number_fits_its_dtype_or_is_refused(value, dtype, fits):
    dtype = dtype and np.dtype(dtype)
    if not fits:
        with pytest.raises(ValueError, match="must fit the dtype"):
            tensor_codec.as_array(value, dtype)
        return
    array = tensor_codec.as_array(value, dtype)
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.array(value, dtype))


def test_strings():
    array = tensor_codec.as_array([["a", "\0b\0"], [b"\xff", ""]])

    proto = tensor_codec.to_proto(array)

    back = tensor_codec.to_array("x", proto, LIMIT)
    assert back.tolist() == [[b"a", b"\0b\0"], [b"\xff", b""]]
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)


@pytest.mark.parametrize("words", [[b"a", b"\0b\0" * 100, b""], [b""]])
def test_strings_in_tensor_content(words):
    """Lengths, then bytes: the format that TensorFlow's C++ writes."""
    content = b""
    for size in map(len, words):
        while size > 127:
            content += bytes([size % 128 + 128])
            size //= 128
        content += bytes([size])
    proto = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, tensor_content=content + b"".join(words)
    )
    proto.tensor_shape.dim.add().size = len(words)

    assert tensor_codec.to_array("x", proto, LIMIT).tolist() == words

    proto.tensor_content = proto.tensor_content[:-1] + b"\xff" * 3
    with pytest.raises(tf.errors.InvalidArgumentError):
        tensor_codec.to_array("x", proto, LIMIT)


def test_the_last_value_is_repeated():
    proto = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_FLOAT, float_val=[1.0, 2.0]
    )
    proto.tensor_shape.dim.add().size = 4

    back = tensor_codec.to_array("x", proto, LIMIT)

    assert back.tolist() == tf.make_ndarray(proto).tolist() == [1, 2, 2, 2]


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"dtype": 0}, [1], "dtype that is not served"),
        ({"dtype": types_pb2.DT_RESOURCE}, [1], "dtype that is not served"),
        ({"dtype": 1}, [-1], "fully known shape"),
        ({"dtype": 1, "float_val": [1.0]}, [1 << 62], "at most"),
        ({"dtype": 1, "float_val": [1.0]}, [1 << 19, 1 << 19], "at most"),
        ({"dtype": 1, "float_val": [1.0, 2.0]}, [1], "must hold 1 values"),
        ({"dtype": 1, "tensor_content": b"abc"}, [1], "could not be parsed"),
        ({"dtype": 1, "tensor_content": b"abcd"}, [2], "must hold 2 values"),
        ({"dtype": types_pb2.DT_INT8, "int_val": [300]}, [1], "parsed"),
        ({"dtype": 1, "float_val": [1.0]}, [1] * 65, "at most 64 axes"),
        ({"dtype": 1}, [0, 1 << 62], "at most"),
        ({"dtype": 1}, [1 << 62, 0, 1 << 62], "at most"),
        ({"dtype": types_pb2.DT_STRING}, [0, 1 << 62], "at most"),
    ],
)
def test_bad_tensors(fields, shape, message):
    proto = tensor_pb2.TensorProto(**fields)
    for size in shape:
        proto.tensor_shape.dim.add().size = size

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tensor_codec.to_array("x", proto, LIMIT)


@pytest.mark.parametrize(
    "value", [[None], ["a", 1.0], [["a"], ["b", "c"]], [[1], [1, 2]]], ids=str
)
def test_values_that_are_no_tensor(value):
    with pytest.raises(ValueError):
        tensor_codec.as_array(value)
