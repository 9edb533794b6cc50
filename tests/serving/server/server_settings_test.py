"""What a server is told: checked once, and no secret is shown."""

import dataclasses
import inspect
import re

import pytest

from keras_moe import serving
from keras_moe.serving.server._server_settings import ServerSettings


def test_cannot_be_changed(tmp_path):
    settings = ServerSettings("toy", tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.host = "0.0.0.0"


def test_the_token_is_not_shown(tmp_path):
    secret = "a-long-enough-secret"
    settings = ServerSettings("toy", tmp_path, token=secret)
    assert settings.token == secret
    assert secret not in repr(settings)


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ({}, 4),
        ({"max_batch_rows": 8}, 32),
        ({"max_workers": 7}, 7),
        ({"max_workers": 7, "max_batch_rows": 8}, 7),
    ],
)
def test_workers(tmp_path, options, workers):
    assert ServerSettings("toy", tmp_path, **options).workers == workers


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("localhost.example.org", False),
    ],
)
def test_who_can_reach_it(tmp_path, host, is_loopback):
    assert ServerSettings("toy", tmp_path, host).is_loopback == is_loopback


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": "short"}, "`token` must be at least 16"),
        ({"requests_per_second": 0}, "`requests_per_second` must be"),
        ({"burst": 3}, "`burst` must come with"),
        ({"poll_seconds": float("nan")}, "`poll_seconds` must be positive"),
        # The watcher's thread would end: nothing waits for so long.
        ({"poll_seconds": float("inf")}, "`poll_seconds` .* finite"),
        ({"poll_seconds": "1"}, "`poll_seconds` must be positive"),
        ({"grpc_port": "8500"}, "`grpc_port` must be in .*'8500'"),
        ({"rest_port": True}, "`rest_port` must be in .*True"),
        ({"grpc_port": 8500.5}, "`grpc_port` must be in"),
        ({"host": 3}, "`host` must be given as an address"),
        ({"model_name": 3}, "`model_name` must be a name"),
        ({"model_base_path": None}, "`model_base_path` must be a folder"),
        ({"model_base_path": "gs://b/m"}, "`model_base_path` must be a folder"),
        ({"tls": "server.pem"}, "`tls` must be a `keras_moe.serving.Tls`"),
        ({"request_log": "logs"}, "`request_log` must be .*RequestLog"),
        ({"requests_per_second": "2"}, "`requests_per_second` must be"),
        (
            {"requests_per_second": 2, "burst": 1.5},
            "`burst` must be a positive integer",
        ),
    ],
)
def test_out_of_range(tmp_path, options, message):
    arguments = {"model_name": "toy", "model_base_path": tmp_path, **options}
    with pytest.raises(ValueError, match=message):
        ServerSettings(**arguments)


def test_a_token_that_is_no_text_is_not_shown(tmp_path):
    secret = b"a-long-enough-secret"
    with pytest.raises(ValueError, match="`token` must be text.*bytes") as told:
        ServerSettings("toy", tmp_path, token=secret)
    assert secret.decode() not in str(told.value)


def test_the_server_names_each_with_the_same_default():
    of_server, of_settings = (
        {
            name: (parameter.default, parameter.annotation)
            for name, parameter in inspect.signature(each).parameters.items()
        }
        for each in (serving.Server, ServerSettings)
    )
    assert of_server == of_settings


def test_the_server_explains_each():
    # Cleaned, as Python 3.13 has cleaned it already.
    text = inspect.getdoc(serving.Server)
    explained = re.findall(r"^ {4}(\w+): ", text, re.M)
    for field in dataclasses.fields(ServerSettings):
        assert field.name in explained


def test_the_server_refuses_what_is_no_setting(tmp_path):
    with pytest.raises(TypeError, match="Server.__init__.*'prot'"):
        serving.Server("toy", tmp_path, prot=8500)
