"""The embedded model server: its arguments, its life, its command line."""

import http.client
import json
import os
import signal
import socket
import threading

import pytest

from keras_moe import serving
from keras_moe.serving.server.__main__ import main as server_main
from keras_moe.serving.server._model_api import ModelApi
from keras_moe.serving.server._server_metrics import ServerMetrics
from tests.serving import toy_model


class TestServer:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"model_name": "a/b"}, "`model_name`"),
            ({"host": ""}, "`host`"),
            ({"poll_seconds": 0}, "`poll_seconds`"),
            ({"intra_op_threads": 0}, "`intra_op_threads`"),
            ({"grpc_port": None, "rest_port": None}, "`grpc_port`"),
        ],
    )
    def test_bad_arguments(self, tmp_path, arguments, message):
        arguments = {"model_name": "toy", **arguments}

        with pytest.raises(ValueError, match=message):
            serving.Server(model_base_path=tmp_path, **arguments)

    def test_taken_ports(self, server, tmp_path):
        with pytest.raises(OSError, match="`grpc_port`"):
            serving.Server("toy", tmp_path, grpc_port=server.grpc_port)
        with pytest.raises(OSError, match="`rest_port`"):
            serving.Server("toy", tmp_path, rest_port=server.rest_port)

    def test_listens_on_loopback_only(self, tmp_path, caplog):
        serving.Server("toy", tmp_path).stop()
        assert not caplog.records

        serving.Server("toy", tmp_path, host="0.0.0.0").stop()
        assert "no authentication" in caplog.text
        assert "no encryption" in caplog.text

        caplog.clear()
        token = "a-long-enough-secret"
        serving.Server("toy", tmp_path, host="0.0.0.0", token=token).stop()
        assert "no authentication" not in caplog.text
        assert "no encryption" in caplog.text
        assert token not in caplog.text

    def test_what_is_cut_off_at_the_end_is_no_success(
        self, models, tmp_path, monkeypatch
    ):
        """It was counted as OK, while the client had no answer."""
        begun, may_end, counted = threading.Event(), threading.Event(), []

        def predict(*arguments):
            begun.set()
            may_end.wait(20)

        monkeypatch.setattr(ModelApi, "predict", predict)
        monkeypatch.setattr(
            ServerMetrics,
            "count_request",
            lambda self, *facts: counted.append(facts[:3]),
        )
        toy_model.push(models[1], tmp_path / "toy", 1)
        server = serving.Server(
            "toy", tmp_path / "toy", grpc_port=None, poll_seconds=0.05
        )
        with server:
            server.wait_until_available(60)
            client = http.client.HTTPConnection("127.0.0.1", server.rest_port)
            client.request(
                "POST", "/v1/models/toy:predict", '{"instances": ["ab"]}'
            )
            assert begun.wait(20)
            server.stop(grace=0.1)
            may_end.set()
            client.close()
        assert counted == [("rest", "Predict", "ABORTED")]

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
    def test_no_thread_is_left(self, tmp_path, host, eventually):
        before = set(threading.enumerate())
        handlers = signal.getsignal(signal.SIGINT)
        server = serving.Server("toy", tmp_path, host=host, grpc_port=None)
        with server:
            connection = http.client.HTTPConnection(host, server.rest_port)
            connection.request("GET", "/v1/models/toy")
            assert connection.getresponse().status == 404
        eventually(lambda: set(threading.enumerate()) <= before)
        assert signal.getsignal(signal.SIGINT) is handlers
        # Neither is the socket.
        serving.Server("toy", tmp_path, rest_port=server.rest_port).stop()

    def test_starts_once(self, tmp_path):
        server = serving.Server("toy", tmp_path)
        with server:
            with pytest.raises(RuntimeError, match="started once"):
                server.start()
        server.stop()

    def test_says_what_it_waited_for(self, tmp_path):
        with serving.Server("toy", tmp_path / "missing") as server:
            with pytest.raises(TimeoutError, match="missing.*no version"):
                server.wait_until_available(0.1)

    def test_command_line(self, models, tmp_path, eventually, capsys):
        toy_model.push(models[2], tmp_path / "toy", 1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        client = serving.Client(rest_port=port, model_name="toy")
        answers = []

        def ask():
            try:
                answers.append(client.predict_rest({"word": ["ab"]}))
            except serving.ServingError:
                pass
            return answers

        def ask_and_stop():
            try:
                eventually(ask)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        # The server has the main thread, as signals need it; in this process,
        # since TensorFlow takes long to start.
        asking = threading.Thread(target=ask_and_stop)
        handlers = {
            name: signal.getsignal(name)
            for name in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            asking.start()
            server_main(
                [
                    "--model_name=toy",
                    f"--model_base_path={tmp_path / 'toy'}",
                    "--port=0",
                    f"--rest_api_port={port}",
                    "--file_system_poll_wait_seconds=0.05",
                ]
            )
        finally:
            asking.join()
            for name, handler in handlers.items():
                signal.signal(name, handler)

        assert answers[0]["score"].tolist() == [4.0]
        ports = json.loads(capsys.readouterr().out)
        assert ports == {"grpc_port": None, "rest_port": port}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grpc_port": -5}, "`grpc_port` must be in .*grpc_port=-5"),
        ({"rest_port": 65536}, "`rest_port` must be in .*rest_port=65536"),
        ({"num_versions": 0}, "`num_versions` must be a positive integer"),
        ({"max_batch_rows": 0}, "`max_batch_rows` must be a positive"),
        ({"token": "short"}, "`token` must be at least 16"),
        ({"requests_per_second": 0}, "`requests_per_second` must be"),
        ({"burst": 3}, "`burst` must .*come with"),
        ({"max_workers": 0}, "`max_workers` must be a positive integer"),
    ],
)
def test_numbers_out_of_range(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        serving.Server("m", tmp_path, **arguments)


def test_a_folder_without_versions_is_explained(tmp_path):
    with serving.Server("m", tmp_path) as server:
        with pytest.raises(TimeoutError, match="numbered folders"):
            server.wait_until_available(0.1)


def test_the_command_ends_with_one_line_for_a_bad_argument(tmp_path):
    with pytest.raises(SystemExit, match="`model_name` must be a name") as end:
        server_main(
            ["--model_name=not:a-name", f"--model_base_path={tmp_path}"]
        )
    assert "\n" not in end.value.code
