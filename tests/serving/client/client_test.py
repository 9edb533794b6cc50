"""The client: the same answers, and the same errors, by both ways."""

import socket

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import serving


@pytest.fixture(params=["predict", "predict_rest"])
def predict(request, client):
    return getattr(client, request.param)


def test_answers_are_the_same_by_both_ways(client):
    cases = [
        ("serving_default", {"word": ["ab", "zürich", ""]}),
        ("serving_default", {"word": np.array([b"ab", b"\xff"], object)}),
        ("serving_default", {"word": np.array(["ab"])}),
        ("with_threshold", {"word": ["ab"], "threshold": [3.0]}),
        ("ratio", {"pair": np.array([[1, 0], [0, 0]], np.float32)}),
        ("number", {"word": ["1.5"]}),
        ("count", {"word": ["a", "b"]}),
    ]
    for signature, inputs in cases:
        by_grpc = client.predict(inputs, signature)
        by_rest = client.predict_rest(inputs, signature)
        if b"\xff" in by_grpc.get("phonemes", ()):
            continue  # Text cannot carry these bytes, as documented.
        assert by_grpc.keys() == by_rest.keys()
        for name, expected in by_grpc.items():
            assert by_rest[name].dtype == expected.dtype
            np.testing.assert_array_equal(by_rest[name], expected)


def test_strings_are_bytes(predict):
    phonemes = predict({"word": ["ab", "c"]})["phonemes"]

    assert phonemes.dtype == object
    assert phonemes.tolist() == [b"AB", b"C"]


def test_python_numbers_become_what_tensorflow_makes_of_them(predict):
    answer = predict({"pair": [[1.0, 4.0]]}, "ratio")["ratio"]

    assert answer.dtype == np.float32
    assert answer.tolist() == [0.25]


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """A client of a model that gives back numbers of several dtypes."""
    base = tmp_path_factory.mktemp("typed")
    dtypes = {"i": tf.int32, "n": tf.int64, "d": tf.float64}
    serving.export_endpoints(
        base / "1",
        {
            "serving_default": (
                lambda i, n, d: {"i": i, "n": n, "d": d},
                [tf.TensorSpec([None], *each[::-1]) for each in dtypes.items()],
            )
        },
    )
    with serving.Server("typed", base, poll_seconds=0.05) as server:
        server.wait_until_available(60)
        with serving.Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name="typed",
        ) as client:
            yield client


@pytest.mark.parametrize("method", ["predict", "predict_rest"])
def test_numbers_take_the_dtypes_of_the_signature(typed, method):
    predict = getattr(typed, method)
    given = {"i": [2**31 - 1], "n": [2**40], "d": [0.1]}
    answer = predict(given)
    assert {name: value.tolist() for name, value in answer.items()} == given
    assert {n: v.dtype.name for n, v in answer.items()} == {
        "i": "int32",
        "n": "int64",
        "d": "float64",
    }
    for bad in ({"i": [2**31]}, {"n": [2**63]}, {"n": [1.5]}):
        with pytest.raises(ValueError, match=r"`inputs\['[in]'\]`.*must fit"):
            predict(given | bad)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"inputs": {"word": ["a"]}, "version": 9}, "NOT_FOUND"),
        ({"inputs": {"word": [1.0]}}, "INVALID_ARGUMENT"),
        ({"inputs": {}}, "INVALID_ARGUMENT"),
    ],
)
def test_refusals(predict, arguments, code):
    with pytest.raises(serving.ServingError) as caught:
        predict(**arguments)

    assert caught.value.code == code
    assert caught.value.message in str(caught.value)


def test_status_and_metadata_by_both_ways(client, server):
    by_rest = serving.Client(rest_port=server.rest_port, model_name="toy")

    assert client.status()[3].state == "AVAILABLE"
    assert by_rest.status() == client.status()
    for signatures in (client.metadata(), by_rest.metadata(version=3)):
        signature = signatures["with_threshold"]
        assert list(signature.inputs) == ["threshold", "word"]
        assert signature.inputs["word"].dtype_name == "string"
        assert signature.inputs["word"].shape == (-1,)
        assert signature.outputs["accepted"].dtype == np.int32


def test_inputs_have_names(predict):
    with pytest.raises(ValueError, match="`inputs` must map.*Received.*word"):
        predict(["word"])


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        client = serving.Client(
            grpc_port=port, rest_port=port, model_name="toy"
        )
        for predict in (client.predict, client.predict_rest):
            with pytest.raises(serving.ServingError) as caught:
                predict({"word": ["a"]}, timeout=5)
            assert caught.value.code == "UNAVAILABLE"


def test_bad_arguments(server):
    with pytest.raises(ValueError, match="`grpc_port` and `rest_port`"):
        serving.Client(model_name="toy")
    client = serving.Client(grpc_port=server.grpc_port, model_name="toy")
    with pytest.raises(ValueError, match="`rest_port` must be given"):
        client.predict_rest({})
    with pytest.raises(ValueError, match="must hold `str` or `bytes`"):
        client.predict({"word": [None]})
    with pytest.raises(ValueError, match="dtype"):
        client.predict({"word": np.zeros(1, np.complex64)})
