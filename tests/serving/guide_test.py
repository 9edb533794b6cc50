"""The guide's code runs as it stands, and its commands do what they say."""

import pathlib
import re
import shlex

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import keras_moe
from keras_moe.serving import Rollout
from keras_moe.serving import rollout
from keras_moe.serving.server import _command_line as command_line
from tests.serving import toy_model
from tests.serving.server.security_test import certify

GUIDE = pathlib.Path(__file__).parents[2] / "docs/serving.md"
ROLLOUT = "python -m keras_moe.serving.rollout "
SERVER = "python -m keras_moe.serving.server "
BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)


@pytest.fixture
def folder(models, tmp_path, monkeypatch):
    for version in (1, 2):
        toy_model.push(models[version], tmp_path / "serving/g2p", version)
    for path, name in zip(
        certify(tmp_path, "guide"), ("server.pem", "server.key"), strict=True
    ):
        path.rename(tmp_path / name)
    (tmp_path / "token").write_text("a-long-enough-secret\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_everything_in_its_order(folder, eventually):
    names = {
        "keras_moe": keras_moe,
        "pathlib": pathlib,
        "prediction_log_pb2": prediction_log_pb2,
        "tf": tf,
    }
    seen = []
    for language, block in BLOCK.findall(GUIDE.read_text()):
        if language == "python":
            exec(block, names)
            if "server" in names and "labels" not in seen:
                eventually(lambda: len(names["server"].labels()) == 2)
                eventually(lambda: names["server"].labels()["stable"] == 1)
                seen.append("labels")
            continue
        for line in block.replace("\\\n", "").splitlines():
            _run(line, seen)
    names["server"].stop()

    assert seen == ["server", "labels", "rollback", "restore"] + [
        *("promote", "status", "status", "server", "benchmark")
    ]
    assert Rollout.read("serving/g2p") == Rollout(stable=2)
    assert "version_labels" in (folder / "models.config").read_text()


def _run(line, seen):
    if line.startswith(ROLLOUT):
        arguments = shlex.split(line.removeprefix(ROLLOUT))
        assert rollout.main(arguments) == 0
        seen.append(arguments[0])
    elif line.startswith(SERVER):
        settings = command_line.parse(
            shlex.split(line.removeprefix(SERVER))
        ).server_options
        settings |= {"grpc_port": 0, "rest_port": 0, "host": "127.0.0.1"}
        settings |= {"poll_seconds": 0.05}
        with keras_moe.serving.Server(**settings) as server:
            server.wait_until_available()
        seen.append("server")
    else:
        assert line.startswith("python -m benchmarks.serving ")
        seen.append("benchmark")
