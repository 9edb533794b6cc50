"""The flags of the server's command."""

import dataclasses

import pytest

from keras_moe.serving.server import _command_line as command_line
from keras_moe.serving.server.__main__ import main
from keras_moe.serving.server._server_settings import ServerSettings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tls_certificate=server.pem"], "go with each other"),
        (["--token_file=missing"], "missing"),
        (
            ["--tls_certificate=token", "--tls_private_key=token"],
            "fit each other",
        ),
        (
            ["--request_log_directory=x", "--request_log_sampling_rate=2"],
            "sampling_rate=2",
        ),
        (["--port=busy"], "must be a port, 0 or 'free'. Received: 'busy'"),
    ],
)
def test_flags_that_cannot_be_right(
    tmp_path, monkeypatch, capsys, arguments, message
):
    (tmp_path / "token").write_text("no certificate")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        command_line.parse(["--model_base_path=serving/g2p", *arguments])
    assert message in capsys.readouterr().err


def options(*arguments):
    return command_line.parse(["--model_base_path=b", *arguments])


def test_flags():
    settings = options("--enable_batching", "--num_versions=3").server_options
    assert settings["max_batch_rows"] == 32
    assert settings["num_versions"] == 3
    assert settings["host"] == "127.0.0.1"
    assert settings["token"] is None
    assert options().server_options["max_batch_rows"] is None


def test_ports():
    for flags, ports in (
        ((), (8500, None)),
        (("--port=0", "--rest_api_port=8501"), (None, 8501)),
        (("--port=free", "--rest_api_port=free"), (0, 0)),
    ):
        settings = options(*flags).server_options
        assert (settings["grpc_port"], settings["rest_port"]) == ports


def test_how_it_ends():
    assert not options().ends_with_stdin
    assert options("--end_with_stdin").ends_with_stdin


def test_every_option_of_the_server_has_a_flag():
    fields = {field.name for field in dataclasses.fields(ServerSettings)}
    assert fields - options().server_options.keys() == {"max_workers"}


def test_what_the_server_refuses_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="`burst` must come with"):
        main([f"--model_base_path={tmp_path}", "--burst=3"])
