"""A teacher with inputs of many kinds, and its records."""

import keras
import numpy as np
import tensorflow as tf

from keras_moe.distillation import read_teacher_logits
from keras_moe.distillation import write_teacher_logits

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
