"""What a teacher says, kept on disk."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.calibration import fingerprint
from keras_moe.distillation import CachedTeacher
from keras_moe.distillation import describe_teacher_logits
from keras_moe.distillation import read_teacher_logits
from keras_moe.distillation import write_teacher_logits
from keras_moe.models import SwitchTransformer
from tests.reference.distillation import log_softmax

VOCABULARY, LENGTH = 11, 5


@keras.saving.register_keras_serializable(package="teacher_logits_test")
class Wide(keras.Model):
    """Knows the next id of a great vocabulary, without weights."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary = vocabulary

    def call(self, inputs, training=None):
        ids = inputs["token_ids"]
        return 20 * keras.ops.one_hot(ids, self.vocabulary)


def make():
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    features = keras.Input((None, 3), name="features")
    logits = keras.layers.Embedding(
        VOCABULARY,
        VOCABULARY,
        embeddings_initializer=random_table,
        name="table",
    )(ids)
    logits = logits * keras.ops.mean(features, axis=(1, 2), keepdims=True)
    return keras.Model({"token_ids": ids, "features": features}, logits)


def random_table(shape, dtype=None):
    return keras.random.normal(shape, stddev=2.0, dtype=dtype)


def data(examples=6):
    """Inputs of several dtypes and labels, padded at the end."""
    ids = np.random.randint(1, VOCABULARY - 1, (examples, LENGTH))
    labels = np.random.randint(1, VOCABULARY, (examples, LENGTH))
    labels[:, 0] = np.arange(examples) + 1  # each has a name
    for row in range(examples):
        labels[row, 1 + row % LENGTH :] = 0
    inputs = {
        "token_ids": ids.astype("int32"),
        "labelled": np.arange(examples) % 2 == 0,
        "features": np.random.random((examples, 2, 3)).astype("float32") + 1,
    }
    return inputs, labels.astype("int32")


def batches(inputs, labels, size=2):
    whole = tf.data.Dataset.from_tensor_slices((inputs, labels))
    return whole.batch(size)


def logits_of(teacher, inputs):
    """Without what is not the teacher's, which Keras might mistake."""
    own = ("token_ids", "features")
    return np.asarray(teacher({name: inputs[name] for name in own}))


def write(teacher, dataset, directory, **options):
    return write_teacher_logits(
        teacher, dataset, directory, **{"pad_id": 0, "verbose": 0, **options}
    )


def read(directory):
    """Returns the examples in the order of their names."""
    examples = list(read_teacher_logits(directory).as_numpy_iterator())
    return sorted(examples, key=lambda example: example[1][0])


def raw_records(directory):
    """Returns the features of each record, as bytes."""
    for path in sorted(directory.glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            example = tf.train.Example.FromString(record.numpy())
            yield {
                name: feature.bytes_list.value[0]
                for name, feature in example.features.feature.items()
            }


@pytest.mark.parametrize("num_shards", [1, 2, 4, 9])
def test_all_comes_back(num_shards, tmp_path):
    teacher, (inputs, labels) = make(), data()
    directory = tmp_path / "some" / "logits"
    written = write(
        teacher,
        batches(inputs, labels, 4),  # the last batch is smaller
        directory,
        k=VOCABULARY,
        num_shards=num_shards,
    )
    assert written == describe_teacher_logits(directory)
    assert len(list(directory.glob("*.tfrecord"))) == num_shards
    assert len(read_teacher_logits(directory)) == len(labels)
    expected = np.apply_along_axis(log_softmax, -1, logits_of(teacher, inputs))
    cached = CachedTeacher(VOCABULARY)
    examples = read(directory)
    assert len(examples) == len(labels)
    for row, (received, label) in enumerate(examples):
        for name, values in inputs.items():
            np.testing.assert_array_equal(received.pop(name), values[row])
        np.testing.assert_array_equal(label, labels[row])
        assert label.dtype == "int32"
        said = np.asarray(cached({n: v[None] for n, v in received.items()}))
        real = labels[row] != 0
        # Half a step of half precision.
        np.testing.assert_allclose(
            said[0, real], expected[row, real], rtol=2**-11, atol=1e-5
        )


def test_the_likeliest_come_back_batched_and_padded(tmp_path):
    teacher, (inputs, labels) = make(), data()
    write(teacher, batches(inputs, labels), tmp_path / "logits", k=3)
    dataset = read_teacher_logits(tmp_path / "logits")
    received, label = next(iter(dataset.padded_batch(6)))
    order = np.argsort(np.asarray(label)[:, 0])
    ids = np.asarray(received["teacher_token_ids"])[order]
    values = np.asarray(received["teacher_log_probabilities"])[order]
    assert (ids.dtype, values.dtype) == ("int32", "float32")
    assert ids.shape == values.shape == (6, LENGTH, 3)
    logits = logits_of(teacher, inputs)
    real = labels != 0
    np.testing.assert_array_equal(
        ids[real], np.argsort(-logits, axis=-1)[real][:, :3]
    )
    # Where there was padding, there is nothing.
    assert not ids[~real].any()
    assert not values[~real].any()


def test_padding_is_not_kept(tmp_path):
    inputs, labels = data()
    labels[0] = 0  # nothing at all
    labels[1] = [2, 0, 7, 0, 0]  # with a hole
    directory = tmp_path / "logits"
    written = write(make(), batches(inputs, labels), directory, k=3)
    used = [0, 3, 3, 4, 5, 1]
    assert written.num_tokens == sum(used)
    assert written.num_examples == 6
    for count, record in zip(used, raw_records(directory), strict=True):
        kept = np.frombuffer(record["teacher_token_ids"], "uint16")
        assert len(kept) == 3 * count
        kept = np.frombuffer(record["teacher_log_probabilities"], "float16")
        assert len(kept) == 3 * count


def test_without_a_pad_id_all_is_kept(tmp_path):
    inputs, labels = data()
    options = {"k": 3, "pad_id": None}
    written = write(
        make(), batches(inputs, labels), tmp_path / "logits", **options
    )
    assert written.num_tokens == labels.size


@pytest.mark.parametrize(
    ("vocabulary", "size"), [(65_536, 4), (65_537, 6), (70_000, 6)]
)
def test_a_position_takes_what_the_docstring_says(vocabulary, size, tmp_path):
    ids = np.array([[vocabulary - 1, 3], [40_000, vocabulary - 2]])
    labels = np.array([[1, 1], [2, 1]])
    dataset = [({"token_ids": ids}, labels)]
    for k in (1, 5):
        directory = tmp_path / str(k)
        written = write(Wide(vocabulary), dataset, directory, k=k)
        for record in raw_records(directory):
            kept = (
                record["teacher_token_ids"],
                record["teacher_log_probabilities"],
            )
            assert sum(map(len, kept)) == size * k * 2
        on_disk = sum(
            path.stat().st_size for path in directory.glob("*.tfrecord")
        )
        assert written.num_bytes == on_disk
        for row, (received, _) in enumerate(read(directory)):
            first = received["teacher_token_ids"][:, 0]
            np.testing.assert_array_equal(first, ids[row])


def test_says_what_was_written(tmp_path):
    teacher, (inputs, labels) = make(), data()
    directory = tmp_path / "logits"
    write(teacher, batches(inputs, labels), directory, k=2, num_shards=2)
    written = describe_teacher_logits(directory)
    assert (written.k, written.vocabulary_size) == (2, VOCABULARY)
    assert written.teacher == fingerprint(teacher)
    assert set(written.shards) == {
        path.name for path in directory.glob("*.tfrecord")
    }
    assert written.fields == {
        "token_ids": ("int32", (-1,)),
        "labelled": ("bool", ()),
        "features": ("float32", (-1, 3)),
        "labels": ("int32", (-1,)),
        "teacher_token_ids": ("uint16", (-1, 2)),
        "teacher_log_probabilities": ("float16", (-1, 2)),
    }
    # A teacher without weights has no fingerprint.
    written = write(Wide(9), [({"token_ids": labels}, labels)], tmp_path / "w")
    assert written.teacher is None


def test_the_transformers_own_padding(tmp_path):
    teacher = SwitchTransformer.from_preset("switch_tiny")
    ids = np.array([[5, 6, 1, 0], [7, 1, 0, 0]])
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    directory = tmp_path / "logits"
    written = write_teacher_logits(
        teacher, [(inputs, ids)], directory, k=32, verbose=0
    )
    assert written.num_tokens == 5
    logits = np.asarray(teacher(inputs))
    expected = np.apply_along_axis(log_softmax, -1, logits)
    for row, (received, label) in enumerate(read(directory)):
        real = label != 0
        said = CachedTeacher(32)({n: v[None] for n, v in received.items()})
        np.testing.assert_allclose(
            np.asarray(said)[0, real],
            expected[row, real],
            rtol=2**-11,
            atol=1e-4,
        )


def test_forbidden_tokens_stay_forbidden(tmp_path):
    teacher, (inputs, labels) = make(), data()
    table = teacher.get_layer("table").embeddings
    table.assign(np.where(np.arange(VOCABULARY) == 4, -np.inf, table))
    write(teacher, batches(inputs, labels), tmp_path / "l", k=VOCABULARY)
    received, label = read(tmp_path / "l")[4]  # without padding
    said = CachedTeacher(VOCABULARY)({n: v[None] for n, v in received.items()})
    np.testing.assert_array_equal(
        np.isneginf(said)[0], np.tile(np.arange(VOCABULARY) == 4, (LENGTH, 1))
    )


def test_a_written_dataset_may_be_written_again(tmp_path):
    # The sources with what another teacher said of them.
    teacher, (inputs, labels) = make(), data()
    write(teacher, batches(inputs, labels), tmp_path / "one", k=2)
    again = read_teacher_logits(tmp_path / "one").padded_batch(3)
    other = CachedTeacher(VOCABULARY)
    written = write(other, again, tmp_path / "two", k=2)
    assert written.num_examples == 6
    for one, two in zip(
        read(tmp_path / "one"), read(tmp_path / "two"), strict=True
    ):
        for name, values in one[0].items():
            np.testing.assert_allclose(two[0][name], values, rtol=2e-3)


# === Refusals ===


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
        (({"token_ids": IDS}, IDS, np.ones(2)), "weights of examples belong"),
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
