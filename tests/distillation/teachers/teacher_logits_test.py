"""What a teacher says, kept on disk."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.distillation import CachedTeacher
from keras_moe.distillation import describe_teacher_logits
from keras_moe.distillation import read_teacher_logits
from keras_moe.distillation import write_teacher_logits
from keras_moe.models import SwitchTransformer
from keras_moe.weights import fingerprint
from tests.distillation.teachers.teacher_logits_case import LENGTH
from tests.distillation.teachers.teacher_logits_case import VOCABULARY
from tests.distillation.teachers.teacher_logits_case import Wide
from tests.distillation.teachers.teacher_logits_case import batches
from tests.distillation.teachers.teacher_logits_case import data
from tests.distillation.teachers.teacher_logits_case import logits_of
from tests.distillation.teachers.teacher_logits_case import make
from tests.distillation.teachers.teacher_logits_case import raw_records
from tests.distillation.teachers.teacher_logits_case import read
from tests.distillation.teachers.teacher_logits_case import write
from tests.reference.distillation import log_softmax


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
        # Half a step of half precision, of each and of their normaliser.
        precise = expected[row, real]
        size = abs(precise)
        size += np.sum(np.exp(precise) * size, axis=-1, keepdims=True)
        assert (abs(said[0, real] - precise) <= 2**-11 * size + 1e-5).all()


def test_weights_come_back_with_their_examples(tmp_path):
    inputs, labels = data()
    weights = np.array([2.0, 0.0, 0.5, 1.0, 3.0, 1.5])
    dataset = tf.data.Dataset.from_tensor_slices((inputs, labels, weights))
    directory = tmp_path / "logits"
    written = write(make(), dataset.batch(4), directory, num_shards=2)
    assert written.fields["sample_weight"] == ("float32", ())
    examples = read(directory)
    assert len(examples) == 6
    for row, (_, label, weight) in enumerate(examples):
        np.testing.assert_array_equal(label, labels[row])
        assert weight == weights[row]
    batch = next(iter(read_teacher_logits(directory).padded_batch(6)))
    assert batch[2].shape == (6,) and batch[2].dtype == "float32"


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
