"""A real server in a process of its own, and real requests."""

import pathlib
import re
import signal
import sys
import time

import pytest
import tensorflow as tf
from tfx.components.infra_validator import error_types
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from keras_moe import components
from keras_moe.components.gates import (
    _embedded_server_runner as embedded_server_runner,
)
from keras_moe.components.gates import _infra_validator as infra_validator
from keras_moe.components.gates._infra_validator import InfraValidatorExecutor
from keras_moe.serving import export_endpoints
from keras_moe.serving import write_warmup_requests
from tests.components.artifacts_of import artifact
from tests.components.gates.server_in_process import ServerInProcess

pytestmark = pytest.mark.tfx


class Upper(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def examples(self, examples):
        parsed = tf.io.parse_example(
            examples, {"word": tf.io.FixedLenFeature([], tf.string)}
        )
        return {"upper": tf.strings.upper(parsed["word"])}


def make_model(directory):
    made = artifact(standard_artifacts.Model, directory)
    path = pathlib.Path(directory, "Format-Serving")
    module = Upper()
    tf.saved_model.save(module, str(path), {"examples": module.examples})
    record = example("kept")
    write_warmup_requests(path, [("examples", {"examples": [record]})])
    return made


def example(word):
    value = tf.train.BytesList(value=[word.encode()])
    feature = {"word": tf.train.Feature(bytes_list=value)}
    features = tf.train.Features(feature=feature)
    return tf.train.Example(features=features).SerializeToString()


def make_examples(directory):
    made = artifact(
        standard_artifacts.Examples,
        directory,
        ["test"],
        payload_format="FORMAT_TF_EXAMPLE",
    )
    folder = pathlib.Path(directory, "Split-test")
    folder.mkdir()
    path = str(folder / "data_tfrecord-00000-of-00001.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for word in ("one", "two", "three"):
            writer.write(example(word))
    return made


def validate(tmp_path, model, **options):
    blessing = artifact(standard_artifacts.InfraBlessing, tmp_path / "blessing")
    component = components.InfraValidator(
        model=standard_channel(standard_artifacts.Model),
        examples=standard_channel(standard_artifacts.Examples),
        model_name="upper",
        split="test",
        num_examples=2,
        max_loading_seconds=90,
        **options,
    )
    properties = {
        key: proto_utils.proto_to_json(value)
        if hasattr(value, "DESCRIPTOR")
        else value
        for key, value in component.exec_properties.items()
    }
    executor = InfraValidatorExecutor(
        InfraValidatorExecutor.Context(
            tmp_dir=str(tmp_path / "tmp"), unique_id="1"
        )
    )
    executor.Do(
        {"model": [model], "examples": [make_examples(tmp_path / "x")]},
        {"blessing": [blessing]},
        properties,
    )
    return blessing


def standard_channel(kind):
    from tfx.types import channel_utils

    return channel_utils.as_channel([kind()])


@pytest.fixture
def ended(monkeypatch):
    """The endpoint, the exit code and the log of each server that ended."""
    found = []

    class Runner(embedded_server_runner.EmbeddedServerRunner):
        def Stop(self):
            process, endpoint = self._process, self.GetEndpoint()
            super().Stop()
            found.append((endpoint, process.returncode, self.GetLogs()))

    monkeypatch.setattr(infra_validator, "EmbeddedServerRunner", Runner)
    return found


def test_a_model_that_answers_is_blessed_with_its_warm_up(tmp_path, ended):
    blessing = validate(tmp_path, make_model(tmp_path / "model"))
    assert blessing.get_int_custom_property("blessed") == 1
    # The server ended with its input.
    ((endpoint, code, log),) = ended
    assert endpoint.startswith("127.0.0.1:")
    assert code == 0 and "Stopped after" in log
    stamped = tmp_path / "blessing" / "stamped_model"
    assert (stamped / "saved_model.pb").is_file()
    path = stamped / "assets.extra" / "tf_serving_warmup_requests"
    # The one that the model had, and those that were sent.
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert len(records) == 3
    assert b"kept" in records[0]


def test_a_model_that_cannot_be_loaded_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(
        infra_validator, "EmbeddedServerRunner", ServerInProcess
    )
    model = make_model(tmp_path / "model")
    graph = tmp_path / "model" / "Format-Serving" / "saved_model.pb"
    whole = graph.read_bytes()
    graph.write_bytes(whole.replace(b"StringUpper", b"StringLower_"[:11]))
    for path in (tmp_path / "model" / "Format-Serving").rglob("variables.*"):
        path.unlink()
    blessing = validate(tmp_path, model)
    assert blessing.get_int_custom_property("blessed") == 0
    reason = blessing.get_string_custom_property("reason")
    assert "said this and that" in reason and "\n" not in reason
    assert not (tmp_path / "blessing" / "stamped_model").exists()


def test_a_signature_that_takes_examples_for_texts_blesses_nothing(tmp_path):
    model = artifact(standard_artifacts.Model, tmp_path / "model")
    texts = tf.TensorSpec([None], tf.string, name="texts")
    module = Upper()
    export_endpoints(
        tmp_path / "model" / "Format-Serving",
        {
            "serving_default": (lambda x: {"y": tf.strings.upper(x)}, [texts]),
            "examples": (module.examples, [texts]),
        },
    )
    blessing = validate(tmp_path, model, signature_name="serving_default")
    assert blessing.get_int_custom_property("blessed") == 0
    assert re.search(
        r"there are \['examples'\]. Received: signature_name='serving_default'",
        blessing.get_string_custom_property("reason"),
    )


class FakeDocker:
    """What TFX's runner asks a container engine for."""

    def __init__(self, fails):
        self._fails = fails
        self.images = []

    def __call__(self, *args, **kwargs):
        return self

    @property
    def containers(self):
        return self

    def close(self):
        pass

    def run(self, **kwargs):
        self.images.append(kwargs["image"])
        raise self._fails


def test_tags_of_an_image_go_to_the_container_engine(monkeypatch, tmp_path):
    engine = FakeDocker(RuntimeError("no such image"))
    monkeypatch.setattr(
        "tfx.components.infra_validator.model_server_runners."
        "local_docker_runner._make_docker_client",
        engine,
    )
    model = make_model(tmp_path / "model")
    blessing = validate(tmp_path, model, image_tags=["2.21", "latest"])
    assert engine.images == [
        "tensorflow/serving:2.21",
        "tensorflow/serving:latest",
    ]
    assert blessing.get_int_custom_property("blessed") == 0
    reason = blessing.get_string_custom_property("reason")
    assert reason.startswith("RuntimeError: no such image")


def test_a_server_that_ends_is_noticed(tmp_path, monkeypatch):
    # TensorFlow, which the server imports before it says so, takes seconds.
    program = (sys.executable, "-c", "raise SystemExit('no such name')")
    monkeypatch.setattr(embedded_server_runner, "_SERVER", program)
    runner = embedded_server_runner.EmbeddedServerRunner(
        str(tmp_path / "m" / "1"), "m"
    )
    runner.Start()
    with pytest.raises(error_types.JobAborted, match="ended with 1"):
        runner.WaitUntilRunning(time.time() + 120)
    assert "no such name" in runner.GetLogs()
    runner.Stop()


def test_a_server_that_does_not_start_in_time_is_not_waited_for(tmp_path):
    runner = embedded_server_runner.EmbeddedServerRunner(
        str(tmp_path / "m" / "1"), "m"
    )
    runner.Start()
    # It takes seconds to import TensorFlow.
    with pytest.raises(error_types.DeadlineExceeded):
        runner.WaitUntilRunning(time.time() + 0.2)
    process = runner._process
    runner.Stop()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(RuntimeError, match="not running"):
        runner.GetEndpoint()
