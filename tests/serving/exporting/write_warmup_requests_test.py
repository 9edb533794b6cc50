"""Warm-up files: what is written, and what is refused."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keras_moe import serving
from keras_moe.serving.exporting._compiled_shapes import COMPILED_IDS
from keras_moe.serving.exporting._write_warmup_requests import warmup_record
from keras_moe.serving.exporting._write_warmup_requests import write_records
from keras_moe.serving.versions._warmup_requests import read_warmup_requests


@pytest.fixture
def model(models, tmp_path):
    return shutil.copytree(models[2], tmp_path / "model")


def test_written_as_the_stock_server_reads_it(model):
    path = serving.write_warmup_requests(
        model, [("with_threshold", {"word": ["ab"], "threshold": [1]})]
    )

    assert path == model / "assets.extra" / "tf_serving_warmup_requests"
    (record,) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    request = prediction_log_pb2.PredictionLog.FromString(
        record
    ).predict_log.request
    assert request.model_spec.signature_name == "with_threshold"
    assert list(request.inputs["word"].string_val) == [b"ab"]
    # A Python number takes the signature's dtype.
    assert request.inputs["threshold"].dtype == tf.float32.as_datatype_enum


def test_replaced_in_one_move(model, monkeypatch):
    requests = [("serving_default", {"word": ["ab"]})]
    path = serving.write_warmup_requests(model, requests)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            serving.write_warmup_requests(model, requests * 2)

    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    serving.write_warmup_requests(model, requests * 1000)
    assert len(list(read_warmup_requests(model, 1 << 20))) == 1000


def test_requests_of_compiled_shapes_are_kept(model):
    record = warmup_record(COMPILED_IDS, {"token_ids": np.ones((2, 3))})
    requests = [("serving_default", {"word": ["ab"]})]
    path = serving.write_warmup_requests(model, requests)
    write_records(path, [record] * 2)
    for _ in range(2):
        serving.write_warmup_requests(model, requests)
    stored = read_warmup_requests(model, 1 << 20)
    names = [name for name, _ in stored]
    assert names == [COMPILED_IDS, COMPILED_IDS, "serving_default"]
    with pytest.raises(ValueError, match="must hold 1 to 998 requests"):
        serving.write_warmup_requests(model, requests * 999)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "1 to 1000 requests"),
        ([("serving_default", {"word": ["a"]})] * 1001, "1001 requests"),
        ([("nothing", {"word": ["a"]})], r"`requests\[0\]` must name one"),
        ([("serving_default", {"x": ["a"]})], "Sent extra: {x}"),
        ([("serving_default", {"word": [1.0]})], "to be string"),
        ([("serving_default", {"word": [["a"]]})], "to have shape"),
    ],
)
def test_bad_requests(model, requests, message):
    with pytest.raises(ValueError, match=message):
        serving.write_warmup_requests(model, requests)

    assert not (model / "assets.extra").exists()


def test_not_a_saved_model(tmp_path):
    with pytest.raises(ValueError, match="`export_directory` must be"):
        serving.write_warmup_requests(
            tmp_path, [("serving_default", {"word": ["a"]})]
        )
