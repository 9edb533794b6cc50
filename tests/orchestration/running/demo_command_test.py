import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import serving
from keras_moe.orchestration import CommandLine
from keras_moe.orchestration import Flag
from keras_moe.orchestration import RunConfig
from keras_moe.orchestration import demo_command
from keras_moe.orchestration import served

pytestmark = pytest.mark.tfx


class ToyConfig(RunConfig):
    model_name = "toys"
    steps: int = 3


COMMAND_LINE = CommandLine(ToyConfig, [Flag("steps", "steps", int)])


def run(run_demo, tmp_path, *flags):
    argv = ["--output", str(tmp_path), *flags]
    return demo_command(run_demo, COMMAND_LINE, "demo", "Shows toys.", argv)


def test_a_demo_is_told_what_the_flags_say(tmp_path):
    told = []
    assert run(lambda *given: told.append(given), tmp_path, "--steps", "7") == 0
    ((config, console, began),) = told
    assert (config.steps, config.output) == (7, tmp_path)
    assert console.stderr
    assert 0 <= time.time() - began < 60
    # Who began earlier, to set things up, says so.
    run(lambda *given: told.append(given), tmp_path, "--began", "12.5")
    assert told[-1][2] == 12.5


def test_a_demo_that_fails_ends_in_one_sentence(tmp_path, capsys):
    def fail(*_):
        raise ValueError("there are no toys")

    assert run(fail, tmp_path) == 1
    said = capsys.readouterr().err
    assert "there are no toys" in said
    assert "Traceback" not in said


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
