"""The embedded model server over REST: answers and refusals."""

import http.client
import socket

import numpy as np
import pytest

PREDICT = "/v1/models/toy:predict"


class TestRest:
    def test_row_format(self, rest):
        assert rest(PREDICT, {"instances": ["ab", "c"]}) == (
            200,
            {
                "predictions": [
                    {"phonemes": "AB", "score": 2.0},
                    {"phonemes": "C", "score": 1.0},
                ]
            },
        )

    def test_row_format_with_names(self, rest):
        rows = [{"word": "ab", "threshold": 3}, {"word": "c", "threshold": 0.5}]

        assert rest(
            PREDICT, {"signature_name": "with_threshold", "instances": rows}
        ) == (200, {"predictions": [0, 1]})

    def test_column_format(self, rest):
        expected = {"phonemes": ["AB"], "score": [2.0]}
        for inputs in (["ab"], {"word": ["ab"]}, [{"b64": "YWI="}]):
            assert rest(PREDICT, {"inputs": inputs}) == (
                200,
                {"outputs": expected},
            )

    def test_pinned_version(self, rest):
        body = {"instances": ["a"]}
        assert rest("/v1/models/toy/versions/3:predict", body)[0] == 200
        assert rest("/v1/models/toy/versions/4:predict", body) == (
            404,
            {"error": "Servable not found for request: Specific(toy, 4)"},
        )

    def test_bytes_output(self, rest):
        status, document = rest(
            PREDICT, {"signature_name": "number", "inputs": ["12"]}
        )

        assert status == 200
        assert document["outputs"] == {
            "raw_bytes": [{"b64": "MTL/"}],
            "value": [12.0],
        }

    def test_not_a_number_and_infinity(self, rest):
        pairs = [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.1, 1.0]]

        status, document = rest(
            PREDICT, {"signature_name": "ratio", "instances": pairs}
        )

        values = document["predictions"]
        assert status == 200
        assert values[:2] == [np.inf, -np.inf]
        assert np.isnan(values[2])
        # The shortest text of the float32, as the stock server prints it.
        assert values[3] == 0.1
        nan = b'{"signature_name": "ratio", "inputs": [[NaN, -Infinity]]}'
        assert np.isnan(rest(PREDICT, nan)[1]["outputs"][0])

    def test_scalar_outputs_need_columns(self, rest):
        body = {"signature_name": "count", "inputs": ["a", "b"]}
        assert rest(PREDICT, body) == (
            200,
            {"outputs": {"count": 2, "first": "a"}},
        )

        body["instances"] = body.pop("inputs")
        status, document = rest(PREDICT, body)
        assert status == 400
        assert "inconsistent batch size" in document["error"]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "JSON Parse error"),
            (b"{", "JSON Parse error"),
            (b"[1]", "Is not object"),
            (b"[" * 10_000, "JSON Parse error"),
            (b"\xff\xfe\xfa", "JSON Parse error"),
            ({}, "Missing 'inputs' or 'instances' key"),
            ({"inputs": ["a"], "instances": ["a"]}, "only one of"),
            ({"instances": []}, "at least one element"),
            ({"instances": "a"}, "to be a list"),
            ({"instances": ["a"], "signature_name": 1}, "must be a string"),
            (
                {"instances": ["a"], "signature_name": "nothing"},
                'Serving signature key "nothing" not found',
            ),
            ({"instances": [1.5]}, "is not of expected type: string"),
            ({"instances": [None]}, "is not of expected type: string"),
            ({"instances": ["a", ["b"]]}, "is not of expected type"),
            ({"inputs": [["a"], ["b", "c"]]}, "dense tensor"),
            ({"inputs": [["a"]]}, "to have shape [None] but got shape [1, 1]"),
            ({"inputs": {"x": ["a"]}}, "Missing but required: {word}"),
            ({"inputs": {}}, "Missing but required: {word}"),
            ({"instances": [{"x": "a"}]}, "keys must be equal to: word"),
            ({"instances": [{"word": "a"}, "b"]}, "keys must be equal to"),
            ({"instances": [{"b64": "?"}]}, "Unable to base64 decode"),
            (b'{"instances": ["\\ud800"]}', "not of expected type: string"),
            (
                b'{"inputs": "a", "signature_name": "\\ud800"}',
                "'signature_name' key must be a string value",
            ),
            (
                {"signature_name": "with_threshold", "instances": ["a"]},
                "multiple input tensors",
            ),
            (
                {"signature_name": "with_threshold", "inputs": ["a"]},
                "multiple input tensors",
            ),
            (
                {"signature_name": "ratio", "inputs": [[True, 1]]},
                "is not of expected type: float32",
            ),
            (
                {"signature_name": "ratio", "inputs": [["1", 1]]},
                "is not of expected type: float32",
            ),
            (
                {"signature_name": "ratio", "inputs": [[10**400, 1]]},
                "must fit float32",
            ),
            (
                {"signature_name": "number", "inputs": ["no number"]},
                "could not correctly convert string",
            ),
        ],
    )
    def test_bad_bodies(self, rest, body, message):
        status, document = rest(PREDICT, body)

        assert status == 400
        assert message in document["error"]
        assert rest(PREDICT, {"instances": ["a"]})[0] == 200

    @pytest.mark.parametrize(
        ("path", "body", "status", "message"),
        [
            ("/v1/models/other:predict", {"instances": ["a"]}, 404, "Latest"),
            ("/v1/models/other", None, 404, "Could not find any versions"),
            ("/v1/models/toy/versions/7", None, 404, "version 7"),
            ("/v1/models/toy/labels/x", None, 400, "version label: x"),
            ("/v1/models/other/metadata", None, 404, "Latest(other)"),
            ("/v1/models/toy:explain", {}, 400, "Malformed request: POST"),
            ("/v1/models/toy:predict", None, 400, "Malformed request: GET"),
            ("/v1/models/toy:classify", {}, 501, "classify"),
            ("/", {}, 400, "Malformed request: POST /"),
            ("/v1", None, 400, "Malformed request: GET /v1"),
            ("/page/none.js", None, 404, "There is no /page/none.js"),
            ("/page/3/none.png", None, 404, "There is no /page/3/none.png"),
            ("/page/4/load.png", None, 404, "Specific(toy, 4)"),
            (f"/page/{'9' * 30}/load.png", None, 404, "There is no /page"),
            ("/page/../setup.py", None, 400, "Malformed request: GET"),
            ("/page/%2e%2e/setup.js", None, 400, "Malformed request: GET"),
            (f"/v1/models/toy/versions/{'9' * 30}", None, 400, "numeric"),
        ],
    )
    def test_bad_paths(self, rest, path, body, status, message):
        received, document = rest(path, body)

        assert received == status
        assert message in document["error"]

    def test_too_large(self, rest):
        headers = {"Content-Length": str(2 << 20)}

        status, document = rest(PREDICT, b"{}", headers)

        assert status == 413
        assert "at most 1048576 bytes" in document["error"]

    def test_length_must_be_known(self, rest):
        for headers, expected in (
            ({"Transfer-Encoding": "chunked"}, 411),
            ({"Content-Length": "-1"}, 400),
        ):
            assert rest(PREDICT, b"{}", headers)[0] == expected

    def test_other_methods_are_refused_in_json(self, server):
        connection = http.client.HTTPConnection(
            "127.0.0.1", server.rest_port, timeout=10
        )
        connection.request("PUT", PREDICT, b"{}")
        response = connection.getresponse()

        assert response.status == 501
        assert b'"error"' in response.read()

    def test_noise_and_broken_connections(self, server, rest):
        for noise in (b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"POST / HT"):
            with socket.create_connection(
                ("127.0.0.1", server.rest_port), timeout=10
            ) as connection:
                connection.sendall(noise)

        assert rest(PREDICT, {"instances": ["a"]})[0] == 200

    def test_connection_is_kept(self, server):
        connection = http.client.HTTPConnection(
            "127.0.0.1", server.rest_port, timeout=10
        )
        for body in (b'{"instances": ["a"]}', b"{", b'{"instances": ["a"]}'):
            connection.request("POST", PREDICT, body)
            response = connection.getresponse()
            response.read()
            assert response.status == (400 if body == b"{" else 200)

    def test_status(self, rest):
        expected = {
            "model_version_status": [
                {
                    "version": "3",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        }
        assert rest("/v1/models/toy") == (200, expected)
        assert rest("/v1/models/toy/versions/3") == (200, expected)

    def test_metadata(self, rest):
        status, document = rest("/v1/models/toy/metadata")

        assert status == 200
        assert document["model_spec"]["name"] == "toy"
        assert document["model_spec"]["version"] == "3"
        signatures = document["metadata"]["signature_def"]["signature_def"]
        word = signatures["serving_default"]["inputs"]["word"]
        assert word == {
            "name": "serving_default_word:0",
            "dtype": "DT_STRING",
            "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}],
                "unknown_rank": False,
            },
        }
