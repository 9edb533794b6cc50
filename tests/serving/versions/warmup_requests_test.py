"""Warm-up files, as the server reads them."""

import shutil

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keras_moe import serving
from keras_moe.serving.versions._warmup_requests import read_warmup_requests


@pytest.fixture
def model(models, tmp_path):
    return shutil.copytree(models[2], tmp_path / "model")


def test_read_as_written(model):
    serving.write_warmup_requests(
        model,
        [
            ("serving_default", {"word": ["ab", "c"]}),
            ("with_threshold", {"word": ["d"], "threshold": [0.5]}),
        ],
    )
    first, second = read_warmup_requests(model, 1 << 20)
    assert first[0] == "serving_default"
    assert first[1]["word"].tolist() == [b"ab", b"c"]
    assert second[0] == "with_threshold"
    assert second[1]["threshold"].tolist() == [0.5]


def test_without_a_file(model):
    assert list(read_warmup_requests(model, 1 << 20)) == []


def test_larger_than_the_server_takes(model):
    serving.write_warmup_requests(model, [("ratio", {"pair": [[1.0, 2.0]]})])
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 7 bytes"):
        list(read_warmup_requests(model, 7))


def test_other_kinds_are_left_out(model):
    """The stock server replays a Classify record; it keeps no version out."""
    path = serving.write_warmup_requests(
        model, [("serving_default", {"word": ["a"]})]
    )
    (record,) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    others = []
    for kind in ("classify_log", "regress_log", "multi_inference_log"):
        log = prediction_log_pb2.PredictionLog()
        getattr(log, kind).SetInParent()
        others.append(log.SerializeToString())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for each in (*others, record):
            writer.write(each)

    ((name, inputs),) = read_warmup_requests(model, 1 << 20)
    assert name == "serving_default"
    assert inputs["word"].tolist() == [b"a"]


@pytest.mark.parametrize(
    ("records", "error"),
    [
        ([b"\xff"], tf.errors.DataLossError),
        ([b""], tf.errors.UnimplementedError),
        (None, tf.errors.InvalidArgumentError),
    ],
)
def test_bad_files(model, records, error):
    path = serving.write_warmup_requests(
        model, [("serving_default", {"word": ["a"]})]
    )
    if records is None:
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        records *= 1001
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)

    with pytest.raises(error):
        list(read_warmup_requests(model, 1 << 20))
