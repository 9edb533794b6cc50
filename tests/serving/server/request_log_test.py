"""The request log: stock records, sampled, whole files, no waiting."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keras_moe import serving
from keras_moe.serving.server import _request_log as module
from keras_moe.serving.versions._warmup_requests import read_warmup_requests
from tests.serving import toy_model


def read(directory):
    paths = sorted(str(path) for path in directory.glob("requests-*.tfrecord"))
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(paths).as_numpy_iterator()
    ]


def write(log, count):
    for index in range(count):
        log.sample("toy", 1, "serving_default", {"x": np.array([index])}, {})


def numbers(logs):
    return [log.predict_log.request.inputs["x"].int64_val[0] for log in logs]


def test_what_the_server_writes(models, tmp_path):
    base = tmp_path / "toy"
    toy_model.push(models[2], base, 7)
    log = serving.RequestLog(tmp_path / "log", sampling_rate=1.0)
    with serving.Server(
        "toy", base, poll_seconds=0.05, request_log=log
    ) as server:
        server.wait_until_available()
        with serving.Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name="toy",
        ) as client:
            client.predict({"word": ["ab", "c"]})
            client.predict_rest({"word": ["d"]})
            with pytest.raises(serving.ServingError):
                client.predict({"word": [1.0]})

    by_grpc, by_rest = read(tmp_path / "log")
    assert by_grpc.log_metadata.sampling_config.sampling_rate == 1.0
    assert by_grpc.log_metadata.timestamp_secs > 1_700_000_000
    spec = by_grpc.predict_log.request.model_spec
    assert (spec.name, spec.version.value) == ("toy", 7)
    assert by_grpc.predict_log.request.inputs["word"].string_val == [
        b"ab",
        b"c",
    ]
    answer = by_grpc.predict_log.response
    assert answer.outputs["phonemes"].string_val == [b"AB", b"C"]
    assert answer.model_spec.signature_name == "serving_default"
    assert by_rest.predict_log.request.inputs["word"].string_val == [b"d"]


def test_a_log_is_a_file_of_warm_up_requests(models, tmp_path):
    log = serving.RequestLog(tmp_path, sampling_rate=1.0)
    log.start()
    word = {"word": np.array([b"ab"], object)}
    log.sample("toy", 1, "serving_default", word, {})
    log.stop()
    (path,) = tmp_path.glob("requests-*")
    target = tmp_path / "model/assets.extra/tf_serving_warmup_requests"
    target.parent.mkdir(parents=True)
    path.rename(target)

    ((name, inputs),) = read_warmup_requests(tmp_path / "model", 1 << 20)

    assert name == "serving_default"
    assert inputs["word"].tolist() == [b"ab"]


def test_sampling_rate(tmp_path):
    log = serving.RequestLog(tmp_path, sampling_rate=0.1, seed=0)
    log.start()
    write(log, 2000)
    log.stop()
    counts = log.counts()

    # Five standard deviations of the binomial distribution.
    assert abs(counts["written"] - 200) < 5 * (2000 * 0.1 * 0.9) ** 0.5
    assert counts["dropped"] == 0
    assert len(read(tmp_path)) == counts["written"]


def test_files_are_whole_and_in_order(tmp_path):
    log = serving.RequestLog(tmp_path, 1.0, max_file_bytes=200)
    log.start()
    write(log, 20)
    log.stop()

    assert len(list(tmp_path.glob("requests-*"))) > 2
    assert numbers(read(tmp_path)) == list(range(20))
    assert not list(tmp_path.glob(".*"))


def test_a_file_appears_when_it_is_old_enough(tmp_path, eventually):
    log = serving.RequestLog(tmp_path, 1.0, max_file_seconds=0.05)
    log.start()
    write(log, 1)
    eventually(lambda: len(list(tmp_path.glob("requests-*"))) == 1)
    write(log, 1)
    log.stop()
    assert numbers(read(tmp_path)) == [0, 0]


def test_requests_never_wait_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_WAITING", 5)
    log = serving.RequestLog(tmp_path, 1.0)
    write(log, 8)  # nobody writes yet
    assert log.counts() == {"written": 0, "dropped": 3}
    log.start()
    log.stop()
    assert numbers(read(tmp_path)) == list(range(5))
    assert log.counts() == {"written": 5, "dropped": 3}


def test_a_full_disk_costs_records_only(tmp_path, monkeypatch, caplog):
    log = serving.RequestLog(tmp_path, 1.0)

    def full(path):
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "atomic_file", full)
    log.start()
    write(log, 2)
    log.stop()
    assert log.counts() == {"written": 0, "dropped": 2}
    assert "No space left" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampling_rate": 0}, "`sampling_rate` must be in"),
        ({"sampling_rate": 1.5}, "sampling_rate=1.5"),
        ({"max_file_bytes": 0}, "`max_file_bytes`"),
        ({"max_file_seconds": 0}, "`max_file_seconds`"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        serving.RequestLog(pathlib.Path(tmp_path, "log"), **arguments)
    assert not (tmp_path / "log").exists()
