"""What is written as JSON is what the values are, whatever their dtype."""

import json

import ml_dtypes
import numpy as np
import pytest

from keras_moe.serving.server.rest import _json_answer as json_answer


@pytest.mark.parametrize(
    "dtype",
    [
        *(np.int8, np.uint8, np.int32, np.int64, np.uint64, np.bool_),
        *(np.float16, np.float32, np.float64, ml_dtypes.bfloat16),
    ],
    ids=lambda dtype: np.dtype(dtype).name,
)
@pytest.mark.parametrize("is_row", [True, False])
@pytest.mark.parametrize("spoilt", [False, True])
def test_numbers(dtype, is_row, spoilt):
    rng = np.random.default_rng(0)
    values = (100 * rng.standard_normal([3, 4])).astype(dtype)
    if spoilt and values.dtype.kind in "fV":
        values[1, 2] = np.nan
    outputs = {
        "x": np.asfortranarray(values),
        "y": values[:, 0],
        "text": np.array([b"a", b"\xff", b""], dtype=object),
    }

    body = json_answer.encode(outputs, is_row)

    document = json.loads(body)
    if is_row:
        rows = document["predictions"]
        columns = {name: [row[name] for row in rows] for name in outputs}
    else:
        columns = document["outputs"]
    for name, expected in (("x", values), ("y", values[:, 0])):
        received = np.array(columns[name], dtype)
        np.testing.assert_array_equal(
            received.astype(np.float64), expected.astype(np.float64)
        )
    assert columns["text"] == ["a", "\ufffd", ""]


def test_shortest_text():
    """A client that reads float64 gets 0.1, not 0.10000000149011612."""
    values = [0.1, 3.4e38, 1e-45, -0.0]
    outputs = {"x": np.array(values, np.float32)}
    body = json_answer.encode(outputs, is_row=True)
    assert json.loads(body) == {"predictions": values}


def test_a_scalar():
    outputs = {"x": np.array(0.1, np.float32), "n": np.array(3)}
    body = json_answer.encode(outputs, is_row=False)
    assert json.loads(body) == {"outputs": {"x": 0.1, "n": 3}}
