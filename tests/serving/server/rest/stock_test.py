"""What the stock server takes and refuses over REST, and so does this one."""

import base64
import functools
import gzip
import shutil

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_moe import serving

PREDICT = "/v1/models/toy:predict"
BODY = b'{"instances": ["ab"]}'


class TestGzip:
    HEADERS = {"Content-Encoding": "gzip"}

    def test_bodies(self, rest):
        answer = rest(PREDICT, gzip.compress(BODY), self.HEADERS)
        assert answer == rest(PREDICT, BODY)
        assert answer[0] == 200

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"\x1f\x8b no gzip", "not gzip"),
            (gzip.compress(BODY)[:-1], "not one gzip stream"),
            (gzip.compress(BODY) + b"more", "not one gzip stream"),
            # 10 MiB in 10 KiB; the limit of these tests is 1 MiB.
            (gzip.compress(b" " * (10 << 20)), "at most 1048576 bytes when"),
        ],
        # The time of compression is in the bytes: workers of pytest would
        # collect tests of different names.
        ids=["not compressed", "cut", "followed", "large"],
    )
    def test_what_is_none(self, rest, body, message):
        status, document = rest(PREDICT, body, self.HEADERS)
        assert status == 400
        assert message in document["error"]

    def test_other_encodings(self, rest):
        status, document = rest(PREDICT, BODY, {"Content-Encoding": "br"})
        assert status == 400
        assert "Content-Encoding must be gzip" in document["error"]


@pytest.mark.parametrize(
    "text",
    ["YWI=", "YWI", "YW\nI=", "Y W\r\nI", "YWI=\n"],
)
def test_base64_with_line_breaks_and_without_padding(rest, text):
    status, document = rest(PREDICT, {"inputs": [{"b64": text}]})
    assert status == 200
    assert document["outputs"]["phonemes"] == ["AB"]


@pytest.mark.parametrize("text", ["YWI==", "Y", "YW-_", "=", 1, None, ["YQ"]])
def test_what_is_no_base64(rest, text):
    status, document = rest(PREDICT, {"inputs": [{"b64": text}]})
    assert status == 400
    assert "base64" in document["error"]


def test_base64_of_a_long_text(rest):
    word = base64.encodebytes(b"x" * 1000).decode()
    assert word.count("\n") > 10
    status, document = rest(PREDICT, {"inputs": [{"b64": word}]})
    assert status == 200
    assert document["outputs"]["score"] == [1000.0]


def test_further_keys_in_columns(rest):
    inputs = {"word": ["ab"], "comment": {"of": "ours"}}
    assert rest(PREDICT, {"inputs": inputs, "id": 7})[0] == 200
    # Rows are strict.
    assert rest(PREDICT, {"instances": [inputs]})[0] == 400


@pytest.mark.parametrize("number", ["1e400", "-1e400", "[1e999"])
def test_numbers_beyond_double(rest, number):
    body = f'{{"signature_name": "ratio", "inputs": [[{number}, 1]]}}'
    status, document = rest(PREDICT, body.encode())
    assert status == 400
    assert "JSON Parse error" in document["error"]


def test_infinity_as_a_word(rest):
    body = b'{"signature_name": "ratio", "inputs": [[Infinity, 1], [1, 2]]}'
    assert rest(PREDICT, body) == (200, {"outputs": [float("inf"), 0.5]})


def test_versions_of_nineteen_digits(rest):
    largest = 2**63 - 1
    for path in ("", ":predict"):
        body = {"instances": ["a"]} if path else None
        status, document = rest(
            f"/v1/models/toy/versions/{largest}{path}", body
        )
        assert status == 404
        assert str(largest) in document["error"]


def test_an_empty_label(rest):
    body = {"instances": ["a"]}
    assert rest("/v1/models/toy/labels/:predict", body)[0] == 400


def test_defaults_of_a_signature(models, tmp_path):
    """An input that has a default may be left out, over both ways."""
    folder = tmp_path / "toy/1"
    shutil.copytree(models[1], folder)
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    definition = model.meta_graphs[0].signature_def["with_threshold"]
    definition.defaults["threshold"].CopyFrom(tf.make_tensor_proto([2.0]))
    path.write_bytes(model.SerializeToString())
    with serving.Server("toy", tmp_path / "toy", poll_seconds=0.05) as server:
        server.wait_until_available()
        with serving.Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name="toy",
        ) as client:
            for method in (client.predict, client.predict_rest):
                ask = functools.partial(method, signature_name="with_threshold")
                assert ask({"word": ["abc"]})["accepted"] == [1]
                assert ask({"word": ["a"]})["accepted"] == [0]
                given = {"word": ["a"], "threshold": [0.5]}
                assert ask(given)["accepted"] == [1]
                with pytest.raises(serving.ServingError, match="word"):
                    ask({"threshold": [0.5]})
