"""Requests that are broken, and what a server may say to them."""

import base64
import contextlib
import http.client
import json
import random
import socket
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import grpc
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from benchmarks.serving.server_process import MODEL
from benchmarks.serving.server_process import ServerProcess

VERSION, SCALE = 1, 2.0
MAX_BYTES = 1 << 20
_METHOD = "/tensorflow.serving.PredictionService/Predict"
_PATH = f"/v1/models/{MODEL}:predict"
_WORDS = ["ab", "pronunciation", "", "zürich", "a" * 50]
_TIMEOUT = 20.0
# The words that a well-formed request asks for; `None` for a malformed one.
Words = list[bytes] | None


class Outcome(NamedTuple):
    """What became of malformed requests.

    Attributes:
        malformed: how many there were.
        crashes: where the server broke, or broke off.
        successes: where it answered what cannot be answered, or wrongly.
        valid: mutations that left the request right.
    """

    malformed: int
    crashes: list[str]
    successes: list[str]
    valid: int


def send(server: ServerProcess, count: int, seed: int) -> Outcome:
    """Sends malformed requests, by turns over gRPC and REST.

    Args:
        server: serves `WordModel(SCALE)` as its one version.
        count: how many.
        seed: of the mutations.
    """
    rng = random.Random(seed)
    crashes: list[str] = []
    successes: list[str] = []
    malformed = valid = 0
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.rest_port, timeout=_TIMEOUT
    )
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(_METHOD)
        while malformed < count:
            if (malformed + valid) % 2:
                request = _mutate(rng, _message(rng))
                expected = _words_of_message(request)
                answer = _ask_grpc(call, request, crashes)
            elif rng.random() < 0.05:
                request, expected = b"", None
                answer = _ask_noise(rng, server, crashes)
            else:
                request = _body(rng)
                expected = _words_of_body(request)
                answer = _ask_rest(connection, request, crashes)
            malformed += expected is None
            valid += expected is not None
            if answer is not None and not _is_right(expected, answer):
                successes.append(f"{request!r}: {answer}")
            if server.process.poll() is not None:
                crashes.append(f"{request!r} ended the server")
                break
    connection.close()
    return Outcome(malformed, crashes, successes, valid)


def _message(rng: random.Random) -> bytes:
    """Makes a request that parses, with a fault or without."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = rng.choice([MODEL] * 9 + ["other"])
    if rng.random() < 0.2:
        request.model_spec.version.value = rng.choice([VERSION, 0, 2, -1])
    if rng.random() < 0.1:
        request.model_spec.version_label = rng.choice(["stable", "none"])
    if rng.random() < 0.1:
        request.model_spec.signature_name = "serving_default"
    for name in rng.choice([["word"]] * 8 + [["x"], ["word", "x"], []]):
        tensor = request.inputs[name]
        words = rng.choices(_WORDS, k=rng.randint(0, 4))
        tensor.dtype = rng.choice([types_pb2.DT_STRING] * 8 + list(range(30)))
        tensor.string_val.extend(word.encode() for word in words)
        for size in rng.choice(
            [[len(words)]] * 8
            + [[], [-1], [1 << 62], [2, 2], [1 << 31, 1 << 31], [0]]
        ):
            tensor.tensor_shape.dim.add().size = size
    if rng.random() < 0.1:
        request.output_filter.append(rng.choice(["score", "none"]))
    return request.SerializeToString()


def _body(rng: random.Random) -> bytes:
    """A JSON body, mutated in its structure, in its text, or both."""
    key = rng.choice(["instances", "inputs"])
    value: Any = list(rng.choices(_WORDS, k=rng.randint(0, 4)))
    odd = [None, 1, -1.5, True, [], {}, ["a"], {"b64": "YQ=="}, {"b64": "?"}]
    odd += [{"word": "a"}, {"x": "a"}, float("nan"), "\ud800", 10**400]
    if rng.random() < 0.6:
        value.insert(rng.randint(0, len(value)), rng.choice(odd))
    if rng.random() < 0.2:
        value = rng.choice([{"word": value}, {"x": value}, [value], *odd])
    document: Any = {key: value}
    if rng.random() < 0.2:
        document[rng.choice(["instances", "inputs", "signature_name"])] = (
            rng.choice([value, "serving_default", "none", 3, ["a"]])
        )
    if rng.random() < 0.05:
        document = rng.choice([value, [document], None, "text", 1])
    body = json.dumps(document).encode()
    if rng.random() < 0.05:
        body = b"[" * rng.randint(1, 50_000)
    return _mutate(rng, body) if rng.random() < 0.5 else body


def _mutate(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 5, 20])):
        place = rng.randint(0, len(changed))
        kind = rng.randrange(5)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            changed[place:place] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            del changed[place : place + rng.randint(1, 4)]
        elif kind == 3 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif place < len(changed):
            changed[place] = rng.choice([0, 0x7F, 0x80, 0xFF])
    return bytes(changed)


def _words_of_message(data: bytes) -> Words:
    """Reads a message as the API is written, without the server's code."""
    try:
        request = predict_pb2.PredictRequest.FromString(data)
    except message.DecodeError:
        return None
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    if (
        spec.name != MODEL
        or spec.signature_name not in ("", "serving_default")
        or (choice == "version" and spec.version.value != VERSION)
        or (
            choice == "version_label"
            and spec.version_label not in ("stable", "canary")
        )
        or list(request.inputs) != ["word"]
        or not set(request.output_filter) <= {"score", "upper"}
        or len(set(request.output_filter)) < len(request.output_filter)
    ):
        return None
    tensor = request.inputs["word"]
    shape = tensor.tensor_shape
    if tensor.dtype != types_pb2.DT_STRING or shape.unknown_rank:
        return None
    if len(shape.dim) != 1 or not 0 <= shape.dim[0].size <= 4096:
        return None
    if tensor.tensor_content:
        with contextlib.suppress(tf.errors.OpError):
            parsed = tf.io.parse_tensor(tensor.SerializeToString(), tf.string)
            return list(parsed.numpy())
        return None
    words, size = list(tensor.string_val), shape.dim[0].size
    if len(words) > size:
        return None
    return words + [words[-1] if words else b""] * (size - len(words))


def _words_of_body(body: bytes) -> Words:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    if document.get("signature_name", "") not in ("", "serving_default"):
        return None
    found = [key for key in ("instances", "inputs") if key in document]
    if len(found) != 1:
        return None
    content = document[found[0]]
    if found[0] == "inputs" and isinstance(content, dict):
        content = content.get("word")
    elif found[0] == "instances" and isinstance(content, list):
        if not content:
            return None
        if all(isinstance(r, dict) and r.keys() == {"word"} for r in content):
            content = [row["word"] for row in content]
    if not isinstance(content, list):
        return None
    words = [_word(value) for value in content]
    return None if None in words else [w for w in words if w is not None]


def _word(value: Any) -> bytes | None:
    try:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict) and value.keys() == {"b64"}:
            text = "".join(value["b64"].split())
            text += "=" * (-len(text) % 4)
            return base64.b64decode(text, validate=True)
    except (AttributeError, ValueError):
        pass
    return None


def _is_right(words: Words, answer: dict[str, list]) -> bool:
    if words is None:
        return False
    expected = {
        "score": [SCALE * len(word) for word in words],
        "upper": [word.upper() for word in words],
    }
    return bool(answer) and all(
        [_as_text(value) for value in values]
        == [_as_text(value) for value in expected[name]]
        for name, values in answer.items()
    )


# REST shows bytes that are not UTF-8 with a replacement mark: decode gRPC's
# answer alike before the two are compared.
def _as_text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _ask_grpc(call: Any, request: bytes, crashes: list[str]) -> dict | None:
    try:
        data = call(request, timeout=_TIMEOUT)
    except grpc.RpcError as error:
        code, details = error.code().name, error.details() or ""
        if code not in _REFUSALS:
            crashes.append(f"{request!r}: {code}: {details}")
        return None
    response = predict_pb2.PredictResponse.FromString(data)
    return {
        name: list(tensor.string_val or tensor.float_val)
        for name, tensor in response.outputs.items()
    }


_REFUSALS = (
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
)


def _ask_rest(
    connection: http.client.HTTPConnection, body: bytes, crashes: list[str]
) -> dict | None:
    try:
        connection.request("POST", _PATH, body)
        response = connection.getresponse()
        text = response.read()
        document = json.loads(text)
    except (OSError, http.client.HTTPException, ValueError) as error:
        crashes.append(f"{body!r}: {error!r}")
        connection.close()
        return None
    if response.status != 200:
        if not 400 <= response.status < 500 or "error" not in document:
            crashes.append(f"{body!r}: {response.status}: {text!r}")
        return None
    if "outputs" in document:
        return document["outputs"]
    rows = document["predictions"]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _ask_noise(
    rng: random.Random, server: ServerProcess, crashes: list[str]
) -> dict | None:
    """Sends bytes that are not HTTP, or break the promises of their header."""
    noise = rng.choice(list(_noise(rng)))
    port = rng.choice([server.rest_port] * 3 + [server.grpc_port])
    try:
        with socket.create_connection(("127.0.0.1", port), _TIMEOUT) as peer:
            peer.sendall(noise)
            # The server may have closed the connection already.
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := peer.recv(1 << 16):
                answer += chunk
    except ConnectionResetError:
        return None
    except OSError as error:
        crashes.append(f"{noise[:100]!r}: {error!r}")
        return None
    if answer.startswith(b"HTTP/1.1 5") and b" 501 " not in answer[:20]:
        # 505 is the right answer to a version of HTTP that the server does not
        # speak, as 501 is to a method; any other 5xx is a crash.
        if b" 505 " not in answer[:20]:
            crashes.append(f"{noise[:100]!r}: {answer!r}")
    if answer.startswith(b"HTTP/1.1 200"):
        return {"answer": [answer]}
    return None


def _noise(rng: random.Random) -> Iterator[bytes]:
    body = b'{"instances": ["ab"]}'
    yield rng.randbytes(rng.randint(1, 300))
    yield b"\x16\x03\x01" + rng.randbytes(100)
    yield (
        b"POST " + rng.randbytes(30).replace(b"\n", b"") + b" HTTP/1.1\r\n\r\n"
    )
    for length in (b"-1", b"abc", b"9" * 30, b"1e3", b"999999999"):
        yield (
            f"POST {_PATH} HTTP/1.1\r\nContent-Length: ".encode()
            + length
            + b"\r\n\r\n"
            + body
        )
    yield (
        f"POST {_PATH} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        + b"15\r\n"
        + body
        + b"\r\n0\r\n\r\n"
    )
    yield f"PUT {_PATH} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode()
    yield b"GET /v1/models/../../etc/passwd HTTP/1.1\r\n\r\n"
    yield b"GET / HTTP/9.9\r\n\r\n"
    yield b"A" * 100_000
    yield b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n"
