import json
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import serving
from keras_moe.orchestration import CommandLine
from keras_moe.orchestration import ComponentRun
from keras_moe.orchestration import Flag
from keras_moe.orchestration import Outcome
from keras_moe.orchestration import RunConfig
from keras_moe.orchestration import ask_both_ways
from keras_moe.orchestration import demo_command
from keras_moe.orchestration import served

pytestmark = pytest.mark.tfx


class ToyConfig(RunConfig):
    model_name = "toys"
    steps: int = 3


COMMAND_LINE = CommandLine(ToyConfig, [Flag("steps", "steps", int)])


class ToyRunner:
    """Pushes version 7, or nothing."""

    def __init__(self, pushed=True):
        self.pushed = pushed

    def run(self, config, console):
        run = ComponentRun("Pusher", False, 0.1, {})
        version = config.serving_dir / "7" if self.pushed else None
        reason = "" if self.pushed else "there are no toys"
        return Outcome((run,), version, reason)


def run(show, tmp_path, *flags, pushed=True):
    argv = ["--output", str(tmp_path), *flags]
    runner = ToyRunner(pushed)
    return demo_command(runner, show, COMMAND_LINE, "demo", "Shows toys.", argv)


def read_report(tmp_path):
    return json.loads((tmp_path / "report.json").read_text())


def test_a_demo_shows_what_was_pushed_and_reports(tmp_path, capsys):
    told = []

    def show(*given):
        told.append(given)
        return {"toys": 3}

    assert run(show, tmp_path, "--steps", "8") == 0
    ((config, outcome, console),) = told
    assert (config.steps, config.output) == (8, tmp_path)
    assert outcome.pushed.name == "7" and console.stderr
    report = read_report(tmp_path)
    assert 0 <= report.pop("minutes") < 1
    assert report == {"toys": 3, "version": 7}
    said = capsys.readouterr().err
    assert "Pushed version 7" in said and "0.0 minutes since" in said
    # Who began earlier, to set things up, says so.
    hour_ago = str(time.time() - 3600)
    run(show, tmp_path, "--began", hour_ago)
    assert read_report(tmp_path)["minutes"] == pytest.approx(60, abs=1)


def fail(*_):
    raise ValueError("the toys are broken")


@pytest.mark.parametrize(
    ("pushed", "sentence"),
    [(True, "the toys are broken"), (False, "pushed: there are no toys.")],
)
def test_a_demo_that_fails_ends_in_one_sentence(
    tmp_path, capsys, pushed, sentence
):
    assert run(fail, tmp_path, pushed=pushed) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert not (tmp_path / "report.json").exists()


def test_what_both_ways_say_must_be_equal():
    class Client:
        def predict(self, request, signature_name):
            assert signature_name == "toys"
            return {"name": np.array(request["x"]), "score": np.array([0.1])}

        def predict_rest(self, request, signature_name):
            score = np.array([0.10000001])
            return {"name": np.array(request["x"]), "score": score}

    found = ask_both_ways(Client(), {"x": [b"a"]}, ["name"], "toys")
    assert found["name"].tolist() == [b"a"]
    with pytest.raises(RuntimeError, match="must give the same 'score'"):
        ask_both_ways(Client(), {"x": [b"a"]}, ["name", "score"], "toys")


@pytest.mark.usefixtures("servers_look_often")
def test_what_was_pushed_is_served(tmp_path):
    model = keras.Sequential([keras.Input([2]), keras.layers.Identity()])
    config = ToyConfig(output=tmp_path)
    serving.export_endpoints(
        config.serving_dir / "1",
        {
            "serving_default": (
                lambda x: {"y": model(x)},
                [tf.TensorSpec([None, 2], tf.float32, name="x")],
            )
        },
    )
    x = np.ones([3, 2], "float32")
    with served(config) as (server, client):
        assert server.rest_port != server.grpc_port
        np.testing.assert_array_equal(client.predict({"x": x})["y"], x)
        np.testing.assert_array_equal(client.predict_rest({"x": x})["y"], x)
    with pytest.raises(serving.ServingError):
        serving.Client(
            rest_port=server.rest_port, model_name="toys"
        ).predict_rest({"x": x})
