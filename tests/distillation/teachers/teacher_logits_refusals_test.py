"""What is not written, and what is not read."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.distillation import describe_teacher_logits
from keras_moe.distillation import read_teacher_logits
from keras_moe.distillation import write_teacher_logits
from tests.distillation.teachers.teacher_logits_case import VOCABULARY
from tests.distillation.teachers.teacher_logits_case import Wide
from tests.distillation.teachers.teacher_logits_case import batches
from tests.distillation.teachers.teacher_logits_case import data
from tests.distillation.teachers.teacher_logits_case import make
from tests.distillation.teachers.teacher_logits_case import write


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_logit_that_is_no_number_leaves_nothing_behind(value, tmp_path):
    teacher, (inputs, labels) = make(), data()
    table = teacher.get_layer("table").embeddings
    row = np.arange(VOCABULARY)[:, None] == VOCABULARY - 1
    table.assign(np.where(row, value, table))
    inputs["token_ids"][5, 0] = VOCABULARY - 1  # in the last batch
    with pytest.raises(ValueError, match="must be numbers.*Batch 2 shows"):
        write(teacher, batches(inputs, labels), tmp_path / "logits")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_leaves_nothing_behind(tmp_path):
    def interrupted():
        inputs, labels = data(2)
        yield inputs, labels
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(make(), interrupted(), tmp_path / "logits")
    assert list(tmp_path.iterdir()) == []


def test_what_lies_beside_it_is_left_alone(tmp_path):
    beside = tmp_path / "logits.partial"
    beside.mkdir()
    (beside / "mine").write_text("keep")
    write(make(), batches(*data()), tmp_path / "logits")
    assert {path.name for path in tmp_path.iterdir()} == {
        "logits",
        "logits.partial",
    }
    assert (beside / "mine").read_text() == "keep"


def test_parents_are_made_or_not(tmp_path):
    with pytest.raises(ValueError, match="`k` must be from 1"):
        write(make(), batches(*data()), tmp_path / "a/b/logits", k=99)
    assert list(tmp_path.iterdir()) == []
    write(make(), batches(*data()), tmp_path / "a/b/logits")
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["logits"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "`k` must be a positive integer"),
        ({"k": VOCABULARY + 1}, "`k` must be from 1 to the vocabulary's 11"),
        ({"num_shards": 0}, "`num_shards` must be a positive integer"),
    ],
)
def test_sizes_are_checked(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write(make(), batches(*data()), tmp_path / "logits", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_not_overwritten(tmp_path):
    directory = tmp_path / "logits"
    directory.mkdir()
    (directory / "mine").write_text("keep")
    with pytest.raises(ValueError, match="must not exist yet.*logits"):
        write(make(), batches(*data()), directory)
    assert [path.name for path in directory.iterdir()] == ["mine"]
    assert list(tmp_path.iterdir()) == [directory]


def test_there_must_be_examples(tmp_path):
    for empty in ([], batches(*data()).take(0)):
        with pytest.raises(ValueError, match="`dataset` must hold examples"):
            write(make(), empty, tmp_path / "logits")
        assert list(tmp_path.iterdir()) == []


def test_inputs_must_be_numbers(tmp_path):
    inputs, labels = data()
    inputs["text"] = np.array([b"one"] * 6)
    teacher = Wide(9)
    with pytest.raises(ValueError, match="must be numbers.*'text'"):
        write(teacher, batches(inputs, labels), tmp_path / "logits")
    assert list(tmp_path.iterdir()) == []


def test_batches_must_be_alike(tmp_path):
    ids = np.ones((2, 3), "int32")
    dataset = [
        ({"token_ids": ids, "x": np.ones((2, 3, size))}, ids) for size in (4, 5)
    ]
    with pytest.raises(ValueError, match="Each batch must hold the same"):
        write(Wide(9), dataset, tmp_path / "logits")
    assert list(tmp_path.iterdir()) == []


IDS = np.ones((2, 3), "int32")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (({"token_ids": IDS},), "must give inputs and labels, and maybe a w"),
        (
            ({"token_ids": IDS}, IDS, np.ones([2, 3])),
            r"one for each example. Received: \(2, 3\)",
        ),
        (
            ({"token_ids": IDS}, IDS, np.array([1.0, -1.0])),
            r"at least 0. Received: -1.0 at \[1\]",
        ),
        (
            ({"token_ids": IDS, "sample_weight": IDS}, IDS),
            "without 'labels' and 'sample_weight'",
        ),
        ((IDS, IDS), "must be a dictionary"),
        (({"token_ids": IDS, "labels": IDS}, IDS), "without 'labels'"),
        (({"token_ids": IDS}, IDS[:, 0]), r"Received: \(2,\)"),
        (({"token_ids": IDS}, IDS[:, :2]), "shape of the labels"),
    ],
)
def test_other_batches_are_refused(batch, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write(Wide(9), [batch], tmp_path / "logits")
    assert list(tmp_path.iterdir()) == []


def test_padding_may_be_anything(tmp_path):
    def broken(inputs, training=None):
        ids = tf.cast(inputs["token_ids"], tf.float32)[..., None]
        return tf.where(ids > 0, ids * tf.ones((1, 1, 4)), np.nan)

    teacher = Wide(4)
    teacher.call = broken
    ids = np.array([[1, 2, 0]], "int32")
    written = write(
        teacher, [({"token_ids": ids}, ids)], tmp_path / "logits", k=2
    )
    assert written.num_tokens == 2
    with pytest.raises(ValueError, match="must be numbers"):
        write(teacher, [({"token_ids": ids}, ids + 1)], tmp_path / "other")


@pytest.fixture
def directory(tmp_path):
    write(make(), batches(*data()), tmp_path / "logits", num_shards=2)
    return tmp_path / "logits"


def test_a_shard_that_was_cut_off_is_refused(directory):
    shard = sorted(directory.glob("*.tfrecord"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match="must be 2 files of.*Received: 2"):
        read_teacher_logits(directory)


def test_a_shard_that_is_missing_is_refused(directory):
    sorted(directory.glob("*.tfrecord"))[0].unlink()
    with pytest.raises(ValueError, match="must be 2 files of.*Received: 1"):
        read_teacher_logits(directory)


def test_a_shard_that_was_changed_is_not_read(directory):
    shard = sorted(directory.glob("*.tfrecord"))[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        list(read_teacher_logits(directory))


def test_there_must_be_a_manifest(directory, tmp_path):
    (manifest,) = directory.glob("*.json")
    assert json.loads(manifest.read_text())["num_examples"] == 6
    manifest.unlink()
    for path in (directory, tmp_path / "nowhere"):
        for function in (read_teacher_logits, describe_teacher_logits):
            with pytest.raises(ValueError, match=f"{manifest.name}.*{path}"):
                function(path)


def test_what_others_write_there_hides_no_error(tmp_path):
    folder = tmp_path / "new" / "logits"

    def batches_that_fail():
        (tmp_path / "new" / "others").touch()
        raise RuntimeError("the real one")
        yield

    with pytest.raises(RuntimeError, match="the real one"):
        write_teacher_logits(
            keras.Sequential([keras.Input([4]), keras.layers.Dense(3)]),
            batches_that_fail(),
            folder,
            verbose=0,
        )
